"""Metrics equal scikit-learn's, their intervals hold what they promise, and undefined is told."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, roc_auc_score

from nightshift import metrics
from nightshift.metrics import Outcomes
from nightshift.records import ConfigError

RANDOM = np.random.default_rng(5)


def binary(size: int, signal: float = 1.0, seed: int = 5) -> Outcomes:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, size).astype(float)
    logit = signal * (truth - 0.5) + random.normal(size=size)
    return Outcomes(truth, 1 / (1 + np.exp(-logit)))


def test_values_are_scikit_learns() -> None:
    truth, score = RANDOM.normal(size=200), RANDOM.normal(size=200)
    found = metrics.value("neg_mean_absolute_error", "regression", Outcomes(truth, score))
    assert found == pytest.approx(-mean_absolute_error(truth, score))
    known = binary(200)
    found = metrics.value("roc_auc", "binary_classification", known)
    assert found == pytest.approx(roc_auc_score(known.truth, known.score))


@pytest.mark.parametrize("metric", ["roc_auc", "accuracy", "neg_brier_score"])
def test_intervals_hold_the_long_run_value_95_times_in_a_hundred(metric: str) -> None:
    task = "binary_classification"
    long_run = metrics.value(metric, "binary_classification", binary(200_000, seed=1))
    assert long_run is not None
    held = 0
    for seed in range(300):
        found = metrics.estimate(metric, task, binary(400, seed=seed + 10))  # type: ignore[arg-type]
        assert found is not None
        held += found.low <= long_run <= found.high
    assert 0.91 <= held / 300 <= 0.985  # binomial(300, 0.95): 3 standard errors


def test_the_delong_variance_is_that_of_repeated_samples() -> None:
    draws = [
        metrics.estimate("roc_auc", "binary_classification", binary(300, seed=s))
        for s in range(300)
    ]
    values = [draw.value for draw in draws if draw]
    widths = [(draw.high - draw.low) / (2 * 1.96) for draw in draws if draw]
    assert np.mean(widths) == pytest.approx(np.std(values), rel=0.15)


@pytest.mark.parametrize("metric", ["roc_auc", "f1"])
def test_a_model_is_no_better_than_itself(metric: str) -> None:
    known = binary(300)
    paired = metrics.paired_difference(
        metric, "binary_classification", known, known, confidence=0.95
    )
    assert paired is not None
    assert (paired.value, paired.low, paired.high) == (0, 0, 0)


def test_a_better_model_is_proven_better_on_the_same_rows() -> None:
    truth = RANDOM.normal(size=2000)
    worse = Outcomes(truth, truth + RANDOM.normal(size=2000))
    better = Outcomes(truth, truth + 0.5 * RANDOM.normal(size=2000))
    paired = metrics.paired_difference(
        "neg_mean_absolute_error", "regression", worse, better, confidence=0.95
    )
    assert paired is not None
    assert 0 < paired.low < paired.value < paired.high


def test_one_class_is_undefined_and_no_number() -> None:
    one = Outcomes(np.ones(50), RANDOM.random(50))
    assert metrics.estimate("roc_auc", "binary_classification", one) is None


@pytest.mark.parametrize(
    ("metric", "task", "said"),
    [
        ("neg_mean_absolut_error", "regression", "did you mean neg_mean_absolute_error"),
        ("roc_auc", "regression", "does not apply to regression"),
        ("neg_log_loss", "multiclass_classification", "does not apply to multiclass"),
    ],
)
def test_a_metric_that_cannot_be_used_is_told(metric: str, task: str, said: str) -> None:
    assert said in str(metrics.metric_problem(metric, task))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metric", "task"),
    [
        ("neg_mean_absolute_error", "regression"),
        ("r2", "regression"),
        ("roc_auc", "binary_classification"),
        ("f1", "binary_classification"),
        ("neg_log_loss", "binary_classification"),
        ("accuracy", "multiclass_classification"),
        ("f1_macro", "multiclass_classification"),
    ],
)
def test_scikit_learns_names_are_the_vocabulary(metric: str, task: str) -> None:
    assert metrics.metric_problem(metric, task) is None  # type: ignore[arg-type]


def test_a_metric_that_raises_on_good_rows_is_an_error_and_not_undefined() -> None:
    with pytest.raises(ConfigError, match="does not apply"):
        metrics.value(
            "roc_auc", "regression", Outcomes(RANDOM.normal(size=9), RANDOM.normal(size=9))
        )
