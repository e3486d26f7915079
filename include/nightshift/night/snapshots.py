"""Freeze the rows of a night. The only room that reads features from sources."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nightshift import tables
from nightshift.data import Database, Store, Transaction, as_json
from nightshift.errors import SnapshotError, SourceError
from nightshift.failpoints import reach
from nightshift.family import ModelFamily
from nightshift.night.leaving_out import LeftOut
from nightshift.records import Snapshot
from nightshift.sources import Names, Question, Source
from nightshift.wording import moment


@dataclass(frozen=True)
class Origin:
    """Where the rows of a night come from.

    ``names`` is how entities are told, see :mod:`nightshift.sources`.
    """

    source: Source
    names: Names


def freeze(
    database: Database,
    store: Store,
    origin: Origin,
    family: ModelFamily,
    as_of: datetime,
    *,
    now: datetime,
    renew: bool = False,
) -> Snapshot:
    """The snapshot of ``family`` at ``as_of``: the one that is there, or else a new one.

    A night is frozen once. Only where validation rejected the snapshot is another taken, since
    its source may have been mended.

    Parameters
    ----------
    renew
        Whether another is taken as well where the one that is there lacks a column that the family
        declares now: for a training, which needs it.

    Raises
    ------
    SourceError
        features.sql fails, or returns other columns or types than model.yaml declares.
    SnapshotError
        The source is mutable and the next night has begun: its tables no longer say what was
        known at ``as_of``.
    """
    with database.transaction() as tx:
        before = tx.maybe("snapshots.latest", family=family.family, as_of=as_of)
    lacks = renew and before is not None and _lacks(store, family, before)
    if before is not None and before.verdict != "rejected" and not lacks:
        return _snapshot(before)
    _refuse_if_too_late(family, as_of, now)
    taken = take(store, origin, family, as_of)
    reach("snapshots.stored")
    frozen = (taken.content_hash, taken.left_out)
    if before is not None and (before.content_hash, before.left_out) == frozen:
        return _snapshot(before)
    with database.transaction() as tx:
        tx.run(
            "snapshots.register",
            family=family.family,
            as_of=as_of,
            revision=before.revision + 1 if before else 1,
            content_hash=taken.content_hash,
            row_count=taken.row_count,
            dropped_rows=taken.dropped_rows,
            query_hash=_query_hash(family),
            taken_at=now,
            left_out=as_json(taken.left_out),
        )
        return _snapshot(tx.one("snapshots.latest", family=family.family, as_of=as_of))


@dataclass(frozen=True)
class Taken:
    """The rows of a night as they were put into a store; nothing knows of them yet."""

    content_hash: str
    row_count: int
    dropped_rows: int
    left_out: dict[str, Any]


def take(store: Store, origin: Origin, family: ModelFamily, as_of: datetime) -> Taken:
    """Ask a source for the rows of a night, and put those that can be scored into a store.

    Raises
    ------
    SourceError
        features.sql fails, or returns other columns or types than model.yaml declares.
    """
    rows, left_out = _Rows(as_of), LeftOut(family)
    as_text = {"entity_id", *family.keys, *family.features.categorical}
    with _query(origin.source, family, as_of) as (schema, batches), store.scratch() as folder:
        pieces = (
            origin.names.in_column(
                tables.with_keys(rows.in_time(batch).select(family.columns), as_text)
            )
            for batch in tables.ahead(batches)
        )
        ordered = tables.ordered(pieces, "entity_id", rows=store.chunk_rows, folder=folder)
        stored = pa.schema([_stored_field(schema.field(name), family) for name in family.columns])
        content_hash = store.write_tables(tables.ahead(left_out.from_sorted(ordered)), stored)
    count = rows.kept - left_out.rows.total()
    return Taken(content_hash, count, rows.dropped, left_out.record())


def _lacking(store: Store, family: ModelFamily, content_hash: str, query_hash: str) -> list[str]:
    """The columns that the family declares now and a snapshot was frozen without."""
    if query_hash == _query_hash(family):
        return []
    columns = store.schema(content_hash).names
    return [name for name in family.columns if name not in columns]


def _lacks(store: Store, family: ModelFamily, before: Any) -> bool:
    return bool(_lacking(store, family, before.content_hash, before.query_hash))


def _query_hash(family: ModelFamily) -> str:
    return hashlib.sha256(family.features_sql.encode()).hexdigest()


def snapshot(tx: Transaction, snapshot_id: int) -> Snapshot:
    """The snapshot of this id."""
    return _snapshot(tx.one("snapshots.get", snapshot_id=snapshot_id))


@dataclass(frozen=True)
class FrozenNight:
    """A night that has a snapshot: its latest one, and whether a training can use it."""

    as_of: datetime
    snapshot_id: int
    rejected: bool
    usable: bool


def frozen_nights(
    tx: Transaction, store: Store, family: ModelFamily, start: datetime, end: datetime
) -> list[FrozenNight]:
    """The nights in (start, end] that have a snapshot.

    One is of no use where validation rejected it, or where it lacks a column that the family
    declares now.
    """
    rows = tx.rows("snapshots.nights", family=family.family, start=start, end=end)
    return [
        FrozenNight(
            row.as_of,
            row.snapshot_id,
            rejected=row.verdict == "rejected",
            usable=row.verdict != "rejected"
            and not _lacking(store, family, row.content_hash, row.query_hash),
        )
        for row in rows
    ]


def missing_nights(
    tx: Transaction, store: Store, family: ModelFamily, start: datetime, end: datetime
) -> list[datetime]:
    """The ticks of ``schedule.score`` in (start, end] without rows that a training can use."""
    nights = frozen_nights(tx, store, family, start, end)
    usable = {night.as_of for night in nights if night.usable}
    return [as_of for as_of in family.ticks(start, end) if as_of not in usable]


@contextmanager
def _query(
    source: Source, family: ModelFamily, as_of: datetime
) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    with source.stream(features_question(family, as_of)) as (schema, batches):
        problems = column_problems(family, schema)
        if problems:
            raise SourceError(
                f"{family.family}: {family.folder / 'features.sql'} does not return what model.yaml"
                f" declares: {'; '.join(problems)}"
            )
        yield schema, batches


def _stored_field(field: pa.Field, family: ModelFamily) -> pa.Field:
    """A column as it is stored: keys and categories are text, and numbers are numbers."""
    stored_type = pa.string()
    if field.name in family.features.numeric:
        stored_type = pa.float64() if pa.types.is_string(field.type) else field.type
    return field if field.type == stored_type else pa.field(field.name, stored_type)


def features_question(family: ModelFamily, as_of: datetime) -> Question:
    """What a family's source is asked about a night."""
    file = family.folder / "features.sql"
    where = f"{family.family}: {file} failed on connection {family.source.connection!r}"
    return Question(family.features_sql, {"as_of": as_of}, where, family.discreet)


