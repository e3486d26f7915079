"""Nights under random kills and restarts of Postgres: ``make soak``.

Two processes live through nights of the small world, over and over; each is killed, and Postgres
stopped at once and started again, every 5 to 20 seconds. A reader looks all the time. In the end
every night is run once more, undisturbed, and held against the oracle.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from tests.faults.harness import Process, Reader, crash
from tests.world import ESTIMATOR, FAMILY, FEATURES, LABELS, MODEL, SOURCE, World

from nightshift import data, simulation
from nightshift.errors import DatabaseUnavailable, NightshiftError
from nightshift.local import Postgres, session
from nightshift.site import Site
from nightshift.steps import monitor, upkeep

NIGHTS = range(10, 40)
"""The nights that are run over and over; every run begins batches anew."""

WHOLE = (30, sum(range(1, 31)) + 30 * 3)


@dataclass
class Count:
    nights: int = 0
    kills: int = 0
    restarts: int = 0


@contextmanager
def small_world() -> Iterator[tuple[World, Postgres]]:
    """The world of the tests on a durable server of its own, with its first champion."""
    folder = Path(tempfile.mkdtemp(prefix="nightshift-soak-"))
    server = Postgres(folder / "pg", port=None)
    server.start()
    try:
        for name in ("nightshift", "warehouse"):
            server.create_database(name)
        data.migrate(server.url("nightshift"))
        family = folder / "include" / "models" / FAMILY
        family.mkdir(parents=True)
        site = Site(
            folder,
            folder / "state",
            family.parent,
            server.url("nightshift"),
            {"warehouse": server.url("warehouse")},
        )
        world = World(site, family)
        for file, text in (
            ("model.yaml", yaml.safe_dump(MODEL)),
            ("features.sql", FEATURES),
            ("labels.sql", LABELS),
            ("estimator.py", ESTIMATOR),
        ):
            world.write(file, text)
        world.source(SOURCE)
        world.train(9)
        yield world, server
    finally:
        data.connect.cache_clear()
        server.stop()
        shutil.rmtree(folder)


def live(site: Site, seed: int) -> None:
    """Nights without end, as the DAGs run them; what fails is tried again by the next one."""
    chance = random.Random(seed)
    world = World(site, site.models / FAMILY)
    while True:
        number = chance.choice(NIGHTS)
        now = world.night(number) + timedelta(minutes=5)
        try:
            _night(site, world, number)
            if chance.random() < 0.1:
                upkeep.maintain(site, now=now + timedelta(days=2))
            if chance.random() < 0.1:
                monitor.collect_labels(site, FAMILY, now, now=now)
        except DatabaseUnavailable:
            data.connect.cache_clear()


def _night(site: Site, world: World, number: int) -> None:
    """Run a night, and write a batch anew although one is published: its answer is forgotten."""
    as_of = world.night(number)
    simulation.score_night(site, FAMILY, as_of, now=as_of + timedelta(minutes=5))


def soak(minutes: float, seed: int) -> int:
    """Print nights, kills, restarts and violations; how many violations there were."""
    chance, count = random.Random(seed), Count()
    with small_world() as (world, server):
        violations = _disturbed(world, server, minutes, chance, count)
        violations += _oracle(world)
        published = world.rows("select count(*) from nightshift.events where code = 'published'")
        count.nights = published[0][0]
    told = f"{count.nights} nights published, {count.kills} kills, {count.restarts} restarts of"
    print(f"{told} Postgres, {len(violations)} violations (seed {seed})")  # noqa: T201
    for violation in violations[:20]:
        print(f"  {violation}")  # noqa: T201
    return len(violations)


def _disturbed(
    world: World, server: Postgres, minutes: float, chance: random.Random, count: Count
) -> list[str]:
    end = time.monotonic() + 60 * minutes
    with Reader(world.site.database_url, {WHOLE}) as reader:
        running = [_started(world, chance) for _ in range(2)]
        while time.monotonic() < end:
            time.sleep(chance.uniform(5, 20))  # the dice of the programme, not a synchronisation
            if chance.random() < 0.3:
                crash(server)
                count.restarts += 1
                _forget(world)
                continue
            victim = chance.randrange(len(running))
            running[victim].kill()
            count.kills += 1
            running[victim] = _started(world, chance)
            _forget(world)
        for one in running:
            one.kill()
        found, reader.violations = reader.violations, []
    return found


def _started(world: World, chance: random.Random) -> Process:
    return Process(partial(live, world.site, chance.randrange(10**9)))


def _forget(world: World) -> None:
    """Let every night look as if other versions had made it, so that it is scored again."""
    with suppress(NightshiftError), session(world.site.database_url) as connection:
        connection.exec_driver_sql("update nightshift.batches set version_ids = '{}'")


def _oracle(world: World) -> list[str]:
    """Run every night once more; what differs from what must be there."""
    data.connect.cache_clear()
    for number in NIGHTS:
        _night(world.site, world, number)
    rows: list[Any] = world.rows("select entity_id, score from predictions")
    expected = {
        f"{world.night(number):%Y%m%d}-{size}": size + 3.0
        for number in NIGHTS
        for size in range(1, 31)
    }
    found = {row.entity_id: row.score for row in rows}
    wrong = [
        f"{entity}: {found.get(entity)} instead of {score}"
        for entity, score in expected.items()
        if abs(found.get(entity, float("inf")) - score) > 1e-6
    ]
    doubled = len(rows) - len(found)
    return wrong + ([f"{doubled} rows are there twice"] if doubled else [])


def main() -> int:
    """Read the arguments and soak; 1 where anything was violated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    chosen = parser.parse_args()
    return int(soak(chosen.minutes, chosen.seed) > 0)


if __name__ == "__main__":
    sys.exit(main())
