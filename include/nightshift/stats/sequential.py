"""Has the true level of a metric fallen below its threshold? A sequential test over nights.

A window-limited CUSUM [1]_ [2]_ whose allowance is the threshold: each night adds its
log-likelihood ratio of two levels that lie equally far on either side of the threshold, the upper
one being what the model was worth when it was promoted. The largest sum over a stretch that ends
with the latest night is the evidence. It needs no state, so any past day can be told again.

The limit follows from how often a model that is as good as at its promotion may alarm, by
Siegmund's formula for the average run length [3]_, widened where bad nights reach further than a
normal distribution has them.

.. [1] Page (1954), "Continuous inspection schemes", Biometrika 41.
.. [2] Lai (1998), "Information bounds and quick detection of parameter changes in stochastic
   systems", IEEE Transactions on Information Theory 44.
.. [3] Siegmund (1985), "Sequential Analysis", Springer, section II.6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from nightshift.documents import Reference, Shift
from nightshift.records import Night

OVERSHOOT = 1.166
"""By how many standard errors a sum of nights oversteps its limit and its floor together."""

CAUTION = 1.0
"""By how many of its standard errors a reference is taken lower than it was measured."""

LEAST_GAP = 0.25
"""In standard errors of a night: a reference nearer to the threshold counts as so far above it."""

LEAST_LIMIT = 0.5
"""In standard errors of a night: however large the nights, the level must lie below by as much."""

LARGEST_GAP = 8.0

MOST = 1e9
"""The evidence that is told at most, of a night and of all together."""


def shift(
    nights: Sequence[Night],
    threshold: float,
    reference: Reference | None,
    *,
    false_alarms: float,
    nights_per_year: float = 365.0,
) -> Shift:
    """What a champion's matured nights say against its threshold.

    Parameters
    ----------
    nights
        Oldest first; those without a value are passed over.
    reference
        What the champion was worth when it was promoted. Without one, or with one that lies below
        the threshold, the nights must lie below the threshold for longer.
    false_alarms
        How many alarms a model-year may bring while the model is as good as its reference, 0 to 1.

    Returns
    -------
    Shift
        ``evidence`` and ``limit`` are log-likelihood ratios; ``detected`` where the first reaches
        the second.
    """
    told = [
        (night.as_of, night.value, night.error or 0.0, night.labels)
        for night in nights
        if night.value is not None and night.labels > 0
    ]
    run_length = nights_per_year / false_alarms
    if not told:
        return Shift(0.0, math.log(run_length), None)
    errors = _errors([night[1:] for night in told], reference)
    typical = math.hypot(*errors) / math.sqrt(len(errors))
    gap = reference.value - CAUTION * reference.error - threshold if reference is not None else 0.0
    scale = max(typical, abs(threshold) * 1e-9, 1e-100, gap / LARGEST_GAP)
    gap = max(gap, LEAST_GAP * scale)
    evidence, since, total = 0.0, None, 0.0
    level = threshold + (reference.single if reference is not None else 0.0)
    for (as_of, value, _, _), error in zip(reversed(told), reversed(errors), strict=True):
        unit = max(error, scale / 4)
        total += min(max(2 * (gap / unit) * ((level - value) / unit), -MOST), MOST)
        if total > evidence:
            evidence, since = total, as_of
    skewness = reference.skewness if reference is not None else 0.0
    tail = max(-skewness, 0.0) / math.sqrt(sum(labels for _, _, _, labels in told) / len(told))
    limit = _limit(round(gap / scale, 3), round(tail, 3), run_length)
    return Shift(min(evidence, MOST), limit, since)


def _errors(nights: Sequence[tuple[float, float, int]], reference: Reference | None) -> list[float]:
    """The standard error of each night while the model is healthy.

    Of the reference where there is one, for a night's own variance goes with its value: a night
    without a mistake has none. Else pooled over the nights.
    """
    if reference is not None and reference.deviation > 0:
        by_row = reference.deviation
    else:
        rows = sum(labels for _, _, labels in nights)
        by_row = math.hypot(*(error * labels for _, error, labels in nights)) / math.sqrt(rows)
    spread = reference.spread if reference is not None else 0.0
    return [math.hypot(by_row / math.sqrt(labels), spread) for _, _, labels in nights]


@lru_cache(maxsize=4096)
def _limit(gap: float, tail: float, run_length: float) -> float:
    """The log-likelihood ratio that a healthy model reaches once in ``run_length`` nights.

    Parameters
    ----------
    gap
        How far the reference lies above the threshold, in standard errors of a night.
    tail
        The skewness of a night towards bad values. Where rows are few, bad nights are commoner than
        a normal distribution has them; the limit is moved by the Cornish-Fisher expansion.
    """
    target = 2 * gap**2 * run_length

    def missing(height: float) -> float:
        return math.expm1(height) - height - target

    from scipy.optimize import brentq

    height = float(brentq(missing, 0.0, math.log(target + 10) + 5))
    reach = max(height / (2 * gap) - OVERSHOOT, LEAST_LIMIT)
    reach += tail * max((gap + reach) ** 2 - 1, 0.0) / 6
    return 2 * gap * reach
