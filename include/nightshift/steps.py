"""What a task calls: opens the database, calls one or two rooms, returns ids.

Every step takes the site and the present moment ``now`` (aware, UTC); ``as_of`` is the moment that
the step's work claims to know. Each step may run twice: the second run finds what the first did.
Every refusal is in the audit trail before it leaves a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from nightshift import (
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
    ConfigError,
    DatabaseError,
    Decision,
    NightshiftError,
    SnapshotRejected,
)
from nightshift.registry import Registry
from nightshift.storage import Store

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
    """Score a snapshot with the champion of its ``as_of``; the id of a batch nobody sees yet."""
    database = connect(site.database_url)
    with database.transaction() as tx:
        snapshot = snapshots.get(tx, snapshot_id)
    with _audited(site, snapshot.family, snapshot.as_of, now):
        family = site.family(snapshot.family)
        with database.transaction() as tx:
            version = registry.require_champion(tx, family, snapshot.as_of)
        champion = _registry(site).load(version)
        return scoring.score(database, _store(site), family, snapshot, champion, now=now)


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


def collect_labels(site: Site, family_name: str, as_of: datetime, *, now: datetime) -> int:
    """Append the labels known by ``as_of``; how many were new."""
    family = site.family(family_name)
    with _audited(site, family_name, as_of, now) as database:
        return labels.collect(database, _source(site, family), family, as_of, now=now)


def measure(site: Site, family_name: str, as_of: datetime, *, now: datetime) -> list[int]:
    """Measure a family's models as known at ``as_of``; the measurements' ids."""
    family = site.family(family_name)
    with _audited(site, family_name, as_of, now) as database:
        with database.transaction() as tx:
            model = registry.model(tx, family.family, family.family, now=now)
        return [monitoring.measure(database, family, model, as_of, now=now)]


def decide(site: Site, family_name: str, as_of: datetime, *, now: datetime) -> list[int]:
    """Decide on each model as measured at ``as_of``; the ids of the decisions to retrain."""
    family = site.family(family_name)
    with _audited(site, family_name, as_of, now) as database, database.transaction() as tx:
        model = registry.model(tx, family.family, family.family, now=now)
        measured = monitoring.recent(tx, family, model, as_of)
        if not measured or measured[0].as_of != as_of:
            raise NightshiftError(
                f"{family_name} was not measured at {as_of.isoformat()}; nothing can be decided."
                " Run the measure step of this night first"
            )
        last = registry.last_retrain(tx, model.model_id, as_of)
        concluded = policy.decide(family.retrain, measured, last)
        decision_id = registry.decide(
            tx, concluded, subject=f"monitor {as_of.isoformat()}", now=now
        )
        stored = registry.decision(tx, decision_id)
    return [decision_id] if stored.kind == "retrain" else []


def request_retrain(
    site: Site, family_name: str, as_of: datetime, *, reason: str, by: str, now: datetime
) -> int:
    """Record that somebody, or a calendar, asks for a retrain; the decision's id.

    Parameters
    ----------
    by
        Who asks: a name, or the id of a scheduled run. Asking twice for the same reason at the
        same moment is asking once.
    """
    family = site.family(family_name)
    with _audited(site, family_name, as_of, now) as database, database.transaction() as tx:
        model = registry.model(tx, family.family, family.family, now=now)
        asked = Decision(model.model_id, "retrain", "on_demand", reason, as_of, {"by": by})
        subject = f"request {as_of.isoformat()} {by}: {reason}"
        return registry.decide(tx, asked, subject=subject, now=now)


def fit(site: Site, decision_id: int, *, now: datetime, holdout: timedelta | None = None) -> int:
    """Train the challenger that a decision calls for; its version id.

    Nights whose snapshot is missing are frozen first, where the source keeps its history.
    """
    database = connect(site.database_url)
    with database.transaction() as tx:
        decision = registry.decision(tx, decision_id)
        model = registry.model_of(tx, decision.model_id)
        trained = registry.version_of_decision(tx, decision_id)
    if trained is not None:
        return trained.version_id
    cutoff = decision.as_of
    with _audited(site, model.family, cutoff, now):
        family = site.family(model.family)
        learn, later = training.spans(family, cutoff, holdout)
        if family.source.history == "append_only":
            for night in missing_nights(site, family, learn.start, later.end):
                prepare_night(site, model.family, night, now=now)
        source = _source(site, family)
        labels.collect(database, source, family, cutoff, now=now, since=learn.start)
        pipeline, manifest = training.fit(database, _store(site), family, cutoff, holdout)
        with database.transaction() as tx:
            return _registry(site).save(
                tx, model, pipeline, manifest, decision_id=decision_id, now=now
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


def compare(site: Site, version_id: int, *, now: datetime) -> int:
    """Compare a challenger with the present champion; the comparison's id."""
    database = connect(site.database_url)
    with database.transaction() as tx:
        version = registry.version(tx, version_id)
    cutoff = datetime.fromisoformat(version.manifest["cutoff"])
    with _audited(site, version.model.family, cutoff, now):
        family = site.family(version.model.family)
        with database.transaction() as tx:
            serving = registry.champion(tx, version.model.family, now)
        versions = _registry(site)
        comparison = training.compare(
            database,
            _store(site),
            family,
            versions.load(version),
            versions.load(serving) if serving else None,
        )
        with database.transaction() as tx:
            return training.register_comparison(tx, comparison, now=now)


def conclude(site: Site, comparison_id: int, *, now: datetime) -> int:
    """Promote the challenger of a comparison, or reject it; the decision's id."""
    database = connect(site.database_url)
    with database.transaction() as tx:
        comparison = training.comparison(tx, comparison_id)
        version = registry.version(tx, comparison.challenger_version)
    cutoff = datetime.fromisoformat(version.manifest["cutoff"])
    with _audited(site, version.model.family, cutoff, now), database.transaction() as tx:
        family = site.family(version.model.family)
        subject = f"comparison {comparison_id}"
        model_id = version.model.model_id
        done = tx.maybe("registry.find_decision", model_id=model_id, subject=subject)
        if done is not None:
            concluded: int = done.decision_id
            return concluded
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
            )
        return decision_id


def promote(site: Site, version_id: int, *, reason: str, by: str, now: datetime) -> int:
    """Make a version the champion on somebody's word, without proof; the decision's id."""
    with connect(site.database_url).transaction() as tx:
        version = registry.version(tx, version_id)
        model_id, family = version.model.model_id, version.model.family
        serving = registry.champion(tx, family, now)
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
