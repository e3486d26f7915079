"""Has the level of a metric fallen below its threshold, by however much? A test over nights.

A loss, what a metric falls short of perfection, is bounded below. Where rows may be wrong by any
amount, deviation and mean grow together, and the mean loss of a night is taken as gamma
distributed [1]_; where rows are right or wrong, it is a count, as Poisson's. Either has the
variance that the healthy nights have, in which are the rows and the luck that nights share.
The evidence is the generalised likelihood ratio over every stretch of nights
that ends with the latest and every size of fall [2]_: no size is expected beforehand, and a large
fall is told in a night or two. Where the threshold lies at a distance from a measured reference,
its uncertainty is in the ratio too: a two-sample test.

The limit follows from how many alarms a year may bring while the model is at its reference, by
the expected number of clumps of excursions [2]_ [3]_ (:func:`alarms_a_night`); so the farther the
reference lies from the threshold, the less evidence is needed.

Where nothing is known of the nights' variance, losses are bet on [4]_: :func:`bets`.

.. [1] Jørgensen (1987), "Exponential dispersion models", Journal of the Royal Statistical Society
   B 49: the unit deviances of gamma and Poisson distributions.
.. [2] Siegmund, Venkatraman (1995), "Using the generalized likelihood ratio statistic for
   sequential detection of a change-point", Annals of Statistics 23.
.. [3] Siegmund, Yakir (2007), "The Statistics of Gene Mapping", Springer: the approximation of nu.
.. [4] Shin, Ramdas, Rinaldo (2024), "E-detectors: a nonparametric framework for sequential change
   detection", New England Journal of Statistics in Data Science 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, ndtr

from nightshift.documents import Reference, Shift
from nightshift.records import Night
from nightshift.stats import sequential

Floats = NDArray[np.float64]

HORIZON = 120
"""How many matured nights are looked at, at most: with one row a night a doubled loss needs 60."""

CAUTION = 1.0
"""By how many of its standard errors a reference is taken lower than it was measured."""

LEAST_EVIDENCE = 0.125
"""However far the reference lies: half a standard error below the threshold."""

PRIOR_ROWS = 6.0
"""Rows that speak for a loss that varies as much as its mean, before any was seen."""

STAKES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
"""The shares of its wealth that a bet stakes on a loss above the threshold."""

_WIDEST = 1e12

_LIMITS = np.geomspace(LEAST_EVIDENCE, 60.0, 64)
_COUNTS = np.unique(np.round(np.geomspace(1, HORIZON, 28)))


@dataclass(frozen=True)
class Evidence:
    """For a fall since ``start`` (an index of nights, None without any), in log-likelihood."""

    value: float
    start: int | None


def fall(
    nights: Sequence[Night],
    threshold: float,
    reference: Reference | None,
    *,
    false_alarms: float,
    perfect: float = 1.0,
    relative: bool = False,
    nights_per_year: float = 365.0,
) -> Shift:
    """What a champion's matured nights say against its threshold.

    Parameters
    ----------
    nights
        Oldest first, all that it has not learnt from; those without a value are passed over, and
        the last :data:`HORIZON` are looked at.
    reference
        What the champion was worth when it was promoted; without one, or without its deviation,
        losses are bet on.
    false_alarms
        How many alarms a model-year may bring while the model is as good as its reference.
    perfect
        The metric's best value: 1 for scores, 0 for what begins with ``neg_``.
    relative
        Whether the threshold was set relative to this reference, and so shares its error.

    Returns
    -------
    Shift
        ``evidence`` and ``limit`` are log-likelihood ratios; ``detected`` where the first reaches
        the second.
    """
    known = [n for n in nights if n.value is not None and n.labels > 0][-HORIZON:]
    losses = np.array([perfect - (n.value or 0.0) for n in known], dtype=np.float64)
    single = reference.single if reference is not None else 0.0
    bar = perfect - threshold - single
    rate = false_alarms / nights_per_year
    if reference is None or reference.deviation <= 0 or bar <= 0 or reference.value >= perfect:
        found = bets(losses, max(bar, 1e-12))
        limit = -math.log(rate)
        return _shift(known, found, limit)
    labels = np.array([n.labels for n in known], dtype=np.float64)
    healthy = perfect - reference.value - single
    shape = shapes(labels, healthy, reference)
    measured = (healthy / reference.error) ** 2 if relative and reference.error > 0 else _WIDEST
    caution = 0.0 if relative else CAUTION * reference.error
    counted = perfect > 0
    found = evidence_of(losses, shape, bar, healthy, measured=measured, counted=counted)
    typical = float(np.median(shape)) if len(shape) else 1.0
    room = max(bar / (healthy + caution), 1.0)
    return _shift(known, found, limit_of(typical, room, rate, measured, counted=counted))


def fallen(
    nights: Sequence[Night],
    threshold: float,
    reference: Reference | None,
    *,
    false_alarms: float,
    perfect: float = 1.0,
    relative: bool = False,
    nights_per_year: float = 365.0,
) -> Shift:
    """The louder of two tests that share the rate of false alarms, with its own evidence and limit.

    :func:`fall` finds a fall of any size, :func:`nightshift.stats.shift` is faster where it is
    about as large as the distance from reference to threshold. Parameters as of :func:`fall`.
    """
    rates = {"false_alarms": false_alarms / 2, "nights_per_year": nights_per_year}
    of_any_size = fall(nights, threshold, reference, perfect=perfect, relative=relative, **rates)
    if reference is None or reference.deviation <= 0:
        return of_any_size
    as_expected = sequential.shift(nights[-HORIZON:], threshold, reference, **rates)
    return max(of_any_size, as_expected, key=lambda test: test.evidence / test.limit)


def _shift(nights: Sequence[Night], found: Evidence, limit: float) -> Shift:
    since = None if found.start is None else nights[found.start].as_of
    return Shift(min(found.value, 1e9), limit, since)


def shapes(labels: Floats, healthy: float, reference: Reference) -> Floats:
    """The gamma shape of each night's mean loss while the model is healthy: mean^2 / variance.

    The variance of a row is drawn towards the squared mean, as of an exponential loss, by
    :data:`PRIOR_ROWS`; a tail heavier than the gamma's makes the shape smaller.

    Parameters
    ----------
    labels
        Of each night, shape (nights,).
    healthy
        The mean loss at the reference.
    """
    rows = max((reference.deviation / reference.error) ** 2, 1.0) if reference.error > 0 else 1e6
    by_row = (rows * reference.deviation**2 + PRIOR_ROWS * healthy**2) / (rows + PRIOR_ROWS)
    by_row *= 1 + 1 / math.sqrt(rows)  # a sample's variance lies below the true one more often
    shape = healthy**2 / (by_row / labels + reference.spread**2)
    skewness = max(-reference.skewness, 0.0) / np.sqrt(labels)
    heavier = np.maximum(skewness * np.sqrt(shape) / 2, 1.0)
    drawn: Floats = shape / heavier
    return drawn


def evidence_of(
    losses: Floats,
    shape: Floats,
    bar: float,
    healthy: float,
    *,
    measured: float = _WIDEST,
    counted: bool = False,
) -> Evidence:
    """The largest log-likelihood ratio of a stretch that ends with the latest night.

    Parameters
    ----------
    losses, shape
        Of each night, oldest first.
    bar, healthy
        The loss at the threshold and at the reference.
    measured
        The shape of the reference that the threshold is relative to: its mean^2 / variance.
    """
    if not len(losses):
        return Evidence(0.0, None)
    values = stretches(losses, shape, bar, healthy, measured, counted=counted)
    start = int(values.argmax())
    best = float(values[start])
    return Evidence(best, start) if best > 0 else Evidence(0.0, None)


def stretches(
    losses: Floats,
    shape: Any,
    bar: Any,
    healthy: Any,
    measured: Any = _WIDEST,
    *,
    counted: bool = False,
) -> Floats:
    """For each night the log-likelihood ratio of the stretch from it to the last; along axis -1."""
    weights = np.broadcast_to(shape, losses.shape)
    total = np.cumsum((weights * losses)[..., ::-1], axis=-1)[..., ::-1]
    size = np.cumsum(weights[..., ::-1], axis=-1)[..., ::-1]
    at_bar = size * (np.maximum(bar / healthy, 1.0) if counted else 1.0)
    return deviance(total / size / bar, at_bar, measured, counted=counted)


def deviance(ratio: Any, size: Any, measured: Any = _WIDEST, *, counted: bool = False) -> Floats:
    """The log-likelihood ratio of a mean ``ratio`` times its bar; 0 up to the bar.

    ``size`` and ``measured`` are mean^2 / variance, of the stretch at its bar and of the reference
    that the bar is relative to (infinite where the bar is known): with it, a two-sample ratio
    whose common mean is in units of the measured one.

    Parameters
    ----------
    counted
        Whether losses are counts (Poisson) rather than amounts (gamma).
    """
    ratio = np.maximum(np.asarray(ratio, dtype=np.float64), 1.0)
    log = np.log(ratio)
    share = size / (size + measured)
    common = np.log1p(share * (ratio - 1))
    if counted:
        one, two = size * (ratio * (log - 1) + 1), size * ratio * (log - common) - measured * common
    else:
        one, two = size * (ratio - 1 - log), size * (common - log) + measured * common
    known: Floats = np.where(np.asarray(measured) >= _WIDEST, one, np.maximum(two, 0.0))
    return known


def limit_of(
    shape: float, room: float, rate: float, measured: float = _WIDEST, *, counted: bool = False
) -> float:
    """The evidence that a model at its reference reaches ``rate`` times a night.

    Parameters
    ----------
    shape
        The gamma shape of a night, see :func:`shapes`.
    room
        The loss at the threshold over that at the reference; at least 1.
    """
    rounded = (float(f"{value:.3g}") for value in (shape, room, rate, measured))
    return _limit_of(*rounded, counted)


@lru_cache(maxsize=8192)
def _limit_of(shape: float, room: float, rate: float, measured: float, counted: bool) -> float:
    rates = alarms_a_night(_LIMITS, shape, room, measured, counted=counted)
    if rates[0] <= rate:
        return LEAST_EVIDENCE
    logs = np.log(np.maximum(rates, 1e-300))
    return float(np.interp(-math.log(rate), -logs, _LIMITS))


def alarms_a_night(
    limits: Floats, shape: float, room: float, measured: float = _WIDEST, *, counted: bool = False
) -> Floats:
    """How many clumps of stretches reach each limit a night while the model is at its reference.

    A stretch of n nights reaches it where its mean lies b standard errors above the reference, b
    the signed root of the deviance. Clumps are counted by their peak: neither end can be moved
    for more evidence. A walk of drift -d never rises with probability sqrt(2) d sqrt(nu(2 d)), and
    lengthening a stretch has the drift of the boundary, shortening it what the mean exceeds that
    by; of either there are two ends. At the bar itself this is half of the two-sided formula of
    Siegmund and Venkatraman (1995).
    """
    count = _COUNTS
    size = count * shape
    at_bar = size * (room if counted else 1.0)
    limit = limits[:, None]
    low, high = np.zeros((len(limits), len(count))), np.full((len(limits), len(count)), 40.0)
    for _ in range(36):
        middle = (low + high) / 2
        below = deviance(np.exp(middle), at_bar, measured, counted=counted) < limit
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    reach = np.sqrt(2 * deviance(np.exp(high) * room, size, measured, counted=counted))
    drift = reach / np.sqrt(count)
    boundary = np.clip(np.gradient(reach * np.sqrt(count), count, axis=1), 1e-9, drift - 1e-9)
    density = np.exp(-(reach**2) / 2) / math.sqrt(2 * math.pi) / np.sqrt(count) / drift
    inner = drift - boundary
    peaks = density * 4 * boundary**2 * inner**2 * _nu(2 * boundary) * _nu(2 * inner)
    single = ndtr(-reach)
    later = np.minimum(peaks, single)[:, 1:]
    widths = np.diff(count[1:])
    between = ((later[:, 1:] + later[:, :-1]) / 2 * (widths - 1) + later[:, 1:]).sum(axis=1)
    rates: Floats = single[:, 0] + later[:, 0] + between
    return rates


def _nu(x: Floats) -> Floats:
    """The overshoot of a normal walk [3]_."""
    half = np.maximum(x / 2, 1e-9)
    density = np.exp(-(half**2) / 2) / math.sqrt(2 * math.pi)
    value: Floats = (ndtr(half) - 0.5) / half / (half * ndtr(half) + density)
    return value


def bets(losses: Floats, bar: float) -> Evidence:
    """The logarithm of an e-detector for a mean loss above ``bar``, of losses that are at least 0.

    A Shiryaev-Roberts sum over the nights on which betting may have begun, mixed over
    :data:`STAKES`: while the mean of each night, given those before, is at most the bar, it
    reaches 1 / rate no more than ``rate`` times a night, whatever the distribution [4]_.
    """
    if not len(losses):
        return Evidence(0.0, None)
    stakes = np.array(STAKES)[:, None]
    gains = np.log1p(stakes * (np.maximum(losses, 0.0) / bar - 1))
    wealth = np.cumsum(gains[:, ::-1], axis=1)[:, ::-1]
    by_start = logsumexp(wealth, axis=0) - math.log(len(STAKES))
    value = float(logsumexp(by_start))
    start = int(by_start.argmax())
    return Evidence(max(value, 0.0), start if by_start[start] > 0 else None)
