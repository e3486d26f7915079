"""``make bench-decide``: what the default rules promise, counted in simulations.

Falls of unknown size (:mod:`nightshift.stats.falls`) of models whose losses are normal or Laplace
errors, or counts; the reference is measured on the nights of a holdout, as a promotion stores it.
Beside the delay stands Page's CUSUM that knows both distributions, tuned to the same rate of false
alarms. Then the gate (:mod:`nightshift.policy.gate`): who gets through, that should not. Seeded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from nightshift.documents import Reference
from nightshift.policy import gate
from nightshift.stats import falls, spread_of

from .figures import Figure, figure, share, tell

Floats = NDArray[np.float64]

FALSE_ALARMS, YEAR, HOLDOUT, PATIENCE = 0.05, 365, 14, 120
YEARS, FALLS, TUNING = 1000, 1000, 4000
ROOM = 1.1
"""``max_drop: {fraction: 0.1}``."""
TOLERANCE, GATE_TIMES, GATE_NIGHTS, LOOKS = 0.2, 3000, 14, 28


@dataclass(frozen=True)
class World:
    """Nights of one model: the law of a row's loss, whose healthy mean is 1, and rows a night."""

    law: str
    rows: int
    dependence: float = 0.0

    def draw(self, random: np.random.Generator, size: int, nights: int, level: float) -> Floats:
        """The losses of rows, shape (size, nights, rows); of counts their mean is enough."""
        shape = (size, nights, self.rows)
        if self.law == "counts":
            return random.binomial(self.rows, level, (size, nights, 1)) / self.rows
        rows = random.normal(size=shape) if self.law == "normal" else random.laplace(size=shape)
        rows = np.abs(rows) * (math.sqrt(math.pi / 2) if self.law == "normal" else 1.0)
        if self.dependence:
            luck = random.normal(0, 0.1 * math.sqrt(1 - self.dependence**2), (size, nights + 30))
            rows *= np.exp(lfilter([1.0], [1.0, -self.dependence], luck))[:, 30:, None]
        drawn: Floats = rows * level
        return drawn

    def ratio(self, rows: Floats, before: float, after: float) -> Floats:
        """The log-likelihood ratio of nights after a fall against before it."""
        if self.law == "counts":
            wrong, right = math.log(after / before), math.log((1 - after) / (1 - before))
            each = self.rows * (rows * wrong + (1 - rows) * right)
        elif self.law == "normal":
            each = math.log(before / after) + rows**2 / math.pi * (before**-2 - after**-2)
        else:
            each = math.log(before / after) + rows * (1 / before - 1 / after)
        total: Floats = each.sum(axis=2)
        return total


@dataclass(frozen=True)
class Judges:
    """What promotions have stored, and the limits that follow, one for each simulated model."""

    shape: Floats
    bar: Floats
    healthy: Floats
    limit: Floats
    counted: bool

    def first(self, nights: Floats, start: int = 0) -> Floats:
        """On which night each model is accused, counted from ``start``; infinite where never."""
        found = np.full(len(nights), np.inf)
        for night in range(start, nights.shape[1]):
            left = np.flatnonzero(np.isinf(found))
            seen = nights[left, max(0, night - falls.HORIZON + 1) : night + 1]
            evidence = falls.stretches(
                seen,
                self.shape[left, None],
                self.bar[left, None],
                self.healthy[left, None],
                counted=self.counted,
            ).max(axis=1)
            found[left[evidence >= self.limit[left]]] = night - start
        return found


def judges(
    world: World, random: np.random.Generator, size: int, level: float, bar: float
) -> Judges:
    """References measured on a holdout, and what follows from them for a known threshold."""
    counted = world.law == "counts"
    stored = [_reference(rows, world) for rows in world.draw(random, size, HOLDOUT, level)]
    healthy = np.array([-reference.value for reference in stored])
    labels = np.array([float(world.rows)])
    shape = np.array([falls.shapes(labels, -reference.value, reference)[0] for reference in stored])
    limit = np.array(
        [
            falls.limit_of(
                k,
                max(bar / (-r.value + falls.CAUTION * r.error), 1.0),
                FALSE_ALARMS / YEAR,
                counted=counted,
            )
            for k, r in zip(shape, stored, strict=True)
        ]
    )
    return Judges(shape, np.full(size, bar), healthy, limit, counted)


def _reference(rows: Floats, world: World) -> Reference:
    nights, size, mean = len(rows), world.rows, float(rows.mean())
    counted = world.law == "counts"
    deviation = math.sqrt(mean * (1 - mean)) if counted else float(rows.std(ddof=1))
    means = rows.mean(axis=1)
    spread = spread_of(means, np.full(nights, float(size)), deviation) if size > 1 else 0.0
    error = float(means.std(ddof=1)) / math.sqrt(nights)
    return Reference(-mean, error, spread, deviation)


