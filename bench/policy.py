"""``make bench-policy``: how soon a fall is caught, and how often a healthy model is accused.

One classifier, judged by accuracy, with so many labels a night. Its level is 0.90; after a fall it
is 0.85. The threshold is 0.87, or 0.03 below a reference that is itself measured on the fourteen
nights before its promotion. Every verdict is that of what ``model.yaml`` has by default:
:func:`nightshift.stats.fallen` on all nights since the promotion, or a breach over a whole window
of seven. Seeded, so that every run prints the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
from scipy.stats import norm

from nightshift.documents import Reference
from nightshift.records import Night
from nightshift.stats import HORIZON, fallen, spread_of

from .figures import Figure, figure, share, tell

SIZES = (200, 500, 1500)
HEALTHY, FALLEN, THRESHOLD, MAX_DROP = 0.90, 0.85, 0.87, 0.03
FALSE_ALARMS = 0.05
WINDOW, HOLDOUT = 7, 14
YEAR = 365
YEARS, FALLS = 2000, 4000
PATIENCE = 60
TUNING_YEARS = 20_000

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = [FIRST + timedelta(days=day) for day in range(YEAR + 1)]

# Of the class that is harder to tell the label is there the next day, of the other after four days
# on average: whoever judges at once sees mostly the harder one.
RECALLS = (0.95, 0.85)
FALLEN_RECALLS = (0.90, 0.80)
LATE_DAYS = 4.0
RIPE = 16

Series = tuple[np.ndarray, np.ndarray]
Rule = Callable[[np.ndarray, np.ndarray, Reference, int], bool]


def main() -> None:
    with ProcessPoolExecutor(2) as pool:
        parts = list(pool.map(_figures, SIZES))
    figures = [figure for part in parts for figure in part]
    tell("How soon a fall from 0.90 to 0.85 is caught", figures, "policy")


def _figures(size: int) -> list[Figure]:
    found: list[Figure] = []
    for labels, source in (("", _prompt), (", late labels", _late)):
        found += _judged(f"{size} labels a night{labels}", partial(source, size), size)
    return found


def _judged(name: str, nights: Callable[..., Series], size: int) -> list[Figure]:
    """Every figure of one kind of label: the shipped rule, and others beside it."""
    alarms = _alarms(nights, _shipped, YEARS)
    delays = _delays(nights, _shipped)
    optimum = _optimum(size, max(alarms / YEARS, 1 / YEARS))
    typical = f"{np.median(delays):g} to {np.median(optimum):g}; quartiles in nights"
    figures = [
        share(f"{name}: false alarms a model-year", alarms, YEARS, at_most=FALSE_ALARMS),
        figure(
            f"{name}: median nights to catch a fall, over the tuned CUSUM's",
            _quartiles(delays),
            f"ratio ({typical})",
            at_most=1.5,
            value=float(np.median(delays) / np.median(optimum)),
        ),
        share(
            f"{name}: caught within maturity + 1 day",
            int((delays <= 2).sum()),
            FALLS,
            at_least=0.95 if size == max(SIZES) else None,
        ),
    ]
    others: list[tuple[str, Rule]] = [
        ("max_drop on a measured reference", _relative),
        ("2 of 3 windows breached", _counted),
    ]
    for label, rule in others:
        bar = FALSE_ALARMS if rule is _relative else None
        found = _alarms(nights, rule, YEARS // 4)
        figures.append(share(f"{name}: false alarms, {label}", found, YEARS // 4, at_most=bar))
        nights_taken = _quartiles(_delays(nights, rule)[: FALLS // 4])
        figures.append(figure(f"{name}: median nights, {label}", nights_taken, "nights"))
    if nights.func is _late:  # type: ignore[attr-defined]
        hasty = _alarms(partial(_unripe, size), _shipped, YEARS // 4, judged_by=nights)
        figures.append(share(f"{name}: false alarms when judged at once", hasty, YEARS // 4))
    return figures


def _quartiles(delays: np.ndarray) -> list[float]:
    """The lower quartile, the median and the upper one."""
    return [float(np.quantile(delays, at)) for at in (0.25, 0.5, 0.75)]


def _prompt(size: int, random: np.random.Generator, nights: int, fallen_from: int) -> Series:
    """Correct predictions and labels of each night, when every label is there."""
    level = np.where(np.arange(nights) < fallen_from, HEALTHY, FALLEN)
    return random.binomial(size, level), np.full(nights, size)


def _late(size: int, random: np.random.Generator, nights: int, fallen_from: int) -> Series:
    """The same of nights that are as old as ``labels.maturity``, P16D."""
    return _by_class(size, random, nights, fallen_from, np.full(nights, RIPE))


def _unripe(size: int, random: np.random.Generator, nights: int, fallen_from: int) -> Series:
    """The same of nights that are judged on the labels of the next day."""
    return _by_class(size, random, nights, fallen_from, np.full(nights, 1))


def _by_class(
    size: int, random: np.random.Generator, nights: int, fallen_from: int, age: np.ndarray
) -> Series:
    fallen = np.arange(nights) >= fallen_from
    soon = random.binomial(size, 0.5, nights)
    known = random.binomial(size - soon, 1 - (1 - 1 / LATE_DAYS) ** age)
    right = [
        random.binomial(count, np.where(fallen, after, before))
        for count, before, after in zip((known, soon), RECALLS, FALLEN_RECALLS, strict=True)
    ]
    return right[0] + right[1], soon + known


def _shipped(right: np.ndarray, labels: np.ndarray, reference: Reference, night: int) -> bool:
    return _decided(right, labels, reference, night, THRESHOLD, relative=False)


def _relative(right: np.ndarray, labels: np.ndarray, reference: Reference, night: int) -> bool:
    threshold = reference.value - MAX_DROP
    return _decided(right, labels, reference, night, threshold, relative=True)


def _decided(
    right: np.ndarray,
    labels: np.ndarray,
    reference: Reference,
    night: int,
    threshold: float,
    *,
    relative: bool,
) -> bool:
    if night >= WINDOW - 1 and _breached(right, labels, night, threshold):
        return True
    seen = range(max(0, night - HORIZON + 1), night + 1)
    nights = [_night(day, int(right[day]), int(labels[day])) for day in seen]
    return fallen(
        nights, threshold, reference, false_alarms=FALSE_ALARMS, perfect=1.0, relative=relative
    ).detected


def _counted(right: np.ndarray, labels: np.ndarray, reference: Reference, night: int) -> bool:
    ends = range(night, max(night - 3, -1), -1)
    breached = [_breached(right, labels, end, THRESHOLD) for end in ends]
    return breached[0] and sum(breached) >= 2


def _breached(right: np.ndarray, labels: np.ndarray, end: int, threshold: float) -> bool:
    """Whether the whole 95% interval of the window that ends with a night is below a threshold."""
    window = slice(max(0, end - WINDOW + 1), end + 1)
    known = labels[window].sum()
    level = right[window].sum() / known
    error = math.sqrt(level * (1 - level) / known)
    return bool(level + norm.ppf(0.975) * error < threshold)


def _night(day: int, right: int, labels: int) -> Night:
    level = right / labels
    return Night(DAYS[day], labels, labels, level, math.sqrt(level * (1 - level) / (labels - 1)))


def _alarms(
    nights: Callable[..., Series],
    rule: Rule,
    years: int,
    judged_by: Callable[..., Series] | None = None,
) -> int:
    """In how many years a healthy model is accused at least once.

    ``judged_by`` makes the nights of the holdout where they differ from those that are judged.
    """
    random = np.random.default_rng(1)
    accused = 0
    for _ in range(years):
        reference = _reference(*(judged_by or nights)(random, HOLDOUT, HOLDOUT))
        right, labels = nights(random, YEAR, YEAR)
        # A night above the threshold adds no evidence: only others need be asked about.
        suspects = np.flatnonzero(right < (max(THRESHOLD, reference.value - MAX_DROP)) * labels)
        accused += any(rule(right, labels, reference, int(night)) for night in suspects)
    return accused


def _delays(nights: Callable[..., Series], rule: Rule) -> np.ndarray:
    """How many matured nights after a fall it takes to be caught; 1 is the first of them."""
    random = np.random.default_rng(2)
    delays = np.empty(FALLS)
    for number in range(FALLS):
        reference = _reference(*nights(random, HOLDOUT, HOLDOUT))
        right, labels = nights(random, WINDOW + PATIENCE, WINDOW)
        after = range(WINDOW, WINDOW + PATIENCE)
        found = (n for n in after if rule(right, labels, reference, n))
        delays[number] = next(found, WINDOW + PATIENCE) - WINDOW + 1
    return delays


def _reference(right: np.ndarray, labels: np.ndarray) -> Reference:
    """What a promotion stores, as :func:`nightshift.stats.reference` makes it of accuracy."""
    level = float(right.sum() / labels.sum())
    deviation = math.sqrt(level * (1 - level))
    return Reference(
        value=level,
        error=deviation / math.sqrt(labels.sum()),
        spread=spread_of(right / labels, labels, deviation),
        deviation=deviation,
        skewness=(1 - 2 * level) / deviation,
    )


def _optimum(size: int, rate: float) -> np.ndarray:
    """The delays of Page's CUSUM that knows both levels, tuned to a rate of false alarms."""
    random = np.random.default_rng(3)
    right, wrong = math.log(FALLEN / HEALTHY), math.log((1 - FALLEN) / (1 - HEALTHY))

    def step(total: np.ndarray, level: float) -> np.ndarray:
        known = random.binomial(size, level, len(total))
        added: np.ndarray = np.maximum(0, total + known * right + (size - known) * wrong)
        return added

    total = worst = np.zeros(TUNING_YEARS)
    for _ in range(YEAR):
        total = step(total, HEALTHY)
        worst = np.maximum(worst, total)
    limit = np.quantile(worst, 1 - rate)
    total = np.zeros(FALLS)
    for _ in range(WINDOW):
        total = step(total, HEALTHY)
    total[total > limit] = 0
    delays = np.full(FALLS, PATIENCE + 1)
    for night in range(1, PATIENCE + 1):
        total = step(total, FALLEN)
        delays = np.where((delays > PATIENCE) & (total > limit), night, delays)
    return delays


if __name__ == "__main__":
    main()
