"""A family that somebody holds: it is scored and measured, and changes nothing by itself."""

from __future__ import annotations

from functools import partial

import pytest
from tests.families import LIE, live
from tests.world import FAMILY, World
from typer.testing import CliRunner

from nightshift import cli, local, reports
from nightshift.data import connect
from nightshift.errors import ConfigError
from nightshift.steps import people, retrain

HELD = "the family is held by ada since 2026-01-12 02:00Z: the source is being moved"


def hold(world: World, night: int, reason: str = "the source is being moved") -> None:
    people.hold(world.site, FAMILY, reason=reason, by="ada", now=world.night(night))


def release(world: World, night: int) -> None:
    people.release(world.site, FAMILY, reason="moved", by="bob", now=world.night(night))


def decided(world: World) -> list[tuple[str, str, str]]:
    rows = world.rows("select kind, rule, reason from nightshift.decisions order by decision_id")
    return [(row.kind, row.rule, row.reason) for row in rows]


def serving(world: World) -> int:
    [row] = world.rows("select model_version from champions where family = 'loads'")
    return int(row.model_version)


@pytest.fixture
def breached(world: World) -> World:
    """Version 1 serves a world that has changed; the nights 21 to 24 are scored."""
    world.train(10)
    for number in range(21, 25):
        world.score(number)
    return world


def test_a_breach_in_a_held_family_is_measured_and_held_and_retrains_once_released(
    breached: World,
) -> None:
    hold(breached, 11)
    assert breached.monitor(23) == []
    kind, rule, reason = decided(breached)[-1]
    assert (kind, rule) == ("held", "held")
    assert "mean absolute error 15.5, limit 1" in reason
    assert "surely above it" in reason
    assert reason.endswith(f"but {HELD}")
    assert breached.rows("select 1 from nightshift.measurements where state = 'breached'")
    release(breached, 24)
    assert len(breached.monitor(24)) == 1


def test_a_calendar_is_held_and_a_person_is_obeyed(breached: World) -> None:
    hold(breached, 11)
    night = breached.night(24)
    ask = partial(retrain.request_retrain, breached.site, FAMILY, night, reason="new", now=night)
    by_calendar = partial(retrain.calendar_retrain, breached.site, FAMILY, night)
    assert by_calendar(reason="new", by="schedule", now=night) == []
    assert decided(breached)[-1][:2] == ("held", "held")
    assert len(ask(by="bob")) == 1


def test_what_would_be_promoted_in_a_held_family_is_left_to_a_person(world: World) -> None:
    world.train(10)
    hold(world, 11)
    world.train(28)
    kind, rule, reason = decided(world)[-1]
    assert (kind, rule) == ("ask", "held")
    assert reason.endswith(f"but {HELD}; a person is asked")
    assert serving(world) == 1
    [asked] = world.rows("select approval_id from nightshift.approvals")
    people.answer(world.site, asked.approval_id, "approved", "bob", now=world.night(29))
    assert serving(world) == 2


def test_a_probation_ends_after_the_release(world: World) -> None:
    world.source(LIE)
    world.train(9)
    world.train(27)
    hold(world, 27, "it moves")
    live(world, 28, 34)
    assert serving(world) == 2
    told = world.rows("select detail from nightshift.events where code = 'held' order by event_id")
    assert len(told) == 3
    reason = told[0].detail["reason"]
    assert "evidence 11.2" in reason
    assert reason.endswith("but the family is held by ada since 2026-01-28 02:00Z: it moves")
    release(world, 35)
    live(world, 35, 35)
    assert serving(world) == 1


def test_holding_twice_is_holding_once_and_each_word_is_in_the_audit_trail(world: World) -> None:
    hold(world, 11)
    hold(world, 12, "another reason")
    release(world, 13)
    release(world, 14)
    said = world.rows("select held, said_by, reason from nightshift.holds order by hold_id")
    assert [tuple(row) for row in said] == [
        (True, "ada", "the source is being moved"),
        (False, "bob", "moved"),
    ]
    assert world.codes() == ["hold", "release"]


def test_status_says_who_holds_a_family_and_why(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.train(10)
    monkeypatch.setattr(local, "site", lambda: world.site)
    run = CliRunner().invoke
    held = run(cli.app, ["hold", FAMILY, "--reason", "a strike", "--by", "ada"])
    assert (held.exit_code, held.stdout[:18]) == (0, "loads is held by a")
    told = reports.status(connect(world.site.database_url))
    assert told.sentences[0].endswith(": a strike")
    assert [(one.family, one.by) for one in told.holds] == [(FAMILY, "ada")]
    released = run(cli.app, ["release", FAMILY, "--reason", "it is over", "--by", "ada"])
    assert released.stdout.startswith("loads is released; it was held by ada since ")
    assert reports.status(connect(world.site.database_url)).holds == ()


def test_only_a_family_that_there_is_can_be_held(world: World) -> None:
    with pytest.raises(ConfigError, match="there is no family 'load'"):
        people.hold(world.site, "load", reason="r", by="ada", now=world.night(1))
