"""Metrics equal scikit-learn's, their intervals hold what they promise, and undefined is told."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_absolute_error, roc_auc_score

from nightshift import stats
from nightshift.errors import ConfigError
from nightshift.stats import Estimate, Outcomes, Undefined, intervals

RANDOM = np.random.default_rng(5)


def binary(size: int, signal: float = 1.0, seed: int = 5) -> Outcomes:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, size).astype(float)
    logit = signal * (truth - 0.5) + random.normal(size=size)
    return Outcomes(truth, 1 / (1 + np.exp(-logit)))


def test_values_are_scikit_learns() -> None:
    truth, score = RANDOM.normal(size=200), RANDOM.normal(size=200)
    found = stats.value("neg_mean_absolute_error", "regression", Outcomes(truth, score))
    assert found == pytest.approx(-mean_absolute_error(truth, score))
    known = binary(200)
    found = stats.value("roc_auc", "binary_classification", known)
    assert found == pytest.approx(roc_auc_score(known.truth, known.score))


@pytest.mark.parametrize("metric", ["roc_auc", "accuracy", "neg_brier_score"])
def test_intervals_hold_the_long_run_value_95_times_in_a_hundred(metric: str) -> None:
    task = "binary_classification"
    long_run = stats.value(metric, "binary_classification", binary(200_000, seed=1))
    assert long_run is not None
    held = 0
    for seed in range(300):
        found = stats.estimate(metric, task, binary(400, seed=seed + 10))  # type: ignore[arg-type]
        assert isinstance(found, Estimate)
        held += found.low <= long_run <= found.high
    assert 0.91 <= held / 300 <= 0.985  # binomial(300, 0.95): 3 standard errors


def test_the_delong_variance_is_that_of_repeated_samples() -> None:
    draws = [
        stats.estimate("roc_auc", "binary_classification", binary(300, seed=s)) for s in range(300)
    ]
    values = [draw.value for draw in draws if isinstance(draw, Estimate)]
    widths = [(draw.high - draw.low) / (2 * 1.96) for draw in draws if isinstance(draw, Estimate)]
    assert np.mean(widths) == pytest.approx(np.std(values), rel=0.15)


def shared_luck(nights: int, rows: int, seed: int) -> tuple[Outcomes, np.ndarray]:
    """Errors of which half the variance is the night's own: a storm delays everybody."""
    random = np.random.default_rng(seed)
    night = np.repeat(np.arange(nights), rows)
    error = random.normal(size=nights)[night] + random.normal(size=nights * rows)
    return Outcomes(np.zeros(nights * rows), error), night


@pytest.mark.parametrize("metric", ["neg_mean_squared_error", "neg_median_absolute_error"])
def test_intervals_hold_when_the_rows_of_a_night_share_their_luck(metric: str) -> None:
    long_run = {"neg_mean_squared_error": -2.0, "neg_median_absolute_error": -0.9539}[metric]
    times = 120 if metric == "neg_mean_squared_error" else 60  # the bootstrap takes its time
    held = {"rows": 0, "nights": 0}
    for seed in range(times):
        known, night = shared_luck(14, 50, seed)
        for units, nights in (("rows", None), ("nights", night)):
            found = stats.estimate(metric, "regression", known, nights=nights)
            assert isinstance(found, Estimate)
            held[units] += found.low <= long_run <= found.high
    assert held["rows"] / times < 0.6
    assert held["nights"] / times > 0.8  # a few nights of a lopsided metric fall short of 95%


