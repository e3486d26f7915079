"""Models, versions and promotions: which bytes serve, since when, and who signed them.

An artifact is a joblib file named by its hash. Its signature covers the hash and the manifest. The
loader reads the bytes once, verifies them, and only then deserialises those same bytes; nothing
else in the project may deserialise a model.
"""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pyarrow as pa

from nightshift import artifacts, features
from nightshift.database import Database, Transaction, as_json
from nightshift.failpoints import reach
from nightshift.family import Features, ModelFamily
from nightshift.keys import Keys
from nightshift.records import (
    ArtifactRefused,
    ConfigError,
    Decision,
    Model,
    NoChampion,
    Promotion,
    PromotionLost,
    Reference,
    RegistryError,
    ScoringError,
    Version,
    words_of,
)
from nightshift.storage import Store

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


_LOADING = Lock()
"""One artifact at a time: another thread must not replace the module that is looked up."""


@dataclass(frozen=True)
class Predictions:
    """What a version says about a table, row by row.

    ``score`` is float64: the value, or a probability. ``label`` is the predicted class as text,
    None in regression. ``flags`` is int16, see :mod:`nightshift.features`.
    """

    score: np.ndarray
    label: np.ndarray | None
    flags: np.ndarray


@dataclass(frozen=True)
class Champion:
    """The version that serves, since when, and what it was worth when it was promoted."""

    version: Version
    effective_from: datetime
    reference: dict[str, Any] | None

    def worth(self, metric: str) -> Reference | None:
        """Its reference in a metric; None where none was stored."""
        return _worth(self.reference, metric)


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
        declared = self.version.manifest["features"]
        wanted = Features(numeric=declared["numeric"], categorical=declared["categorical"])
        try:
            frame = features.frame(table, wanted)
            score, label = predict(self.pipeline, frame, self.version.manifest["task"])
        except Exception as error:  # a pipeline may be of the family's own code
            told = f"{self} cannot score these rows: {words_of(error, discreet=self.discreet)}"
            raise ScoringError(told) from None if self.discreet else error
        if len(score) != table.num_rows:
            raise ScoringError(f"{self} gave {len(score)} scores for {table.num_rows} rows")
        unusable = int((~np.isfinite(score)).sum())
        if unusable:
            raise ScoringError(f"{self} gave {unusable} of {len(score)} scores that are not finite")
        return Predictions(score, label, features.flags(table, self.version.manifest["profile"]))

    @property
    def discreet(self) -> bool:
        """Whether messages must not repeat what its family's data say."""
        return bool(self.version.manifest.get("discreet"))

    @property
    def bears_threads(self) -> bool:
        """Whether several threads may ask it at once: it is made of scikit-learn's own parts."""
        parts = self.pipeline.get_params(deep=True).values()
        code = [part for part in parts if hasattr(part, "get_params") or callable(part)]
        return all(_module(part) in _STATELESS for part in [self.pipeline, *code])

    def __str__(self) -> str:
        return str(self.version)


def _module(part: Any) -> str:
    """The package that a part of a pipeline comes from."""
    return str(getattr(part, "__module__", "")).partition(".")[0]


def model(tx: Transaction, family: str, name: str, *, now: datetime) -> Model:
    """The model of this name, made at its first mention."""
    tx.run("registry.ensure_model", family=family, name=name, created_at=now)
    row = tx.one("registry.find_model", family=family, name=name)
    return Model(row.model_id, row.family, row.name)


def known_model(tx: Transaction, family: str, name: str) -> Model:
    """The model of this name, which must be there already."""
    row = tx.maybe("registry.find_model", family=family, name=name)
    if row is None:
        raise RegistryError(
            f"{family} has no model {name!r}; `nightshift status {family}` lists its models"
        )
    return Model(row.model_id, row.family, row.name)


def model_of(tx: Transaction, model_id: int) -> Model:
    """The model of this id."""
    row = tx.one("registry.get_model", model_id=model_id)
    return Model(row.model_id, row.family, row.name)


