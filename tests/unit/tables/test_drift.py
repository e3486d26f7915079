"""Drift is an effect size: it tells how different, not how many rows were looked at."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from nightshift import tables
from nightshift.family import Features, Watch

DECLARED = Features(numeric=["size", "lumpy"], categorical=["kind", "place"])
TRAINED = 5_000
WARN = Watch().drift.warn  # type: ignore[union-attr]


def sample(rows: int, seed: int, *, moved: float = 0.0) -> pa.Table:
    """Rows of one distribution; ``moved`` shifts a number by so many standard deviations."""
    random = np.random.default_rng(seed)
    places = 1 / np.arange(1, 121)
    return pa.table(
        {
            "size": random.normal(moved, 1, rows),
            "lumpy": random.poisson(1.5, rows).astype(float),
            "kind": random.choice(["a", "b", "c"], rows, p=[0.7, 0.2, 0.1]),
            "place": random.choice([f"p{i}" for i in range(120)], rows, p=places / places.sum()),
        }
    )


def signals(table: pa.Table, seen: dict[str, object]) -> dict[tuple[str, str], float]:
    return {(signal, name): value for signal, name, value in tables.differences(table, seen)}


@pytest.fixture(scope="module")
def seen() -> dict[str, object]:
    return tables.profile(sample(TRAINED, 1), DECLARED)


def test_alarms_on_one_distribution_do_not_rise_with_the_rows(seen: dict[str, object]) -> None:
    alarms = {}
    for rows, nights in ((1_000, 200), (10_000, 50), (1_000_000, 3)):
        drifts = [
            value
            for night in range(nights)
            for (signal, _), value in signals(sample(rows, 100 + night), seen).items()
            if signal == "drift"
        ]
        alarms[rows] = np.mean([value >= WARN for value in drifts])
    assert alarms[1_000] <= 0.01
    assert alarms[10_000] == alarms[1_000_000] == 0


@pytest.mark.parametrize("rows", [1_000, 1_000_000])
def test_a_change_is_told_by_its_size_whatever_the_rows(rows: int, seen: dict[str, object]) -> None:
    told = signals(sample(rows, 7, moved=1.0), seen)
    assert told["drift", "size"] == pytest.approx(0.35, abs=0.05)
    assert told["drift", "lumpy"] < WARN


def test_two_samples_with_nothing_in_common_are_as_far_apart_as_can_be() -> None:
    assert tables.distance({"a": 10_000}, {"b": 10_000}) == pytest.approx(1, abs=0.001)
    assert tables.distance({"a": 10_000}, {"a": 10}) == 0
    assert tables.distance({"a": 10_000}, {}) == 0


def test_missing_unseen_and_out_of_range_are_shares_of_rows(seen: dict[str, object]) -> None:
    table = sample(1_000, 9)
    size = table["size"].to_pylist()
    kind = table["kind"].to_pylist()
    size[:100] = [99.0] * 100
    size[100:150] = [None] * 50
    kind[:30] = ["d"] * 30
    changed = table.set_column(0, "size", pa.array(size)).set_column(2, "kind", pa.array(kind))
    told = signals(changed, seen)
    assert told["out_of_range", "size"] == pytest.approx(0.1, abs=0.001)
    assert told["missing", "size"] == pytest.approx(0.05)
    assert told["unseen", "kind"] == pytest.approx(0.03)
    assert told["missing", "lumpy"] == told["unseen", "place"] == 0


def test_a_night_of_no_rows_and_a_column_of_nulls_are_no_error(seen: dict[str, object]) -> None:
    nothing = sample(10, 1).slice(0, 0)
    assert max(signals(nothing, seen).values()) == 0
    empty = sample(10, 1).set_column(0, "size", pa.nulls(10, pa.float64()))
    assert signals(empty, seen)["missing", "size"] == 1
    assert tables.profile(empty, DECLARED)["distributions"]["size"] == {
        "edges": [],
        "counts": [0],
    }
