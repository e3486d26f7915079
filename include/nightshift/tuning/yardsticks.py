"""What every configuration is held against: refits by rote, the naive rule, and hindsight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import numpy as np

from nightshift import simulation, stats
from nightshift.family import Fall, ModelFamily, Training
from nightshift.records import Model
from nightshift.tuning.careers import Lived
from nightshift.tuning.history import Places
from nightshift.tuning.laboratory import Fitted, Laboratory
from nightshift.wording import day


class Serving:
    """Who serves each model, and what readers get; nothing is asked before somebody serves."""

    def __init__(self, laboratory: Laboratory) -> None:
        self.laboratory = laboratory
        self.history = laboratory.history
        self.now: dict[int, Fitted] = {}
        self.fits: list[datetime] = []
        self.score = np.full(len(self.history), np.nan)
        labelled = laboratory.family.task != "regression"
        self.label = np.full(len(self.history), None, dtype=object) if labelled else None

    def renew(self, model: Model, rule: Training, as_of: datetime) -> None:
        """Let a model be served by what has learnt all that has matured, if there is enough."""
        end = as_of - self.laboratory.family.labels.maturity
        fitted = self.laboratory.version(model, rule, end)
        if fitted is not None:
            self.now[model.model_id] = fitted
            self.fits.append(as_of)

    def tell(self, places: Places) -> None:
        """Score some rows: by the model of the whole family, then by members of their own."""
        for model in self.laboratory.models:
            fitted, own = self.now.get(model.model_id), self.laboratory.places_of(model)
            if fitted is None:
                continue
            chosen = places if own is None else np.intersect1d(places, own, assume_unique=True)
            score, label = fitted.of(chosen)
            there = ~np.isnan(score)
            self.score[chosen[there]] = score[there]
            if self.label is not None and label is not None:
                self.label[chosen[there]] = label[there]

    def lived(self) -> Lived:
        """What it came to."""
        return Lived(self.score, self.label, tuple(self.fits), tuple(self.fits))


def by_rote(
    laboratory: Laboratory, rule: Training, start: datetime, end: datetime, every: timedelta
) -> Lived:
    """Everything is refitted and replaced each ``every``, unopposed, as ``simulate`` does."""
    serving, renewed = Serving(laboratory), start
    _renew_all(serving, rule, start)
    for places, tick in _days(laboratory, start, end):
        if len(places):
            serving.tell(places)
        elif tick - renewed >= every:
            _renew_all(serving, rule, tick)
            renewed = tick
    return serving.lived()


def naive(
    laboratory: Laboratory, family: ModelFamily, rule: Training, start: datetime, end: datetime
) -> Lived:
    """Who is worse than its level over the last window is refitted, and replaced at once.

    A level that is relative is so to what the first version was worth on its holdout.
    """
    serving = Serving(laboratory)
    _renew_all(serving, rule, start)
    levels = {
        model.model_id: _level(laboratory, family, rule, model, start)
        for model in laboratory.models
    }
    since = dict.fromkeys(serving.now, start)
    window = family.performance.window
    for places, tick in _days(laboratory, start, end):
        if len(places):
            serving.tell(places)
            continue
        for model in laboratory.models:
            fitted, level = serving.now.get(model.model_id), levels[model.model_id]
            last = tick - family.labels.maturity
            begun = since.get(model.model_id)
            if fitted is None or begun is None:
                serving.renew(model, rule, tick)
                since[model.model_id] = tick
                continue
            if level is None or last - window < begun:
                continue
            value = _value(laboratory, fitted, model, last - window, last, tick)
            if value is not None and value < level:
                serving.renew(model, rule, tick)
                since[model.model_id] = tick
    return serving.lived()


def best_single(
    laboratory: Laboratory, rules: Sequence[Training], start: datetime, end: datetime
) -> tuple[Lived, str]:
    """The one generation that would have been best for (start, end] among those fitted before.

    Returns what it came to, and the night that it has learnt until.
    """
    family, history = laboratory.family, laboratory.history
    places = history.between(start, end)
    best: tuple[float, Lived, str] | None = None
    for rule in rules:
        for night in laboratory.grid:
            if night > start - family.labels.maturity:
                break
            serving = Serving(laboratory)
            for model in laboratory.models:
                serving.renew(model, rule, night + family.labels.maturity)
            serving.tell(places)
            lived = serving.lived()
            value = realized(laboratory, lived, places)
            if value is not None and (best is None or value > best[0]):
                best = value, lived, day(night)
    assert best is not None
    return best[1:]


def realized(laboratory: Laboratory, lived: Lived, places: Places) -> float | None:
    """The metric over every labelled row that was scored."""
    family, history = laboratory.family, laboratory.history
    chosen = places[~np.isnan(lived.score[places])]
    label = None if lived.label is None else lived.label[chosen]
    known = history.outcomes(chosen, lived.score[chosen], label)
    return stats.value(family.performance.metric, family.task, known) if len(known) else None


def _renew_all(serving: Serving, rule: Training, as_of: datetime) -> None:
    for model in serving.laboratory.models:
        serving.renew(model, rule, as_of)


def _days(
    laboratory: Laboratory, start: datetime, end: datetime
) -> Iterator[tuple[Places, datetime]]:
    """The rows of each night to score, and no rows where a morning is to be looked at."""
    instant = timedelta(microseconds=1)
    for tick, kind in simulation.ticks(laboratory.family, start, end):
        if kind == "score":
            places = laboratory.history.between(tick - instant, tick)
            if len(places):
                yield places, tick
        elif kind == "monitor":
            yield np.empty(0, dtype=np.intp), tick


def _level(
    laboratory: Laboratory, family: ModelFamily, rule: Training, model: Model, start: datetime
) -> float | None:
    level, drop = family.level_of(model.name), family.performance.max_drop
    if level is not None or drop is None:
        return level
    last = start - family.labels.maturity
    border = last - family.promotion.holdout
    fitted = laboratory.version(model, rule, border)
    value = _value(laboratory, fitted, model, border, last, start) if fitted else None
    if value is None:
        return None
    return value - (drop.fraction * abs(value) if isinstance(drop, Fall) else drop)


def _value(
    laboratory: Laboratory,
    fitted: Fitted,
    model: Model,
    start: datetime,
    end: datetime,
    known_by: datetime,
) -> float | None:
    """What a version is worth on the labelled rows of the nights in (start, end]."""
    family, history = laboratory.family, laboratory.history
    places = history.between(start, end, laboratory.places_of(model))
    told = history.told(places, known_by, *fitted.of(places))
    told = told[told["value"].notna() & told["score"].notna()]
    if len(told) < family.performance.min_labels:
        return None
    return stats.value(family.performance.metric, family.task, stats.outcomes(told, family.task))