def enroll(
    tx: Transaction,
    family: ModelFamily,
    seen: Mapping[str, str | None],
    as_of: datetime,
    *,
    now: datetime,
) -> dict[str, Model]:
    """The models of the members seen in a snapshot, new ones made, by name.

    Parameters
    ----------
    seen
        Member to what ``models.group_by`` tells of it (None where it is not told).
    as_of
        The moment of the snapshot. A member that was retired is active again from here on.
    """
    factory = family.models
    wanted = {
        name: factory.group_of(name, told) if factory and name != family.family else None
        for name, told in seen.items()
        if factory is None or name == family.family or factory.wanted(name)
    }
    before = {
        row.name: row for row in tx.rows("registry.members", family=family.family, as_of=as_of)
    }
    found = {}
    for name, group in wanted.items():
        row = before.get(name)
        if row is None or (row.state, row.group_name) != ("active", group):
            made = model(tx, family.family, name, now=now)
            _member(tx, made.model_id, as_of, "active", group)
            found[name] = replace(made, group=group)
        else:
            found[name] = Model(row.model_id, family.family, name, group)
    return found


def members(tx: Transaction, family: str, as_of: datetime) -> list[Model]:
    """The active members of a family at a moment, by name."""
    return [
        Model(row.model_id, family, row.name, row.group_name)
        for row in tx.rows("registry.members", family=family, as_of=as_of)
        if row.state == "active"
    ]


def retire(tx: Transaction, family: ModelFamily, as_of: datetime) -> list[str]:
    """Retire members without a row in any batch for ``models.retire_after``; their names."""
    if family.models is None:
        return []
    since = as_of - family.models.retire_after
    rows = tx.rows("registry.vanished", family=family.family, since=since, as_of=as_of)
    for row in rows:
        _member(tx, row.model_id, as_of, "retired", row.group_name)
    return [row.name for row in rows]


def _member(tx: Transaction, model_id: int, as_of: datetime, state: str, group: str | None) -> None:
    tx.run(
        "registry.append_membership",
        model_id=model_id, as_of=as_of, state=state, group_name=group,
    )  # fmt: skip


def decide(tx: Transaction, decision: Decision, *, subject: str, now: datetime) -> int:
    """Append a decision; deciding again about the same subject returns the first decision's id."""
    tx.run(
        "registry.append_decision",
        model_id=decision.model_id,
        kind=decision.kind,
        rule=decision.rule,
        reason=decision.reason,
        as_of=decision.as_of,
        inputs=as_json(decision.inputs),
        subject=subject,
        decided_at=now,
    )
    found = decided(tx, decision.model_id, subject)
    assert found is not None
    return found


def decide_all(
    tx: Transaction, decisions: Sequence[Decision], *, subject: str, now: datetime
) -> None:
    """Append decisions about one subject, in order; what was decided about it before stays."""
    told = [
        {
            "model_id": one.model_id, "kind": one.kind, "rule": one.rule, "reason": one.reason,
            "as_of": one.as_of, "inputs": one.inputs,
        }
        for one in decisions
    ]  # fmt: skip
    tx.run("registry.append_decisions", decisions=as_json(told), subject=subject, decided_at=now)


def models_decided(tx: Transaction, model_ids: Sequence[int], subject: str) -> set[int]:
    """Those of some models that this subject was decided about already."""
    rows = tx.rows("registry.decided", model_ids=list(model_ids), subject=subject)
    return {row.model_id for row in rows}


def decision(tx: Transaction, decision_id: int) -> Decision:
    """The decision of this id."""
    row = tx.one("registry.get_decision", decision_id=decision_id)
    return Decision(row.model_id, row.kind, row.rule, row.reason, row.as_of, row.inputs)


def decided(tx: Transaction, model_id: int, subject: str) -> int | None:
    """The decision about a subject that was made already; None if none was."""
    row = tx.maybe("registry.find_decision", model_id=model_id, subject=subject)
    return row.decision_id if row else None


def retrains_of(tx: Transaction, family: str, subject: str) -> list[int]:
    """The decisions about a subject that tell models of a family to retrain, in order."""
    rows = tx.rows("registry.retrains_of", family=family, subject=subject)
    return [row.decision_id for row in rows]


def last_retrains(tx: Transaction, family: str, before: datetime) -> dict[int, datetime]:
    """When each model of a family was last told to retrain before a moment, by model id."""
    rows = tx.rows("registry.last_retrains", family=family, before=before)
    return {row.model_id: row.as_of for row in rows}


