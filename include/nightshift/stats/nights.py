"""A metric night by night, and what nights say of it together: references and paired nights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import astuple
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.special import gammaincinv

from nightshift.documents import Reference
from nightshift.records import Night
from nightshift.stats import undefined
from nightshift.stats.formulas import has_formula, influence, row_scores
from nightshift.stats.intervals import FEWEST_NIGHTS, Undefined, estimate, overflowing
from nightshift.stats.metrics import figure, value
from nightshift.stats.outcomes import Array, Outcomes, nights_of, outcomes
from nightshift.stats.ranges import Task


@overflowing
def by_night(metric: str, task: Task, rows: pd.DataFrame) -> list[Night]:
    """A metric night by night, oldest first.

    Parameters
    ----------
    rows
        Columns ``as_of`` and those of :func:`outcomes`; ``value`` is None where no label is known.
    """
    moments, unit = np.unique(nights_of(rows), return_inverse=True)
    labelled = rows["value"].notna().to_numpy()
    predictions = np.bincount(unit, minlength=len(moments))
    figures = _night_figures(metric, task, rows[labelled], unit[labelled], len(moments))
    nights = []
    for moment, scored, (labels, number, error, missing) in zip(
        moments, predictions, figures, strict=True
    ):
        as_of = pd.Timestamp(moment)
        as_of = as_of.tz_localize("UTC") if as_of.tz is None else as_of
        nights.append(Night(as_of.to_pydatetime(), int(scored), labels, number, error, missing))
    return nights


_Figures = tuple[int, float | None, float | None, str | None]


def _night_figures(
    metric: str, task: Task, rows: pd.DataFrame, unit: Array, nights: int
) -> Iterator[_Figures]:
    """For each night its labels, its value and standard error, or why it has none."""
    known = outcomes(rows, task)
    scores = row_scores(metric, known)
    order = np.argsort(unit, kind="stable")
    borders = np.searchsorted(unit[order], np.arange(nights + 1))
    for start, end in pairwise(borders):
        chosen = order[start:end]
        own = known.take(chosen)
        part = scores[chosen] if scores is not None else None
        number, error, missing = _night_figure(metric, task, own, part)
        yield len(own), number, error, missing


def _night_figure(
    metric: str, task: Task, known: Outcomes, scores: Array | None
) -> tuple[float | None, float | None, str | None]:
    missing = undefined.reason(metric, known)
    if missing is not None:
        return None, None, missing
    if len(known) == 1:  # it has a value, and no spread
        number, missing = figure(metric, task, known)
        return number, None, missing or None
    if scores is not None and np.isfinite(scores).all():
        number, error = float(scores.mean()), float(scores.std(ddof=1) / math.sqrt(len(scores)))
        if math.isfinite(number) and math.isfinite(error):
            return number, error, None
    found = estimate(metric, task, known)
    if isinstance(found, Undefined):
        return None, None, found.reason
    return found.value, found.error, None


@overflowing
def reference(metric: str, task: Task, rows: pd.DataFrame) -> Reference | None:
    """What a model is worth on labelled rows (see :func:`by_night`); None where undefined."""
    known = outcomes(rows, task)
    found = estimate(metric, task, known, nights=nights_of(rows))
    alone = estimate(metric, task, known)
    if isinstance(found, Undefined) or isinstance(alone, Undefined):
        return None
    deviation = alone.error * math.sqrt(len(known))
    nights = [(n.value, n.labels) for n in by_night(metric, task, rows) if n.value is not None]
    spread = single = 0.0
    if len(nights) >= FEWEST_NIGHTS:
        values, labels = np.array(nights).T
        single = float(np.average(values, weights=labels)) - found.value
        spread = spread_of(values, labels, deviation)
    figures = Reference(
        found.value, found.error, spread, deviation, _skewness(influence(metric, known)), single
    )
    return figures if all(math.isfinite(f) for f in astuple(figures)) else None


def _skewness(pulls: Array | None) -> float:
    from scipy.stats import skew

    if pulls is None or not pulls.std() > 0:
        return 0.0
    return float(skew(pulls / np.abs(pulls).max()))


def spread_of(values: Array, labels: Array, deviation: float) -> float:
    """The standard deviation of nights' true levels around their mean.

    Nights differ by chance as well: only what it does not explain at the 5% level counts.

    Parameters
    ----------
    values, labels
        The metric of each night, and how many labels it is made of; both of shape (nights,).
    deviation
        That of one row's pull on the metric.
    """
    between, chance = float(values.var(ddof=1)), float((deviation**2 / labels).mean())
    most = chance * float(2 * gammaincinv((len(values) - 1) / 2, 0.95)) / (len(values) - 1)
    return math.sqrt(between - chance) if between > most else 0.0


@overflowing
def nightly_differences(
    metric: str, task: Task, older: Outcomes, newer: Outcomes, nights: Array
) -> Array:
    """Newer minus older on the same rows, night by night, oldest first.

    Nights on which the metric is undefined for either are left out. A night's difference is the
    mean of how its rows pull the two apart; where a metric has no influence function it is that of
    the night's own metric.
    """
    _, unit = np.unique(nights, return_inverse=True)
    parts = [np.flatnonzero(unit == night) for night in range(unit.max() + 1 if len(unit) else 0)]
    if not has_formula(metric, older):
        pairs = (
            [value(metric, task, side.take(rows)) for side in (older, newer)] for rows in parts
        )
        differences = np.array([n - o for o, n in pairs if o is not None and n is not None])
        return differences if np.isfinite(differences).all() else np.array([])
    parts = [
        rows
        for rows in parts
        if all(undefined.reason(metric, side.take(rows)) is None for side in (older, newer))
    ]
    if not parts:
        return np.array([])
    kept = np.concatenate(parts)
    of_night = np.repeat(np.arange(len(parts)), [len(rows) for rows in parts])
    older, newer = older.take(kept), newer.take(kept)
    before, after = value(metric, task, older), value(metric, task, newer)
    pulls = influence(metric, older), influence(metric, newer)
    if before is None or after is None or pulls[0] is None or pulls[1] is None:
        return np.array([])
    pulled = np.bincount(of_night, pulls[1] - pulls[0]) / np.bincount(of_night)
    differences = after - before + pulled
    return differences if np.isfinite(differences).all() else np.array([])
