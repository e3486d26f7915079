"""What a model is held to: its reference in comparable conditions, and never less than before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEWEST_ROWS = 5.0
"""A night with fewer rows says nothing of how hard it is: its own constant guess is all but it."""

LARGEST_EXCUSE = 2.0
"""Conditions excuse, and accuse, by no more than this factor."""


def hardness(guess: Floats, labels: Floats, at_reference: float | None) -> float:
    """How much harder nights are than those of the reference; 1 where that cannot be told.

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
    if at_reference is None or at_reference <= 0 or not known.any():
        return 1.0
    now = float(np.average(guess[known], weights=labels[known]))
    return float(np.clip(now / at_reference, 1 / LARGEST_EXCUSE, LARGEST_EXCUSE))


def never_looser(bar: float, before: float | None, *, breached: bool) -> float:
    """The loss that a new champion may have: after a breach no more than its predecessor might.

    Both are in the conditions of the same reference, see :func:`hardness`.
    """
    return bar if before is None or not breached else min(bar, before)
