"""Which parameters ``build`` is called with, found by scikit-learn's own search.

The candidates are whole pipelines: a parameter of ``build`` may choose an estimator, the features
or a number. Later nights judge what was learnt on earlier ones, by the family's decisive metric.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from time import monotonic
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - makes halving importable
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    ParameterGrid,
    RandomizedSearchCV,
    TimeSeriesSplit,
)
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from nightshift import artifacts, stats
from nightshift.artifacts import Code, LegacyCode
from nightshift.errors import FOREIGN, TrainingError, words_of
from nightshift.family import ModelFamily, Search
from nightshift.training import estimators
from nightshift.wording import listed

State = Literal["tried", "failed", "undefined", "untried"]
Folds = list[tuple[np.ndarray, np.ndarray]]

MOST_NAMED = 3
"""How many of the values that are wrong a message names."""


@dataclass(frozen=True)
class Trial:
    """One candidate: what it chose, its mean score over the folds, and how far they lie apart.

    ``failed`` raised an error, ``undefined`` has a metric that scikit-learn calls so, ``untried``
    came after the budget was spent. ``rows`` is how many rows halving gave it.
    """

    params: dict[str, Any]
    state: State
    score: float | None
    spread: float | None
    rows: int | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Choice:
    """The choice that won, and everything that was tried."""

    params: dict[str, Any]
    trials: tuple[Trial, ...]
    folds: int

    def record(self, declared: Search) -> dict[str, Any]:
        """The search as a manifest keeps it."""
        return {
            "declared": declared.model_dump(mode="json"),
            "folds": self.folds,
            "won": self.params,
            "tried": [asdict(trial) for trial in self.trials],
        }


def best(
    family: ModelFamily,
    frame: pd.DataFrame,
    truth: np.ndarray,
    nights: np.ndarray,
    code: Code | LegacyCode | None = None,
) -> Choice:
    """The parameters in ``estimator.search.space`` that score best, at one thread.

    Parameters
    ----------
    nights
        For each row the night it belongs to.
    code
        What the candidates are built by; by default the family's files as they are now.

    Raises
    ------
    TrainingError
        There are fewer nights than the folds need, or no candidate could be scored.
    """
    declared = family.estimator.search
    assert declared is not None
    folds = _folds(family, truth, nights, declared.folds)
    log = _Log(monotonic() + declared.budget.total_seconds())
    searcher = _searcher(declared, _Candidate(family, {}, log, code), family, folds)
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # scikit-learn warns of scores that are not finite; they are in the record.
        warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")
        try:
            searcher.fit(frame, truth)
        except ValueError as error:
            raise TrainingError(
                f"{family.family}: the search (estimator.search) could not run:"
                f" {words_of(error, discreet=family.discreet)}"
            ) from None if family.discreet else error
    trials = tuple(_trials(searcher.cv_results_, log))
    return Choice(_winner(family, trials), trials, len(folds))


def problems(family: ModelFamily) -> Iterator[tuple[str, str]]:
    """What is wrong with ``estimator.search``: (key, message), without fitting anything."""
    declared = family.estimator.search
    if declared is None:
        return
    accepted = estimators.parameters(family)
    for name, values in declared.space.items():
        key = f"estimator.search.space.{name}"
        if name == "seed":
            yield key, "is no choice: the luckiest seed is not the best model; leave it out"
        elif name in ("numeric", "categorical"):
            yield from ((key, problem) for problem in _feature_problems(family, name, values))
        elif accepted is not None and name not in accepted:
            choices = [word for word in accepted if word not in ("numeric", "categorical", "seed")]
            yield key, f"{family.estimator.build} takes no {name!r}; it takes {listed(choices)}"


def first_choice(family: ModelFamily) -> dict[str, Any]:
    """``estimator.params``, with the first value of what is searched for."""
    declared = family.estimator.search
    space = declared.space if declared else {}
    return {**family.estimator.params, **{name: values[0] for name, values in space.items()}}


def _feature_problems(family: ModelFamily, name: str, values: list[Any]) -> Iterator[str]:
    declared = getattr(family.features, name)
    for value in islice(values, MOST_NAMED):
        if not isinstance(value, list) or not set(value) <= set(declared):
            yield f"found {value!r}: write lists of features.{name}: {listed(declared)}"


class _Log:
    """What the copies of a candidate share: the deadline, and what went wrong."""

    def __init__(self, deadline: float) -> None:
        self.first: str | None = None
        self.problems: dict[str, str] = {}
        self._deadline = deadline

    @property
    def late(self) -> bool:
        return monotonic() >= self._deadline


class _Candidate(BaseEstimator):  # type: ignore[misc]
    """``build`` as an estimator whose parameters are the arguments of the function.

    It never raises: what cannot be fitted, or comes too late, has no score.
    """

    def __init__(
        self,
        family: ModelFamily,
        chosen: dict[str, Any],
        log: _Log,
        code: Code | LegacyCode | None = None,
    ) -> None:
        self.family = family
        self.code = code
        self.chosen = chosen
        self.log = log
        self.pipeline: Pipeline | None = None

    def __sklearn_clone__(self) -> _Candidate:
        return _Candidate(self.family, dict(self.chosen), self.log, self.code)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return dict(self.chosen)

    def set_params(self, **params: Any) -> _Candidate:
        self.chosen = {**self.chosen, **params}
        return self

    def fit(self, frame: pd.DataFrame, truth: np.ndarray) -> _Candidate:
        key = _key(self.chosen)
        # The first is tried in any case: without one score there is nothing to train.
        self.log.first = self.log.first or key
        if self.log.late and key != self.log.first:
            return self
        try:
            pipeline = estimators.build(
                self.family, {**self.family.estimator.params, **self.chosen}, self.code
            )
            problem = next(estimators.scoring_problems(self.family, pipeline), None)
            if problem is not None:
                raise TrainingError(problem[1])
            self.pipeline = pipeline.fit(frame, truth)
        except FOREIGN as error:  # a fit runs the family's own code
            self._failed(error)
        return self

    def _failed(self, error: BaseException) -> None:
        error_sentence = words_of(error, discreet=self.family.discreet)
        self.log.problems.setdefault(_key(self.chosen), error_sentence)

    def score(self, frame: pd.DataFrame, truth: np.ndarray) -> float:
        """The family's decisive metric; NaN where it is undefined."""
        if self.pipeline is None:
            return math.nan
        task = self.family.task
        try:
            score, label = artifacts.predict(self.pipeline, frame, task)
        except FOREIGN as error:  # a fit runs the family's own code
            self._failed(error)
            return math.nan
        rows = pd.DataFrame({"value": truth, "score": score, "label": label})
        figure = stats.value(self.family.performance.metric, task, stats.outcomes(rows, task))
        return math.nan if figure is None else figure


