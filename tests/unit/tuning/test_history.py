"""Rows and what was known of their truths on each day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from tests.unit.tuning.test_configurations import family

from nightshift.errors import TrainingError
from nightshift.tuning.history import History, labelled

FIRST = datetime(2026, 1, 1, 2, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NIGHTS = [FIRST + number * DAY for number in range(3)]


def history(*labels: tuple[str, float, datetime]) -> History:
    """Two rows a night, a0 b0 a1 b1 a2 b2; labels are entity, value, and when it was stated."""
    unit = np.repeat(np.arange(3), 2)
    names = [f"{letter}{night}" for night in range(3) for letter in "ab"]
    table = pa.table(
        {
            "entity_id": names,
            "as_of": pa.array([NIGHTS[u] for u in unit], pa.timestamp("us", "UTC")),
            "place": np.arange(6),
        }
    )
    told: dict[str, Any] = {
        "entity_id": [entity for entity, _, _ in labels],
        "answers": [None] * len(labels),
        "value": [str(value) for _, value, _ in labels],
        "stated_at": pd.to_datetime([stated for _, _, stated in labels], utc=True),
    }
    frame = pd.DataFrame(told | {"known_at": told["stated_at"]})
    return labelled(family(), table, NIGHTS, unit, frame)


def test_a_truth_is_known_from_its_moment_on() -> None:
    past = history(("a0", 5.0, FIRST + HOUR), ("b1", 7.0, FIRST + 2 * DAY))
    everything = np.arange(6)
    assert np.isnan(past.truths(everything, FIRST)).all()
    assert past.truths(everything, FIRST + HOUR)[0] == 5.0
    assert np.isnan(past.truths(everything, FIRST + DAY)[3])
    assert past.truths(everything, FIRST + 3 * DAY)[3] == 7.0


def test_nights_whose_labels_are_half_there_are_neither_learnt_from_nor_compared_on() -> None:
    past = history(
        ("a0", 5.0, FIRST + HOUR), ("b0", 7.0, FIRST + 2 * HOUR), ("a1", 7.0, FIRST + DAY + HOUR)
    )
    everything = np.arange(6)
    assert len(past.rows(everything, FIRST + HOUR)) == 0
    assert past.rows(everything, FIRST + 9 * DAY).table["entity_id"].to_pylist() == ["a0", "b0"]


def test_a_correction_counts_from_the_day_that_it_was_known() -> None:
    past = history(("a0", 5.0, FIRST + HOUR), ("a0", 6.0, FIRST + 2 * DAY))
    assert past.truths(np.array([0]), FIRST + DAY)[0] == 5.0
    assert past.truths(np.array([0]), FIRST + 2 * DAY)[0] == 6.0
    assert past.truth[0] == 6.0
    assert past.settled[0] == np.datetime64("2026-01-03T02:00")


def test_what_was_known_by_the_night_itself_is_no_truth_to_predict() -> None:
    past = history(("a0", 5.0, FIRST + HOUR), ("a1", 5.0, FIRST))
    assert np.isnan(past.truths(np.arange(6), FIRST + 9 * DAY)[2])


def test_rows_are_found_by_night() -> None:
    past = history(("a0", 5.0, FIRST + HOUR))
    assert past.between(FIRST, FIRST + DAY).tolist() == [2, 3]
    assert past.between(FIRST - HOUR, FIRST + DAY, np.array([1, 3, 5])).tolist() == [1, 3]
    assert past.between(FIRST + 9 * DAY, FIRST + 10 * DAY).tolist() == []


def test_labels_that_answer_nobody_are_told() -> None:
    with pytest.raises(TrainingError, match="none of the 1 labels"):
        history(("A0", 5.0, FIRST + HOUR))
