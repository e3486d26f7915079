"""A configuration lived through: night by night, with the rules that decide every morning.

What is decided here is decided by :mod:`nightshift.policy`, :mod:`nightshift.monitoring`,
:mod:`nightshift.promotion` and :mod:`nightshift.fleet`, from records as the steps give them; only
the versions come from the laboratory, and everything is kept in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from nightshift import fleet, monitoring, policy, promotion, simulation, stats, training
from nightshift.artifacts import Predictions
from nightshift.documents import Manifest, Worth
from nightshift.family import ModelFamily
from nightshift.records import (
    Comparison,
    Decision,
    Measurement,
    Model,
    Night,
    Standing,
    Version,
)
from nightshift.registry import Champion
from nightshift.steps.budget import BUDGET_NIGHT
from nightshift.training import Plan, Rows, Span
from nightshift.tuning.history import History, Places
from nightshift.tuning.laboratory import Fitted, Floats, Laboratory

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Scored:
    """A version as rules know it, with what it tells of rows."""

    version: Version
    fitted: Fitted

    def predict(self, table: pa.Table) -> Predictions:
        """What it tells of rows, by their ``place``."""
        score, label = self.fitted.of(table["place"].to_numpy())
        return Predictions(score, label, np.zeros(len(score), dtype=np.int16))

    @property
    def learnt_until(self) -> datetime:
        """The last moment that it has learnt from."""
        return training.learnt_until(self.version)


@dataclass
class Trial:
    """A challenger in shadow, or a champion on probation."""

    about: promotion.Shadow | promotion.Probation
    older: Scored
    newer: Scored
    compared: Comparison | None = None
    plan: Plan | None = None
    threshold: float | None = None


@dataclass
class Career:
    """What one model has been through."""

    model: Model
    served: list[tuple[datetime, Scored, Worth | None]] = field(default_factory=list)
    last_retrain: datetime | None = None
    since_promotion: datetime | None = None
    failures: int = 0
    shadow: Trial | None = None
    probations: list[Trial] = field(default_factory=list)
    recent: tuple[Measurement, ...] = ()

    def serving(self, as_of: datetime) -> Scored | None:
        """Who serves at a moment."""
        latest = [scored for since, scored, _ in self.served if since <= as_of]
        return latest[-1] if latest else None

    def champion(self, as_of: datetime) -> Champion | None:
        """The same, as rules know it."""
        latest = [place for place in self.served if place[0] <= as_of]
        if not latest:
            return None
        since, scored, worth = latest[-1]
        return Champion(scored.version, since, worth)

    def earlier(self) -> list[Scored]:
        """The last champions before the one that serves."""
        distinct = {s.version.version_id: s for _, s, _ in reversed(self.served)}
        return list(distinct.values())[1 : promotion.EARLIER + 1]


@dataclass(frozen=True)
class Lived:
    """What a configuration came to.

    ``score`` and ``label`` are what readers got for each row; NaN and None where nothing.
    ``breaches`` has the moments at which a model was measured below its threshold, ``fits`` and
    ``promotions`` those of each.
    """

    score: Floats
    label: NDArray[np.object_] | None
    fits: tuple[datetime, ...] = ()
    promotions: tuple[datetime, ...] = ()
    breaches: tuple[datetime, ...] = ()


_Compared = tuple[Career, Decision, Comparison, dict[int, tuple[Scored, Plan]]]
"""Whose challengers, by which decision, how the best one compared, and all of them by id."""


class Life:
    """One configuration of a family, lived through in a laboratory.

    Parameters
    ----------
    family
        The family as the configuration has it.
    budget
        How many retrains a night may bring.
    """

    def __init__(
        self, family: ModelFamily, laboratory: Laboratory, *, budget: int, refits: bool = True
    ) -> None:
        self.family = family
        self.laboratory = laboratory
        self.history: History = laboratory.history
        self.budget = budget
        self.refits = refits and family.promotion.refit
        self.careers = [Career(model) for model in laboratory.models]
        self.score: Floats = np.full(len(self.history), np.nan)
        labelled = family.task != "regression"
        self.label = np.full(len(self.history), None, dtype=object) if labelled else None
        self.scored_by: NDArray[np.int64] = np.zeros(len(self.history), dtype=np.int64)
        self.fits: list[datetime] = []
        self.promotions: list[datetime] = []
        self.breaches: list[datetime] = []
        self._asked: list[datetime] = []
        self._versions = 0
        self._nights: dict[tuple[int, str, int], Night] = {}

    def through(self, start: datetime, end: datetime) -> Lived:
        """Live through the nights in [start, end]."""
        self._first(start)
        for tick, kind in simulation.ticks(self.family, start, end):
            if kind == "score":
                self._score(tick)
            elif kind == "monitor":
                self._monitor(tick)
            else:
                self._calendar(tick)
        return Lived(
            self.score,
            self.label,
            tuple(self.fits),
            tuple(self.promotions),
            tuple(self.breaches),
        )

    # A night ----------------------------------------------------------------------------------

    def _score(self, as_of: datetime) -> None:
        places = self.history.between(as_of - timedelta(microseconds=1), as_of)
        if not len(places):
            return
        whole = next((c for c in self.careers if self.family.is_whole(c.model.name)), None)
        if whole is not None:
            self._tell(whole, places, as_of)
        if self.family.models is None:
            return
        members = pd.Series(places).groupby(self.history.member[places])
        careers = {career.model.name: career for career in self.careers}
        for name, own in members:
            if name in careers and careers[name] is not whole:
                self._tell(careers[name], own.to_numpy(), as_of)

    def _tell(self, career: Career, places: Places, as_of: datetime) -> None:
        serving = career.serving(as_of)
        if serving is None:
            return
        score, label = serving.fitted.of(places)
        self.score[places] = score
        self.scored_by[places] = serving.version.version_id
        if self.label is not None and label is not None:
            self.label[places] = label

    def _own_rows(self, career: Career, version: int, start: datetime, end: datetime) -> Places:
        """The rows of the nights in (start, end] that a version of a model has scored."""
        own = self.laboratory.places_of(career.model)
        places = self.history.between(start, end, own)
        own_rows: Places = places[self.scored_by[places] == version]
        return own_rows

    # A morning --------------------------------------------------------------------------------

    def _monitor(self, as_of: datetime) -> None:
        active = [career for career in self.careers if self._is_active(career, as_of)]
        for career in active:
            self._judge_trials(career, as_of)
        standings = self._standings(active, as_of, measure=True)
        decisions = policy.decide(fleet.rule(self.family), standings, self.family.models)
        self._retrain(as_of, decisions)

    def _calendar(self, as_of: datetime) -> None:
        active = [career for career in self.careers if self._is_active(career, as_of)]
        standings = self._standings(active, as_of, measure=False)
        rule = fleet.rule(self.family)
        asked = [
            policy.request(rule, standing, policy.CALENDAR, "schedule.retrain", "schedule")
            for standing in standings
            if standing.trainable >= self.laboratory.least
        ]
        self._retrain(as_of, asked)

    def _first(self, as_of: datetime) -> None:
        standings = self._standings(self.careers, as_of, measure=False)
        rule = fleet.rule(self.family)
        asked = [
            policy.request(rule, standing, policy.ON_DEMAND, "the first models", "tune")
            for standing in standings
            if standing.trainable >= self.laboratory.least
        ]
        self._retrain(as_of, asked, counted=False)

    def _is_active(self, career: Career, as_of: datetime) -> bool:
        places = self.laboratory.places_of(career.model)
        if places is None or self.family.models is None:
            return True
        since = as_of - self.family.models.retire_after
        return len(self.history.between(since, as_of, places)) > 0

    def _standings(
        self, careers: Sequence[Career], as_of: datetime, *, measure: bool
    ) -> list[Standing]:
        champions = {
            career.model.model_id: champion
            for career in careers
            if (champion := career.champion(as_of)) is not None
        }
        references = monitoring.references(self.family, champions)
        nights: dict[int, tuple[Night, ...]] = {}
        if measure:
            for career in careers:
                model_id = career.model.model_id
                if model_id in champions:
                    champion = champions[model_id]
                    measured = self._measure(career, champion, references.get(model_id), as_of)
                    nights[model_id] = self._judged(career, champion, as_of)
                    career.recent = (measured, *career.recent)[: self._kept()]
                    if measured.state == "breached":
                        self.breaches.append(as_of)
        rows = None
        if not measure or len(champions) < len(careers):
            plan = training.plan(self.family, as_of, now=as_of)
            learn = [self.history.between(span.start, span.end) for span in plan.learn]
            rows = self.history.rows(np.concatenate(learn), as_of)
        of = {career.model.model_id: career for career in careers}
        facts = fleet.Facts(
            champions=champions,
            references=references,
            recent={i: self._of_champion(career, champions.get(i)) for i, career in of.items()},
            nights=nights,
            signals={},
            retrains={i: c.last_retrain for i, c in of.items() if c.last_retrain is not None},
            failures={i: c.failures for i, c in of.items() if c.failures},
            shadows={i: c.shadow.newer.learnt_until for i, c in of.items() if c.shadow is not None},
            rows=rows,
        )
        return [fleet.standing(self.family, career.model, as_of, facts) for career in careers]

    def _kept(self) -> int:
        rule = self.family.retrain.when
        return (rule.of_last if rule else None) or 1

    def _of_champion(self, career: Career, champion: Champion | None) -> tuple[Measurement, ...]:
        """The latest measurements; those of the versions that served at each moment."""
        return career.recent if champion is not None else ()

    def _measure(
        self, career: Career, champion: Champion, reference: Any, as_of: datetime
    ) -> Measurement:
        end = as_of - self.family.labels.maturity
        version = champion.version.version_id
        places = self._own_rows(career, version, end - self.family.performance.window, end)
        nights = self._nights_of(career, champion, places, as_of)
        told = self._told(career, version, places, as_of)
        return monitoring.judged(
            self.family, career.model, champion, reference, as_of, told, nights
        )

    def _told(self, career: Career, version: int, places: Places, as_of: datetime) -> pd.DataFrame:
        label = None if self.label is None else self.label[places]
        return self.history.told(places, as_of, self.score[places], label)

    def _nights_of(
        self, career: Career, champion: Champion, places: Places, as_of: datetime
    ) -> tuple[Night, ...]:
        """The nights of some rows that a version has scored; those that are settled but once."""
        version = champion.version.version_id
        units = np.unique(self.history.unit[places])
        model = career.model.model_id
        key = [(model, f"{version}", int(unit)) for unit in units]
        missing = [unit for unit, one in zip(units, key, strict=True) if one not in self._nights]
        fresh: dict[int, Night] = {}
        if missing:
            chosen = places[np.isin(self.history.unit[places], missing)]
            told = self._told(career, version, chosen, as_of)
            judged = stats.by_night(self.family.performance.metric, self.family.task, told)
            fresh = dict(zip(map(int, missing), judged, strict=True))
            moment = np.datetime64(as_of.replace(tzinfo=None), "us")
            for unit, night in fresh.items():
                if self.history.settled[unit] <= moment:
                    self._nights[model, f"{version}", unit] = night
        return tuple(fresh.get(one[2]) or self._nights[one] for one in key)

    def _judged(self, career: Career, champion: Champion, as_of: datetime) -> tuple[Night, ...]:
        """The matured nights that a champion has served and has not learnt, oldest first."""
        end = as_of - self.family.labels.maturity
        reach = stats.HORIZON * self._spacing + self.family.performance.window
        since = max(end - reach, training.learnt_until(champion.version))
        places = self._own_rows(career, champion.version.version_id, since, end)
        least = self.family.labels.min_coverage
        nights = self._nights_of(career, champion, places, as_of)
        return tuple(night for night in nights if night.labels >= least * night.predictions)

    @property
    def _spacing(self) -> timedelta:
        nights = self.history.nights
        return max((nights[-1] - nights[0]) / max(len(nights) - 1, 1), DAY / 24)

    # A retrain --------------------------------------------------------------------------------

    def _retrain(
        self, as_of: datetime, decisions: Sequence[Decision], *, counted: bool = True
    ) -> None:
        """Train, compare and conclude; ``counted`` retrains are spent of the budget of a night."""
        spent = sum(moment > as_of - BUDGET_NIGHT for moment in self._asked)
        decided = policy.within_budget(decisions, self.budget, spent)
        wanted = [decision for decision in decided if decision.kind == "retrain"]
        self._asked += [as_of for _ in wanted if counted]
        careers = {career.model.model_id: career for career in self.careers}
        compared: list[_Compared] = []
        for order in wanted:
            career = careers[order.model_id]
            career.last_retrain = as_of
            career.since_promotion = career.since_promotion or as_of
            compared += self._compared(career, order, as_of)
        pools = self._pools(compared)
        for career, order, best, plans in compared:
            pool = pools.get((order.inputs.below, best.champion_version is None))
            verdict = policy.judge(
                best,
                self.family.promotion,
                as_of,
                order.model_id,
                below=order.inputs.below,
                pool=pool,
            )
            self._conclude(career, order, best, verdict, plans)

    def _pools(self, compared: Sequence[_Compared]) -> dict[tuple[bool, bool], policy.Pool]:
        """What the challengers of a factory come to together.

        By whether their champions were below their thresholds, and whether they had none.
        """
        kinds: dict[tuple[bool, bool], list[Comparison]] = {}
        for _, order, best, _ in compared if self.family.models is not None else ():
            if best.unscorable is None:
                key = order.inputs.below, best.champion_version is None
                kinds.setdefault(key, []).append(best)
        return {
            (below, first): policy.together(members, self.family.promotion, below=below)
            for (below, first), members in kinds.items()
            if len(members) > 1
        }

    def _compared(self, career: Career, order: Decision, as_of: datetime) -> Iterator[_Compared]:
        """The best of the challengers that a decision brings, compared; nothing on too few rows."""
        family = self.family
        plan = training.plan(family, as_of, now=as_of)
        trained = [self._trained(career, plan, as_of)]
        if order.falling_since is not None and trained[0] is not None:
            rows = self._rows(career, [*plan.learn, plan.later], as_of)
            young = training.young(family, rows, plan, order.falling_since)
            trained.append(self._trained(career, young, as_of, exactly=True) if young else None)
        challengers = {s.version.version_id: (s, p) for s, p in filter(None, trained)}
        if not challengers:
            return
        self.fits += [as_of] * len(challengers)
        serving, earlier = career.serving(as_of), career.earlier()
        comparisons = []
        for scored, learnt in challengers.values():
            holdout = self._rows(career, [learnt.later], as_of)
            compared = promotion.compare(
                family,
                holdout,
                scored,
                serving,
                [one for one in earlier if one is not serving],
                worth=self._best_worth(career),
                candidates=len(challengers),
            )
            comparisons.append(replace(compared, holdout_rows=len(holdout)))
        best = policy.better(comparisons, family.promotion, below=order.inputs.below)
        yield career, order, comparisons[best], challengers

    def _trained(
        self, career: Career, plan: Plan, as_of: datetime, *, exactly: bool = False
    ) -> tuple[Scored, Plan] | None:
        rule = self.family.retrain.training
        fitted = (
            self.laboratory.exactly(career.model, plan)
            if exactly
            else self.laboratory.version(career.model, rule, plan.border)
        )
        return None if fitted is None else (self._scored(career, fitted, plan), plan)

    def _scored(self, career: Career, fitted: Fitted, plan: Plan) -> Scored:
        self._versions += 1
        manifest = {
            "family": self.family.family,
            "features": self.family.features.model_dump(),
            "task": self.family.task,
            "guess": asdict(fitted.guess),
            "cutoff": plan.cutoff.isoformat(),
            "training": [plan.learn[0].start.isoformat(), plan.learn[-1].end.isoformat()],
            "spans": [[span.start.isoformat(), span.end.isoformat()] for span in plan.learn],
            "holdout": [plan.later.start.isoformat(), plan.later.end.isoformat()],
        }
        number = self._versions
        version = Version(
            number, career.model, number, fitted.key, b"", Manifest(manifest), 0, plan.cutoff
        )
        return Scored(version, fitted)

    def _rows(self, career: Career, spans: Sequence[Span], known_by: datetime) -> Rows:
        own = self.laboratory.places_of(career.model)
        places = [self.history.between(span.start, span.end, own) for span in spans]
        return self.history.rows(np.concatenate(places), known_by)

    def _best_worth(self, career: Career) -> float | None:
        metric = self.family.performance.metric
        told = [worth.of(metric) for _, _, worth in career.served if worth is not None]
        return max((one.value for one in told if one is not None), default=None)

    def _conclude(
        self,
        career: Career,
        order: Decision,
        best: Comparison,
        verdict: Decision,
        challengers: dict[int, tuple[Scored, Plan]],
    ) -> None:
        as_of, winner = verdict.as_of, challengers.get(best.challenger_version)
        latest = order.inputs.latest
        threshold = latest.threshold if latest is not None and order.inputs.below else None
        if verdict.kind == "promote":
            worth = best.reference.capped(threshold) if best.reference else None
            serves = self._refitted(career, winner, as_of) if winner else None
            serves = serves or self._known(career, best.challenger_version)
            self._promote(career, serves, worth, as_of)
        elif verdict.kind == "shadow" and winner is not None:
            self._begin_shadow(career, best, verdict, winner, threshold, order)
        elif verdict.kind == "reject":
            fallback, _ = next(iter(challengers.values()))
            self._failed(career, order, winner[0] if winner else fallback)

    def _known(self, career: Career, version_id: int) -> Scored:
        return next(s for _, s, _ in career.served if s.version.version_id == version_id)

    def _failed(self, career: Career, order: Decision, challenger: Scored) -> None:
        since = order.falling_since or career.since_promotion
        career.failures += policy.counts_as_failure(since, challenger.learnt_until)

    def _refitted(self, career: Career, won: tuple[Scored, Plan], as_of: datetime) -> Scored:
        """The challenger that has won, fitted once more on all matured nights."""
        scored, plan = won
        if not self.refits:
            return scored
        end = max(as_of - self.family.labels.maturity, plan.border)
        whole = training.with_holdout(replace(plan, cutoff=as_of, later=Span(plan.border, end)))
        young = plan.learn[-1].start > as_of - self.family.retrain.training.window
        exactly = young and self.family.retrain.training.policy == "window"
        again = self._trained(career, whole, as_of, exactly=exactly and len(plan.learn) == 1)
        self.fits.append(as_of)
        return scored if again is None else again[0]

    def _promote(
        self, career: Career, scored: Scored, worth: Worth | None, as_of: datetime
    ) -> None:
        now = as_of + simulation.RUN_TIME
        before = career.served[-1] if career.served else None
        career.served.append((now if before else as_of, scored, worth))
        career.failures, career.since_promotion = 0, None
        self.promotions.append(as_of)
        career.shadow = None if career.shadow and career.shadow.newer is scored else career.shadow
        lasts = self.family.promotion.probation
        if before is None or lasts is None:
            return
        _, older, reference = before
        about = promotion.Probation(
            model_id=career.model.model_id,
            model=career.model.name,
            seq=len(career.served),
            older=older.version.version_id,
            older_number=older.version.number,
            newer=scored.version.version_id,
            number=scored.version.number,
            starts=now,
            ends=now + lasts,
            reference=reference,
        )
        career.probations = [Trial(about, older, scored)]

    # Trials -----------------------------------------------------------------------------------

    def _begin_shadow(
        self,
        career: Career,
        best: Comparison,
        verdict: Decision,
        winner: tuple[Scored, Plan],
        threshold: float | None,
        order: Decision,
    ) -> None:
        rule, now = self.family.promotion, verdict.as_of + simulation.RUN_TIME
        proof = policy.is_proof(best, rule)
        lasts = (rule.shadow if proof else rule.unproven) or rule.shadow
        serving = career.serving(verdict.as_of)
        assert lasts is not None
        assert serving is not None
        if career.shadow is not None:
            self._failed(career, order, career.shadow.newer)
        about = promotion.Shadow(
            shadow_id=winner[0].version.version_id,
            model_id=career.model.model_id,
            model=career.model.name,
            older=serving.version.version_id,
            newer=winner[0].version.version_id,
            number=winner[0].version.number,
            comparison_id=0,
            starts=now,
            ends=now + lasts,
            champion=serving.version.version_id,
            carried=() if proof else tuple(night.gain for night in best.gains),
            below=order.inputs.below,
            short=policy.short_of_perfect(best.perfect, best.champion_value),
        )
        career.shadow = Trial(about, serving, winner[0], best, winner[1], threshold)

    def _judge_trials(self, career: Career, as_of: datetime) -> None:
        shadow = career.shadow
        if shadow is not None:
            serving = career.serving(as_of)
            assert serving is not None
            assert isinstance(shadow.about, promotion.Shadow)
            about = replace(shadow.about, champion=serving.version.version_id)
            verdict = self._look(career, replace(shadow, about=about), as_of)
            if verdict is not None:
                career.shadow = None
            if verdict is not None and verdict.kind == "promote":
                self._shadow_won(career, shadow, as_of)
            elif verdict is not None and verdict.kind == "reject":
                career.failures += policy.counts_as_failure(
                    career.since_promotion, shadow.newer.learnt_until
                )
        for probation in list(career.probations):
            ends = probation.about.ends
            over = ends + self.family.labels.maturity + DAY < as_of
            if over or career.serving(as_of) is not probation.newer:
                career.probations.remove(probation)
                continue
            verdict = self._look(career, probation, as_of)
            if verdict is not None:
                career.probations.remove(probation)
                assert isinstance(probation.about, promotion.Probation)
                since = as_of + simulation.RUN_TIME
                worth = probation.about.reference
                career.served.append((since, probation.older, worth))
                self.promotions.append(as_of)

    def _shadow_won(self, career: Career, shadow: Trial, as_of: datetime) -> None:
        assert shadow.plan is not None
        assert shadow.compared is not None
        reference = shadow.compared.reference
        worth = reference.capped(shadow.threshold) if reference else None
        serves = self._refitted(career, (shadow.newer, shadow.plan), as_of)
        self._promote(career, serves, worth, as_of)

    def _look(self, career: Career, trial: Trial, as_of: datetime) -> Decision | None:
        about = trial.about
        end = min(as_of - self.family.labels.maturity, about.ends)
        own = self.laboratory.places_of(career.model)
        places = self.history.between(about.starts, max(end, about.starts), own)
        served = trial.older if isinstance(about, promotion.Shadow) else trial.newer
        places = places[self.scored_by[places] == served.version.version_id]
        frame = pd.DataFrame({"place": places, "unit": self.history.unit[places]})
        known = pd.notna(self.history.truths(places, as_of))
        share = pd.Series(known).groupby(frame["unit"].to_numpy()).transform("mean").to_numpy()
        chosen = places[known & (share >= self.family.labels.min_coverage)]
        if isinstance(about, promotion.Probation) and not len(chosen):
            return None
        sides = [
            self.history.told(chosen, as_of, *side.fitted.of(chosen))
            for side in (trial.older, trial.newer)
        ]
        return promotion.looked_at(self.family, about, sides[0], sides[1], as_of)[1]
