"""What a life has scored so far, and what its mornings make of that."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nightshift import monitoring, stats, training
from nightshift.family import ModelFamily, ticks_per_year
from nightshift.records import (
    Measurement,
    Night,
)
from nightshift.registry import Champion
from nightshift.training import Rows, Span
from nightshift.tuning.careers import Career
from nightshift.tuning.history import History, Places
from nightshift.tuning.laboratory import Floats, Laboratory


class Readings:
    """The rows that versions have scored, and nights and measurements of them.

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

    def _own_rows(self, career: Career, version: int, start: datetime, end: datetime) -> Places:
        """The rows of the nights in (start, end] that a version of a model has scored."""
        own = self.laboratory.places_of(career.model)
        places = self.history.between(start, end, own)
        own_rows: Places = places[self.scored_by[places] == version]
        return own_rows

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
        reach = timedelta(days=stats.HORIZON * 366 / self._a_year) + self.family.performance.window
        since = max(end - reach, training.learnt_until(champion.version))
        places = self._own_rows(career, champion.version.version_id, since, end)
        least = self.family.labels.min_coverage
        nights = self._nights_of(career, champion, places, as_of)
        return tuple(night for night in nights if night.labels >= least * night.predictions)

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

    def _matured(self, places: Places, as_of: datetime) -> Places:
        """The labelled rows of the nights whose labels are complete enough."""
        known = pd.notna(self.history.truths(places, as_of))
        unit = self.history.unit[places]
        share = pd.Series(known).groupby(unit).transform("mean").to_numpy()
        chosen: Places = places[known & (share >= self.family.labels.min_coverage)]
        return chosen

    @property
    def _a_year(self) -> float:
        return ticks_per_year(self.family.schedule.score, self.family.schedule.timezone)

    def _rows(self, career: Career, spans: Sequence[Span], known_by: datetime) -> Rows:
        own = self.laboratory.places_of(career.model)
        places = [self.history.between(span.start, span.end, own) for span in spans]
        return self.history.rows(np.concatenate(places), known_by)

    def _kept(self) -> int:
        rule = self.family.retrain.when
        return (rule.of_last if rule else None) or 1
