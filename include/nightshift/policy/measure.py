"""What a model is held to: its reference in comparable conditions, drawn to those of others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEWEST_ROWS = 5.0
"""A night with fewer rows says nothing of how hard it is: its own constant guess is all but it."""

SURE = 2.0

LARGEST_EXCUSE = 2.0
"""Conditions excuse, and accuse, by no more than this factor."""


def hardness(guess: Floats, labels: Floats, at_reference: float | None) -> float:
    """How much harder nights are than those of the reference; 1 where that cannot be told.

    Only what is sure counts: the logarithm is drawn towards 0 by :data:`SURE` standard errors, so
    that the luck of a few nights neither excuses nor accuses.

    Parameters
    ----------
    guess
        By night, what the night's own constant guess falls short of perfection: how far its rows
        lie apart, whatever the model says. A break that moves all rows alike leaves it as it is.
    labels
        Of each night.
    at_reference
        The mean of ``guess`` over the nights of the reference.
    """
    known = np.isfinite(guess) & (labels >= FEWEST_ROWS)
    if at_reference is None or at_reference <= 0 or known.sum() < 3:
        return 1.0
    own = guess[known]
    now = float(np.average(own, weights=labels[known]))
    if now <= 0:
        return 1.0
    error = float(own.std(ddof=1)) / now / np.sqrt(len(own))
    moved = np.log(now / at_reference)
    sure = np.sign(moved) * max(abs(moved) - SURE * error, 0.0)
    return float(np.clip(np.exp(sure), 1 / LARGEST_EXCUSE, LARGEST_EXCUSE))


def shrunk(values: Floats, errors: Floats) -> Floats:
    """What members were worth, each drawn towards their mean by as much as its own rows are few.

    The empirical Bayes estimate of normal means [1]_; a member without a value has the mean.

    .. [1] Efron, Morris (1975), "Data analysis using Stein's estimator and its generalizations",
       Journal of the American Statistical Association 70.
    """
    known = np.isfinite(values) & np.isfinite(errors)
    if known.sum() < 3:
        return values
    mean = float(values[known].mean())
    between = max(float(values[known].var(ddof=1) - (errors[known] ** 2).mean()), 0.0)
    weight = between / (between + errors[known] ** 2 + 1e-300)
    drawn: Floats = np.full_like(values, mean)
    drawn[known] = mean + weight * (values[known] - mean)
    return drawn