@pytest.mark.parametrize(
    ("metric", "task"),
    [
        ("precision", "binary"),
        ("recall", "binary"),
        ("f1", "binary"),
        ("r2", "regression"),
        ("neg_root_mean_squared_error", "regression"),
    ],
)
def test_formulas_agree_with_the_bootstrap(
    metric: str, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, kind = binary(2_000), "binary_classification"
    if task == "regression":
        truth = RANDOM.normal(size=2_000)
        known, kind = Outcomes(truth, truth + RANDOM.normal(size=2_000)), "regression"
    formula = stats.estimate(metric, kind, known)  # type: ignore[arg-type]
    monkeypatch.setattr(intervals, "influence", lambda *_: None)
    drawn = stats.estimate(metric, kind, known)  # type: ignore[arg-type]
    assert isinstance(formula, Estimate)
    assert isinstance(drawn, Estimate)
    assert formula.error == pytest.approx(drawn.error, rel=0.2)
    assert (drawn.method, formula.method) == (
        "bootstrap of rows, seed 20130101",
        "rows as units, normal",
    )


def test_performance_is_told_before_any_label_where_scores_are_calibrated() -> None:
    random = np.random.default_rng(3)
    share = random.beta(2, 5, size=5_000)
    truth = (random.random(5_000) < share).astype(float)
    for metric in ("roc_auc", "accuracy", "f1"):
        told = stats.expected(metric, share, share)
        found = stats.value(metric, "binary_classification", Outcomes(truth, share))
        assert isinstance(told, Estimate)
        assert told.low <= found <= told.high  # type: ignore[operator]


def test_a_reference_tells_how_far_nights_differ_beyond_chance() -> None:
    known, night = shared_luck(20, 200, 5)
    days = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(night, unit="D")
    rows = pd.DataFrame(
        {"as_of": days, "value": known.truth.astype(str), "score": known.score, "label": None}
    )
    shared = stats.reference("neg_mean_squared_error", "regression", rows)
    own = rows.assign(score=np.random.default_rng(1).normal(size=len(rows)))
    alone = stats.reference("neg_mean_squared_error", "regression", own)
    assert shared is not None
    assert alone is not None
    assert shared.spread > 0.5
    assert alone.spread == 0
    assert alone.deviation == pytest.approx(2**0.5, rel=0.1)
    assert alone.skewness < -2


@pytest.mark.parametrize("metric", ["roc_auc", "f1"])
def test_a_model_is_no_better_than_itself(metric: str) -> None:
    known = binary(300)
    paired = stats.paired_difference(metric, "binary_classification", known, known, confidence=0.95)
    assert isinstance(paired, Estimate)
    assert (paired.value, paired.low, paired.high) == (0, 0, 0)


def test_a_better_model_is_proven_better_on_the_same_rows() -> None:
    truth = RANDOM.normal(size=2000)
    worse = Outcomes(truth, truth + RANDOM.normal(size=2000))
    better = Outcomes(truth, truth + 0.5 * RANDOM.normal(size=2000))
    paired = stats.paired_difference(
        "neg_mean_absolute_error", "regression", worse, better, confidence=0.95
    )
    assert isinstance(paired, Estimate)
    assert 0 < paired.low < paired.value < paired.high


def test_one_class_is_undefined_and_no_number() -> None:
    one = Outcomes(np.ones(50), RANDOM.random(50))
    found = stats.estimate("roc_auc", "binary_classification", one)
    assert found == Undefined("all 50 truths are of one class")


@pytest.mark.parametrize(
    ("metric", "task", "said"),
    [
        ("neg_mean_absolut_error", "regression", "did you mean 'neg_mean_absolute_error'"),
        ("roc_auc", "regression", "does not apply to regression"),
        ("neg_log_loss", "multiclass_classification", "does not apply to multiclass"),
    ],
)
def test_a_metric_that_cannot_be_used_is_told(metric: str, task: str, said: str) -> None:
    assert said in str(stats.metric_problem(metric, task))  # type: ignore[arg-type]


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
    assert stats.metric_problem(metric, task) is None  # type: ignore[arg-type]


def test_a_metric_that_raises_on_good_rows_is_an_error_and_not_undefined() -> None:
    with pytest.raises(ConfigError, match="does not apply"):
        stats.value("roc_auc", "regression", Outcomes(RANDOM.normal(size=9), RANDOM.normal(size=9)))
