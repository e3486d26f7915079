"""What people are told: one alert for each cause, however many models it touches.

An alert is computed from what the other rooms have stored, so a run that is repeated computes the
same one and finds it stored already. Who has delivered it is stored too.
"""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product
from typing import Any, Literal

from nightshift import registry
from nightshift.data import Database, Transaction
from nightshift.documents import Inputs
from nightshift.family import Cause, ModelFamily
from nightshift.wording import day, figure, listed, moment

RunKind = Literal["score", "monitor", "retrain", "rollback"]

NAMED = 10
"""How many models a message names; the others are counted."""

REASONS = 3
"""How many different refusals a message quotes."""

LOOK_BACK = timedelta(days=7)
"""How long ago a night may have been missed for anybody to be told."""

OWN_TRIES = timedelta(hours=1)
"""How long the run that raised an alert may try to deliver it before other runs do."""

STALE = timedelta(days=1)
"""How old an alert may become before nobody tries to deliver it any more."""


@dataclass(frozen=True)
class Alert:
    """Something that people should know.

    ``message`` is one sentence that begins with ``title``; ``delivered_by`` are the notifiers that
    have delivered it. ``as_of`` is the moment (UTC) of the night or the measuring that it is about.
    """

    alert_id: int
    family: str
    cause: Cause
    title: str
    message: str
    as_of: datetime
    delivered_by: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Run:
    """The run at whose end people are told.

    Parameters
    ----------
    since
        When the run was due; what was refused earlier belongs to other runs.
    failed
        The names of its tasks that failed.
    decision_ids
        In a retrain, or a rollback: the decisions that it carries out.
    silence
        In a monitoring: a sentence if labels have been missing for too long.
    strangers
        In a monitoring: a sentence if labels came and none answers a prediction.
    fewer_labels
        In a monitoring: a sentence if fewer labels came than usual.
    set_aside
        In a monitoring: a sentence if labels were not as expected.
    repeated
        In a night: a sentence if it has the entities of the night before.
    """

    kind: RunKind
    as_of: datetime
    since: datetime
    failed: Sequence[str] = ()
    decision_ids: Sequence[int] = ()
    silence: str | None = None
    strangers: str | None = None
    fewer_labels: str | None = None
    set_aside: str | None = None
    repeated: str | None = None


@dataclass(frozen=True)
class Finding:
    """One cause that holds: what happened in a few words, to whom, and when.

    ``subject`` sets it apart from others of its cause: the same one is raised once.
    """

    cause: Cause
    as_of: datetime
    subject: str
    headline: str
    details: str


def raise_alerts(
    database: Database, family: ModelFamily, run: Run, *, now: datetime
) -> list[Alert]:
    """Store what people should know at the end of a run, each alert once.

    Returns
    -------
    list of Alert
        The alerts of this run, whoever has delivered them; and those of the same family that were
        raised in the last day, whose own runs have had time to deliver them.
    """
    with database.transaction() as tx:
        findings = _findings(tx, family, run, now)
        raised = [_raise(tx, family.family, finding, now) for finding in findings]
        rows = tx.rows(
            "alerting.recent",
            alert_ids=raised,
            family=family.family,
            since=now - STALE,
            until=now - OWN_TRIES,
        )
    return [_alert(row) for row in rows]


def delivered(database: Database, alert_id: int, notifier: str, *, now: datetime) -> None:
    """Remember that a notifier has delivered an alert, so that it never does so again."""
    with database.transaction() as tx:
        tx.run("alerting.deliver", alert_id=alert_id, notifier=notifier, delivered_at=now)


def _findings(tx: Transaction, family: ModelFamily, run: Run, now: datetime) -> list[Finding]:
    """Every cause that holds at the end of a run."""
    if run.kind == "score":
        return _of_score(tx, family, run)
    if run.kind == "monitor":
        return _of_monitor(tx, family, run, now)
    if run.kind == "rollback":
        decided = tx.rows("alerting.decisions", decision_ids=list(run.decision_ids))
        return [*_turns(family, run, decided), *_failed(tx, family, run)]
    return _of_retrain(tx, family, run)