def column_problems(family: ModelFamily, schema: pa.Schema) -> list[str]:
    """How what features.sql returns differs from what model.yaml declares."""
    declared = pa.schema([field for field in schema if field.name != "known_at"])
    text_numbers = "not_a_number" in family.rows.excusable
    problems = tables.shape_problems(
        declared, family.features, family.keys, text_numbers=text_numbers
    )
    return problems + _known_at_problems(schema)


def _known_at_problems(schema: pa.Schema) -> list[str]:
    types = [field.type for field in schema if field.name == "known_at"]
    if len(types) > 1:
        return ["column 'known_at' is returned twice"]
    if types and not (pa.types.is_timestamp(types[0]) and types[0].tz):
        return [f"column 'known_at' is {types[0]}, not timestamptz; cast it in features.sql"]
    return []


@dataclass
class _Rows:
    """Counts the rows that were known at a moment, and the others, as they pass."""

    as_of: datetime
    kept: int = 0
    dropped: int = 0

    def in_time(self, batch: pa.RecordBatch) -> pa.Table:
        """Without the rows that became known only later."""
        table = pa.Table.from_batches([batch])
        if "known_at" in table.schema.names:
            in_time = pc.less_equal(table["known_at"], pa.scalar(self.as_of))
            table = table.filter(pc.fill_null(in_time, False))
        self.kept += table.num_rows
        self.dropped += batch.num_rows - table.num_rows
        return table


def _refuse_if_too_late(family: ModelFamily, as_of: datetime, now: datetime) -> None:
    if as_of > now:
        raise SnapshotError(f"{family.family}: as_of {moment(as_of)} lies in the future")
    if family.source.history == "mutable" and family.next_tick(as_of) <= now:
        raise SnapshotError(
            f"{family.family}: no snapshot was taken at {moment(as_of)}, and none can be taken"
            " now: source.history is mutable, so today's tables no longer say what was known then."
            " If the source keeps history with known_at, say history: append_only in model.yaml"
        )


def _snapshot(row: object) -> Snapshot:
    return Snapshot(**{name: getattr(row, name) for name in Snapshot.__dataclass_fields__})
