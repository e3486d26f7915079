"""What champions are held to: each to its reference, members of a factory to what all of them tell.

A member with a row a night has a reference of a handful of rows. How far its level lies from those
of the others, and how much its nights vary, is told by all members together: each is drawn towards
them by as much as its own rows are few.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from nightshift import policy, stats
from nightshift.documents import Reference
from nightshift.family import Fall, ModelFamily
from nightshift.records import Night
from nightshift.registry import Champion

PRIOR_ROWS = 30.0
"""As many rows of its own tell as much of a member's variance as all the others do."""

FEWEST_MEMBERS = 3


def references(family: ModelFamily, champions: Mapping[int, Champion]) -> dict[int, Reference]:
    """What each champion was worth in the decisive metric, by model id."""
    metric = family.performance.metric
    own = {
        model_id: worth
        for model_id, champion in champions.items()
        if (worth := champion.worth(metric)) is not None
    }
    best = stats.perfect(metric)
    if family.models is None or best is None or not stats.is_mean(metric):
        return own
    usable = {i: worth for i, worth in own.items() if worth.deviation > 0 and worth.value < best}
    return own | _drawn(usable, best) if len(usable) >= FEWEST_MEMBERS else own


def _drawn(own: Mapping[int, Reference], best: float) -> dict[int, Reference]:
    worths = list(own.values())
    loss = np.array([best - worth.value for worth in worths])
    row = np.array([worth.deviation for worth in worths])
    night = np.array([worth.spread for worth in worths])
    lopsided = np.array([worth.skewness for worth in worths])
    error = np.array([worth.error for worth in worths])
    rows = np.maximum((row / np.maximum(error, 1e-300)) ** 2, 1.0)
    by_row, by_night = (row / loss) ** 2, (night / loss) ** 2
    share = rows / (rows + PRIOR_ROWS)
    by_row = share * by_row + (1 - share) * by_row.mean()
    by_night = share * by_night + (1 - share) * by_night.mean()
    lopsided = share * lopsided + (1 - share) * lopsided.mean()
    level = policy.shrunk(loss, np.sqrt(by_row / rows) * loss.mean())
    return {
        model_id: replace(
            worth,
            value=best - float(level[place]),
            error=math.sqrt(float(by_row[place] / rows[place])) * float(level[place]),
            deviation=math.sqrt(float(by_row[place])) * float(level[place]),
            spread=math.sqrt(float(by_night[place])) * float(level[place]),
            skewness=float(lopsided[place]),
        )
        for place, (model_id, worth) in enumerate(own.items())
    }


def threshold(
    family: ModelFamily, name: str, champion: Champion | None, reference: Reference | None
) -> float | None:
    """A model's threshold: a level, or so much below what its champion was worth.

    A champion that followed one that was surely below its threshold is held to no looser one.
    """
    level, drop = family.level_of(name), family.performance.max_drop
    if level is not None or drop is None:
        return level
    if reference is None or champion is None:
        return None
    fall = drop.fraction * abs(reference.value) if isinstance(drop, Fall) else drop
    own = reference.value - fall
    before = champion.reference.no_looser_than if champion.reference else None
    # The best of many references is so by luck as well: only what is sure makes it stricter.
    return own if before is None else max(before, own - reference.error)


def conditions(family: ModelFamily, nights: Sequence[Night], reference: Reference | None) -> float:
    """How much harder nights are than those of the reference; 1 where nobody asks, or knows.

    See :func:`nightshift.policy.hardness`. Only what is relative to a reference is excused.
    """
    guessed = [night for night in nights if night.guess is not None and night.labels > 0]
    relative = family.performance.max_drop is not None
    best = stats.perfect(family.performance.metric)
    if family.performance.yardstick is None or best is None or not (guessed and relative):
        return 1.0
    if reference is None or reference.guess is None:
        return 1.0
    guess = np.array([best - (night.guess or 0.0) for night in guessed])
    labels = np.array([float(night.labels) for night in guessed])
    return policy.hardness(guess, labels, best - reference.guess)


def in_conditions(
    family: ModelFamily, nights: Sequence[Night], reference: Reference | None
) -> list[Night]:
    """The nights as they would be in the conditions of the reference.

    Each is excused by the conditions of the window that ends with it.
    """
    best, window = stats.perfect(family.performance.metric), family.performance.window
    if best is None:
        return list(nights)
    adjusted: list[Night] = []
    first = 0
    for place, night in enumerate(nights):
        while nights[first].as_of <= night.as_of - window:
            first += 1
        harder = conditions(family, nights[first : place + 1], reference)
        value = None if night.value is None else best - (best - night.value) / harder
        adjusted.append(replace(night, value=value))
    return adjusted
