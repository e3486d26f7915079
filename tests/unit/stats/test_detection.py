"""The sequential detector: what it accuses, what it lets pass, and what it can never be led to."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightshift import stats
from nightshift.documents import Reference, Shift
from nightshift.records import Night
from nightshift.stats import shift

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
THRESHOLD = 0.87
RIGHT = 0.9
"""A classifier that is right nine times in ten, as its holdout of 14 nights of 200 told."""

WORTH = Reference(
    value=RIGHT,
    error=math.sqrt(RIGHT * (1 - RIGHT) / 2800),
    deviation=math.sqrt(RIGHT * (1 - RIGHT)),
    skewness=(1 - 2 * RIGHT) / math.sqrt(RIGHT * (1 - RIGHT)),
)

FINITE = st.floats(-1e60, 1e60)
SIZES = st.floats(0, 1e60)
RATES = st.floats(1e-6, 0.999)
SOME = settings(max_examples=60, deadline=None)
REFERENCES = st.builds(Reference, FINITE, SIZES, SIZES, SIZES, st.floats(-100, 100))


def night(day: int, value: float | None, labels: int = 200, error: float | None = 0.02) -> Night:
    return Night(FIRST + timedelta(days=day), labels, labels, value, error)


def nights(*values: float | None, labels: int = 200) -> list[Night]:
    return [night(day, value, labels) for day, value in enumerate(values)]


def verdict(seen: list[Night], reference: Reference | None = WORTH) -> Shift:
    return shift(seen, THRESHOLD, reference, false_alarms=0.05)


@st.composite
def any_nights(draw: st.DrawFn, values: st.SearchStrategy[float] = FINITE) -> list[Night]:
    return [
        night(day, draw(st.none() | values), draw(st.integers(0, 10**7)), draw(st.none() | SIZES))
        for day in range(draw(st.integers(0, 10)))
    ]


@SOME
@given(any_nights(), FINITE, st.none() | REFERENCES, RATES)
def test_any_finite_nights_give_finite_evidence_against_a_finite_limit(
    seen: list[Night], threshold: float, reference: Reference | None, rate: float
) -> None:
    found = shift(seen, threshold, reference, false_alarms=rate)
    assert 0 <= found.evidence <= 1e9
    assert 0 < found.limit < math.inf
    assert (found.since is None) == (found.evidence == 0)
    if found.since is not None:  # the stretch begins with a night that is below
        assert [n.value for n in seen if n.as_of == found.since and (n.value or 0) < threshold]


@SOME
@given(any_nights(st.floats(THRESHOLD, 1e60)), st.none() | REFERENCES, RATES)
def test_nights_that_reach_the_threshold_are_no_evidence(
    seen: list[Night], reference: Reference | None, rate: float
) -> None:
    found = shift(seen, THRESHOLD, reference, false_alarms=rate)
    assert (found.evidence, found.since, found.detected) == (0.0, None, False)


def test_nights_as_good_as_the_reference_are_no_evidence() -> None:
    assert verdict(nights(*[RIGHT] * 7)).evidence == 0


@SOME
@given(st.data(), any_nights(), FINITE, st.none() | REFERENCES)
def test_nights_without_a_value_are_passed_over(
    data: st.DataObject, seen: list[Night], threshold: float, reference: Reference | None
) -> None:
    undefined = [night(99, None), night(99, -1e9, labels=0)]
    told = list(seen)
    for missing in undefined:
        told.insert(data.draw(st.integers(0, len(told))), missing)
    rule = {"false_alarms": 0.05}
    assert shift(told, threshold, reference, **rule) == shift(seen, threshold, reference, **rule)


@SOME
@given(any_nights(st.floats(-10, 10)), st.integers(0, 9), st.floats(0, 10))
def test_a_worse_night_never_speaks_for_the_model(seen: list[Night], which: int, by: float) -> None:
    before = verdict(seen)
    worse = [
        replace(n, value=n.value - by) if day == which and n.value is not None else n
        for day, n in enumerate(seen)
    ]
    after = verdict(worse)
    assert after.limit == before.limit
    assert after.evidence >= before.evidence * (1 - 1e-9)


@SOME
@given(any_nights(st.floats(-10, 10)), st.integers(-12, 40))
def test_the_unit_of_the_metric_does_not_matter(seen: list[Night], power: int) -> None:
    unit = 2.0**power
    scaled = [
        replace(n, value=n.value and n.value * unit, error=n.error and n.error * unit) for n in seen
    ]
    worth = replace(
        WORTH, value=WORTH.value * unit, error=WORTH.error * unit, deviation=WORTH.deviation * unit
    )
    there = shift(scaled, THRESHOLD * unit, worth, false_alarms=0.05)
    here = verdict(seen)
    assert there.since == here.since
    assert (there.evidence, there.limit) == pytest.approx((here.evidence, here.limit))


@SOME
@given(RATES, RATES, st.none() | st.just(WORTH))
def test_who_bears_more_false_alarms_is_told_sooner(
    rate: float, other: float, reference: Reference | None
) -> None:
    patient, hasty = sorted((rate, other))
    seen = nights(0.86)
    limits = [shift(seen, THRESHOLD, reference, false_alarms=r).limit for r in (patient, hasty)]
    assert limits[0] >= limits[1]


def test_without_nights_nothing_is_detected() -> None:
    for seen in ([], nights(None, None)):
        found = verdict(seen)
        assert (found.evidence, found.since, found.detected) == (0.0, None, False)


def test_one_bad_night_is_chance_and_four_are_a_fall() -> None:
    # As docs/detection.md has it: gap 0.0243, error 0.0212, so 2 * 0.0243 * 0.02 / 0.0212^2 = 2.16
    # a night at 0.85 against a limit of 8.44.
    found = [verdict(nights(0.9, 0.9, *[0.85] * bad)) for bad in (1, 3, 4)]
    assert [one.evidence for one in found] == pytest.approx([2.16, 6.49, 8.65], abs=0.01)
    assert [one.limit for one in found] == pytest.approx([8.44] * 3, abs=0.01)
    assert [one.detected for one in found] == [False, False, True]
    assert {one.since for one in found} == {FIRST + timedelta(days=2)}


def test_bad_nights_before_good_ones_are_past() -> None:
    bad, good = [0.84] * 4, [0.92] * 4
    assert verdict(nights(*good, *bad)).detected
    assert verdict(nights(*bad, *good)).evidence == 0


def test_nights_with_more_labels_speak_louder() -> None:
    assert not verdict(nights(0.85, labels=200)).detected
    assert verdict(nights(0.85, labels=5000)).detected


def test_a_model_that_was_never_better_than_its_threshold_must_lie_below_for_longer() -> None:
    def needed(reference: Reference | None) -> int:
        return next(n for n in range(1, 50) if verdict(nights(*[0.84] * n), reference).detected)

    worse = replace(WORTH, value=THRESHOLD - 0.1)
    assert needed(WORTH) < needed(worse)
    assert needed(WORTH) < needed(None)


def test_bad_nights_that_reach_far_widen_the_limit() -> None:
    even = verdict(nights(0.85), replace(WORTH, skewness=0.0))
    assert verdict(nights(0.85)).limit > even.limit
    assert verdict(nights(0.85), replace(WORTH, skewness=2.0)).limit == even.limit


def test_nights_that_differ_by_more_than_chance_count_for_less() -> None:
    steady = verdict(nights(0.85))
    swaying = verdict(nights(0.85), replace(WORTH, spread=0.02))
    assert swaying.evidence < steady.evidence


def simulated(random: np.random.Generator, levels: np.ndarray, labels: int = 200) -> list[Night]:
    right = random.binomial(labels, levels) / labels
    return [night(day, float(value), labels) for day, value in enumerate(right)]


def test_a_planted_fall_is_found_within_a_week() -> None:
    random = np.random.default_rng(5)
    found = [verdict(simulated(random, np.full(7, 0.82))).detected for _ in range(300)]
    assert np.mean(found) >= 0.98


def test_false_alarms_of_healthy_model_years_stay_below_what_was_asked() -> None:
    random = np.random.default_rng(6)
    years, accused = 200, 0
    for _ in range(years):
        seen = simulated(random, np.full(365, RIGHT))
        suspects = [d for d, n in enumerate(seen) if n.value is not None and n.value < THRESHOLD]
        accused += any(verdict(seen[max(0, d - 6) : d + 1]).detected for d in suspects)
    assert accused <= 19  # binomial(200, 0.05) exceeds 19 once in a thousand


def rows(random: np.random.Generator, levels: list[float], labels: int) -> pd.DataFrame:
    """A binary classifier's labelled predictions: right so often in each night."""
    days = np.repeat(np.arange(len(levels)), labels)
    truth = random.integers(0, 2, len(days))
    right = random.random(len(days)) < np.array(levels)[days]
    return pd.DataFrame(
        {
            "as_of": pd.Timestamp(FIRST) + pd.to_timedelta(days, unit="D"),
            "score": np.where(right, truth, 1 - truth).astype(float),
            "label": None,
            "value": truth.astype(str),
        }
    )


