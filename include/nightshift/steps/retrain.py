"""The DAG ``retrain``: what is asked for is trained, compared, and concluded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

from nightshift import fleet, monitoring, policy, promotion, registry, sources, training
from nightshift.data import Database, Transaction, connect
from nightshift.errors import NightshiftError, RegistryError
from nightshift.family import ModelFamily
from nightshift.records import Comparison, Decision, Model, Version
from nightshift.registry import LoadedVersion, Registry
from nightshift.site import Site
from nightshift.steps.budget import _within_budget
from nightshift.steps.frame import _audited, _cutoff, _each, _registry, _source, _store
from nightshift.steps.night import judge_again, missing_nights, prepare_night


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
        wanted = fleet.wanted(family, standings, members, rows)
        subject = f"request {as_of.isoformat()} {by}: {reason}"
        with database.transaction() as tx:
            held = registry.of(tx, family_name, now)
        requests = (policy.request(fleet.rule(family), one, kind, reason, by) for one in wanted)
        asked = [policy.while_held(one, held) for one in requests]
        return _within_budget(site, database, family_name, as_of, subject, asked, now)


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
        artifact, manifest, code = training.fit(family, model, rows, plan, base=base)
        with database.transaction() as tx:
            return _registry(site).save(
                tx, model, artifact, manifest, decision_id=decision_id, now=now, code=code
            )

    return _each(
        (
            _ended(site, models[decision.model_id].family, decision_id, "training", now),
            partial(train, decision_id, decision),
        )
        for decision_id, decision in wanted
    )


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
            done = promotion.registered(tx, version.decision_id)
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
            earlier = registry.earlier_champions(tx, version.model.model_id, promotion.EARLIER)
        versions = _registry(site)
        taking_part = [one for one in (version, serving, *earlier) if one is not None]
        compared = promotion.compare(
            family,
            training.without_learnt(_store(site), family, rows[span], taking_part, met),
            versions.load(version),
            _openable(versions, serving),
            list(_loaded(versions, (one for one in earlier if one != serving))),
            worth=once.value if once else None,
        )
        with database.transaction() as tx:
            comparison_id = promotion.register(tx, compared, now=now)
        _track(site, version, comparison_id, now)
        return comparison_id

    return _each(
        (
            _ended(site, v.model.family, v.decision_id, "comparison", now),
            partial(against_champion, v),
        )
        for v in challengers
    )


def conclude(site: Site, comparison_ids: Sequence[int], *, now: datetime) -> list[int]:
    """Promote the challengers of comparisons, reject them, try them longer, or ask a person.

    Returns the decisions' ids. What cannot be concluded is recorded and left out; where nothing
    can, the first error is raised.
    """
    database = connect(site.database_url)
    with database.transaction() as tx:
        compared = [(i, promotion.get(tx, i)) for i in comparison_ids]
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
            registry.of(tx, family_name, now),
        )
        decision_id = registry.decide(tx, verdict, subject=subject, now=now)
        if verdict.kind == "promote":
            _promote(site, tx, compared, decision_id, cutoff, now)
        elif verdict.kind == "shadow":
            promotion.begin_shadow(
                tx, family, comparison_id, compared, verdict, decision_id, now=now
            )
        elif verdict.kind == "hold":
            promotion.ask(tx, comparison_id, policy.evidence(compared, verdict), now=now)
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
    promotion.supersede(tx, version.model.model_id, why, now=now)
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
    promotion.supersede(tx, promoted.model.model_id, why, now=now)


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
    else:
        judge_again(site, family, plan.learn[0].start, plan.later.end, now=now)
    source, since = _source(site, family), plan.learn[0].start
    names = sources.names_of(database, family, site.keys, now=now)
    monitoring.complete(database, source, family, cutoff, names=names, since=since, now=now)
    rows = training.labelled_rows(database, _store(site), family, plan.learn, cutoff, now=now)
    return rows, plan


@contextmanager
def _ended(
    site: Site,
    family: str,
    decision_id: int,
    rule: Literal["training", "comparison"],
    now: datetime,
) -> Iterator[Database]:
    """An audited step that ends a decision to retrain as failed, whatever it dies of.

    What is transient is tried again, so it ends nothing.
    """
    database = connect(site.database_url)
    with database.transaction() as tx:
        as_of = registry.decision(tx, decision_id).as_of
    with _audited(site, family, as_of, now):
        try:
            yield database
        except Exception as error:  # a fit runs the family's own code
            if isinstance(error, NightshiftError) and error.transient:
                raise
            reason = str(error) if isinstance(error, NightshiftError) else repr(error)
            with database.transaction() as tx:
                registry.end_as_failed(tx, decision_id, rule, reason, now=now)
            raise


def _base(site: Site, family: ModelFamily, model: Model, now: datetime) -> LoadedVersion | None:
    """The champion that an incremental training goes on from."""
    with connect(site.database_url).transaction() as tx:
        serving = registry.champion(tx, model.model_id, now)
        base = training.goes_on_from(tx, family, serving, now=now)
    return _registry(site).load(base) if base else None


def _openable(
    versions: Registry, serving: Version | None
) -> LoadedVersion | promotion.Unopened | None:
    """The champion, or why it cannot be opened."""
    if serving is None:
        return None
    try:
        return versions.load(serving)
    except RegistryError as error:
        return promotion.Unopened(serving, str(error))


def _loaded(versions: Registry, wanted: Iterable[Version]) -> Iterator[LoadedVersion]:
    """The versions that can be loaded: an earlier champion that cannot is no candidate."""
    for version in wanted:
        try:
            yield versions.load(version)
        except RegistryError:
            continue


def _track(site: Site, version: Version, comparison_id: int, now: datetime) -> None:
    """Tell MLflow of a version, where there is one; it is in the audit trail if that fails."""
    if not promotion.wanted():
        return
    with connect(site.database_url).transaction() as tx:
        problem = promotion.log(version, promotion.get(tx, comparison_id))
        if problem is not None:
            of, as_of = version.model.family, _cutoff(version)
            tx.record("tracking", now=now, family=of, as_of=as_of, reason=problem)
