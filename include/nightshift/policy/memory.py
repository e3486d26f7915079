"""Which champions of the past go on being scored, and when one of them serves again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nightshift.policy.gate import bound
from nightshift.stats import anytime

Floats = NDArray[np.float64]


def spaced(ages: Sequence[float], keep: int) -> list[int]:
    """The places of at most ``keep`` champions, the newest and others spaced geometrically.

    Parameters
    ----------
    ages
        How long ago each was trained, at least 0, in any order. Of champions equally near to a
        wanted age the older one is kept, so that an old one is not lost to its follower.
    """
    order = sorted(range(len(ages)), key=lambda place: ages[place])
    if len(order) <= keep:
        return order
    if keep <= 1:
        return order[:keep]
    first, last = max(ages[order[0]], 1.0), max(ages[order[-1]], 2.0)
    kept: list[int] = []
    for wanted in np.geomspace(first, last, keep):
        free = [place for place in order if place not in kept]
        kept.append(min(free, key=lambda p: (abs(np.log(max(ages[p], 1.0) / wanted)), -ages[p])))
    return kept


def returns(gains: Sequence[Floats], *, confidence: float = 0.95, once: bool = False) -> int | None:
    """The place of the past champion that is proven better than the one that serves; None if none.

    Parameters
    ----------
    gains
        For each past champion its metric less that of the serving one, by matured night since the
        latter was promoted; nights that either has learnt are left out.
    once
        Whether this is the only look (a bound), rather than one of many (an e-value).
    """
    best, place = 0.0, None
    level = 1 - (1 - confidence) / max(len(gains), 1)
    for number, gain in enumerate(gains):
        if not len(gain) or gain.mean() <= best:
            continue
        proven = bound(gain, level) > 0 if once else anytime(gain, confidence=level).proven
        if proven:
            best, place = float(gain.mean()), number
    return place
