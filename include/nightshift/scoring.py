"""Snapshot and champion in, prediction rows out; then one short transaction makes them visible."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from threadpoolctl import ThreadpoolController

from nightshift import features, registry, storage, streams
from nightshift.copying import Encoded, encode
from nightshift.database import Database, Transaction, as_json
from nightshift.failpoints import reach
from nightshift.family import ModelFamily
from nightshift.records import (
    READERS,
    SHADOW,
    Batch,
    ConfigError,
    Model,
    RegistryError,
    RowsRetired,
    ScoringError,
    Snapshot,
    Version,
)
from nightshift.registry import LoadedVersion
from nightshift.shares import Share
from nightshift.storage import Store

VERSIONS_TOLD = 100
"""A notification lists so many version numbers at most; more would not fit in every case."""

TRIES = 10
"""How often readers are asked to make way for dropping months."""

ROWS = pa.schema(
    [
        pa.field("as_of", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("batch_id", pa.int32(), nullable=False),
        pa.field("version_id", pa.int32(), nullable=False),
        pa.field("model_id", pa.int32(), nullable=False),
        pa.field("flags", pa.int16(), nullable=False),
        pa.field("role", pa.int16(), nullable=False),
        pa.field("entity_id", pa.string(), nullable=False),
        pa.field("label", pa.string()),
    ]
)


@dataclass(frozen=True)
class Seen:
    """A member in a snapshot: its rows, and the group that ``models.group_by`` tells."""

    rows: int
    group: str | None = None


def seen(store: Store, family: ModelFamily, snapshot: Snapshot) -> dict[str | None, Seen]:
    """The members in a snapshot, by name; in a family of one model all rows are under None."""
    if family.models is None:
        return {None: Seen(snapshot.row_count)}
    columns = [name for name in (family.models.by, family.models.group_by) if name]
    table = store.read_table(snapshot.content_hash, columns).select(columns)
    grouped = table.group_by(columns[0]).aggregate([([], "count_all"), (columns[-1], "max")])
    names, counts = grouped[columns[0]].to_pylist(), grouped["count_all"].to_pylist()
    told = grouped[f"{columns[-1]}_max"].to_pylist() if len(columns) > 1 else [None] * len(names)
    return {name: Seen(*of) for name, *of in zip(names, counts, told, strict=True)}


@dataclass(frozen=True)
class Serving:
    """Which version scores the rows of which model; None where nobody can.

    ``members`` are by the value of ``models.by``, or one under None in a family of one model.
    ``fallback`` scores the rows of every other value, and those of members without a version.
    ``shadows`` are challengers by the id of the version beside which they score, unseen by readers.
    """

    members: Mapping[str | None, tuple[Model, Version | None]]
    fallback: Version | None = None
    shadows: Mapping[int, Version] = field(default_factory=dict)

    def of(self, member: str | None) -> Version | None:
        """The version that scores a member's rows."""
        _, version = self.members.get(member, (None, None))
        return version or self.fallback

    def owner(self, member: str | None, scorer: Version) -> Model:
        """The model that a member's rows belong to; a fallback scores the rows of others."""
        model, _ = self.members.get(member, (None, None))
        return model or scorer.model

    def beside(self, member: str | None) -> Version | None:
        """The challenger in shadow that scores a member's rows as well."""
        version = self.of(member)
        return self.shadows.get(version.version_id) if version else None


def score(
    database: Database,
    store: Store,
    family: ModelFamily,
    snapshot: Snapshot,
    found: Mapping[str | None, Seen],
    serving: Serving,
    load: Callable[[Version], LoadedVersion],
    *,
    now: datetime,
    chunk_rows: int,
) -> int:
    """Write a batch that nobody sees yet; its id.

    A night that is published already with this snapshot and these versions is not scored again:
    the published batch's id is returned. Otherwise it is one part, see :func:`write_part`.

    Parameters
    ----------
    found
        The members in the snapshot, see :func:`seen`.
    load
        Opens a version, see :meth:`nightshift.registry.Registry.load`.
    chunk_rows
        About how many rows are held in memory at once; a member of a factory always is.
    """
    night = _night(snapshot, found, serving)
    with database.transaction() as tx:
        _prepare(tx, family, snapshot)
        same = tx.maybe("scoring.published_same", **night)
        if same is not None:
            published: int = same.batch_id
            return published
        plans = [_Plan.of(Share(tuple(found)), found, serving)]
        batch_id = _start(tx, night, plans, now)
    write_part(database, store, family, snapshot, batch_id, 0, load, now=now, chunk_rows=chunk_rows)
    return batch_id


