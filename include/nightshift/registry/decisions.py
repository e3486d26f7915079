"""Decisions as they are recorded: appended, found again, never changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from nightshift.data import Transaction, as_json
from nightshift.records import Decision

FailedAt = Literal["training", "comparison"]
"""What a decision to retrain has failed at."""


def decide(tx: Transaction, decision: Decision, *, subject: str, now: datetime) -> int:
    """Append a decision; deciding again about the same subject returns the first decision's id."""
    tx.run(
        "registry.append_decision",
        model_id=decision.model_id,
        kind=decision.kind,
        rule=decision.rule,
        reason=decision.reason,
        as_of=decision.as_of,
        inputs=as_json(decision.inputs),
        subject=subject,
        decided_at=now,
    )
    found = decided(tx, decision.model_id, subject)
    assert found is not None
    return found


def end_as_failed(
    tx: Transaction, decision_id: int, rule: FailedAt, reason: str, *, now: datetime
) -> None:
    """End a decision to retrain that came to nothing; ending it again changes nothing.

    The next night may ask for a retrain again: one that failed is not minded by a cooldown.
    """
    asked = decision(tx, decision_id)
    ended = Decision(
        asked.model_id, "failed", rule, reason, asked.as_of, {"decision_id": decision_id}
    )
    decide(tx, ended, subject=f"training {decision_id}", now=now)


def decide_all(
    tx: Transaction, decisions: Sequence[Decision], *, subject: str, now: datetime
) -> None:
    """Append decisions about one subject, in order; what was decided about it before stays."""
    told = [
        {
            "model_id": one.model_id, "kind": one.kind, "rule": one.rule, "reason": one.reason,
            "as_of": one.as_of, "inputs": one.inputs,
        }
        for one in decisions
    ]  # fmt: skip
    tx.run("registry.append_decisions", decisions=as_json(told), subject=subject, decided_at=now)


def models_decided(tx: Transaction, model_ids: Sequence[int], subject: str) -> set[int]:
    """Those of some models that this subject was decided about already."""
    rows = tx.rows("registry.decided", model_ids=list(model_ids), subject=subject)
    return {row.model_id for row in rows}


def decision(tx: Transaction, decision_id: int) -> Decision:
    """The decision of this id."""
    row = tx.one("registry.get_decision", decision_id=decision_id)
    return Decision(row.model_id, row.kind, row.rule, row.reason, row.as_of, row.inputs)


def decided(tx: Transaction, model_id: int, subject: str) -> int | None:
    """The decision about a subject that was made already; None if none was."""
    row = tx.maybe("registry.find_decision", model_id=model_id, subject=subject)
    return row.decision_id if row else None


def retrains_of(tx: Transaction, family: str, subject: str) -> list[int]:
    """The decisions about a subject that tell models of a family to retrain, in order."""
    rows = tx.rows("registry.retrains_of", family=family, subject=subject)
    return [row.decision_id for row in rows]


def last_retrains(tx: Transaction, family: str, before: datetime) -> dict[int, datetime]:
    """When each model of a family was last told to retrain before a moment, by model id."""
    rows = tx.rows("registry.last_retrains", family=family, before=before)
    return {row.model_id: row.as_of for row in rows}
