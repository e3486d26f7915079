"""Features that are text or ids have no distribution: only their nulls can change."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from nightshift import tables
from nightshift.family import Features

DECLARED = Features(numeric=["size"], categorical=["kind", "word"])


def rows(first: int, words: Any, count: int = 400) -> pa.Table:
    numbers = range(first, first + count)
    return pa.table(
        {
            "size": [float(n % 7) for n in numbers],
            "kind": [f"k{n % 3}" for n in numbers],
            "word": [words(n) for n in numbers],
        }
    )


@pytest.mark.parametrize(
    "words",
    [
        lambda n: f"customer-{n}",
        lambda n: f"free text {n % 399} of somebody",
        lambda n: None if n % 5 == 0 else str(n),
    ],
)
def test_new_values_of_an_id_or_a_text_are_neither_unseen_nor_drift(words: Any) -> None:
    seen = tables.profile(rows(0, words), DECLARED)
    later = rows(10_000, words)
    assert seen["identifiers"] == ["word"]
    assert "word" not in seen["categories"]
    told = {(signal, name): value for signal, name, value in tables.differences(later, seen)}
    assert {name for signal, name in told if signal in ("unseen", "drift")} == {"size", "kind"}
    assert told["missing", "word"] == 0
    assert not tables.flags(later, seen).any()


def test_nulls_of_an_id_are_watched() -> None:
    seen = tables.profile(rows(0, str), DECLARED)
    gone = tables.differences(rows(0, lambda n: None), seen)
    assert ("missing", "word", 1.0) in list(gone)


def test_many_categories_that_repeat_are_categories() -> None:
    seen = tables.profile(rows(0, lambda n: f"shop {n % 80}"), DECLARED)
    assert "identifiers" not in seen
    assert len(seen["categories"]["word"]) == 80
