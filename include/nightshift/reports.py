"""What people ask in the morning: how the fleet is, why a decision was made, what happened before.

Everything is read from the database, so a family whose folder is broken is told of as well. Every
report is a dataclass of plain values; :func:`as_data` makes JSON of it.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, Literal, get_args

from nightshift import holds, policy
from nightshift.database import Database, Transaction
from nightshift.records import DecisionKind, Hold, Measurement, RegistryError, State

Health = Literal[
    "failed", "awaiting", "retraining", "breached", "warning",
    "untrained", "undefined", "immature", "healthy",
]  # fmt: skip
HEALTHS: tuple[Health, ...] = get_args(Health)
"""The states of a model, those that need somebody first."""

CHAIN_STRETCH = 10_000
"""How many decisions are verified at a time."""


@dataclass(frozen=True)
class Line:
    """One model at a glance. ``version`` is the champion's number, ``since`` when it began.

    ``shadow`` is the number of the challenger that scores beside it, ``waiting`` the approval that
    a person is asked for. The figures are those of the last decisive measurement; greater is
    better, and ``low`` and ``high`` bound 95%. ``alerts`` counts the signals at alert in the last
    night; ``failure`` is what the last run about the model said when it failed.
    """

    family: str
    model: str
    group: str | None
    health: Health
    version: int | None
    since: datetime | None
    shadow: int | None
    metric: str | None
    measured: State | None
    value: float | None
    low: float | None
    high: float | None
    threshold: float | None
    reference: float | None
    labels: int | None
    predictions: int | None
    measured_as_of: datetime | None
    alerts: int
    decision: DecisionKind | None
    rule: str | None
    reason: str | None
    decided_as_of: datetime | None
    waiting: int | None
    failure: str | None


@dataclass(frozen=True)
class LastNight:
    """The last night of a family that readers see."""

    family: str
    as_of: datetime
    rows: int
    published_at: datetime


@dataclass(frozen=True)
class Status:
    """The fleet: a sentence for each family, and a line for each model, the worst first."""

    sentences: tuple[str, ...]
    nights: tuple[LastNight, ...]
    lines: tuple[Line, ...]
    holds: tuple[Hold, ...] = ()


@dataclass(frozen=True)
class Why:
    """The chain from labels to a decision, sentence by sentence, and the figures behind it."""

    family: str
    model: str
    as_of: datetime
    decision: DecisionKind
    rule: str
    sentences: tuple[str, ...]
    figures: Mapping[str, Any]


@dataclass(frozen=True)
class Event:
    """Something that happened to a model. Nights on which it was merely kept are one event."""

    as_of: datetime
    until: datetime
    kind: str
    rule: str
    sentence: str
    decision_ids: tuple[int, ...]


@dataclass(frozen=True)
class History:
    """What a model lived through, oldest first, and every measurement of it."""

    family: str
    model: str
    events: tuple[Event, ...]
    measurements: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Audit:
    """Whether the chain of decisions is whole: its length, its last hash, and what is wrong."""

    decisions: int
    head: str
    faults: tuple[str, ...]


def as_data(report: Any) -> Any:
    """A report as JSON has it: dictionaries and lists, moments in ISO 8601, durations in days."""
    return json.loads(json.dumps(asdict(report), default=_plain))


def status(database: Database, family: str | None = None) -> Status:
    """Every active model, or those of one family."""
    with database.transaction() as tx:
        return status_in(tx, family)


def status_in(tx: Transaction, family: str | None = None) -> Status:
    """The same, in a transaction that reads more than this."""
    rows = tx.rows("reports.fleet", family=family)
    nights = tuple(
        LastNight(**row._mapping)
        for row in tx.rows("reports.last_nights")
        if family in (None, row.family)
    )
    held = holds.current(tx, datetime.now(UTC))
    lines = sorted((_line(row) for row in rows), key=urgency)
    if family is not None and not lines:
        raise RegistryError(f"no model of a family {family!r} is known; score or train it first")
    shown = tuple(held[name] for name in sorted(held) if family in (None, name))
    return Status(tuple(_family_sentences(lines, nights, held)), nights, tuple(lines), shown)


def why(database: Database, name: str, until: datetime) -> Why:
    """How the last decision about a model by a moment came about.

    Parameters
    ----------
    name
        The model's name, or ``family/model`` where several families have one of that name.
    """
    with database.transaction() as tx:
        model = find_model(tx, name)
        decision = tx.maybe("reports.decision", model_id=model.model_id, until=until)
        if decision is None:
            raise RegistryError(
                f"nothing was decided about {model.family}/{model.model} by"
                f" {until:%Y-%m-%d %H:%M}Z; monitoring decides, look at its run"
            )
        return why_in(tx, model, decision)


def why_in(tx: Transaction, model: Any, decision: Any) -> Why:
    """How a decision about a model came about; both as the queries of this room give them."""
    at = {"model_id": model.model_id, "as_of": decision.as_of}
    measured = [dict(row._mapping) for row in tx.rows("reports.measurements", **at)]
    collection = tx.maybe("reports.collection", family=model.family, as_of=decision.as_of)
    estimate = tx.maybe("reports.estimate", **at)
    signals = tx.rows("reports.signals", family=model.family, **at)
    tried = tx.rows("reports.tried", **at)
    followed = tx.maybe("reports.followed", decision_id=decision.decision_id)
    shadow = tx.maybe("reports.shadow", decision_id=decision.decision_id)
    figures = {
        "decision": dict(decision._mapping),
        "labels": dict(collection._mapping) if collection else None,
        "measurements": measured,
        "estimate": dict(estimate._mapping) if estimate else None,
        "signals": [dict(row._mapping) for row in signals],
        "tried": [dict(row._mapping) for row in tried],
        "followed": dict(followed._mapping) if followed else None,
        "shadow": dict(shadow._mapping) if shadow else None,
    }
    sentences = (
        *_about_labels(collection),
        *(_about_measurements(measured) if measured or decision.kind != "rollback" else ()),
        *_about_detection(decision.inputs),
        *_about_signals(signals, estimate),
        *_about_group(decision.inputs),
        *(f"Tried: {row.kind}: {row.reason}." for row in tried),
        _about_decision(decision),
        *_about_consequences(decision, followed),
        *_about_shadow(shadow),
    )
    return Why(
        model.family, model.model, decision.as_of, decision.kind, decision.rule, sentences, figures
    )


def history(database: Database, name: str) -> History:
    """What was decided about a model since its beginning, and what was measured."""
    with database.transaction() as tx:
        model = find_model(tx, name)
        measured = tx.rows("reports.measured", model_id=model.model_id)
        return History(
            model.family,
            model.model,
            events_in(tx, model.model_id),
            tuple(dict(row._mapping) for row in measured),
        )


def events_in(tx: Transaction, model_id: int) -> tuple[Event, ...]:
    """What happened to a model, oldest first."""
    return tuple(_events(tx.rows("reports.history", model_id=model_id)))


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


def urgency(line: Line) -> tuple[int, str, str]:
    """What lines are sorted by: those that need somebody first."""
    return HEALTHS.index(line.health), line.family, line.model


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value / timedelta(days=1)
    raise TypeError(f"{type(value).__name__} has no JSON")


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
        yield f"{told}: {_count(row.seq - place, 'decision')} missing before it"
    elif row.prev_hash != last:
        yield f"{told}: it does not follow the decision before it"
    if decision_hash(row) != row.hash:
        yield f"{told}: its content does not give its hash; it was changed after it was made"


_TOLD = [f.name for f in fields(Line) if f.name != "health"]


def _line(row: Any) -> Line:
    told = row._asdict()
    return Line(health=_health(row), **{name: told[name] for name in _TOLD})


def _health(row: Any) -> Health:
    worried = row.alerts or row.rolled_back or row.decision in ("alert", "hold", "defer")
    facts: tuple[tuple[Health, Any], ...] = (
        ("failed", row.failure),
        ("awaiting", row.waiting),
        ("retraining", row.decision == "retrain"),
        ("untrained", row.version is None),
        ("breached", row.measured == "breached"),
        ("warning", worried),
        ("undefined", row.measured == "undefined"),
        ("healthy", row.measured == "measured"),
    )
    return next((health for health, holds in facts if holds), "immature")


def _family_sentences(
    lines: Sequence[Line], nights: Sequence[LastNight], held: Mapping[str, Hold]
) -> Iterator[str]:
    last = {night.family: night for night in nights}
    for family in sorted({line.family for line in lines}):
        own = [line for line in lines if line.family == family]
        healths = Counter(line.health for line in own)
        metric = next((f" by {line.metric}" for line in own if line.metric), "")
        counted = ", ".join(
            f"{healths[health]:,} {health}" for health in HEALTHS if healths[health]
        )
        night = last.get(family)
        shown = (
            f"last night published {night.as_of:%Y-%m-%d %H:%M}Z, {night.rows:,} rows"
            if night
            else "no night published yet"
        )
        left = f"; {held[family]}" if family in held else ""
        yield f"{family}: {_count(len(own), 'model')}{metric}: {counted}; {shown}{left}"


def find_model(tx: Transaction, name: str) -> Any:
    """The row (``model_id``, ``family``, ``model``) of a model, by ``model`` or ``family/model``.

    Raises
    ------
    RegistryError
        No model is called so, or several are.
    """
    family, _, model = name.rpartition("/")
    found = tx.rows("reports.find_models", family=family or None, model=model)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"{row.family}/{row.model}" for row in found)
        raise RegistryError(f"several models are called {name!r}: {names}; write one of these")
    known = tx.rows("reports.names")
    spelt = {row.model for row in known} | {f"{row.family}/{row.model}" for row in known}
    near = difflib.get_close_matches(name, sorted(spelt), n=3)
    hint = f"did you mean {', '.join(near)}?" if near else "`nightshift status` lists them"
    raise RegistryError(f"no model is called {name!r}; {hint}")


def _about_labels(collection: Any) -> Iterator[str]:
    if collection is None:
        return
    yield (
        f"Labels: labels.sql was asked at {_moment(collection.as_of)} and gave"
        f" {_count(collection.found, 'label')}, {collection.added:,} of them new"
        f" ({_count(collection.corrections, 'correction')},"
        f" {_count(collection.contradictions, 'contradiction')}, {collection.late:,} late)."
    )


def _about_measurements(measured: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not measured:
        yield "Measured: nothing, since no night of this model has matured labels yet."
        return
    first = measured[0]
    scope = f"version {first['version']}" if first["version"] else "every version"
    nights = first["nights"]
    if nights:
        labels = [night["labels"] for night in nights]
        yield (
            f"Nights: {_count(len(nights), 'night')} of {scope} have matured, from"
            f" {nights[0]['as_of'][:10]} to {nights[-1]['as_of'][:10]}, with"
            f" {_count(first['predictions'], 'prediction')} and {_count(first['labels'], 'label')}"
            f" ({min(labels):,} to {max(labels):,} a night)."
        )
    yield f"Measured: {policy.describe(_as_measurement(first))}{_against(first)}."
    beside = [m for m in measured if not m["decisive"] and not m["slice"] and m["version_id"]]
    for other in beside:
        yield f"Beside it: {policy.describe(_as_measurement(other))}."
    below = [m for m in measured if m["decisive"] and m["slice"] and m["value"] is not None]
    if below:
        worst = min(below, key=lambda m: m["value"])
        yield (
            f"Slices: the lowest of {len(below)} is {worst['slice']}, {worst['value']:.4g}"
            f" ({worst['low']:.4g} to {worst['high']:.4g}) on {_count(worst['labels'], 'label')}."
        )


def _against(measured: Mapping[str, Any]) -> str:
    told = f"; interval: {measured['method']}" if measured["method"] else ""
    if measured["reference"] is not None:
        told += f"; it was worth {measured['reference']:.4g} when it was promoted"
    return told


def _as_measurement(row: Mapping[str, Any]) -> Measurement:
    names = {f.name for f in fields(Measurement)} - {"nights"}
    return Measurement(model_id=0, **{name: row[name] for name in names if name in row})


def _about_detection(inputs: Mapping[str, Any]) -> Iterator[str]:
    shift = inputs.get("shift")
    if not shift:
        return
    verdict = "reached" if shift["evidence"] >= shift["limit"] else "not reached"
    since = f" since the night of {shift['since'][:10]}" if shift["since"] else ""
    yield (
        f"Detector: the evidence for a lasting fall below the threshold is"
        f" {shift['evidence']:.3g}{since}; its limit, {shift['limit']:.3g}, is {verdict}."
    )


def _about_signals(signals: Sequence[Any], estimate: Any) -> Iterator[str]:
    loud = [row for row in signals if row.level != "ok"]
    if signals and not loud:
        yield f"Watched: all {len(signals)} signals of {_moment(signals[0].as_of)} are ok."
    if loud:
        named = ", ".join(
            f"{' of '.join(filter(None, (row.signal, row.feature)))} {row.value:.3g} ({row.level})"
            for row in loud[:5]
        )
        more = f", and {len(loud) - 5} more" if len(loud) > 5 else ""
        yield f"Watched: in the night of {_moment(loud[0].as_of)} {named}{more}."
    if estimate is not None:
        yield (
            f"Estimated without labels, {_moment(estimate.as_of)}: {estimate.metric}"
            f" {estimate.value:.4g} ({estimate.low:.4g} to {estimate.high:.4g}) on"
            f" {_count(estimate.predictions, 'prediction')}."
        )


def _about_group(inputs: Mapping[str, Any]) -> Iterator[str]:
    votes = inputs.get("votes")
    if not votes:
        return
    # Of a large group a decision keeps how many votes there were, not everybody's.
    counted = Counter(inputs.get("counted") or Counter(votes.values()))
    told = ", ".join(
        f"{counted[vote]} {vote}" for vote in ("fail", "pass", "unknown") if counted[vote]
    )
    yield f"Group: {inputs['group']} has {_count(counted.total(), 'vote')}: {told}."


def _about_decision(decision: Any) -> str:
    last = decision.inputs.get("last_retrain")
    before = ""
    if last:
        fresh = decision.inputs.get("fresh_labels") or 0
        before = f" (The last retrain was decided at {last[:10]}; {fresh:,} labels matured since.)"
    return f"Decided: {decision.kind}, by the rule {decision.rule}: {decision.reason}.{before}"


def _about_consequences(decision: Any, followed: Any) -> Iterator[str]:
    if decision.kind != "retrain":
        return
    if followed is None:
        yield "Since then: no version has been trained for this decision; look at the retrain run."
        return
    start, end = followed.training
    yield (
        f"Trained: version {followed.version}, at {_moment(followed.trained_at)}, on the nights"
        f" {start[:10]} to {end[:10]}."
    )
    if followed.verdict is None:
        yield "Compared: not yet; look at the retrain run."
        return
    since = (
        f" It serves from {_moment(followed.effective_from)}." if followed.effective_from else ""
    )
    if followed.approval_id is None:
        yield f"Compared: {followed.verdict}: {followed.verdict_reason}.{since}"
        return
    yield f"Compared: {followed.verdict}: {followed.verdict_reason}."
    if followed.answer is None:
        yield f"Asked: approval {followed.approval_id} waits; `nightshift approvals` shows it."
    else:
        yield f"Answered: {followed.answer}: {followed.answer_reason}.{since}"


def _about_shadow(shadow: Any) -> Iterator[str]:
    if shadow is None:
        return
    if shadow.kind is not None:
        yield f"In shadow: {shadow.kind}: {shadow.reason}."
        return
    nights = _count(shadow.nights or 0, "night")
    told = f"In shadow: version {shadow.version} until {_moment(shadow.ends)}, {nights} judged"
    if shadow.nights:
        told += f": evidence {shadow.evidence:.3g}, and {shadow.needed:.3g} is needed"
    yield f"{told}."


def _events(decided: Sequence[Any]) -> Iterator[Event]:
    for kept, rows in groupby(decided, key=lambda row: row.kind == "keep"):
        run = list(rows)
        if kept:
            yield _kept(run)
        else:
            yield from map(_event, run)


def _kept(run: Sequence[Any]) -> Event:
    first, last = run[0], run[-1]
    times = "once" if len(run) == 1 else f"{len(run)} times"
    ids = tuple(row.decision_id for row in run)
    return Event(
        first.as_of, last.as_of, "keep", last.rule, f"kept {times}; lastly: {last.reason}", ids
    )


def _event(row: Any) -> Event:
    serves = (
        f"version {row.version} serves from {_moment(row.effective_from)}: " if row.version else ""
    )
    return Event(
        row.as_of, row.as_of, row.kind, row.rule, f"{serves}{row.reason}", (row.decision_id,)
    )


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}Z"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
