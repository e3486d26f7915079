"""What comes after the proof: shadows, probation, and champions of the past."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from nightshift import policy, promotion, simulation, stats
from nightshift.records import (
    Decision,
)
from nightshift.tuning.careers import Career, Scored, Trial
from nightshift.tuning.retraining import Retraining

DAY = timedelta(days=1)


class Trials(Retraining):
    """Versions are held against each other on matured nights, morning by morning."""

    def _judge_trials(self, career: Career, as_of: datetime) -> bool:
        """End what the labels known by now decide; whether anything has ended."""
        shadow, ended = career.shadow, False
        if shadow is not None:
            serving = career.serving(as_of)
            assert serving is not None
            assert isinstance(shadow.about, promotion.Shadow)
            about = replace(shadow.about, champion=serving.version.version_id)
            verdict = self._look(career, replace(shadow, about=about), as_of)
            if verdict is not None:
                career.shadow, ended = None, True
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
                career.serve(since, probation.older, worth)
                self.promotions.append(as_of)
                ended = True
        return ended

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
        chosen = self._matured(places, as_of)
        if isinstance(about, promotion.Probation) and not len(chosen):
            return None
        sides = [
            self.history.told(chosen, as_of, *side.fitted.of(chosen))
            for side in (trial.older, trial.newer)
        ]
        return promotion.looked_at(self.family, about, sides[0], sides[1], as_of)[1]

    def _recall(self, career: Career, as_of: datetime) -> None:
        """Hold a champion against those of the past; one that is proven better serves again."""
        if self.family.promotion.probation is None or len(career.served) < 2:
            return
        since, serving, _ = career.served[-1]
        until = as_of - self.family.labels.maturity
        earlier = career.earlier()
        days = [max((since - one.version.trained_at) / DAY, 0.0) for one in earlier]
        pairs = [earlier[place] for place in policy.spaced(days, promotion.KEPT)]
        due = [
            one
            for one in pairs
            if until - career.seen.get(one.version.version_id, since) >= promotion.PAUSE
        ]
        if not due:
            return
        for one in due:
            self._remember(career, one, serving, since, as_of)
        horizon = until - timedelta(days=stats.HORIZON * 366 / self._a_year)
        told = [career.remembered.get(one.version.version_id, []) for one in pairs]
        found = policy.recollect(
            [np.array([gain for night, gain in nights if night > horizon]) for nights in told],
            confidence=self.family.promotion.confidence,
            nights_per_year=self._a_year,
        )
        if found is not None and found.proven:
            back = pairs[found.place]
            worths = [worth for _, scored, worth in career.served if scored is back]
            career.serve(as_of + simulation.RUN_TIME, back, worths[-1])
            career.probations = []
            self.promotions.append(as_of)

    def _remember(
        self, career: Career, older: Scored, newer: Scored, since: datetime, as_of: datetime
    ) -> None:
        """Keep what the nights since the last look say of a champion of the past."""
        version = older.version.version_id
        until = as_of - self.family.labels.maturity
        after = career.seen.get(version, since)
        places = self._own_rows(career, newer.version.version_id, after, until)
        chosen = self._matured(places, as_of)
        if not len(chosen):
            return
        moments = self.history.moments[self.history.unit[chosen]]
        sides = [self.history.outcomes(chosen, *side.fitted.of(chosen)) for side in (newer, older)]
        metric, task = self.family.performance.metric, self.family.task
        told, gains = stats.gains(metric, task, sides[0], sides[1], moments)
        nights = [pd.Timestamp(moment, tz="UTC").to_pydatetime() for moment in told]
        known = career.remembered.setdefault(version, [])
        known += zip(nights, map(float, gains), strict=True)
        career.seen[version] = self.history.nights[int(self.history.unit[chosen[-1]])]
