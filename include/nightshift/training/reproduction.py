"""A version trained again from its manifest, and held against what is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

import nightshift
from nightshift import artifacts, tables
from nightshift.artifacts import Code, LegacyCode, LoadedVersion
from nightshift.data import Database, Store
from nightshift.documents import Manifest
from nightshift.errors import TrainingError
from nightshift.family import Estimator, Features, MayDiffer, ModelFamily, Training
from nightshift.records import Version
from nightshift.training import estimators, fitting
from nightshift.training.rows import NightSnapshot, Plan, Rows, Span, learnable, rows_of


@dataclass(frozen=True)
class Reproduction:
    """A version that was trained again from its manifest, beside what it was.

    ``difference`` is the largest between two scores of one training row, None where the artifact is
    not in the store any more; the same bytes are then put back. ``changed`` tells what is not as it
    was: rows, libraries, code.
    """

    family: str
    model: str
    version: int
    same: bool
    artifact: str
    artifact_again: str
    difference: float | None
    rows: int
    changed: tuple[str, ...]
    sentence: str


def reproduce(
    database: Database,
    store: Store,
    family: ModelFamily,
    version: Version,
    loaded: LoadedVersion | None,
    base: LoadedVersion | None,
    code: Code | LegacyCode,
) -> Reproduction:
    """Train a version again, from the same snapshots and labels, with what its manifest records.

    Parameters
    ----------
    loaded
        The version as it is stored; None where its artifact was collected.
    base
        The version it went on from; None where it made a fresh start.
    code
        What it carries, see :meth:`nightshift.registry.Registry.code`.

    Raises
    ------
    TrainingError
        No row is left, or the family's ``build`` cannot be fitted any more.
    SnapshotError
        A snapshot is not in the store any more, or was changed.
    """
    manifest = version.manifest
    then = _as_trained(family, manifest)
    plan = planned(version)
    nights = _nights(database, then, manifest, plan)
    since = manifest.labels_since
    rows = rows_of(database, store, then, nights, since, plan.cutoff, plan.stated_by)
    own = learnable(then, version.model, rows, plan, base.version if base else None)
    if not len(own):
        raise TrainingError(f"{version}: none of its {manifest.rows} rows is left to train on")
    frame, truth = (
        tables.frame(own.table, then.features, artifacts.missing_text(manifest)),
        fitting.truth_of(then, own.value),
    )
    params = manifest.params
    again = fitting.make(
        then, version.model, params, frame, truth, manifest.threads, base=base, code=code
    )
    data = artifacts.to_bytes(again)
    artifact = hashlib.sha256(data).hexdigest()
    changed = tuple(_changes(family, manifest, len(own)))
    same = artifact == version.artifact_hash
    difference = None
    if loaded is not None:
        before, after = (
            artifacts.predict(p, frame, then.task)[0] for p in (loaded.pipeline, again)
        )
        difference = float(np.abs(before - after).max())
    elif same:
        store.write_bytes(data, "joblib")
    return Reproduction(
        version.model.family,
        version.model.name,
        version.number,
        same,
        version.artifact_hash,
        artifact,
        difference,
        len(own),
        changed,
        _sentence(version, same, difference, own, changed),
    )


def _as_trained(family: ModelFamily, manifest: Manifest) -> ModelFamily:
    """The family as a manifest describes it."""
    recipe = {"build": manifest.build, "params": manifest.params, "seed": manifest.seed}
    learnt_by = Training.model_validate(manifest.policy)
    return family.model_copy(
        update={
            "task": manifest.task,
            "features": Features.model_validate(manifest.features),
            "estimator": Estimator.model_validate(recipe),
            "retrain": family.retrain.model_copy(update={"training": learnt_by}),
        }
    )


def as_learnt(family: ModelFamily, version: Version) -> ModelFamily:
    """The family with the policy of training that a version was trained by."""
    learnt_by = Training.model_validate(version.manifest.policy)
    return family.learning_by(learnt_by)


def planned(version: Version) -> Plan:
    """Which nights a version has learnt from, and which were held out, as its manifest says."""
    manifest = version.manifest
    learn = tuple(Span(*span) for span in manifest.spans)
    stated_by = manifest.excluded_by(version.trained_at)
    return Plan(manifest.cutoff, learn, Span(*manifest.holdout), stated_by)


def _nights(
    database: Database, family: ModelFamily, manifest: Manifest, plan: Plan
) -> list[NightSnapshot]:
    """The snapshots a manifest names; one without moments has them from the database."""
    if manifest.nights is not None:
        named = zip(manifest.nights, manifest.snapshots, strict=True)
        return [NightSnapshot(as_of, content_hash, as_of) for as_of, content_hash in named]
    start, end = plan.learn[0].start, plan.learn[-1].end
    with database.transaction() as tx:
        rows = tx.rows("training.snapshots", family=family.family, start=start, end=end)
    return [
        NightSnapshot(row.as_of, row.content_hash, row.taken_at)
        for row in rows
        if row.content_hash in manifest.snapshots
    ]


def _changes(family: ModelFamily, manifest: Manifest, rows: int) -> Iterator[str]:
    if rows != manifest.rows:
        yield f"{rows:,} of {manifest.rows:,} rows are left"
    if nightshift.__version__ != manifest["nightshift"]:
        yield f"nightshift was {manifest['nightshift']} and is {nightshift.__version__}"
    every: dict[str, MayDiffer] = dict.fromkeys(("python", *manifest["libraries"]), "any")
    for library in artifacts.differences(manifest, every):
        yield f"{library.name} was {library.then} and is {library.now or 'not installed'}"
    code = manifest.get("code", {})
    ours = "archive" not in code and "family" in code
    if ours and code["family"] != estimators.code_of(family.folder):
        yield f"the files in {family.folder} were changed"


def _sentence(
    version: Version,
    same: bool,
    difference: float | None,
    rows: Rows,
    changed: Sequence[str],
) -> str:
    claim = f"{version} was trained again on {len(rows):,} rows of {len(rows.snapshots)} snapshots"
    if same and difference is None:
        return f"{claim}: the same bytes, which are in the store again."
    if same:
        return f"{claim}: the same bytes, so the same predictions."
    effect = (
        "and the artifact is not there to compare with"
        if difference is None
        else "the same predictions"
        if difference == 0
        else f"scores differ by up to {difference:g}"
    )
    since = f" Since then: {'; '.join(changed)}." if changed else ""
    return f"{claim}: other bytes, {effect}.{since}"
