"""What becomes of versions: one serves, scores in shadow, waits for a person, or makes way.

The only caller of :meth:`nightshift.registry.Registry.promote`: since when a champion serves is
said here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from nightshift import night, registry, reports
from nightshift.data import Transaction
from nightshift.documents import Inputs, Worth
from nightshift.family import ModelFamily
from nightshift.promotion import approvals, comparison, trials
from nightshift.records import About, Decision, Promotion


@dataclass(frozen=True)
class _Change:
    """One version serves instead of another, since when, and what it was worth."""

    version_id: int
    instead_of: int | None
    effective_from: datetime
    reference: Worth | None = None
    verb: str = "was promoted"


@dataclass(frozen=True)
class Proof:
    """A comparison, and the version that serves in its challenger's place: its refit.

    ``serving`` is None where the challenger itself serves.
    """

    comparison_id: int
    serving: int | None = None


def carry_out(
    tx: Transaction,
    versions: registry.Registry,
    family: ModelFamily,
    verdict: Decision,
    about: About,
    proof: Proof,
    now: datetime,
) -> int:
    """Record the verdict on a challenger and do what it says; the decision's id.

    A ``promote`` lets it serve, a ``shadow`` score beside the champion, and an ``ask`` asks a
    person. ``about`` is the comparison, or the shadow that has followed it.

    Raises
    ------
    PromotionLost
        The champion is no longer the one that the challenger was compared with.
    """
    decision_id = registry.decide(tx, verdict, about=about, now=now)
    comparison_id = proof.comparison_id
    compared = comparison.stored_comparison(tx, comparison_id)
    if verdict.kind == "promote":
        order = registry.decision(tx, compared.decision_id).inputs
        latest = order.latest
        below = latest.threshold if latest is not None and order.below else None
        change = _Change(
            proof.serving or compared.challenger_version,
            compared.champion_version,
            verdict.as_of
            if _could_not_serve(tx, family, verdict, compared.champion_version)
            else _serves_from(compared.champion_version, verdict.as_of, now),
            compared.reference.capped(below) if compared.reference else None,
        )
        _serve(tx, versions, change, decision_id, now)
    elif verdict.kind == "shadow":
        trials.begin_shadow(tx, family, comparison_id, compared, verdict, decision_id, now=now)
    elif verdict.kind == "ask":
        approvals.ask(
            tx,
            comparison_id,
            reports.evidence(compared, verdict, family.performance.gauge()),
            now=now,
        )
    return decision_id


def answer(
    tx: Transaction,
    versions: registry.Registry,
    approval_id: int,
    said: approvals.Answer,
    by: str,
    *,
    now: datetime,
    reason: str = "",
) -> int:
    """Promote the version that a person approves, else reject it; the decision's id.

    An approval that was answered before stays as it was answered.

    Raises
    ------
    PromotionLost
        The champion is no longer the one that the evidence is about.
    """
    approval = approvals.approval(tx, approval_id)
    tx.rows("trials.lock_answers")
    earlier = tx.maybe("trials.find_answer", approval_id=approval_id)
    if earlier is not None:
        answered_by: int = earlier.decision_id
        return answered_by
    decision_id = approvals.record(tx, approval, said, by, reason, now)
    if said == "approved":
        since = _serves_from(approval.champion_version, approval.as_of, now)
        change = _Change(approval.version_id, approval.champion_version, since, approval.reference)
        _serve(tx, versions, change, decision_id, now)
    return decision_id


def by_hand(
    tx: Transaction,
    versions: registry.Registry,
    version_id: int,
    reason: str,
    by: str,
    *,
    now: datetime,
) -> int:
    """Make a version the champion on somebody's word, without proof; the decision's id."""
    model_id = registry.version(tx, version_id).model.model_id
    serving = registry.champion(tx, model_id, now)
    order = Decision(model_id, "promote", "by_hand", reason, now, Inputs({"by": by}))
    about = About.version(version_id, reason)
    decision_id = registry.decide(tx, order, about=about, now=now)
    change = _Change(version_id, serving.version_id if serving else None, now)
    _serve(tx, versions, change, decision_id, now)
    return decision_id


def end_probation(
    tx: Transaction,
    versions: registry.Registry,
    probation: trials.Probation,
    verdict: Decision,
    *,
    now: datetime,
) -> int:
    """Let the predecessor of a champion on probation serve again; the decision's id."""
    decision_id = registry.decide(tx, verdict, about=probation.about, now=now)
    change = _Change(probation.older, probation.newer, now, probation.reference, "serves again")
    _serve(tx, versions, change, decision_id, now)
    return decision_id


def roll_back(
    tx: Transaction,
    versions: registry.Registry,
    order: Decision,
    about: About,
    way: tuple[Promotion, Promotion],
    *,
    instead_of: int,
    now: datetime,
) -> int:
    """Let an earlier champion serve again because somebody says so; the decision's id.

    Parameters
    ----------
    order
        What was said; its inputs tell whether the nights of the bad version are scored again.
    way
        The promotion that is undone, and the last one of the version that serves again, as
        :func:`nightshift.registry.way_back` finds them.
    instead_of
        The version that serves, as the way was found.
    """
    bad, good = way
    decision_id = registry.decide(tx, order, about=about, now=now)
    since = bad.effective_from if order.inputs.rescore else now
    change = _Change(good.version_id, instead_of, since, good.reference, "serves again")
    _serve(tx, versions, change, decision_id, now)
    return decision_id


def _serves_from(instead_of: int | None, as_of: datetime, now: datetime) -> datetime:
    """Since when a challenger serves that was proven, or approved, for ``as_of``.

    Later champions serve from now on, so that a night scored already is scored again by the same
    version; before the first there was none to disagree with.
    """
    return as_of if instead_of is None else now


def _could_not_serve(
    tx: Transaction, family: ModelFamily, verdict: Decision, champion: int | None
) -> bool:
    """Whether a champion can score nothing, and has no night from the verdict's moment on.

    Whoever replaces it may serve from there, and the night that it could not score is not lost.
    """
    return (
        champion is not None
        and verdict.rule == "unscorable"
        and not night.nights_scored_by(tx, family.family, champion, verdict.as_of)
    )


def _serve(
    tx: Transaction,
    versions: registry.Registry,
    change: _Change,
    decision_id: int,
    now: datetime,
) -> None:
    """Make a version the champion; what people are still asked about its model is answered."""
    version = registry.version(tx, change.version_id)
    why = f"version {version.number} {change.verb}"
    approvals.supersede(tx, version.model.model_id, why, now=now)
    versions.promote(
        tx,
        version,
        instead_of=change.instead_of,
        decision_id=decision_id,
        effective_from=change.effective_from,
        now=now,
        reference=change.reference,
    )
