"""What a task calls: opens the database, calls one or two rooms, returns ids.

Every step takes the site and the present moment ``now`` (aware, UTC); ``as_of`` is the moment that
the step's work claims to know. Each step may run twice: the second run finds what the first did.
Every refusal is in the audit trail before it leaves a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

from nightshift import (
    alerting,
    fleet,
    labels,
    monitoring,
    policy,
    registry,
    scoring,
    snapshots,
    training,
    validation,
)
from nightshift.config import Problem, Site, load_families
from nightshift.database import Database, connect
from nightshift.family import ModelFamily
from nightshift.records import (
    Comparison,
    ConfigError,
    DatabaseError,
    Decision,
    NightshiftError,
    SnapshotRejected,
    Version,
)
from nightshift.registry import Registry
from nightshift.storage import Store

BUDGET_NIGHT = timedelta(days=1)
"""How far back retrains count against the budget of a night."""

UNSEEN_GRACE = timedelta(days=1)
"""How long rows that no reader sees are kept: longer than any run that may still publish them."""


def check(site: Site) -> list[Problem]:
    """Every problem of every family, found without touching a database."""
    families, problems = load_families(site.models)
    for family in families:
        problems += training.estimator_problems(family)
        problems += validation.expectation_problems(family)
    return problems


def freeze(site: Site, family_name: str, as_of: datetime, *, now: datetime) -> int:
    """Freeze the rows of a night; the snapshot's id."""
    family = site.family(family_name)
    with _audited(site, family_name, as_of, now) as database:
        source = _source(site, family)
        return snapshots.freeze(database, _store(site), source, family, as_of, now=now).snapshot_id


def validate(site: Site, snapshot_id: int, *, now: datetime) -> int:
    """Judge a snapshot; the validation's id. Raises SnapshotRejected."""
    database = connect(site.database_url)
    with database.transaction() as tx:
        snapshot = snapshots.get(tx, snapshot_id)
    with _audited(site, snapshot.family, snapshot.as_of, now):
        family = site.family(snapshot.family)
        return validation.validate(database, _store(site), family, snapshot, now=now)


def score(site: Site, snapshot_id: int, *, now: datetime) -> int:
    """Score a snapshot with the champions of its ``as_of``; the id of a batch nobody sees yet.

    Members that are seen for the first time become models of the family.
    """
    database = connect(site.database_url)
    with database.transaction() as tx:
        snapshot = snapshots.get(tx, snapshot_id)
    with _audited(site, snapshot.family, snapshot.as_of, now):
        family = site.family(snapshot.family)
        found = scoring.seen(_store(site), family, snapshot)
        with database.transaction() as tx:
            serving = fleet.serving(tx, family, snapshot.as_of, found, now=now)
            if found and not any(serving.of(member) for member in found):
                raise registry.no_champion(tx, family, snapshot.as_of)
        return scoring.score(
            database, _store(site), family, snapshot, found, serving, _registry(site).load, now=now
        )


def publish(site: Site, batch_id: int, *, now: datetime) -> dict[str, Any]:
    """Show a batch to readers.

    Returns
    -------
    dict
        ``batch_id`` (of the batch that readers see now), ``family``, ``as_of`` (ISO 8601),
        ``rows``, ``versions`` (numbers).
    """
    database = connect(site.database_url)
    with database.transaction() as tx:
        night = tx.one("scoring.get", batch_id=batch_id)
    with _audited(site, night.family, night.as_of, now):
        shown = scoring.publish(database, batch_id, now=now)
        with database.transaction() as tx:
            numbers = [row.number for row in tx.rows("scoring.versions", batch_id=shown.batch_id)]
    return {
        "batch_id": shown.batch_id,
        "family": shown.family,
        "as_of": shown.as_of.isoformat(),
        "rows": shown.row_count,
        "versions": numbers,
    }


def watch(site: Site, batch_id: int, *, now: datetime) -> int:
    """Hold a published night against what training saw; how many signals were stored."""
    database = connect(site.database_url)
    with database.transaction() as tx:
        night = tx.one("scoring.get", batch_id=batch_id)
    with _audited(site, night.family, night.as_of, now):
        family = site.family(night.family)
        with database.transaction() as tx:
            models = fleet.models(tx, family, night.as_of, now=now)
            champions = registry.champions(tx, family.family, night.as_of)
        return monitoring.watch(
            database, _store(site), family, models, champions, batch_id, night.as_of, now=now
        )


