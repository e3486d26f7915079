"""The DAG ``retrain``: what is asked for is trained, compared, and concluded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

from nightshift import fleet, monitoring, night, policy, promotion, registry, training
from nightshift.data import connect
from nightshift.errors import NightshiftError, RegistryError, words_of
from nightshift.records import About, Model, Version
from nightshift.registry import LoadedVersion, Registry
from nightshift.site import Site
from nightshift.steps.budget import within_budget
from nightshift.steps.frame import Frame, audited, cutoff_of, each
from nightshift.steps.night import judge_again, prepare_night

Holdout = tuple[datetime, datetime, datetime]
"""The nights after a start up to an end, with the labels known by a cutoff."""


def request_retrain(
    site: Site,
    family_name: str,
    as_of: datetime,
    *,
    reason: str,
    by: str,
    now: datetime,
    members: Sequence[str] | None = None,
) -> list[int]:
    """Record that somebody asks for retrains; the ids of the decisions to retrain.

    Nights whose snapshot is missing are frozen first, where the source keeps its history, so that
    the members of a factory are known.

    Parameters
    ----------
    by
        Who asks: a name. Asking twice for the same reason at the same moment is asking once.
    members
        Which models; by default every model with enough labels, the fallback included.
    """
    with audited(site, family_name, as_of, now) as frame:
        return _request(frame, "on_demand", reason, by, members)


def calendar_retrain(
    site: Site, family_name: str, as_of: datetime, *, reason: str, by: str, now: datetime
) -> list[int]:
    """:func:`request_retrain` of every model, asked for by the scheduled run whose id is ``by``.

    A calendar minds the cooldown, the labels learnt from already, and the budget.
    """
    with audited(site, family_name, as_of, now) as frame:
        return _request(frame, "calendar", reason, by, None)


def _request(
    frame: Frame,
    kind: Literal["on_demand", "calendar"],
    reason: str,
    by: str,
    members: Sequence[str] | None,
) -> list[int]:
    family, as_of = frame.family, frame.as_of
    rows, _ = _training_rows(frame, None)
    standings = fleet.standings(
        frame.database, frame.store, family, as_of, now=frame.now, rows=rows
    )
    wanted = fleet.wanted(family, standings, members, rows)
    with frame.database.transaction() as tx:
        hold = registry.hold_on(tx, family.family, frame.now)
    requests = (
        policy.request(fleet.rule(family), standing, kind, reason, by) for standing in wanted
    )
    decisions = [policy.while_held(request, hold) for request in requests]
    return within_budget(frame, About.request(as_of, by, reason), decisions)


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
    with connect(site.database_url).transaction() as tx:
        orders = {i: registry.decision(tx, i) for i in decision_ids}
        models = {i: registry.model_of(tx, order.model_id) for i, order in orders.items()}
        trained = {i: registry.version_of_decision(tx, i) for i in decision_ids}
    prepared: dict[datetime, tuple[training.Rows, training.Plan]] = {}

    def train(frame: Frame, decision_id: int) -> int:
        done = trained[decision_id]
        if done is not None:
            return done.version_id
        model = models[decision_id]
        if frame.as_of not in prepared:
            prepared[frame.as_of] = _training_rows(frame, holdout)
        rows, plan = prepared[frame.as_of]
        base = _base(frame, model)
        artifact, manifest, code = training.fit(frame.family, model, rows, plan, base=base)
        with frame.database.transaction() as tx:
            return frame.registry.save(
                tx, model, artifact, manifest, decision_id=decision_id, now=now, code=code
            )

    return each(
        (
            audited(site, models[i].family, orders[i].as_of, now),
            _ended("training", i, partial(train, decision_id=i)),
        )
        for i in decision_ids
    )


def compare(site: Site, version_ids: Sequence[int], *, now: datetime) -> list[int]:
    """Compare challengers of one family with their present champions; the comparisons' ids.

    What was compared for the same decision to retrain is not compared again. What cannot be
    compared is recorded and left out; where nothing can, the first error is raised.
    """
    with connect(site.database_url).transaction() as tx:
        challengers = [registry.version(tx, version_id) for version_id in version_ids]
    bench = _Bench()
    return each(
        (
            audited(site, challenger.model.family, cutoff_of(challenger), now),
            _ended(
                "comparison",
                challenger.decision_id,
                partial(_compare, challenger=challenger, bench=bench),
            ),
        )
        for challenger in challengers
    )


@dataclass(frozen=True)
class _Bench:
    """What comparisons of one family share: the rows of a holdout, and who has learnt which."""

    rows: dict[Holdout, training.Rows] = field(default_factory=dict)
    learnt: dict[str, Any] = field(default_factory=dict)

    def holdout(self, frame: Frame, challenger: Version) -> training.Rows:
        """The labelled rows on which a challenger is compared."""
        start, end = challenger.manifest.holdout
        key = (start, end, cutoff_of(challenger))
        if key not in self.rows:
            self.rows[key] = training.labelled_rows(
                frame.database,
                frame.store,
                frame.family,
                [training.Span(start, end)],
                key[-1],
                now=frame.now,
            )
        return self.rows[key]


def _compare(frame: Frame, *, challenger: Version, bench: _Bench) -> int:
    """Compare one challenger with its champion, and with those before it; the comparison's id."""
    with frame.database.transaction() as tx:
        done = promotion.registered(tx, challenger.decision_id)
    if done is not None:
        _track(frame, challenger, done)
        return done
    family, model_id = frame.family, challenger.model.model_id
    rows = bench.holdout(frame, challenger)
    with frame.database.transaction() as tx:
        serving = registry.champion(tx, model_id, frame.now)
        best = registry.worth(tx, model_id, family.performance.metric)
        earlier = registry.earlier_champions(tx, model_id, promotion.EARLIER)
    versions = frame.registry
    taking_part = [version for version in (challenger, serving, *earlier) if version is not None]
    compared = promotion.compare(
        family,
        training.without_learnt(frame.store, family, rows, taking_part, bench.learnt),
        versions.load(challenger),
        _openable(versions, serving),
        list(_loaded(versions, (version for version in earlier if version != serving))),
        worth=best.value if best else None,
    )
    with frame.database.transaction() as tx:
        comparison_id = promotion.register(tx, compared, now=frame.now)
    _track(frame, challenger, comparison_id)
    return comparison_id


