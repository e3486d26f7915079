"""The DAG ``monitor``: labels in, measurements, trials, decisions, and the alerts about them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from nightshift import fleet, monitoring, policy, promotion, registry, reports, sources
from nightshift.data import Transaction, connect
from nightshift.errors import (
    NightshiftError,
)
from nightshift.records import Decision, Hold
from nightshift.site import Site
from nightshift.steps.budget import _within_budget
from nightshift.steps.frame import _audited, _each, _loadable, _registry, _source, _store
from nightshift.steps.retrain import _promote, _roll_back
from nightshift.wording import moment


def collect_labels(
    site: Site, family_name: str, as_of: datetime, *, now: datetime
) -> monitoring.Collected:
    """Append the labels known by ``as_of``; what the source gave."""
    family = site.family(family_name)
    with _audited(site, family_name, as_of, now) as database:
        names = sources.names_of(database, family, site.keys, now=now)
        return monitoring.collect(
            database, _source(site, family), family, as_of, names=names, now=now
        )


def measure(site: Site, family_name: str, as_of: datetime, *, now: datetime) -> list[int]:
    """Measure a family's models as known at ``as_of``; the ids of the decisive measurements.

    Members that have had no rows for long are retired first.
    """
    family = site.family(family_name)
    with _audited(site, family_name, as_of, now) as database:
        with database.transaction() as tx:
            retired = registry.retire(tx, family, as_of)
            if retired:
                tx.record("retired", now=now, family=family_name, as_of=as_of, models=retired)
            models = fleet.models(tx, family, as_of, now=now)
            champions = registry.champions(tx, family_name, as_of)
        return monitoring.measure(database, _store(site), family, models, champions, as_of, now=now)


def decide(site: Site, family_name: str, as_of: datetime, *, now: datetime) -> list[int]:
    """Decide on each model as measured at ``as_of``; the ids of the decisions to retrain.

    The budget of a night is shared by all families. So whatever other family was measured at the
    same moment is decided along, and the worst models of all come first.
    """
    family = site.family(family_name)
    with _audited(site, family_name, as_of, now) as database:
        with database.transaction() as tx:
            measured = [row.family for row in tx.rows("monitoring.measured_at", as_of=as_of)]
        if family_name not in measured:
            raise NightshiftError(
                f"{family_name} was not measured at {moment(as_of)}; nothing can be decided."
                " Run the measure step of this night first"
            )
        others = [other for other in _loadable(site, measured) if other.family != family_name]
        families = [family, *others]
        store = _store(site)
        standings = {
            of.family: fleet.standings(database, store, of, as_of, now=now) for of in families
        }
        with database.transaction() as tx:
            held = registry.current(tx, now)
        asked = [
            policy.while_held(decision, held.get(of.family))
            for of in families
            for decision in policy.decide(fleet.rule(of), standings[of.family], of.models)
        ]
        subject = f"monitor {as_of.isoformat()}"
        return _within_budget(site, database, family_name, as_of, subject, asked, now)


def judge_trials(site: Site, family_name: str, as_of: datetime, *, now: datetime) -> list[int]:
    """End the shadows and probations that the labels known at ``as_of`` decide; the decisions' ids.

    A challenger in shadow is promoted (or a person is asked) as soon as it has proved itself, and
    rejected when its time is over. A champion on probation makes way for its predecessor as soon as
    that one has proved better; in a family that is held, as soon as it is released.
    """
    family = site.family(family_name)
    with _audited(site, family_name, as_of, now) as database:
        ended = promotion.judge(
            database, _store(site), family, _registry(site).load, as_of, now=now
        )
        with database.transaction() as tx:
            held = registry.of(tx, family_name, now)
            ended = [
                (one, policy.while_held(verdict, held))
                for one, verdict in ended
                if held is None or not _stays(tx, one, verdict, held, now)
            ]
    _each(
        (
            _audited(site, family_name, as_of, now),
            partial(_end_trial, site, one, verdict, now),
        )
        for one, verdict in ended
    )
    with database.transaction() as tx:
        return promotion.decided(tx, family_name, as_of)


def _stays(
    tx: Transaction,
    one: promotion.Shadow | promotion.Probation,
    verdict: Decision,
    held: Hold,
    now: datetime,
) -> bool:
    """Whether a probation goes on although it has ended, since the family is held."""
    if not isinstance(one, promotion.Probation):
        return False
    told = f"{verdict.reason}, but the family is {held}"
    tx.record("held", now=now, family=held.family, as_of=verdict.as_of, model=one.model,
              reason=told)  # fmt: skip
    return True


def _end_trial(
    site: Site, one: promotion.Shadow | promotion.Probation, verdict: Decision, now: datetime
) -> int:
    with connect(site.database_url).transaction() as tx:
        decision_id = registry.decide(tx, verdict, subject=one.subject, now=now)
        if isinstance(one, promotion.Probation):
            _roll_back(
                site, tx, one.newer, one.older, decision_id,
                effective_from=now, reference=one.reference, now=now,
            )  # fmt: skip
        elif verdict.kind == "promote":
            compared = promotion.get(tx, one.comparison_id)
            _promote(site, tx, compared, decision_id, verdict.as_of, now)
        elif verdict.kind == "hold":
            compared = promotion.get(tx, one.comparison_id)
            promotion.ask(tx, one.comparison_id, reports.evidence(compared, verdict), now=now)
        return decision_id


def alerts(
    site: Site,
    family_name: str,
    as_of: datetime,
    kind: reports.RunKind,
    *,
    now: datetime,
    since: datetime,
    failed: Sequence[str] = (),
    decision_ids: Sequence[int] = (),
) -> list[reports.Alert]:
    """What people should know at the end of a run, each alert stored once.

    Parameters
    ----------
    since
        When the run was due; what was refused earlier is none of its business.
    failed
        The steps of the run that failed, however they did.
    decision_ids
        In a retrain: the decisions that it carries out.
    """
    family = site.family(family_name)
    database = connect(site.database_url)
    silence = monitoring.silence(database, family, as_of) if kind == "monitor" else None
    run = reports.Run(kind, as_of, since, failed, decision_ids, silence)
    return reports.raise_alerts(database, family, run, now=now)


def delivered(site: Site, alert_id: int, notifier: str, *, now: datetime) -> None:
    """Remember that a notifier has delivered an alert, so that it never does so again."""
    reports.delivered(connect(site.database_url), alert_id, notifier, now=now)
