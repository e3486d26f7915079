"""Labelled snapshots in, challengers out, each with the manifest that can make it again."""

from __future__ import annotations

import copy
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

import nightshift
from nightshift import features, metrics, recipe
from nightshift.config import Problem
from nightshift.database import Database, Transaction, queries
from nightshift.family import ModelFamily, Training
from nightshift.records import Model, NightshiftError, TrainingError, Version, words_of
from nightshift.registry import LoadedVersion
from nightshift.storage import Store

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


LIBRARIES = ("scikit-learn", "numpy", "scipy", "pandas", "pyarrow", "joblib", "threadpoolctl")

YEAR = 365.2425
"""Days; the matching week of an earlier year lies a whole number of weeks back."""

Exclusion = Literal["quarantined", "erased", "released"]


@dataclass(frozen=True)
class Span:
    """The nights with ``as_of`` in (start, end]."""

    start: datetime
    end: datetime

    def __contains__(self, moment: datetime) -> bool:
        return self.start < moment <= self.end

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d %H:%M}Z to {self.end:%Y-%m-%d %H:%M}Z"


@dataclass(frozen=True)
class Plan:
    """Which nights a retrain looks at, as known at ``cutoff``.

    Parameters
    ----------
    learn
        The spans to learn from, oldest first; the last one ends where ``later`` begins.
    later
        The nights that challengers are compared on.
    stated_by
        Entities that were excluded by this moment do not enter.
    """

    cutoff: datetime
    learn: tuple[Span, ...]
    later: Span
    stated_by: datetime

    @property
    def border(self) -> datetime:
        """The last moment to learn from."""
        return self.later.start


@dataclass(frozen=True)
class Taken:
    """A night's snapshot, and when it was frozen."""

    as_of: datetime
    content_hash: str
    taken_at: datetime


@dataclass(frozen=True)
class Rows:
    """Labelled rows of a family: their columns with ``as_of``, their truth as text, their nights.

    ``snapshots`` are those that the rows come from.
    """

    table: pa.Table
    value: np.ndarray
    snapshots: Sequence[Taken]

    def __len__(self) -> int:
        return len(self.value)

    @property
    def nights(self) -> np.ndarray:
        """The night of each row."""
        return np.asarray(self.table["as_of"].to_numpy())

    def of(self, family: ModelFamily, model: Model) -> Rows:
        """The rows of one member; all of them for the model of the whole family."""
        if family.models is None or model.name == family.family or not len(self):
            return self
        return self.where(pc.equal(self.table[family.models.by], model.name))

    def after(self, moment: datetime) -> Rows:
        """The rows of nights later than a moment."""
        if not len(self):
            return self
        later = self.where(pc.greater(self.table["as_of"], pa.scalar(moment)))
        return replace(later, snapshots=[s for s in self.snapshots if s.as_of > moment])

    def take(self, places: np.ndarray) -> Rows:
        """The rows at these places."""
        return replace(self, table=self.table.take(pa.array(places)), value=self.value[places])

    def where(self, chosen: Any) -> Rows:
        """The rows for which ``chosen`` is true."""
        mask = np.asarray(chosen)
        return replace(self, table=self.table.filter(pa.array(mask)), value=self.value[mask])


def plan(
    family: ModelFamily,
    cutoff: datetime,
    *,
    now: datetime,
    holdout: timedelta | None = None,
    learnt: Iterable[datetime] = (),
) -> Plan:
    """The nights to learn from by ``retrain.training``, and the later ones to compare on.

    All of them have matured at ``cutoff``.

    Parameters
    ----------
    learnt
        Until when the champions have learnt, from where the policy ``incremental`` goes on.
    """
    training = family.retrain.training
    end = cutoff - family.labels.maturity
    border = end - (family.promotion.holdout if holdout is None else holdout)
    window = Span(border - training.window, border)
    learn = [window]
    if training.policy == "mix":
        assert training.past is not None
        learn.insert(0, Span(window.start - training.past, window.start))
    elif training.policy == "same_season":
        for years in range(1, (training.years or 0) + 1):
            back = timedelta(weeks=round(years * YEAR / 7))
            season = Span(window.start - back, border + training.window - back)
            learn.insert(0, Span(season.start, min(season.end, learn[0].start)))
    elif training.policy == "incremental":
        learn = [Span(min([window.start, *learnt]), border)]
    return Plan(cutoff, tuple(learn), Span(border, end), now)