def _of_score(tx: Transaction, family: ModelFamily, run: Run) -> list[Finding]:
    rejected = tx.maybe("alerting.rejection", family=family.family, as_of=run.as_of)
    drifted = tx.rows("alerting.alert_signals", family=family.family, as_of=run.as_of)
    findings = []
    if rejected is not None:
        findings.append(
            _about(run, "rejected_snapshot", "snapshot rejected", _short(rejected.reason))
        )
    if drifted:
        watched = tx.one("alerting.watched_models", family=family.family, as_of=run.as_of).models
        findings.append(_drift(family, run, drifted, watched))
    findings += _left_out(tx, family, run)
    if run.repeated is not None:
        headline = "the same entities every night"
        findings.append(_about(run, "repeated_entities", headline, run.repeated))
    failed = tx.rows("alerting.failed_models", family=family.family, as_of=run.as_of)
    if failed:
        findings.append(_lame(run, failed))
    explained = {"validate"} if rejected is not None else set()
    return [*findings, *_failed(tx, family, run, explained)]


def _left_out(tx: Transaction, family: ModelFamily, run: Run) -> list[Finding]:
    """Rows that are missing from a night that was published, if they are more than is quiet."""
    night = tx.maybe("alerting.left_out", family=family.family, as_of=run.as_of)
    if night is None:
        return []
    count = sum(fault["rows"] for fault in night.left_out.values())
    rows = night.row_count + count
    if not family.rows.alarming(count, rows):
        return []
    reasons = "; ".join(
        f"{fault['rows']:,} {name.replace('_', ' ')} ({', '.join(fault['examples'])})"
        for name, fault in night.left_out.items()
    )
    return [_about(run, "left_out", f"{count:,} of {rows:,} rows were left out", reasons)]


def _lame(run: Run, failed: Sequence[Any]) -> Finding:
    """Models whose rows are missing from a night that was published."""
    headline = (
        f"{len(failed)} models could not score" if len(failed) > 1 else "a model could not score"
    )
    reasons = list(dict.fromkeys(_short(row.reason) for row in failed))
    details = f"{listed([row.model for row in failed], NAMED)}; {'; '.join(reasons[:REASONS])}"
    return _about(run, "failed", headline, details, of="models")


def _of_monitor(tx: Transaction, family: ModelFamily, run: Run, now: datetime) -> list[Finding]:
    decided = tx.rows("alerting.monitor_decisions", family=family.family, as_of=run.as_of)
    breached = sorted((d for d in decided if d.alarming), key=_worst_first)
    retrained = sorted((d for d in decided if d.kind == "retrain"), key=_worst_first)
    tried = registry.trial_ends(tx, family.family, run.as_of)
    findings = _turns(family, run, tried)
    if breached:
        findings.append(_breach(family, run, breached, len(decided)))
    if retrained:
        findings.append(_retrain_started(family, run, run.as_of, retrained, len(decided)))
    if run.strangers is not None:
        findings.append(_about(run, "missing_labels", "labels answer nobody", run.strangers))
    elif run.silence is not None:
        findings.append(_about(run, "missing_labels", "labels are missing", run.silence))
    elif run.fewer_labels is not None:
        what = "fewer labels than usual"
        findings.append(_about(run, "missing_labels", what, run.fewer_labels))
    if run.set_aside is not None:
        findings.append(
            _about(run, "left_out", "labels were set aside", run.set_aside, of="labels")
        )
    return [*findings, *_missed(tx, family, run, now), *_failed(tx, family, run)]


def _of_retrain(tx: Transaction, family: ModelFamily, run: Run) -> list[Finding]:
    carried_out = tx.rows("alerting.retrain_outcomes", decision_ids=list(run.decision_ids))
    if not carried_out:
        return _failed(tx, family, run)
    as_of = max(row.as_of for row in carried_out)
    findings = []
    requested = [row for row in carried_out if row.about == "request"]
    if requested:  # what a monitoring decided, its own run has told
        findings.append(_retrain_started(family, run, as_of, requested, len(carried_out)))
    waiting = [row for row in carried_out if row.approval_id and row.answer is None]
    if waiting:
        findings.append(_waiting(family, run, as_of, waiting, len(carried_out)))
    kinds: tuple[tuple[Cause, str], ...] = (("promoted", "promote"), ("rejected", "reject"))
    for (cause, verdict), by_a_person in product(kinds, (False, True)):
        concluded = [
            row
            for row in carried_out
            if row.verdict == verdict and (row.answer is not None) == by_a_person
        ]
        if concluded:
            of = "answered" if by_a_person else ""
            findings.append(
                _concluded(family, run, as_of, cause, concluded, len(carried_out), of=of)
            )
    unfinished = [row for row in carried_out if row.verdict is None]
    if unfinished:
        return [*findings, _unfinished(tx, family, run, as_of, unfinished, len(carried_out))]
    return [*findings, *_failed(tx, family, run)]


