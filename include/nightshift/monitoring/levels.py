"""Whether what ``model.yaml`` asks of a metric can ever be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from nightshift import stats
from nightshift.family import Fall, ModelFamily, Problem


def level_problems(family: ModelFamily) -> Iterator[Problem]:
    """Levels outside of what the metric can be, and drops that it can never lose.

    Such a level is below or above every model: all nights would be breaches, or none.
    """
    metric = family.performance.metric
    for key, level in _levels(family):
        problem = stats.level_problem(metric, level) or _edge_problem(metric, level)
        if problem:
            yield Problem(family.folder / "model.yaml", key, f"found {level!r}: {problem}")
    for key, drop in _drops(family):
        problem = stats.drop_problem(metric, drop)
        if problem:
            yield Problem(family.folder / "model.yaml", key, f"found {drop!r}: {problem}")


def _edge_problem(metric: str, level: float) -> str | None:
    """Why a level at the end of what a metric can be judges nobody, or everybody."""
    limits = stats.range_of(metric)
    if limits is not None and level == limits.high:
        return f"{metric} {limits}, so whatever is not perfect is a breach"
    if limits is not None and level == limits.low:
        return f"{metric} {limits}, so nothing is ever a breach"
    return None


def _levels(family: ModelFamily) -> Iterator[tuple[str, float]]:
    if family.performance.threshold is not None:
        yield "performance.threshold", family.performance.threshold
    if family.models is None:
        return
    for member, level in family.models.thresholds.items():
        yield f"models.thresholds.{member}", level
    for name, group in family.models.groups.items():
        for member, level in group.thresholds.items():
            yield f"models.groups.{name}.thresholds.{member}", level


def _drops(family: ModelFamily) -> Iterator[tuple[str, float]]:
    """What is given in units of the metric, with its key."""
    drop = family.performance.max_drop
    if drop is not None and not isinstance(drop, Fall):
        yield "performance.max_drop", drop
    if family.watch.estimated is not None:
        yield "watch.estimated.warn", family.watch.estimated.warn
        yield "watch.estimated.alert", family.watch.estimated.alert
    yield "promotion.margin", family.promotion.margin
    if family.promotion.max_slice_drop is not None:
        yield "promotion.max_slice_drop", family.promotion.max_slice_drop


def constant_guess(family: ModelFamily, labels: pd.Series) -> stats.Estimate | stats.Undefined:
    """What the best guess that is the same for every row is worth, by the family's metric.

    Parameters
    ----------
    labels
        Their values as they are stored, as text.

    Returns
    -------
    Estimate or Undefined
        The better of the mean and the median, of both classes, or of the commonest class.
    """
    metric, task = family.performance.metric, family.task
    if task == "multiclass_classification":
        guesses = [(1.0, labels.mode()[0])]
    else:
        numbers = labels.astype(float)
        mean = float(numbers.mean())
        guesses = [(mean, None), (float(numbers.median()), None)]
        if task == "binary_classification":
            guesses = [(mean, "1"), (mean, "0")]
    worth = []
    for score, label in guesses:
        rows = pd.DataFrame({"value": labels, "score": score, "label": label})
        with np.errstate(over="ignore"):
            worth.append(stats.estimate(metric, task, stats.outcomes(rows, task)))
    estimates = [estimate for estimate in worth if isinstance(estimate, stats.Estimate)]
    return max(estimates, key=lambda estimate: estimate.value) if estimates else worth[0]
