"""Decisions as they are recorded: appended, found again, never changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, Literal

from nightshift.data import Transaction, as_json
from nightshift.documents import Inputs
from nightshift.records import About, Decision

FailedAt = Literal["training", "comparison", "conclusion"]
"""What a decision to retrain has failed at."""


def decide(tx: Transaction, decision: Decision, *, about: About, now: datetime) -> int:
    """Append a decision; deciding again about the same thing returns the first decision's id."""
    tx.run(
        "registry.append_decision",
        **_columns(decision) | {"inputs": as_json(decision.inputs)},
        **_of(about),
        decided_at=now,
    )
    decision_id = decision_about(tx, decision.model_id, about)
    assert decision_id is not None
    return decision_id


def end_as_failed(
    tx: Transaction, decision_id: int, rule: FailedAt, reason: str, *, now: datetime
) -> None:
    """End a decision to retrain that came to nothing; ending it again changes nothing.

    The next night may ask for a retrain again: one that failed is not minded by a cooldown.
    """
    order = decision(tx, decision_id)
    inputs = Inputs({"decision_id": decision_id})
    ended = Decision(order.model_id, "failed", rule, reason, order.as_of, inputs)
    decide(tx, ended, about=About.training(decision_id), now=now)


def end_unended(
    tx: Transaction,
    why: str,
    *,
    now: datetime,
    decision_ids: Sequence[int] | None = None,
    since: datetime | None = None,
    before: datetime | None = None,
) -> list[int]:
    """End, for one reason, the decisions to retrain that nobody carries out any more; their ids.

    Parameters
    ----------
    decision_ids
        Of these; None for those of all families that were made in (since, before].
    """
    rows = tx.rows("registry.unended", decision_ids=decision_ids, since=since, before=before)
    for row in rows:
        rule: FailedAt = (
            "conclusion" if row.compared else "comparison" if row.trained else "training"
        )
        reason = f"{row.model}: the {rule} of its challenger came to no end: {why}"
        end_as_failed(tx, row.decision_id, rule, reason, now=now)
        tx.record("retrain_unended", now=now, family=row.family, as_of=row.as_of, reason=reason)
    return [row.decision_id for row in rows]


def decide_all(
    tx: Transaction, decisions: Sequence[Decision], *, about: About, now: datetime
) -> None:
    """Append decisions about one thing, in order; what was decided about it before stays."""
    rows = as_json([_columns(decision) for decision in decisions])
    tx.run("registry.append_decisions", decisions=rows, **_of(about), decided_at=now)


def _columns(decision: Decision) -> dict[str, Any]:
    return {column.name: getattr(decision, column.name) for column in fields(decision)}


def _of(about: About) -> dict[str, Any]:
    return {"about": about.kind, "about_id": about.number, "subject": about.subject}


def models_decided(tx: Transaction, model_ids: Sequence[int], about: About) -> set[int]:
    """Those of some models for which this was decided about already."""
    rows = tx.rows("registry.decided_models", model_ids=list(model_ids), subject=about.subject)
    return {row.model_id for row in rows}


def decision(tx: Transaction, decision_id: int) -> Decision:
    """The decision of this id."""
    row = tx.one("registry.get_decision", decision_id=decision_id)
    columns = {column.name: row._mapping[column.name] for column in fields(Decision)}
    return Decision(**columns | {"inputs": Inputs(row.inputs)})


def decision_about(tx: Transaction, model_id: int, about: About) -> int | None:
    """The decision about a thing that was made already; None if none was."""
    row = tx.maybe("registry.find_decision", model_id=model_id, subject=about.subject)
    return row.decision_id if row else None


def retrains_spent(tx: Transaction, since: datetime, as_of: datetime) -> int:
    """How many retrains rules have called for in (since, as_of], over all families.

    Whoever asks next waits until this transaction has ended: a budget is spent by one at a time.
    """
    tx.rows("registry.lock_budget")
    return retrains_called_for(tx, since, as_of)


def retrains_called_for(tx: Transaction, since: datetime, until: datetime | None = None) -> int:
    """How many retrains rules and calendars have called for in (since, until], or until ever."""
    count: int = tx.one("registry.retrains_called_for", since=since, until=until).retrains
    return count


def trial_ends(
    tx: Transaction, family: str, as_of: datetime, model_id: int | None = None
) -> Sequence[Any]:
    """The decisions that ended shadows and probations at a moment: of a family, or of a model.

    Rows of ``decision_id``, ``model`` (its name), ``kind``, ``reason`` and ``as_of``.
    """
    return tx.rows("registry.trial_ends", family=family, as_of=as_of, model_id=model_id)


def retrains_of(tx: Transaction, family: str, about: About) -> list[int]:
    """The decisions about a thing that tell models of a family to retrain, in order."""
    rows = tx.rows("registry.retrains_of", family=family, subject=about.subject)
    return [row.decision_id for row in rows]


def failures(tx: Transaction, family: str, before: datetime) -> dict[int, int]:
    """How many challengers in a row did not serve, by model id; models without any are left out.

    One that had not learnt from any night since the fall is not counted: what it lacked comes with
    the nights.
    """
    rows = tx.rows("registry.failures", family=family, before=before)
    return {row.model_id: row.failures for row in rows}


def last_retrains(tx: Transaction, family: str, before: datetime) -> dict[int, datetime]:
    """When each model of a family was last told to retrain before a moment, by model id."""
    rows = tx.rows("registry.last_retrains", family=family, before=before)
    return {row.model_id: row.as_of for row in rows}