def learnt_until(version: Version) -> datetime:
    """The last moment that a version has learnt from."""
    return datetime.fromisoformat(version.manifest["training"][1])


def learnable(
    family: ModelFamily, model: Model, rows: Rows, plan: Plan, base: Version | None = None
) -> Rows:
    """The rows that a model learns from.

    Parameters
    ----------
    rows
        Those of the family in ``plan.learn``.
    base
        The version that the policy ``incremental`` goes on from.
    """
    training, own = family.retrain.training, rows.of(family, model)
    if training.policy == "incremental":
        return own.after(learnt_until(base) if base else plan.border - training.window)
    if training.policy == "mix" and len(own):
        return own.take(_mixed(own, plan.learn[-1].start, training, family.estimator.seed))
    return own


def _mixed(rows: Rows, start: datetime, training: Training, seed: int) -> np.ndarray:
    """The places of all rows after ``start``, and of a sample of the earlier ones."""
    assert training.share is not None
    recent = np.asarray(pc.greater(rows.table["as_of"], pa.scalar(start)))
    past = np.flatnonzero(~recent)
    wanted = round(training.share / (1 - training.share) * int(recent.sum()))
    drawn = np.random.default_rng(seed).choice(past, min(wanted, len(past)), replace=False)
    return np.sort(np.concatenate([drawn, np.flatnonzero(recent)]))


def fit(
    family: ModelFamily,
    model: Model,
    rows: Rows,
    plan: Plan,
    *,
    base: LoadedVersion | None = None,
) -> tuple[Pipeline, dict[str, Any]]:
    """A fitted pipeline and the manifest that can make it again.

    Parameters
    ----------
    rows
        Those of the family in ``plan.learn``, with labels known by ``plan.cutoff``.
    base
        The champion that the policy ``incremental`` goes on from; None makes a fresh start.

    Raises
    ------
    TrainingError
        There are too few labelled rows, only one class, the estimator raises, or it cannot go on
        from a champion.
    """
    own = learnable(family, model, rows, plan, base.version if base else None)
    _refuse_too_few(family, model, own, plan, base)
    truth = truth_of(family, own.value)
    frame = features.frame(own.table, family.features)
    params, found = family.estimator.params, None
    if family.estimator.search is not None and base is None:
        from nightshift import search

        found = search.best(family, frame, truth, own.nights)
        params = {**params, **found.params}
    threads = recipe.threads_for(frame)
    if base is not None:
        params = base.version.manifest["estimator"]["params"]
    pipeline = make(family, model, params, frame, truth, threads, base)
    manifest = _manifest(family, model, plan, own, base.version if base else None) | {
        "estimator": _estimator(family, params),
        "threads": threads,
        "pipeline": recipe.describe(pipeline),
    }
    if found is not None and family.estimator.search is not None:
        manifest["search"] = found.record(family.estimator.search)
    return pipeline, manifest


def make(
    family: ModelFamily,
    model: Model,
    params: Mapping[str, Any],
    frame: pd.DataFrame,
    truth: np.ndarray,
    threads: int,
    base: LoadedVersion | None,
) -> Pipeline:
    """A pipeline fitted on these rows, or one that has gone on from ``base``."""
    # What a loaded version holds is shared by everybody who loads it.
    pipeline = copy.deepcopy(base.pipeline) if base else recipe.build(family, params)
    try:
        if base is None:
            recipe.fit(pipeline, frame, truth, threads)
        elif _goes_on(pipeline):
            recipe.go_on(pipeline, frame, truth, threads)
        else:
            told = _cannot_go_on(family, pipeline)
            raise TrainingError(f"{model.name}: retrain.training.policy {told}")
    except recipe.FIT_ERRORS as error:
        raise TrainingError(
            f"{model.name}: {family.estimator.build} could not be fitted on {len(frame)} rows:"
            f" {words_of(error, discreet=family.discreet)}"
        ) from None if family.discreet else error
    return pipeline


