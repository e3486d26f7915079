"""A version as an ONNX file, and how far it agrees with the pipeline on rows it was not trained on.

Needs the extra ``onnx``, which nothing else does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nightshift import artifacts, tables
from nightshift.artifacts import LoadedVersion
from nightshift.errors import TrainingError, extra_missing, words_of
from nightshift.family import Features
from nightshift.training.rows import Rows

TOLERANCE = {"regression": 1e-9, "classification": 1e-5}
"""By how much two scores may differ, relative to the score or to 1.

ONNX has its operators for classifiers in single precision only.
"""


@dataclass(frozen=True)
class Parity:
    """The pipeline and its ONNX file on the same rows.

    ``difference`` is the largest between two scores, ``labels`` how many labels differ.
    ``left_out`` rows hold a null in a column of text, which ONNX cannot.
    """

    file: str
    rows: int
    left_out: int
    difference: float
    labels: int
    agrees: bool
    sentence: str


def export(loaded: LoadedVersion, rows: Rows, file: Path) -> Parity:
    """Write a version as ONNX and compare it on rows.

    Inputs are named as the features: text is a string, a number is a double in regression and a
    float in classification, each of shape (rows, 1).

    Raises
    ------
    SetupError
        The extra is not installed.
    TrainingError
        There are no rows to compare on, or skl2onnx cannot convert the pipeline.
    """
    manifest = loaded.version.manifest
    declared = Features.model_validate(manifest.features)
    whole = (
        tables.frame(rows.table, declared, artifacts.missing_text(manifest))
        if len(rows)
        else pd.DataFrame()
    )
    frame = whole.dropna(subset=declared.categorical) if len(rows) else whole
    if frame.empty:
        raise TrainingError(
            f"{loaded}: its holdout has no labelled rows without nulls to compare on;"
            " nothing was written"
        )
    if _kind(loaded) == "classification" and not hasattr(loaded.pipeline, "predict_proba"):
        raise TrainingError(
            f"{loaded}: {type(loaded.pipeline[-1]).__name__} has no predict_proba, and an ONNX file"
            " of a classifier gives probabilities; nothing was written"
        )
    converted = _converted(loaded, declared)
    before = artifacts.predict(loaded.pipeline, frame, manifest.task)
    after = artifacts.predict(_Session(converted, loaded, declared), frame, manifest.task)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(converted)
    return _parity(loaded, file, len(whole) - len(frame), before, after)


class _Session:
    """An ONNX file that predicts as a pipeline does."""

    def __init__(self, converted: bytes, loaded: LoadedVersion, declared: Features) -> None:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as refused

        providers = ["CPUExecutionProvider"]
        try:
            self._session = onnxruntime.InferenceSession(converted, providers=providers)
        except (refused.Fail, refused.NotImplemented, refused.InvalidGraph) as error:
            error_sentence = words_of(error, discreet=loaded.discreet)
            raise TrainingError(
                f"{loaded}: onnxruntime refuses what skl2onnx made of it: {error_sentence}"
            ) from None if loaded.discreet else error
        self._declared = declared
        self._number = np.float64 if _kind(loaded) == "regression" else np.float32
        self.classes_ = getattr(loaded.pipeline, "classes_", None)

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        return np.asarray(self._run(frame)[0]).ravel()

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        return np.asarray(self._run(frame)[1])

    def _run(self, frame: pd.DataFrame) -> Any:
        kinds = dict.fromkeys(self._declared.numeric, self._number)
        fed = {name: frame[[name]].to_numpy(kinds.get(name, object)) for name in frame}
        return self._session.run(None, fed)


def _converted(loaded: LoadedVersion, declared: Features) -> bytes:
    try:
        import onnxruntime  # noqa: F401 - told before anything is converted
        from skl2onnx import convert_sklearn
        from skl2onnx.common import data_types
    except ImportError as error:
        raise extra_missing("the export to ONNX", error.name, "onnx") from error
    column, classifies = [None, 1], _kind(loaded) == "classification"
    number = data_types.FloatTensorType if classifies else data_types.DoubleTensorType
    inputs = [(name, number(column)) for name in declared.numeric]
    inputs += [(name, data_types.StringTensorType(column)) for name in declared.categorical]
    options = {id(loaded.pipeline): {"zipmap": False}} if classifies else None
    try:
        model = convert_sklearn(loaded.pipeline, initial_types=inputs, options=options)
    except (RuntimeError, NotImplementedError, ValueError, TypeError) as error:
        error_sentence = words_of(error, discreet=loaded.discreet).strip().splitlines()[0][:200]
        raise TrainingError(f"{loaded}: skl2onnx cannot convert it: {error_sentence}") from (
            None if loaded.discreet else error
        )
    converted: bytes = model.SerializeToString()
    return converted


def _kind(loaded: LoadedVersion) -> str:
    return "regression" if loaded.version.manifest.task == "regression" else "classification"


def _parity(loaded: LoadedVersion, file: Path, left_out: int, before: Any, after: Any) -> Parity:
    (scores, labels), (scores_again, labels_again) = before, after
    apart, allowed = np.abs(scores - scores_again), TOLERANCE[_kind(loaded)]
    differ = 0 if labels is None else int((labels != labels_again).sum())
    agrees = not differ and bool((apart <= allowed * np.maximum(np.abs(scores), 1)).all())
    sentence = (
        f"{loaded} is in {file}: on {len(scores):,} rows of its holdout scores differ by up to"
        f" {apart.max():.3g}"
        + (f", {differ:,} labels differ" if labels is not None else "")
        + (f"; {left_out:,} rows with nulls in text were not compared" if left_out else "")
        + ("." if agrees else "; that is more than arithmetic explains: do not serve it.")
    )
    largest = float(apart.max())
    return Parity(str(file), len(scores), left_out, largest, differ, agrees, sentence)