def begin(
    database: Database,
    family: ModelFamily,
    snapshot: Snapshot,
    found: Mapping[str | None, Seen],
    serving: Serving,
    shares: Iterable[Share],
    *,
    since: datetime,
    now: datetime,
) -> tuple[int, list[int]] | None:
    """Begin a batch in several parts; its id and the numbers of its parts.

    Who scores what is fixed from here on. A batch of the same snapshot and versions that was begun
    after ``since`` and not ended is gone on with, so only what is missing of it is written; unless
    a version has failed in it, which is then tried again.

    Returns
    -------
    None
        Where the night is published already with this snapshot and these versions.
    """
    night = _night(snapshot, found, serving)
    with database.transaction() as tx:
        _prepare(tx, family, snapshot)
        if tx.maybe("scoring.published_same", **night) is not None:
            return None
        begun = tx.maybe("scoring.begun_same", **night, since=since)
        if begun is not None:
            batch_id: int = begun.batch_id
        else:
            plans = [_Plan.of(share, found, serving) for share in shares]
            batch_id = _start(tx, night, plans, now)
        return batch_id, [row.part for row in tx.rows("scoring.parts", batch_id=batch_id)]


def write_part(
    database: Database,
    store: Store,
    family: ModelFamily,
    snapshot: Snapshot,
    batch_id: int,
    part: int,
    load: Callable[[Version], LoadedVersion],
    *,
    now: datetime,
    chunk_rows: int,
) -> None:
    """Write one part of a batch, as far as it is not written; with the last one it is complete.

    The rows of a part and the note that it is written are one transaction: of two who write the
    same part one is undone. Rows that nobody can score are counted and left out.

    A version that cannot be opened or fails is recorded and counted, and none of its rows are kept
    in any part; the others are not held up, and scoring the night again tries it again. Where every
    one has failed, the batch is abandoned and the first error is raised. What fails whole leaves a
    batch that is never published and whose rows are purged later.

    Challengers in shadow score the same rows once those of the champions are written. One that
    fails is recorded, and none of its rows are kept. Whether a night is scored again does not
    depend on them.
    """
    with database.transaction() as tx:
        row = tx.one("scoring.part", batch_id=batch_id, part=part)
        _refuse_given_up(family, snapshot, batch_id, row)
        plan = _Plan.kept(row.plan)
        versions = registry.versions(tx, plan.version_ids)
    writing = _Part(
        database, store, family, snapshot, load, batch_id, part, plan, versions, chunk_rows
    )
    failed: Mapping[int, Exception] = {}
    if row.written_at is None:
        failed = writing.write(READERS, now)
        reach("scoring.copied")
    writing.finish(failed, now)
    reach("scoring.finished")
    if plan.scored(SHADOW):
        failed = writing.write(SHADOW, now) if row.shadows_at is None else {}
        writing.finish_shadows(failed, now)


_FORGIVEN: Mapping[int, tuple[type[Exception], ...]] = {
    READERS: (ScoringError, RegistryError, ConfigError),
    SHADOW: (Exception,),
}
"""What a version raises that cannot score, by role. Of champions an outage is not among it;
whatever a challenger does, readers get their rows."""


def split(table: pa.Table, family: ModelFamily) -> dict[str | None, pa.Array]:
    """The row numbers of each member of a table, in order; under None in a family of one model."""
    if family.models is None:
        return {None: pa.array(np.arange(table.num_rows))} if table.num_rows else {}
    members = table[family.models.by].to_numpy(zero_copy_only=False)
    order = np.argsort(members, kind="stable")
    names, starts = np.unique(members[order], return_index=True)
    pieces = np.split(order, starts[1:])
    return {str(name): pa.array(rows) for name, rows in zip(names, pieces, strict=False)}


