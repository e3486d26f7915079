"""Labels that dwindle for a part are told; those that are few by chance or by nature are not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightshift.monitoring.coverage import Dwindled, Matured, dwindled

DAY = timedelta(days=1)
FIRST = datetime(2026, 1, 5, 6, tzinfo=UTC)  # a Monday


def nights(
    shares: Sequence[float], predictions: int = 100, every: timedelta = DAY
) -> list[Matured]:
    return [
        Matured(FIRST + number * every, predictions, round(share * predictions))
        for number, share in enumerate(shares)
    ]


# Shares of labels by monitoring, oldest first, and the share without which nothing is judged.
TOLD: list[tuple[str, list[float], float | None]] = [
    ("nothing comes any more", [0.95] * 10 + [0.0, 0.0], None),
    ("nothing since the last night but one", [0.95] * 10 + [0.0, 0.1], None),
    ("less than half", [0.9] * 10 + [0.4, 0.4], None),
    ("half, which cannot be judged", [0.95] * 10 + [0.5, 0.5], 0.8),
    ("few anyway, and less than half of them", [0.2] * 10 + [0.05, 0.05], None),
    ("for a week already", [0.95] * 10 + [0.1] * 7, None),
    ("for three weeks already", [0.95] * 28 + [0.1] * 20, None),
    ("a second time", [0.95] * 8 + [0.0] * 3 + [0.95] * 8 + [0.0, 0.0], None),
]
NOT_TOLD: list[tuple[str, list[float], float | None]] = [
    ("as ever", [0.95] * 12, 0.9),
    ("one night is late", [0.95] * 10 + [0.95, 0.05], None),
    ("more than half, and judged by nobody", [0.95] * 10 + [0.6, 0.6], None),
    ("less than is wanted, as ever", [0.7] * 12, 0.8),
    ("never any", [0.0] * 12, 0.9),
    ("nothing is usual yet", [0.95] * 5 + [0.0], None),
    ("not at weekends", ([0.95] * 5 + [0.0] * 2) * 4, None),
    ("every third night", [0.9, 0.0, 0.0] * 9, None),
    ("the feed is back", [0.95] * 10 + [0.0, 0.0, 0.95, 0.95], None),
]


@pytest.mark.parametrize(("shares", "wanted"), [c[1:] for c in TOLD], ids=[c[0] for c in TOLD])
def test_labels_that_dwindle_are_told(shares: list[float], wanted: float | None) -> None:
    assert dwindled(nights(shares), wanted) is not None


@pytest.mark.parametrize(
    ("shares", "wanted"), [c[1:] for c in NOT_TOLD], ids=[c[0] for c in NOT_TOLD]
)
def test_labels_that_come_as_usual_are_not(shares: list[float], wanted: float | None) -> None:
    assert dwindled(nights(shares), wanted) is None


def test_what_is_told_are_the_counts_of_two_days_and_what_is_usual() -> None:
    fewer = dwindled(nights([0.9] * 5 + [0.95] * 5 + [0.3, 0.1]))
    assert fewer == Dwindled(200, 40, 0.95)
    assert str(fewer) == "40 of 200 have a label (20%), usually 95%"


@pytest.mark.parametrize(
    ("predictions", "told"), [(2, False), (4, False), (5, True), (1_000, True)]
)
def test_ten_labels_must_be_missing(predictions: int, told: bool) -> None:
    """Of two nights of five predictions all ten are."""
    assert (dwindled(nights([1.0] * 10 + [0.0] * 2, predictions)) is not None) == told


def test_hours_are_judged_by_two_days_of_them() -> None:
    def told(hours: int) -> bool:
        shares = [0.95] * 24 * 10 + [0.0] * hours
        return dwindled(nights(shares, 50, timedelta(hours=1))) is not None

    assert [told(hours) for hours in (3, 12, 24, 26, 48)] == [False, False, False, True, True]


def test_what_is_monitored_once_a_week_has_nothing_usual_in_four_weeks() -> None:
    assert dwindled(nights([0.9] * 8 + [0.0], every=7 * DAY)) is None


def test_a_night_without_predictions_says_nothing() -> None:
    calm = nights([0.95] * 10)
    empty = [Matured(FIRST + (10 + day) * DAY, 0, 0) for day in range(2)]
    assert dwindled([*calm, *empty]) is None
    assert dwindled([]) is None


def test_of_thousands_of_parts_none_alarms_by_chance() -> None:
    random = np.random.default_rng(3)
    alarms = 0
    for _ in range(2_000):
        predictions = int(random.integers(2, 40))
        share = random.uniform(0.1, 1.0)
        series = [
            Matured(FIRST + day * DAY, predictions, int(random.binomial(predictions, share)))
            for day in range(35)
        ]
        alarms += sum(dwindled(series[: day + 1]) is not None for day in range(30, 35))
    assert alarms == 0


COUNTS = st.tuples(st.integers(0, 500), st.floats(0, 1), st.integers(1, 300))
"""Predictions, the share that has a label, and hours since the monitoring before."""


@settings(max_examples=500, derandomize=True, deadline=None)
@given(counts=st.lists(COUNTS, max_size=60), required=st.none() | st.floats(0, 1))
def test_whatever_comes_what_is_told_is_less_than_is_usual(
    counts: list[tuple[int, float, int]], required: float | None
) -> None:
    as_of, series = FIRST, []
    for predictions, share, hours in counts:
        as_of += timedelta(hours=hours)
        series.append(Matured(as_of, predictions, round(share * predictions)))
    fewer = dwindled(series, required)
    if fewer is not None:
        assert 0 <= fewer.share < fewer.usual <= 1
        assert fewer.usual * fewer.predictions - fewer.labels >= 10
        assert dwindled(series, None) is None or dwindled(series, None) == fewer
