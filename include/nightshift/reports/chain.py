"""The chain of decisions, each hashed with the one before it, and whether it is whole."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nightshift.data import Database
from nightshift.records import AboutKind
from nightshift.wording import count

FIRST_RULE = 1
"""The ``hash_rule`` of decisions that were made when what they are about was words alone."""

ONCE_HOLD = ("wait", "ask", "held")
"""The kinds that the first rule hashes as ``hold``, which they were called together."""

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
    reached = head is None
    for row in _chain(database):
        faults += _faults(row, seq + 1, last)
        decisions, seq, last = decisions + 1, row.seq, row.hash
        reached = reached or last == head
    if not reached:
        faults.append(f"no decision has the hash {head}: decisions are missing at the end")
    return Audit(decisions, last, tuple(faults))


def decision_hash(row: Any) -> str:
    """SHA-256 of a decision as Postgres writes it as JSON: what its trigger must have stored."""
    parts = [row.prev_hash, row.seq, row.decision_id, row.model_id, _hashed_kind(row)]
    parts += [row.rule, row.reason, row.as_of, _Json(row.inputs), row.subject, row.decided_at]
    if row.hash_rule != FIRST_RULE:
        parts += [row.hash_rule, row.about, row.about_id, _Json(row.severity), row.alarming]
        parts += [row.falling_since]
    text = ", ".join(
        part if isinstance(part, _Json) else json.dumps(part, ensure_ascii=False) for part in parts
    )
    return hashlib.sha256(f"[{text}]".encode()).hexdigest()


class _Json(str):
    """What Postgres has written as JSON already."""


def _hashed_kind(row: Any) -> str:
    kind: str = row.kind
    return "hold" if row.hash_rule == FIRST_RULE and kind in ONCE_HOLD else kind


_FIRST_SUBJECTS: tuple[tuple[AboutKind, re.Pattern[str]], ...] = (
    ("comparison", re.compile(r"comparison (\d+)")),
    ("shadow", re.compile(r"shadow (\d+)")),
    ("approval", re.compile(r"approval (\d+)")),
    ("version", re.compile(r"promote (\d+): .*", re.DOTALL)),
    ("probation", re.compile(r"probation \d+ of promotion (\d+)")),
    ("monitor", re.compile(r"monitor .*()", re.DOTALL)),
    ("request", re.compile(r"request .*()", re.DOTALL)),
    ("rollback", re.compile(r"rollback .*()", re.DOTALL)),
)


def _names_its_subject(row: Any) -> bool:
    """Whether the columns that the first rule does not hash are those that its words gave."""
    if row.hash_rule != FIRST_RULE:
        return True
    matches = ((kind, pattern.fullmatch(row.subject)) for kind, pattern in _FIRST_SUBJECTS)
    about, number = next(((kind, m[1]) for kind, m in matches if m), ("other", ""))
    asks = about in ("comparison", "shadow")
    once = "ask" if asks else "held" if row.rule == "held" else "wait"
    return (
        row.about == about
        and row.about_id == (int(number) if number else None)
        and (row.kind not in ONCE_HOLD or row.kind == once)
    )


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
    decision = f"decision {row.decision_id} (number {row.seq} in the chain)"
    if row.seq != place:
        yield f"{decision}: {count(row.seq - place, 'decision')} missing before it"
    elif row.prev_hash != last:
        yield f"{decision}: it does not follow the decision before it"
    if decision_hash(row) != row.hash or not _names_its_subject(row):
        yield f"{decision}: its content does not give its hash; it was changed after it was made"
