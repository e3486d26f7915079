"""The laboratory: versions fitted once at their cutoffs, and what each was worth on every night.

A version is named by the last night it has learnt from and by how many nights it has; it is fitted
when it is first asked for, scores every later row once, and is kept. On that matrix any policy is
lived in seconds (:mod:`bench.decide`).
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Fit = Callable[[Any, Floats], Callable[[Any], Floats]]
"""Rows and truths in, a function that scores rows out."""


@dataclass(frozen=True)
class Key:
    """A version: of which member, learnt from (``end`` - ``length``, ``end``]."""

    member: int
    end: int
    length: int

    @property
    def start(self) -> int:
        """The last night before those that it has learnt from."""
        return self.end - self.length


@dataclass
class Nightly:
    """The loss of a version on each night: sums by night, NaN where it has learnt or has no row."""

    mean: Floats
    square: Floats


@dataclass
class Matrix:
    """Labelled rows by night and member, and the losses of the versions fitted so far.

    Parameters
    ----------
    rows
        Anything that ``fit`` takes and that can be indexed by an array of places.
    truth, night, member
        Of each row; nights and members are numbered from 0.
    loss
        Of each row, from truth and score; 0 is perfect.
    """

    rows: Any
    truth: Floats
    night: NDArray[np.int64]
    member: NDArray[np.int64]
    fit: Fit
    loss: Callable[[Floats, Floats], Floats]
    perfect: float = 0.0
    least: int = 2
    known: dict[Key, Nightly] = field(default_factory=dict)
    fits: int = 0

    def __post_init__(self) -> None:
        self.nights = int(self.night.max()) + 1
        self.members = int(self.member.max()) + 1
        self.places = [np.flatnonzero(self.member == m) for m in range(self.members)]
        self.counts = np.stack(
            [np.bincount(self.night[p], minlength=self.nights) for p in self.places]
        )
        self.dispersion = np.stack([self._dispersion(p) for p in self.places])

    def version(self, member: int, end: int, length: int) -> Key | None:
        """The version of these nights, fitted now if it was not before; None on too few rows."""
        key = Key(member, end, length)
        if key in self.known:
            return key
        own = self.places[member]
        nights = self.night[own]
        learnt = own[(nights > key.start) & (nights <= end)]
        if len(learnt) < self.least:
            return None
        later = own[nights > end]
        score = self.fit(self.rows[learnt], self.truth[learnt])
        self.fits += 1
        losses = (
            self.loss(self.truth[later], score(self.rows[later])) if len(later) else np.empty(0)
        )
        self.known[key] = Nightly(*self._by_night(self.night[later], losses))
        return key

    def of(self, key: Key, first: int, last: int) -> Floats:
        """The mean losses of a version on the nights first..last; NaN where it has none."""
        return self.known[key].mean[max(first, 0) : last + 1]

    def squares(self, key: Key, first: int, last: int) -> Floats:
        """The mean squared losses of rows on the nights first..last."""
        return self.known[key].square[max(first, 0) : last + 1]

    def save(self, path: Path) -> None:
        """Keep the versions fitted so far."""
        path.write_bytes(pickle.dumps(self.known))

    def restore(self, path: Path) -> None:
        """Take up the versions kept before."""
        if path.exists():
            self.known = pickle.loads(path.read_bytes())  # noqa: TID251 - our own file

    def _by_night(self, nights: NDArray[np.int64], losses: Floats) -> tuple[Floats, Floats]:
        count = np.bincount(nights, minlength=self.nights).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.bincount(nights, losses, minlength=self.nights) / count
            square = np.bincount(nights, losses**2, minlength=self.nights) / count
        return mean, square

    def _dispersion(self, places: NDArray[np.int64]) -> Floats:
        """The loss of the night's own constant guess, what its conditions make hard."""
        found = np.full(self.nights, np.nan)
        for night in np.unique(self.night[places]):
            truth = self.truth[places[self.night[places] == night]]
            found[night] = self.loss(truth, np.full(len(truth), truth.mean())).mean()
        return found
