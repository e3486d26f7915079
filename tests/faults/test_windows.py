"""A metric over a window is scikit-learn's over its rows, or a state with a reason; never a NaN."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable
from dataclasses import asdict
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightshift import stats
from nightshift.stats import Estimate, Task, Undefined, intervals

SOAK = bool(os.environ.get("SOAK"))
MANY = settings(
    max_examples=10_000 if SOAK else 500,
    derandomize=not SOAK,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
FIRST = pd.Timestamp("2026-10-20T02:00Z")

Theirs = Callable[[Any, Any, Any], float]
"""scikit-learn's own function of truths, scores and labels."""

REGRESSION: dict[str, Theirs] = {
    "neg_mean_absolute_error": lambda t, s, _: -sk.mean_absolute_error(t, s),
    "neg_mean_squared_error": lambda t, s, _: -sk.mean_squared_error(t, s),
    "neg_root_mean_squared_error": lambda t, s, _: -sk.root_mean_squared_error(t, s),
    "neg_median_absolute_error": lambda t, s, _: -sk.median_absolute_error(t, s),
    "neg_mean_absolute_percentage_error": lambda t, s, _: -sk.mean_absolute_percentage_error(t, s),
    "neg_mean_squared_log_error": lambda t, s, _: -sk.mean_squared_log_error(t, s),
    "neg_root_mean_squared_log_error": lambda t, s, _: -sk.root_mean_squared_log_error(t, s),
    "neg_mean_gamma_deviance": lambda t, s, _: -sk.mean_gamma_deviance(t, s),
    "neg_mean_poisson_deviance": lambda t, s, _: -sk.mean_poisson_deviance(t, s),
    "r2": lambda t, s, _: sk.r2_score(t, s),
    "explained_variance": lambda t, s, _: sk.explained_variance_score(t, s),
    "d2_absolute_error_score": lambda t, s, _: sk.d2_absolute_error_score(t, s),
    "neg_max_error": lambda t, s, _: -sk.max_error(t, s),
}
BINARY: dict[str, Theirs] = {
    "accuracy": lambda t, _, p: sk.accuracy_score(t, p),
    "recall": lambda t, _, p: sk.recall_score(t, p),
    "precision": lambda t, _, p: sk.precision_score(t, p),
    "f1": lambda t, _, p: sk.f1_score(t, p),
    "jaccard": lambda t, _, p: sk.jaccard_score(t, p),
    "f1_macro": lambda t, _, p: sk.f1_score(t, p, average="macro"),
    "balanced_accuracy": lambda t, _, p: sk.balanced_accuracy_score(t, p),
    "matthews_corrcoef": lambda t, _, p: sk.matthews_corrcoef(t, p),
    "roc_auc": lambda t, s, _: sk.roc_auc_score(t, s),
    "average_precision": lambda t, s, _: sk.average_precision_score(t, s),
    "neg_log_loss": lambda t, s, _: -sk.log_loss(t, s, labels=[0, 1]),
    "neg_brier_score": lambda t, s, _: -sk.brier_score_loss(t, s, pos_label=1),
    "d2_brier_score": lambda t, s, _: sk.d2_brier_score(t, s),
    "d2_log_loss_score": lambda t, s, _: sk.d2_log_loss_score(t, s, labels=[0, 1]),
    "positive_likelihood_ratio": lambda t, _, p: sk.class_likelihood_ratios(t, p)[0],
}


def averaged(name: str, score: Any) -> dict[str, Theirs]:
    """A metric of labels over several classes, by each way to average them."""

    def by(average: str) -> Theirs:
        return lambda t, _, p: float(score(t, p, average=average))

    return {f"{name}_{average}": by(average) for average in ("macro", "weighted", "micro")}


MULTICLASS: dict[str, Theirs] = {
    "accuracy": lambda t, _, p: sk.accuracy_score(t, p),
    "balanced_accuracy": lambda t, _, p: sk.balanced_accuracy_score(t, p),
    "matthews_corrcoef": lambda t, _, p: sk.matthews_corrcoef(t, p),
    **averaged("recall", sk.recall_score),
    **averaged("precision", sk.precision_score),
    **averaged("f1", sk.f1_score),
}
TASKS: dict[Task, dict[str, Theirs]] = {
    "regression": REGRESSION,
    "binary_classification": BINARY,
    "multiclass_classification": MULTICLASS,
}
CASES = [(task, metric) for task, metrics in TASKS.items() for metric in metrics]
FEWER = [(task, metric) for task, metric in CASES if not metric.endswith(("_weighted", "_micro"))]
"""One way to average is as good as another for what is stored, and each takes its time."""


