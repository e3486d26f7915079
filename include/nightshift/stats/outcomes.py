"""Predictions whose truth is known, in arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from nightshift.stats.ranges import Task

Array = np.ndarray


@dataclass(frozen=True)
class Outcomes:
    """Predictions whose truth is known, row by row.

    ``truth`` and ``score`` are float64 of shape (n,): the value and its prediction in regression,
    0 or 1 and the score of 1 (a probability, or what ``decision_function`` gives) in binary
    classification, where ``label`` is 0.0 or 1.0 as the pipeline has decided; without it 1 is what
    has a score of one half or more. In multiclass classification ``truth`` and ``label`` are str
    arrays of objects and ``score`` is that of ``label``.
    """

    truth: Array
    score: Array
    label: Array | None = None

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, rows: Array) -> Outcomes:
        label = None if self.label is None else self.label[rows]
        return Outcomes(self.truth[rows], self.score[rows], label)

    @property
    def multiclass(self) -> bool:
        """Whether classes are text, of any number."""
        return self.truth.dtype == object

    @property
    def decided(self) -> Array:
        """The class that was told for each row."""
        if self.label is not None:
            return self.label
        return (self.score >= 0.5).astype(np.float64)


def outcomes(rows: pd.DataFrame, task: Task) -> Outcomes:
    """Rows with columns ``value`` (text), ``score`` and ``label`` as :class:`Outcomes`."""
    score = rows["score"].to_numpy(dtype=np.float64)
    if task == "multiclass_classification":
        return Outcomes(
            rows["value"].to_numpy(dtype=object), score, rows["label"].to_numpy(dtype=object)
        )
    truth = rows["value"].to_numpy(dtype=np.float64)
    if task == "regression":
        return Outcomes(truth, score)
    return Outcomes(truth, score, _binary(rows["label"].to_numpy(dtype=object), score))


def nights_of(rows: pd.DataFrame) -> Array:
    """The night of each row, in UTC, as datetime64: of moments with a zone numpy makes objects."""
    return rows["as_of"].to_numpy(dtype="datetime64[us]")


def _binary(label: Array, score: Array) -> Array:
    """Labels as they are stored ("0", "1", None where the score decides) as numbers."""
    return np.where(pd.isna(label), score >= 0.5, label == "1").astype(np.float64)