def collect_labels(
    site: Site, family_name: str, as_of: datetime, *, now: datetime
) -> labels.Collected:
    """Append the labels known by ``as_of``; what the source gave."""
    family = site.family(family_name)
    with _audited(site, family_name, as_of, now) as database:
        return labels.collect(database, _source(site, family), family, as_of, now=now)


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
                f"{family_name} was not measured at {as_of.isoformat()}; nothing can be decided."
                " Run the measure step of this night first"
            )
        others = [other for other in _loadable(site, measured) if other.family != family_name]
        families = [family, *others]
        store = _store(site)
        standings = {
            of.family: fleet.standings(database, store, of, as_of, now=now) for of in families
        }
        asked = [
            decision
            for of in families
            for decision in policy.decide(fleet.rule(of), standings[of.family], of.models)
        ]
        subject = f"monitor {as_of.isoformat()}"
        return _within_budget(site, database, family_name, as_of, subject, asked, now)


def request_retrain(
    site: Site,
    family_name: str,
    as_of: datetime,
    *,
    reason: str,
    by: str,
    now: datetime,
    members: Sequence[str] | None = None,
    kind: Literal["on_demand", "calendar"] = "on_demand",
) -> list[int]:
    """Record that somebody, or a calendar, asks for retrains; the ids of the decisions to retrain.

    Nights whose snapshot is missing are frozen first, where the source keeps its history, so that
    the members of a factory are known.

    Parameters
    ----------
    by
        Who asks: a name, or the id of a scheduled run. Asking twice for the same reason at the
        same moment is asking once.
    members
        Which models; by default every model with enough labels, the fallback included.
    kind
        A ``calendar`` minds the cooldown, the labels learnt from already, and the budget.
    """
    family = site.family(family_name)
    with _audited(site, family_name, as_of, now) as database:
        rows, _, _ = _training_rows(site, family, as_of, None, now=now)
        standings = fleet.standings(database, _store(site), family, as_of, now=now, rows=rows)
        wanted = fleet.wanted(family, standings, members)
        subject = f"request {as_of.isoformat()} {by}: {reason}"
        asked = [
            policy.request(fleet.rule(family), standing, kind, reason, by) for standing in wanted
        ]
        return _within_budget(site, database, family_name, as_of, subject, asked, now)


def _within_budget(
    site: Site,
    database: Database,
    family_name: str,
    as_of: datetime,
    subject: str,
    asked: Sequence[Decision],
    now: datetime,
) -> list[int]:
    """Record what is asked and was not decided yet, as far as the budget of the night reaches.

    Returns the ids of the family's decisions to retrain about this subject, old and new.
    """
    with database.transaction() as tx:
        tx.rows("registry.lock_budget")
        fresh = [one for one in asked if registry.decided(tx, one.model_id, subject) is None]
        spent = tx.one("registry.spent", since=as_of - BUDGET_NIGHT, as_of=as_of).retrains
        for decision in policy.within_budget(fresh, site.settings.retrains_per_night, spent):
            registry.decide(tx, decision, subject=subject, now=now)
        return registry.retrains_of(tx, family_name, subject)


def fit(
    site: Site,
    decision_ids: Sequence[int],
    *,
    now: datetime,
    holdout: timedelta | None = None,
) -> list[int]:
    """Train the challengers that decisions of one family call for; their version ids.

    Nights whose snapshot is missing are frozen first, where the source keeps its history. A model
    that cannot be trained is recorded and left out; where none can, the first error is raised.
    """
    database = connect(site.database_url)
    with database.transaction() as tx:
        wanted = [(decision_id, registry.decision(tx, decision_id)) for decision_id in decision_ids]
        models = {d.model_id: registry.model_of(tx, d.model_id) for _, d in wanted}
        trained = {i: registry.version_of_decision(tx, i) for i, _ in wanted}
    prepared: dict[datetime, tuple[ModelFamily, training.Rows, training.Span, training.Span]] = {}

    def train(decision_id: int, decision: Decision) -> int:
        done = trained[decision_id]
        if done is not None:
            return done.version_id
        model, cutoff = models[decision.model_id], decision.as_of
        if cutoff not in prepared:
            family = site.family(model.family)
            prepared[cutoff] = (family, *_training_rows(site, family, cutoff, holdout, now=now))
        family, rows, learn, later = prepared[cutoff]
        pipeline, manifest = training.fit(family, model, rows, cutoff, learn, later)
        with database.transaction() as tx:
            return _registry(site).save(
                tx, model, pipeline, manifest, decision_id=decision_id, now=now
            )

    return _each(
        (
            _audited(site, models[decision.model_id].family, decision.as_of, now),
            partial(train, decision_id, decision),
        )
        for decision_id, decision in wanted
    )


