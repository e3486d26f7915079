"""What the measurements of a family call for: a decision for each model.

Each model votes ``fail`` when one of the family's rules fires, ``pass`` when its metric could be
told and none fires, ``unknown`` otherwise. Votes of a group become retrains by the group's rule;
a retrain then passes the cooldown, the labels learnt from already, and the budget of the night.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, assert_never

from nightshift.documents import Inputs
from nightshift.family import AtLeast, GroupRule, Models, Retrain, When
from nightshift.policy.cutoffs import counts_as_failure, wait
from nightshift.records import Decision, DecisionKind, Hold, Measurement, Standing, Vote
from nightshift.wording import day, figures, listed, moment

CALENDAR, ON_DEMAND, FIRST_MODEL = "calendar", "on_demand", "first_model"

VOTES_KEPT = 100
"""Up to how many models of a group each decision keeps everybody's vote; of more, its own and how
many there were: a thousand decisions with a thousand votes each are a million."""

NAMED = 20
"""How many models of a group a sentence names; the others are counted."""


@dataclass(frozen=True)
class Ballot:
    """How one model votes, by which rule, in a sentence, and how badly it does."""

    standing: Standing
    vote: Vote
    rule: str
    reason: str
    severity: float = 0.0
    alarming: bool = False
    falling_since: datetime | None = None


def decide(
    rule: Retrain, standings: Sequence[Standing], models: Models | None = None
) -> list[Decision]:
    """What the measurements of a family's models call for, one decision for each model.

    Parameters
    ----------
    rule
        The family's ``retrain`` section.
    models
        The family's ``models`` section, whose groups share a rule; None for a single model.

    Returns
    -------
    list of Decision
        ``keep`` where nothing is wrong or nothing can be said, ``alert`` where a model is below
        its threshold and is not retrained now, ``wait`` where its group cannot be decided yet,
        ``retrain`` where a rule is fulfilled. In the order of ``standings``.
    """
    ballots = [ballot_of(rule.when, standing) for standing in standings]
    if models is None:
        return [_alone(rule, ballot) for ballot in ballots]
    groups: dict[str | None, list[Ballot]] = {}
    for ballot in ballots:
        groups.setdefault(
            ballot.standing.group if ballot.standing.has_champion else None, []
        ).append(ballot)
    decided = {
        ballot.standing.model_id: decision
        for name, members in groups.items()
        for ballot, decision in (
            ((ballot, _alone(rule, ballot)) for ballot in members)
            if name is None
            else zip(members, _together(rule, models, name, members), strict=True)
        )
    }
    return [decided[standing.model_id] for standing in standings]


def group_verdict(rule: GroupRule, votes: Iterable[Vote]) -> Literal["retrain", "keep", "wait"]:
    """What the votes of a group say: an unknown vote is never counted as failing.

    ``wait`` is the answer as long as the unknown votes could still tip the rule.
    """
    cast = list(votes)
    fails, unknown = cast.count("fail"), cast.count("unknown")
    needed = _needed(rule, len(cast))
    if fails >= needed:
        return "retrain"
    return "wait" if fails + unknown >= needed else "keep"


def request(rule: Retrain, standing: Standing, kind: str, reason: str, by: str) -> Decision:
    """A retrain that a calendar (``kind`` is ``calendar``) or a person (``on_demand``) asks for.

    A calendar minds the cooldown and never asks twice about the same labels; a person is obeyed.
    """
    decision = _decision(standing, "retrain", kind, reason, by=by)
    return _restrained(rule, standing, decision) if kind == CALENDAR else decision


def while_held(decision: Decision, held: Hold | None) -> Decision:
    """The same decision, unless it would change something by itself in a family that is held."""
    by_itself = decision.kind == "promote" or (
        decision.kind == "retrain" and decision.rule != ON_DEMAND
    )
    if held is None or not by_itself:
        return decision
    proven = decision.kind == "promote"
    then = "; a person is asked" if proven else ""
    return replace(
        decision,
        kind="ask" if proven else "held",
        rule="held",
        reason=f"{decision.reason}, but the family is {held}{then}",
        inputs=decision.inputs.and_(asked_by=decision.rule, held=asdict(held)),
    )


def within_budget(decisions: Sequence[Decision], budget: int, spent: int) -> list[Decision]:
    """The same decisions, with the retrains that exceed the budget deferred, the mildest first.

    Parameters
    ----------
    budget
        How many retrains a night may bring, over all families.
    spent
        How many this night has brought already.
    """
    asking = sorted(
        (d for d in decisions if d.kind == "retrain" and d.rule != ON_DEMAND),
        key=lambda d: (-d.severity, d.model_id),
    )
    late = {id(d): place for place, d in enumerate(asking) if place >= max(budget - spent, 0)}
    return [
        _deferred(d, late[id(d)] + 1, len(asking), budget, spent) if id(d) in late else d
        for d in decisions
    ]


def ballot_of(when: When | None, standing: Standing) -> Ballot:
    """How a model votes. Without rules nothing fails; a breach is then alarming all the same."""
    if not standing.has_champion or not standing.measurements:
        missing = "no_champion" if not standing.has_champion else "unmeasured"
        return Ballot(standing, "unknown", missing, "nothing could be measured yet")
    latest = standing.measurements[0]
    sentence = latest.sentence(standing.say_as)
    fired = list(_fired(when, standing)) if when else []
    if fired:
        rule, _, severity = max(fired, key=lambda item: item[2])
        sentence = "; ".join([sentence, *(reason for _, reason, _ in fired)])
        since = standing.shift.since if standing.shift and _fallen(standing) else None
        return Ballot(
            standing, "fail", rule, sentence, severity, alarming=True, falling_since=since
        )
    if latest.state in ("immature", "undefined"):
        return Ballot(standing, "unknown", latest.state, sentence)
    if latest.state == "measured":
        return Ballot(standing, "pass", latest.state, sentence)
    if when is None:
        sentence = f"{sentence}; this family only alerts (retrain.when is null)"
        return Ballot(
            standing, "pass", "no_retrain_rule", sentence, _shortfall(latest), alarming=True
        )
    sentence = f"{sentence}; {_short_of(when, standing)}"
    return Ballot(standing, "pass", "too_few_breaches", sentence, _shortfall(latest), alarming=True)


def surely_below(standing: Standing) -> bool:
    """Whether a champion lies below its threshold without doubt, by the nights or by the window."""
    if not standing.measurements:
        return False
    breached = standing.measurements[0].state == "breached" and standing.whole_window
    return breached or _fallen(standing)


def _fallen(standing: Standing) -> bool:
    """Whether the detector says that the level has fallen; not where nothing can be judged."""
    judged = standing.measurements[0].state in ("measured", "breached")
    return judged and standing.shift is not None and standing.shift.detected


def _fired(when: When, standing: Standing) -> Iterable[tuple[str, str, float]]:
    """Every rule that fires: its name, its sentence, and how severe it is."""
    latest, shift = standing.measurements[0], standing.shift
    if shift is not None and _fallen(standing):
        assert shift.since is not None  # evidence without a stretch is none
        evidence, needed = figures([shift.evidence], shift.limit)
        sentence = (
            f"the nights since {day(shift.since)} say that it got worse for good: evidence"
            f" {evidence}, and {needed} is enough"
        )
        yield "shift", sentence, shift.evidence / shift.limit
    if when.breaches is not None and latest.state == "breached":
        considered = standing.measurements[: when.of_last]
        breaches = sum(m.state == "breached" for m in considered)
        if breaches >= when.breaches:
            yield "breaches", _counted(breaches, when), _shortfall(latest)
    if latest.state == "breached" and standing.whole_window:
        yield "whole_window", "that is sure over a whole window of its nights", _shortfall(latest)
    for signal, at_alert in when.signals.items():
        levels = standing.signals.get(signal, ())[: at_alert.of_last]
        nights = levels.count("alert")
        if levels[:1] == ("alert",) and nights >= at_alert.nights:
            sentence = f"{signal} is at alert in {nights} of the last {at_alert.of_last} nights"
            yield f"signal {signal}", sentence, 1.0


def _counted(breaches: int, when: When) -> str:
    return f"{breaches} of the last {when.of_last} measurements are breaches"


def _short_of(when: When, standing: Standing) -> str:
    if when.breaches is not None:
        considered = standing.measurements[: when.of_last]
        breaches = sum(m.state == "breached" for m in considered)
        return f"{_counted(breaches, when)}, and {when.breaches} are needed"
    return "it has not served for a whole performance.window yet, and nothing else accuses it"


def _shortfall(m: Measurement) -> float:
    """How many standard errors a measurement lies below its threshold; 0 where that is untold."""
    if m.value is None or m.low is None or m.high is None or m.threshold is None:
        return 0.0
    return (m.threshold - m.value) / max((m.high - m.low) / 3.92, 1e-12)


def _alone(rule: Retrain, ballot: Ballot) -> Decision:
    """The decision on a model that shares its rule with nobody."""
    if not ballot.standing.has_champion:
        return _first(rule, ballot.standing)
    if ballot.vote == "fail":
        return _restrained(
            rule, ballot.standing, _voted(ballot, "retrain", ballot.rule, ballot.reason)
        )
    return _voted(ballot, "alert" if ballot.alarming else "keep", ballot.rule, ballot.reason)


def _first(rule: Retrain, standing: Standing) -> Decision:
    """A model without a champion gets a first one as soon as it has enough labels."""
    least = rule.training.min_rows or 0
    if standing.trainable < least or not standing.trainable:
        reason = f"no version serves yet: {standing.trainable} labelled rows, {least} are needed"
        return _decision(standing, "keep", "too_few_labels", reason)
    reason = f"no version serves yet, and {standing.trainable} labelled rows are enough for a first"
    decision = _decision(standing, "retrain", FIRST_MODEL, reason)
    return _restrained(rule, standing, decision)


def _together(
    rule: Retrain, models: Models, group: str, members: Sequence[Ballot]
) -> list[Decision]:
    """The decisions on the models of a group, whose votes are counted together."""
    shared = models.rule_of(group)
    verdict = group_verdict(shared, (ballot.vote for ballot in members))
    sentence = f"{group}: {_tally(members)}; it retrains if {_words(shared, len(members))}"
    worst = max((ballot.severity for ballot in members if ballot.vote == "fail"), default=0.0)
    votes = {ballot.standing.name: ballot.vote for ballot in members}
    counted = {vote: list(votes.values()).count(vote) for vote in ("fail", "pass", "unknown")}
    kept = votes if len(votes) <= VOTES_KEPT else {}
    decided = []
    for ballot in members:
        decision = _member(rule, models, verdict, sentence, worst, ballot)
        own = {ballot.standing.name: ballot.vote}
        grouped = {"group": group, "votes": kept or own, "counted": counted}
        decided.append(replace(decision, inputs=decision.inputs.and_(**grouped)))
    return decided


def _member(
    rule: Retrain, models: Models, verdict: str, sentence: str, worst: float, ballot: Ballot
) -> Decision:
    standing = ballot.standing
    reason = f"{ballot.reason}; {sentence}"
    if verdict == "retrain" and (ballot.vote == "fail" or models.retrains == "all"):
        name = ballot.rule if ballot.vote == "fail" else "group"
        decision = _voted(ballot, "retrain", name, reason)
        if ballot.vote != "fail":
            decision = replace(decision, severity=worst)
        return _restrained(rule, standing, decision)
    if ballot.vote == "fail":
        kind: DecisionKind = "wait" if verdict == "wait" else "alert"
        return _voted(ballot, kind, f"group_{verdict}", reason)
    return _voted(ballot, "alert" if ballot.alarming else "keep", ballot.rule, reason)


def _restrained(rule: Retrain, standing: Standing, decision: Decision) -> Decision:
    """A retrain, unless the last one is too near or has learnt from the same labels."""
    last = standing.last_retrain
    if last is None:
        return decision
    learnt = standing.shadow_learnt_until
    if learnt is not None and counts_as_failure(decision.falling_since, learnt):
        why = "but a challenger scores beside the champion, and has not ended"
        return replace(decision, kind="alert", rule="in_shadow", reason=f"{decision.reason}, {why}")
    pause = timedelta(seconds=wait(rule.cooldown.total_seconds(), standing.failures))
    if standing.as_of - last < pause:
        until = last + pause
        why = f"but the cooldown lasts until {moment(until)}"
        if standing.failures:
            why += f", after {standing.failures} in a row that did not serve"
        return replace(decision, kind="alert", rule="cooldown", reason=f"{decision.reason}, {why}")
    if not standing.fresh_labels:
        why = f"but no label has matured since the retrain of {moment(last)}"
        return replace(
            decision, kind="alert", rule="no_new_labels", reason=f"{decision.reason}, {why}"
        )
    return decision


def _deferred(decision: Decision, place: int, of: int, budget: int, spent: int) -> Decision:
    why = (
        f"deferred: number {place} of {of} by severity, and {spent} of the night's {budget}"
        " retrains are spent already"
    )
    reason = f"{decision.reason}; {why}"
    inputs = decision.inputs.and_(asked_by=decision.rule, budget=budget, spent=spent)
    return replace(decision, kind="defer", rule="budget", reason=reason, inputs=inputs)


def _needed(rule: GroupRule, members: int) -> int:
    match rule:
        case "any":
            return 1
        case "all":
            return max(members, 1)
        case AtLeast(at_least=count):
            return count
        case _:
            assert_never(rule)


def _tally(members: Sequence[Ballot]) -> str:
    failing = [ballot.standing.name for ballot in members if ballot.vote == "fail"]
    unknown = [ballot.standing.name for ballot in members if ballot.vote == "unknown"]
    sentence = f"{len(failing)} of {len(members)} fail"
    if failing:
        sentence += f" ({listed(failing, NAMED)})"
    return sentence + (f", unknown: {listed(unknown, NAMED)}" if unknown else "")


def _words(rule: GroupRule, members: int) -> str:
    match rule:
        case "any":
            return "any does"
        case "all":
            return "all do"
        case AtLeast(at_least=count):
            return f"{count} of {members} do"
        case _:
            assert_never(rule)


def _voted(ballot: Ballot, kind: DecisionKind, rule: str, reason: str) -> Decision:
    """A decision that follows from a model's own vote, with what the vote has found."""
    return replace(
        _decision(ballot.standing, kind, rule, reason),
        severity=ballot.severity,
        alarming=ballot.alarming,
        falling_since=ballot.falling_since,
    )


def _decision(
    standing: Standing, kind: DecisionKind, rule: str, reason: str, **inputs: object
) -> Decision:
    figures = Inputs({**_figures(standing), **inputs})
    return Decision(standing.model_id, kind, rule, reason, standing.as_of, figures)


def _figures(standing: Standing) -> Mapping[str, Any]:
    """Everything that was looked at, as it is stored with the decision."""
    measured = [
        {
            "as_of": m.as_of,
            "state": m.state,
            "value": m.value,
            "low": m.low,
            "high": m.high,
            "threshold": m.threshold,
            "labels": m.labels,
            "predictions": m.predictions,
        }
        for m in standing.measurements
    ]
    shift = standing.shift
    return {
        "measurements": measured,
        "below": surely_below(standing),
        "failures": standing.failures,
        "shift": shift and {"evidence": shift.evidence, "limit": shift.limit, "since": shift.since},
        "signals": {name: list(levels) for name, levels in standing.signals.items()},
        "last_retrain": standing.last_retrain,
        "fresh_labels": standing.fresh_labels,
    }
