"""Labelled snapshots in, challengers out; then champion and challenger on the same later rows."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from importlib.metadata import version as installed_version
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.isotonic import IsotonicRegression
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

import nightshift
from nightshift import features, metrics, registry
from nightshift.config import Problem
from nightshift.database import Database, Transaction, as_json, queries
from nightshift.family import ModelFamily
from nightshift.records import (
    Comparison,
    ConfigError,
    Model,
    NightshiftError,
    ScoringError,
    TrainingError,
)
from nightshift.registry import LoadedVersion
from nightshift.storage import Store

LIBRARIES = ("scikit-learn", "numpy", "pandas", "pyarrow", "joblib")


@dataclass(frozen=True)
class Span:
    """The nights with ``as_of`` in (start, end]."""

    start: datetime
    end: datetime

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d %H:%M}Z to {self.end:%Y-%m-%d %H:%M}Z"


@dataclass(frozen=True)
class Rows:
    """Labelled rows of a family: their columns with ``as_of``, their truth as text, their nights.

    ``snapshots`` are the content hashes of the snapshots they come from.
    """

    table: pa.Table
    value: np.ndarray
    snapshots: list[str]

    def __len__(self) -> int:
        return len(self.value)

    def of(self, family: ModelFamily, model: Model) -> Rows:
        """The rows of one member; all of them for the model of the whole family."""
        if family.models is None or model.name == family.family or not len(self):
            return self
        return self._where(pc.equal(self.table[family.models.by], model.name))

    def after(self, moment: datetime) -> Rows:
        """The rows of nights later than a moment."""
        return (
            self._where(pc.greater(self.table["as_of"], pa.scalar(moment))) if len(self) else self
        )

    def _where(self, chosen: Any) -> Rows:
        mask = np.asarray(chosen)
        return Rows(self.table.filter(pa.array(mask)), self.value[mask], self.snapshots)


def spans(
    family: ModelFamily, cutoff: datetime, holdout: timedelta | None = None
) -> tuple[Span, Span]:
    """The nights to learn from and the later nights to compare on, both matured at ``cutoff``."""
    end = cutoff - family.labels.maturity
    border = end - (family.promotion.holdout if holdout is None else holdout)
    return Span(border - family.retrain.training.window, border), Span(border, end)


def fit(
    family: ModelFamily,
    model: Model,
    rows: Rows,
    cutoff: datetime,
    learn: Span,
    later: Span,
) -> tuple[Pipeline, dict[str, Any]]:
    """A fitted pipeline and the manifest that can make it again.

    Parameters
    ----------
    rows
        Those of the family in ``learn``, with labels known by ``cutoff``.
    later
        The nights left for the comparison.

    Raises
    ------
    TrainingError
        There are too few labelled rows, only one class, or the estimator raises.
    """
    own = rows.of(family, model)
    truth = _truth(family, own.value)
    _refuse_too_few(family, model, own, truth, learn)
    pipeline = build(family)
    # One thread: the bytes of a fit depend on the number of threads, and small fits are faster so.
    with threadpool_limits(limits=1):
        try:
            pipeline.fit(features.frame(own.table, family.features), truth)
        except (ValueError, TypeError, KeyError, FloatingPointError, MemoryError) as error:
            raise TrainingError(
                f"{model.name}: {family.estimator.build} could not be fitted on {len(own)}"
                f" rows of {learn}: {type(error).__name__}: {error}"
            ) from error
    return pipeline, _manifest(family, model, cutoff, learn, later, own)


def compare(
    family: ModelFamily, rows: Rows, challenger: LoadedVersion, champion: LoadedVersion | None
) -> Comparison:
    """Champion and challenger on the holdout that the challenger's manifest names.

    Parameters
    ----------
    rows
        Those of the family in the holdout, with labels known by the challenger's cutoff. Rows that
        the champion was trained on are left out.
    """
    start, end = (datetime.fromisoformat(m) for m in challenger.version.manifest["holdout"])
    own = rows.of(family, challenger.version.model)
    if champion is not None:
        start = max(start, datetime.fromisoformat(champion.version.manifest["training"][1]))
        own = own.after(start)
    return Comparison(
        champion_version=champion.version.version_id if champion else None,
        challenger_version=challenger.version.version_id,
        metric=family.performance.metric,
        holdout_start=start,
        holdout_end=end,
        row_count=len(own),
        **_difference(family, own, challenger, champion),
    )


def labelled_rows(
    database: Database, store: Store, family: ModelFamily, span: Span, known_by: datetime
) -> Rows:
    """Every row of the accepted snapshots in ``span`` whose label is known by a moment."""
    window = {"family": family.family, "start": span.start, "end": span.end}
    with database.transaction() as tx:
        nights = [(row.as_of, row.content_hash) for row in tx.rows("training.snapshots", **window)]
    with database.bulk() as bulk:
        known = bulk.read(
            queries()["training.labels"],
            {"family": family.family, "start": span.start, "known_by": known_by},
        ).to_pandas()
    tables = [_night(store, family, as_of, content_hash) for as_of, content_hash in nights]
    if not tables or known.empty:
        return Rows(pa.table({}), np.array([], dtype=object), [h for _, h in nights])
    table = pa.concat_tables(tables)
    value = _values_for(table, known)
    labelled = value.notna().to_numpy()
    return Rows(
        table.filter(pa.array(labelled)), value.to_numpy()[labelled], [h for _, h in nights]
    )


def build(family: ModelFamily) -> Pipeline:
    """The family's unfitted pipeline.

    Raises
    ------
    ConfigError
        The module cannot be imported, the function is not there, it raises, or it returns
        something other than a scikit-learn Pipeline.
    """
    module_name, function_name = family.estimator.build.split(".")
    file = family.folder / f"{module_name}.py"
    where = f"{family.family}: {file}: {function_name}"
    function = getattr(registry.family_module(family.folder, module_name), function_name, None)
    if not callable(function):
        raise ConfigError(f"{where} is not there; model.yaml names it under estimator.build")
    arguments = {"numeric": family.features.numeric, "categorical": family.features.categorical}
    try:
        pipeline = function(**arguments, seed=family.estimator.seed, **family.estimator.params)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where} refused estimator.params: {error}") from error
    if not isinstance(pipeline, Pipeline):
        raise ConfigError(
            f"{where} returned {type(pipeline).__name__}, not a sklearn.pipeline.Pipeline"
        )
    return pipeline


def estimator_problems(family: ModelFamily) -> Iterator[Problem]:
    """What is wrong with the family's estimator or metric, without fitting anything."""
    file = family.folder / "model.yaml"
    try:
        build(family)
    except NightshiftError as error:
        yield Problem(file, "estimator.build", str(error))
    for metric in family.performance.metrics:
        problem = metrics.metric_problem(metric, family.task)
        if problem:
            key = "metric" if metric == family.performance.metric else "also"
            yield Problem(file, f"performance.{key}", problem)


