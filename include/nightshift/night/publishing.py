"""One short transaction shows a batch to readers; later ones clear what nobody sees any more."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from nightshift.data import Database, Transaction, as_json
from nightshift.errors import ScoringError
from nightshift.failpoints import reach
from nightshift.records import Batch
from nightshift.wording import moment

LISTED_VERSIONS = 100
"""A notification lists so many version numbers at most; more would not fit in every case."""

TRIES = 10
"""How often readers are asked to make way for dropping months."""


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
                f"{row.family}: batch {batch_id} of {moment(row.as_of)} was purged at"
                f" {moment(row.purged_at)}, since nobody had published it; it was not"
                " published. Run the night again"
            )
        if row.state != "written" or _accounted_rows(row) != row.snapshot_rows:
            raise ScoringError(
                f"{row.family}: batch {batch_id} of {moment(row.as_of)} is {row.state} with"
                f" {row.row_count} rows for a snapshot of {row.snapshot_rows}; it was not"
                " published. Run the night again"
            )
        flipped = tx.run(
            "scoring.flip", family=row.family, as_of=row.as_of, batch_id=batch_id, published_at=now
        )
        if flipped:
            tx.record(
                "published",
                now=now,
                family=row.family,
                as_of=row.as_of,
                batch_id=batch_id,
                rows=row.row_count,
            )
            tx.rows("scoring.notify", payload=as_json(_notice(tx, row)))
        current = tx.one("scoring.published_batch", family=row.family, as_of=row.as_of)
        reach("scoring.flipped")
    reach("scoring.published")
    return Batch(
        current.batch_id, row.family, row.as_of, current.snapshot_id, current.row_count, "written"
    )


def _accounted_rows(batch: Any) -> int:
    """Of how many rows of the snapshot a batch says what became of them."""
    return int(batch.row_count + batch.skipped_rows + batch.failed_rows)


def purge(database: Database, *, before: datetime, now: datetime) -> int:
    """Delete the rows of batches started before a moment that no reader sees; how many rows."""
    with database.transaction() as tx:
        locked = [row.batch_id for row in tx.rows("scoring.lock_unpublished", before=before)]
        # Who was just being published is so by now, or waits and then finds its rows gone.
        unseen = tx.rows("scoring.still_unpublished", batch_ids=locked)
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


def batch_night(tx: Transaction, batch_id: int) -> tuple[str, datetime]:
    """The family and the night that a batch is about."""
    row = tx.one("scoring.get", batch_id=batch_id)
    return row.family, row.as_of


def batch_shown(tx: Transaction, family: str, as_of: datetime) -> Batch:
    """The batch that readers see of a night; a ScoringError where none was published."""
    row = tx.maybe("scoring.published_batch", family=family, as_of=as_of)
    if row is None:
        raise ScoringError(f"{family}: nothing was published of {moment(as_of)}")
    return Batch(row.batch_id, family, as_of, row.snapshot_id, row.row_count, "written")


def version_numbers(tx: Transaction, batch_id: int) -> list[int]:
    """The numbers of the versions that have scored a batch."""
    return [row.number for row in tx.rows("scoring.versions", batch_id=batch_id)]


def nights_scored_by(
    tx: Transaction, family: str, version_id: int, since: datetime
) -> dict[datetime, int]:
    """The published nights that a version has scored from ``since`` on, oldest first.

    Each with the id of the snapshot behind it; nights whose rows were retired are left out.
    """
    rows = tx.rows("scoring.nights_of_version", family=family, version_id=version_id, since=since)
    return {row.as_of: row.snapshot_id for row in rows}


def _notice(tx: Transaction, batch: Any) -> dict[str, Any]:
    """What listeners are told of a published batch; Postgres allows 8000 bytes."""
    versions = version_numbers(tx, batch.batch_id)
    return {
        "family": batch.family,
        "as_of": batch.as_of,
        "batch_id": batch.batch_id,
        "rows": batch.row_count,
        "versions": versions if len(versions) <= LISTED_VERSIONS else None,
        "contract": contract(tx),
    }


def contract(tx: Transaction) -> str:
    """The version of what readers may rely on."""
    version: str = tx.one("scoring.contract").version
    return version
