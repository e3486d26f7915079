"""Versions fitted once, and what each tells of every later row.

On these any policy is lived in seconds (:mod:`nightshift.tuning.living`). A generation holds the
versions of all models of a family that end with the same night; it is fitted when it is first
asked for, and kept in a file for whoever asks next, in this process or another.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nightshift import artifacts, stats, tables, training
from nightshift.documents import Guess
from nightshift.errors import TrainingError
from nightshift.family import ModelFamily, Training, next_tick
from nightshift.records import Model
from nightshift.training import Plan, Span
from nightshift.tuning.history import History, Places

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fitted:
    """A version, and what it tells of later rows.

    ``score`` and ``label`` (a number of ``classes``, -1 where nothing is told; None in regression)
    are by the row's place less ``first``; NaN of rows that are not its model's, or not later.
    ``guess`` is the best constant of the rows that it has learnt from.
    """

    key: str
    first: int
    score: Floats
    label: NDArray[np.int16] | None
    classes: NDArray[np.object_]
    guess: Guess

    def of(self, places: Places) -> tuple[Floats, NDArray[np.object_] | None]:
        """Scores and labels of some rows."""
        there = places >= self.first
        score = np.full(len(places), np.nan)
        score[there] = self.score[places[there] - self.first]
        if self.label is None:
            return score, None
        label = np.full(len(places), None, dtype=object)
        label[there] = self.classes[self.label[places[there] - self.first]]
        return score, label


class Laboratory:
    """The versions of a family, fitted when they are first asked for.

    Parameters
    ----------
    folder
        Where they are kept.
    grid
        The nights that generations end with, oldest first.
    """

    def __init__(self, history: History, folder: Path, grid: Sequence[datetime]) -> None:
        self.history = history
        self.family = history.family
        self.folder = folder
        self.grid = list(grid)
        self.fits = 0
        self._kept: dict[str, dict[str, NDArray[Any]]] = {}

    def version(self, model: Model, rule: Training, end: datetime) -> Fitted | None:
        """The version of the latest generation that ends by a night; None on too few rows."""
        return self._of(self.generation(rule, self.snapped(end)), model)

    def exactly(self, model: Model, plan: Plan) -> Fitted | None:
        """The version of one model that has learnt what a plan says; None on too few rows."""
        rule = Training(window=plan.learn[-1].end - plan.learn[-1].start, min_rows=self.least)
        name = self._name(rule, plan.learn, model.name)
        return self._of(name, model, lambda: self._arrays(rule, plan, [model]))

    def generation(self, rule: Training, end: datetime) -> str:
        """The name of the versions of all models that learn by a rule and end with a night."""
        family = self.family_with(rule)
        cutoff = end + family.labels.maturity
        plan = training.plan(family, cutoff, now=cutoff, holdout=timedelta(0))
        name = self._name(rule, plan.learn, "")
        self._load(name, lambda: self._arrays(rule, plan, self.models))
        return name

    def snapped(self, end: datetime) -> datetime:
        """The latest night of the grid by ``end``; before the first one ``end`` itself."""
        earlier = [night for night in self.grid if night <= end]
        return earlier[-1] if earlier else end

    @cached_property
    def models(self) -> list[Model]:
        """Every model that the family ever has, numbered."""
        family, rule = self.family, self.family.models
        names = [] if rule is None else [n for n in self.history.places if rule.includes(n)]
        names = [name for name in names if not family.is_whole(name)]
        whole = [family.family] if rule is None or rule.fallback else []
        groups = self._groups()
        return [
            Model(number, family.family, name, groups.get(name))
            for number, name in enumerate([*whole, *names], start=1)
        ]

    def _groups(self) -> dict[str, str | None]:
        rule = self.family.models
        if rule is None:
            return {}
        last = {name: int(places[-1]) for name, places in self.history.places.items()}
        tags = self.history.table[rule.group_by].to_pylist() if rule.group_by else None
        return {n: rule.group_of(n, tags[place] if tags else None) for n, place in last.items()}

    @cached_property
    def least(self) -> int:
        """With fewer labelled rows nothing is trained."""
        return training.least_rows(self.family)

    def family_with(self, rule: Training) -> ModelFamily:
        """The family, trained by another rule."""
        retrain = self.family.retrain.model_copy(update={"training": rule})
        return self.family.model_copy(update={"retrain": retrain})

    def _name(self, rule: Training, spans: Sequence[Span], member: str) -> str:
        told = f"{rule.policy} {rule.share} {member} " + " ".join(map(str, spans))
        return hashlib.sha256(told.encode()).hexdigest()[:24]

    def _of(self, name: str, model: Model, fit: Any = None) -> Fitted | None:
        arrays = self._load(name, fit)
        which = "whole" if self.family.is_whole(model.name) else "own"
        if not arrays["fitted"][model.model_id]:
            return None
        first, score, label = int(arrays["first"]), arrays[which], arrays.get(f"{which}_label")
        number, code = arrays["guess"][model.model_id]
        told = None if label is None or self._binary else str(self._classes[int(code)])
        key, guess = f"{name}/{model.model_id}", Guess(float(number), told)
        return Fitted(key, first, score, label, self._classes, guess)

    def _load(self, name: str, fit: Any) -> dict[str, NDArray[Any]]:
        if name not in self._kept:
            file = self.folder / f"{name}.npz"
            if not file.exists():
                beside = file.with_suffix(f".{os.getpid()}.npz")
                np.savez(beside, **fit())
                beside.rename(file)
            with np.load(file) as stored:
                self._kept[name] = dict(stored)
        return self._kept[name]

    def _arrays(
        self, rule: Training, plan: Plan, models: Sequence[Model]
    ) -> dict[str, NDArray[Any]]:
        """Fit the versions of some models, and score their later rows."""
        history, family = self.history, self.family_with(rule)
        end = plan.learn[-1].end
        first = int(history.borders[bisect_right(history.nights, end)])
        later = len(history) - first
        fitted = np.zeros(len(self.models) + 1, dtype=bool)
        guesses = np.zeros((len(fitted), 2))
        arrays: dict[str, NDArray[Any]] = {"first": np.array(first), "fitted": fitted}
        arrays["guess"] = guesses
        for which in ("own", "whole"):
            arrays[which] = np.full(later, np.nan)
            if family.task != "regression":
                arrays[f"{which}_label"] = np.full(later, -1, dtype=np.int16)
        for model in models:
            told = self._told(family, model, plan, first)
            if told is None:
                continue
            places, score, label, guess = told
            code = -1 if guess.label is None else list(self._classes).index(guess.label)
            guesses[model.model_id] = guess.score, code
            which = "whole" if family.is_whole(model.name) else "own"
            arrays[which][places - first] = score
            if label is not None:
                codes = pd.Index(self._classes[:-1]).get_indexer(label)
                arrays[f"{which}_label"][places - first] = codes
            fitted[model.model_id] = True
        return arrays

    def _told(
        self, family: ModelFamily, model: Model, plan: Plan, first: int
    ) -> tuple[Places, Floats, NDArray[np.object_] | None, Guess] | None:
        history = self.history
        own = self.places_of(model)
        learnt = [history.between(span.start, span.end, own) for span in plan.learn]
        known_by = plan.learn[-1].end + family.labels.maturity
        rows = history.rows(np.concatenate(learnt), known_by)
        if len(rows) < self.least:
            return None
        try:
            pipeline = training.fresh(family, model, rows, plan, self._code)
        except TrainingError:
            return None
        self.fits += 1
        places = np.arange(first, len(history)) if own is None else own[own >= first]
        if not len(places):
            return None
        score, label = artifacts.predict(pipeline, self._frame.iloc[places], family.task)
        if not np.isfinite(score).all():
            return None
        guess = stats.constant(family.task, training.truth_of(family, rows.value))
        return places, score, label, guess

    def places_of(self, model: Model) -> Places | None:
        """The rows of a member; None, all of them, for the model of the whole family."""
        if self.family.is_whole(model.name):
            return None
        return self.history.places[model.name]

    @cached_property
    def _frame(self) -> Any:
        return tables.frame(self.history.table, self.family.features, np.nan)

    @cached_property
    def _code(self) -> artifacts.Code:
        return artifacts.Code.of(self.family.folder)

    @property
    def _binary(self) -> bool:
        return self.family.task == "binary_classification"

    @cached_property
    def _classes(self) -> NDArray[np.object_]:
        if self._binary:
            return np.array(["0", "1", None], dtype=object)
        truth = self.history.truth
        known = sorted({value for value in truth if value is not None})
        return np.array([*known, None], dtype=object)


def grid_of(
    family: ModelFamily, start: datetime, end: datetime, every: timedelta
) -> Iterator[datetime]:
    """The last night that has matured at the first monitoring from ``start`` on, and each later."""
    schedule = family.schedule
    looked_at = next_tick(schedule.monitor, schedule.timezone, start - timedelta(microseconds=1))
    while looked_at - family.labels.maturity <= end:
        yield family.previous_tick(looked_at - family.labels.maturity)
        looked_at += every