@st.composite
def windows(draw: st.DrawFn, task: Task) -> pd.DataFrame:
    """Nights of rows as they are read back: values and labels are text, odd ones are common."""
    numbers = st.one_of(
        st.floats(-10, 10),
        st.sampled_from(
            [0.0, -0.0, 1.0, -1.0, -3.0, 5e-324, 1e-20, 429_491.0, 1e155, -1e200, 1e308]
        ),
    )
    same = draw(numbers) if task == "regression" and draw(st.booleans()) else None
    classes = draw(st.sampled_from([["0"], ["1"], ["0", "1"], ["0", "0", "0", "1"]]))
    kinds = draw(st.sampled_from([["a"], ["a", "b"], ["a", "b", "c"]]))
    decided = draw(st.sampled_from([["0"], ["1"], ["0", "1"]]))
    rows = []
    for night in range(draw(st.sampled_from([1, 2, 5, 6]))):
        calm = draw(st.booleans())
        for _ in range(draw(st.integers(1, 4))):
            row: tuple[str, float, str | None]
            if task == "regression":
                value = same if same is not None else draw(st.floats(0.5, 5) if calm else numbers)
                row = (repr(value), draw(st.floats(0.5, 5) if calm else numbers), None)
            elif task == "binary_classification":
                score = draw(st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1))
                row = (draw(st.sampled_from(classes)), score, draw(st.sampled_from(decided)))
            else:
                row = (draw(st.sampled_from(kinds)), 0.5, draw(st.sampled_from(["a", "b", "d"])))
            rows.append((FIRST + pd.Timedelta(days=night), *row))
    return pd.DataFrame(rows, columns=["as_of", "value", "score", "label"])


def theirs(task: Task, metric: str, rows: pd.DataFrame) -> float:
    """What scikit-learn says of the rows together; NaN where it refuses them."""
    truth, label = rows["value"].to_numpy(object), rows["label"].to_numpy(object)
    if task != "multiclass_classification":
        truth = truth.astype(float)
    if task == "binary_classification":
        label = label.astype(float)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return float(TASKS[task][metric](truth, rows["score"].to_numpy(), label))
        except ValueError:
            return math.nan


@pytest.mark.timeout(0 if SOAK else 600)
@MANY
@given(st.data(), st.sampled_from(CASES))
def test_a_window_is_scikit_learns_metric_over_its_rows_or_says_why_not(
    data: st.DataObject, case: tuple[Task, str]
) -> None:
    task, metric = case
    rows = data.draw(windows(task))
    known = stats.outcomes(rows, task)
    number, missing = stats.figure(metric, task, known)
    expected = theirs(task, metric, rows)
    assert (number is None) == bool(missing)
    if number is None:
        assert stats.value(metric, task, known) is None
        assert undefined(task, metric, rows) or not math.isfinite(expected), missing
    else:
        assert number == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert not undefined(task, metric, rows)


def undefined(task: Task, metric: str, rows: pd.DataFrame) -> bool:
    """Where docs/models.md says that a metric has no value, in words of its own."""
    truth = rows["value"].to_numpy(object)
    single = len(set(truth)) < 2
    if task == "regression":
        numbers, score = truth.astype(float), rows["score"].to_numpy()
        if metric in ("r2", "explained_variance", "d2_absolute_error_score"):
            return len(set(numbers)) < 2
        if metric == "neg_mean_absolute_percentage_error":
            return bool(((np.abs(numbers) < 2.220446049250313e-16) & (numbers != score)).any())
        return False
    positives, called = (truth == "1").sum(), (rows["label"] == "1").sum()
    binary = {
        "recall": not positives,
        "precision": not called,
        "f1": not positives + called,
        "jaccard": not positives + called,
        "average_precision": not positives,
        "roc_auc": single,
        "d2_brier_score": single,
        "d2_log_loss_score": single,
        "positive_likelihood_ratio": single,
    }
    compared = {"balanced_accuracy": single, "matthews_corrcoef": single}
    return (compared | binary if task == "binary_classification" else compared).get(metric, False)


