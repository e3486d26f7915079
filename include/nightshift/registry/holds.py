"""Families that somebody holds: none of their models is retrained or replaced by itself."""

from __future__ import annotations

from datetime import datetime

from nightshift.data import Transaction
from nightshift.records import Hold


def holds_now(tx: Transaction, at: datetime) -> dict[str, Hold]:
    """The families that are held at a moment, by name."""
    rows = tx.rows("holds.current", at=at, family=None)
    return {row.family: Hold(**row._mapping) for row in rows}


def hold_on(tx: Transaction, family: str, at: datetime) -> Hold | None:
    """Who holds a family at a moment, since when and why; None where nobody does."""
    row = tx.maybe("holds.current", at=at, family=family)
    return Hold(**row._mapping) if row else None


def hold(tx: Transaction, family: str, *, reason: str, by: str, now: datetime) -> Hold:
    """Hold a family from now on; the hold, which is the older one where it is held already."""
    tx.rows("holds.lock", family=family)
    held = hold_on(tx, family, now)
    if held is None:
        held = Hold(family, reason, by, now)
        _append(tx, "hold", held, now)
    return held


def release(tx: Transaction, family: str, *, reason: str, by: str, now: datetime) -> Hold | None:
    """Release a family; the hold that ends, or None where nobody held it."""
    tx.rows("holds.lock", family=family)
    held = hold_on(tx, family, now)
    if held is not None:
        _append(tx, "release", Hold(family, reason, by, now), now)
    return held


def _append(tx: Transaction, code: str, entry: Hold, now: datetime) -> None:
    tx.run(
        "holds.append",
        family=entry.family,
        held=code == "hold",
        reason=entry.reason,
        by=entry.by,
        now=now,
    )
    tx.record(code, now=now, family=entry.family, reason=entry.reason, by=entry.by)
