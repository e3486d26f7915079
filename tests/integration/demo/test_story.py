"""The story that the demonstration tells does not hang on the day of the week."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

from tests.conftest import leave
from tests.world import World

from nightshift import demo, simulation
from nightshift.local import Postgres
from nightshift.site import Site

FAMILY = "air_time"
DAY = timedelta(days=1)


def latest_wednesday() -> datetime:
    """Noon of a day on which a first load brings every flight on record, up to last night."""
    noon = datetime.combine(datetime.now(UTC).date(), time(12), UTC)
    wednesday = next(noon - n * DAY for n in range(7) if (noon - n * DAY).weekday() == 2)
    assert demo.LAST_RECORDED + demo.shift(wednesday.date()) == (wednesday - DAY).date()
    return wednesday


def cycle(site: Site, now: datetime) -> dict[str, Any]:
    """What Airflow's cycle of a day comes to, by the steps that its tasks call."""
    monitor = now.replace(hour=6)
    asked = simulation.monitor_night(site, FAMILY, monitor, now=now)
    simulation.retrain(site, asked, now=now)
    world = World(site, site.models / FAMILY)
    [measured] = world.rows(
        "select state from performance where model_version is not null"
        f" and as_of = '{monitor.isoformat()}'"
    )
    decided = world.rows("select kind from decisions order by decision_id desc limit 2")
    return {"measured": measured.state, "decided": [row.kind for row in reversed(decided)]}


def test_the_cycle_finds_the_breach_retrains_and_promotes_on_every_weekday(
    postgres: Postgres, site: Site, new_database: Callable[..., str]
) -> None:
    """With the first champion, which serves again where the demonstration begins to hold.

    Of the weeks in which nothing is retrained only those are lived through that the cycle looks at.
    """
    wednesday = latest_wednesday()
    postgres.create_database("flights_until_wednesday")
    warehouse = postgres.url("flights_until_wednesday")
    demo.load(warehouse, today=wednesday.date())
    site = replace(site, sources={"warehouse": warehouse})
    family = site.family(FAMILY)
    past = demo.past_of(site, family, wednesday - 6 * DAY)
    simulation.live_through(site, FAMILY, past.start + DAY / 2, past.start + DAY / 2)
    looked_at = family.performance.window + family.labels.maturity + 4 * DAY
    told: dict[str, dict[str, Any]] = {}
    lived = past.end - looked_at
    for ago in range(6, -1, -1):
        now = wednesday - ago * DAY
        end = now.replace(hour=2) - timedelta(seconds=1)
        demo.live(site, FAMILY, demo.Past(lived, lived, end), lambda name, night, of: None)
        lived = end
        leave(site.database_url)
        fork = new_database(site.database_url.rpartition("/")[2].partition("?")[0])
        told[f"{now:%A}"] = cycle(replace(site, database_url=fork), now)
    wanted = {"measured": "breached", "decided": ["retrain", "promote"]}
    assert list(told.values()) == [wanted] * 7, told
