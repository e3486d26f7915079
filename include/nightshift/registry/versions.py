"""Versions: stored, signed, verified, opened; and the promotion that makes one the champion.

An artifact is a joblib file named by its hash. Its signature covers the hash and the manifest. The
loader reads the bytes once, verifies them, and only then deserialises those same bytes; nothing
else in the project may deserialise a model.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Collection, Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import joblib

from nightshift.artifacts import (
    Code,
    LegacyCode,
    LoadedVersion,
    refuse_differing_libraries,
    to_bytes,
)
from nightshift.data import Database, Keys, Store, Transaction, as_json
from nightshift.documents import Manifest, Worth
from nightshift.errors import (
    FOREIGN,
    ArtifactRefused,
    PromotionLost,
    RegistryError,
)
from nightshift.failpoints import reach
from nightshift.records import MadeAs, Model, Version
from nightshift.registry.members import model_of
from nightshift.wording import listed, moment

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

_LOADING = Lock()
"""One artifact at a time: several threads that want the same would each open it."""


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
        artifact: Pipeline | bytes,
        manifest: Mapping[str, Any],
        *,
        decision_id: int,
        now: datetime,
        code: Code | LegacyCode | None = None,
        made_as: MadeAs = "challenger",
    ) -> int:
        """Store, sign and register a fitted pipeline; its version id.

        Where another process was faster with the same decision, its version is the one.

        Parameters
        ----------
        artifact
            The pipeline, or what :func:`nightshift.artifacts.to_bytes` made of it.
        code
            What the pipeline is made of, where the manifest names it and it is not stored yet.
        made_as
            Which of the versions that a decision trains it is.

        Raises
        ------
        TrainingError
            A step of the pipeline cannot be stored. Nothing was registered.
        """
        data = artifact if isinstance(artifact, bytes) else to_bytes(artifact)
        tx.rows("registry.lock_artifacts", shared=True)
        artifact_hash = self._write(data, code)
        reach("registry.stored")
        tx.rows("registry.lock_versions", model_id=model.model_id)
        faster = version_of_decision(tx, decision_id, made_as)
        if faster is not None:
            return faster.version_id
        saved: int = tx.one(
            "registry.append_version",
            model_id=model.model_id,
            artifact_hash=artifact_hash,
            signature=Keys(self._keys).sign(_signed(artifact_hash, manifest)),
            manifest=as_json(manifest),
            decision_id=decision_id,
            made_as=made_as,
            trained_at=now,
        ).version_id
        return saved

    def sign(
        self,
        model: Model,
        artifact: bytes,
        manifest: dict[str, Any],
        code: Code,
        *,
        now: datetime,
    ) -> Version:
        """Store and sign a version that no database knows: what a rehearsal opens again."""
        artifact_hash = self._write(artifact, code)
        signature = Keys(self._keys).sign(_signed(artifact_hash, manifest))
        return Version(0, model, 0, artifact_hash, signature, Manifest(manifest), 0, now, None)

    def _write(self, artifact: bytes, code: Code | LegacyCode | None) -> str:
        if isinstance(code, Code):
            self._store.write_bytes(code.data, "code")
        return self._store.write_bytes(artifact, "joblib")

    def load(self, version: Version) -> LoadedVersion:
        """The version's pipeline, verified before it is deserialised.

        Raises
        ------
        ArtifactRefused
            The file is missing or was collected, its bytes were changed, or the signature is not
            ours.
        LibrariesDiffer
            It was trained with other libraries than its family allows.
        RegistryError
            Those bytes are ours, and the code that is there now cannot open them.
        """
        if version.collected_at is not None:
            _refuse_collected(self._store, version)
        folder = self._models / version.model.family
        refuse_differing_libraries(version, folder)
        with _LOADING:
            pipeline = _verified_pipeline(self._store, self._keys, folder, _Key(version))
        return LoadedVersion(version, pipeline)

    def code(self, version: Version) -> Code | LegacyCode:
        """The code that a version carries; of one of before, what is in its folder now.

        Raises
        ------
        ArtifactRefused
            It is missing, or its bytes were changed.
        """
        folder = self._models / version.model.family
        return _code(self._store, folder, version) or LegacyCode(folder)

    def promote(
        self,
        tx: Transaction,
        version: Version,
        *,
        instead_of: int | None,
        decision_id: int,
        effective_from: datetime,
        now: datetime,
        reference: Worth | None = None,
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
                f"{_where(version)} was"
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
            needless = sorted(self._needless(tx, keep, before))
            tx.run("registry.collect", artifacts=needless, collected_at=now)
        with database.transaction() as tx:
            # What was put to use since then is spared: its file is still there.
            for artifact_hash in self._needless(tx, keep, before).intersection(needless):
                self._store.delete(artifact_hash, "joblib")
            if needless:
                tx.record("collected", now=now, artifacts=needless)
        return len(needless)

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
    return versions(tx, [version_id])[version_id]


def versions(tx: Transaction, version_ids: Collection[int]) -> dict[int, Version]:
    """The versions of these ids, by id."""
    rows = tx.rows("registry.get_versions", version_ids=list(version_ids))
    return {row.version_id: _version(row) for row in rows}


def numbered_version(tx: Transaction, model_id: int, number: int | None) -> Version:
    """The version of a model with this number, or its latest; a RegistryError without one."""
    row = tx.maybe("training.numbered", model_id=model_id, number=number)
    if row is None:
        model = model_of(tx, model_id)
        which = "version" if number is None else f"version {number}"
        raise RegistryError(f"{model.family}: there is no {which} of {model.name}")
    return version(tx, row.version_id)


def version_of_decision(
    tx: Transaction, decision_id: int, made_as: MadeAs = "challenger"
) -> Version | None:
    """What a decision has trained already, as one of the things that it trains; None if not yet."""
    row = tx.maybe("registry.version_of_decision", decision_id=decision_id, made_as=made_as)
    return _version(row) if row else None


def _trusted_keys(keys: Keys) -> str:
    trusted = keys.trusted()
    return (
        f"{keys.folder} has {listed(trusted)}" if trusted else f"{keys.folder} has none: restore it"
    )


def _is_kept(row: Any, keep: Mapping[str, int]) -> bool:
    if row.family not in keep:
        return True
    return row.later_champions is not None and bool(row.later_champions < keep[row.family])


def _where(version: Version) -> str:
    model = version.model
    return f"{model.family}: version {version.number} of {model.name}"


def _refuse_collected(store: Store, version: Version) -> None:
    if not store.has(version.artifact_hash, "joblib"):
        assert version.collected_at is not None
        raise ArtifactRefused(
            f"{_where(version)} was not opened:"
            f" its artifact was collected at {moment(version.collected_at)}, since nothing"
            f" needed it any more; make it again: nightshift reproduce {version.model.family}/"
            f"{version.model.name} --version {version.number}"
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
def _verified_pipeline(store: Store, keys: Path, folder: Path, key: _Key) -> Pipeline:
    from sklearn.exceptions import InconsistentVersionWarning

    version = key.version
    try:
        data = store.read_bytes(version.artifact_hash, "joblib")
    except ArtifactRefused as error:
        raise ArtifactRefused(f"{_where(version)} was not opened: {error}") from error
    if not is_signed(version, Keys(keys)):
        raise ArtifactRefused(
            f"{_where(version)} is not signed by a key of this"
            f" installation ({_trusted_keys(Keys(keys))}), or its manifest was changed; it was"
            " not opened"
        )
    try:
        # A pipeline may be made of the family's own classes, which are looked up by name.
        code = _code(store, folder, version)
        if code is not None:
            code.enter()
        else:
            LegacyCode(folder).module(version.manifest["estimator"]["build"].split(".")[0])
        with warnings.catch_warnings():
            # Which versions may differ was asked before; what differs is told by reports.
            warnings.simplefilter("ignore", InconsistentVersionWarning)
            return joblib.load(io.BytesIO(data))
    except ArtifactRefused:
        raise
    except FOREIGN as error:  # deserialising runs the code of the family and of every library
        raise RegistryError(
            f"{_where(version)} cannot be opened"
            f" with the {'libraries' if 'archive' in version.manifest.get('code', {}) else 'code'}"
            f" there are now ({type(error).__name__}: {error}). Bring those back that it was"
            f" trained with, train anew (nightshift train {version.model.family}), or roll back to"
            " a version that can be opened"
        ) from error


def is_signed(version: Version, keys: Keys) -> bool:
    """Whether any of these keys has signed a version's bytes and manifest."""
    return keys.verifies(version.signature, _signed(version.artifact_hash, version.manifest))


def _code(store: Store, folder: Path, version: Version) -> Code | None:
    archive = version.manifest.get("code", {}).get("archive")
    if archive is None:
        return None
    try:
        return Code.stored(store.read_bytes(archive, "code"), folder)
    except ArtifactRefused as error:
        raise ArtifactRefused(f"the code of {_where(version)} was not opened: {error}") from error


def _signed(artifact_hash: str, manifest: Mapping[str, Any]) -> bytes:
    # Postgres gives 1e16 back as a whole number, and -0.0 as 0.0.
    stored = json.loads(
        as_json(manifest), parse_int=_whole, parse_float=lambda text: float(text) + 0
    )
    return f"{artifact_hash}\n{json.dumps(stored, sort_keys=True)}".encode()


def _whole(text: str) -> int | float:
    return float(text) if len(text) > 16 else int(text)


def _version(row: Any) -> Version:
    return Version(
        version_id=row.version_id,
        model=Model(row.model_id, row.family, row.name),
        number=row.number,
        artifact_hash=row.artifact_hash,
        signature=bytes(row.signature),
        manifest=Manifest(row.manifest),
        decision_id=row.decision_id,
        trained_at=row.trained_at,
        collected_at=row.collected_at,
    )
