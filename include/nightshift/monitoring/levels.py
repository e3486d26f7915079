"""Whether what ``model.yaml`` asks of a metric can ever be."""

from __future__ import annotations

from collections.abc import Iterator

from nightshift import stats
from nightshift.family import Fall, ModelFamily, Problem


def level_problems(family: ModelFamily) -> Iterator[Problem]:
    """Levels outside of what the metric can be, and drops that it can never lose.

    Such a level is below or above every model: all nights would be breaches, or none.
    """
    metric = family.performance.metric
    for key, level in _levels(family):
        problem = stats.level_problem(metric, level)
        if problem:
            yield Problem(family.folder / "model.yaml", key, f"found {level!r}: {problem}")
    for key, drop in _drops(family):
        problem = stats.drop_problem(metric, drop)
        if problem:
            yield Problem(family.folder / "model.yaml", key, f"found {drop!r}: {problem}")


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