@dataclass(frozen=True)
class Answer:
    """What is said about a posted row, as a batch would say it.

    ``model`` is the one that the row belongs to, ``scorer`` the version that scored it: with the
    flag ``fallback`` one of the whole family, None where nobody can score it.
    """

    entity_id: str
    model: str
    scorer: Version | None = None
    score: float | None = None
    label: str | None = None
    flags: tuple[str, ...] = ()


def answer(
    table: pa.Table,
    family: ModelFamily,
    serving: Serving,
    load: Callable[[Version], LoadedVersion],
) -> list[Answer]:
    """Score rows as a batch scores a snapshot that holds just these; nothing is stored.

    They are scored ordered by entity_id, as in a snapshot: the last bit of some estimators' scores
    depends on a row's place. The answers are in the order of ``table``.
    """
    told: dict[str, Answer] = {}
    ordered = table.sort_by("entity_id")
    for member, numbers in split(ordered, family).items():
        part, version = ordered.take(numbers), serving.of(member)
        answers = (
            _unscored(part, member or family.family)
            if version is None
            else _answers(part, load(version), serving.owner(member, version))
        )
        told.update({one.entity_id: one for one in answers})
    return [told[entity_id] for entity_id in table["entity_id"].to_pylist()]


def _unscored(part: pa.Table, model: str) -> Iterator[Answer]:
    for entity_id in part["entity_id"].to_pylist():
        yield Answer(entity_id, model)


def _answers(part: pa.Table, loaded: LoadedVersion, owner: Model) -> Iterator[Answer]:
    predicted = loaded.predict(part)
    fallback = owner.model_id != loaded.version.model.model_id
    labels = [None] * part.num_rows if predicted.label is None else predicted.label.tolist()
    for entity_id, score, label, flags in zip(
        part["entity_id"].to_pylist(),
        predicted.score.tolist(),
        labels,
        predicted.flags.tolist(),
        strict=True,
    ):
        yield Answer(
            entity_id, owner.name, loaded.version, score, label,
            (*features.flag_names(flags), *(["fallback"] if fallback else [])),
        )  # fmt: skip


def publish(database: Database, batch_id: int, *, now: datetime) -> Batch:
    """Make a written batch the one that readers see, in one short transaction.

    Where a newer batch of the same night is published already, that one stays and is returned.

    Raises
    ------
    ScoringError
        The batch was not written to its end, does not hold as many rows as its snapshot, or was
        purged.
    """
    with database.transaction() as tx:
        row = tx.one("scoring.lock", batch_id=batch_id)
        if row.purged_at is not None:
            raise ScoringError(
                f"{row.family}: batch {batch_id} of {row.as_of.isoformat()} was purged at"
                f" {row.purged_at:%Y-%m-%d %H:%M}Z, since nobody had published it; it was not"
                " published. Run the night again"
            )
        if row.state != "written" or _told_for(row) != row.snapshot_rows:
            raise ScoringError(
                f"{row.family}: batch {batch_id} of {row.as_of.isoformat()} is {row.state} with"
                f" {row.row_count} rows for a snapshot of {row.snapshot_rows}; it was not"
                " published. Run the night again"
            )
        flipped = tx.run(
            "scoring.flip", family=row.family, as_of=row.as_of, batch_id=batch_id, published_at=now
        )
        if flipped:
            tx.record(
                "published", now=now, family=row.family, as_of=row.as_of,
                batch_id=batch_id, rows=row.row_count,
            )  # fmt: skip
            tx.rows("scoring.notify", payload=as_json(_notice(tx, row)))
        shown = tx.one("scoring.shown", family=row.family, as_of=row.as_of)
        reach("scoring.flipped")
    reach("scoring.published")
    return Batch(
        shown.batch_id, row.family, row.as_of, shown.snapshot_id, shown.row_count, "written"
    )


def _told_for(batch: Any) -> int:
    """Of how many rows of the snapshot a batch says what became of them."""
    return int(batch.row_count + batch.skipped_rows + batch.failed_rows)


