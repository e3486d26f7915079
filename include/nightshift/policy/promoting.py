"""Whether a challenger has proven that it is better: a comparison to a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import numpy as np

from nightshift.documents import Inputs
from nightshift.family import Promotion
from nightshift.policy import gate
from nightshift.policy.gate import Ruling
from nightshift.records import Comparison, Decision, DecisionKind

Verdict = tuple[DecisionKind, str, str]
"""A kind of decision, the rule and the sentence."""

ALL_BUT_PERFECT = 0.98
"""Who wins more than this of what a constant guess falls short of perfection has seen the truth."""


@dataclass(frozen=True)
class Pool:
    """Challengers of a factory that one night has trained, judged together on their paired nights.

    ``members`` is how many; ``rows`` the labelled rows of all their holdouts.
    """

    members: int
    rows: int
    ruling: Ruling

    def sentence(self, metric: str) -> str:
        """What was found, in words."""
        return (
            f"{self.members} challengers of this night together change {metric} by"
            f" {self.ruling.gain:+.3g} on average, at least {self.ruling.low:+.3g}"
        )


def judge(
    comparison: Comparison,
    promotion: Promotion,
    as_of: datetime,
    model_id: int,
    *,
    below: bool = False,
    pool: Pool | None = None,
) -> Decision:
    """Whether a challenger replaces the champion: on proof, or in place of one that has failed.

    Parameters
    ----------
    below
        Whether the champion was surely below its threshold when the retrain was decided: it has
        lost the benefit of the doubt.
    pool
        What all challengers of the night come to, where there are several in a factory.

    Returns
    -------
    Decision
        ``reject`` without proof; ``ask`` where a person must look, or is to be asked; ``shadow``
        where the challenger must go on proving itself; else ``promote``.
    """
    kind, rule, reason = _verdict(comparison, promotion, below, pool)
    return Decision(model_id, kind, rule, reason, as_of, _evidence(comparison))


def better(comparisons: Sequence[Comparison], promotion: Promotion, *, below: bool) -> int:
    """The place of the best of several challengers, each compared on its own later nights."""
    order = {"reject": 0, "shadow": 1, "promote": 2}
    ranks = [
        (order[ruling.kind], ruling.gain)
        for ruling in (_ruling(comparison, promotion, below) for comparison in comparisons)
    ]
    return ranks.index(max(ranks))


def together(comparisons: Sequence[Comparison], promotion: Promotion, *, below: bool) -> Pool:
    """Judge the challengers of several members by the mean of their gains, night by night."""
    by_night: dict[datetime, list[float]] = {}
    for comparison in comparisons:
        for night in comparison.gains:
            by_night.setdefault(night.as_of, []).append(night.gain)
    gains = np.array([np.mean(by_night[night]) for night in sorted(by_night)])
    short = [_short(comparison) for comparison in comparisons if comparison.gains]
    ruling = gate.judge(
        gains,
        float(np.mean(short)) if short else 0.0,
        below=below,
        confidence=promotion.confidence,
        tolerance=promotion.tolerance,
        margin=promotion.margin,
    )
    rows = sum(_rows(comparison) for comparison in comparisons)
    return Pool(len(comparisons), rows, ruling)


def is_proof(comparison: Comparison, promotion: Promotion) -> bool:
    """Whether the gain is proven by the bound."""
    return comparison.low is not None and comparison.low > promotion.margin


def short_of_perfect(perfect: float | None, value: float | None) -> float:
    """What a version's metric falls short of perfection on the same rows; 0 where it is untold."""
    return 0.0 if perfect is None or value is None else max(perfect - value, 0.0)


def _short(comparison: Comparison) -> float:
    """What the champion falls short of perfection; of a first version what the guess does."""
    first = comparison.champion_version is None
    before = comparison.guess if first else comparison.champion_value
    return short_of_perfect(comparison.perfect, before)


def _rows(comparison: Comparison) -> int:
    return comparison.row_count if comparison.holdout_rows is None else comparison.holdout_rows


