"""The DAG ``retrain``: what is asked for is trained, compared, and concluded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

from nightshift import fleet, monitoring, night, policy, promotion, registry, training
from nightshift.artifacts import LoadedVersion
from nightshift.data import connect
from nightshift.errors import FOREIGN, NightshiftError, TrainingError, words_of
from nightshift.records import About, Comparison, Decision, Model, Version
from nightshift.site import Site
from nightshift.steps.frame import Frame, audited, cutoff_of, each, within_budget
from nightshift.steps.night import judge_again, prepare_nights
from nightshift.steps.refit import refitted

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
    rows, plan = _training_rows(frame, None)
    rows = rows.within(plan.learn)
    standings = fleet.standings(
        frame.database, frame.store, family, as_of, now=frame.now, rows=rows
    )
    candidates = fleet.retrainable(family, standings, members, rows)
    with frame.database.transaction() as tx:
        hold = registry.hold_on(tx, family.family, frame.now)
    requests = (
        policy.request(fleet.rule(family), standing, kind, reason, by) for standing in candidates
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
        version = trained[decision_id]
        if version is not None:
            return version.version_id
        model = models[decision_id]
        if frame.as_of not in prepared:
            prepared[frame.as_of] = _training_rows(frame, holdout)
        rows, plan = prepared[frame.as_of]
        base = _base(frame, model)
        choice = training.choose(frame.family, model, rows, frame.as_of, now=now)
        if choice.record is not None:
            plan = training.plan(choice.family, frame.as_of, now=now, holdout=holdout)
            rows = rows.within((*plan.learn, plan.later))
        artifact, manifest, code = training.fit(choice.family, model, rows, plan, base=base)
        if choice.record is not None:
            manifest["rivals"] = choice.record
        _since_break(frame, model, decision_id, orders[decision_id].falling_since, rows, plan)
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


def _since_break(
    frame: Frame,
    model: Model,
    decision_id: int,
    since: datetime | None,
    rows: training.Rows,
    plan: training.Plan,
) -> None:
    """Train a second challenger, on the nights since a break alone, where their rows suffice."""
    family, own = frame.family, rows.of(frame.family, model)
    young = training.young(family, own, plan, since)
    if young is None:
        return
    own = own.after(young.learn[0].start)
    try:
        artifact, manifest, code = training.fit(family, model, own, young)
    except TrainingError:  # the other challenger is trained all the same
        return
    with frame.database.transaction() as tx:
        frame.registry.save(
            tx,
            model,
            artifact,
            manifest,
            decision_id=decision_id,
            now=frame.now,
            code=code,
            made_as="since_break",
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
        stored_id = promotion.registered(tx, challenger.decision_id)
    if stored_id is not None:
        _track(frame, challenger, stored_id)
        return stored_id
    family, model_id = frame.family, challenger.model.model_id
    with frame.database.transaction() as tx:
        young = registry.version_of_decision(tx, challenger.decision_id, "since_break")
        below = registry.decision(tx, challenger.decision_id).inputs.below
        side = _Side(
            registry.champion(tx, model_id, frame.now),
            registry.earlier_champions(tx, model_id, promotion.EARLIER),
            registry.best_worth(tx, model_id, family.performance.metric),
            2 if young else 1,
        )
    trained = [version for version in (challenger, young) if version is not None]
    comparisons = [_compared(frame, version, side, bench) for version in trained]
    best = comparisons[policy.better(comparisons, family.promotion, below=below)]
    rest = [
        c for comparison in comparisons if comparison is not best for c in comparison.candidates
    ]
    candidates = {candidate.version_id: candidate for candidate in (*rest, *best.candidates)}
    with frame.database.transaction() as tx:
        compared = replace(best, candidates=tuple(candidates.values()))
        comparison_id = promotion.register(tx, compared, now=frame.now)
    _track(frame, challenger, comparison_id)
    return comparison_id


@dataclass(frozen=True)
class _Side:
    """Whom challengers of a model are compared with, and how many there are of them."""

    serving: Version | None
    earlier: Sequence[Version]
    best: float | None
    challengers: int


def _compared(frame: Frame, challenger: Version, side: _Side, bench: _Bench) -> Comparison:
    family, versions, serving = frame.family, frame.registry, side.serving
    rows = bench.holdout(frame, challenger)
    champion = promotion.opened(family, versions, serving) if serving else None
    earlier = [
        past
        for version in side.earlier
        if version != serving
        and isinstance(past := promotion.opened(family, versions, version), LoadedVersion)
    ]
    taking_part = [
        loaded.version
        for loaded in (versions.load(challenger), champion, *earlier)
        if isinstance(loaded, LoadedVersion)
    ]
    compared = promotion.compare(
        family,
        training.without_learnt(frame.store, family, rows, taking_part, bench.learnt),
        versions.load(challenger),
        champion,
        earlier,
        worth=side.best,
        candidates=side.challengers,
    )
    return replace(compared, holdout_rows=len(rows.of(family, challenger.model)))


def conclude(site: Site, comparison_ids: Sequence[int], *, now: datetime) -> list[int]:
    """Promote the challengers of comparisons, reject them, try them longer, or ask a person.

    Returns the decisions' ids. What cannot be concluded is recorded and left out; where nothing
    can, the first error is raised.
    """
    with connect(site.database_url).transaction() as tx:
        compared = {i: promotion.stored_comparison(tx, i) for i in comparison_ids}
        orders = {i: registry.decision(tx, c.decision_id) for i, c in compared.items()}
        families = {i: registry.model_of(tx, order.model_id).family for i, order in orders.items()}
    together = _Conclusions(compared, orders, families)
    return each(
        (
            audited(site, families[i], orders[i].as_of, now),
            partial(_conclude, comparison_id=i, together=together),
        )
        for i in comparison_ids
    )


_Together = tuple[str, datetime, bool, bool]
"""Who is judged together: family, night, whether their champions fail, whether they have none."""


@dataclass(frozen=True)
class _Conclusions:
    """The comparisons that are concluded together, and the decisions that asked for them."""

    compared: Mapping[int, Comparison]
    orders: Mapping[int, Decision]
    families: Mapping[int, str]
    rows: dict[tuple[training.Span, ...], training.Rows] = field(default_factory=dict)
    pools: dict[_Together, policy.Pool | None] = field(default_factory=dict)

    def pool(self, frame: Frame, comparison_id: int) -> policy.Pool | None:
        """The members of a factory that were trained with this one; None where there is no other.

        Those whose champion is surely below its threshold are judged apart from the others, and so
        are first versions, which are held against the constant guess.
        """
        if frame.family.models is None:
            return None
        key = self._key(comparison_id)
        if key not in self.pools:
            members = [
                comparison
                for i, comparison in self.compared.items()
                if self._key(i) == key and comparison.unscorable is None
            ]
            below = self.orders[comparison_id].inputs.below
            pooled = len(members) > 1
            rule = frame.family.promotion
            self.pools[key] = policy.together(members, rule, below=below) if pooled else None
        return self.pools[key]

    def _key(self, comparison_id: int) -> _Together:
        order, first = (
            self.orders[comparison_id],
            self.compared[comparison_id].champion_version is None,
        )
        return self.families[comparison_id], order.as_of, order.inputs.below, first


def _conclude(frame: Frame, *, comparison_id: int, together: _Conclusions) -> int:
    family, about = frame.family, About.comparison(comparison_id)
    order, compared = together.orders[comparison_id], together.compared[comparison_id]
    judged = policy.judge(
        compared,
        family.promotion,
        frame.as_of,
        order.model_id,
        below=order.inputs.below,
        pool=together.pool(frame, comparison_id),
        say_as=family.performance.say_as,
    )
    with frame.database.transaction() as tx:
        decision_id = registry.decision_about(tx, order.model_id, about)
        if decision_id is not None:
            return decision_id
        verdict = policy.while_held(judged, registry.hold_on(tx, family.family, frame.now))
        winner = registry.version(tx, compared.challenger_version)
    serving = None
    if verdict.kind == "promote" and winner.decision_id == compared.decision_id:
        serving = refitted(frame, winner, together.rows)
    proof = promotion.Proof(comparison_id, serving)
    with frame.database.transaction() as tx:
        return promotion.carry_out(tx, frame.registry, family, verdict, about, proof, frame.now)


def _training_rows(frame: Frame, holdout: timedelta | None) -> tuple[training.Rows, training.Plan]:
    """The matured rows of a family at a cutoff, and which nights to learn from and compare on."""
    family, database, cutoff, now = frame.family, frame.database, frame.as_of, frame.now
    with database.transaction() as tx:
        champions = registry.champions(tx, family.family, now).values()
    learnt = [training.learnt_until(champion.version) for champion in champions]
    plan = training.plan(family, cutoff, now=now, holdout=holdout, learnt=learnt)
    spans = (*training.spans(family, plan), plan.later)
    if family.source.history == "append_only":
        for span in spans:
            with database.transaction() as tx:
                missing = night.missing_nights(tx, frame.store, family, span.start, span.end)
            prepare_nights(frame.site, family.family, [(as_of, now) for as_of in missing])
    else:
        judge_again(frame, spans[0].start, plan.later.end)
    since = spans[0].start
    monitoring.complete(
        database, frame.source, family, cutoff, names=frame.names, since=since, now=now
    )
    rows = training.labelled_rows(database, frame.store, family, spans, cutoff, now=now)
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
        except FOREIGN as error:  # a fit runs the family's own code
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
