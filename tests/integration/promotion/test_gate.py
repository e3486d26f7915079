"""What the gate lets through when seasons turn, or cases, slices and champions are at stake."""

from __future__ import annotations

import re

import pytest
from tests.world import FAMILY, World

from nightshift import simulation
from nightshift.data import connect
from nightshift.records import Decision
from nightshift.registry import decision as decision_of
from nightshift.steps import upkeep

SLOPE_BY_NIGHT = """
update truths set value = size * ({slope}) + 3
from items where items.entity_id = truths.entity_id
"""
NUMBER = "extract(day from truths.night - timestamptz '2026-01-01 02:00Z')"


def slopes(world: World, sql: str) -> None:
    """The world's slope by the number of a night, ``n``."""
    world.source(SLOPE_BY_NIGHT.format(slope=re.sub(r"\bn\b", NUMBER, sql)))


def verdict(world: World, number: int) -> Decision:
    with connect(world.site.database_url).transaction() as tx:
        return decision_of(tx, world.train(number))


def test_a_retrain_that_runs_after_the_season_is_refused_and_the_year_is_no_worse(
    world: World,
) -> None:
    slopes(world, "1 + mod(floor(n / 4), 2)")
    world.configure(
        retrain={"training": {"window": "P8D"}, "cooldown": "P1D"},
        performance={"threshold": -3.0, "min_labels": 20},
    )
    world.train(13)
    # What follows learns from the last four nights only, and those are always out of season.
    world.configure(
        retrain={"training": {"window": "P4D"}}, promotion={"holdout": "P4D", "min_rows": 20}
    )
    simulation.live_through(world.site, FAMILY, world.night(14), world.night(38))
    decided = world.rows("select kind, count(*) as times from decisions group by kind")
    times = {row.kind: row.times for row in decided}
    assert times["reject"] >= 5
    assert times["promote"] == 1
    # Every night was scored by the first version, so the year is exactly that of the frozen model.
    assert world.rows("select distinct model_version from predictions") == [(1,)]


def test_a_first_version_that_beats_no_constant_guess_waits_for_a_person(world: World) -> None:
    slopes(world, "case when n >= 10 then -1 else 1 end")
    said = verdict(world, 12)
    assert (said.kind, said.rule) == ("ask", "no_better_than_guess")
    assert "no better than" in said.reason
    assert not world.rows("select from champions")
    [question] = world.rows("select evidence from nightshift.approvals")
    assert "| guessing the same for all |" in question.evidence


def test_an_earlier_champion_comes_back_when_its_season_does(world: World) -> None:
    slopes(world, "case when n between 16 and 27 then 2 else 1 end")
    assert verdict(world, 12).rule == "unopposed"
    assert verdict(world, 26).rule == "proof"
    said = verdict(world, 32)
    assert said.kind == "promote"
    assert "the earlier champion, version 1, is over 99.9% better on 2 nights" in said.reason
    [serving] = world.rows("select model_version from champions")
    assert serving.model_version == 1
    assert [c["kind"] for c in said.inputs["candidates"]] == ["trained", "earlier"]
    # A fifth of the doubt is for the earlier champions: there is one.
    assert said.inputs["confidence"] == pytest.approx(0.99)


def test_no_challenger_gets_worse_on_the_border_cases(world: World) -> None:
    world.write("border_cases.csv", "size,kind,label\n1,k0,4\n30,k1,33\n100,k2,103\n")
    world.train(12)
    said = verdict(world, 28)
    assert (said.kind, said.rule) == ("reject", "border_cases")
    assert "but on 3 border cases it is worse" in said.reason


def test_border_cases_that_cannot_be_read_are_told_before_anything_runs(world: World) -> None:
    world.write("border_cases.csv", "size,label\n1,4\n")
    [problem] = upkeep.check(world.site)
    assert str(world.folder / "border_cases.csv") in str(problem)
    assert "column kind is missing; write size, kind and label" in str(problem)


def test_a_challenger_that_fails_on_a_slice_is_refused(world: World) -> None:
    world.train(12)
    slopes(world, "case when n < 19 or kind = 'k0' then 1 else 4 end")
    world.configure(
        performance={"slices": ["kind"]}, promotion={"max_slice_drop": 1.0, "min_rows": 20}
    )
    said = verdict(world, 28)
    assert (said.kind, said.rule) == ("reject", "slice")
    assert "but on kind=k0 it is worse by" in said.reason


@pytest.mark.parametrize("approval", ["automatic", "human"])
def test_a_champion_that_cannot_score_is_replaced_or_goes_to_a_person(
    world: World, approval: str
) -> None:
    world.train(12)
    world.configure(promotion={"approval": approval})
    world.configure(features={"numeric": ["size"], "categorical": []})
    world.write(
        "features.sql",
        "select entity_id, size from items where night = cast(:as_of as timestamptz)",
    )
    said = verdict(world, 28)
    [serving] = world.rows("select model_version from champions")
    asked = world.rows("select evidence from nightshift.approvals")
    if approval == "automatic":
        assert (said.kind, said.rule) == ("promote", "unscorable")
        assert (serving.model_version, asked) == (2, [])
        return
    assert (said.kind, said.rule) == ("ask", "unscorable")
    assert "the champion cannot score" in asked[0].evidence
    assert serving.model_version == 1