def labelled_rows(
    database: Database,
    store: Store,
    family: ModelFamily,
    spans: Sequence[Span],
    known_by: datetime,
    *,
    now: datetime,
) -> Rows:
    """Every row of the accepted snapshots in ``spans`` whose label is known by a moment.

    Rows of entities that were excluded by ``now`` are left out, and so are rows whose truth was
    stated by their own night already.
    """
    start, end = spans[0].start, spans[-1].end
    with database.transaction() as tx:
        found = tx.rows("training.snapshots", family=family.family, start=start, end=end)
    nights = [Taken(row.as_of, row.content_hash, row.taken_at) for row in found]
    wanted = [night for night in nights if any(night.as_of in span for span in spans)]
    return rows_of(database, store, family, wanted, start, known_by, now)


def rows_of(
    database: Database,
    store: Store,
    family: ModelFamily,
    nights: Sequence[Taken],
    start: datetime,
    known_by: datetime,
    stated_by: datetime,
) -> Rows:
    """The rows of some nights whose label became known after ``start`` and by ``known_by``."""
    with database.bulk() as bulk:
        asked = {"family": family.family, "start": start, "known_by": known_by}
        known = bulk.read(queries()["training.labels"], asked).to_pandas()
    with database.transaction() as tx:
        excluded = excluded_entities(tx, family.family, stated_by)
    known = known[~known["entity_id"].isin(excluded)]
    tables = [_night(store, family, night) for night in nights]
    if not tables or known.empty:
        return Rows(pa.table({}), np.array([], dtype=object), nights)
    table = pa.concat_tables(tables)
    told = _told_of(table, known)
    labelled = (told["value"].notna() & (told["first_stated"] > told["as_of"])).to_numpy()
    return Rows(table.filter(pa.array(labelled)), told["value"].to_numpy()[labelled], nights)


def without_learnt(
    store: Store,
    family: ModelFamily,
    rows: Rows,
    versions: Iterable[Version],
    met: dict[str, pa.ChunkedArray],
) -> Rows:
    """The rows of entities that none of the versions has met in training.

    Where a label answers an entity for good, whoever has learnt it knows the answer on any night.

    Parameters
    ----------
    met
        The entities by snapshot, as far as they were read already; filled here.
    """
    if family.labels.per != "entity" or not len(rows):
        return rows
    learnt = {
        content_hash for version in versions for content_hash in version.manifest["snapshots"]
    }
    for content_hash in learnt - met.keys():
        met[content_hash] = store.read_table(content_hash, ["entity_id"])["entity_id"]
    entities = pa.chunked_array(
        [chunk for content_hash in learnt for chunk in met[content_hash].chunks], pa.string()
    )
    return rows.where(pc.invert(pc.is_in(rows.table["entity_id"], value_set=entities)))


def goes_on_from(
    tx: Transaction, family: ModelFamily, champion: Version | None, *, now: datetime
) -> Version | None:
    """The version that a retrain goes on from; None where it makes a fresh start.

    That is where the policy is not ``incremental``, where nobody serves, and where an entity was
    excluded since the champion was trained: it may have learnt from that entity.
    """
    if family.retrain.training.policy != "incremental" or champion is None:
        return None
    trained = champion.manifest.get("excluded_by", champion.trained_at.isoformat())
    since = {"since": datetime.fromisoformat(trained), "stated_by": now}
    fresh = tx.one("training.excluded_since", family=family.family, **since).entities
    return None if fresh else champion


def excluded_entities(tx: Transaction, family: str, stated_by: datetime) -> list[str]:
    """The entities that nothing may learn from, as far as was said by a moment.

    An erased one is left out whenever that was said.
    """
    rows = tx.rows("training.excluded", family=family, stated_by=stated_by)
    return [row.entity_id for row in rows]