class Registry:
    """Versions and promotions, the store of their artifacts, and the key that signs them."""

    def __init__(self, store: Store, keys: Path, models: Path) -> None:
        self._store = store
        self._keys = keys
        self._models = models

    def save(
        self,
        tx: Transaction,
        model: Model,
        pipeline: Pipeline,
        manifest: dict[str, Any],
        *,
        decision_id: int,
        now: datetime,
    ) -> int:
        """Store, sign and register a fitted pipeline; its version id.

        Where another process was faster with the same decision, its version is the one.
        """
        tx.rows("registry.lock_artifacts", shared=True)
        artifact_hash = self._store.write_bytes(artifacts.to_bytes(pipeline), "joblib")
        reach("registry.stored")
        tx.rows("registry.lock_versions", model_id=model.model_id)
        faster = version_of_decision(tx, decision_id)
        if faster is not None:
            return faster.version_id
        saved: int = tx.one(
            "registry.append_version",
            model_id=model.model_id,
            artifact_hash=artifact_hash,
            signature=Keys(self._keys).sign(_signed(artifact_hash, manifest)),
            manifest=as_json(manifest),
            decision_id=decision_id,
            trained_at=now,
        ).version_id
        return saved

    def load(self, version: Version) -> LoadedVersion:
        """The version's pipeline, verified before it is deserialised.

        Raises
        ------
        ArtifactRefused
            The file is missing or was collected, its bytes were changed, or the signature is not
            ours.
        RegistryError
            Those bytes are ours, and the code that is there now cannot open them.
        """
        if version.collected_at is not None:
            _refuse_collected(self._store, version)
        module = version.manifest["estimator"]["build"].split(".")[0]
        with _LOADING:
            # A pipeline may be made of the family's own classes, which are looked up by name.
            family_module(self._models / version.model.family, module)
            pipeline = _verified_pipeline(self._store, self._keys, _Key(version))
        return LoadedVersion(version, pipeline)

    def promote(
        self,
        tx: Transaction,
        version: Version,
        *,
        instead_of: int | None,
        decision_id: int,
        effective_from: datetime,
        now: datetime,
        reference: dict[str, Any] | None = None,
    ) -> None:
        """Make a version the champion, provided the champion is still ``instead_of``.

        Parameters
        ----------
        reference
            What the version is worth on rows it was not trained on, as a comparison tells it.

        Raises
        ------
        PromotionLost
            Another promotion of this model came first.
        ArtifactRefused
            The version cannot be opened.
        """
        tx.rows("registry.lock_artifacts", shared=True)
        self.load(version)
        latest = tx.maybe("registry.latest_promotion", model_id=version.model.model_id)
        current = latest.version_id if latest else None
        seq = latest.seq + 1 if latest else 1
        reach("registry.looked")
        inserted = current == instead_of and tx.run(
            "registry.append_promotion",
            model_id=version.model.model_id,
            seq=seq,
            version_id=version.version_id,
            decision_id=decision_id,
            effective_from=effective_from,
            promoted_at=now,
            reference=None if reference is None else as_json(reference),
        )
        if not inserted:
            raise PromotionLost(
                f"{version.model.family}: version {version.number} of {version.model.name} was"
                " compared with a champion that has been replaced since; compare it again"
            )
        tx.record(
            "promoted",
            now=now,
            family=version.model.family,
            model=version.model.name,
            version=version.number,
            decision_id=decision_id,
        )
        reach("registry.promoted")

    def collect(
        self, database: Database, keep: Mapping[str, int], *, before: datetime, now: datetime
    ) -> int:
        """Delete the artifacts that nothing needs any more; how many.

        Needed are those of the versions that serve, score in shadow or wait for an approval, and of
        the last champions of each model; and all that were written or of use after ``before``.

        Parameters
        ----------
        keep
            How many champions of a model stay, by family. Of other families nothing is deleted.
        """
        with database.transaction() as tx:
            found = sorted(self._needless(tx, keep, before))
            tx.run("registry.collect", artifacts=found, collected_at=now)
        with database.transaction() as tx:
            # What was put to use since then is spared: its file is still there.
            for artifact_hash in self._needless(tx, keep, before).intersection(found):
                self._store.delete(artifact_hash, "joblib")
            if found:
                tx.record("collected", now=now, artifacts=found)
        return len(found)

    def _needless(self, tx: Transaction, keep: Mapping[str, int], before: datetime) -> set[str]:
        tx.rows("registry.lock_artifacts", shared=False)
        needed = {
            row.artifact_hash
            for row in tx.rows("registry.artifacts")
            if row.wanted or row.last_used >= before or _is_kept(row, keep)
        }
        written = self._store.files("joblib")
        return {name for name, at in written.items() if at < before and name not in needed}


