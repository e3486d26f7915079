"""scikit-learn's metrics over stored predictions, with intervals and paired differences.

A metric has an *influence function*: for each row, how far it pulls the metric from its value. Its
variance over rows gives the interval of the metric, and the variance of the difference of two
models' influences, row by row, gives the interval of their paired difference. Means of per-row
scores have it trivially; ROC AUC has DeLong's structural components [1]_. Every other scorer is
bootstrapped over rows with a fixed seed.

.. [1] DeLong, DeLong, Clarke-Pearson (1988), "Comparing the areas under two or more correlated
   receiver operating characteristic curves", Biometrics 44.
"""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.stats import norm, rankdata
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import get_scorer, get_scorer_names

from nightshift.records import ConfigError

Task = Literal["regression", "binary_classification", "multiclass_classification"]
Array = np.ndarray

RESAMPLES = 200
SEED = 20130101


@dataclass(frozen=True)
class Outcomes:
    """Predictions whose truth is known, row by row.

    ``truth`` and ``score`` are float64 of shape (n,): the value and its prediction in regression,
    0 or 1 and the probability of 1 in binary classification. In multiclass classification
    ``truth`` and ``label`` are str arrays and ``score`` is the probability of ``label``.
    """

    truth: Array
    score: Array
    label: Array | None = None

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, rows: Array) -> Outcomes:
        label = None if self.label is None else self.label[rows]
        return Outcomes(self.truth[rows], self.score[rows], label)


@dataclass(frozen=True)
class Estimate:
    """A metric's value, and an interval around it; greater is better."""

    value: float
    low: float
    high: float


def outcomes(rows: pd.DataFrame, task: Task) -> Outcomes:
    """Rows with columns ``value`` (text), ``score`` and ``label`` as :class:`Outcomes`."""
    score = rows["score"].to_numpy(dtype=np.float64)
    if task == "multiclass_classification":
        return Outcomes(
            rows["value"].to_numpy(dtype=object), score, rows["label"].to_numpy(dtype=object)
        )
    return Outcomes(rows["value"].to_numpy(dtype=np.float64), score)


def estimate(
    metric: str, task: Task, known: Outcomes, *, confidence: float = 0.95
) -> Estimate | None:
    """A metric with its two-sided interval; None where it is undefined on these rows."""
    found = value(metric, task, known)
    if found is None:
        return None
    influence = _influence(metric, known)
    if influence is not None:
        error = _standard_error(influence)
        reach = float(norm.ppf(0.5 + confidence / 2)) * error
        return Estimate(found, found - reach, found + reach)
    low, high = np.quantile(
        _resampled(known, lambda sample: value(metric, task, sample)),
        [0.5 - confidence / 2, 0.5 + confidence / 2],
    )
    return Estimate(found, float(low), float(high))


def paired_difference(
    metric: str, task: Task, champion: Outcomes, challenger: Outcomes, *, confidence: float
) -> Estimate | None:
    """Challenger minus champion on the same rows.

    ``low`` and ``high`` are one-sided bounds, each at ``confidence``. None where the metric is
    undefined for either.
    """
    before, after = value(metric, task, champion), value(metric, task, challenger)
    if before is None or after is None:
        return None
    gain = after - before
    pulls = _influence(metric, champion), _influence(metric, challenger)
    if pulls[0] is not None and pulls[1] is not None:
        reach = float(norm.ppf(confidence)) * _standard_error(pulls[1] - pulls[0])
        return Estimate(gain, gain - reach, gain + reach)

    def difference(rows: Array) -> float | None:
        pair = (value(metric, task, side.take(rows)) for side in (champion, challenger))
        old, new = pair
        return None if old is None or new is None else new - old

    low, high = np.quantile(_bootstrap(len(champion), difference), [1 - confidence, confidence])
    return Estimate(gain, float(low), float(high))


def metric_problem(metric: str, task: Task) -> str | None:
    """Why a metric cannot be used for a task; None where it can."""
    if metric not in get_scorer_names():
        close = difflib.get_close_matches(metric, get_scorer_names(), n=3)
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        return f"{metric!r} is not the name of a scikit-learn scorer{hint}"
    try:
        value(metric, task, _specimen(task))
    except ConfigError as error:
        return str(error)
    return None


