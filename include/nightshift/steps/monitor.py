"""The DAG ``monitor``: labels in, measurements, trials, decisions, and the alerts about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from nightshift import fleet, monitoring, policy, promotion, registry, reports
from nightshift.data import Transaction, connect
from nightshift.errors import NightshiftError
from nightshift.records import About, Decision, Hold
from nightshift.site import Site
from nightshift.steps.frame import Frame, audited, each, loadable, source_of, within_budget
from nightshift.steps.refit import refitted
from nightshift.wording import moment

Trial = promotion.Shadow | promotion.Probation


def collect_labels(
    site: Site, family_name: str, as_of: datetime, *, now: datetime
) -> monitoring.Collected:
    """Append the labels known by ``as_of``; what the source gave."""
    with audited(site, family_name, as_of, now) as frame:
        return monitoring.collect(
            frame.database, frame.source, frame.family, as_of, names=frame.names, now=now
        )


def measure(site: Site, family_name: str, as_of: datetime, *, now: datetime) -> list[int]:
    """Measure a family's models as known at ``as_of``; the ids of the decisive measurements.

    Members that have had no rows for long are retired first.
    """
    with audited(site, family_name, as_of, now) as frame:
        family = frame.family
        with frame.database.transaction() as tx:
            retired = registry.retire(tx, family, as_of)
            if retired:
                tx.record("retired", now=now, family=family_name, as_of=as_of, models=retired)
            models = fleet.models(tx, family, as_of, now=now)
            champions = registry.champions(tx, family_name, as_of)
        return monitoring.measure(
            frame.database, frame.store, family, models, champions, as_of, now=now
        )


def decide(site: Site, family_name: str, as_of: datetime, *, now: datetime) -> list[int]:
    """Decide on each model as measured at ``as_of``; the ids of the decisions to retrain.

    The budget of a night is shared by all families. So whatever other family was measured at the
    same moment is decided along, and the worst models of all come first.
    """
    with audited(site, family_name, as_of, now) as frame:
        with frame.database.transaction() as tx:
            measured = monitoring.measured_at(tx, as_of)
            holds = registry.holds_now(tx, now)
        if family_name not in measured:
            raise NightshiftError(
                f"{family_name} was not measured at {moment(as_of)}; nothing can be decided."
                " Run the measure step of this night first"
            )
        other_families = [name for name in measured if name != family_name]
        proposals = []
        for family in [frame.family, *loadable(site, other_families)]:
            standings = fleet.standings(frame.database, frame.store, family, as_of, now=now)
            decisions = policy.decide(fleet.rule(family), standings, family.models)
            hold = holds.get(family.family)
            proposals += [policy.while_held(decision, hold) for decision in decisions]
        return within_budget(frame, About.monitoring(as_of), proposals)


def judge_trials(site: Site, family_name: str, as_of: datetime, *, now: datetime) -> list[int]:
    """End the shadows and probations that the labels known at ``as_of`` decide; the decisions' ids.

    A challenger in shadow is promoted (or a person is asked) as soon as it has proved itself, and
    rejected when its time is over. A champion on probation makes way for its predecessor as soon as
    that one has proved better, and any champion for an earlier one that has; in a family that is
    held, as soon as it is released.
    """
    with audited(site, family_name, as_of, now) as frame:
        database = frame.database
        load = frame.registry.load
        trials = promotion.judge(database, frame.store, frame.family, load, as_of, now=now)
        over = {trial.model_id for trial, _ in trials}
        returns = promotion.recall(database, frame.store, frame.family, load, as_of)
        trials += [(pair, verdict) for pair, verdict in returns if pair.model_id not in over]
        with database.transaction() as tx:
            hold = registry.hold_on(tx, family_name, now)
            ended = [
                (trial, policy.while_held(verdict, hold))
                for trial, verdict in trials
                if hold is None or not _stays(tx, trial, verdict, hold, now)
            ]
    each(
        (audited(site, family_name, as_of, now), partial(_end_trial, trial=trial, verdict=verdict))
        for trial, verdict in ended
    )
    with database.transaction() as tx:
        return promotion.decided(tx, family_name, as_of)


def _stays(tx: Transaction, trial: Trial, verdict: Decision, hold: Hold, now: datetime) -> bool:
    """Whether a probation goes on although it has ended, since the family is held."""
    if not isinstance(trial, promotion.Probation):
        return False
    reason = f"{verdict.reason}, but the family is {hold}"
    tx.record(
        "held", now=now, family=hold.family, as_of=verdict.as_of, model=trial.model, reason=reason
    )
    return True


def _end_trial(frame: Frame, *, trial: Trial, verdict: Decision) -> int:
    if isinstance(trial, promotion.Probation):
        with frame.database.transaction() as tx:
            return promotion.end_probation(tx, frame.registry, trial, verdict, now=frame.now)
    serving = None
    if verdict.kind == "promote":
        with frame.database.transaction() as tx:
            winner = registry.version(tx, trial.newer)
        serving = refitted(frame, winner, {})
    proof = promotion.Proof(trial.comparison_id, serving)
    with frame.database.transaction() as tx:
        return promotion.carry_out(
            tx, frame.registry, frame.family, verdict, trial.about, proof, frame.now
        )


def alerts(site: Site, family_name: str, run: reports.Run, *, now: datetime) -> list[reports.Alert]:
    """What people should know at the end of a run, each alert stored once."""
    family = site.family(family_name)
    database = connect(site.database_url)
    if run.kind == "monitor":
        run = replace(
            run,
            silence=monitoring.silence(database, family, run.as_of),
            strangers=monitoring.strangers(database, family, run.as_of),
            fewer_labels=monitoring.fewer_labels(database, family, run.as_of),
            set_aside=monitoring.set_aside(database, family, run.as_of),
        )
    elif run.kind == "score":
        repeated = monitoring.repeated_entities(database, family, run.as_of, now=now)
        run = replace(run, repeated=repeated)
    return reports.raise_alerts(database, family, run, now=now)


def delivered(site: Site, alert_id: int, notifier: str, *, now: datetime) -> None:
    """Remember that a notifier has delivered an alert, so that it never does so again."""
    reports.delivered(connect(site.database_url), alert_id, notifier, now=now)


def label_arrivals(
    site: Site,
    family_name: str,
    as_of: datetime,
    *,
    entities: Sequence[tuple[str, datetime | None]] = (),
) -> monitoring.Arrivals:
    """How fast labels come, as known at ``as_of``; nothing is stored.

    By published nights where one of them is old enough, otherwise, or for a list of entities, by
    what labels.sql states.
    """
    family, database = site.family(family_name), connect(site.database_url)
    if not entities:
        by_nights = monitoring.arrivals(database, family, as_of)
        if by_nights.proposed is not None:
            return by_nights
    by_labels = monitoring.foreseen(source_of(site, family), family, as_of, entities)
    return by_labels if entities or by_labels.proposed is not None else by_nights