@pytest.mark.timeout(0 if SOAK else 600)
@MANY
@given(st.data(), st.sampled_from(FEWER))
def test_whatever_the_rows_nothing_that_is_stored_is_nan_or_infinite(
    data: st.DataObject, case: tuple[Task, str]
) -> None:
    task, metric = case
    rows = data.draw(windows(task))
    other = rows.assign(score=rows["score"].to_numpy()[::-1], label=rows["label"].to_numpy()[::-1])
    known, beside = (stats.outcomes(part, task) for part in (rows, other))
    nights = stats.nights_of(rows)
    # A few draws find what many would: whether a draw can end in something that is no number.
    with warnings.catch_warnings(), mock.patch.object(intervals, "RESAMPLES", 2):
        warnings.simplefilter("error")
        stored: list[Any] = [
            stats.estimate(metric, task, known, nights=nights),
            stats.paired_difference(
                metric,
                task,
                known,
                beside,
                confidence=0.95,
                nights=nights,
            ),
            *stats.by_night(metric, task, rows),
        ]
        reference = stats.reference(metric, task, rows)
        differences = stats.nightly_differences(
            metric,
            task,
            known,
            beside,
            nights,
        )
        evidence = stats.anytime(differences, confidence=0.95)
        detected = stats.shift(stored[2:], 0.1, reference, false_alarms=0.05)
    stored += [detected, evidence, *([reference] if reference else [])]
    json.dumps([asdict(one) for one in stored], allow_nan=False, default=str)
    assert np.isfinite(differences).all()
    for each in stored[:2]:
        assert isinstance(each, Undefined) or each.low <= each.high
    for night in stored[2 : 2 + rows["as_of"].nunique()]:
        assert (night.value is None) == (night.missing is not None)


def rows_of(nights: list[tuple[str, list[float], list[str] | None]]) -> pd.DataFrame:
    """Nights of (truths, one sign each; scores; labels)."""
    parts = [
        pd.DataFrame(
            {
                "as_of": FIRST + pd.Timedelta(days=number),
                "value": list(truths),
                "score": scores,
                "label": labels,
            }
        )
        for number, (truths, scores, labels) in enumerate(nights)
    ]
    return pd.concat(parts, ignore_index=True)


def test_recall_over_a_week_is_one_recall_and_nights_without_positives_are_passed_over() -> None:
    with_positives = ("1100", [0.9, 0.2, 0.1, 0.8], ["1", "0", "0", "1"])
    without = ("0000", [0.9, 0.2, 0.1, 0.8], ["1", "0", "0", "1"])
    missed = ("1111", [0.1, 0.1, 0.1, 0.1], ["0", "0", "0", "0"])
    rows = rows_of([with_positives, without, without, missed, without, without, with_positives])
    task: Task = "binary_classification"
    found = stats.estimate("recall", task, stats.outcomes(rows, task), nights=stats.nights_of(rows))
    assert isinstance(found, Estimate)
    assert found.value == pytest.approx(2 / 8)  # and not the mean of three nights, 1/3
    nights = stats.by_night("recall", task, rows)
    assert [night.value for night in nights] == [0.5, None, None, 0.0, None, None, 0.5]
    assert nights[1].missing == "none of 4 truths is 1"


@pytest.mark.parametrize(
    ("task", "metric", "nights", "reason"),
    [
        (
            "regression",
            "r2",
            [("3333", [1.0, 2.0, 3.0, 4.0], None)],
            "all 4 truths are equal, and it divides by how they differ",
        ),
        (
            "regression",
            "neg_mean_absolute_percentage_error",
            [("0120", [1.0, 1.0, 2.0, 3.0], None)],
            "2 of 4 rows have a truth of 0, by which it divides",
        ),
        (
            "regression",
            "neg_mean_squared_log_error",
            [("123", [1.0, -1.5, 2.0], None)],
            "1 of 3 rows has a truth or a prediction of -1 or less, without a logarithm",
        ),
        (
            "binary_classification",
            "precision",
            [("0110", [0.1] * 4, ["0"] * 4)],
            "none of 4 rows is predicted as 1",
        ),
        (
            "binary_classification",
            "f1",
            [("00", [0.1] * 2, ["0"] * 2)],
            "none of 2 rows is 1, and none is predicted as 1",
        ),
        (
            "binary_classification",
            "roc_auc",
            [("1", [0.1], ["0"])],
            "all 1 truths are of one class",
        ),
        (
            "binary_classification",
            "neg_log_loss",
            [("01", [-2.5, 0.4], ["0", "1"])],
            "1 of 2 rows has a score that is no probability",
        ),
        (
            "binary_classification",
            "accuracy",
            [("1", [0.9], ["1"])],
            "one labelled row has no interval",
        ),
    ],
)
def test_what_is_undefined_names_what_the_rows_lack(
    task: Any, metric: str, nights: list[Any], reason: str
) -> None:
    known = stats.outcomes(rows_of(nights), task)
    assert stats.estimate(metric, task, known) == Undefined(reason)


