"""Which champions of the past go on being scored, and when one of them serves again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nightshift.stats import e_values

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Recollection:
    """What nights say of a past champion against the one that serves.

    ``place`` is that of the past champion, ``gain`` its mean gain over the nights that speak
    loudest for it, which are the last ``nights``.
    """

    place: int
    gain: float
    nights: int
    evidence: float
    needed: float

    @property
    def proven(self) -> bool:
        """Whether there is as much evidence as is needed, however often it was looked at."""
        return self.evidence >= self.needed


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


def recollect(
    gains: Sequence[Floats], *, confidence: float, nights_per_year: float
) -> Recollection | None:
    """The past champion that nights speak loudest for; None where they speak for none.

    The evidence is a Shiryaev-Roberts sum [1]_ of :func:`nightshift.stats.e_values` over the nights
    on which the past champion may have become the better one: a season turns without notice. Of
    champions that are as good as the serving one so much comes together in a model-year with a
    chance of about 1 - ``confidence``, whichever of them and however often it is looked at.

    .. [1] Shin, Ramdas, Rinaldo (2024), "E-detectors: a nonparametric framework for sequential
       change detection", New England Journal of Statistics in Data Science 2.

    Parameters
    ----------
    gains
        For each past champion its metric less that of the serving one, by matured night since the
        latter was promoted, oldest first; nights that either has learnt are left out.
    """
    best = None
    needed = nights_per_year * max(len(gains), 1) / (2 * (1 - confidence))
    for place, gain in enumerate(gains):
        if not len(gain):
            continue
        latest_first = gain[::-1]
        by_length = e_values(latest_first)
        evidence, length = float(by_length.sum()), int(by_length.argmax()) + 1
        if evidence > 0 and (best is None or evidence > best.evidence):
            mean = float(latest_first[:length].mean())
            best = Recollection(place, mean, length, evidence, needed)
    return best
