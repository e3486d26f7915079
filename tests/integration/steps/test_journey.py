"""One row from the source to the promotion of the version that scores its successor."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest
from sqlalchemy import make_url
from tests.world import FAMILY, World

from nightshift import simulation
from nightshift.local import session
from nightshift.site import Site
from nightshift.steps import night as night_steps

PUBLISHED = "select entity_id, as_of, score, model_version, snapshot from predictions order by 1, 2"


def test_a_row_is_walked_from_source_to_promotion(world: World) -> None:
    world.train(9)
    assert world.score(10)
    with session(world.site.database_url) as connection:
        connection.exec_driver_sql("set role nightshift_reader")
        row = connection.exec_driver_sql(
            "select * from predictions where entity_id = '20260111-7'"
        ).one()
    assert row.score == pytest.approx(10.0)  # 7 + 3
    assert (row.family, row.model, row.model_version, row.flags) == (FAMILY, FAMILY, 1, [])
    assert len(row.snapshot) == 64

    for number in range(19, 27):
        world.score(number)
    decisions = world.monitor(22)
    assert len(decisions) == 1
    [measured] = world.rows(
        "select state, value, predictions, labels from performance where model_version = 1"
    )
    assert measured.state == "breached"
    assert measured.predictions == measured.labels == 60

    for number in range(23, 32):
        world.score(number)
    [decision_id] = world.monitor(31)
    [concluded] = simulation.retrain(world.site, [decision_id], now=world.night(31))
    said = world.rows(f"select kind, rule from decisions where decision_id = {concluded}")[0]
    assert (said.kind, said.rule) == ("promote", "proof")
    world.score(32)
    successor = world.rows("select * from predictions where entity_id = '20260202-7'")[0]
    assert successor.model_version == 2
    assert successor.score == pytest.approx(17.0)  # 2 * 7 + 3


def test_a_rerun_of_published_nights_changes_no_row(world: World) -> None:
    world.train(9)
    for number in range(10, 14):
        world.score(number)
    before = world.rows(PUBLISHED)
    world.train(13)
    for number in (12, 10, 13, 11):
        world.score(number)
    assert world.rows(PUBLISHED) == before
    assert len(before) == 4 * 30


def test_a_past_night_is_scored_from_its_snapshot_when_the_source_has_changed(
    world: World,
) -> None:
    world.train(9)
    snapshot_id = world.freeze(10)
    world.source("update items set size = size * 100")
    assert world.freeze(10) == snapshot_id
    world.score(10)
    assert world.rows(f"{PUBLISHED} limit 1")[0].score < 100


def test_a_night_is_invisible_until_it_is_published(world: World) -> None:
    world.train(9)
    snapshot_id = world.freeze(10)
    now = world.night(10)
    night_steps.validate(world.site, snapshot_id, now=now)
    batch_id = night_steps.score(world.site, snapshot_id, now=now)
    assert world.rows(PUBLISHED) == []
    night_steps.publish(world.site, batch_id, now=now)
    assert len(world.rows(PUBLISHED)) == 30


def test_deciding_and_training_twice_is_once(world: World) -> None:
    world.train(9)
    world.train(9)
    counts = world.rows(
        "select (select count(*) from nightshift.versions) v, (select count(*) from decisions) d,"
        " (select count(*) from nightshift.promotions) p"
    )[0]
    assert tuple(counts) == (1, 2, 1)


def test_a_simulation_tells_the_policies_apart(
    world: World, new_database: Callable[..., str]
) -> None:
    made: dict[str, str] = {}
    dropped: list[str] = []

    def make(name: str, template: str | None) -> str:
        source = make_url(made[template]).database if template else "template"
        made[name] = new_database(str(source))
        return made[name]

    outcomes = simulation.simulate(
        world.site,
        FAMILY,
        world.night(12),
        world.night(34),
        ["never", "as-configured", "always"],
        folder=world.site.state / "simulation",
        make_database=make,
        drop_database=dropped.append,
        progress=lambda name, night, of: None,
    )
    never, configured, always = outcomes
    assert sorted(dropped) == sorted(made)
    assert [outcome.rejected for outcome in outcomes] == [0, 0, 0]
    assert never.value < configured.value <= always.value
    assert (never.fits, always.fits) == (1, 23)  # the first, and one after each of 22 monitorings
    assert 1 < configured.fits < 6
    assert [len(outcome.nights) for outcome in outcomes] == [23, 23, 23]
    won = simulation.won_back(outcomes)
    assert won is not None
    assert 0 < won[0] < 1
    assert won[1] == "always"
    [alone] = simulation.simulate(
        world.site,
        FAMILY,
        world.night(12),
        world.night(34),
        ["as-configured"],
        folder=world.site.state / "alone",
        make_database=make,
        progress=lambda name, night, of: None,
    )
    assert (alone.value, alone.fits) == (configured.value, configured.fits)
    pd.testing.assert_frame_equal(alone.nights, configured.nights)


def test_a_retrain_that_fails_does_not_end_the_nights(world: World) -> None:
    world.configure(retrain={"training": {"window": "P5D", "min_rows": 60}})
    world.source("delete from items where night > '2026-01-19Z' and size > 11")
    world.configure(performance={"min_labels": 5})
    simulation.live_through(world.site, FAMILY, world.night(12), world.night(30))
    assert "training" in world.codes()
    [nights] = world.rows("select count(*) as published from nightshift.published")
    assert nights.published == 19


def test_an_unreachable_database_is_an_outage_and_not_an_empty_night(
    world: World, make_site: Callable[..., Site]
) -> None:
    from dataclasses import replace

    from nightshift.errors import DatabaseUnavailable

    nobody = "postgresql+psycopg2://nobody@127.0.0.1:1/nothing"
    down = replace(world.site, database_url=nobody)
    with pytest.raises(DatabaseUnavailable, match=r"cannot reach Postgres at .*127\.0\.0\.1:1"):
        night_steps.freeze(down, FAMILY, world.night(10), now=world.night(10))
    unread = replace(world.site, sources={"warehouse": nobody})
    with pytest.raises(DatabaseUnavailable):
        night_steps.freeze(unread, FAMILY, world.night(10), now=world.night(10))
    assert world.codes() == ["database_unavailable"]