def test_a_recall_of_positives_of_which_none_is_predicted_is_zero_and_no_mystery() -> None:
    rows = rows_of([("1101", [0.1] * 4, ["0"] * 4)])
    known = stats.outcomes(rows, "binary_classification")
    assert stats.figure("recall", "binary_classification", known) == (0.0, "")
    assert stats.figure("f1", "binary_classification", known) == (0.0, "")


def test_metrics_of_labels_count_the_label_and_metrics_of_scores_the_score() -> None:
    # A threshold of 0.2: three are called, by one half it would be one.
    rows = rows_of([("110100", [0.9, 0.3, 0.25, 0.1, 0.1, 0.05], list("111000"))])
    known = stats.outcomes(rows, "binary_classification")
    assert stats.value("recall", "binary_classification", known) == pytest.approx(2 / 3)
    assert stats.value("accuracy", "binary_classification", known) == pytest.approx(4 / 6)
    assert stats.value("roc_auc", "binary_classification", known) == pytest.approx(7.5 / 9)
    by_half = stats.outcomes(rows.assign(label=None), "binary_classification")
    assert stats.value("recall", "binary_classification", by_half) == pytest.approx(1 / 3)


def test_decisions_that_are_no_probabilities_rank_and_decide_all_the_same() -> None:
    rows = rows_of([("1100", [3.5, -0.2, -0.1, -4.0], list("1000"))])
    known = stats.outcomes(rows, "binary_classification")
    assert stats.value("roc_auc", "binary_classification", known) == pytest.approx(0.75)
    assert stats.value("recall", "binary_classification", known) == pytest.approx(0.5)


@pytest.mark.parametrize("metric", ["neg_mean_absolute_error", "neg_root_mean_squared_error", "r2"])
def test_a_single_row_that_makes_up_a_metric_is_told_and_proves_nothing(metric: str) -> None:
    random = np.random.default_rng(2)
    truth = random.normal(20, 5, 700)
    truth[350] = 429_491.0
    rows = pd.DataFrame(
        {
            "as_of": FIRST + pd.to_timedelta(np.repeat(np.arange(7), 100), unit="D"),
            "value": truth.astype(str),
            "score": 20.0,
            "label": None,
        }
    )
    known = stats.outcomes(rows, "regression")
    found = stats.estimate(metric, "regression", known, nights=stats.nights_of(rows))
    assert isinstance(found, Estimate)
    assert found.remark.startswith("one row of 700 makes up ")
    if metric != "r2":
        # One night of seven is far off: the interval reaches back to what the others are worth.
        assert found.high > -10
    calm = stats.estimate(metric, "regression", known.take(np.arange(300)))
    assert isinstance(calm, Estimate)
    assert calm.remark == ""


def test_a_probability_of_zero_costs_what_scikit_learn_says() -> None:
    rows = rows_of([("10", [0.0, 0.0], ["0", "0"])])
    known = stats.outcomes(rows, "binary_classification")
    assert stats.value("neg_log_loss", "binary_classification", known) == pytest.approx(
        -18.02, abs=0.01
    )


def test_nights_without_the_metric_are_no_evidence_in_a_trial() -> None:
    # On one night the newer finds both positives; sixty nights have none at all.
    night = ("1100", [0.1] * 4, ["0"] * 4)
    empty = ("0000", [0.1] * 4, ["0"] * 4)
    older = rows_of([night, *[empty] * 60])
    newer = older.copy()
    newer.loc[:1, "label"] = "1"
    task: Task = "binary_classification"
    found = stats.nightly_differences(
        "recall",
        task,
        stats.outcomes(older, task),
        stats.outcomes(newer, task),
        stats.nights_of(newer),
    )
    assert found == pytest.approx([1.0])
    assert stats.anytime(found, confidence=0.95).value == 0
