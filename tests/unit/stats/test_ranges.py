"""What a metric can be, and what is said of a level that cannot."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import get_scorer, get_scorer_names

from nightshift import stats
from nightshift.stats import Outcomes
from nightshift.stats.ranges import CLASSES, Task

TASKS: tuple[Task, ...] = ("regression", "binary_classification", "multiclass_classification")


def test_the_table_holds_every_scorer_of_scikit_learn() -> None:
    assert [name for name in get_scorer_names() if stats.range_of(name) is None] == []


def test_what_scikit_learn_negates_is_at_most_zero_and_nothing_else_is() -> None:
    for name in get_scorer_names():
        limits = stats.range_of(name)
        assert limits is not None
        assert (limits.high == 0) == (get_scorer(name)._sign == -1), name


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", range(5))
def test_no_value_lies_outside_of_its_range(task: Task, seed: int) -> None:
    random = np.random.default_rng(seed)
    if task == "multiclass_classification":
        truth, label = random.choice(["a", "b", "c"], (2, 60)).astype(object)
        known = Outcomes(truth, np.full(60, 0.5), label)
    elif task == "binary_classification":
        known = Outcomes(random.integers(0, 2, 60).astype(float), random.random(60))
    else:
        known = Outcomes(random.gamma(2, 10 ** random.integers(-2, 4), 60), random.gamma(2, 1, 60))
    measured = 0
    for metric in get_scorer_names():
        if stats.metric_problem(metric, task) is None:
            value = stats.value(metric, task, known)
            limits = stats.range_of(metric)
            assert limits is not None
            assert value is None or value in limits, (metric, value)
            measured += value is not None
    assert measured >= 8


@pytest.mark.parametrize(
    ("metric", "level", "sentence"),
    [
        ("neg_mean_absolute_error", 8.0, "is at most 0; write -8.0"),
        ("neg_root_mean_squared_error", 0.25, "is at most 0; write -0.25"),
        ("neg_log_loss", 0.4, "is at most 0; write -0.4"),
        ("neg_mean_poisson_deviance", 3, "is at most 0; write -3.0"),
        ("neg_mean_absolute_percentage_error", 12, "is at most 0; write -0.12 for 12 percent"),
        ("neg_brier_score", 0.2, "lies between -1 and 0; write -0.2"),
        ("neg_brier_score", -14, "lies between -1 and 0; write -0.14 for 14 percent"),
        ("accuracy", 85, "lies between 0 and 1; write 0.85 for 85 percent"),
        ("roc_auc", -0.7, "lies between 0 and 1; write 0.7"),
        ("f1_macro", 62.5, "lies between 0 and 1; write 0.625 for 62.5 percent"),
        ("average_precision", 1.2, "lies between 0 and 1"),
        ("matthews_corrcoef", -1.5, "lies between -1 and 1"),
        ("matthews_corrcoef", 40, "write 0.4 for 40 percent"),
        ("r2", 1.01, "is at most 1"),
        ("d2_absolute_error_score", 70, "is at most 1; write 0.7 for 70 percent"),
        ("positive_likelihood_ratio", -3, "is at least 0; write 3.0"),
    ],
)
def test_a_level_that_cannot_be_is_told_with_what_was_meant(
    metric: str, level: float, sentence: str
) -> None:
    assert stats.level_problem(metric, level) == f"{metric} {sentence}" or (
        sentence.startswith("write") and str(stats.level_problem(metric, level)).endswith(sentence)
    )


@pytest.mark.parametrize(
    ("metric", "level"),
    [
        ("neg_mean_absolute_error", -8000),
        ("neg_mean_absolute_error", 0),
        ("neg_mean_absolute_percentage_error", -2.5),
        ("accuracy", 1),
        ("roc_auc", 0),
        ("matthews_corrcoef", -0.2),
        ("r2", -3),
        ("neg_log_loss", -4),
        ("positive_likelihood_ratio", 12),
        ("a_scorer_of_tomorrow", 99),
    ],
)
def test_a_level_that_can_be_passes(metric: str, level: float) -> None:
    assert stats.level_problem(metric, level) is None


@pytest.mark.parametrize(
    ("metric", "drop", "sentence"),
    [
        ("accuracy", 5, "can never change by 5; write 0.05 for 5 percent"),
        ("roc_auc", 1, "can never change by 1"),
        ("neg_brier_score", 2, "can never change by 2; write 0.02 for 2 percent"),
        ("matthews_corrcoef", 10, "can never change by 10; write 0.1 for 10 percent"),
        ("r2", 20, "at 0 a constant prediction is as good; write 0.2 for 20 percent"),
    ],
)
def test_a_drop_that_cannot_be_is_told(metric: str, drop: float, sentence: str) -> None:
    assert str(stats.drop_problem(metric, drop)).endswith(sentence)


@pytest.mark.parametrize(
    ("metric", "drop"),
    [("neg_mean_absolute_error", 20), ("accuracy", 0.05), ("r2", 0.3), ("r2", 1), ("r2", 0)],
)
def test_a_drop_that_can_be_passes(metric: str, drop: float) -> None:
    assert stats.drop_problem(metric, drop) is None


@pytest.mark.parametrize(
    ("metric", "task", "sentence"),
    [
        ("r2", "binary_classification", "it is of regression; write roc_auc"),
        ("neg_mean_absolute_error", "multiclass_classification", "it is of regression; write acc"),
        ("precision", "multiclass_classification", "it is of two classes; write precision_macro,"),
        ("f1", "multiclass_classification", "write f1_macro, or f1_weighted"),
        ("roc_auc", "multiclass_classification", "the probability of every class"),
        ("roc_auc_ovr", "multiclass_classification", "the probability of every class"),
        ("accuracy", "regression", "write neg_mean_absolute_error"),
        ("recall_samples", "binary_classification", "several labels of one row; write roc_auc"),
        ("adjusted_rand_score", "multiclass_classification", "it compares groupings"),
    ],
)
def test_a_metric_of_another_task_is_told_with_what_measures_this_one(
    metric: str, task: Task, sentence: str
) -> None:
    problem = str(stats.metric_problem(metric, task))
    assert f"{metric!r} does not apply to {task}" in problem
    assert sentence in problem


def test_every_metric_that_is_offered_can_be_used() -> None:
    for task in TASKS:
        offered = str(stats.task_problem("recall_samples", task)).split("write ")[1]
        for metric in offered.replace(" or ", ", ").split(", "):
            assert stats.metric_problem(metric, task) is None, metric
    for metric in ("f1", "precision", "recall", "jaccard"):
        for average in ("macro", "weighted"):
            averaged = f"{metric}_{average}"
            assert stats.metric_problem(averaged, "multiclass_classification") is None
            assert (limits := stats.range_of(averaged)) is not None
            assert limits.tasks == CLASSES
            assert not math.isinf(limits.low)
