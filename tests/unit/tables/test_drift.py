"""Drift is an effect size: it tells how different, not how many rows were looked at."""

from __future__ import annotations

from collections.abc import Callable

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


def numbers(size: int, seed: int, kind: str) -> np.ndarray:
    """Numbers of which most are equal, as a year of rows has them."""
    random = np.random.default_rng(seed)
    kinds: dict[str, Callable[[], np.ndarray]] = {
        "a flag": lambda: random.random(size) < 0.05,
        "a rare flag": lambda: random.random(size) < 0.002,
        "a constant": lambda: np.full(size, 3.0),
        "a count": lambda: random.poisson(0.1, size),
        "mostly zero": lambda: np.where(random.random(size) < 0.9, 0, random.gamma(2, 30, size)),
        "two prices": lambda: np.where(random.random(size) < 0.9, 9.99, 19.99),
    }
    return kinds[kind]().astype(np.float64)


CHANGED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "a flag": np.ones_like,
    "a rare flag": np.ones_like,
    "a constant": lambda seen: seen + 1,
    "a count": lambda seen: seen + 1,
    "mostly zero": lambda seen: np.where(seen == 0, 40.0, seen),
    "two prices": lambda seen: np.full_like(seen, 14.99),
}


@pytest.mark.parametrize(
    ("kind", "boolean"),
    [*((kind, False) for kind in CHANGED), ("a flag", True), ("a rare flag", True)],
)
def test_a_change_where_most_values_are_equal_is_near_one(kind: str, boolean: bool) -> None:
    declared = Features(numeric=["size"], categorical=[])

    def table(values: np.ndarray) -> pa.Table:
        return pa.table({"size": values.astype(bool) if boolean else values})

    seen = tables.profile(table(numbers(TRAINED, 1, kind)), declared)
    later = numbers(600, 2, kind)
    told = signals(table(CHANGED[kind](later)), seen)
    assert told["drift", "size"] > 0.85
    assert signals(table(later), seen)["drift", "size"] < WARN


@pytest.mark.parametrize("kind", CHANGED)
def test_numbers_of_which_most_are_equal_raise_no_more_alarms_than_others(kind: str) -> None:
    seen = tables.histogram(numbers(TRAINED, 1, kind))
    drifts = [tables.histogram_distance(numbers(500, n, kind), seen) for n in range(100, 300)]
    assert np.mean([drift >= WARN for drift in drifts]) <= 0.01


def test_five_rows_of_training_make_no_value_frequent() -> None:
    assert "frequent" not in tables.histogram(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))


def test_a_profile_of_an_older_version_still_reads() -> None:
    before: dict[str, list[float]] = {"edges": [0.0], "counts": [0, 5_000]}
    assert tables.histogram_distance(np.zeros(500), before) == 0
    assert tables.histogram_distance(np.full(500, -1.0), before) > 0.9