def _turns(family: ModelFamily, run: Run, decided: Sequence[Any]) -> list[Finding]:
    """Versions that began to serve, or must not: after a shadow, on probation, by hand."""
    kinds: tuple[tuple[str, Cause, str], ...] = (
        ("promote", "promoted", "promoted"),
        ("reject", "rejected", "rejected"),
        ("ask", "approval", "approval wanted"),
        ("rollback", "rolled_back", "rolled back"),
    )
    findings = []
    for kind, cause, headline in kinds:
        rows = [row for row in decided if row.kind == kind]
        if not rows:
            continue
        named = listed([row.model for row in rows], NAMED)
        details = rows[0].reason if len(rows) == 1 else f"{len(rows)} models: {named}"
        if family.models is not None and len(rows) == 1:
            details = f"{named}: {details}"
        findings.append(_about(run, cause, headline, details, as_of=rows[0].as_of))
    return findings


def _worst_first(decision: Any) -> tuple[float, str]:
    return -decision.severity, decision.model


def _breach(family: ModelFamily, run: Run, breached: Sequence[Any], of: int) -> Finding:
    if family.models is None:
        return _about(run, "breach", "breached", breached[0].reason)
    kinds = [decision.kind for decision in breached]
    follows = listed(f"{kind} {kinds.count(kind)}" for kind in dict.fromkeys(kinds))
    details = (
        f"{listed([f'{d.model} ({_figures(family, d)})' for d in breached], NAMED)}; decided:"
        f" {follows}"
    )
    return _about(run, "breach", f"{len(breached)} of {of} models breached", details)


def _figures(family: ModelFamily, decision: Any) -> str:
    latest = Inputs(decision.inputs).latest
    assert latest is not None
    if latest.value is None:
        return f"{latest.state}, {decision.rule}"
    figures = str(family.performance.gauge().reading(latest.value, latest.threshold))
    if latest.state != "breached" and decision.falling_since is not None:
        figures += f", falling since {day(decision.falling_since)}"
    return figures


def _retrain_started(
    family: ModelFamily, run: Run, as_of: datetime, decisions: Sequence[Any], of: int
) -> Finding:
    if family.models is None:
        headline, details = "retrain started", decisions[0].reason
    else:
        headline = f"retrain of {len(decisions)} of {of} models started"
        details = listed([f"{decision.model} ({decision.rule})" for decision in decisions], NAMED)
    return _about(run, "retrain_started", headline, details, as_of=as_of)


def _drift(family: ModelFamily, run: Run, drifted: Sequence[Any], watched: int) -> Finding:
    signals_by_model: dict[str, list[str]] = {}
    for row in drifted:
        where = f"{row.signal} of {row.feature}" if row.feature else row.signal
        signals_by_model.setdefault(row.model, []).append(f"{where} {figure(row.value, 2)}")
    if family.models is None:
        signals = [signal for of_model in signals_by_model.values() for signal in of_model]
        return _about(run, "drift", "drift", listed(signals, NAMED))
    named = [f"{model} ({signals[0]})" for model, signals in signals_by_model.items()]
    return _about(
        run, "drift", f"{len(signals_by_model)} of {watched} models drift", listed(named, NAMED)
    )


def _missed(tx: Transaction, family: ModelFamily, run: Run, now: datetime) -> list[Finding]:
    """The nights of the last week that are late, all in one: told when the latest is new."""
    first = tx.one("alerting.first_night", family=family.family).as_of
    if first is None:
        return []
    since = max(first, now - LOOK_BACK)
    published = {row.as_of for row in tx.rows("alerting.nights", family=family.family, since=since)}
    due = family.ticks(since, run.as_of - family.schedule.deadline)
    missed = [night for night in due if night not in published]
    if not missed:
        return []
    hours = family.schedule.deadline / timedelta(hours=1)
    named = listed([moment(night) for night in reversed(missed)], NAMED)
    details = f"{named} not published within {hours:g} hours"
    headline = "a night is missing" if len(missed) == 1 else f"{len(missed)} nights are missing"
    return [Finding("missed_night", missed[-1], missed[-1].isoformat(), headline, details)]


def _waiting(
    family: ModelFamily, run: Run, as_of: datetime, rows: Sequence[Any], of: int
) -> Finding:
    """Challengers that a person must approve, by the numbers of their approvals."""
    headline = "approval wanted"
    if family.models is None:
        details = "; ".join(
            f"version {row.number} (approval {row.approval_id}): {row.verdict_reason}"
            for row in rows
        )
    else:
        headline = f"approval of {len(rows)} of {of} challengers wanted"
        details = listed(
            [f"{row.model} ({row.approval_id}, {_against(family, row)})" for row in rows], NAMED
        )
    return _about(run, "approval", headline, details, as_of=as_of)


