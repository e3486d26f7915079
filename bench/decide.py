"""``make bench-decide``: what the default rules promise, counted in simulations.

Falls of unknown size (:mod:`nightshift.stats.falls`) of models whose losses are normal or Laplace
errors, or counts; the reference is measured on the nights of a holdout, as a promotion stores it.
Beside the delay stands Page's CUSUM that knows both distributions, tuned to the same rate of false
alarms. Then the gate (:mod:`nightshift.policy.gate`): who gets through, that should not; the memory
(:mod:`nightshift.policy.memory`): which champions of the past return; and what is learnt from where
labels come sooner for one class. Seeded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.signal import lfilter

from nightshift.documents import Reference
from nightshift.policy import gate, recollect
from nightshift.stats import falls, spread_of
from nightshift.training import Rows

from .figures import Figure, figure, share, tell

Floats = NDArray[np.float64]

FALSE_ALARMS, YEAR, HOLDOUT, PATIENCE = 0.05, 365, 14, 120
YEARS, FALLS, TUNING = 1000, 1000, 4000
ROOM = 1.1
"""``max_drop: {fraction: 0.1}``."""
TOLERANCE, GATE_TIMES, GATE_NIGHTS, LOOKS = 0.2, 3000, 14, 28
MEMORIES, TURN, WORSE, SEASON = 400, 200, 0.5, 1.0
"""How many years; from which night on a past champion is better; by how many deviations of a
night's gain it is worse before, and better then."""

RETRAINS, NIGHTS, SIZE, LATE_DAYS, MIN_COVERAGE = 200, 60, 200, 4.0, 0.9
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
_MOMENT = pa.timestamp("us", "UTC")


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
        first_night = np.full(len(nights), np.inf)
        for night in range(start, nights.shape[1]):
            unaccused = np.flatnonzero(np.isinf(first_night))
            recent = nights[unaccused, max(0, night - falls.HORIZON + 1) : night + 1]
            evidence = falls.stretches(
                recent,
                self.shape[unaccused, None],
                self.bar[unaccused, None],
                self.healthy[unaccused, None],
                counted=self.counted,
            ).max(axis=1)
            first_night[unaccused[evidence >= self.limit[unaccused]]] = night - start
        return first_night


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


def elsewhere(world: World, level: float, bar: float, case: str) -> Figure:
    """How often a year accuses where nothing is promised: told, not held."""
    random = np.random.default_rng(2)
    size = YEARS // 4
    judged = judges(world, random, size, 1.0, bar)
    nights = world.draw(random, size, YEAR, level).mean(axis=2)
    hits = int(np.isfinite(judged.first(nights)).sum())
    return share(f"{world.law}, {world.rows} rows a night, {case}: accused in a year", hits, size)


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


def memory() -> list[Figure]:
    """Champions of the past on the matured nights of a year, looked at every third night."""
    equal = [_returned(random_gains) for random_gains in _years(0.0)]
    worse = [_returned(random_gains) for random_gains in _years(-WORSE)]
    turned = [_returned(random_gains, TURN) for random_gains in _years(-WORSE, SEASON, TURN)]
    late = np.array([night - TURN for night in turned if night is not None and night > TURN])
    years = len(equal)
    return [
        share("memory, equal: returns in a year", _times(equal), years, at_most=0.05),
        share("memory, worse: returns in a year", _times(worse), years, at_most=0.05),
        share("memory, its season is back: returns", len(late), years, at_least=0.95),
        figure(
            "memory, its season is back: nights until it returns",
            [float(np.quantile(late, q)) for q in (0.25, 0.5, 0.75)],
            "nights; quartiles",
        ),
    ]


def _years(before: float, after: float = 0.0, turn: int = YEAR) -> list[Floats]:
    """Gains of a past champion by night, in units of their own deviation."""
    random = np.random.default_rng(5)
    level = np.where(np.arange(YEAR) < turn, before, after)
    return [random.normal(level, 1.0) for _ in range(MEMORIES)]


