"""What a task calls: opens the database, calls one or two rooms, returns ids.

Every step takes the site and the present moment ``now`` (aware, UTC); ``as_of`` is the moment that
the step's work claims to know. Each step may run twice: the second run finds what the first did.
Every refusal is in the audit trail before it leaves a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

from nightshift import (
    alerting,
    comparison,
    fleet,
    holds,
    labels,
    monitoring,
    onnx_export,
    policy,
    posted,
    pseudonyms,
    registry,
    reproduction,
    scoring,
    shares,
    snapshots,
    tracking,
    training,
    trials,
    validation,
)
from nightshift.config import Problem, Site, load_families
from nightshift.database import Database, Transaction, connect
from nightshift.family import ModelFamily
from nightshift.keys import Keys, Rotation
from nightshift.records import (
    Comparison,
    ConfigError,
    DatabaseError,
    Decision,
    Hold,
    Model,
    NightshiftError,
    PromotionLost,
    RegistryError,
    SnapshotRejected,
    Version,
)
from nightshift.registry import LoadedVersion, Registry
from nightshift.storage import ROW_GROUP, Store

BUDGET_NIGHT = timedelta(days=1)
"""How far back retrains count against the budget of a night."""

ARTIFACT_GRACE = timedelta(days=7)
"""How long an artifact is kept after it was written, or last of use."""

UNSEEN_GRACE = timedelta(days=1)
"""How long rows that no reader sees are kept: longer than any run that may still publish them."""

RETIRE_GRACE = timedelta(days=7)
"""How long predictions are kept beyond their time: a late monitoring still finds its window."""

DRAFT_GRACE = timedelta(days=1)
"""How long unfinished files of the store are left alone: longer than any task may write one."""

ANSWER_GRACE = timedelta(days=1)
"""How long after its time an approval is left to the run that waits for it."""


def check(site: Site) -> list[Problem]:
    """Every problem of every family, found without touching a database."""
    families, problems = load_families(site.models)
    for family in families:
        problems += training.estimator_problems(family)
        problems += comparison.border_problems(family)
        problems += validation.expectation_problems(family)
    return problems


def freeze(site: Site, family_name: str, as_of: datetime, *, now: datetime) -> int:
    """Freeze the rows of a night; the snapshot's id."""
    family = site.family(family_name)
    with _audited(site, family_name, as_of, now) as database:
        source = _source(site, family)
        snapshot = snapshots.freeze(
            database, _store(site), source, family, as_of,
            names=pseudonyms.names_of(database, family, site.keys, now=now),
            now=now, chunk_rows=site.settings.chunk_rows,
        )  # fmt: skip
        return snapshot.snapshot_id


def validate(site: Site, snapshot_id: int, *, now: datetime) -> int:
    """Judge a snapshot; the validation's id. Raises SnapshotRejected."""
    database = connect(site.database_url)
    with database.transaction() as tx:
        snapshot = snapshots.get(tx, snapshot_id)
    with _audited(site, snapshot.family, snapshot.as_of, now):
        family = site.family(snapshot.family)
        return validation.validate(
            database, _store(site), family, snapshot,
            now=now, chunk_rows=site.settings.chunk_rows,
        )  # fmt: skip


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
            database, _store(site), family, snapshot, found, serving, _registry(site).load,
            now=now, chunk_rows=site.settings.chunk_rows,
        )  # fmt: skip


