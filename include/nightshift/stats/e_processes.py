"""Evidence of paired nights that holds whenever it is looked at (e-processes).

.. [1] Lai (1976), "On confidence sequences", Annals of Statistics 4,
   https://doi.org/10.1214/aos/1176343406; Wang, Ramdas (2025), "Anytime-valid t-tests and
   confidence sequences for Gaussian means with unknown variance", Sequential Analysis 44,
   https://doi.org/10.48550/arXiv.2310.03722.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nightshift.stats.outcomes import Array

_MOST = 300.0
"""The logarithm of the largest e-value that is told apart."""


@dataclass(frozen=True)
class Evidence:
    """An e-value for a gain; once it reaches ``needed`` the gain is proven."""

    value: float
    needed: float

    @property
    def proven(self) -> bool:
        """Whether there is as much as is needed, however often that was asked."""
        return self.value >= self.needed


def anytime(differences: Array, *, confidence: float) -> Evidence:
    """Whether differences are above zero on average; it may be asked after every one of them.

    A test that is made once and asked every night finds a difference where there is none sooner or
    later. Here the chance of ever finding one is about 1 - ``confidence``, however often it is
    asked: see :func:`e_values`. Both signs are bet on and only the good one counts, which is why
    half of 1 / (1 - ``confidence``) is needed.
    """
    evidence = e_values(np.asarray(differences, dtype=np.float64))
    return Evidence(float(evidence[-1]) if len(evidence) else 0.0, 1 / (2 * (1 - confidence)))


def e_values(differences: Array) -> Array:
    """The evidence for a mean above zero after each of the differences, along the last axis.

    The t-test's likelihood ratio, mixed over effect sizes with a standard normal: a martingale for
    normal differences around zero of whatever variance, to whoever sees their ratios only [1]_. It
    is 0 where the sum is not above zero, and after the first difference, which says nothing of the
    variance.
    """
    largest = np.abs(differences).max(axis=-1, initial=0.0, keepdims=True)
    # Only ratios count: in units of the largest, no square is too large or too small for a float.
    differences = differences / np.where(largest > 0, largest, 1.0)
    count = np.arange(1, differences.shape[-1] + 1)
    total, squares = np.cumsum(differences, axis=-1), np.cumsum(differences**2, axis=-1)
    positive = (total > 0) & (squares > 0) & (count > 1)
    spread = np.where(positive, (count + 1) * squares, 2.0)
    left = np.where(positive, spread - total**2, 1.0)
    log = (count * np.log(spread / left) - np.log(count + 1)) / 2
    return np.where(positive, np.exp(np.minimum(log, _MOST)), 0.0)