def conclude(site: Site, comparison_ids: Sequence[int], *, now: datetime) -> list[int]:
    """Promote the challengers of comparisons, reject them, try them longer, or ask a person.

    Returns the decisions' ids. What cannot be concluded is recorded and left out; where nothing
    can, the first error is raised.
    """
    with connect(site.database_url).transaction() as tx:
        compared = {i: promotion.stored_comparison(tx, i) for i in comparison_ids}
        orders = {i: registry.decision(tx, c.decision_id) for i, c in compared.items()}
        families = {i: registry.model_of(tx, order.model_id).family for i, order in orders.items()}
    return each(
        (
            audited(site, families[i], orders[i].as_of, now),
            partial(_conclude, comparison_id=i, model_id=orders[i].model_id),
        )
        for i in comparison_ids
    )


def _conclude(frame: Frame, *, comparison_id: int, model_id: int) -> int:
    family, about = frame.family, About.comparison(comparison_id)
    with frame.database.transaction() as tx:
        done = registry.decided(tx, model_id, about)
        if done is not None:
            return done
        compared = promotion.stored_comparison(tx, comparison_id)
        verdict = policy.while_held(
            policy.judge(compared, family.promotion, frame.as_of, model_id),
            registry.hold_on(tx, family.family, frame.now),
        )
        return promotion.carry_out(
            tx, frame.registry, family, verdict, about, comparison_id, frame.now
        )


def _training_rows(frame: Frame, holdout: timedelta | None) -> tuple[training.Rows, training.Plan]:
    """What a family can learn from at a cutoff, and the nights to learn from and compare on."""
    family, database, cutoff, now = frame.family, frame.database, frame.as_of, frame.now
    with database.transaction() as tx:
        champions = registry.champions(tx, family.family, now).values()
    learnt = [training.learnt_until(champion.version) for champion in champions]
    plan = training.plan(family, cutoff, now=now, holdout=holdout, learnt=learnt)
    if family.source.history == "append_only":
        for span in (*plan.learn, plan.later):
            with database.transaction() as tx:
                missing = night.missing_nights(tx, frame.store, family, span.start, span.end)
            for as_of in missing:
                prepare_night(frame.site, family.family, as_of, now=now)
    else:
        judge_again(frame, plan.learn[0].start, plan.later.end)
    since = plan.learn[0].start
    monitoring.complete(
        database, frame.source, family, cutoff, names=frame.names, since=since, now=now
    )
    rows = training.labelled_rows(database, frame.store, family, plan.learn, cutoff, now=now)
    return rows, plan


def _ended(
    rule: registry.FailedAt, decision_id: int, work: Callable[[Frame], int]
) -> Callable[[Frame], int]:
    """Work that ends a decision to retrain as failed, whatever it dies of.

    What is transient is tried again, so it ends nothing.
    """

    def to_its_end(frame: Frame) -> int:
        try:
            return work(frame)
        except Exception as error:  # a fit runs the family's own code
            if isinstance(error, NightshiftError) and error.transient:
                raise
            ours = isinstance(error, NightshiftError)
            reason = str(error) if ours else words_of(error, discreet=frame.family.discreet)
            with frame.database.transaction() as tx:
                registry.end_as_failed(tx, decision_id, rule, reason, now=frame.now)
            raise

    return to_its_end


def _base(frame: Frame, model: Model) -> LoadedVersion | None:
    """The champion that an incremental training goes on from."""
    with frame.database.transaction() as tx:
        serving = registry.champion(tx, model.model_id, frame.now)
        base = training.goes_on_from(tx, frame.family, serving, now=frame.now)
    return frame.registry.load(base) if base else None


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


def _track(frame: Frame, version: Version, comparison_id: int) -> None:
    """Tell MLflow of a version, where there is one; it is in the audit trail if that fails."""
    if not promotion.wanted():
        return
    with frame.database.transaction() as tx:
        problem = promotion.log(version, promotion.stored_comparison(tx, comparison_id))
        if problem is not None:
            tx.record(
                "tracking",
                now=frame.now,
                family=frame.family_name,
                as_of=frame.as_of,
                reason=problem,
            )