def by_night(known: pd.DataFrame, metric: str = "accuracy") -> list[Night]:
    return stats.by_night(metric, "binary_classification", known)


def worth(known: pd.DataFrame, metric: str = "accuracy") -> Reference:
    found = stats.reference(metric, "binary_classification", known)
    assert found is not None
    return found


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "f1"])
def test_a_night_is_the_metric_over_its_labelled_rows(metric: str) -> None:
    known = rows(np.random.default_rng(7), [0.9, 0.8, 0.7], 100)
    known.loc[known.index[::3], "value"] = None
    told = by_night(known, metric)
    assert [n.as_of for n in told] == [FIRST + timedelta(days=day) for day in range(3)]
    for each, (_, part) in zip(told, known.groupby("as_of"), strict=True):
        labelled = stats.outcomes(part[part["value"].notna()], "binary_classification")
        assert each.value == pytest.approx(stats.value(metric, "binary_classification", labelled))
        assert (each.predictions, each.labels) == (100, len(labelled))
        assert each.error is not None
        assert each.error > 0


def test_nights_without_enough_truth_have_no_value_and_still_count_predictions() -> None:
    known = rows(np.random.default_rng(8), [0.9] * 4, 50)
    day = known["as_of"].rank(method="dense")
    known.loc[day == 1, "value"] = None  # nothing known
    known.loc[(day == 2) & (known.index != 50), "value"] = None  # one label
    known.loc[day == 3, "value"] = "1"  # one class: roc_auc is undefined
    told = by_night(known, "roc_auc")
    assert [(n.predictions, n.labels) for n in told] == [(50, 0), (50, 1), (50, 50), (50, 50)]
    assert [n.value is None for n in told] == [True, True, True, False]