def exclude(
    tx: Transaction,
    family: str,
    entity_id: str,
    state: Exclusion,
    *,
    reason: str,
    by: str,
    now: datetime,
) -> int:
    """Leave an entity out of training and comparisons from now on, or release it.

    Returns
    -------
    int
        How many labels of the entity are known. Saying the same again changes nothing.

    Raises
    ------
    TrainingError
        It was erased, which is for good, or there is nothing to release.
    """
    entity = {"family": family, "entity_id": entity_id}
    before = tx.maybe("training.exclusion", **entity)
    said = before.state if before else "released"
    if before is not None and said == "erased" != state:
        raise TrainingError(
            f"{family}: {entity_id!r} was erased at {before.as_of.isoformat()}, which is for good"
        )
    if state == "released" and said == "released":
        raise TrainingError(f"{family}: {entity_id!r} is not quarantined; there is nothing to undo")
    if said != state:
        tx.run("training.exclude", **entity, state=state, reason=reason, said_by=by, as_of=now)
        tx.record(state, now=now, family=family, as_of=now, reason=reason, by=by)
    found: int = tx.one("training.known_labels", **entity).labels
    return found


def estimator_problems(family: ModelFamily) -> Iterator[Problem]:
    """What is wrong with the family's estimator or metric, without fitting anything."""
    from nightshift import search

    file = family.folder / "model.yaml"
    try:
        pipeline = recipe.build(family, search.first_choice(family))
        wrong = list(search.problems(family))
    except NightshiftError as error:
        wrong = list(_told_where_it_is(family, error))
    else:
        if family.retrain.training.policy == "incremental" and not _goes_on(pipeline):
            wrong.append(("retrain.training.policy", _cannot_go_on(family, pipeline)))
    yield from (Problem(file, key, told) for key, told in wrong)
    for metric in family.performance.metrics:
        problem = metrics.metric_problem(metric, family.task)
        if problem:
            key = "metric" if metric == family.performance.metric else "also"
            yield Problem(file, f"performance.{key}", problem)


def _told_where_it_is(family: ModelFamily, error: NightshiftError) -> Iterator[tuple[str, str]]:
    """What build refuses, and of a search what it may have refused: the key, not the call."""
    from nightshift import search

    try:
        wrong = list(search.problems(family))
    except NightshiftError:
        wrong = []
    yield from wrong or [("estimator.build", str(error))]


def _night(store: Store, family: ModelFamily, taken: Taken) -> pa.Table:
    table, as_of = store.read_table(taken.content_hash), taken.as_of
    problems = features.shape_problems(table.schema, family.features, family.keys, exact=False)
    if problems:
        raise TrainingError(
            f"{family.family}: the snapshot of {as_of.isoformat()} was frozen for other features"
            f" than model.yaml declares now: {'; '.join(problems)}"
        )
    moments = pa.array([as_of] * table.num_rows, pa.timestamp("us", "UTC"))
    wanted = table.select(family.columns)
    return wanted.append_column("as_of", moments)


def _told_of(table: pa.Table, known: pd.DataFrame) -> pd.DataFrame:
    """The label of each row, by entity, or by entity and as_of where labels answer one."""
    keys = table.select(["entity_id", "as_of"]).to_pandas()
    if known["answers"].isna().all():
        return keys.merge(known.drop(columns="answers"), how="left", on="entity_id")
    return keys.merge(
        known, how="left", left_on=["entity_id", "as_of"], right_on=["entity_id", "answers"]
    )


def truth_of(family: ModelFamily, values: np.ndarray) -> np.ndarray:
    """Labels as an estimator is given them."""
    if family.task == "regression":
        return values.astype(np.float64)
    if family.task == "binary_classification":
        return values.astype(np.int64)
    return values.astype(object)


def least_rows(family: ModelFamily) -> int:
    """With fewer labelled rows than this nothing is trained."""
    return family.retrain.training.min_rows or family.performance.min_labels