def missing_nights(
    site: Site, family: ModelFamily, start: datetime, end: datetime
) -> list[datetime]:
    """The ticks of ``schedule.score`` in (start, end] at which no snapshot was taken."""
    with connect(site.database_url).transaction() as tx:
        rows = tx.rows("snapshots.nights", family=family.family, start=start, end=end)
    frozen = {row.as_of for row in rows}
    return [night for night in family.ticks(start, end) if night not in frozen]


def prepare_night(site: Site, family_name: str, night: datetime, *, now: datetime) -> bool:
    """Freeze and validate one night; False where validation rejected it."""
    snapshot_id = freeze(site, family_name, night, now=now)
    try:
        validate(site, snapshot_id, now=now)
    except SnapshotRejected:
        return False
    return True


def compare(site: Site, version_ids: Sequence[int], *, now: datetime) -> list[int]:
    """Compare challengers of one family with their present champions; the comparisons' ids.

    What cannot be compared is recorded and left out; where nothing can, the first error is raised.
    """
    database = connect(site.database_url)
    with database.transaction() as tx:
        challengers = [registry.version(tx, version_id) for version_id in version_ids]
    rows: dict[tuple[str, ...], training.Rows] = {}

    def against_champion(version: Version) -> int:
        family = site.family(version.model.family)
        span = (*version.manifest["holdout"], version.manifest["cutoff"])
        if span not in rows:
            start, end, cutoff = map(datetime.fromisoformat, span)
            rows[span] = training.labelled_rows(
                database, _store(site), family, training.Span(start, end), cutoff
            )
        with database.transaction() as tx:
            serving = registry.champion(tx, version.model.model_id, now)
        versions = _registry(site)
        comparison = training.compare(
            family,
            rows[span],
            versions.load(version),
            versions.load(serving) if serving else None,
        )
        with database.transaction() as tx:
            return training.register_comparison(tx, comparison, now=now)

    return _each(
        (_audited(site, v.model.family, _cutoff(v), now), partial(against_champion, v))
        for v in challengers
    )


def conclude(site: Site, comparison_ids: Sequence[int], *, now: datetime) -> list[int]:
    """Promote the challengers of comparisons, or reject them; the decisions' ids.

    What cannot be concluded is recorded and left out; where nothing can, the first error is raised.
    """
    database = connect(site.database_url)
    with database.transaction() as tx:
        compared = [(i, training.comparison(tx, i)) for i in comparison_ids]
        versions = {i: registry.version(tx, c.challenger_version) for i, c in compared}
    return _each(
        (
            _audited(site, versions[i].model.family, _cutoff(versions[i]), now),
            partial(_conclude, site, i, comparison, versions[i], now),
        )
        for i, comparison in compared
    )


def _conclude(
    site: Site, comparison_id: int, comparison: Comparison, version: Version, now: datetime
) -> int:
    cutoff, model_id = _cutoff(version), version.model.model_id
    with connect(site.database_url).transaction() as tx:
        family = site.family(version.model.family)
        subject = f"comparison {comparison_id}"
        done = registry.decided(tx, model_id, subject)
        if done is not None:
            return done
        verdict = policy.judge(comparison, family.promotion, cutoff, model_id)
        decision_id = registry.decide(tx, verdict, subject=subject, now=now)
        if verdict.kind == "promote":
            first = comparison.champion_version is None
            _registry(site).promote(
                tx,
                version,
                instead_of=comparison.champion_version,
                decision_id=decision_id,
                # Later champions serve from now on, so that a night scored already is scored
                # again by the same version; before the first there was none to disagree with.
                effective_from=cutoff if first else now,
                now=now,
                reference=comparison.reference,
            )
        return decision_id


