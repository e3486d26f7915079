"""scikit-learn's metrics over stored predictions: their values, and where they have none.

A metric over a window is the metric over all of its rows: the recall of seven nights is one
recall, and no mean of seven.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache

import numpy as np

from nightshift.documents import Guess
from nightshift.errors import ConfigError
from nightshift.stats import ranges, undefined
from nightshift.stats.formulas import row_scores
from nightshift.stats.outcomes import Array, Outcomes
from nightshift.stats.ranges import Task
from nightshift.wording import nearest


def value(metric: str, task: Task, known: Outcomes) -> float | None:
    """The scorer's value on stored predictions; None where it is undefined, see :func:`figure`."""
    return figure(metric, task, known)[0]


def figure(metric: str, task: Task, known: Outcomes) -> tuple[float | None, str]:
    """The scorer's value on stored predictions, or None and why it is undefined.

    Raises
    ------
    ConfigError
        The metric cannot be computed of this task's stored predictions, whatever the rows.
    """
    missing = undefined.reason(metric, known)
    if missing is not None:
        return None, missing
    scores = row_scores(metric, known)
    if scores is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            number = float(scores.mean())
        return (number, "") if math.isfinite(number) else (None, _overflow(len(known)))
    try:
        with _quiet():
            number = _score(metric, task, known)
    except (ValueError, AttributeError, TypeError, OverflowError) as error:
        problem = metric_problem(metric, task)
        if problem is not None:
            raise ConfigError(problem) from error
        return None, f"scikit-learn cannot compute it from these {len(known):,} rows"
    return (number, "") if math.isfinite(number) else (None, _overflow(len(known)))


def constant(task: Task, truth: Array) -> Guess:
    """The same for all: the mean of the truths, or their commonest class with its share."""
    if task != "multiclass_classification":
        with np.errstate(over="ignore"):
            return Guess(float(truth.mean()))
    classes, counts = np.unique(truth, return_counts=True)
    return Guess(float(counts.max() / len(truth)), str(classes[counts.argmax()]))


def guessed(known: Outcomes, guess: Guess) -> Outcomes:
    """The same rows if every prediction were this guess."""
    same = np.full(len(known), guess.score)
    label = None if guess.label is None else np.full(len(known), guess.label, dtype=object)
    return replace(known, score=same, label=label)


def baseline(metric: str, task: Task, known: Outcomes) -> float | None:
    """A metric on the same rows if every prediction were the same; None where it is undefined."""
    return value(metric, task, guessed(known, constant(task, known.truth)))


def metric_problem(metric: str, task: Task, *, probabilities: bool = True) -> str | None:
    """Why a metric cannot be used for a task; None where it can.

    Parameters
    ----------
    probabilities
        Whether the classifier has ``predict_proba``; else its scores are what its
        ``decision_function`` gives.
    """
    return _problem(metric, task, probabilities)


@lru_cache(maxsize=256)
def _problem(metric: str, task: Task, probabilities: bool) -> str | None:
    from sklearn.metrics import get_scorer_names

    if metric not in get_scorer_names():
        hint = nearest(metric, get_scorer_names(), most=3)
        return f"{metric!r} is not the name of a scikit-learn scorer{hint}"
    problem = ranges.task_problem(metric, task)
    if problem:
        return problem
    try:
        with _quiet():
            _score(metric, task, _specimen(task))
    except (ValueError, AttributeError, TypeError) as error:
        return f"the metric {metric!r} does not apply to {task} from stored predictions: {error}"
    if probabilities or task != "binary_classification":
        return None
    try:
        with _quiet():
            _score(metric, task, _specimen(task), probabilities=False)
    except AttributeError:
        return f"{metric} needs predict_proba"
    return None


def _score(metric: str, task: Task, known: Outcomes, *, probabilities: bool = True) -> float:
    from sklearn.metrics import get_scorer

    from nightshift.stats import stored_predictions

    stored = stored_predictions.of(task, known, probabilities=probabilities)
    return float(get_scorer(metric)(stored, np.arange(len(known)), known.truth))


@contextmanager
def _quiet() -> Iterator[None]:
    """What scikit-learn warns of is either a state of ours or its documented answer."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def _overflow(rows: int) -> str:
    return f"over these {rows:,} rows it is no finite number"


def _specimen(task: Task) -> Outcomes:
    """A few rows on which every metric that fits the task is defined."""
    if task == "multiclass_classification":
        truth = np.array(["a", "b", "c", "a", "b", "c"], dtype=object)
        return Outcomes(truth, np.full(6, 0.5), truth[::-1].copy())
    if task == "regression":
        return Outcomes(np.arange(1.0, 7.0), np.array([2.0, 1.0, 3.0, 5.0, 4.0, 6.0]))
    truth = np.array([0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    return Outcomes(truth, np.array([0.2, 0.7, 0.6, 0.4, 0.9, 0.1]))
