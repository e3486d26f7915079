"""Estimators that answer what was predicted already, in the shape that scikit-learn's scorers take.

Each is asked about row numbers. Apart from ``metrics``, which opens this only where a metric is
told: scikit-learn takes a second to import, and most tasks tell none.
"""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

Array = np.ndarray


def of(task: str, truth: Array, score: Array, label: Array | None) -> BaseEstimator:
    """The stand-in of a task for stored predictions."""
    if task == "regression":
        return _Stored(score)
    if task == "binary_classification":
        return _StoredProbabilities(score)
    assert label is not None
    return _StoredClasses(truth, label)


class _Stored(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Predictions already made."""

    def __init__(self, score: Array) -> None:
        self.score = score

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, rows: Array) -> Array:
        return np.asarray(self.score[rows])


class _StoredClasses(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classes already told; only the told class's probability was kept, so there is no more."""

    def __init__(self, truth: Array, label: Array) -> None:
        self.label = label
        self.classes_ = np.unique(np.concatenate([truth, label]))

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, rows: Array) -> Array:
        return np.asarray(self.label[rows])


class _StoredProbabilities(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Probabilities of 1 already told; the class is 1 from one half on."""

    def __init__(self, score: Array) -> None:
        self.score = score
        self.classes_ = np.array([0.0, 1.0])

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, rows: Array) -> Array:
        return np.asarray(self.score[rows] >= 0.5, dtype=np.float64)

    def predict_proba(self, rows: Array) -> Array:
        positive = self.score[rows]
        return np.column_stack([1 - positive, positive])