def _ruling(comparison: Comparison, promotion: Promotion, below: bool) -> Ruling:
    gains = np.array([night.gain for night in comparison.gains])
    if comparison.difference is None or comparison.low is None:
        return Ruling("reject", "undefined", 0.0, -np.inf)
    return gate.judge(
        gains,
        _short(comparison),
        below=below,
        tolerance=promotion.tolerance,
        margin=promotion.margin,
        paired=(comparison.difference, comparison.low),
    )


def _evidence(comparison: Comparison) -> Inputs:
    """The figures of a comparison, as they are stored with the decision."""
    figures = asdict(comparison)
    del figures["reference"], figures["decision_id"]
    return Inputs(figures)


def _verdict(
    comparison: Comparison, promotion: Promotion, below: bool, pool: Pool | None
) -> Verdict:
    if comparison.champion_version is None:
        return _first(comparison, promotion, pool)
    if comparison.unscorable is not None:
        return _instead_of_nobody(comparison, promotion)
    if pool is not None and not is_proof(comparison, promotion):
        return _pooled(comparison, promotion, pool)
    ruling = _ruling(comparison, promotion, below)
    missing = _no_proof(comparison, promotion, ruling)
    if missing is not None:
        return "reject", *missing
    return _objected(comparison, promotion) or _passed(comparison, promotion, ruling)


def _objected(comparison: Comparison, promotion: Promotion) -> Verdict | None:
    """What speaks against a challenger that is better."""
    objection = _border_objection(comparison) or _slice_objection(comparison, promotion)
    if objection is not None:
        return "reject", *objection
    suspicion = _suspicion(comparison, promotion)
    if suspicion is not None:
        return "ask", "too_good", f"{compared(comparison)}, but {suspicion}"
    return None


def _passed(comparison: Comparison, promotion: Promotion, ruling: Ruling) -> Verdict:
    """Where nothing speaks against it: it serves, or scores beside the champion first."""
    sentence = compared(comparison)
    if ruling.kind == "shadow":
        assert promotion.unproven is not None
        beside = f"it scores beside the champion for up to {_days(promotion.unproven)} days"
        sentence += (
            f", not above the margin {promotion.margin:g}; {beside}, its evidence carried along"
        )
        return "shadow", ruling.rule, sentence
    if promotion.shadow is not None:
        beside = f"it scores beside the champion for {_days(promotion.shadow)} days"
        return "shadow", ruling.rule, f"{sentence}; {beside}"
    if ruling.rule == "proof":
        return proven(promotion, f"{sentence}, above the margin {promotion.margin:g}")
    return proven(promotion, f"{sentence}; {_not_worse(promotion)}", ruling.rule)


def _days(time: timedelta) -> str:
    return f"{time.total_seconds() / 86400:g}"


def _not_worse(promotion: Promotion) -> str:
    return (
        "the champion is below its threshold, so it is enough to be better on average and surely"
        f" not worse by {promotion.tolerance:.0%} (promotion.tolerance)"
    )


def _pooled(comparison: Comparison, promotion: Promotion, pool: Pool) -> Verdict:
    """The one verdict on the challengers of a night, but for a member that is surely worse."""
    sentence = pool.sentence(comparison.metric)
    if pool.rows < promotion.min_rows:
        why = f"their holdouts have {pool.rows} labelled rows"
        return "reject", "too_few_rows", f"{why}, and {promotion.min_rows} are needed for proof"
    if pool.ruling.kind != "promote":
        return "reject", "no_proof", f"{sentence}: no proof"
    losses = -np.array([night.gain for night in comparison.gains])
    tolerated = promotion.tolerance * _short(comparison)
    if gate.bound(losses, promotion.confidence) > tolerated:
        return (
            "reject",
            "no_proof",
            f"{sentence}, but {compared(comparison)}, which is surely worse",
        )
    if pool.ruling.rule != "proof":
        sentence += f"; {_not_worse(promotion)}"
    return _objected(comparison, promotion) or proven(promotion, sentence, "pool")


