"""``make bench-tune``: how long a tuning takes, and what its lines win on nights it has not seen.

A year of flights, loaded into a Postgres of its own. Of each family what is recommended from the
first half of the nights is judged on the second, against the better of refitting by rote (always,
or weekly in a factory) and of the best single version in hindsight.

Families elsewhere: ``python -m bench.tune bike_hourly 2011-06-12 2012-12-30`` in an installation
that has them (``NIGHTSHIFT_HOME``).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nightshift import demo, local, tuning
from nightshift.site import Site

from . import grounds
from .figures import Figure, figure, tell
from .grounds import fresh_database

HOME = Path(__file__).resolve().parents[1]
FAMILIES = ("air_time", "late_arrival", "air_time_by_destination")
HELD = timedelta(days=316)
"""The nights that are lived through; those before are learnt from."""

NEAR = 1.08
LONGEST, TWENTY_MORE = 180.0, 60.0


class Clock:
    """When each stage was last heard of."""

    def __init__(self) -> None:
        self.begun = time.perf_counter()
        self.stages: dict[str, tuple[float, float, int]] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.perf_counter()
        first = self.stages.get(stage, (now, now, 0))[0]
        self.stages[stage] = first, now, total

    def seconds(self) -> float:
        """Since it was begun."""
        return time.perf_counter() - self.begun

    def each_configuration(self) -> float:
        """What one more configuration takes, on both cores."""
        first, last, total = self.stages["configurations"]
        return (last - first) / max(total - 1, 1)


def judged(
    site: Site,
    name: str,
    question: tuning.Question,
    make: Callable[[str, str | None], str],
    drop: Callable[[str], None],
) -> list[Figure]:
    """The figures of one family."""
    clock = Clock()
    report = tuning.tune(
        site,
        name,
        question,
        folder=site.state / "tuning" / name,
        make_database=make,
        drop_database=drop,
        progress=clock,
    )
    by_rote = "always" if question.always else "weekly"
    hindsight = next(o for o in report.outcomes if o.policy.startswith("hindsight"))
    best = max(report.of(by_rote), hindsight, key=lambda outcome: outcome.value)
    figures = []
    for policy in (report.recommended, "as-configured", "naive", "never"):
        outcome = report.of(policy)
        ratio = (report.perfect - outcome.value) / (report.perfect - best.value)
        what = f"{name}: {'recommended' if policy == report.recommended else policy}"
        told = (
            f"ratio ({outcome.value:.4g} to {best.value:.4g}, {best.policy}; {outcome.fits} fits)"
        )
        bar = NEAR if policy == report.recommended else None
        figures.append(figure(f"{what}, short of perfection", [ratio], told, at_most=bar))
    timed = name == "air_time" and not question.always
    whole, more = (LONGEST, TWENTY_MORE) if timed else (None, None)
    figures.append(figure(f"{name}: the tuning", [clock.seconds()], "s", at_most=whole))
    twenty = 20 * clock.each_configuration()
    figures.append(figure(f"{name}: 20 configurations more", [twenty], "s", at_most=more))
    return figures


def flights() -> list[Figure]:
    """Each family of flights; of one model beside always, as slow as that is."""
    figures: list[Figure] = []
    with grounds.postgres() as (server, made):
        server.create_database("flights")
        demo.load(server.url("flights"), today=datetime.now(UTC).date())
        site = Site(
            HOME,
            made / "state",
            HOME / "include" / "models",
            server.url("postgres"),
            {"warehouse": server.url("flights")},
        )
        for name in FAMILIES:
            family = site.family(name)
            last = family.previous_tick(datetime.now(UTC) - timedelta(days=2))
            asked = [False] if name == "air_time" else []
            for always in [*asked, family.models is None]:
                question = tuning.Question(last - HELD, last, always=always)
                figures += judged(
                    site,
                    name,
                    question,
                    lambda name, template: fresh_database(server, name, template),
                    lambda name: None,
                )
    return figures


def elsewhere(name: str, first: str, last: str) -> list[Figure]:
    """One family of the installation that the environment names."""
    site = local.site()
    start, end = (datetime.fromisoformat(f"{day}T00:00+00:00") for day in (first, last))
    question = tuning.Question(
        start, end + timedelta(hours=23), always=site.family(name).models is None
    )
    return judged(
        site,
        name,
        question,
        lambda name, template: local.fresh_database(site, name, template),
        lambda name: local.drop_database(site, name),
    )


def main(arguments: list[str]) -> None:
    figures = elsewhere(*arguments) if arguments else flights()
    target = f"tune-{arguments[0]}" if arguments else "tune"
    tell("Chosen on the first half of the nights, judged on the second", figures, target)


if __name__ == "__main__":
    main(sys.argv[1:])