def _returned(gains: Floats, start: int = 0) -> int | None:
    """On which night the past champion serves again, looked at every third one; None if never."""
    for night in range(start + 3, YEAR + 1, 3):
        seen = gains[max(0, night - falls.HORIZON) : night]
        found = recollect([seen], confidence=0.95, nights_per_year=YEAR)
        if found is not None and found.proven:
            return night
    return None


def _times(returns: list[int | None]) -> int:
    return sum(night is not None for night in returns)


def half_arrived() -> list[Figure]:
    """Labels that come after a day for one class and four days later on average for the other.

    Versions are the best constant, learnt on 60 nights of 200 rows whose youngest are as old as
    ``labels.maturity``; half of the truths are ones.
    """
    figures: list[Figure] = []
    for maturity in (1, 16):
        random = np.random.default_rng(6)
        served, off, off_without = 0, [], []
        for _ in range(RETRAINS):
            known = _known(random, maturity)
            rows = _rows(known)
            whole = rows.complete(MIN_COVERAGE)
            off_without.append(abs(float(rows.value.mean()) - 0.5))
            if len(whole):
                coverage = min(labelled / size for labelled, size in whole.arrived.values())
                served += coverage < MIN_COVERAGE
                off.append(abs(float(whole.value.mean()) - 0.5))
        name = f"labels by class, judged after {maturity} days"
        figures += [
            share(f"{name}: learnt from half-arrived ones", served, RETRAINS, at_most=0.0),
            share(f"{name}: retrains that found nights to learn from", len(off), RETRAINS),
            figure(f"{name}: error of what is learnt", off or [0.0], "share of ones", at_most=0.02),
            figure(f"{name}: the same without the rule", off_without, "share of ones"),
        ]
    return figures


def _known(random: np.random.Generator, maturity: int) -> Floats:
    """Known zeros and ones of each night, shape (nights, 2): the ones come late."""
    age = np.arange(NIGHTS, 0, -1) + maturity - 1
    ones = random.binomial(SIZE, 0.5, NIGHTS)
    late = random.binomial(ones, 1 - (1 - 1 / LATE_DAYS) ** (age - 1))
    return np.stack([SIZE - ones, late], axis=1).astype(np.float64)


def _rows(known: Floats) -> Rows:
    """The labelled rows of nights with so many known zeros and ones."""
    nights = [FIRST + timedelta(days=night) for night in range(NIGHTS)]
    counts = known.sum(axis=1).astype(int)
    moments = pa.array(np.repeat(np.array(nights, dtype=object), counts).tolist(), _MOMENT)
    value = np.concatenate([np.repeat([0.0, 1.0], night.astype(int)) for night in known])
    arrived = {night: (int(count), SIZE) for night, count in zip(nights, counts, strict=True)}
    return Rows(pa.table({"as_of": moments}), value, [], arrived=arrived)


def main() -> None:
    figures: list[Figure] = []
    for law in ("normal", "laplace"):
        for rows, most in ((1, 2.5), (2, 2.5), (24, 1.5)):
            figures += trigger(World(law, rows), 1.0, 2.0, ROOM, most)
    for rows in (200, 500, 1500):
        figures += trigger(World("counts", rows), 0.10, 0.15, 0.13, 2.5)
    elsewhere_worlds: tuple[tuple[World, float, str], ...] = (
        (World("laplace", 24, 0.5), 1.0, "nights by AR(1) of 0.5, at the reference"),
        (World("laplace", 1), ROOM, "at the threshold itself"),
        (World("laplace", 24), ROOM, "at the threshold itself"),
        (World("laplace", 24), (1 + ROOM) / 2, "half way to the threshold"),
    )
    figures += [elsewhere(world, level, ROOM, case) for world, level, case in elsewhere_worlds]
    figures += gates()
    figures += memory()
    figures += half_arrived()
    tell("What the default rules promise", figures, "decide")


if __name__ == "__main__":
    main()
