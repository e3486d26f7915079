"""Moments, counts, lists and near matches are worded in one place, and there in one way."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from nightshift import wording

PACKAGE = Path(wording.__file__).parent


@pytest.mark.parametrize(
    ("value", "seconds", "words"),
    [
        (datetime(2026, 10, 29, 2, 0, tzinfo=UTC), False, "2026-10-29 02:00Z"),
        (datetime(2026, 10, 29, 2, 0, 59, 999_999, tzinfo=UTC), False, "2026-10-29 02:00Z"),
        (datetime(2026, 10, 29, 2, 0, 7, tzinfo=UTC), True, "2026-10-29 02:00:07Z"),
        (
            datetime(2026, 10, 29, 1, 30, tzinfo=timezone(timedelta(hours=2))),
            False,
            "2026-10-28 23:30Z",
        ),
    ],
)
def test_a_moment_is_told_in_utc(value: datetime, seconds: bool, words: str) -> None:
    assert wording.moment(value, seconds=seconds) == words
    assert wording.day(value) == words[:10]


@pytest.mark.parametrize(
    ("number", "noun", "plural", "words"),
    [
        (1, "night", None, "1 night"),
        (0, "row", None, "0 rows"),
        (12_345, "row", None, "12,345 rows"),
        (2, "family", "families", "2 families"),
        (2.5, "day", None, "2.5 days"),
        (1.0, "day", None, "1 day"),
    ],
)
def test_a_count_agrees_with_its_noun(
    number: float, noun: str, plural: str | None, words: str
) -> None:
    assert wording.count(number, noun, plural) == words


@pytest.mark.parametrize(
    ("names", "most", "words"),
    [
        ([], None, "none"),
        (["a"], None, "a"),
        (["a", "b"], None, "a and b"),
        (["a", "b", "c"], 3, "a, b and c"),
        (["a", "b", "c", "d"], 3, "a, b, c and 1 more"),
        (range(2000), 2, "0, 1 and 1,998 more"),
    ],
)
def test_a_list_reads_as_a_sentence_does(names: list[object], most: int | None, words: str) -> None:
    assert wording.listed(names, most) == words


def test_a_near_match_is_offered_and_a_far_one_is_not() -> None:
    assert wording.nearest("perfromance", ["performance", "watch"]) == (
        " (did you mean 'performance'?)"
    )
    assert wording.nearest("air_tim", ["air_time", "air_times", "sea"], most=3) == (
        " (did you mean 'air_time' or 'air_times'?)"
    )
    assert wording.nearest("zebra", ["performance", "watch"]) == ""


def test_nobody_else_words_moments_or_near_matches() -> None:
    """A second way of saying it is a second copy of a rule."""
    own = re.compile(r":%Y-%m-%d|get_close_matches")
    elsewhere = [
        str(file.relative_to(PACKAGE))
        for file in PACKAGE.rglob("*.py")
        if file != PACKAGE / "wording.py" and own.search(file.read_text())
    ]
    assert elsewhere == []