def test_the_order_of_rows_changes_neither_nights_nor_the_verdict() -> None:
    known = rows(np.random.default_rng(9), [0.9, 0.84, 0.84, 0.84], 200)
    shuffled = known.sample(frac=1, random_state=1)
    here, there = verdict(by_night(known)), verdict(by_night(shuffled))
    assert here.evidence > 0
    assert there.evidence == pytest.approx(here.evidence)
    assert there.since == here.since


def test_a_reference_is_the_metric_with_its_errors_by_row_and_by_night() -> None:
    found = worth(rows(np.random.default_rng(10), [RIGHT] * 14, 200))
    assert found.value == pytest.approx(RIGHT, abs=0.015)
    assert found.deviation == pytest.approx(WORTH.deviation, rel=0.1)
    assert found.skewness == pytest.approx(WORTH.skewness, rel=0.15)
    assert found.error == pytest.approx(found.deviation / math.sqrt(2800), rel=0.5)


def test_only_nights_that_differ_beyond_chance_have_a_spread() -> None:
    random = np.random.default_rng(11)
    alike = [worth(rows(random, [RIGHT] * 14, 50)).spread for _ in range(20)]
    assert sum(spread > 0 for spread in alike) <= 4  # binomial(20, 0.05): more in 3 of a thousand
    swaying = worth(rows(random, [0.95, 0.8] * 7, 300))
    assert swaying.spread == pytest.approx(0.075, rel=0.3)


def test_a_reference_of_rows_without_one_class_is_undefined() -> None:
    known = rows(np.random.default_rng(12), [RIGHT] * 7, 50).assign(value="1")
    assert stats.reference("roc_auc", "binary_classification", known) is None


def test_a_fall_is_found_from_rows_against_the_reference_of_its_holdout() -> None:
    random = np.random.default_rng(13)
    holdout = worth(rows(random, [RIGHT] * 14, 200))
    threshold = holdout.value - 0.03
    healthy = by_night(rows(random, [RIGHT] * 7, 200))
    fallen = by_night(rows(random, [RIGHT] * 3 + [0.8] * 4, 200))
    assert not shift(healthy, threshold, holdout, false_alarms=0.05).detected
    found = shift(fallen, threshold, holdout, false_alarms=0.05)
    assert found.detected
    assert found.since == FIRST + timedelta(days=3)
