"""Whether a challenger may serve: one candidate, tested at the full level, nights as units.

A champion at its threshold has the benefit of the doubt: a challenger must prove that it is better.
A champion that is surely below its threshold has lost it: a challenger that is better on average,
and surely not worse by ``tolerance``, serves. What is better but not proven goes on in shadow, and
takes its evidence along.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from nightshift.stats import anytime

Floats = NDArray[np.float64]

SURE_NOT_WORSE = 0.995
"""Confidence that it is not worse by the tolerance; gate and shadow spend 1% together."""

FEWEST = 4
"""With fewer nights nothing is proven."""


@dataclass(frozen=True)
class Ruling:
    """What becomes of a challenger, by which rule, and its mean gain with the lower bound."""

    kind: Literal["promote", "shadow", "reject"]
    rule: str
    gain: float
    low: float


def bound(gains: Floats, confidence: float) -> float:
    """The one-sided lower bound of the mean gain of nights, by Student's t.

    One degree of freedom fewer than nights have, as :mod:`nightshift.stats` takes it.
    """
    count = len(gains)
    if count < max(FEWEST, 3):
        return -math.inf
    error = float(gains.std(ddof=1)) / math.sqrt(count)
    return float(gains.mean()) - float(stdtrit(count - 2, confidence)) * error


def judge(
    gains: Floats,
    champion: float,
    *,
    below: bool,
    confidence: float = 0.95,
    tolerance: float = 0.2,
    margin: float = 0.0,
    paired: tuple[float, float] | None = None,
) -> Ruling:
    """The first look at a challenger, on the holdout.

    Parameters
    ----------
    gains
        The challenger's metric less the champion's, by night.
    champion
        What the champion falls short of perfection on the same nights.
    below
        Whether the champion is surely below its threshold.
    tolerance
        A share of ``champion``: being worse by so much is what a promotion must exclude.
    paired
        The gain of all rows together with its bound, where they are told; nights of more rows count
        for more in it.
    """
    gain = float(gains.mean()) if len(gains) else 0.0
    low = bound(gains, confidence)
    if paired is not None:
        gain, low = paired
    if low > margin:
        return Ruling("promote", "proof", gain, low)
    if below and gain > margin and bound(gains, SURE_NOT_WORSE) > -tolerance * champion:
        return Ruling("promote", "not_worse", gain, low)
    if gain > margin:
        return Ruling("shadow", "unproven", gain, low)
    return Ruling("reject", "no_better", gain, low)


def look(
    gains: Floats,
    champion: float,
    *,
    below: bool,
    confidence: float = 0.95,
    tolerance: float = 0.2,
    margin: float = 0.0,
) -> Ruling:
    """A later look at the same challenger in shadow; may be asked every night.

    ``gains`` are those of the holdout and of all matured nights since: the evidence goes along. The
    test is :func:`nightshift.stats.anytime`.
    """
    gain = float(gains.mean()) if len(gains) else 0.0
    low = bound(gains, confidence)
    if anytime(gains - margin, confidence=confidence).proven:
        return Ruling("promote", "proof", gain, low)
    spared = anytime(gains + tolerance * champion, confidence=SURE_NOT_WORSE).proven
    if below and gain > margin and spared:
        return Ruling("promote", "not_worse", gain, low)
    return Ruling("shadow", "unproven", gain, low)


def select(gains: Sequence[Floats]) -> int:
    """The place of the best of several candidates, by nights before the holdout.

    The one that is chosen is then tested at the full level on nights that did not choose it. Who
    has no nights is not chosen, and of equals the first is.
    """
    means = [float(gain.mean()) if len(gain) else -math.inf for gain in gains]
    return int(np.argmax(means))