def purge(database: Database, *, before: datetime, now: datetime) -> int:
    """Delete the rows of batches started before a moment that no reader sees; how many rows."""
    with database.transaction() as tx:
        found = [row.batch_id for row in tx.rows("scoring.lock_unseen", before=before)]
        # Who was just being published is so by now, or waits and then finds its rows gone.
        unseen = tx.rows("scoring.still_unseen", batch_ids=found)
        if not unseen:
            return 0
        batches = [row.batch_id for row in unseen]
        nights = sorted({row.as_of for row in unseen})
        rows = tx.run("scoring.delete_rows", batch_ids=batches, nights=nights)
        tx.run("scoring.mark_purged", batch_ids=batches, purged_at=now)
        tx.record("purged", now=now, batches=batches, rows=rows)
        reach("scoring.purged")
        return rows


def retire(database: Database, *, before: datetime, now: datetime) -> list[str]:
    """Drop the months of prediction rows that end by a moment; the tables that were dropped.

    Dropping waits for everybody who reads predictions, and whoever comes later waits along. So each
    try gives up after 0.3 seconds, and after :data:`TRIES` of them the rest is left to another day.
    Pointers, batches and measurements stay: it is known what was published.
    """
    dropped: list[str] = []
    for _ in range(TRIES):
        while (month := _retire_month(database, before, now)) not in ("none", "busy"):
            dropped.append(month)
        if month == "none":
            break
    return dropped


def _retire_month(database: Database, before: datetime, now: datetime) -> str:
    with database.transaction() as tx:
        month: str = tx.one("scoring.retire_month", before=before, now=now).month
        if month not in ("none", "busy"):
            tx.record("retired_rows", now=now, table=month, before=before)
        return month


def _notice(tx: Transaction, batch: Any) -> dict[str, Any]:
    """What listeners are told of a published batch; Postgres allows 8000 bytes."""
    versions = [row.number for row in tx.rows("scoring.versions", batch_id=batch.batch_id)]
    return {
        "family": batch.family,
        "as_of": batch.as_of,
        "batch_id": batch.batch_id,
        "rows": batch.row_count,
        "versions": versions if len(versions) <= VERSIONS_TOLD else None,
        "contract": contract(tx),
    }


def contract(tx: Transaction) -> str:
    """The version of what readers may rely on."""
    version: str = tx.one("scoring.contract").version
    return version


def _prepare(tx: Transaction, family: ModelFamily, snapshot: Snapshot) -> None:
    """Refuse what must not be scored; have a place for its rows, and a view for their readers."""
    _refuse_unvalidated(tx, family, snapshot)
    if not tx.one("scoring.open_month", as_of=snapshot.as_of).open:
        raise RowsRetired(
            f"{family.family}: predictions of {snapshot.as_of:%B %Y} were retired, because"
            " keep_predictions in include/nightshift.yaml has passed; a night of that month is not"
            " scored again"
        )
    tx.rows("scoring.show_family", family=family.family, task=family.task)


def _refuse_unvalidated(tx: Transaction, family: ModelFamily, snapshot: Snapshot) -> None:
    verdict = tx.one("scoring.verdict", snapshot_id=snapshot.snapshot_id).verdict
    if verdict not in ("passed", "warned"):
        raise ScoringError(
            f"{family.family}: the snapshot of {snapshot.as_of.isoformat()} is"
            f" {verdict or 'not validated'}; only one that passed is scored"
        )


def _refuse_given_up(family: ModelFamily, snapshot: Snapshot, batch_id: int, batch: Any) -> None:
    if batch.state == "abandoned" or batch.purged_at is not None:
        raise ScoringError(
            f"{family.family}: batch {batch_id} of {snapshot.as_of.isoformat()} was given up;"
            " clear the task before this one, which begins another"
        )


def _night(
    snapshot: Snapshot, found: Mapping[str | None, Seen], serving: Serving
) -> dict[str, Any]:
    """What tells whether a batch is the same as another."""
    return {
        "family": snapshot.family,
        "as_of": snapshot.as_of,
        "snapshot_id": snapshot.snapshot_id,
        "version_ids": sorted({v.version_id for m in found if (v := serving.of(m)) is not None}),
    }


def _start(tx: Transaction, night: Mapping[str, Any], plans: Iterable[_Plan], now: datetime) -> int:
    batch_id: int = tx.one("scoring.start", **night, started_at=now).batch_id
    for part, plan in enumerate(plans):
        tx.run("scoring.add_part", batch_id=batch_id, part=part, plan=plan.as_json())
    return batch_id


