"""Whether a challenger has proven that it is better: a comparison to a verdict."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from nightshift.documents import Inputs
from nightshift.family import Promotion
from nightshift.records import Comparison, Decision, DecisionKind

ALL_BUT_PERFECT = 0.98
"""Who wins more than this of what a constant guess falls short of perfection has seen the truth."""


def judge(comparison: Comparison, promotion: Promotion, as_of: datetime, model_id: int) -> Decision:
    """Whether a challenger replaces the champion: only on proof, never on a draw.

    Returns
    -------
    Decision
        ``reject`` without proof; ``ask`` where a person must look, or is to be asked; ``shadow``
        where the challenger must go on proving itself; else ``promote``.
    """
    kind, rule, reason = _verdict(comparison, promotion)
    return Decision(model_id, kind, rule, reason, as_of, _evidence(comparison))


def _evidence(comparison: Comparison) -> Inputs:
    """The figures of a comparison, as they are stored with the decision."""
    figures = asdict(comparison)
    del figures["reference"], figures["decision_id"]
    return Inputs(figures)


def _verdict(comparison: Comparison, promotion: Promotion) -> tuple[DecisionKind, str, str]:
    if comparison.champion_version is None:
        return _unopposed(comparison, promotion)
    if comparison.unscorable is not None:
        return _instead_of_nobody(comparison, promotion)
    objection = (
        _no_proof(comparison, promotion)
        or _border_objection(comparison)
        or _slice_objection(comparison, promotion)
    )
    if objection is not None:
        return "reject", *objection
    told, suspicion = compared(comparison), _suspicion(comparison, promotion)
    if suspicion is not None:
        return "ask", "too_good", f"{told}, but {suspicion}"
    if promotion.shadow is not None:
        days = promotion.shadow.total_seconds() / 86400
        return "shadow", "proof", f"{told}; it scores beside the champion for {days:g} days"
    return proven(promotion, f"{told}, above the margin {promotion.margin:g}")


def _unopposed(comparison: Comparison, promotion: Promotion) -> tuple[DecisionKind, str, str]:
    told = "the first version of this model has nobody to beat"
    suspicion = _suspicion(comparison, promotion)
    if suspicion is None:
        return "promote", "unopposed", told
    worth = f"{comparison.metric} {comparison.challenger_value:.4g}"
    return "ask", "too_good", f"{told}, but its {worth} is suspicious: {suspicion}"


def _instead_of_nobody(
    comparison: Comparison, promotion: Promotion
) -> tuple[DecisionKind, str, str]:
    """Where the champion cannot score, readers get nothing: whoever can is better."""
    sentence = f"the champion cannot score: {comparison.unscorable}"
    kind, _, suspicion = _unopposed(comparison, promotion)
    if kind == "ask":
        return "ask", "unscorable", f"{sentence}; {suspicion}"
    if promotion.approval == "human":
        return "ask", "unscorable", f"{sentence}; a person is asked"
    return "promote", "unscorable", f"{sentence}; the new version can"


def proven(promotion: Promotion, told: str) -> tuple[DecisionKind, str, str]:
    """What becomes of a challenger that has proved itself: it serves, or a person is asked."""
    if promotion.approval == "human":
        return "ask", "approval", f"{told}; a person is asked"
    return "promote", "proof", told


def _no_proof(comparison: Comparison, promotion: Promotion) -> tuple[str, str] | None:
    if comparison.row_count < promotion.min_rows:
        found = f"the holdout has {comparison.row_count} labelled rows"
        return "too_few_rows", f"{found}, and {promotion.min_rows} are needed for proof"
    if comparison.difference is None or comparison.low is None:
        missing = [one.missing for one in comparison.candidates if one.missing]
        why = f": {missing[0]}" if missing else ""
        return "undefined", f"{comparison.metric} is undefined on the holdout{why}"
    if comparison.low <= promotion.margin:
        return "no_proof", f"{compared(comparison)}, not above the margin {promotion.margin:g}"
    return None


def compared(comparison: Comparison) -> str:
    """What a comparison found, in one sentence with its figures."""
    winner = next(
        (c for c in comparison.candidates if c.version_id == comparison.challenger_version), None
    )
    who = (
        f"the earlier champion, version {winner.number}, has a"
        if winner is not None and winner.kind == "earlier"
        else "the challenger's"
    )
    said = (
        f"on {comparison.row_count} later rows {who} {comparison.metric}"
        f"{' of' if winner is not None and winner.kind == 'earlier' else ' is'}"
        f" {comparison.challenger_value:.4g} against {comparison.champion_value:.4g}"
    )
    if comparison.difference is None or comparison.low is None or comparison.confidence is None:
        return said
    return (
        f"{said}: better by {comparison.difference:.3g}, at least {comparison.low:.3g} with"
        f" {comparison.confidence:.3g} confidence"
    )


def _border_objection(comparison: Comparison) -> tuple[str, str] | None:
    cases = comparison.border_cases
    if cases is None or cases.champion_value is None:
        return None
    if cases.challenger_value is not None and cases.challenger_value >= cases.champion_value:
        return None
    worth = "nothing" if cases.challenger_value is None else f"{cases.challenger_value:.4g}"
    return "border_cases", (
        f"{compared(comparison)}, but on the {cases.rows} border cases it is worth {worth} against"
        f" {cases.champion_value:.4g}"
    )


def _slice_objection(comparison: Comparison, promotion: Promotion) -> tuple[str, str] | None:
    if promotion.max_slice_drop is None:
        return None
    worse = [
        (part.high, part.difference, part.slice)
        for part in comparison.slices
        if part.high is not None
        and part.difference is not None
        and part.high < -promotion.max_slice_drop
    ]
    if not worse:
        return None
    high, difference, name = min(worse)
    return "slice", (
        f"{compared(comparison)}, but on {name} it is worse by {-difference:.3g}, at least"
        f" {-high:.3g}, which is more than max_slice_drop {promotion.max_slice_drop:g}"
    )


def _suspicion(comparison: Comparison, promotion: Promotion) -> str | None:
    """A leap towards perfection: something in the rows has told the truth, it seems."""
    if promotion.too_good is None or comparison.perfect is None:
        return None
    serving, now = comparison.champion_value, comparison.challenger_value
    # Of a gain only what is sure counts: on a few rows luck leaps far.
    sure = None if serving is None or comparison.low is None else serving + comparison.low
    # To be again as good as the champion once was is no leap.
    recovered = _share_won(comparison.champion_reference, now, comparison.perfect)
    if recovered is not None and recovered <= promotion.too_good:
        sure = None
    leaps = (
        ("at least", "the champion", serving, sure, promotion.too_good),
        ("", "guessing the same for all", comparison.baseline, now, ALL_BUT_PERFECT),
    )
    for least, whom, before, after, most in leaps:
        share = _share_won(before, after, comparison.perfect)
        if share is not None and share > most:
            return (
                f"that wins {f'{least} ' if least else ''}{share:.0%} of what {whom} falls short of"
                " perfection: look for a leak (promotion.too_good)"
            )
    return None


def _share_won(before: float | None, after: float | None, perfect: float) -> float | None:
    if before is None or after is None or perfect <= before:
        return None
    return (after - before) / (perfect - before)
