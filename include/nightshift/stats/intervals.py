"""How sure a metric is: intervals of one, and of the paired difference of two on the same rows.

A metric has an *influence function*: for each row, how far it pulls the metric from its value. Its
variance gives the interval of the metric, and the variance of the difference of two models'
influences, row by row, that of their paired difference. Means of per-row scores have it trivially,
ratios of means and smooth functions of them by the delta method, ROC AUC by DeLong's structural
components [1]_. Every other scorer is bootstrapped with a fixed seed.

Rows of one night share its weather, so where there are at least five nights, they and not the rows
are the units: influences are summed by night (the cluster-robust variance [2]_, with Student's t),
and the bootstrap draws nights.

.. [1] DeLong, DeLong, Clarke-Pearson (1988), "Comparing the areas under two or more correlated
   receiver operating characteristic curves", Biometrics 44.
.. [2] Cameron, Miller (2015), "A practitioner's guide to cluster-robust inference", Journal of
   Human Resources 50.
.. [3] Imbens, Kolesár (2016), "Robust standard errors in small samples: some practical advice",
   Review of Economics and Statistics 98.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri, stdtrit

from nightshift.stats.formulas import influence, row_scores
from nightshift.stats.metrics import figure, value
from nightshift.stats.outcomes import Array, Outcomes
from nightshift.stats.ranges import Task

RESAMPLES = 200
SEED = 20130101
FEWEST_NIGHTS = 5
"""With fewer nights than this a variance between them cannot be told."""

HEAVY = 0.5
"""A row that makes up more than this share of a metric is told of."""

FEWEST_ROWS = 20
"""With fewer rows than this a single one is heavy without being odd."""


@dataclass(frozen=True)
class Estimate:
    """A metric's value, and an interval around it; greater is better.

    ``error`` is the standard error, ``method`` says in words how the interval was made, ``remark``
    whether a single row makes up most of the value. Every figure is finite.
    """

    value: float
    low: float
    high: float
    error: float = 0.0
    method: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Undefined:
    """There is no figure, and why."""

    reason: str


overflowing = np.errstate(over="ignore", invalid="ignore", divide="ignore")
"""Figures that are no finite number are states; numpy need not warn of them."""


@overflowing
def estimate(
    metric: str,
    task: Task,
    known: Outcomes,
    *,
    nights: Array | None = None,
    confidence: float = 0.95,
) -> Estimate | Undefined:
    """A metric over all rows together with its two-sided interval.

    Parameters
    ----------
    nights
        For each row the night it belongs to, of any sortable dtype; rows are units without it.
    """
    number, missing = figure(metric, task, known)
    if number is None:
        return Undefined(missing)
    if len(known) < 2:
        return Undefined("one labelled row has no interval")
    units = _units(nights)
    pulls = influence(metric, known)
    if pulls is not None:
        error, reach, by_nights = _reach(pulls, units, confidence, sides=2)
        how = "nights as units, Student's t" if by_nights else "rows as units, normal"
        return _finite(Estimate(number, number - reach, number + reach, error, how), metric, known)
    draws = _bootstrap(len(known), units, lambda rows: value(metric, task, known.take(rows)))
    if len(draws) < 2:
        return Undefined("it has a value on these rows, and on too few resamples of them")
    low, high = np.quantile(draws, [0.5 - confidence / 2, 0.5 + confidence / 2])
    how = f"bootstrap of {'rows' if units is None else 'nights'}, seed {SEED}"
    if len(draws) < RESAMPLES:
        how += f", defined on {len(draws)} of {RESAMPLES} draws"
    error = float(draws.std(ddof=1))
    return _finite(Estimate(number, float(low), float(high), error, how), metric, known)


@overflowing
def expected(
    metric: str,
    score: Array,
    share: Array,
    *,
    label: Array | None = None,
    draws: int = RESAMPLES,
    confidence: float = 0.95,
) -> Estimate | Undefined:
    """A binary classifier's metric before any label, from calibrated scores.

    Labels are drawn as ``share`` says, and the metric is taken of each draw: its mean is the
    estimate, its quantiles are the interval, which holds the chance in the labels but not an error
    of the calibration. The idea is that of confidence-based performance estimation (NannyML's
    CBPE).

    Parameters
    ----------
    score
        The scores that the model told, of shape (n,).
    share
        What they were worth on labelled rows: the probability of 1 for each.
    label
        The classes that the model told, 0.0 or 1.0; without them 1 is from one half on.
    """
    random = np.random.default_rng(SEED)
    figures = [
        figure(
            metric,
            "binary_classification",
            Outcomes((random.random(len(share)) < share).astype(np.float64), score, label),
        )
        for _ in range(draws)
    ]
    sample = np.array([number for number, _ in figures if number is not None])
    if len(sample) < 2:
        return Undefined(next((missing for _, missing in figures if missing), "no row"))
    low, high = np.quantile(sample, [0.5 - confidence / 2, 0.5 + confidence / 2])
    how = f"labels drawn from calibrated scores, seed {SEED}"
    return Estimate(float(sample.mean()), float(low), float(high), float(sample.std(ddof=1)), how)


@overflowing
def paired_difference(
    metric: str,
    task: Task,
    champion: Outcomes,
    challenger: Outcomes,
    *,
    confidence: float,
    nights: Array | None = None,
) -> Estimate | Undefined:
    """Challenger minus champion on the same rows, all of them together.

    ``low`` and ``high`` are one-sided bounds, each at ``confidence``.
    """
    before, missing_before = figure(metric, task, champion)
    after, missing_after = figure(metric, task, challenger)
    if before is None or after is None:
        return Undefined(missing_before or missing_after)
    if len(champion) < 2:
        return Undefined("one labelled row has no interval")
    gain = after - before
    units = _units(nights)
    pulls = influence(metric, champion), influence(metric, challenger)
    if pulls[0] is not None and pulls[1] is not None:
        error, reach, _ = _reach(pulls[1] - pulls[0], units, confidence, sides=1)
        return _finite(Estimate(gain, gain - reach, gain + reach, error))

    def difference(rows: Array) -> float | None:
        old, new = (value(metric, task, side.take(rows)) for side in (champion, challenger))
        return None if old is None or new is None else new - old

    draws = _bootstrap(len(champion), units, difference)
    if len(draws) < 2:
        return Undefined("it has a value on these rows, and on too few resamples of them")
    low, high = np.quantile(draws, [1 - confidence, confidence])
    return _finite(Estimate(gain, float(low), float(high), float(draws.std(ddof=1))))


def _finite(raw: Estimate, metric: str = "", known: Outcomes | None = None) -> Estimate | Undefined:
    """The estimate with what single rows do to it; errors of rows may overflow when squared."""
    figures = (raw.value, raw.low, raw.high, raw.error)
    if not all(math.isfinite(number) for number in figures):
        return Undefined("single rows lie so far off that its interval is no finite number")
    remark = _heavy(metric, known) if known is not None else ""
    return Estimate(*figures, raw.method, remark)


def _heavy(metric: str, known: Outcomes) -> str:
    """Whether one row makes up most of a metric that has no bound per row."""
    scores = row_scores(_MEAN_BEHIND.get(metric, metric), known)
    if scores is None or len(known) < FEWEST_ROWS or metric == "accuracy":
        return ""
    sizes = np.abs(scores)
    total, most = float(sizes.sum()), float(sizes.max())
    if not total or not math.isfinite(total) or most <= HEAVY * total:
        return ""
    return f"one row of {len(known):,} makes up {most / total:.0%} of it"


_MEAN_BEHIND = {
    "neg_root_mean_squared_error": "neg_mean_squared_error",
    "neg_root_mean_squared_log_error": "neg_mean_squared_log_error",
    "r2": "neg_mean_squared_error",
}


def _units(nights: Array | None) -> Array | None:
    """For each row the number of its night; None where there are too few nights to be units."""
    if nights is None:
        return None
    names, numbers = np.unique(nights, return_inverse=True)
    return numbers if len(names) >= FEWEST_NIGHTS else None


def _reach(
    pulls: Array, units: Array | None, confidence: float, *, sides: int
) -> tuple[float, float, bool]:
    """The standard error of a metric, how far its bound lies, and whether nights are the units.

    Nights whose rows do not pull at all, as those without a positive in a recall, tell nothing of
    how nights differ: they are not counted, and where too few are left, rows are the units.
    """
    tail = 1 - (1 - confidence) / sides
    size = len(pulls)
    with np.errstate(over="ignore", invalid="ignore"):
        if units is not None:
            sums = np.bincount(units, weights=pulls)
            count = int((np.bincount(units, weights=pulls != 0) > 0).sum())
            if count >= FEWEST_NIGHTS or not count:
                count = count or len(sums)
                error = math.sqrt(count / (count - 1) * float((sums**2).sum())) / size
                # One degree of freedom fewer than nights have: they differ in size and skew, and a
                # bound a little too near would promote equals more often than the confidence says,
                # see [3].
                return error, float(stdtrit(count - 2, tail)) * error, True
        error = float(pulls.std(ddof=1) / math.sqrt(size))
        return error, float(ndtri(tail)) * error, False


def _bootstrap(size: int, units: Array | None, statistic: Callable[[Array], float | None]) -> Array:
    """``statistic`` on resampled rows or nights; draws on which it is undefined are left out.

    The rows themselves were checked when their own value was told, so scikit-learn does not check
    each draw again: that takes longer than most metrics.
    """
    from sklearn import config_context

    random = np.random.default_rng(SEED)
    if units is None:
        samples = (random.integers(0, size, size) for _ in range(RESAMPLES))
    else:
        rows_of = [np.flatnonzero(units == unit) for unit in range(units.max() + 1)]
        samples = (
            np.concatenate([rows_of[u] for u in random.integers(0, len(rows_of), len(rows_of))])
            for _ in range(RESAMPLES)
        )
    with config_context(skip_parameter_validation=True, assume_finite=True):
        draws: list[Any] = [statistic(rows) for rows in samples]
    return np.array([draw for draw in draws if draw is not None])