@dataclass(frozen=True)
class _Work:
    """What becomes of a member's rows, by ids.

    ``model_id`` is None where it is no model of the family, ``version_id`` where nobody scores it.
    """

    member: str | None
    rows: int
    model_id: int | None
    version_id: int | None
    shadow_id: int | None

    def scorer(self, role: int) -> int | None:
        """Which version scores it in a role."""
        return self.version_id if role == READERS else self.shadow_id


@dataclass(frozen=True)
class _Plan:
    """What a part scores, and by whom; kept as it was when the batch began."""

    work: tuple[_Work, ...]
    piece: int
    pieces: int

    @staticmethod
    def of(share: Share, found: Mapping[str | None, Seen], serving: Serving) -> _Plan:
        """The plan of a share."""

        def about(member: str | None) -> _Work:
            model, _ = serving.members.get(member, (None, None))
            scorer, beside = serving.of(member), serving.beside(member)
            return _Work(
                member,
                found[member].rows,
                model.model_id if model else None,
                scorer.version_id if scorer else None,
                beside.version_id if beside else None,
            )

        return _Plan(tuple(map(about, share.members)), share.piece, share.pieces)

    @staticmethod
    def kept(plan: Mapping[str, Any]) -> _Plan:
        """A plan that was kept."""
        return _Plan(tuple(_Work(*about) for about in plan["work"]), plan["piece"], plan["pieces"])

    def as_json(self) -> str:
        """The plan as it is kept; there may be ten thousand members in it."""
        work = [astuple(one) for one in self.work]
        return as_json({"work": work, "piece": self.piece, "pieces": self.pieces})

    def scored(self, role: int) -> dict[str | None, _Work]:
        """The members that somebody scores in a role."""
        return {one.member: one for one in self.work if one.scorer(role) is not None}

    @property
    def version_ids(self) -> set[int]:
        """Of everybody who scores here."""
        ids = {one.scorer(role) for role in (READERS, SHADOW) for one in self.work}
        return {version_id for version_id in ids if version_id is not None}


class _Superseded(Exception):
    """Another task has written the same part, or the batch was given up: this try is undone."""


@dataclass
class _Told:
    """What versions say about some rows, each with its id, and which failed at that."""

    rows: list[tuple[int, Encoded]] = field(default_factory=list)
    errors: dict[int, Exception] = field(default_factory=dict)

    def kept(self, failed: dict[int, Exception]) -> list[Encoded]:
        """The rows of versions that have not failed, here or before; who did is added."""
        for version_id, error in self.errors.items():
            failed.setdefault(version_id, error)
        return [rows for version_id, rows in self.rows if version_id not in failed]


