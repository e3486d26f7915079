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
from nightshift.wording import day, listed, moment

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
    ballots = [ballot(rule.when, standing) for standing in standings]
    if models is None:
        return [_alone(rule, one) for one in ballots]
    groups: dict[str | None, list[Ballot]] = {}
    for one in ballots:
        groups.setdefault(one.standing.group if one.standing.has_champion else None, []).append(one)
    decided = {
        one.standing.model_id: decision
        for name, members in groups.items()
        for one, decision in (
            ((one, _alone(rule, one)) for one in members)
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
    asked = _decision(standing, "retrain", kind, reason, by=by)
    return _restrained(rule, standing, asked) if kind == CALENDAR else asked


def while_held(asked: Decision, held: Hold | None) -> Decision:
    """The same decision, unless it would change something by itself in a family that is held."""
    by_itself = asked.kind == "promote" or (asked.kind == "retrain" and asked.rule != ON_DEMAND)
    if held is None or not by_itself:
        return asked
    proven = asked.kind == "promote"
    then = "; a person is asked" if proven else ""
    return replace(
        asked,
        kind="ask" if proven else "held",
        rule="held",
        reason=f"{asked.reason}, but the family is {held}{then}",
        inputs=asked.inputs.and_(asked_by=asked.rule, held=asdict(held)),
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


def ballot(when: When | None, standing: Standing) -> Ballot:
    """How a model votes. Without rules nothing fails; a breach is then alarming all the same."""
    if not standing.has_champion or not standing.measurements:
        missing = "no_champion" if not standing.has_champion else "unmeasured"
        return Ballot(standing, "unknown", missing, "nothing could be measured yet")
    latest = standing.measurements[0]
    said = latest.sentence()
    fired = list(_fired(when, standing)) if when else []
    if fired:
        rule, _, severity = max(fired, key=lambda item: item[2])
        said = "; ".join([said, *(reason for _, reason, _ in fired)])
        since = standing.shift.since if standing.shift and _fallen(standing) else None
        return Ballot(standing, "fail", rule, said, severity, alarming=True, falling_since=since)
    if latest.state in ("immature", "undefined"):
        return Ballot(standing, "unknown", latest.state, said)
    if latest.state == "measured":
        return Ballot(standing, "pass", latest.state, said)
    if when is None:
        said = f"{said}; this family only alerts (retrain.when is null)"
        return Ballot(standing, "pass", "no_retrain_rule", said, _shortfall(latest), alarming=True)
    said = f"{said}; {_short_of(when, standing)}"
    return Ballot(standing, "pass", "too_few_breaches", said, _shortfall(latest), alarming=True)


def surely_below(standing: Standing) -> bool:
    """Whether a champion lies below its threshold without doubt, by the nights or by the window."""
    if not standing.measurements:
        return False
    breached = standing.measurements[0].state == "breached" and standing.whole_window
    return breached or _fallen(standing)


def _fallen(standing: Standing) -> bool:
    """Whether the detector says that the level has fallen; not where nothing can be judged."""
    told = standing.measurements[0].state in ("measured", "breached")
    return told and standing.shift is not None and standing.shift.detected


def _fired(when: When, standing: Standing) -> Iterable[tuple[str, str, float]]:
    """Every rule that fires: its name, its sentence, and how severe it is."""
    latest, shift = standing.measurements[0], standing.shift
    if shift is not None and _fallen(standing):
        assert shift.since is not None  # evidence without a stretch is none
        told = (
            f"since the night of {day(shift.since)} the nights speak for a level below the"
            f" threshold: evidence {shift.evidence:.3g}, limit {shift.limit:.3g}"
        )
        yield "shift", told, shift.evidence / shift.limit
    if when.breaches is not None and latest.state == "breached":
        considered = standing.measurements[: when.of_last]
        breaches = sum(m.state == "breached" for m in considered)
        if breaches >= when.breaches:
            yield "breaches", _counted(breaches, when), _shortfall(latest)
    if latest.state == "breached" and standing.whole_window:
        yield "whole_window", "that is sure over a whole window of its nights", _shortfall(latest)
    for signal, asked in when.signals.items():
        levels = standing.signals.get(signal, ())[: asked.of_last]
        nights = levels.count("alert")
        if levels[:1] == ("alert",) and nights >= asked.nights:
            told = f"{signal} is at alert in {nights} of the last {asked.of_last} nights"
            yield f"signal {signal}", told, 1.0


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


def _alone(rule: Retrain, one: Ballot) -> Decision:
    """The decision on a model that shares its rule with nobody."""
    if not one.standing.has_champion:
        return _first(rule, one.standing)
    if one.vote == "fail":
        return _restrained(rule, one.standing, _voted(one, "retrain", one.rule, one.reason))
    return _voted(one, "alert" if one.alarming else "keep", one.rule, one.reason)


def _first(rule: Retrain, standing: Standing) -> Decision:
    """A model without a champion gets a first one as soon as it has enough labels."""
    least = rule.training.min_rows or 0
    if standing.trainable < least or not standing.trainable:
        reason = f"no version serves yet: {standing.trainable} labelled rows, {least} are needed"
        return _decision(standing, "keep", "too_few_labels", reason)
    reason = f"no version serves yet, and {standing.trainable} labelled rows are enough for a first"
    asked = _decision(standing, "retrain", FIRST_MODEL, reason)
    return _restrained(rule, standing, asked)


def _together(
    rule: Retrain, models: Models, group: str, members: Sequence[Ballot]
) -> list[Decision]:
    """The decisions on the models of a group, whose votes are counted together."""
    asked = models.rule_of(group)
    verdict = group_verdict(asked, (one.vote for one in members))
    told = f"{group}: {_tally(members)}; it retrains if {_words(asked, len(members))}"
    worst = max((one.severity for one in members if one.vote == "fail"), default=0.0)
    votes = {one.standing.name: one.vote for one in members}
    counted = {vote: list(votes.values()).count(vote) for vote in ("fail", "pass", "unknown")}
    kept = votes if len(votes) <= VOTES_KEPT else {}
    decided = []
    for one in members:
        decision = _member(rule, models, verdict, told, worst, one)
        own = {one.standing.name: one.vote}
        grouped = {"group": group, "votes": kept or own, "counted": counted}
        decided.append(replace(decision, inputs=decision.inputs.and_(**grouped)))
    return decided


def _member(
    rule: Retrain, models: Models, verdict: str, told: str, worst: float, one: Ballot
) -> Decision:
    standing = one.standing
    reason = f"{one.reason}; {told}"
    if verdict == "retrain" and (one.vote == "fail" or models.retrains == "all"):
        name = one.rule if one.vote == "fail" else "group"
        asked = _voted(one, "retrain", name, reason)
        if one.vote != "fail":
            asked = replace(asked, severity=worst)
        return _restrained(rule, standing, asked)
    if one.vote == "fail":
        kind: DecisionKind = "wait" if verdict == "wait" else "alert"
        return _voted(one, kind, f"group_{verdict}", reason)
    return _voted(one, "alert" if one.alarming else "keep", one.rule, reason)


def _restrained(rule: Retrain, standing: Standing, asked: Decision) -> Decision:
    """A retrain, unless the last one is too near or has learnt from the same labels."""
    last = standing.last_retrain
    if last is None:
        return asked
    learnt = standing.shadow_learnt_until
    if learnt is not None and counts_as_failure(asked.falling_since, learnt):
        why = "but a challenger scores beside the champion, and has not ended"
        return replace(asked, kind="alert", rule="in_shadow", reason=f"{asked.reason}, {why}")
    pause = timedelta(seconds=wait(rule.cooldown.total_seconds(), standing.failures))
    if standing.as_of - last < pause:
        until = last + pause
        why = f"but the cooldown lasts until {moment(until)}"
        if standing.failures:
            why += f", after {standing.failures} in a row that did not serve"
        return replace(asked, kind="alert", rule="cooldown", reason=f"{asked.reason}, {why}")
    if not standing.fresh_labels:
        why = f"but no label has matured since the retrain of {moment(last)}"
        return replace(asked, kind="alert", rule="no_new_labels", reason=f"{asked.reason}, {why}")
    return asked


def _deferred(asked: Decision, place: int, of: int, budget: int, spent: int) -> Decision:
    why = (
        f"deferred: number {place} of {of} by severity, and {spent} of the night's {budget}"
        " retrains are spent already"
    )
    reason = f"{asked.reason}; {why}"
    inputs = asked.inputs.and_(asked_by=asked.rule, budget=budget, spent=spent)
    return replace(asked, kind="defer", rule="budget", reason=reason, inputs=inputs)


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
    failing = [one.standing.name for one in members if one.vote == "fail"]
    unknown = [one.standing.name for one in members if one.vote == "unknown"]
    told = f"{len(failing)} of {len(members)} below their thresholds"
    if failing:
        told += f" ({listed(failing, NAMED)})"
    return told + (f", unknown: {listed(unknown, NAMED)}" if unknown else "")


def _words(rule: GroupRule, members: int) -> str:
    match rule:
        case "any":
            return "any is"
        case "all":
            return "all are"
        case AtLeast(at_least=count):
            return f"{count} of {members} are"
        case _:
            assert_never(rule)


def _voted(one: Ballot, kind: DecisionKind, rule: str, reason: str) -> Decision:
    """A decision that follows from a model's own vote, with what the vote has found."""
    return replace(
        _decision(one.standing, kind, rule, reason),
        severity=one.severity,
        alarming=one.alarming,
        falling_since=one.falling_since,
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
