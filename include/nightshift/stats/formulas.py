"""How far each row pulls a metric from its value, for the metrics that have a formula for it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from nightshift.stats.outcomes import Array, Outcomes

_LEAST = float(np.finfo(np.float64).eps)


def row_scores(metric: str, known: Outcomes) -> Array | None:
    """The scores whose mean the metric is, row by row; None where it is no mean of rows."""
    if metric not in _ROW_SCORES:
        return None
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return np.asarray(_ROW_SCORES[metric](known), dtype=np.float64)


def is_mean(metric: str) -> bool:
    """Whether a metric is a mean of rows: a night's value is then that of its rows."""
    return metric in _ROW_SCORES


def has_formula(metric: str, known: Outcomes) -> bool:
    """Whether a metric has an influence function here."""
    if metric in _ROW_SCORES or metric in _ROOTS:
        return True
    return not known.multiclass and metric in {*_RATIOS, "balanced_accuracy", "roc_auc"}


def influence(metric: str, known: Outcomes) -> Array | None:
    """The influence function of a metric at each row; None where it has no formula here.

    The metric must be defined on the rows.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return _influence(metric, known)


def _influence(metric: str, known: Outcomes) -> Array | None:
    if not has_formula(metric, known):
        return None
    scores = row_scores(metric, known)
    if scores is not None:
        return scores - scores.mean()
    if metric in _ROOTS:
        squares = -_ROW_SCORES[_ROOTS[metric]](known)
        return -(squares - squares.mean()) / (2 * math.sqrt(max(squares.mean(), 1e-300)))
    if metric in _RATIOS:
        top, bottom = _RATIOS[metric](known)
        return np.asarray((top - top.mean() / bottom.mean() * bottom) / bottom.mean())
    return _balanced_influence(known) if metric == "balanced_accuracy" else _auc_influence(known)


def _log_likelihood(known: Outcomes) -> Array:
    likelihood = np.where(known.truth == 1, known.score, 1 - known.score)
    return np.asarray(np.log(np.clip(likelihood, _LEAST, 1 - _LEAST)))


_ROW_SCORES: dict[str, Callable[[Outcomes], Array]] = {
    "neg_mean_absolute_error": lambda known: -np.abs(known.truth - known.score),
    "neg_mean_squared_error": lambda known: -((known.truth - known.score) ** 2),
    "neg_mean_absolute_percentage_error": lambda known: (
        -np.abs(known.truth - known.score) / np.maximum(np.abs(known.truth), _LEAST)
    ),
    "neg_mean_squared_log_error": lambda known: (
        -((np.log1p(known.truth) - np.log1p(known.score)) ** 2)
    ),
    "neg_brier_score": lambda known: -((known.truth - known.score) ** 2),
    "neg_log_loss": _log_likelihood,
    "accuracy": lambda known: (known.truth == known.decided).astype(np.float64),
}

_ROOTS = {
    "neg_root_mean_squared_error": "neg_mean_squared_error",
    "neg_root_mean_squared_log_error": "neg_mean_squared_log_error",
}


def _cells(known: Outcomes) -> tuple[Array, Array, Array]:
    """Row by row: true positive, predicted as 1, truly 1."""
    predicted, positive = known.decided == 1, known.truth == 1
    cells = (predicted & positive, predicted, positive)
    hit, called, true = (cell.astype(np.float64) for cell in cells)
    return hit, called, true


def _precision(known: Outcomes) -> tuple[Array, Array]:
    hit, called, _ = _cells(known)
    return hit, called


def _recall(known: Outcomes) -> tuple[Array, Array]:
    hit, _, true = _cells(known)
    return hit, true


def _f1(known: Outcomes) -> tuple[Array, Array]:
    hit, called, true = _cells(known)
    return 2 * hit, called + true


def _jaccard(known: Outcomes) -> tuple[Array, Array]:
    hit, called, true = _cells(known)
    return hit, called + true - hit


# Ratios of two means: numerator and denominator, row by row.
_RATIOS: dict[str, Callable[[Outcomes], tuple[Array, Array]]] = {
    "precision": _precision,
    "recall": _recall,
    "f1": _f1,
    "jaccard": _jaccard,
    "r2": lambda known: (
        -((known.truth - known.score) ** 2),
        (known.truth - known.truth.mean()) ** 2,
    ),
}


def _balanced_influence(known: Outcomes) -> Array:
    """The mean of the recalls of both classes: each a ratio of two means."""
    right = (known.truth == known.decided).astype(np.float64)
    pulls = np.zeros(len(known))
    for side in (0.0, 1.0):
        rows = (known.truth == side).astype(np.float64)
        recall = (right * rows).mean() / rows.mean()
        pulls += (right - recall) * rows / rows.mean() / 2
    return pulls


def _auc_influence(known: Outcomes) -> Array:
    from scipy.stats import rankdata

    positive = known.truth == 1
    m, n = int(positive.sum()), int((~positive).sum())
    ranks = rankdata(known.score)
    wins = np.empty(len(known))
    wins[positive] = (ranks[positive] - rankdata(known.score[positive])) / n
    wins[~positive] = 1 - (ranks[~positive] - rankdata(known.score[~positive])) / m
    auc = wins[positive].mean()
    weight = np.where(positive, len(known) / m, len(known) / n)
    return np.asarray((wins - auc) * weight)
