"""Figures are read in the direction people think in, and no sentence contradicts one."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift import wording
from nightshift.records import Measurement
from nightshift.wording import Gauge, figure, figures, share

PACKAGE = Path(wording.__file__).parent
METRICS = st.sampled_from(["neg_mean_absolute_error", "roc_auc", "r2", "neg_log_loss"])
WORDS = st.sampled_from([None, "minutes of error"])
NUMBER = st.floats(-1e7, 1e7, allow_nan=False).filter(lambda x: x == 0 or abs(x) > 1e-5)
NEAR = st.builds(lambda x, step: x + step * 1e-4, NUMBER, st.integers(-3, 3))
"""Numbers that differ by a hair as often as by much: there rounding could lie."""

NOW = datetime(2026, 11, 3, 6, tzinfo=UTC)
ERROR = Gauge("neg_mean_absolute_error", "minutes of error")
SCORE = Gauge("roc_auc")


def read(text: str) -> float:
    return float(text.replace(",", ""))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (9.412, "9.41"),
        (9.4, "9.4"),
        (8.0, "8"),
        (0.60549, "0.605"),
        (12_345.6, "12,346"),
        (-0.5, "-0.5"),
        (0.0, "0"),
        (-0.0, "0"),
        (0.000123, "0.000123"),
        (1_234_567, "1,234,567"),
    ],
)
def test_a_figure_has_three_digits_and_no_exponent(value: float, text: str) -> None:
    assert figure(value) == text


@given(NUMBER)
def test_a_figure_is_off_by_half_a_percent_at_most(value: float) -> None:
    assert abs(read(figure(value)) - value) <= abs(value) * 0.005


@given(st.lists(NEAR, max_size=3), NUMBER)
def test_figures_lie_on_the_side_of_the_limit_on_which_they_read(
    values: list[float], limit: float
) -> None:
    *texts, last = figures(values, limit)
    for value, text in zip(values, texts, strict=True):
        assert (read(text) > read(last), read(text) < read(last)) == (value > limit, value < limit)


@given(st.floats(0, 1))
def test_a_share_is_nothing_or_all_only_where_it_is(value: float) -> None:
    assert (share(value) == "0%") == (value == 0)
    assert (share(value) == "100%") == (value == 1)


def test_an_error_is_told_above_zero_and_has_a_limit() -> None:
    assert str(ERROR.reading(-9.412, -8.0)) == "9.41 minutes of error, limit 8"
    assert str(ERROR.reading(-8.001, -8.0)) == "8.001 minutes of error, limit 8"
    assert ERROR.span(-9.9, -8.9) == "8.9 to 9.9"
    assert ERROR.change(1.35, -9.0) == "15% better"
    assert ERROR.instead(-7.635, -8.843) == "7.63 instead of 8.84 minutes of error"
    assert str(Gauge("neg_log_loss").reading(-0.31)) == "log loss 0.31"


def test_a_score_has_a_minimum_and_its_gain_is_a_difference() -> None:
    assert str(SCORE.reading(0.6049, 0.62)) == "ROC AUC 0.605, minimum 0.62"
    assert SCORE.span(0.58, 0.63) == "0.58 to 0.63"
    assert SCORE.change(-0.0321, 0.6) == "0.0321 worse"
    assert SCORE.instead(0.637, 0.605) == "ROC AUC 0.637 instead of 0.605"


@given(METRICS, WORDS, NUMBER, NEAR)
def test_what_is_better_reads_as_better(
    metric: str, say_as: str | None, before: float, after: float
) -> None:
    gauge = Gauge(metric, say_as)
    change = gauge.change(after - before, before)
    wanted = "better" if after > before else "worse" if after < before else "no better"
    assert change.endswith(wanted)
    now, then = re.findall(
        r"-?[\d,.]+(?:e[-+]\d+)?", gauge.instead(after, before).replace("R2", "")
    )
    assert (read(now) < read(then)) == ((after > before) if gauge.is_error else (after < before))


@given(METRICS, WORDS, st.tuples(NEAR, NEAR, NEAR), NUMBER)
def test_the_words_of_a_measurement_agree_with_its_figures(
    metric: str, say_as: str | None, bounds: tuple[float, float, float], threshold: float
) -> None:
    low, value, high = sorted(bounds)
    told = replace(measured(metric), low=low, value=value, high=high, threshold=threshold)
    if breached := high < threshold:
        told = replace(told, state="breached")
    gauge = Gauge(metric, say_as)
    sentence = told.sentence(say_as)
    reading, _, details = sentence.partition(": ")
    word, shown = gauge.limit_word, gauge.reading(value, threshold, low, high).figure
    limit = reading.rpartition(f"{word} ")[2]
    assert shown in reading
    sure, side = details.startswith("surely"), details.split("(")[0]
    assert ("above" in side) == (read(shown) > read(limit))
    assert ("below" in side) == (read(shown) < read(limit))
    assert sure == breached
    first, last = map(read, details.split("(")[1].split(" on the nights")[0].split(" to "))
    assert first <= read(shown) <= last
    if sure:
        assert read(limit) < first if gauge.is_error else last < read(limit)


def measured(metric: str) -> Measurement:
    window = NOW - timedelta(days=9), NOW - timedelta(days=2)
    return Measurement(1, metric, NOW, *window, "measured", -9.0, -9.5, -8.5, 1000, 900, -8.0)


def test_what_cannot_be_judged_says_so_first() -> None:
    few = replace(measured("roc_auc"), state="immature", value=None, low=None, high=None)
    assert few.sentence("points") == (
        "cannot be judged yet: 900 of 1,000 labels known, 90%; the nights 2026-10-25 to 2026-11-01"
    )


def test_no_room_that_tells_people_of_metrics_words_figures_itself() -> None:
    """Three digits here and four there, and two figures of one thing differ."""
    own = re.compile(r":\+?\.\d(g|%)\}")
    elsewhere = [
        str(file.relative_to(PACKAGE))
        for room in ("reports", "policy", "promotion", "web")
        for file in (PACKAGE / room).rglob("*.py")
        if own.search(file.read_text())
    ]
    assert elsewhere == []