def version(tx: Transaction, version_id: int) -> Version:
    """The version of this id."""
    return _version(tx.one("registry.get_version", version_id=version_id))


def versions(tx: Transaction, version_ids: Collection[int]) -> dict[int, Version]:
    """The versions of these ids, by id."""
    rows = tx.rows("registry.get_versions", version_ids=list(version_ids))
    return {row.version_id: _version(row) for row in rows}


def version_of_decision(tx: Transaction, decision_id: int) -> Version | None:
    """The version that a decision has trained already; None if it has not."""
    row = tx.maybe("registry.version_of_decision", decision_id=decision_id)
    return _version(row) if row else None


def champions(tx: Transaction, family: str, as_of: datetime) -> dict[int, Champion]:
    """Who served at ``as_of`` in a family, by model id; models without a champion are left out."""
    return {
        row.model_id: Champion(_version(row), row.effective_from, row.reference)
        for row in tx.rows("registry.champions", family=family, as_of=as_of)
    }


def champion(tx: Transaction, model_id: int, as_of: datetime) -> Version | None:
    """The version of a model that served at ``as_of``; None before the first promotion."""
    row = tx.maybe("registry.champion", model_id=model_id, as_of=as_of)
    return _version(row) if row else None


def worth(tx: Transaction, model_id: int, metric: str) -> Reference | None:
    """What the champion of a model was worth in a metric when it was promoted."""
    served = promotions(tx, model_id)
    return _worth(served[-1].reference, metric) if served else None


def _worth(reference: dict[str, Any] | None, metric: str) -> Reference | None:
    found = (reference or {}).get("metrics", {}).get(metric)
    return Reference(**found) if found else None


def earlier_champions(tx: Transaction, model_id: int, count: int) -> list[Version]:
    """The last versions of a model that have been champions and can still be loaded."""
    rows = tx.rows("registry.earlier_champions", model_id=model_id, count=count)
    return [_version(row) for row in rows]


def promotions(tx: Transaction, model_id: int) -> list[Promotion]:
    """Every promotion of a model, oldest first."""
    return [Promotion(**row._mapping) for row in tx.rows("registry.promotions", model_id=model_id)]


def way_back(
    model: Model, served: Sequence[Promotion], to: int | None, *, again: bool = False
) -> tuple[Promotion, Promotion]:
    """The promotion that a rollback undoes, and the last one of the version it returns to.

    Parameters
    ----------
    served
        Every promotion of the model, oldest first.
    to
        The number of a version that was champion once; by default the champion before this one,
        and after a rollback the one before that.
    again
        Whether the version may be serving since the last rollback: that one is then undone once
        more, from when the version that it replaced began.

    Raises
    ------
    RegistryError
        There is no such champion, or it serves already.
    """
    where = f"{model.family}: {model.name}"
    if not served:
        raise RegistryError(f"{where} has no champion; there is nothing to roll back")
    latest = served[-1]
    target = _undone(served)[-2:-1] if to is None else [one for one in served if one.number == to]
    if not target:
        numbers = sorted({one.number for one in served})
        missing = (
            f"has no champion before version {latest.number}"
            if to is None
            else f"has had no champion with the version number {to}"
        )
        raise RegistryError(
            f"{where} {missing}; its champions so far: {', '.join(map(str, numbers))}"
        )
    if target[-1].version_id != latest.version_id:
        return latest, target[-1]
    if again and latest.kind == "rollback":
        replaced = [one for one in served if one.version_id != latest.version_id]
        return replaced[-1], latest
    raise RegistryError(
        f"{where}: version {latest.number} serves already, since"
        f" {latest.effective_from:%Y-%m-%d %H:%M}Z"
    )


def _undone(served: Sequence[Promotion]) -> list[Promotion]:
    """The promotions that still stand: a rollback undoes those since the version last began."""
    standing: list[Promotion] = []
    for one in served:
        if one.kind == "rollback":
            while standing and standing[-1].version_id != one.version_id:
                standing.pop()
        if not standing or standing[-1].version_id != one.version_id:
            standing.append(one)
    return standing


def no_champion(tx: Transaction, family: ModelFamily, as_of: datetime) -> NoChampion:
    """The error that nobody serves at ``as_of``, with since when somebody does."""
    first = tx.one("registry.first_promotion", family=family.family).effective_from
    since = f"its first champion serves from {first.isoformat()}" if first else "none was trained"
    return NoChampion(
        f"{family.family} has no champion at {as_of.isoformat()}: {since}."
        f" Train one with: nightshift train {family.family}"
    )