@dataclass(frozen=True)
class _Part:
    """A part of a batch that is being written."""

    database: Database
    store: Store
    family: ModelFamily
    snapshot: Snapshot
    load: Callable[[Version], LoadedVersion]
    batch_id: int
    part: int
    plan: _Plan
    versions: Mapping[int, Version]
    chunk_rows: int
    turn: threading.Lock = field(default_factory=threading.Lock)

    def write(self, role: int, now: datetime) -> dict[int, Exception]:
        """Write the rows of a role, unless somebody else has by then; which versions failed."""
        scored = self.plan.scored(role)
        failed: dict[int, Exception] = {}
        written = 0
        with suppress(_Superseded), self.database.transaction() as tx:
            for told in self._told(scored, role):
                rows = told.kept(failed)
                if rows:
                    written += tx.copy("nightshift.prediction_rows", ROWS.names, rows)
                    reach("scoring.copying")
            self._claim(tx, role, written, failed, now)
        return failed

    def _told(self, scored: Mapping[str | None, _Work], role: int) -> Iterator[_Told]:
        """What is said about the part's rows, piece by piece; others are scored meanwhile."""
        failed: set[int] = set()

        def score(table: pa.Table) -> _Told:
            told = self._rows(table, scored, role, failed)
            failed.update(told.errors)
            return told

        return streams.mapped(score, streams.ahead(self._tables()), workers=self._workers)

    @property
    def _workers(self) -> int:
        """How many row groups are scored at once. The models of a factory are small: one."""
        if self.family.models is not None:
            return 1
        cores: int = joblib.cpu_count()
        return max(1, min(cores, self.chunk_rows // storage.ROW_GROUP))

    @contextmanager
    def _turn(self, loaded: LoadedVersion) -> Iterator[None]:
        """Let a version be asked by several threads at once if it is known to bear that.

        Each then does with one thread of OpenMP: several that share a row group would wait for
        each other at every tree, while the cores are busy with copying as well.
        """
        if self._workers > 1 and loaded.bears_threads:
            with _controller().limit(limits=1, user_api="openmp"):
                yield
        else:
            with self.turn:
                yield

    def finish(self, errors: Mapping[int, Exception], now: datetime) -> None:
        """End the batch if this was its last part; give it up if every version has failed.

        Parameters
        ----------
        errors
            Of the versions that have failed in this part just now, the first of them first.
        """
        with self.database.transaction() as tx:
            batch = tx.one("scoring.lock", batch_id=self.batch_id)
            parts = tx.rows("scoring.parts", batch_id=self.batch_id)
            failed = {int(number): why for row in parts for number, why in row.failed.items()}
            hopeless = bool(failed) and set(failed) >= set(batch.version_ids)
            if hopeless:
                tx.run("scoring.abandon", batch_id=self.batch_id)
            elif batch.state == "writing" and all(row.written_at for row in parts):
                self._end(tx, sum(row.row_count for row in parts), failed, now)
        if hopeless and errors:
            raise next(iter(errors.values()))
        if hopeless:
            raise ScoringError(f"{self.family.family}: no version could score: {failed}")
        _refuse_given_up(self.family, self.snapshot, self.batch_id, batch)

    def finish_shadows(self, errors: Mapping[int, Exception], now: datetime) -> None:
        """Leave no row of a challenger that has failed in any part that is written by now."""
        with self.database.transaction() as tx:
            parts = tx.rows("scoring.parts", batch_id=self.batch_id)
            self._delete(
                tx, {int(number) for row in parts for number in row.failed_shadows}, SHADOW
            )
            self._record(tx, "shadow_failed", _reasons(errors), now)

    def _end(self, tx: Transaction, written: int, failed: Mapping[int, str], now: datetime) -> None:
        plans = [_Plan.kept(row.plan) for row in tx.rows("scoring.plans", batch_id=self.batch_id)]
        # Of a member that is cut into pieces, the first tells.
        work = [one for plan in plans if plan.piece == 0 for one in plan.work]
        models = [one for one in work if one.model_id is not None]
        tx.run(
            "scoring.record_models",
            batch_id=self.batch_id,
            model_ids=[one.model_id for one in models],
            version_ids=[None if one.version_id in failed else one.version_id for one in models],
            row_counts=[one.rows for one in models],
        )
        self._record(tx, "model_failed", failed, now)
        tx.run(
            "scoring.finish",
            batch_id=self.batch_id,
            row_count=written - self._delete(tx, failed, READERS),
            skipped_rows=sum(one.rows for one in work if one.version_id is None),
            failed_rows=sum(one.rows for one in work if one.version_id in failed),
            written_at=now,
        )

    def _record(self, tx: Transaction, code: str, failed: Mapping[int, str], now: datetime) -> None:
        versions = registry.versions(tx, failed)
        for version_id, reason in failed.items():
            tx.record(
                code,
                now=now,
                family=self.family.family,
                as_of=self.snapshot.as_of,
                model=versions[version_id].model.name,
                version=versions[version_id].number,
                batch_id=self.batch_id,
                reason=reason,
            )

    def _delete(self, tx: Transaction, version_ids: Collection[int], role: int) -> int:
        if not version_ids:
            return 0
        return tx.run(
            "scoring.delete_failed",
            batch_id=self.batch_id,
            as_of=self.snapshot.as_of,
            version_ids=list(version_ids),
            role=role,
        )

    def _claim(
        self,
        tx: Transaction,
        role: int,
        written: int,
        failed: Mapping[int, Exception],
        now: datetime,
    ) -> None:
        claimed = tx.run(
            "scoring.claim_part" if role == READERS else "scoring.claim_shadows",
            batch_id=self.batch_id,
            part=self.part,
            moment=now,
            row_count=written,
            failed=as_json(_reasons(failed)),
        )
        if not claimed:
            raise _Superseded

    def _tables(self) -> Iterator[pa.Table]:
        """The part's rows; in a factory all of a member at once, so that it is called once."""
        by = self.family.models.by if self.family.models else None
        groups = self.store.stream_table(
            self.snapshot.content_hash,
            self.plan.piece,
            self.plan.pieces,
            encoded=[name for name in self.family.features.categorical if name != by],
        )
        if by is None:
            yield from groups
            return
        wanted = pa.array([one.member for one in self.plan.work], pa.string())
        own = (group.filter(pc.is_in(group[by], value_set=wanted)) for group in groups)
        with self.store.scratch() as folder:
            in_order = streams.ordered(own, by, rows=self.chunk_rows, folder=folder)
            yield from _whole_members(in_order, by)

    def _rows(
        self,
        table: pa.Table,
        scored: Mapping[str | None, _Work],
        role: int,
        failed: Collection[int],
    ) -> _Told:
        """The rows of every member that somebody scores who has not failed before."""
        told = _Told()
        for member, numbers in split(table, self.family).items():
            one = scored.get(member)
            version_id = one.scorer(role) if one else None
            if one is None or version_id is None or version_id in (*failed, *told.errors):
                continue
            part = table if len(numbers) == table.num_rows else table.take(numbers)
            try:
                with self.turn:  # or several would open the same artifact
                    loaded = self.load(self.versions[version_id])
                predicted = self._predicted(part, loaded, one, role)
                told.rows.append((version_id, encode(predicted)))
            except _FORGIVEN[role] as error:
                told.errors[version_id] = error
        return told

    def _predicted(
        self, part: pa.Table, loaded: LoadedVersion, work: _Work, role: int
    ) -> pa.RecordBatch:
        with self._turn(loaded):
            predicted = loaded.predict(part)
        version, rows = loaded.version, part.num_rows
        model_id = work.model_id or version.model.model_id
        return pa.record_batch(
            {
                "as_of": pa.repeat(pa.scalar(self.snapshot.as_of, ROWS.field("as_of").type), rows),
                "score": pa.array(predicted.score),
                "batch_id": pa.repeat(pa.scalar(self.batch_id, pa.int32()), rows),
                "version_id": pa.repeat(pa.scalar(version.version_id, pa.int32()), rows),
                "model_id": pa.repeat(pa.scalar(model_id, pa.int32()), rows),
                "flags": pa.array(predicted.flags),
                "role": pa.repeat(pa.scalar(role, pa.int16()), rows),
                "entity_id": part["entity_id"].combine_chunks().cast(pa.string()),
                "label": pa.array(predicted.label, pa.string())
                if predicted.label is not None
                else pa.nulls(rows, pa.string()),
            },
            schema=ROWS,
        )


def _reasons(errors: Mapping[int, Exception]) -> dict[int, str]:
    return {number: f"{type(error).__name__}: {error}" for number, error in errors.items()}


@cache
def _controller() -> ThreadpoolController:
    """Of the libraries that are loaded by the time that a version is."""
    return ThreadpoolController()


def _whole_members(tables: Iterable[pa.Table], by: str) -> Iterator[pa.Table]:
    """Tables that are sorted by member, in pieces of about a row group that cut no member."""
    held: list[pa.Table] = []
    for table in streams.chunked(tables, storage.ROW_GROUP):
        *whole, rest = _cut(pa.concat_tables([*held, table]).combine_chunks(), by)
        yield from whole
        held = [rest]
    yield from held


def _cut(table: pa.Table, by: str) -> Iterator[pa.Table]:
    """Pieces of whole members; the last one's may go on in the next table."""
    codes = table[by].combine_chunks().dictionary_encode().indices.to_numpy()
    start = 0
    for end in (np.flatnonzero(np.diff(codes)) + 1).tolist():
        if end - start >= storage.ROW_GROUP:
            yield table.slice(start, end - start)
            start = end
    yield table.slice(start)
