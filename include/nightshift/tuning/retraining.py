"""From a decision to retrain to what becomes of the challenger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import datetime

import pandas as pd

from nightshift import policy, promotion, simulation, stats, training
from nightshift.documents import Manifest, Worth
from nightshift.family import ModelFamily, Training
from nightshift.records import (
    Comparison,
    Decision,
    Version,
)
from nightshift.steps.frame import BUDGET_NIGHT
from nightshift.training import Plan, Rows, Span
from nightshift.tuning.careers import Career, Scored, Trial
from nightshift.tuning.laboratory import Fitted
from nightshift.tuning.readings import Readings

_Compared = tuple[Career, Decision, Comparison, dict[int, tuple[Scored, Plan]]]
"""Whose challengers, by which decision, how the best one compared, and all of them by id."""


class Retraining(Readings):
    """Challengers are taken from the laboratory, compared, and concluded."""

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
        family = self._learning_by(career, as_of)
        rule = family.retrain.training
        plan = training.plan(family, as_of, now=as_of)
        trained = [self._trained(career, plan, as_of, rule)]
        if order.falling_since is not None and trained[0] is not None:
            rows = self._rows(career, [*plan.learn, plan.later], as_of)
            young = training.young(family, rows, plan, order.falling_since)
            trained.append(self._trained(career, young, as_of) if young else None)
        challengers = {s.version.version_id: (s, p) for s, p in filter(None, trained)}
        if not challengers:
            return
        self.fits += [as_of] * len(challengers)
        serving = career.serving(as_of)
        earlier = career.earlier()[: promotion.EARLIER]
        comparisons = []
        for scored, learnt in challengers.values():
            holdout = self._rows(career, [learnt.later], as_of)
            compared = promotion.compare(
                family,
                holdout,
                scored,
                serving,
                earlier,
                worth=self._best_worth(career),
                candidates=len(challengers),
            )
            comparisons.append(replace(compared, holdout_rows=len(holdout)))
        best = policy.better(comparisons, family.promotion, below=order.inputs.below)
        yield career, order, comparisons[best], challengers

    def _learning_by(self, career: Career, as_of: datetime) -> ModelFamily:
        """The family with the policy that a model learns by, where several compete."""
        rivals = [self.family.learning_by(rule) for rule in self.family.trainings]
        if len(rivals) == 1:
            return self.family
        earlier = as_of - self.family.promotion.holdout
        plans = [training.plan(rival, earlier, now=as_of) for rival in rivals]
        judged_on = self._rows(career, [plans[0].later], as_of)
        scored = [
            self._outcomes(career, rival.retrain.training, plan.border, judged_on)
            for rival, plan in zip(rivals, plans, strict=True)
        ]
        return rivals[policy.select(training.rival_gains(self.family, scored, judged_on))]

    def _outcomes(
        self, career: Career, rule: Training, border: datetime, rows: Rows
    ) -> stats.Outcomes | None:
        """What a policy would have told of later rows; None where it could not be trained."""
        fitted = self.laboratory.version(career.model, rule, border)
        if fitted is None or not len(rows):
            return None
        score, label = fitted.of(rows.table["place"].to_numpy())
        told = pd.DataFrame({"value": rows.value, "score": score, "label": label})
        return stats.outcomes(told, self.family.task)

    def _trained(
        self, career: Career, plan: Plan, as_of: datetime, rule: Training | None = None
    ) -> tuple[Scored, Plan] | None:
        """A version by a rule, or exactly of the nights of a plan; None on too few rows."""
        fitted = (
            self.laboratory.exactly(career.model, plan)
            if rule is None
            else self.laboratory.version(career.model, rule, plan.border)
        )
        return None if fitted is None else (self._scored(career, fitted, plan, rule), plan)

    def _scored(self, career: Career, fitted: Fitted, plan: Plan, rule: Training | None) -> Scored:
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
        return Scored(version, fitted, rule)

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
        again = self._trained(career, whole, as_of, scored.rule)
        self.fits.append(as_of)
        return scored if again is None else again[0]

    def _promote(
        self, career: Career, scored: Scored, worth: Worth | None, as_of: datetime
    ) -> None:
        now = as_of + simulation.RUN_TIME
        before = career.served[-1] if career.served else None
        career.serve(now if before else as_of, scored, worth)
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