def value(metric: str, task: Task, known: Outcomes) -> float | None:
    """The scorer's value on stored predictions; None where scikit-learn calls it undefined."""
    stored = _STORED[task](known)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        try:
            found = float(get_scorer(metric)(stored, np.arange(len(known)), known.truth))
        except (ValueError, AttributeError, TypeError) as error:
            if len(np.unique(known.truth)) < 2:
                return None
            raise ConfigError(
                f"the metric {metric!r} does not apply to {task} from stored predictions: {error}"
            ) from error
    return found if math.isfinite(found) else None


class _Stored(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Predictions already made, in the shape that scorers take; X holds row numbers."""

    def __init__(self, known: Outcomes) -> None:
        self.known = known

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, rows: Array) -> Array:
        return self.known.score[rows]


class _StoredClasses(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classes already told; only the told class's probability was kept, so there is no more."""

    def __init__(self, known: Outcomes) -> None:
        self.known = known
        self.classes_ = np.unique(np.concatenate([known.truth, known.label]))

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, rows: Array) -> Array:
        assert self.known.label is not None
        return self.known.label[rows]


class _StoredProbabilities(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Probabilities of 1 already told; the class is 1 from one half on."""

    def __init__(self, known: Outcomes) -> None:
        self.known = known
        self.classes_ = np.array([0.0, 1.0])

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, rows: Array) -> Array:
        return (self.known.score[rows] >= 0.5).astype(np.float64)

    def predict_proba(self, rows: Array) -> Array:
        positive = self.known.score[rows]
        return np.column_stack([1 - positive, positive])


_STORED: dict[Task, type[BaseEstimator]] = {
    "regression": _Stored,
    "binary_classification": _StoredProbabilities,
    "multiclass_classification": _StoredClasses,
}


def _specimen(task: Task) -> Outcomes:
    """A few rows on which every metric that fits the task is defined."""
    if task == "multiclass_classification":
        truth = np.array(["a", "b", "c", "a", "b", "c"], dtype=object)
        return Outcomes(truth, np.full(6, 0.5), truth[::-1].copy())
    truth = np.array([0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    return Outcomes(truth, np.array([0.2, 0.7, 0.6, 0.4, 0.9, 0.1]))


_ROW_SCORES: dict[str, Callable[[Outcomes], Array]] = {
    "neg_mean_absolute_error": lambda known: -np.abs(known.truth - known.score),
    "neg_mean_squared_error": lambda known: -((known.truth - known.score) ** 2),
    "neg_brier_score": lambda known: -((known.truth - known.score) ** 2),
    "accuracy": lambda known: (
        (known.truth == known.label).astype(np.float64)
        if known.label is not None
        else ((known.score >= 0.5) == known.truth).astype(np.float64)
    ),
}


def _influence(metric: str, known: Outcomes) -> Array | None:
    if metric in _ROW_SCORES:
        row_scores = _ROW_SCORES[metric](known)
        return row_scores - row_scores.mean()
    if metric == "roc_auc":
        return _auc_influence(known)
    return None


def _auc_influence(known: Outcomes) -> Array:
    positive = known.truth == 1
    m, n = int(positive.sum()), int((~positive).sum())
    ranks = rankdata(known.score)
    wins = np.empty(len(known))
    wins[positive] = (ranks[positive] - rankdata(known.score[positive])) / n
    wins[~positive] = 1 - (ranks[~positive] - rankdata(known.score[~positive])) / m
    auc = wins[positive].mean()
    weight = np.where(positive, len(known) / m, len(known) / n)
    return (wins - auc) * weight


def _standard_error(influence: Array) -> float:
    return float(influence.std(ddof=1) / math.sqrt(len(influence)))


def _resampled(known: Outcomes, score: Callable[[Outcomes], float | None]) -> Array:
    return _bootstrap(len(known), lambda rows: score(known.take(rows)))


def _bootstrap(size: int, statistic: Callable[[Array], float | None]) -> Array:
    """``statistic`` on resampled rows; resamples on which it is undefined are left out."""
    random = np.random.default_rng(SEED)
    draws: list[Any] = [statistic(random.integers(0, size, size)) for _ in range(RESAMPLES)]
    return np.array([draw for draw in draws if draw is not None])
