"""What a night was made of and what it became, for catalogues that draw where data comes from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from nightshift.data import Database
from nightshift.records import Check


@dataclass(frozen=True)
class Frozen:
    """A snapshot of ``rows`` rows, and the ``checks`` of the latest verdict on it."""

    family: str
    as_of: datetime
    content_hash: str
    rows: int
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True)
class Shown:
    """A batch that was published: ``rows`` predictions, made of a snapshot."""

    batch_id: int
    rows: int
    snapshot: Frozen


def frozen(database: Database, snapshot_id: int) -> Frozen:
    """A snapshot, as it was judged last."""
    with database.transaction() as tx:
        row = tx.one("reports.frozen", snapshot_id=snapshot_id)
    checks = tuple(Check(**check) for check in row.checks or ())
    return Frozen(row.family, row.as_of, row.content_hash, row.rows, checks)


def shown(database: Database, batch_id: int) -> Shown:
    """A batch, and what it was made of."""
    with database.transaction() as tx:
        row = tx.one("reports.shown", batch_id=batch_id)
    return Shown(row.batch_id, row.rows, frozen(database, row.snapshot_id))
