"""Estimators that answer what was predicted already, in the shape that scikit-learn's scorers take.

Each is asked about row numbers. Apart from ``metrics``, which opens this only where a metric is
told: scikit-learn takes a second to import, and most tasks tell none.
"""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from nightshift.stats.outcomes import Array, Outcomes
from nightshift.stats.ranges import Task


def of(task: Task, known: Outcomes, *, probabilities: bool = True) -> BaseEstimator:
    """The stand-in of a task for stored predictions.

    Parameters
    ----------
    probabilities
        Whether the scores of a binary classifier are; else ``decision_function`` gave them.
    """
    if task == "regression":
        return _Stored(known.score)
    if task == "multiclass_classification":
        assert known.label is not None
        return _StoredClasses(known.truth, known.label)
    stand_in = _StoredProbabilities if probabilities else _StoredDecisions
    return stand_in(known.score, known.decided)


class _Stored(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Predictions already made."""

    def __init__(self, score: Array) -> None:
        self.score = score

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, rows: Array) -> Array:
        return np.asarray(self.score[rows])


class _StoredClasses(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classes already told; only the told class's score was kept, so there is no more."""

    def __init__(self, truth: Array, label: Array) -> None:
        self.label = label
        self.classes_ = np.unique(np.concatenate([truth, label]))

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, rows: Array) -> Array:
        return np.asarray(self.label[rows])


class _StoredDecisions(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """What ``decision_function`` gave for 1, and the class that was told."""

    def __init__(self, score: Array, label: Array) -> None:
        self.score = score
        self.label = label
        self.classes_ = np.array([0.0, 1.0])

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, rows: Array) -> Array:
        return np.asarray(self.label[rows])

    def decision_function(self, rows: Array) -> Array:
        return np.asarray(self.score[rows])


class _StoredProbabilities(_StoredDecisions):
    """Probabilities of 1 already told, and the class that was."""

    def predict_proba(self, rows: Array) -> Array:
        positive = self.score[rows]
        return np.column_stack([1 - positive, positive])
