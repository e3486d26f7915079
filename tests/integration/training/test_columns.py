"""Columns come, go and change their names while a family lives: no night and no person is lost."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.world import FAMILY, World

from nightshift.errors import ScoringError, TrainingError
from nightshift.steps import night, retrain

WEIGHT = """
alter table items add column weight double precision;
update items set weight = 2 * size;
"""


def declare(world: World, numeric: list[str], shown: str | None = None) -> None:
    columns = ", ".join(["entity_id", "kind", *(shown or ", ".join(numeric)).split(", ")])
    world.write(
        "features.sql",
        f"select {columns} from items where night = cast(:as_of as timestamptz)",
    )
    world.configure(features={"numeric": numeric, "categorical": ["kind"]})


def watch(world: World, number: int) -> dict[str, float]:
    [row] = world.rows(
        f"select batch_id from nightshift.published where as_of = '{world.night(number)}'"
    )
    now = world.night(number) + timedelta(hours=1)
    night.watch(world.site, row.batch_id, now=now)
    rows: list[Any] = world.rows(
        "select feature, value from nightshift.signals"
        f" where batch_id = {row.batch_id} and signal = 'missing'"
    )
    return {row.feature: row.value for row in rows}


def serving(world: World) -> int:
    [row] = world.rows("select model_version from champions")
    return int(row.model_version)


@pytest.fixture
def grown(world: World) -> World:
    """A champion that knows one number, and a family that has gained another since."""
    world.configure(watch={"min_rows": 10, "window": "P5D"})
    world.train(12)
    for number in range(13, 17):
        assert world.score(number)
    world.source(WEIGHT)
    declare(world, ["size", "weight"])
    return world


def test_the_old_champion_serves_on_and_is_watched_when_a_column_comes(grown: World) -> None:
    assert grown.score(17)
    assert watch(grown, 17) == {"size": 0.0, "kind": 0.0}
    grown.monitor(17)


def test_a_training_freezes_again_what_lacks_a_column(grown: World) -> None:
    assert grown.score(17)
    grown.train(18)
    [version] = grown.rows("select manifest from nightshift.versions where number = 2")
    assert version.manifest["features"]["numeric"] == ["size", "weight"]
    assert version.manifest["rows"] == 150
    revisions = grown.rows("select max(revision) as most from nightshift.snapshots")
    assert revisions[0].most == 2
    assert grown.score(19)
    assert set(watch(grown, 19)) == {"size", "kind"} | (
        {"weight"} if serving(grown) == 2 else set()
    )


def test_of_a_mutable_source_the_nights_that_have_the_column_are_learnt_from(grown: World) -> None:
    grown.configure(source={"history": "mutable"})
    for number in range(17, 20):
        assert grown.score(number)
    now = grown.night(21)
    asked = retrain.request_retrain(grown.site, FAMILY, now, reason="t", by="t", now=now)
    retrain.fit(grown.site, asked, now=now)
    [version] = grown.rows("select manifest from nightshift.versions where number = 2")
    assert version.manifest["rows"] == 60  # nights 17 and 18; those before lack the column
    assert len(version.manifest["nights_left_out"]) == 3
    grown.configure(retrain={"training": {"window": "P5D", "min_rows": 100}})
    asked = retrain.request_retrain(grown.site, FAMILY, now, reason="u", by="t", now=now)
    with pytest.raises(TrainingError, match=r"3 nights were frozen without .*weight"):
        retrain.fit(grown.site, asked, now=now)


@pytest.mark.parametrize("change", ["gone", "renamed"])
def test_a_champion_whose_column_is_gone_is_replaced_without_a_person(
    grown: World, change: str
) -> None:
    assert grown.score(17)
    if change == "gone":
        declare(grown, ["weight"])
    else:
        declare(grown, ["length"], shown="size as length")
    assert grown.score(18)  # by what was trained for it, and serves from it on
    assert serving(grown) == 2
    [scored] = grown.rows(
        "select distinct model_version from predictions where as_of = '2026-01-19 02:00+00'"
    )
    assert scored.model_version == 2
    assert grown.rows("select * from nightshift.approvals") == []
    watch(grown, 18)
    assert grown.monitor(18) == []
    assert grown.score(19)
    assert serving(grown) == 2
    watch(grown, 19)
    grown.monitor(19)


def test_where_a_person_must_agree_the_night_says_what_the_champion_lacks(grown: World) -> None:
    assert grown.score(17)
    declare(grown, ["weight"])
    grown.configure(promotion={"approval": "human"})
    with pytest.raises(ScoringError, match=r"version 1 of loads needs size, which features.sql"):
        grown.score(18)
    assert grown.monitor(18)
    assert serving(grown) == 1


def test_a_night_that_was_scored_keeps_its_version_though_its_champion_is_outgrown(
    grown: World,
) -> None:
    assert grown.score(17)
    assert grown.score(18)
    declare(grown, ["weight"])

    assert grown.score(19)
    assert grown.score(18)  # again: it has what it had
    [scored] = grown.rows(
        "select distinct model_version from predictions where as_of = '2026-01-19 02:00+00'"
    )
    assert scored.model_version == 1