def _night(store: Store, family: ModelFamily, as_of: datetime, content_hash: str) -> pa.Table:
    table = store.read_table(content_hash)
    problems = features.shape_problems(table.schema, family.features, family.keys, exact=False)
    if problems:
        raise TrainingError(
            f"{family.family}: the snapshot of {as_of.isoformat()} was frozen for other features"
            f" than model.yaml declares now: {'; '.join(problems)}"
        )
    moments = pa.array([as_of] * table.num_rows, pa.timestamp("us", "UTC"))
    wanted = table.select(family.columns)
    return wanted.append_column("as_of", moments)


def _values_for(table: pa.Table, known: pd.DataFrame) -> pd.Series:
    """The label of each row, by entity, or by entity and as_of where labels answer one."""
    keys = table.select(["entity_id", "as_of"]).to_pandas()
    if known["answers"].isna().all():
        return keys["entity_id"].map(known.set_index("entity_id")["value"])
    merged = keys.merge(
        known, how="left", left_on=["entity_id", "as_of"], right_on=["entity_id", "answers"]
    )
    return merged["value"]


def _truth(family: ModelFamily, values: np.ndarray) -> np.ndarray:
    if family.task == "regression":
        return values.astype(np.float64)
    if family.task == "binary_classification":
        return values.astype(np.int64)
    return values.astype(object)


def least_rows(family: ModelFamily) -> int:
    """With fewer labelled rows than this nothing is trained."""
    return family.retrain.training.min_rows or family.performance.min_labels


def _refuse_too_few(
    family: ModelFamily, model: Model, rows: Rows, truth: np.ndarray, learn: Span
) -> None:
    least = least_rows(family)
    if len(rows) < least:
        raise TrainingError(
            f"{model.name}: {len(rows)} labelled rows in {len(rows.snapshots)} snapshots of"
            f" {learn}, and {least} are needed (retrain.training.min_rows, or else"
            " performance.min_labels). Collect labels, widen retrain.training.window, or check that"
            " labels.sql and features.sql agree on entity_id"
        )
    if family.task != "regression" and len(np.unique(truth)) < 2:
        raise TrainingError(
            f"{model.name}: the {len(rows)} labelled rows of {learn} are all {truth[0]!r};"
            " a classifier needs at least two classes"
        )