def family_module(folder: Path, name: str) -> ModuleType:
    """A module of the family's folder, under a name that no other family can take.

    Raises
    ------
    ConfigError
        The file is missing, or cannot be imported.
    """
    file = folder / f"{name}.py"
    qualified = f"nightshift_family_{folder.name}_{name}"
    spec = importlib.util.spec_from_file_location(qualified, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[qualified] = module
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError, NameError, AttributeError, FileNotFoundError) as error:
        raise ConfigError(f"{folder.name}: {file} cannot be imported: {error}") from error
    return module


_BINARY = np.array(["0", "1"], dtype=object)


def predict(pipeline: Pipeline, frame: Any, task: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Scores (the value, or a probability) and, in classification, labels as text."""
    if task == "regression":
        return np.asarray(pipeline.predict(frame), dtype=np.float64), None
    probabilities = np.asarray(pipeline.predict_proba(frame), dtype=np.float64)
    if task == "binary_classification":
        positive = probabilities[:, list(pipeline.classes_).index(1)]
        return positive, _BINARY[(positive >= 0.5).astype(np.intp)]
    best = probabilities.argmax(axis=1)
    score = probabilities[np.arange(len(best)), best]
    return score, np.asarray(pipeline.classes_, dtype=object)[best]


def _told(keys: Keys) -> str:
    known = ", ".join(keys.trusted())
    return f"{keys.folder} has {known}" if known else f"{keys.folder} has none: restore it"


def _is_kept(row: Any, keep: Mapping[str, int]) -> bool:
    if row.family not in keep:
        return True
    return row.later_champions is not None and bool(row.later_champions < keep[row.family])


def _refuse_collected(store: Store, found: Version) -> None:
    if not store.has(found.artifact_hash, "joblib"):
        raise ArtifactRefused(
            f"{found.model.family}: version {found.number} of {found.model.name} was not opened:"
            f" its artifact was collected at {found.collected_at:%Y-%m-%d %H:%M}Z, since nothing"
            f" needed it any more; make it again: nightshift reproduce {found.model.family}/"
            f"{found.model.name} --version {found.number}"
        )


class _Key:
    """A version as a cache key: its hash and signature, with the manifest along."""

    def __init__(self, version: Version) -> None:
        self.version = version

    def __hash__(self) -> int:
        return hash((self.version.artifact_hash, self.version.signature))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.version == other.version


@lru_cache(maxsize=256)
def _verified_pipeline(store: Store, keys: Path, key: _Key) -> Pipeline:
    found = key.version
    try:
        data = store.read_bytes(found.artifact_hash, "joblib")
    except ArtifactRefused as error:
        where = f"{found.model.family}: version {found.number} of {found.model.name}"
        raise ArtifactRefused(f"{where} was not opened: {error}") from error
    if not Keys(keys).verifies(found.signature, _signed(found.artifact_hash, found.manifest)):
        raise ArtifactRefused(
            f"{found.model.family}: version {found.number} of {found.model.name} is not signed by"
            f" a key of this installation ({_told(Keys(keys))}), or its manifest was changed; it"
            " was not opened"
        )
    try:
        return joblib.load(io.BytesIO(data))
    except Exception as error:  # deserialising runs the code of the family and of every library
        raise RegistryError(
            f"{found.model.family}: version {found.number} of {found.model.name} cannot be opened"
            f" with the code that is there now ({type(error).__name__}: {error}). Bring that code"
            " back, or roll back to a version that it can open"
        ) from error


def _signed(artifact_hash: str, manifest: dict[str, Any]) -> bytes:
    # Postgres gives 1e16 back as a whole number, and -0.0 as 0.0.
    told = json.loads(as_json(manifest), parse_int=_whole, parse_float=lambda text: float(text) + 0)
    return f"{artifact_hash}\n{json.dumps(told, sort_keys=True)}".encode()


def _whole(text: str) -> int | float:
    return float(text) if len(text) > 16 else int(text)


def _version(row: Any) -> Version:
    return Version(
        version_id=row.version_id,
        model=Model(row.model_id, row.family, row.name),
        number=row.number,
        artifact_hash=row.artifact_hash,
        signature=bytes(row.signature),
        manifest=row.manifest,
        decision_id=row.decision_id,
        trained_at=row.trained_at,
        collected_at=row.collected_at,
    )
