"""A metric night by night, and what nights say of it together: references and paired nights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import astuple, replace
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.special import gammaincinv

from nightshift.documents import Reference
from nightshift.records import Night
from nightshift.stats import undefined
from nightshift.stats.formulas import has_formula, influence, is_mean, row_scores
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
    guesses = _guesses(metric, task, rows[labelled], unit[labelled], len(moments))
    for moment, scored, (labels, number, error, missing), guess in zip(
        moments, predictions, figures, guesses, strict=True
    ):
        as_of = pd.Timestamp(moment)
        as_of = as_of.tz_localize("UTC") if as_of.tz is None else as_of
        night = Night(as_of.to_pydatetime(), int(scored), labels, number, error, missing, guess)
        nights.append(night)
    return nights


def _guesses(
    metric: str, task: Task, rows: pd.DataFrame, unit: Array, nights: int
) -> list[float | None]:
    """What the mean of a night's truths, told for all of its rows, is worth night by night.

    Of means of rows whose truths are numbers; None for others.
    """
    if not is_mean(metric) or task == "multiclass_classification" or not len(rows):
        return [None] * nights
    known = outcomes(rows, task)
    count = np.bincount(unit, minlength=nights)
    with np.errstate(divide="ignore", invalid="ignore"):
        middle = (np.bincount(unit, known.truth, minlength=nights) / count)[unit]
        label = (middle >= 0.5).astype(np.float64) if known.label is not None else None
        scores = row_scores(metric, replace(known, score=middle, label=label))
        assert scores is not None
        worth = np.bincount(unit, scores, minlength=nights) / count
    return [float(guess) if math.isfinite(guess) else None for guess in worth]


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
    whole = estimate(metric, task, known)
    if isinstance(whole, Undefined):
        return None, None, whole.reason
    return whole.value, whole.error, None


@overflowing
def reference(metric: str, task: Task, rows: pd.DataFrame) -> Reference | None:
    """What a model is worth on labelled rows (see :func:`by_night`); None where undefined."""
    known = outcomes(rows, task)
    whole = estimate(metric, task, known, nights=nights_of(rows))
    alone = estimate(metric, task, known)
    if isinstance(whole, Undefined) or isinstance(alone, Undefined):
        return None
    deviation = alone.error * math.sqrt(len(known))
    valued = [night for night in by_night(metric, task, rows) if night.value is not None]
    nights = [(night.value, night.labels) for night in valued]
    spread = single = 0.0
    if len(nights) >= FEWEST_NIGHTS:
        values, labels = np.array(nights).T
        single = float(np.average(values, weights=labels)) - whole.value
        spread = spread_of(values, labels, deviation)
    skewness = _skewness(influence(metric, known))
    figures = Reference(whole.value, whole.error, spread, deviation, skewness, single)
    if not all(math.isfinite(f) for f in astuple(figures) if f is not None):
        return None
    guessed = [(night.guess, night.labels) for night in valued if night.guess is not None]
    if not guessed:
        return figures
    guesses, labels = np.array(guessed).T
    return replace(figures, guess=float(np.average(guesses, weights=labels)))


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


def nightly_differences(
    metric: str, task: Task, older: Outcomes, newer: Outcomes, nights: Array
) -> Array:
    """Newer minus older on the same rows, night by night, oldest first; see :func:`gains`."""
    return gains(metric, task, older, newer, nights)[1]


@overflowing
def gains(
    metric: str, task: Task, older: Outcomes, newer: Outcomes, nights: Array
) -> tuple[Array, Array]:
    """Nights, oldest first, and newer minus older on the same rows of each.

    Nights on which the metric is undefined for either are left out. A night's difference is the
    mean of how its rows pull the two apart; where a metric has no influence function it is that of
    the night's own metric.
    """
    nothing: tuple[Array, Array] = (np.array([]), np.array([]))
    moments, unit = np.unique(nights, return_inverse=True)
    places = [np.flatnonzero(unit == night) for night in range(len(moments))]
    if not has_formula(metric, older):
        pairs = [
            [value(metric, task, side.take(rows)) for side in (older, newer)] for rows in places
        ]
        told = np.array([o is not None and n is not None for o, n in pairs], dtype=bool)
        differences = np.array([n - o for o, n in pairs if o is not None and n is not None])
        return (moments[told], differences) if np.isfinite(differences).all() else nothing
    sides = (older, newer)
    told = np.array(
        [all(undefined.reason(metric, s.take(rows)) is None for s in sides) for rows in places],
        dtype=bool,
    )
    parts = [rows for rows, defined in zip(places, told, strict=True) if defined]
    if not parts:
        return nothing
    kept = np.concatenate(parts)
    of_night = np.repeat(np.arange(len(parts)), [len(rows) for rows in parts])
    older, newer = older.take(kept), newer.take(kept)
    before, after = value(metric, task, older), value(metric, task, newer)
    pulls = influence(metric, older), influence(metric, newer)
    if before is None or after is None or pulls[0] is None or pulls[1] is None:
        return nothing
    pulled = np.bincount(of_night, pulls[1] - pulls[0]) / np.bincount(of_night)
    differences = after - before + pulled
    return (moments[told], differences) if np.isfinite(differences).all() else nothing