def _manifest(
    family: ModelFamily, model: Model, cutoff: datetime, learn: Span, later: Span, rows: Rows
) -> dict[str, Any]:
    return {
        "family": family.family,
        "model": model.name,
        "task": family.task,
        "features": family.features.model_dump(),
        "estimator": family.estimator.model_dump(),
        "threads": 1,
        "cutoff": cutoff.isoformat(),
        "training": [learn.start.isoformat(), learn.end.isoformat()],
        "holdout": [later.start.isoformat(), later.end.isoformat()],
        "snapshots": rows.snapshots,
        "rows": len(rows),
        "profile": features.profile(rows.table, family.features),
        "python": platform.python_version(),
        "libraries": {name: installed_version(name) for name in LIBRARIES},
        "nightshift": nightshift.__version__,
    }


def _difference(
    family: ModelFamily, rows: Rows, challenger: LoadedVersion, champion: LoadedVersion | None
) -> dict[str, Any]:
    """Both values, their paired difference, and what the challenger is worth; None where untold."""
    nothing = dict.fromkeys(("champion_value", "challenger_value", "difference", "low"))
    if not len(rows):
        return nothing
    metric, task = family.performance.metric, family.task
    told = _told(rows, challenger)
    after = metrics.outcomes(told, task)
    nothing |= {"challenger_value": metrics.value(metric, task, after)}
    found = {**nothing, "reference": _reference(family, told)}
    if champion is None or found["challenger_value"] is None:
        return found
    before = metrics.outcomes(_told(rows, champion), task)
    paired = metrics.paired_difference(
        metric, task, before, after,
        confidence=family.promotion.confidence, nights=told["as_of"].to_numpy(),
    )  # fmt: skip
    if paired is None:
        return found
    old = metrics.value(metric, task, before)
    return {**found, "champion_value": old, "difference": paired.value, "low": paired.low}


def _reference(family: ModelFamily, told: pd.DataFrame) -> dict[str, Any]:
    """What a version is worth on rows it was not trained on, and how its scores lie there."""
    worth = {
        metric: metrics.reference(metric, family.task, told)
        for metric in family.performance.metrics
    }
    found: dict[str, Any] = {
        "rows": len(told),
        "metrics": {name: asdict(value) for name, value in worth.items() if value is not None},
        "scores": features.histogram(told["score"].to_numpy()),
    }
    if family.task == "binary_classification":
        found["calibration"] = _calibration(told)
    return found


def _calibration(told: pd.DataFrame) -> dict[str, list[float]]:
    """The share of ones by score, rising: the corners of an isotonic regression."""
    truth = told["value"].to_numpy(dtype=np.float64)
    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(told["score"], truth)
    return {"score": fitted.X_thresholds_.tolist(), "share": fitted.y_thresholds_.tolist()}


def _told(rows: Rows, model: LoadedVersion) -> pd.DataFrame:
    """Columns ``as_of``, ``value``, ``score``, ``label`` of rows that a version has scored."""
    try:
        predicted = model.predict(rows.table)
    except ScoringError as error:
        raise TrainingError(f"{model}: the comparison failed: {error}") from error
    return pd.DataFrame(
        {
            "as_of": rows.table["as_of"].to_pandas(),
            "value": rows.value,
            "score": predicted.score,
            "label": predicted.label,
        }
    )


def register_comparison(tx: Transaction, comparison: Comparison, *, now: datetime) -> int:
    """Store a comparison; comparing a challenger again returns the first one's id."""
    reference = None if comparison.reference is None else as_json(comparison.reference)
    stored = {**asdict(comparison), "reference": reference}
    tx.run("training.append_comparison", **stored, compared_at=now)
    found: int = tx.one(
        "training.find_comparison", challenger_version=comparison.challenger_version
    ).comparison_id
    return found


def comparison(tx: Transaction, comparison_id: int) -> Comparison:
    """The comparison of this id."""
    row = tx.one("training.get_comparison", comparison_id=comparison_id)
    return Comparison(**{name: getattr(row, name) for name in Comparison.__dataclass_fields__})
