"""Why a model was or was not replaced, from the facts as they were known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

from nightshift import registry
from nightshift.data import Database, Transaction
from nightshift.documents import Inputs
from nightshift.errors import RegistryError
from nightshift.family import words_of
from nightshift.records import DecisionKind, Measurement, Vote
from nightshift.reports.health import find_model
from nightshift.reports.outdated import outdated_champion
from nightshift.wording import Gauge, count, day, figure, figures, listed, moment


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


def why(database: Database, name: str, until: datetime, *, models: Path | None = None) -> Why:
    """How the last decision about a model by a moment came about.

    Parameters
    ----------
    name
        The model's name, or ``family/model`` where several families have one of that name.
    models
        The folder that holds the families' folders: what changed there since the champion was
        trained is told as well.
    """
    with database.transaction() as tx:
        model = find_model(tx, name)
        decision = tx.maybe("reports.decision", model_id=model.model_id, until=until)
        if decision is None:
            raise RegistryError(
                f"nothing was decided about {model.family}/{model.model} by"
                f" {moment(until)}; monitoring decides, look at its run"
            )
        say_as = words_of(models).get(model.family) if models is not None else None
        explained = why_in(tx, model, decision, say_as)
        changed = outdated_champion(tx, models, model.model_id) if models is not None else []
        since = tuple(f"Since: {sentence}." for sentence in changed)
        return replace(explained, sentences=(*explained.sentences, *since))


def why_in(tx: Transaction, model: Any, decision: Any, say_as: str | None = None) -> Why:
    """How a decision about a model came about; both as the queries of this room give them.

    Parameters
    ----------
    say_as
        How the family says the figures of its metric.
    """
    at, inputs = {"model_id": model.model_id, "as_of": decision.as_of}, Inputs(decision.inputs)
    measured = [dict(row._mapping) for row in tx.rows("reports.measurements", **at)]
    collection = tx.maybe("reports.collection", family=model.family, as_of=decision.as_of)
    estimate = tx.maybe("reports.estimate", **at)
    signals = tx.rows("reports.signals", family=model.family, **at)
    tried = registry.trial_ends(tx, model.family, **at)
    followed = tx.maybe("reports.retrain_outcome", decision_id=decision.decision_id)
    failed = tx.maybe("reports.failure", decision_id=decision.decision_id)
    shadow = tx.maybe("reports.shadow", decision_id=decision.decision_id)
    figures = {
        "decision": dict(decision._mapping),
        "labels": dict(collection._mapping) if collection else None,
        "measurements": measured,
        "estimate": dict(estimate._mapping) if estimate else None,
        "signals": [dict(row._mapping) for row in signals],
        "tried": [{"kind": row.kind, "reason": row.reason} for row in tried],
        "followed": dict(followed._mapping) if followed else None,
        "failed": failed.reason if failed else None,
        "shadow": dict(shadow._mapping) if shadow else None,
    }
    sentences = (
        *_about_labels(collection),
        *(_about_measurements(measured, say_as) if measured or decision.kind != "rollback" else ()),
        *_about_detection(inputs),
        *_about_signals(signals, estimate, say_as),
        *_about_group(inputs),
        *(f"Tried: {row.kind}: {row.reason}." for row in tried),
        _about_decision(decision, inputs),
        *_about_consequences(decision, followed, failed),
        *_about_shadow(shadow),
    )
    return Why(
        model.family, model.model, decision.as_of, decision.kind, decision.rule, sentences, figures
    )


def _about_labels(collection: Any) -> Iterator[str]:
    if collection is None:
        return
    yield (
        f"Labels: labels.sql was asked at {moment(collection.as_of)} and gave"
        f" {count(collection.found, 'label')}, {collection.added:,} of them new"
        f" ({count(collection.corrections, 'correction')},"
        f" {count(collection.contradictions, 'contradiction')}, {collection.late:,} late)."
    )


def _about_measurements(measured: Sequence[Mapping[str, Any]], say_as: str | None) -> Iterator[str]:
    if not measured:
        yield "Measured: nothing, since no night of this model has matured labels yet."
        return
    first = measured[0]
    scope = f"version {first['version']}" if first["version"] else "every version"
    nights = first["nights"]
    if nights:
        labels = [night["labels"] for night in nights]
        yield (
            f"Nights: {count(len(nights), 'night')} of {scope} have matured, from"
            f" {nights[0]['as_of'][:10]} to {nights[-1]['as_of'][:10]}, with"
            f" {count(first['predictions'], 'prediction')} and {count(first['labels'], 'label')}"
            f" ({min(labels):,} to {max(labels):,} a night){_without(first)}."
        )
    gauge = Gauge(first["metric"], say_as)
    yield f"Measured: {_as_measurement(first).sentence(say_as)}{_against(first, gauge)}."
    beside = [m for m in measured if not m["decisive"] and not m["slice"] and m["version_id"]]
    for measurement in beside:
        yield f"Beside it: {_as_measurement(measurement).sentence()}."
    below = [m for m in measured if m["decisive"] and m["slice"] and m["value"] is not None]
    if below:
        worst = min(below, key=lambda m: m["value"])
        yield (
            f"Slices: the worst of {len(below)} is {worst['slice']},"
            f" {gauge.amount(worst['value'])} ({gauge.span(worst['low'], worst['high'])}) on"
            f" {count(worst['labels'], 'label')}."
        )


def _without(measured: Mapping[str, Any]) -> str:
    """Labelled nights that cannot have the metric for themselves, with the first one's reason."""
    without = [n for n in measured["nights"] if n["labels"] and n["value"] is None]
    if not without:
        return ""
    missing = without[0].get("missing")
    why = f" (on {without[0]['as_of'][:10]}: {missing})" if missing else ""
    return f"; nights without the metric: {len(without)}{why}"


