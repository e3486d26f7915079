"""``make bench-gate``: how often an equal challenger gets through, and a better one does not.

Two classifiers judged by accuracy on the same rows. They disagree about one row in ten. Every
verdict of the gate is that of :func:`nightshift.policy.judge` on the paired difference of
:mod:`nightshift.stats`, with ``promotion`` as it is by default; every verdict in shadow that of
:func:`nightshift.stats.anytime`, asked every night. Seeded, so that every run prints the same.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np

from nightshift import policy, stats
from nightshift.family import Promotion
from nightshift.records import Comparison
from nightshift.stats import Outcomes

from .figures import Figure, share, tell

TIMES = 10_000
NIGHTS, ROWS = 7, 2_400
"""The holdout that docs/promotion.md advises for a gain of two points."""

AGREE, DISAGREE, GAIN = 0.90, 0.10, 0.02
LOOKS, SHADOW_ROWS = 30, 200
POINT_MARGIN = 0.01
LUCK = 0.02
"""The standard deviation of a night's own gain, where nights have luck of their own."""

PROMOTION = Promotion(holdout=timedelta(days=NIGHTS))
CONFIDENCE = PROMOTION.confidence
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
CHUNK = 500


@dataclass(frozen=True)
class World:
    """How much better the challenger is, on how many rows, and whether nights have luck."""

    gain: float
    rows: int = ROWS
    nights: int = NIGHTS
    luck: float = 0.0


def main() -> None:
    equal, better = World(0.0), World(GAIN)
    lucky = World(0.0, luck=LUCK)
    with ProcessPoolExecutor(2) as pool:
        draw = partial(_promotions, pool)
        same, chance, gained = draw(equal), draw(lucky), draw(better)
        calm, ahead = (
            _shares(pool, _in_shadow, World(gain, SHADOW_ROWS * LOOKS, LOOKS))
            for gain in (0.0, GAIN)
        )
    once = f"{ROWS:,} rows of {NIGHTS} nights"
    nightly = f"{LOOKS} looks, {SHADOW_ROWS} rows a night"
    by_two = "better by 2 points"
    figures = [
        _share(f"equal, the gate ({once})", same["gate"], at_most=0.05),
        _share(
            f"equal, nights with luck of their own, the gate ({once})", chance["gate"], at_most=0.05
        ),
        _share(f"equal, shadow ({nightly})", calm["anytime"], at_most=0.05),
        _share(f"{by_two}, the gate ({once})", gained["gate"], at_least=0.80),
        _share(f"{by_two}, shadow ({nightly})", ahead["anytime"]),
        _share(f"equal, challenger >= champion ({once})", same["not worse"]),
        _share(f"{by_two}, challenger >= champion ({once})", gained["not worse"]),
        _share(f"equal, ahead by 1 point ({once})", same["point"]),
        _share(f"equal, nights with luck, ahead by 1 point ({once})", chance["point"]),
        _share(f"{by_two}, ahead by 1 point ({once})", gained["point"]),
        _share(f"equal, a plain test every night ({nightly})", calm["plain"]),
    ]
    tell(f"Who gets through, in {TIMES:,} simulations each", figures, "gate")


def _share(name: str, hits: int, **bar: float) -> Figure:
    return share(f"{name}: promoted", hits, TIMES, **bar)


def _promotions(pool: ProcessPoolExecutor, world: World) -> dict[str, int]:
    return _shares(pool, _at_the_gate, world)


def _shares(
    pool: ProcessPoolExecutor, judge: Callable[[World, int], dict[str, int]], world: World
) -> dict[str, int]:
    """How many of ``TIMES`` challengers each rule lets through."""
    parts = list(pool.map(partial(judge, world), range(TIMES // CHUNK)))
    return {name: sum(part[name] for part in parts) for name in parts[0]}


def _at_the_gate(world: World, seed: int) -> dict[str, int]:
    random = np.random.default_rng([seed, 1])
    passes = {"gate": 0, "not worse": 0, "point": 0}
    for _ in range(CHUNK):
        old, new, night = _drawn(random, world)
        before = stats.value("accuracy", "binary_classification", old)
        after = stats.value("accuracy", "binary_classification", new)
        assert before is not None
        assert after is not None
        paired = stats.paired_difference(
            "accuracy", "binary_classification", old, new, confidence=CONFIDENCE, nights=night
        )
        assert isinstance(paired, stats.Estimate)
        compared = Comparison(
            decision_id=1,
            champion_version=1,
            challenger_version=2,
            metric="accuracy",
            holdout_start=LONG_AGO,
            holdout_end=LONG_AGO,
            row_count=world.rows,
            champion_value=before,
            challenger_value=after,
            difference=paired.value,
            low=paired.low,
            confidence=CONFIDENCE,
            perfect=1.0,
        )
        passes["gate"] += policy.judge(compared, PROMOTION, LONG_AGO, 1).kind == "promote"
        passes["not worse"] += after >= before
        passes["point"] += after - before >= POINT_MARGIN
    return passes


def _in_shadow(world: World, seed: int) -> dict[str, int]:
    random = np.random.default_rng([seed, 2])
    passes = {"anytime": 0, "plain": 0}
    for _ in range(CHUNK):
        gains = _gains(random, world)
        looks = range(2, LOOKS + 1)
        passes["anytime"] += any(
            stats.anytime(gains[:seen], confidence=CONFIDENCE).proven for seen in looks
        )
        passes["plain"] += any(_plainly_ahead(gains[:seen]) for seen in looks if seen >= NIGHTS)
    return passes


def _plainly_ahead(gains: np.ndarray) -> bool:
    """A test that is made for one look, asked anew."""
    from scipy.stats import t

    error = gains.std(ddof=1) / np.sqrt(len(gains))
    return bool(gains.mean() > t.ppf(CONFIDENCE, len(gains) - 1) * error)


def _chances(random: np.random.Generator, world: World) -> np.ndarray:
    """For each night the chance that only the challenger is right, of those they disagree about."""
    gain = world.gain + random.normal(0, world.luck, world.nights) if world.luck else world.gain
    chance: np.ndarray = np.clip((DISAGREE + np.broadcast_to(gain, world.nights)) / 2, 0, DISAGREE)
    return chance


def _drawn(random: np.random.Generator, world: World) -> tuple[Outcomes, Outcomes, np.ndarray]:
    night = np.arange(world.rows) % world.nights
    chance = _chances(random, world)[night]
    place = random.random(world.rows)
    only_new = place < chance
    only_old = (place >= chance) & (place < DISAGREE)
    both = (place >= DISAGREE) & (place < DISAGREE + AGREE * AGREE)
    truth = random.integers(0, 2, world.rows).astype(np.float64)

    def outcomes(right: np.ndarray) -> Outcomes:
        return Outcomes(truth, np.where(right, truth, 1 - truth))

    return outcomes(both | only_old), outcomes(both | only_new), night


def _gains(random: np.random.Generator, world: World) -> np.ndarray:
    """Night by night the challenger's accuracy less the champion's."""
    rows, chance = world.rows // world.nights, _chances(random, world)
    ahead = random.binomial(rows, chance)
    behind = random.binomial(rows - ahead, (DISAGREE - chance) / (1 - chance))
    gains: np.ndarray = (ahead - behind) / rows
    return gains


if __name__ == "__main__":
    main()
