"""The few numbers of a family that a platform watches."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.world import FAMILY, Kept, World, live_through_the_change

from nightshift.data import connect
from nightshift.reports import figures_of


def test_figures_tell_the_night_that_readers_see_and_what_the_last_monitoring_came_to(
    world: World, kept: Kept
) -> None:
    world = kept.world("changed", world, live_through_the_change)
    database = connect(world.site.database_url)
    now = world.night(23) + timedelta(hours=6)
    told = figures_of(database, FAMILY, now=now)
    [last] = world.rows(
        "select alarming, kind from nightshift.decisions where about = 'monitor'"
        " order by as_of desc limit 1"
    )
    [labels] = world.rows(
        "select labels, predictions from nightshift.measurements"
        " where decisive and basis = 'realized' and slice = '' and version_id is null"
        " order by as_of desc limit 1"
    )
    assert told == {
        "freshness": 6 * 3600,
        "rows": 30,
        "coverage": pytest.approx(labels.labels / labels.predictions),
        "breaches": float(last.alarming),
        "retrains": float(last.kind == "retrain"),
    }
    # A night that is missed shows: nothing is told as of when it was last well.
    assert figures_of(database, FAMILY, now=now + timedelta(days=2))["freshness"] == 54 * 3600


def test_what_nobody_knows_yet_is_not_told_as_zero(world: World) -> None:
    assert figures_of(connect(world.site.database_url), FAMILY, now=world.night(1)) == {}
