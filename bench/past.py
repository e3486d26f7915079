"""``make bench-past``: how long ``nightshift simulate`` takes for past nights.

A year of the flights, whose own year is repeated for it, as one model and as a factory, each under
the policies that it is simulated under if nobody says; and two years and a half of 400 synthetic
rows a night under one policy. Each runs once, and tells the CPU beside the clock: other work on the
machine makes the clock slower, and the CPU hardly.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nightshift import demo, simulation
from nightshift.local import Postgres
from nightshift.site import Site

from . import grounds
from .figures import Figure, figure, tell
from .grounds import seconds

HOME = Path(__file__).resolve().parents[1]
YEAR, LONG = 365, 915
ROWS = 400
BARS = {"air_time": 240.0, "air_time_by_destination": 360.0, "long": 240.0}
"""Seconds on a quiet machine with 2 cores."""


def main(names: Sequence[str]) -> None:
    figures: list[Figure] = []
    with grounds.site(1, ROWS) as (site, server):
        for name in names:
            figures += _long(site, server) if name == "long" else _year(site, server, name)
    tell("Past nights, each simulation once", figures, "past")


def _year(site: Site, server: Postgres, name: str) -> Iterator[Figure]:
    url = server.url("flights")
    server.create_database("flights")
    today = datetime.now(UTC).date()
    for loaded in (today - timedelta(days=YEAR + 6), today):  # the second repeats the year
        demo.load(url, today=loaded)
    models = HOME / "include" / "models"
    own = replace(site, home=HOME, models=models, sources={"warehouse": url})
    policies = simulation.default_policies(own.family(name))
    what = f"{YEAR} nights of {name}, {len(policies)} policies"
    yield from _figures(own, server, name, YEAR, policies, what)


def _long(site: Site, server: Postgres) -> Iterator[Figure]:
    grounds.family(
        "family",
        site.models / "long",
        models=None,
        estimator={"params": {"kind": "trees"}},
        performance={"window": "P7D", "threshold": -0.01},
        retrain={"training": {"window": "P30D"}, "cooldown": "P14D"},
        promotion={"holdout": "P5D"},
    )
    what = f"{LONG} nights of {ROWS} rows, as configured"
    yield from _figures(site, server, "long", LONG, ["as-configured"], what)


def _figures(
    site: Site,
    server: Postgres,
    name: str,
    nights: int,
    policies: list[simulation.Policy],
    what: str,
) -> Iterator[Figure]:
    end = site.family(name).previous_tick(datetime.now(UTC) - timedelta(days=1))
    start = end - timedelta(days=nights - 1)

    def simulate() -> None:
        outcomes = simulation.simulate(
            site,
            name,
            start,
            end,
            policies,
            folder=site.state / "simulations" / name,
            make_database=lambda base, template: grounds.fresh_database(server, base, template),
            progress=lambda part, night, of: None,
        )
        assert all(len(outcome.nights) == nights for outcome in outcomes)

    before = _cpu()
    took = seconds(simulate)
    yield figure(what, [took], "s", at_most=BARS[name])
    yield figure(f"{what}: CPU without Postgres", [_cpu() - before], "s")


def _cpu() -> float:
    """CPU seconds of this process, and of those that it has started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    main(sys.argv[1:] or list(BARS))