def share_out(site: Site, snapshot_id: int, *, now: datetime) -> list[dict[str, int]]:
    """Cut a night into what each task scores; the arguments of :func:`score_share`, task by task.

    A night that one task can score is left to it whole. Of others the batch begins here; where one
    was begun before and not ended, it is gone on with.
    """
    database = connect(site.database_url)
    with database.transaction() as tx:
        snapshot = snapshots.get(tx, snapshot_id)
    whole = [{"snapshot_id": snapshot_id}]
    with _audited(site, snapshot.family, snapshot.as_of, now):
        family = site.family(snapshot.family)
        found = scoring.seen(_store(site), family, snapshot)
        cut = shares.cut(
            {member: seen.rows for member, seen in found.items()},
            row_groups=-(-snapshot.row_count // ROW_GROUP),
            max_tasks=family.scoring.max_tasks,
            rows_per_task=family.scoring.rows_per_task,
        )
        if len(cut) == 1:
            return whole
        with database.transaction() as tx:
            serving = fleet.serving(tx, family, snapshot.as_of, found, now=now)
        if not any(serving.of(member) for member in found):
            return whole
        begun = scoring.begin(
            database, family, snapshot, found, serving, cut, since=now - UNSEEN_GRACE / 2, now=now
        )
    if begun is None:
        return whole
    batch_id, parts = begun
    return [{"snapshot_id": snapshot_id, "batch_id": batch_id, "part": part} for part in parts]


def score_share(
    site: Site,
    snapshot_id: int,
    batch_id: int | None = None,
    part: int | None = None,
    *,
    now: datetime,
) -> int:
    """Score what :func:`share_out` gave to one task; the id of the batch that it belongs to."""
    if batch_id is None or part is None:
        return score(site, snapshot_id, now=now)
    database = connect(site.database_url)
    with database.transaction() as tx:
        snapshot = snapshots.get(tx, snapshot_id)
    with _audited(site, snapshot.family, snapshot.as_of, now):
        family, load = site.family(snapshot.family), _registry(site).load
        scoring.write_part(
            database, _store(site), family, snapshot, batch_id, part, load,
            now=now, chunk_rows=site.settings.chunk_rows,
        )  # fmt: skip
    return batch_id


def score_rows(
    site: Site, family_name: str, records: Sequence[posted.Record], *, by: str, now: datetime
) -> list[scoring.Answer]:
    """Score rows that somebody posts with the champions of ``now``, in the order of the rows.

    Who asked, for how many rows, and which versions answered is in the audit trail before the
    answer leaves; the rows themselves are not.

    Raises
    ------
    RowsRefused
        The rows are not what the family scores; nothing is recorded.
    NoChampion
        Nobody serves any of the rows.
    """
    family = site.family(family_name)
    given = posted.table(records, family)
    with _audited(site, family_name, now, now) as database:
        # Named as in a snapshot, they come in its order, by which some estimators' last bits go.
        rows = pseudonyms.names_of(database, family, site.keys, now=now).in_column(given)
        with database.transaction() as tx:
            found = scoring.split(rows, family)
            serving = fleet.asked(tx, family, found, now)
            if not any(serving.of(member) for member in found):
                raise registry.no_champion(tx, family, now)
        answers = scoring.answer(rows, family, serving, _registry(site).load)
        versions = {one.scorer.model.name: one.scorer.number for one in answers if one.scorer}
        entities = given["entity_id"].to_pylist()
        answers = [replace(a, entity_id=e) for a, e in zip(answers, entities, strict=True)]
        with database.transaction() as tx:
            tx.record(
                "scored_on_demand", now=now, family=family_name, by=by, rows=len(answers),
                skipped_rows=sum(one.scorer is None for one in answers),
                versions=versions,
            )  # fmt: skip
    return answers


def publish(site: Site, batch_id: int, *, now: datetime) -> dict[str, Any]:
    """Show a batch to readers.

    Returns
    -------
    dict
        ``batch_id`` (of the batch that readers see now), ``family``, ``as_of`` (ISO 8601),
        ``rows``, ``versions`` (numbers), ``contract`` (the version of what readers rely on).
    """
    database = connect(site.database_url)
    with database.transaction() as tx:
        night = tx.one("scoring.get", batch_id=batch_id)
    with _audited(site, night.family, night.as_of, now):
        shown = scoring.publish(database, batch_id, now=now)
        with database.transaction() as tx:
            numbers = [row.number for row in tx.rows("scoring.versions", batch_id=shown.batch_id)]
            contract = scoring.contract(tx)
    return {
        "batch_id": shown.batch_id,
        "family": shown.family,
        "as_of": shown.as_of.isoformat(),
        "rows": shown.row_count,
        "versions": numbers,
        "contract": contract,
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
        names = pseudonyms.names_of(database, family, site.keys, now=now)
        return labels.collect(database, _source(site, family), family, as_of, names=names, now=now)


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
        with database.transaction() as tx:
            held = holds.current(tx, now)
        asked = [
            policy.while_held(decision, held.get(of.family))
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
        rows, _ = _training_rows(site, family, as_of, None, now=now)
        standings = fleet.standings(database, _store(site), family, as_of, now=now, rows=rows)
        wanted = fleet.wanted(family, standings, members)
        subject = f"request {as_of.isoformat()} {by}: {reason}"
        with database.transaction() as tx:
            held = holds.of(tx, family_name, now)
        requests = (policy.request(fleet.rule(family), one, kind, reason, by) for one in wanted)
        asked = [policy.while_held(one, held) for one in requests]
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
        told = registry.models_decided(tx, [one.model_id for one in asked], subject)
        fresh = [one for one in asked if one.model_id not in told]
        spent = tx.one("registry.spent", since=as_of - BUDGET_NIGHT, as_of=as_of).retrains
        decided = policy.within_budget(fresh, site.settings.retrains_per_night, spent)
        registry.decide_all(tx, decided, subject=subject, now=now)
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
    prepared: dict[datetime, tuple[ModelFamily, training.Rows, training.Plan]] = {}

    def train(decision_id: int, decision: Decision) -> int:
        done = trained[decision_id]
        if done is not None:
            return done.version_id
        model, cutoff = models[decision.model_id], decision.as_of
        if cutoff not in prepared:
            family = site.family(model.family)
            prepared[cutoff] = (family, *_training_rows(site, family, cutoff, holdout, now=now))
        family, rows, plan = prepared[cutoff]
        base = _base(site, family, model, now)
        pipeline, manifest = training.fit(family, model, rows, plan, base=base)
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

    What was compared for the same decision to retrain is not compared again. What cannot be
    compared is recorded and left out; where nothing can, the first error is raised.
    """
    database = connect(site.database_url)
    with database.transaction() as tx:
        challengers = [registry.version(tx, version_id) for version_id in version_ids]
    rows: dict[tuple[str, ...], training.Rows] = {}
    met: dict[str, Any] = {}

    def against_champion(version: Version) -> int:
        with database.transaction() as tx:
            done = comparison.registered(tx, version.decision_id)
        if done is not None:
            _track(site, version, done, now)
            return done
        family = site.family(version.model.family)
        span = (*version.manifest["holdout"], version.manifest["cutoff"])
        if span not in rows:
            start, end, cutoff = map(datetime.fromisoformat, span)
            rows[span] = training.labelled_rows(
                database, _store(site), family, [training.Span(start, end)], cutoff, now=now
            )
        with database.transaction() as tx:
            serving = registry.champion(tx, version.model.model_id, now)
            once = registry.worth(tx, version.model.model_id, family.performance.metric)
            earlier = registry.earlier_champions(tx, version.model.model_id, comparison.EARLIER)
        versions = _registry(site)
        taking_part = [one for one in (version, serving, *earlier) if one is not None]
        compared = comparison.compare(
            family,
            training.without_learnt(_store(site), family, rows[span], taking_part, met),
            versions.load(version),
            versions.load(serving) if serving else None,
            list(_loaded(versions, (one for one in earlier if one != serving))),
            worth=once.value if once else None,
        )
        with database.transaction() as tx:
            comparison_id = comparison.register(tx, compared, now=now)
        _track(site, version, comparison_id, now)
        return comparison_id

    return _each(
        (_audited(site, v.model.family, _cutoff(v), now), partial(against_champion, v))
        for v in challengers
    )


def conclude(site: Site, comparison_ids: Sequence[int], *, now: datetime) -> list[int]:
    """Promote the challengers of comparisons, reject them, try them longer, or ask a person.

    Returns the decisions' ids. What cannot be concluded is recorded and left out; where nothing
    can, the first error is raised.
    """
    database = connect(site.database_url)
    with database.transaction() as tx:
        compared = [(i, comparison.get(tx, i)) for i in comparison_ids]
        asked = {i: registry.decision(tx, c.decision_id) for i, c in compared}
        families = {i: registry.model_of(tx, asked[i].model_id).family for i, _ in compared}
    return _each(
        (
            _audited(site, families[i], asked[i].as_of, now),
            partial(_conclude, site, families[i], i, found, asked[i].as_of, now),
        )
        for i, found in compared
    )


def _conclude(
    site: Site,
    family_name: str,
    comparison_id: int,
    compared: Comparison,
    cutoff: datetime,
    now: datetime,
) -> int:
    family = site.family(family_name)
    with connect(site.database_url).transaction() as tx:
        challenger = registry.version(tx, compared.challenger_version)
        model_id = challenger.model.model_id
        subject = f"comparison {comparison_id}"
        done = registry.decided(tx, model_id, subject)
        if done is not None:
            return done
        verdict = policy.while_held(
            policy.judge(compared, family.promotion, cutoff, model_id),
            holds.of(tx, family_name, now),
        )
        decision_id = registry.decide(tx, verdict, subject=subject, now=now)
        if verdict.kind == "promote":
            _promote(site, tx, compared, decision_id, cutoff, now)
        elif verdict.kind == "shadow":
            trials.begin_shadow(tx, family, comparison_id, compared, verdict, decision_id, now=now)
        elif verdict.kind == "hold":
            trials.ask(tx, comparison_id, policy.evidence(compared, verdict), now=now)
        return decision_id


def _promote(
    site: Site,
    tx: Transaction,
    compared: Comparison,
    decision_id: int,
    cutoff: datetime,
    now: datetime,
) -> None:
    """Make a challenger the champion, if the champion is still the one it has beaten."""
    first = compared.champion_version is None
    version = registry.version(tx, compared.challenger_version)
    _supersede(tx, version, now)
    _registry(site).promote(
        tx,
        version,
        instead_of=compared.champion_version,
        decision_id=decision_id,
        # Later champions serve from now on, so that a night scored already is scored again by the
        # same version; before the first there was none to disagree with.
        effective_from=cutoff if first else now,
        now=now,
        reference=compared.reference,
    )


def promote(site: Site, version_id: int, *, reason: str, by: str, now: datetime) -> int:
    """Make a version the champion on somebody's word, without proof; the decision's id."""
    with connect(site.database_url).transaction() as tx:
        version = registry.version(tx, version_id)
        model_id = version.model.model_id
        serving = registry.champion(tx, model_id, now)
        said = Decision(model_id, "promote", "by_hand", reason, now, {"by": by})
        decision_id = registry.decide(tx, said, subject=f"promote {version_id}: {reason}", now=now)
        _supersede(tx, version, now)
        _registry(site).promote(
            tx,
            version,
            instead_of=serving.version_id if serving else None,
            decision_id=decision_id,
            effective_from=now,
            now=now,
        )
        return decision_id


def judge_trials(site: Site, family_name: str, as_of: datetime, *, now: datetime) -> list[int]:
    """End the shadows and probations that the labels known at ``as_of`` decide; the decisions' ids.

    A challenger in shadow is promoted (or a person is asked) as soon as it has proved itself, and
    rejected when its time is over. A champion on probation makes way for its predecessor as soon as
    that one has proved better; in a family that is held, as soon as it is released.
    """
    family = site.family(family_name)
    with _audited(site, family_name, as_of, now) as database:
        ended = trials.judge(database, _store(site), family, _registry(site).load, as_of, now=now)
        with database.transaction() as tx:
            held = holds.of(tx, family_name, now)
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
        return trials.decided(tx, family_name, as_of)


def _stays(
    tx: Transaction,
    one: trials.Shadow | trials.Probation,
    verdict: Decision,
    held: Hold,
    now: datetime,
) -> bool:
    """Whether a probation goes on although it has ended, since the family is held."""
    if not isinstance(one, trials.Probation):
        return False
    told = f"{verdict.reason}, but the family is {held}"
    tx.record("held", now=now, family=held.family, as_of=verdict.as_of, model=one.model,
              reason=told)  # fmt: skip
    return True


def _end_trial(
    site: Site, one: trials.Shadow | trials.Probation, verdict: Decision, now: datetime
) -> int:
    with connect(site.database_url).transaction() as tx:
        decision_id = registry.decide(tx, verdict, subject=one.subject, now=now)
        if isinstance(one, trials.Probation):
            _roll_back(
                site, tx, one.newer, one.older, decision_id,
                effective_from=now, reference=one.reference, now=now,
            )  # fmt: skip
        elif verdict.kind == "promote":
            compared = comparison.get(tx, one.comparison_id)
            _promote(site, tx, compared, decision_id, verdict.as_of, now)
        elif verdict.kind == "hold":
            compared = comparison.get(tx, one.comparison_id)
            trials.ask(tx, one.comparison_id, policy.evidence(compared, verdict), now=now)
        return decision_id


def rollback(
    site: Site,
    family_name: str,
    *,
    reason: str,
    by: str,
    as_of: datetime,
    now: datetime,
    model: str | None = None,
    to: int | None = None,
    rescore: bool = False,
) -> int:
    """Let an earlier champion serve again, without training; the decision's id.

    Parameters
    ----------
    by
        Who says so: a name.
    as_of
        When it was said. Saying the same of a model twice at the same moment is saying it once.
    model
        A member of a factory; by default the model that is named as the family.
    to
        The number of a version that was champion once; by default the champion before this one.
    rescore
        It serves from when the bad version began, not from ``now``: :func:`rescore` then scores
        those nights again.

    Raises
    ------
    RegistryError
        There is no such champion, it serves already, its artifact was collected, or another
        promotion came first.
    """
    with (
        _audited(site, family_name, as_of, now) as database,
        database.transaction() as tx,
    ):
        found = registry.known_model(tx, family_name, model or family_name)
        subject = f"rollback {as_of.isoformat()} {by}: {reason}"
        done = registry.decided(tx, found.model_id, subject)
        if done is not None:
            return done
        served = registry.promotions(tx, found.model_id)
        bad, good = registry.way_back(found, served, to, again=rescore)
        told = f"{by}: from version {bad.number} back to version {good.number}: {reason}"
        inputs = {
            "by": by, "older": good.version_id, "newer": bad.version_id,
            "since": bad.effective_from, "rescore": rescore,
        }  # fmt: skip
        said = Decision(found.model_id, "rollback", "by_hand", told, as_of, inputs)
        decision_id = registry.decide(tx, said, subject=subject, now=now)
        _roll_back(
            site, tx, served[-1].version_id, good.version_id, decision_id,
            effective_from=bad.effective_from if rescore else now, reference=good.reference,
            now=now,
        )  # fmt: skip
        return decision_id


def rescore(site: Site, decision_id: int, *, now: datetime) -> list[datetime]:
    """Score and publish the nights anew that a rollback takes from the bad version; which nights.

    Without ``rescore`` in the rollback there are none. The old batches stay; readers see the new
    ones night by night, oldest first. In a factory a night is scored anew for all its models.
    """
    database = connect(site.database_url)
    with database.transaction() as tx:
        said = registry.decision(tx, decision_id)
        if not said.inputs["rescore"]:
            return []
        nights = tx.rows(
            "scoring.scored_by",
            family=registry.model_of(tx, said.model_id).family,
            version_id=said.inputs["newer"],
            since=datetime.fromisoformat(said.inputs["since"]),
        )
    for night in nights:
        shown = publish(site, score(site, night.snapshot_id, now=now), now=now)
        watch(site, shown["batch_id"], now=now)
    return [night.as_of for night in nights]


def _roll_back(
    site: Site,
    tx: Transaction,
    instead_of: int,
    version_id: int,
    decision_id: int,
    *,
    effective_from: datetime,
    reference: dict[str, Any] | None,
    now: datetime,
) -> None:
    version = registry.version(tx, version_id)
    why = f"version {version.number} serves again"
    trials.supersede(tx, version.model.model_id, why, now=now)
    _registry(site).promote(
        tx,
        version,
        instead_of=instead_of,
        decision_id=decision_id,
        effective_from=effective_from,
        now=now,
        reference=reference,
    )


def _supersede(tx: Transaction, promoted: Version, now: datetime) -> None:
    why = f"version {promoted.number} was promoted"
    trials.supersede(tx, promoted.model.model_id, why, now=now)


def held(
    site: Site, decision_ids: Sequence[int], *, link: str | None = None
) -> list[dict[str, Any]]:
    """What people are asked about challengers, as long as nobody has answered.

    Parameters
    ----------
    decision_ids
        Those that :func:`conclude` or :func:`judge_trials` returned.
    link
        Where the run that asks can be looked at.

    Returns
    -------
    list of dict
        ``approval_id``, ``subject`` (one line) and ``body`` (the evidence, in Markdown).
    """
    with connect(site.database_url).transaction() as tx:
        return [
            {"approval_id": one.approval_id, "subject": one.subject, "body": one.body(link)}
            for one in trials.held(tx, decision_ids)
        ]


def questions(site: Site, decision_ids: Sequence[int]) -> list[int]:
    """The decisions to retrain whose challengers :func:`held` asks about: their runs can ask."""
    with connect(site.database_url).transaction() as tx:
        return [one.decision_id for one in trials.held(tx, decision_ids)]


def answer(
    site: Site,
    approval_id: int,
    said: trials.Answer,
    by: str,
    *,
    now: datetime,
    reason: str = "",
) -> int:
    """Promote what a person approves, if the champion is still the one it was compared with.

    Everything else rejects: a refusal, silence, and a champion that has been replaced since.
    Answering twice is answering once; the id of the one decision.
    """
    database = connect(site.database_url)
    with database.transaction() as tx:
        asked = trials.approval(tx, approval_id)
    answered = partial(trials.answer, versions=_registry(site), approval_id=approval_id, by=by)
    with _audited(site, asked.model.family, asked.as_of, now):
        try:
            with database.transaction() as tx:
                return answered(tx, said=said, now=now, reason=reason)
        except PromotionLost:
            why = f"{by} {said} it after another version was promoted"
            with database.transaction() as tx:
                return answered(tx, said="superseded", now=now, reason=why)


def hold(site: Site, family_name: str, *, reason: str, by: str, now: datetime) -> Hold:
    """Let no model of a family be retrained or replaced by itself until it is released.

    Nights are scored, labels collected and models measured as before. Holding a family that is held
    changes nothing; the hold that counts.
    """
    family = site.family(family_name)
    with _audited(site, family.family, now, now) as database, database.transaction() as tx:
        return holds.hold(tx, family.family, reason=reason, by=by, now=now)


def release(site: Site, family_name: str, *, reason: str, by: str, now: datetime) -> Hold | None:
    """Let a family's rules count again; the hold that ends, None where there was none."""
    with _audited(site, family_name, now, now) as database, database.transaction() as tx:
        return holds.release(tx, family_name, reason=reason, by=by, now=now)


def exclude(
    site: Site,
    family_name: str,
    entity_id: str,
    state: training.Exclusion,
    *,
    reason: str,
    by: str,
    now: datetime,
) -> int:
    """Say that nothing may learn from an entity, or that it may again; how many labels it has."""
    family = site.family(family_name)
    with _audited(site, family.family, now, now) as database:
        told = pseudonyms.names_of(database, family, site.keys, now=now).of(entity_id)
        with database.transaction() as tx:
            return training.exclude(tx, family.family, told, state, reason=reason, by=by, now=now)


def pseudonym(site: Site, family_name: str, entity_id: str) -> str:
    """What an entity is called in snapshots, labels and predictions of a family.

    Raises
    ------
    ConfigError
        The family tells its entities as the source names them.
    SetupError
        The key is not here.
    """
    family = site.family(family_name)
    with connect(site.database_url).transaction() as tx:
        names = pseudonyms.names_in(tx, family, site.keys)
    if names.key is None:
        raise ConfigError(
            f"{family_name} has told no entity by pseudonym: its predictions have the entity_id of"
            " features.sql. pseudonymise: hmac in model.yaml of a new family changes that"
        )
    return names.of(entity_id)


def rotate_keys(site: Site, *, by: str, now: datetime) -> Rotation:
    """Sign artifacts with a new key from now on; what was signed before still opens."""
    with connect(site.database_url).transaction() as tx:
        rotation = Keys(site.keys).rotate()
        tx.record("key_rotated", now=now, by=by, before=rotation.before, after=rotation.after)
    return rotation


def reproduce(site: Site, model_id: int, number: int | None = None) -> reproduction.Reproduction:
    """Train a version again from its manifest and hold it against what is stored.

    Parameters
    ----------
    number
        Of the version; the latest by default.

    Raises
    ------
    RegistryError
        There is no such version.
    """
    database = connect(site.database_url)
    with database.transaction() as tx:
        version = _numbered(tx, model_id, number)
        went_on = version.manifest.get("base")
        base = registry.version(tx, went_on["version_id"]) if went_on else None
    versions, family = _registry(site), site.family(version.model.family)
    before = versions.load(base) if base else None
    kept = _store(site).has(version.artifact_hash, "joblib")
    loaded = versions.load(version) if kept else None
    return reproduction.reproduce(database, _store(site), family, version, loaded, before)


def export_onnx(
    site: Site, model_id: int, file: Path, *, now: datetime, number: int | None = None
) -> onnx_export.Parity:
    """Write a version as ONNX, and compare it with the pipeline on its holdout."""
    database = connect(site.database_url)
    with database.transaction() as tx:
        version = _numbered(tx, model_id, number)
    family, loaded = site.family(version.model.family), _registry(site).load(version)
    start, end = map(datetime.fromisoformat, version.manifest["holdout"])
    later = [training.Span(start, end)]
    rows = training.labelled_rows(database, _store(site), family, later, _cutoff(version), now=now)
    return onnx_export.export(loaded, rows.of(family, version.model), file)


def _numbered(tx: Transaction, model_id: int, number: int | None) -> Version:
    found = tx.maybe("training.numbered", model_id=model_id, number=number)
    if found is None:
        model = registry.model_of(tx, model_id)
        which = "version" if number is None else f"version {number}"
        raise RegistryError(f"{model.family}: there is no {which} of {model.name}")
    return registry.version(tx, found.version_id)


def maintain(site: Site, *, now: datetime) -> dict[str, int]:
    """Nightly housekeeping: delete rows that no reader will ever see and artifacts that nothing
    needs, sweep up files that were left unfinished, reject what nobody approved, drop months of
    predictions that nobody keeps.

    Returns counts by name.
    """
    database = connect(site.database_url)
    families, problems = load_families(site.models)
    # The champion before the one that serves stays in any case: a probation may need it.
    keep = {one.family: max(one.promotion.keep_versions, 2) for one in families}
    return {
        "purged_rows": scoring.purge(database, before=now - UNSEEN_GRACE, now=now),
        "collected_artifacts": _registry(site).collect(
            database, keep, before=now - ARTIFACT_GRACE, now=now
        ),
        "swept_drafts": _store(site).sweep(before=now - DRAFT_GRACE),
        "timed_out_approvals": len(_time_out(site, database, now)),
        "retired_months": 0
        if problems  # nobody knows what a family needs that does not load
        else len(_retire(site, database, families, now)),
    }


def _retire(
    site: Site, database: Database, families: Sequence[ModelFamily], now: datetime
) -> list[str]:
    """Drop the months of predictions that neither keep_predictions nor any family needs."""
    keep = site.settings.keep_predictions
    if keep is None:
        return []
    longest = max([keep, labels.ARRIVALS, *(one.looks_back for one in families)])
    return scoring.retire(database, before=now - longest - RETIRE_GRACE, now=now)


def _time_out(site: Site, database: Database, now: datetime) -> list[int]:
    """The decisions on approvals that wait in no run, as where no Airflow asks for them."""
    with database.transaction() as tx:
        waiting = trials.pending(tx)
    known = {one.family: one for one in _loadable(site, {one.model.family for one in waiting})}
    return [
        answer(site, one.approval_id, "timed_out", trials.NOBODY, now=now)
        for one in waiting
        if one.model.family in known
        and one.asked_at + known[one.model.family].promotion.response_timeout + ANSWER_GRACE < now
    ]


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
) -> tuple[training.Rows, training.Plan]:
    """What a family can learn from at a cutoff, and the nights to learn from and compare on."""
    database = connect(site.database_url)
    with database.transaction() as tx:
        champions = registry.champions(tx, family.family, now).values()
    learnt = [training.learnt_until(champion.version) for champion in champions]
    plan = training.plan(family, cutoff, now=now, holdout=holdout, learnt=learnt)
    if family.source.history == "append_only":
        for span in (*plan.learn, plan.later):
            for night in missing_nights(site, family, span.start, span.end):
                prepare_night(site, family.family, night, now=now)
    source, since = _source(site, family), plan.learn[0].start
    names = pseudonyms.names_of(database, family, site.keys, now=now)
    labels.complete(database, source, family, cutoff, names=names, since=since, now=now)
    rows = training.labelled_rows(database, _store(site), family, plan.learn, cutoff, now=now)
    return rows, plan


def _base(site: Site, family: ModelFamily, model: Model, now: datetime) -> LoadedVersion | None:
    """The champion that an incremental training goes on from."""
    with connect(site.database_url).transaction() as tx:
        serving = registry.champion(tx, model.model_id, now)
        base = training.goes_on_from(tx, family, serving, now=now)
    return _registry(site).load(base) if base else None


def _loaded(versions: Registry, wanted: Iterable[Version]) -> Iterator[LoadedVersion]:
    """The versions that can be loaded: an earlier champion that cannot is no candidate."""
    for version in wanted:
        try:
            yield versions.load(version)
        except RegistryError:
            continue


def _loadable(site: Site, names: Iterable[str]) -> Iterator[ModelFamily]:
    """The families of these names whose folders load; the others' own runs tell what is wrong."""
    for name in names:
        try:
            yield site.family(name)
        except ConfigError:
            continue


def _track(site: Site, version: Version, comparison_id: int, now: datetime) -> None:
    """Tell MLflow of a version, where there is one; it is in the audit trail if that fails."""
    if not tracking.wanted():
        return
    with connect(site.database_url).transaction() as tx:
        problem = tracking.log(version, comparison.get(tx, comparison_id))
        if problem is not None:
            of, as_of = version.model.family, _cutoff(version)
            tx.record("tracking", now=now, family=of, as_of=as_of, reason=problem)


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
