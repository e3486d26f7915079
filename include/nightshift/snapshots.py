"""Freeze the rows of a night. The only room that reads features from sources."""

from __future__ import annotations

import hashlib
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from nightshift import features
from nightshift.database import Database, Transaction
from nightshift.failpoints import reach
from nightshift.family import ModelFamily
from nightshift.pseudonyms import Names
from nightshift.records import Snapshot, SnapshotError, SourceError
from nightshift.storage import Store


def freeze(
    database: Database,
    store: Store,
    source: Database,
    family: ModelFamily,
    as_of: datetime,
    *,
    names: Names,
    now: datetime,
) -> Snapshot:
    """The snapshot of ``family`` at ``as_of``: the one that is there, or else a new one.

    A night is frozen once. Only where validation rejected the snapshot is another taken, since
    its source may have been mended.

    Parameters
    ----------
    names
        How entities are told, see :mod:`nightshift.pseudonyms`.

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
    if before is not None and before.verdict != "rejected":
        return _snapshot(before)
    _refuse_if_too_late(family, as_of, now)
    table, dropped = _as_known(_query(source, family, as_of), as_of)
    ordered = names.in_column(table.select(family.columns)).sort_by("entity_id")
    content_hash = store.write_table(ordered)
    reach("snapshots.stored")
    if before is not None and before.content_hash == content_hash:
        return _snapshot(before)
    with database.transaction() as tx:
        tx.run(
            "snapshots.register",
            family=family.family,
            as_of=as_of,
            revision=before.revision + 1 if before else 1,
            content_hash=content_hash,
            row_count=ordered.num_rows,
            dropped_rows=dropped,
            query_hash=hashlib.sha256(family.features_sql.encode()).hexdigest(),
            taken_at=now,
        )
        return _snapshot(tx.one("snapshots.latest", family=family.family, as_of=as_of))


def get(tx: Transaction, snapshot_id: int) -> Snapshot:
    """The snapshot of this id."""
    return _snapshot(tx.one("snapshots.get", snapshot_id=snapshot_id))


def _query(source: Database, family: ModelFamily, as_of: datetime) -> pa.Table:
    file = family.folder / "features.sql"
    where = f"{family.family}: {file} failed on connection {family.source.connection!r}"
    table = source.ask(
        family.features_sql, {"as_of": as_of}, told_as=where, discreet=family.discreet
    )
    declared = pa.schema([field for field in table.schema if field.name != "known_at"])
    problems = features.shape_problems(declared, family.features, family.keys)
    problems += _known_at_problems(table.schema)
    if problems:
        raise SourceError(
            f"{family.family}: {file} does not return what model.yaml declares: "
            + "; ".join(problems)
        )
    return table


def _known_at_problems(schema: pa.Schema) -> list[str]:
    found = [field.type for field in schema if field.name == "known_at"]
    if len(found) > 1:
        return ["column 'known_at' is returned twice"]
    if found and not (pa.types.is_timestamp(found[0]) and found[0].tz):
        return [f"column 'known_at' is {found[0]}, not timestamptz; cast it in features.sql"]
    return []


def _as_known(table: pa.Table, as_of: datetime) -> tuple[pa.Table, int]:
    """Without the rows that became known only after ``as_of``, and how many those were."""
    if "known_at" not in table.schema.names:
        return table, 0
    known = pc.fill_null(pc.less_equal(table["known_at"], pa.scalar(as_of)), False)
    kept = table.filter(known)
    return kept, table.num_rows - kept.num_rows


def _refuse_if_too_late(family: ModelFamily, as_of: datetime, now: datetime) -> None:
    if as_of > now:
        raise SnapshotError(f"{family.family}: as_of {as_of.isoformat()} lies in the future")
    if family.source.history == "mutable" and family.next_tick(as_of) <= now:
        raise SnapshotError(
            f"{family.family}: no snapshot was taken at {as_of.isoformat()}, and none can be taken"
            " now: source.history is mutable, so today's tables no longer say what was known then."
            " If the source keeps history with known_at, say history: append_only in model.yaml"
        )


def _snapshot(row: object) -> Snapshot:
    return Snapshot(**{name: getattr(row, name) for name in Snapshot.__dataclass_fields__})