FIRST = "the first version of this model has nobody to beat"


def _first(comparison: Comparison, promotion: Promotion, pool: Pool | None) -> Verdict:
    """A first version serves where it beats guessing the same for all; else a person is asked."""
    suspicion = _suspicion(comparison, promotion)
    if suspicion is not None:
        worth = f"{comparison.metric} {comparison.challenger_value:.4g}"
        return "ask", "too_good", f"{FIRST}, but its {worth} is suspicious: {suspicion}"
    doubt = _no_better_than_guess(comparison, promotion, pool)
    if doubt is None:
        return "promote", "unopposed", FIRST
    return "ask", "no_better_than_guess", f"{FIRST}, but {doubt}"


def _no_better_than_guess(
    comparison: Comparison, promotion: Promotion, pool: Pool | None
) -> str | None:
    """Why a first version is not known to beat the constant guess; None where it does.

    Members of a factory beat it together, but for one that is surely worse: of a hundred that are
    looked at one by one some look worse by chance, so that asks for more than proof does.
    """
    worth, guess = comparison.challenger_value, comparison.guess
    losses = -np.array([night.gain for night in comparison.gains])
    if pool is not None and pool.ruling.gain > 0:
        if gate.bound(losses, gate.SURE_NOT_WORSE) <= 0:
            return None
    elif worth is None:
        return (
            f"nothing tells whether it beats guessing the same for all: on {comparison.row_count}"
            f" later rows its {comparison.metric} is undefined"
        )
    elif guess is None or worth > guess:
        return None
    assert worth is not None
    return (
        f"on {comparison.row_count} later rows its {comparison.metric} is {worth:.4g}, no better"
        f" than {guess:.4g}, which is what guessing the same for all comes to"
    )


def _instead_of_nobody(comparison: Comparison, promotion: Promotion) -> Verdict:
    """Where the champion cannot score, readers get nothing: whoever can is better."""
    sentence = f"the champion cannot score: {comparison.unscorable}"
    suspicion = _suspicion(comparison, promotion)
    if suspicion is not None:
        worth = f"its {comparison.metric} {comparison.challenger_value:.4g} is suspicious"
        return "ask", "unscorable", f"{sentence}; {worth}: {suspicion}"
    if promotion.approval == "human":
        return "ask", "unscorable", f"{sentence}; a person is asked"
    return "promote", "unscorable", f"{sentence}; the new version can"


def proven(promotion: Promotion, sentence: str, rule: str = "proof") -> Verdict:
    """What becomes of a challenger that has proved itself: it serves, or a person is asked."""
    if promotion.approval == "human":
        return "ask", "approval", f"{sentence}; a person is asked"
    return "promote", rule, sentence


def _no_proof(
    comparison: Comparison, promotion: Promotion, ruling: Ruling
) -> tuple[str, str] | None:
    if _rows(comparison) < promotion.min_rows:
        shortage = f"the holdout has {_rows(comparison)} labelled rows"
        return "too_few_rows", f"{shortage}, and {promotion.min_rows} are needed for proof"
    if comparison.difference is None or comparison.low is None:
        missing = [candidate.missing for candidate in comparison.candidates if candidate.missing]
        why = f": {missing[0]}" if missing else ""
        return "undefined", f"{comparison.metric} is undefined on the holdout{why}"
    if ruling.kind == "reject" or (ruling.kind == "shadow" and promotion.unproven is None):
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
    sentence = (
        f"on {comparison.row_count} later rows {who} {comparison.metric}"
        f"{' of' if winner is not None and winner.kind == 'earlier' else ' is'}"
        f" {comparison.challenger_value:.4g} against {comparison.champion_value:.4g}"
    )
    if comparison.difference is None or comparison.low is None or comparison.confidence is None:
        return sentence
    return (
        f"{sentence}: better by {comparison.difference:.3g}, at least {comparison.low:.3g} with"
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