def _concluded(
    family: ModelFamily,
    run: Run,
    as_of: datetime,
    cause: Cause,
    rows: Sequence[Any],
    count: int,
    *,
    of: str = "",
) -> Finding:
    if family.models is None:
        details = "; ".join(f"version {row.number}: {row.verdict_reason}" for row in rows)
        return _about(run, cause, cause, details, as_of=as_of, of=of)
    headline = f"{len(rows)} of {count} challengers {cause}"
    details = listed([f"{row.model} ({_against(family, row)})" for row in rows], NAMED)
    return _about(run, cause, headline, details, as_of=as_of, of=of)


def _against(family: ModelFamily, row: Any) -> str:
    if row.champion_value is None or row.challenger_value is None:
        return f"version {row.number}"
    instead = family.performance.gauge().instead(row.challenger_value, row.champion_value)
    return f"version {row.number}, {instead}"


def _unfinished(
    tx: Transaction, family: ModelFamily, run: Run, as_of: datetime, rows: Sequence[Any], of: int
) -> Finding:
    """Challengers that were not trained, or not compared: with what was said about them."""
    reasons = _refusals(tx, family, run, sorted({row.as_of for row in rows}))
    names = [row.model for row in rows]
    if family.models is None:
        return _about(run, "failed", _failed_in(run), "; ".join(reasons), as_of=as_of)
    own = [reason for reason in reasons if any(name in reason for name in names)] or reasons
    details = f"{listed(names, NAMED)}; {'; '.join(own[:REASONS])}"
    headline = f"retrain of {len(rows)} of {of} models failed"
    return _about(run, "failed", headline, details, as_of=as_of)


def _failed(
    tx: Transaction, family: ModelFamily, run: Run, explained: set[str] | None = None
) -> list[Finding]:
    unexplained = [name for name in run.failed if name not in (explained or ())]
    if not unexplained:
        return []
    details = "; ".join(_refusals(tx, family, run, [run.as_of])[:REASONS])
    return [_about(run, "failed", _failed_in(run, unexplained), details, of=" ".join(unexplained))]


def _failed_in(run: Run, unexplained: Sequence[str] | None = None) -> str:
    failed = run.failed if unexplained is None else unexplained
    return f"{run.kind} failed in {listed(failed, NAMED)}" if failed else f"{run.kind} failed"


def _refusals(
    tx: Transaction, family: ModelFamily, run: Run, moments: Sequence[datetime]
) -> list[str]:
    """What was said, the latest first, each once; an unforeseen error has said nothing."""
    reasons = refusals(tx, family.family, moments, run.since)
    return reasons or ["the error was not foreseen; the task's log in Airflow has it"]


def refusals(
    tx: Transaction, family: str, moments: Sequence[datetime], since: datetime
) -> list[str]:
    """What steps of a family refused about some moments from ``since`` on, the latest first."""
    rows = tx.rows("alerting.refusals", family=family, moments=list(moments), since=since)
    return list(dict.fromkeys(_short(row.reason) for row in rows))


def _about(
    run: Run,
    cause: Cause,
    headline: str,
    details: str,
    *,
    as_of: datetime | None = None,
    of: str = "",
) -> Finding:
    at = as_of or run.as_of
    subject = " ".join(filter(None, [at.isoformat(), _scope(cause, run), of]))
    return Finding(cause, at, subject, headline, f"{details} (as of {moment(at)})")


def _scope(cause: Cause, run: Run) -> str:
    """What sets runs about the same moment apart, where each has something of its own to tell."""
    if run.kind in ("retrain", "rollback") and run.decision_ids:
        decision_ids = ",".join(map(str, sorted(run.decision_ids)))
        return f"decisions {hashlib.sha256(decision_ids.encode()).hexdigest()[:12]}"
    return run.kind if cause == "failed" else ""


def _raise(tx: Transaction, family: str, finding: Finding, now: datetime) -> int:
    key = {"family": family, "cause": finding.cause, "subject": finding.subject}
    title = f"{family}: {finding.headline}"
    tx.run(
        "alerting.raise",
        **key,
        title=title,
        message=f"{title}: {finding.details}",
        as_of=finding.as_of,
        raised_at=now,
    )
    alert_id: int = tx.one("alerting.find", **key).alert_id
    return alert_id


def _alert(row: Any) -> Alert:
    return Alert(**{**row._mapping, "delivered_by": frozenset(row.delivered_by)})


def _short(text: str) -> str:
    return textwrap.shorten(text, 600, placeholder=" ...")