def promote(site: Site, version_id: int, *, reason: str, by: str, now: datetime) -> int:
    """Make a version the champion on somebody's word, without proof; the decision's id."""
    with connect(site.database_url).transaction() as tx:
        version = registry.version(tx, version_id)
        model_id = version.model.model_id
        serving = registry.champion(tx, model_id, now)
        said = Decision(model_id, "promote", "by_hand", reason, now, {"by": by})
        decision_id = registry.decide(tx, said, subject=f"promote {version_id}: {reason}", now=now)
        _registry(site).promote(
            tx,
            version,
            instead_of=serving.version_id if serving else None,
            decision_id=decision_id,
            effective_from=now,
            now=now,
        )
        return decision_id


def maintain(site: Site, *, now: datetime) -> dict[str, int]:
    """Nightly housekeeping: delete rows that no reader will ever see; counts by name."""
    database = connect(site.database_url)
    return {"purged_rows": scoring.purge(database, before=now - UNSEEN_GRACE, now=now)}


def alerts(
    site: Site,
    family_name: str,
    as_of: datetime,
    kind: alerting.RunKind,
    *,
    now: datetime,
    since: datetime,
    failed: Sequence[str] = (),
    decision_ids: Sequence[int] = (),
) -> list[alerting.Alert]:
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
    silence = labels.silence(database, family, as_of) if kind == "monitor" else None
    run = alerting.Run(kind, as_of, since, failed, decision_ids, silence)
    return alerting.raise_alerts(database, family, run, now=now)


def delivered(site: Site, alert_id: int, notifier: str, *, now: datetime) -> None:
    """Remember that a notifier has delivered an alert, so that it never does so again."""
    alerting.delivered(connect(site.database_url), alert_id, notifier, now=now)


@contextmanager
def _audited(site: Site, family: str, as_of: datetime, now: datetime) -> Iterator[Database]:
    """The database of a step whose refusals go into the audit trail."""
    database = connect(site.database_url)
    try:
        yield database
    except NightshiftError as error:
        try:
            with database.transaction() as tx:
                tx.record(error.code, now=now, family=family, as_of=as_of, reason=str(error))
        except DatabaseError as lost:
            error.add_note(f"and it could not be written into the audit trail: {lost}")
        raise


def _each(work: Iterable[tuple[AbstractContextManager[Database], Callable[[], int]]]) -> list[int]:
    """What each piece of work returns, without those that were refused; all refused is an error.

    An outage ends the work: it is nobody's fault in particular, and all of it is tried again.
    """
    done, refused = [], []
    for audited, piece in work:
        try:
            with audited:
                done.append(piece())
        except NightshiftError as error:
            if error.transient:
                raise
            refused.append(error)
    if refused and not done:
        raise refused[0]
    return done


def _training_rows(
    site: Site,
    family: ModelFamily,
    cutoff: datetime,
    holdout: timedelta | None,
    *,
    now: datetime,
) -> tuple[training.Rows, training.Span, training.Span]:
    """What a family can learn from at a cutoff, and the nights to learn from and compare on."""
    database = connect(site.database_url)
    learn, later = training.spans(family, cutoff, holdout)
    if family.source.history == "append_only":
        for night in missing_nights(site, family, learn.start, later.end):
            prepare_night(site, family.family, night, now=now)
    source = _source(site, family)
    labels.collect(database, source, family, cutoff, now=now, since=learn.start)
    rows = training.labelled_rows(database, _store(site), family, learn, cutoff)
    return rows, learn, later


def _loadable(site: Site, names: Iterable[str]) -> Iterator[ModelFamily]:
    """The families of these names whose folders load; the others' own runs tell what is wrong."""
    for name in names:
        try:
            yield site.family(name)
        except ConfigError:
            continue


def _cutoff(version: Version) -> datetime:
    return datetime.fromisoformat(version.manifest["cutoff"])


def _source(site: Site, family: ModelFamily) -> Database:
    name = family.source.connection
    if name not in site.sources:
        raise ConfigError(
            f"{family.family}: {family.folder / 'model.yaml'}: source.connection is {name!r}, and"
            f" there is no such connection (known: {', '.join(sorted(site.sources)) or 'none'});"
            f" set AIRFLOW_CONN_{name.upper()} or add it in Airflow"
        )
    return connect(site.sources[name], role=None, read_only=True)


def _store(site: Site) -> Store:
    return Store(site.store)


def _registry(site: Site) -> Registry:
    return Registry(_store(site), site.keys, site.models)
