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
from nightshift.wording import Gauge, count, figure, figures, share

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

    def sentence(self, gauge: Gauge) -> str:
        """What was found, in words."""
        gain, low = self.ruling.gain, self.ruling.low
        side = "better" if gain > 0 else "worse"
        least = f"at least {figure(low)}" if low > 0 else f"perhaps {figure(-low)} worse"
        return (
            f"{self.members} challengers of this night are together {side} by {gauge.by(gain)} on"
            f" average, {least}"
        )


def judge(
    comparison: Comparison,
    promotion: Promotion,
    as_of: datetime,
    model_id: int,
    *,
    below: bool = False,
    pool: Pool | None = None,
    say_as: str | None = None,
) -> Decision:
    """Whether a challenger replaces the champion: on proof, or in place of one that has failed.

    Parameters
    ----------
    below
        Whether the champion was surely below its threshold when the retrain was decided: it has
        lost the benefit of the doubt.
    pool
        What all challengers of the night come to, where there are several in a factory.
    say_as
        How the family says the figures of its metric.

    Returns
    -------
    Decision
        ``reject`` without proof; ``ask`` where a person must look, or is to be asked; ``shadow``
        where the challenger must go on proving itself; else ``promote``.
    """
    case = _Case(comparison, promotion, Gauge(comparison.metric, say_as))
    kind, rule, reason = _verdict(case, below, pool)
    return Decision(model_id, kind, rule, reason, as_of, _evidence(comparison))


@dataclass(frozen=True)
class _Case:
    """A comparison, what the family asks of it, and how its figures are said."""

    comparison: Comparison
    promotion: Promotion
    gauge: Gauge


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


def _verdict(case: _Case, below: bool, pool: Pool | None) -> Verdict:
    comparison, promotion = case.comparison, case.promotion
    if comparison.champion_version is None:
        return _first(case, pool)
    if comparison.unscorable is not None:
        return _instead_of_nobody(case)
    if pool is not None and not is_proof(comparison, promotion):
        return _pooled(case, pool)
    ruling = _ruling(comparison, promotion, below)
    missing = _no_proof(case, ruling)
    if missing is not None:
        return "reject", *missing
    return _objected(case) or _passed(case, ruling)


def _objected(case: _Case) -> Verdict | None:
    """What speaks against a challenger that is better."""
    objection = _border_objection(case) or _slice_objection(case)
    if objection is not None:
        return "reject", *objection
    suspicion = _suspicion(case.comparison, case.promotion)
    if suspicion is not None:
        return "ask", "too_good", f"{_compared(case)}; but {suspicion}"
    return None


def _passed(case: _Case, ruling: Ruling) -> Verdict:
    """Where nothing speaks against it: it serves, or scores beside the champion first."""
    promotion = case.promotion
    if ruling.kind == "shadow":
        assert promotion.unproven is not None
        sentence = _compared(case, "which is not proof yet")
        beside = f"it scores beside the champion for up to {_days(promotion.unproven)} days"
        return "shadow", ruling.rule, f"{sentence}; {beside}, its evidence carried along"
    sentence = _compared(case)
    if promotion.shadow is not None:
        beside = f"it scores beside the champion for {_days(promotion.shadow)} days"
        return "shadow", ruling.rule, f"{sentence}; {beside}"
    if ruling.rule == "proof":
        return proven(promotion, sentence)
    return proven(promotion, f"{sentence}; {_not_worse(promotion)}", ruling.rule)


def _days(time: timedelta) -> str:
    return f"{time.total_seconds() / 86400:g}"


def _not_worse(promotion: Promotion) -> str:
    return (
        "the champion has failed its threshold, so it is enough to be better on average and surely"
        f" not worse by {share(promotion.tolerance)} (promotion.tolerance)"
    )


def _pooled(case: _Case, pool: Pool) -> Verdict:
    """The one verdict on the challengers of a night, but for a member that is surely worse."""
    comparison, promotion = case.comparison, case.promotion
    sentence = pool.sentence(case.gauge)
    if pool.rows < promotion.min_rows:
        return "reject", "too_few_rows", _too_few("their holdouts have", pool.rows, promotion)
    if pool.ruling.kind != "promote":
        return "reject", "no_proof", f"{sentence}: no proof"
    losses = -np.array([night.gain for night in comparison.gains])
    tolerated = promotion.tolerance * _short(comparison)
    if gate.bound(losses, promotion.confidence) > tolerated:
        return "reject", "no_proof", f"{sentence}; but its own is surely worse, {_compared(case)}"
    if pool.ruling.rule != "proof":
        sentence += f"; {_not_worse(promotion)}"
    return _objected(case) or proven(promotion, sentence, "pool")


FIRST = "the first version of this model has nobody to beat"


def _too_few(whose: str, rows: int, promotion: Promotion) -> str:
    return f"{whose} {rows:,} labelled rows, and {promotion.min_rows:,} are needed for proof"


def _first(case: _Case, pool: Pool | None) -> Verdict:
    """A first version serves where it beats guessing the same for all; else a person is asked."""
    doubt = _suspicious_worth(case)
    if doubt is not None:
        return "ask", "too_good", f"{FIRST}, but {doubt}"
    doubt = _no_better_than_guess(case, pool)
    if doubt is None:
        return "promote", "unopposed", FIRST
    return "ask", "no_better_than_guess", f"{FIRST}, but {doubt}"


def _suspicious_worth(case: _Case) -> str | None:
    """Why what a version is worth that nobody opposes is too good to be true."""
    worth = case.comparison.challenger_value
    suspicion = _suspicion(case.comparison, case.promotion)
    if suspicion is None or worth is None:
        return None
    return f"{case.gauge.amount(worth)} is suspicious: {suspicion}"


