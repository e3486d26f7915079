"""The chain of decisions, each hashed with the one before it, and whether it is whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nightshift.data import Database
from nightshift.wording import count

CHAIN_STRETCH = 10_000
"""How many decisions are verified at a time."""


@dataclass(frozen=True)
class Audit:
    """Whether the chain of decisions is whole: its length, its last hash, and what is wrong."""

    decisions: int
    head: str
    faults: tuple[str, ...]


def audit(database: Database, head: str | None = None) -> Audit:
    """Recompute the hash of every decision, here and not in the database.

    Parameters
    ----------
    head
        A hash that was the last one at some time: decisions cut off the end leave a chain that is
        whole, and only somebody who remembers its head can tell.
    """
    decisions, seq, last = 0, 0, ""
    faults: list[str] = []
    found = head is None
    for row in _chain(database):
        faults += _faults(row, seq + 1, last)
        decisions, seq, last = decisions + 1, row.seq, row.hash
        found = found or last == head
    if not found:
        faults.append(f"no decision has the hash {head}: decisions are missing at the end")
    return Audit(decisions, last, tuple(faults))


def decision_hash(row: Any) -> str:
    """SHA-256 of a decision as Postgres writes it as JSON: what its trigger must have stored."""
    told = ", ".join(
        (
            _json(row.prev_hash), str(row.seq), str(row.decision_id), str(row.model_id),
            _json(row.kind), _json(row.rule), _json(row.reason), _json(row.as_of),
            row.inputs, _json(row.subject), _json(row.decided_at),
        )
    )  # fmt: skip
    return hashlib.sha256(f"[{told}]".encode()).hexdigest()


def _json(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _chain(database: Database) -> Iterator[Any]:
    after = -1
    while True:
        with database.transaction() as tx:
            rows = tx.rows("reports.chain", after=after, count=CHAIN_STRETCH)
        if not rows:
            return
        yield from rows
        after = rows[-1].seq


def _faults(row: Any, place: int, last: str) -> Iterator[str]:
    told = f"decision {row.decision_id} (number {row.seq} in the chain)"
    if row.seq != place:
        yield f"{told}: {count(row.seq - place, 'decision')} missing before it"
    elif row.prev_hash != last:
        yield f"{told}: it does not follow the decision before it"
    if decision_hash(row) != row.hash:
        yield f"{told}: its content does not give its hash; it was changed after it was made"
