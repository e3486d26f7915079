"""Snapshot and champion in, prediction rows out: a batch that nobody sees yet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from threadpoolctl import ThreadpoolController

from nightshift import data, registry
from nightshift.data import Database, Store, Transaction, as_json
from nightshift.errors import ConfigError, RegistryError, RowsRetired, ScoringError
from nightshift.failpoints import reach
from nightshift.family import ModelFamily
from nightshift.night.packing import Share
from nightshift.night.plans import _Plan, _Work
from nightshift.night.serving import Seen, Serving
from nightshift.records import READERS, SHADOW, Snapshot, Version
from nightshift.registry import LoadedVersion
from nightshift.tables import Encoded, ahead, chunked, encode, mapped, ordered
from nightshift.wording import moment

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
            f"{family.family}: the snapshot of {moment(snapshot.as_of)} is"
            f" {verdict or 'not validated'}; only one that passed is scored"
        )


def _refuse_given_up(family: ModelFamily, snapshot: Snapshot, batch_id: int, batch: Any) -> None:
    if batch.state == "abandoned" or batch.purged_at is not None:
        raise ScoringError(
            f"{family.family}: batch {batch_id} of {moment(snapshot.as_of)} was given up;"
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

        return mapped(score, ahead(self._tables()), workers=self._workers)

    @property
    def _workers(self) -> int:
        """How many row groups are scored at once. The models of a factory are small: one."""
        if self.family.models is not None:
            return 1
        cores: int = joblib.cpu_count()
        return max(1, min(cores, self.chunk_rows // data.ROW_GROUP))

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
            in_order = ordered(own, by, rows=self.chunk_rows, folder=folder)
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
    for table in chunked(tables, data.ROW_GROUP):
        *whole, rest = _cut(pa.concat_tables([*held, table]).combine_chunks(), by)
        yield from whole
        held = [rest]
    yield from held


def _cut(table: pa.Table, by: str) -> Iterator[pa.Table]:
    """Pieces of whole members; the last one's may go on in the next table."""
    codes = table[by].combine_chunks().dictionary_encode().indices.to_numpy()
    start = 0
    for end in (np.flatnonzero(np.diff(codes)) + 1).tolist():
        if end - start >= data.ROW_GROUP:
            yield table.slice(start, end - start)
            start = end
    yield table.slice(start)