def _folds(family: ModelFamily, truth: np.ndarray, nights: np.ndarray, count: int) -> Folds:
    """Ever more nights to learn from, and the nights after them; no night is on both sides."""
    moments, night = np.unique(nights, return_inverse=True)
    if len(moments) <= count:
        raise TrainingError(
            f"{family.family}: {len(moments)} nights have labels, and {count} folds of"
            f" estimator.search need {count + 1}; write fewer folds, or widen"
            " retrain.training.window"
        )
    split = TimeSeriesSplit(n_splits=count).split(moments)
    folds = [tuple(np.flatnonzero(np.isin(night, side)) for side in sides) for sides in split]
    if family.task != "regression":
        folds = [fold for fold in folds if all(len(np.unique(truth[side])) > 1 for side in fold)]
    if not folds:
        raise TrainingError(
            f"{family.family}: in every fold of estimator.search one side holds a single class;"
            " write fewer folds, or widen retrain.training.window"
        )
    return folds  # type: ignore[return-value]


def _searcher(declared: Search, candidate: _Candidate, family: ModelFamily, folds: Folds) -> Any:
    shared = {"cv": folds, "refit": False, "error_score": "raise"}
    seed = family.estimator.seed
    match declared.method:
        case "grid":
            return GridSearchCV(candidate, declared.space, **shared)
        case "random":
            tries = min(declared.tries, len(ParameterGrid(declared.space)))
            return RandomizedSearchCV(
                candidate, declared.space, n_iter=tries, random_state=seed, **shared
            )
        case "halving":
            return HalvingGridSearchCV(candidate, declared.space, random_state=seed, **shared)


def _trials(results: dict[str, Any], log: _Log) -> Iterator[Trial]:
    count = len(results["params"])
    rounds = map(int, results["n_resources"]) if "n_resources" in results else [None] * count
    scores = zip(results["mean_test_score"], results["std_test_score"], strict=True)
    for params, (score, spread), rows in zip(results["params"], scores, rounds, strict=True):
        problem = log.problems.get(_key(params))
        if math.isfinite(score):
            yield Trial(params, "tried", float(score), float(spread), rows)
        elif problem is not None:
            yield Trial(params, "failed", None, None, rows, problem)
        else:
            state: State = "untried" if log.late else "undefined"
            yield Trial(params, state, None, None, rows)


def _winner(family: ModelFamily, trials: tuple[Trial, ...]) -> dict[str, Any]:
    """The best of the last round of halving that went to its end; else of all."""
    rounds: dict[int | None, list[Trial]] = {}
    for trial in trials:
        rounds.setdefault(trial.rows, []).append(trial)
    whole = [of for of in rounds.values() if all(trial.state != "untried" for trial in of)]
    last = whole[-1] if whole else next(iter(rounds.values()))
    scored = [trial for trial in last if trial.score is not None]
    if not scored:
        problem = next((trial.problem for trial in trials if trial.problem), None)
        raise TrainingError(
            f"{family.family}: none of {len(trials)} candidates of estimator.search could be"
            f" scored by {family.performance.metric}"
            + (f"; the first that failed: {problem}" if problem else "")
        )
    return max(scored, key=lambda trial: trial.score).params  # type: ignore[arg-type,return-value]


def _key(params: dict[str, Any]) -> str:
    return json.dumps(params, sort_keys=True, default=repr)
