"""What a model is held to: its reference in comparable conditions, and never less than before."""

from __future__ import annotations

import math
from collections.abc import Sequence

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


def bar_of(
    loss: float, error: float, drop: float, before: float | None, *, breached: bool
) -> float:
    """The loss at a relative threshold: ``1 + drop`` times that of the reference.

    After a breach it is no more than the predecessor's, and less only by what is sure: the lower
    of many measured references is lower by luck, and would be held against an attainable level.

    Parameters
    ----------
    loss, error
        The reference and its standard error.
    before
        The predecessor's bar, in the conditions of this reference (see :func:`hardness`).
    """
    if before is None or not breached:
        return loss * (1 + drop)
    return min(before, (loss + error) * (1 + drop))


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


def pooled_shape(losses: Sequence[Floats]) -> float:
    """The gamma shape of single nights, from all members of a group: mean^2 / variance of each.

    A member's own few nights do not tell how much its nights vary; those of a hundred members do.
    The squared coefficients of variation are averaged, see :func:`nightshift.stats.falls.shapes`.

    Parameters
    ----------
    losses
        For each member its nightly losses at its reference, at least two of them and above zero.
    """
    squares = [
        float(own.var(ddof=1) / own.mean() ** 2)
        for own in losses
        if len(own) > 1 and own.mean() > 0
    ]
    count = sum(len(own) for own in losses)
    if not squares:
        return 1.0
    caution = 1 + 1 / math.sqrt(max(count, 1))
    return 1 / max(float(np.mean(squares)) * caution, 1e-12)