def _no_better_than_guess(case: _Case, pool: Pool | None) -> str | None:
    """Why a first version is not known to beat the constant guess; None where it does.

    Members of a factory beat it together, but for one that is surely worse: of a hundred that are
    looked at one by one some look worse by chance, so that asks for more than proof does.
    """
    comparison, gauge = case.comparison, case.gauge
    worth, guess = comparison.challenger_value, comparison.guess
    losses = -np.array([night.gain for night in comparison.gains])
    if pool is not None and pool.ruling.gain > 0:
        if gate.bound(losses, gate.SURE_NOT_WORSE) <= 0:
            return None
    elif worth is None:
        return (
            "nothing tells whether it beats guessing the same for all: on"
            f" {comparison.row_count:,} later rows its {gauge.name} is undefined"
        )
    elif guess is None or worth > guess:
        return None
    assert worth is not None
    assert guess is not None
    reading = gauge.reading(worth, guess)
    return (
        f"it is no better than guessing the same for all: {reading.amount} on"
        f" {comparison.row_count:,} later rows, and a constant guess comes to"
        f" {reading.limit.partition(' ')[2]}"
    )


def _instead_of_nobody(case: _Case) -> Verdict:
    """Where the champion cannot score, readers get nothing: whoever can is better."""
    sentence = f"the champion cannot score: {case.comparison.unscorable}"
    doubt = _suspicious_worth(case)
    if doubt is not None:
        return "ask", "unscorable", f"{sentence}; {doubt}"
    if case.promotion.approval == "human":
        return "ask", "unscorable", f"{sentence}; a person is asked"
    return "promote", "unscorable", f"{sentence}; the new version can"


def proven(promotion: Promotion, sentence: str, rule: str = "proof") -> Verdict:
    """What becomes of a challenger that has proved itself: it serves, or a person is asked."""
    if promotion.approval == "human":
        return "ask", "approval", f"{sentence}; a person is asked"
    return "promote", rule, sentence


def _no_proof(case: _Case, ruling: Ruling) -> tuple[str, str] | None:
    comparison, promotion = case.comparison, case.promotion
    if _rows(comparison) < promotion.min_rows:
        return "too_few_rows", _too_few("the holdout has", _rows(comparison), promotion)
    if comparison.difference is None or comparison.low is None:
        missing = [candidate.missing for candidate in comparison.candidates if candidate.missing]
        why = f": {missing[0]}" if missing else ""
        return "undefined", f"{case.gauge.name} is undefined on the holdout{why}"
    if ruling.kind == "reject" or (ruling.kind == "shadow" and promotion.unproven is None):
        return "no_proof", _compared(case, "which is no proof")
    return None


def _compared(case: _Case, note: str = "") -> str:
    """What a comparison found, the gain first; ``note`` says what a gain is worth.

    The margin that is asked for is told where there is one.
    """
    comparison, gauge = case.comparison, case.gauge
    assert comparison.challenger_value is not None
    assert comparison.champion_value is not None
    instead = (
        f"{gauge.instead(comparison.challenger_value, comparison.champion_value)} on"
        f" {comparison.row_count:,} later rows"
    )
    if comparison.difference is None or comparison.low is None or comparison.confidence is None:
        return instead
    gain = gauge.change(comparison.difference, comparison.champion_value)
    nights = f" on {count(len(comparison.gains), 'night')}" if comparison.gains else ""
    noted = f", {note}" if note and comparison.difference > 0 else ""
    low = gauge.change(comparison.low, comparison.champion_value)
    bound = f"at least {low}" if comparison.low > 0 else f"perhaps {low}"
    sentence = (
        f"{_earlier(comparison)}{gain}{nights}{noted}: {instead}, {bound} (with"
        f" {share(comparison.confidence)} confidence)"
    )
    margin = case.promotion.margin
    return f"{sentence}; promotion.margin asks for {gauge.by(margin)}" if margin else sentence


def _earlier(comparison: Comparison) -> str:
    """Who is compared, where it is not the version just trained."""
    for candidate in comparison.candidates:
        won = candidate.version_id == comparison.challenger_version
        if won and candidate.kind == "earlier":
            return f"the earlier champion, version {candidate.number}, is "
    return ""


def _border_objection(case: _Case) -> tuple[str, str] | None:
    cases = case.comparison.border_cases
    if cases is None or cases.champion_value is None:
        return None
    if cases.challenger_value is not None and cases.challenger_value >= cases.champion_value:
        return None
    worth = "cannot be told"
    if cases.challenger_value is not None:
        worth = f"worse, {case.gauge.instead(cases.challenger_value, cases.champion_value)}"
    found = f"{_compared(case)}; but on {count(cases.rows, 'border case')} it is {worth}"
    return "border_cases", found


def _slice_objection(case: _Case) -> tuple[str, str] | None:
    most = case.promotion.max_slice_drop
    if most is None:
        return None
    worse = [
        (part.high, part.difference, part.slice)
        for part in case.comparison.slices
        if part.high is not None and part.difference is not None and part.high < -most
    ]
    if not worse:
        return None
    high, difference, name = min(worse)
    return "slice", (
        f"{_compared(case)}; but on {name} it is worse by {case.gauge.by(difference)}, at least"
        f" {figures([-high], most)[0]}, and promotion.max_slice_drop allows"
        f" {figures([-high], most)[1]}"
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
        won = _share_won(before, after, comparison.perfect)
        if won is not None and won > most:
            return (
                f"that wins {f'{least} ' if least else ''}{share(won)} of what {whom} falls short"
                " of perfection: look for a leak (promotion.too_good)"
            )
    return None


def _share_won(before: float | None, after: float | None, perfect: float) -> float | None:
    if before is None or after is None or perfect <= before:
        return None
    return (after - before) / (perfect - before)