def optimum(world: World, before: float, after: float, rate: float) -> float:
    """The median delay of Page's CUSUM that knows both laws, at a rate of false alarms a year."""
    random = np.random.default_rng(3)
    worst = total = np.zeros(TUNING)
    for _ in range(YEAR):
        total = np.maximum(0, total + _step(world, random, TUNING, before, before, after))
        worst = np.maximum(worst, total)
    limit = np.quantile(worst, 1 - rate)
    total, delay = np.zeros(FALLS), np.full(FALLS, PATIENCE)
    for _ in range(HOLDOUT):
        total = np.maximum(0, total + _step(world, random, FALLS, before, before, after))
    total[total > limit] = 0
    for night in range(1, PATIENCE):
        total = np.maximum(0, total + _step(world, random, FALLS, after, before, after))
        delay = np.where((delay == PATIENCE) & (total >= limit), night, delay)
    return float(np.median(delay))


def _step(
    world: World, random: np.random.Generator, size: int, level: float, before: float, after: float
) -> Floats:
    return world.ratio(world.draw(random, size, 1, level), before, after)[:, 0]


def trigger(world: World, before: float, after: float, bar: float, most: float) -> list[Figure]:
    """False alarms of healthy years and the delay after a fall, beside the best there is."""
    random = np.random.default_rng(1)
    name = f"{world.law}, {world.rows} rows a night"
    healthy = judges(world, random, YEARS, before, bar)
    years = world.draw(random, YEARS, YEAR, before).mean(axis=2)
    alarms = int(np.isfinite(healthy.first(years)).sum())
    fallen = judges(world, random, FALLS, before, bar)
    nights = np.concatenate(
        [world.draw(random, FALLS, HOLDOUT, before), world.draw(random, FALLS, PATIENCE, after)],
        axis=1,
    ).mean(axis=2)
    delays = fallen.first(nights, HOLDOUT) + 1
    best = optimum(world, before, after, max(alarms / YEARS, 1 / YEARS))
    middle = float(np.median(delays))
    ratio = min(middle / best, most) if middle <= 2 else middle / best
    caught = int((delays <= 2).sum())
    return [
        share(f"{name}: false alarms a model-year", alarms, YEARS, at_most=FALSE_ALARMS),
        figure(
            f"{name}: median delay over the CUSUM's ({middle:g} to {best:g} nights)",
            [float(np.quantile(delays, q)) for q in (0.25, 0.75)],
            "ratio; quartiles in nights",
            at_most=most,
            value=ratio,
        ),
        share(
            f"{name}: caught by the second night",
            caught,
            FALLS,
            at_least=0.95 if (world.law, world.rows) == ("counts", 1500) else None,
        ),
    ]


def elsewhere(world: World, level: float, bar: float, what: str) -> Figure:
    """How often a year accuses where nothing is promised: told, not held."""
    random = np.random.default_rng(2)
    size = YEARS // 4
    judged = judges(world, random, size, 1.0, bar)
    nights = world.draw(random, size, YEAR, level).mean(axis=2)
    hits = int(np.isfinite(judged.first(nights)).sum())
    return share(f"{world.law}, {world.rows} rows a night, {what}: accused in a year", hits, size)


def gates() -> list[Figure]:
    """Challengers at the gate of a champion that is surely below its threshold, and in shadow."""
    worse = _gate(-TOLERANCE)
    equal = _gate(0.0)
    better = _gate(0.15)
    nights = f"{GATE_NIGHTS} nights, then up to {LOOKS} in shadow"
    return [
        share(f"worse by tolerance ({nights}): promoted", worse, GATE_TIMES, at_most=0.01),
        share(f"equal ({nights}): promoted", equal, GATE_TIMES),
        share(f"better by 15% ({nights}): promoted", better, GATE_TIMES),
    ]


def _gate(gain: float) -> int:
    random = np.random.default_rng(4)
    promoted = 0
    for _ in range(GATE_TIMES):
        gains = random.normal(gain, 0.25, GATE_NIGHTS + LOOKS)
        first = gate.judge(gains[:GATE_NIGHTS], 1.0, below=True, tolerance=TOLERANCE)
        looks = range(GATE_NIGHTS + 1, GATE_NIGHTS + LOOKS + 1) if first.kind == "shadow" else ()
        promoted += first.kind == "promote" or any(
            gate.look(gains[:n], 1.0, below=True, tolerance=TOLERANCE).kind == "promote"
            for n in looks
        )
    return promoted


def main() -> None:
    figures: list[Figure] = []
    for law in ("normal", "laplace"):
        for rows, most in ((1, 2.5), (2, 2.5), (24, 1.5)):
            figures += trigger(World(law, rows), 1.0, 2.0, ROOM, most)
    for rows in (200, 500, 1500):
        figures += trigger(World("counts", rows), 0.10, 0.15, 0.13, 2.5)
    told: tuple[tuple[World, float, str], ...] = (
        (World("laplace", 24, 0.5), 1.0, "nights by AR(1) of 0.5, at the reference"),
        (World("laplace", 1), ROOM, "at the threshold itself"),
        (World("laplace", 24), ROOM, "at the threshold itself"),
        (World("laplace", 24), (1 + ROOM) / 2, "half way to the threshold"),
    )
    figures += [elsewhere(world, level, ROOM, what) for world, level, what in told]
    figures += gates()
    tell("What the default rules promise", figures, "decide")


if __name__ == "__main__":
    main()
