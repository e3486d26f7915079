"""A configuration lived through: night by night, with the rules that decide every morning.

What is decided here is decided by :mod:`nightshift.policy`, :mod:`nightshift.monitoring`,
:mod:`nightshift.promotion` and :mod:`nightshift.fleet`, from records as the steps give them; only
the versions come from the laboratory, and everything is kept in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from nightshift import fleet, monitoring, policy, simulation, training
from nightshift.records import (
    Measurement,
    Night,
    Standing,
)
from nightshift.registry import Champion
from nightshift.tuning.careers import Career, Lived
from nightshift.tuning.history import Places
from nightshift.tuning.trials import Trials


class Life(Trials):
    """One configuration of a family, lived through in a laboratory; see :class:`Readings`."""

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

    def _monitor(self, as_of: datetime) -> None:
        active = [career for career in self.careers if self._is_active(career, as_of)]
        for career in active:
            if not self._judge_trials(career, as_of):
                self._recall(career, as_of)
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

    def _of_champion(self, career: Career, champion: Champion | None) -> tuple[Measurement, ...]:
        """The latest measurements; those of the versions that served at each moment."""
        return career.recent if champion is not None else ()
