"""Snapshot and champion in, prediction rows out; then one short transaction makes them visible."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pyarrow as pa

from nightshift.database import Database, Transaction
from nightshift.family import ModelFamily
from nightshift.records import Batch, ScoringError, Snapshot
from nightshift.registry import LoadedVersion
from nightshift.storage import Store

ROWS = pa.schema(
    [
        pa.field("batch_id", pa.int32(), nullable=False),
        pa.field("version_id", pa.int32(), nullable=False),
        pa.field("entity_id", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("flags", pa.int16(), nullable=False),
    ]
)


def score(
    database: Database,
    store: Store,
    family: ModelFamily,
    snapshot: Snapshot,
    champion: LoadedVersion,
    *,
    now: datetime,
) -> int:
    """Write a batch that nobody sees yet; its id.

    A night that is published already with this snapshot and this champion is not scored again:
    the published batch's id is returned. What fails leaves a batch that is never published and
    whose rows are purged later.
    """
    with database.transaction() as tx:
        _refuse_unvalidated(tx, family, snapshot)
        same = tx.maybe(
            "scoring.published_same",
            family=family.family,
            as_of=snapshot.as_of,
            snapshot_id=snapshot.snapshot_id,
            version_ids=[champion.version.version_id],
        )
        if same is not None:
            published: int = same.batch_id
            return published
        batch_id: int = tx.one(
            "scoring.start",
            family=family.family,
            as_of=snapshot.as_of,
            snapshot_id=snapshot.snapshot_id,
            version_ids=[champion.version.version_id],
            started_at=now,
        ).batch_id
    try:
        rows = _write(database, store, snapshot, champion, batch_id)
    except ScoringError:
        with database.transaction() as tx:
            tx.run("scoring.abandon", batch_id=batch_id)
        raise
    with database.transaction() as tx:
        tx.run("scoring.finish", batch_id=batch_id, row_count=rows, written_at=now)
    return batch_id


def publish(database: Database, batch_id: int, *, now: datetime) -> Batch:
    """Make a written batch the one that readers see, in one short transaction.

    Where a newer batch of the same night is published already, that one stays and is returned.

    Raises
    ------
    ScoringError
        The batch was not written to its end, or does not hold as many rows as its snapshot.
    """
    with database.transaction() as tx:
        row = tx.one("scoring.get", batch_id=batch_id)
        if row.state != "written" or row.row_count != row.snapshot_rows:
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
        shown = tx.one("scoring.shown", family=row.family, as_of=row.as_of)
        return Batch(
            shown.batch_id, row.family, row.as_of, shown.snapshot_id, shown.row_count, "written"
        )


def purge(database: Database, *, before: datetime, now: datetime) -> int:
    """Delete the rows of batches started before a moment that no reader sees; how many rows."""
    with database.transaction() as tx:
        batches = [row.batch_id for row in tx.rows("scoring.unseen", before=before)]
        if not batches:
            return 0
        rows = tx.run("scoring.delete_rows", batch_ids=batches)
        tx.run("scoring.mark_purged", batch_ids=batches, purged_at=now)
        tx.record("purged", now=now, batches=batches, rows=rows)
        return rows


def _refuse_unvalidated(tx: Transaction, family: ModelFamily, snapshot: Snapshot) -> None:
    verdict = tx.one("scoring.verdict", snapshot_id=snapshot.snapshot_id).verdict
    if verdict not in ("passed", "warned"):
        raise ScoringError(
            f"{family.family}: the snapshot of {snapshot.as_of.isoformat()} is"
            f" {verdict or 'not validated'}; only one that passed is scored"
        )


def _write(
    database: Database, store: Store, snapshot: Snapshot, champion: LoadedVersion, batch_id: int
) -> int:
    with database.bulk() as bulk:
        return sum(
            bulk.append("prediction_rows", pa.Table.from_batches([rows]))
            for rows in _prediction_rows(store, snapshot, champion, batch_id)
        )


def _prediction_rows(
    store: Store, snapshot: Snapshot, champion: LoadedVersion, batch_id: int
) -> Iterator[pa.RecordBatch]:
    version_id = champion.version.version_id
    for group in store.stream_table(snapshot.content_hash):
        table = pa.Table.from_batches([group])
        predicted = champion.predict(table)
        rows = table.num_rows
        yield pa.record_batch(
            {
                "batch_id": pa.array([batch_id] * rows, pa.int32()),
                "version_id": pa.array([version_id] * rows, pa.int32()),
                "entity_id": table["entity_id"].combine_chunks().cast(pa.string()),
                "score": pa.array(predicted.score),
                "label": pa.array(predicted.label, pa.string())
                if predicted.label is not None
                else pa.nulls(rows, pa.string()),
                "flags": pa.array(predicted.flags),
            },
            schema=ROWS,
        )
