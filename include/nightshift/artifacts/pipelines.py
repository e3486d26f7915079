"""A verified version, ready to predict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from nightshift import tables
from nightshift.artifacts.predicting import predict
from nightshift.errors import FOREIGN, ScoringError, words_of
from nightshift.family import Features
from nightshift.records import Version
from nightshift.wording import listed

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


@dataclass(frozen=True)
class Predictions:
    """What a version says about a table, row by row.

    ``score`` is float64, and ``label`` the predicted class as text, None in regression; see
    :func:`nightshift.artifacts.predict`. ``flags`` is int16, see :mod:`nightshift.tables`.
    """

    score: np.ndarray
    label: np.ndarray | None
    flags: np.ndarray


_STATELESS = ("sklearn", "numpy")
"""Packages whose predict and transform change nothing in the estimator."""


@dataclass(frozen=True)
class LoadedVersion:
    """A verified version, ready to predict."""

    version: Version
    pipeline: Pipeline

    def predict(self, table: pa.Table) -> Predictions:
        """Score a table of features; columns are taken by name.

        Raises
        ------
        ScoringError
            The pipeline raised, gave too few scores or too many, or one that is NaN or infinite.
        """
        declared = self.version.manifest.features
        features = Features(numeric=declared["numeric"], categorical=declared["categorical"])
        gone = [name for name in features.names if name not in table.column_names]
        if gone:
            raise ScoringError(
                f"{self} needs {listed(gone)}, which features.sql does not give any more: train"
                f" a version without it (nightshift train {self.version.model.family}), or bring it"
                " back"
            )
        try:
            frame = tables.frame(table, features, missing_text(self.version.manifest))
            score, label = predict(self.pipeline, frame, self.version.manifest.task)
        except FOREIGN as error:  # a pipeline may be of the family's own code
            message = f"{self} cannot score these rows: {words_of(error, discreet=self.discreet)}"
            raise ScoringError(message) from None if self.discreet else error
        if len(score) != table.num_rows:
            raise ScoringError(f"{self} gave {len(score)} scores for {table.num_rows} rows")
        unusable = int((~np.isfinite(score)).sum())
        if unusable:
            raise ScoringError(f"{self} gave {unusable} of {len(score)} scores that are not finite")
        return Predictions(score, label, tables.flags(table, self.version.manifest.profile))

    @property
    def discreet(self) -> bool:
        """Whether messages must not repeat what its family's data say."""
        return self.version.manifest.discreet

    @property
    def bears_threads(self) -> bool:
        """Whether several threads may ask it at once: it is made of scikit-learn's own parts."""
        parts = self.pipeline.get_params(deep=True).values()
        code = [part for part in parts if hasattr(part, "get_params") or callable(part)]
        return all(_module(part) in _STATELESS for part in [self.pipeline, *code])

    def __str__(self) -> str:
        return str(self.version)


def missing_text(manifest: Mapping[str, Any]) -> float | None:
    """What stands for missing text in the frame that a version knows: NaN, or None of before."""
    return math.nan if manifest.get("missing_text") == "NaN" else None


def _module(part: Any) -> str:
    """The package that a part of a pipeline comes from."""
    return str(getattr(part, "__module__", "")).partition(".")[0]