def _against(measured: Mapping[str, Any], gauge: Gauge) -> str:
    details = f"; interval: {measured['method']}" if measured["method"] else ""
    if measured["reference"] is not None:
        details += f"; {gauge.amount(measured['reference'])} when it was promoted"
    return details


def _as_measurement(row: Mapping[str, Any]) -> Measurement:
    names = {f.name for f in fields(Measurement)} - {"nights"}
    return Measurement(model_id=0, **{name: row[name] for name in names if name in row})


def _about_detection(inputs: Inputs) -> Iterator[str]:
    shift = inputs.shift
    if shift is None:
        return
    verdict = "it got worse for good" if shift.detected else "nothing says that it got worse"
    since = f" since the night of {day(shift.since)}" if shift.since else ""
    evidence, needed = figures([shift.evidence], shift.limit)
    yield f"Detector: {verdict}: evidence {evidence}{since}, and {needed} is enough."


def _about_signals(signals: Sequence[Any], estimate: Any, say_as: str | None) -> Iterator[str]:
    loud = [row for row in signals if row.level != "ok"]
    if signals and not loud:
        yield f"Watched: all {len(signals)} signals of {moment(signals[0].as_of)} are ok."
    if loud:
        named = listed(
            (
                f"{' of '.join(filter(None, (row.signal, row.feature)))} {figure(row.value)}"
                f" ({row.level})"
                for row in loud
            ),
            most=5,
        )
        yield f"Watched: in the night of {moment(loud[0].as_of)} {named}."
    if estimate is not None:
        gauge = Gauge(estimate.metric, say_as)
        yield (
            f"Estimated without labels, {moment(estimate.as_of)}: {gauge.amount(estimate.value)}"
            f" ({gauge.span(estimate.low, estimate.high)}) on"
            f" {count(estimate.predictions, 'prediction')}."
        )


def _about_group(inputs: Inputs) -> Iterator[str]:
    if inputs.group is None:
        return
    votes = inputs.votes
    counted = ", ".join(f"{votes[vote]} {vote}" for vote in get_args(Vote) if votes.get(vote))
    yield f"Group: {inputs.group} has {count(sum(votes.values()), 'vote')}: {counted}."


def _about_decision(decision: Any, inputs: Inputs) -> str:
    last, before = inputs.last_retrain, ""
    if last is not None:
        before = (
            f" (The last retrain was decided at {day(last)};"
            f" {inputs.fresh_labels:,} labels matured since.)"
        )
    return f"Decided: {decision.kind}, by the rule {decision.rule}: {decision.reason}.{before}"


def _about_consequences(decision: Any, followed: Any, failed: Any) -> Iterator[str]:
    if decision.kind != "retrain":
        return
    if failed is not None and (followed is None or followed.verdict is None):
        yield f"Failed: {failed.reason}."
        return
    if followed is None:
        yield "Since then: no version has been trained for this decision; look at the retrain run."
        return
    start, end = followed.training
    yield (
        f"Trained: version {followed.version}, at {moment(followed.trained_at)}, on the nights"
        f" {start[:10]} to {end[:10]}."
    )
    if followed.verdict is None:
        yield "Compared: not yet; look at the retrain run."
        return
    since = ""
    if followed.effective_from and followed.refit:
        since = (
            f" Version {followed.refit}, the same with the compared nights learnt along, serves"
            f" from {moment(followed.effective_from)}."
        )
    elif followed.effective_from:
        since = f" It serves from {moment(followed.effective_from)}."
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
    nights = count(shadow.nights or 0, "night")
    sentence = f"In shadow: version {shadow.version} until {moment(shadow.ends)}, {nights} judged"
    if shadow.nights:
        evidence, needed = figures([shadow.evidence], shadow.needed)
        sentence += f": evidence {evidence}, and {needed} is needed"
    yield f"{sentence}."