def _refuse_too_few(
    family: ModelFamily,
    model: Model,
    rows: Rows,
    plan: Plan,
    base: LoadedVersion | None,
) -> None:
    least = least_rows(family)
    nights = ", ".join(map(str, _spans(family, plan, base.version if base else None)))
    if len(rows) < least:
        advice = (
            f"{base} has learnt the nights before; wait for labels of later ones"
            if base
            else "Collect labels, widen retrain.training.window, or check that labels.sql and"
            " features.sql agree on entity_id"
        )
        raise TrainingError(
            f"{model.name}: {len(rows)} labelled rows in {len(rows.snapshots)} snapshots of"
            f" {nights}, and {least} are needed (retrain.training.min_rows, or else"
            f" performance.min_labels). {advice}"
        )
    classes = set(rows.value)
    if family.task != "regression" and len(classes) < 2 and base is None:
        found = "of one class" if family.discreet else repr(classes.pop())
        raise TrainingError(
            f"{model.name}: the {len(rows)} labelled rows of {nights} are all {found};"
            " a classifier needs at least two classes"
        )


def _goes_on(pipeline: Pipeline) -> bool:
    return hasattr(pipeline[-1], "partial_fit")


def _cannot_go_on(family: ModelFamily, pipeline: Pipeline) -> str:
    return (
        f"is incremental, and {type(pipeline[-1]).__name__}, the last step of"
        f" {family.estimator.build}, has no partial_fit; choose an estimator that has it, such as"
        " SGDRegressor, or another policy"
    )


def _spans(family: ModelFamily, plan: Plan, base: Version | None) -> tuple[Span, ...]:
    """The nights that one model learns from: all of the plan, or those it has not learnt yet."""
    if family.retrain.training.policy != "incremental":
        return plan.learn
    start = learnt_until(base) if base else plan.border - family.retrain.training.window
    return (Span(start, plan.border),)


def _manifest(
    family: ModelFamily, model: Model, plan: Plan, rows: Rows, base: Version | None
) -> dict[str, Any]:
    spans = _spans(family, plan, base)
    return {
        "family": family.family,
        "model": model.name,
        "task": family.task,
        "discreet": family.discreet,
        "features": family.features.model_dump(),
        "dtypes": [[name, _dtype(family, name)] for name in family.features.names],
        "policy": family.retrain.training.model_dump(mode="json"),
        "base": _base(base) if base else None,
        "cutoff": plan.cutoff.isoformat(),
        "training": [spans[0].start.isoformat(), spans[-1].end.isoformat()],
        "spans": [[span.start.isoformat(), span.end.isoformat()] for span in spans],
        "labels_since": plan.learn[0].start.isoformat(),
        "excluded_by": plan.stated_by.isoformat(),
        "holdout": [plan.later.start.isoformat(), plan.later.end.isoformat()],
        "snapshots": [taken.content_hash for taken in rows.snapshots],
        "nights": [taken.as_of.isoformat() for taken in rows.snapshots],
        "bootstrapped": [t.as_of.isoformat() for t in rows.snapshots if _too_late(family, t)],
        "rows": len(rows),
        "profile": features.profile(rows.table, family.features),
        "python": platform.python_version(),
        "libraries": {name: installed_version(name) for name in LIBRARIES},
        "nightshift": nightshift.__version__,
        "code": {"family": recipe.code_of(family.folder), "commit": _commit()},
    }


def _estimator(family: ModelFamily, params: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "build": family.estimator.build,
        "params": dict(params),
        "seed": family.estimator.seed,
    }


def _dtype(family: ModelFamily, name: str) -> str:
    return "float64" if name in family.features.numeric else "text"


def _base(version: Version) -> dict[str, Any]:
    return {
        "version_id": version.version_id,
        "number": version.number,
        "artifact_hash": version.artifact_hash,
    }


def _too_late(family: ModelFamily, taken: Taken) -> bool:
    """Whether a night was frozen only when the next one had begun: by a bootstrap."""
    return taken.taken_at >= family.next_tick(taken.as_of)


@cache
def _commit() -> str | None:
    """The commit of this checkout; None where nightshift does not run from one."""
    folder = Path(__file__).parent
    try:
        asked = subprocess.run(
            ["git", "-C", folder, "rev-parse", "HEAD"],  # noqa: S607 - whichever git there is
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return asked.stdout.strip() or None
