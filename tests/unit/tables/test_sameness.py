"""Two scorings of one night, held against each other bit by bit."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from nightshift.tables import Sameness, sameness

ROW = {"model_id": 1, "version_id": 1, "score": 0.5, "label": "1", "flags": 0}


def rows(**changes: dict[str, Any] | None) -> pa.Table:
    """The entities c, a and b, in this order; changes by entity. None takes one away."""
    entities = {"c": {}, "a": {}, "b": {}, **changes}
    there = [{"entity_id": name, **ROW, **of} for name, of in entities.items() if of is not None]
    return pa.Table.from_pylist(there)


@pytest.mark.parametrize(
    ("again", "told"),
    [
        (rows(), Sameness(3, 0, 0.0, 0, 0, 0, 0)),
        (rows(a={"score": 0.5 + 2**-53}), Sameness(3, 1, 2**-53, 0, 0, 0, 0)),
        (rows(a={"score": 0.25}, b={"score": 0.4}), Sameness(3, 2, 0.25, 0, 0, 0, 0)),
        (rows(a={"label": "0"}), Sameness(3, 0, 0.0, 1, 0, 0, 0)),
        (rows(b={"flags": 2}, c={"version_id": 7}), Sameness(3, 0, 0.0, 0, 2, 0, 0)),
        (rows(b=None), Sameness(3, 0, 0.0, 0, 0, 1, 0)),
        (rows(d={}), Sameness(3, 0, 0.0, 0, 0, 0, 1)),
        (rows().slice(0, 0), Sameness(3, 0, 0.0, 0, 0, 3, 0)),
    ],
)
def test_each_difference_is_counted_where_it_belongs(again: pa.Table, told: Sameness) -> None:
    assert sameness(rows(), again) == told
    assert told.whole == (again.num_rows == 3 and again.equals(rows()))


def test_zero_and_minus_zero_are_not_the_same_bits() -> None:
    held = sameness(rows(a={"score": 0.0}), rows(a={"score": -0.0}))
    assert (held.moved, held.largest, held.whole) == (1, 0.0, False)


def test_nothing_is_the_same_as_nothing() -> None:
    assert sameness(rows().slice(0, 0), rows().slice(0, 0)).whole


def test_missing_labels_are_the_same() -> None:
    without = pa.Table.from_pylist(
        [{"entity_id": "a", **ROW, "label": None}],
        schema=rows().schema,
    )
    assert sameness(without, without).whole
