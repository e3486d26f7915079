"""The way back: by proof on probation, by a person's word, and which artifacts stay for it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.families import FACTORY, LIE, live
from tests.world import FAMILY, FIRST, Kept, World
from typer.testing import CliRunner

from nightshift import local, registry, simulation
from nightshift.cli import app
from nightshift.data import connect
from nightshift.errors import ArtifactRefused, RegistryError
from nightshift.local import session
from nightshift.records import Model, Promotion
from nightshift.registry.versions import _verified_pipeline
from nightshift.steps import people, retrain, upkeep
from nightshift.steps.frame import store_of
from nightshift.steps.rollback import Undo, rescore, rollback

LIE_ABOUT_K1 = """
update truths set value = size + 3 from items
where items.entity_id = truths.entity_id and (items.night > '2026-01-28' or kind <> 'k1')
"""
SERVING = "select model_version from champions where family = 'loads' and model = '{}'"
SAID = "select kind, rule, reason, subject from nightshift.decisions where kind = 'rollback'"
SHOWN = """
select as_of, count(*) as rows, min(batch_id) as batch,
       min(model_version) as version, count(distinct model_version) as versions
from predictions where as_of > '2026-01-28' group by 1 order by 1
"""


def serving(world: World, model: str = FAMILY) -> int:
    [row] = world.rows(SERVING.format(model))
    number: int = row.model_version
    return number


def shown(world: World) -> dict[int, int]:
    """The version that readers see, by the number of the night."""
    rows = world.rows(SHOWN)
    assert {(row.rows, row.versions) for row in rows} <= {(30, 1)}
    return {(row.as_of - FIRST).days: row.version for row in rows}


def roll_back(world: World, at: datetime, **how: Any) -> int:
    return rollback(
        world.site, FAMILY, reason="it is wrong", by="ada", as_of=at, now=at, undo=Undo(**how)
    )


@pytest.fixture
def replaced(world: World, kept: Kept) -> World:
    """Version 1 until night 27, then version 2, which has scored nights 28 to 30."""
    return kept.world("replaced", world, replace_the_champion)


def replace_the_champion(world: World) -> None:
    world.configure(promotion={"probation": None})
    world.train(9)
    world.train(27)
    for number in range(28, 31):
        world.score(number)


class TestProbation:
    def test_a_champion_whose_holdout_lied_is_rolled_back(self, world: World) -> None:
        world.source(LIE)
        world.train(9)
        world.train(27)
        assert serving(world) == 2
        live(world, 28, 31)
        assert serving(world) == 2
        live(world, 32, 33)
        assert serving(world) == 1
        [said] = world.rows(SAID)
        assert (said.rule, said.reason) == (
            "probation",
            "version 2, on probation: worse by 15.5 in mean absolute error on 4 nights (120 rows):"
            " evidence 11.2, and 10 is needed; version 1 serves again",
        )
        assert shown(world) == {28: 2, 29: 2, 30: 2, 31: 2, 32: 2, 33: 1}
        looks = world.rows("select * from nightshift.trials order by as_of")
        assert [look.nights for look in looks] == [0, 1, 2, 3, 4]
        live(world, 34, 38)
        assert len(world.rows(SAID)) == 1
        with connect(world.site.database_url).transaction() as tx:
            [champion] = registry.champions(tx, FAMILY, world.night(38)).values()
        first = world.rows("select reference from nightshift.promotions where seq = 1")[0]
        assert champion.reference is not None
        assert champion.reference.stored == first.reference

    def test_a_champion_that_keeps_its_promise_stays(self, world: World) -> None:
        world.train(9)
        world.train(27)
        live(world, 28, 36)
        assert serving(world) == 2
        assert world.rows(SAID) == []
        looks = world.rows("select difference, evidence from nightshift.trials order by as_of")
        assert looks[-1].difference == pytest.approx(15.5)
        assert {look.evidence for look in looks} == {0}

    def test_after_its_time_nobody_looks_any_more(self, world: World) -> None:
        world.configure(promotion={"probation": "P3D"})
        world.source(LIE)
        world.train(9)
        world.train(27)
        live(world, 28, 36)
        assert serving(world) == 2
        looks = world.rows("select nights from nightshift.trials order by as_of")
        assert [look.nights for look in looks] == [0, 1, 2, 3]

    def test_a_version_may_fail_probation_again(self, world: World) -> None:
        world.source(LIE)
        world.train(9)
        world.train(27)
        live(world, 28, 32)
        [bad] = world.rows("select version_id from nightshift.versions where number = 2")
        now = world.night(33) - timedelta(hours=1)
        people.promote(world.site, bad.version_id, reason="try again", by="ada", now=now)
        live(world, 33, 37)
        assert [row.subject for row in world.rows(SAID)] == [
            "probation 2 of promotion 2",
            "probation 2 of promotion 4",
        ]
        assert serving(world) == 1

    def test_a_predecessor_that_cannot_be_opened_is_recorded_and_left_out(
        self, world: World, forget: Callable[[int], None]
    ) -> None:
        world.source(LIE)
        world.train(9)
        world.train(27)
        live(world, 28, 29)
        forget(1)
        live(world, 30, 33)
        assert serving(world) == 2
        assert world.codes().count("probation_failed") == 4

    def test_in_a_factory_only_the_model_on_probation_is_rolled_back(self, world: World) -> None:
        world.configure(
            performance={"threshold": None, "min_labels": 10},
            models=FACTORY,
            retrain={"training": {"window": "P5D", "min_rows": 30}},
            promotion={"holdout": "P2D", "min_rows": 10},
        )
        world.source(LIE_ABOUT_K1)
        for number in (9, 27):
            as_of = world.night(number)
            asked = retrain.request_retrain(
                world.site,
                FAMILY,
                as_of,
                reason="t",
                by="t",
                now=as_of,
                members=None if number == 9 else ["k1"],
            )
            simulation.retrain(world.site, asked, now=as_of)
        assert (serving(world, "k0"), serving(world, "k1")) == (1, 2)
        live(world, 28, 32)
        assert (serving(world, "k0"), serving(world, "k1")) == (1, 1)
        assert {row.row_count for row in world.rows("select row_count from nightshift.trials")} == {
            0,
            10,
            20,
            30,
            40,
        }


class TestByHand:
    def test_the_champion_before_serves_from_now_on(self, replaced: World) -> None:
        at = replaced.night(30) + timedelta(hours=6)
        started = time.monotonic()
        decision_id = roll_back(replaced, at)
        with session(replaced.site.database_url) as connection:
            connection.exec_driver_sql("set role nightshift_reader")
            told = connection.exec_driver_sql("select * from champions").one()
        replaced.score(31)
        assert shown(replaced) == {28: 2, 29: 2, 30: 2, 31: 1}
        assert time.monotonic() - started < 60
        assert (told.model_version, told.effective_from) == (1, at)
        assert told.reason == "ada: from version 2 back to version 1: it is wrong"
        [said] = replaced.rows(SAID)
        assert said.rule == "by_hand"
        assert roll_back(replaced, at) == decision_id
        assert len(replaced.rows("select from nightshift.promotions")) == 3

    def test_nights_that_the_bad_version_scored_are_published_anew(self, replaced: World) -> None:
        before = {row.as_of: row.batch for row in replaced.rows(SHOWN)}
        at = replaced.night(30) + timedelta(hours=6)
        started = time.monotonic()
        decision_id = roll_back(replaced, at, rescore=True)
        nights = rescore(replaced.site, decision_id, now=at)
        assert shown(replaced) == {28: 1, 29: 1, 30: 1}
        assert time.monotonic() - started < 60
        assert nights == [replaced.night(number) for number in range(28, 31)]
        after = {row.as_of: row.batch for row in replaced.rows(SHOWN)}
        assert all(after[night] > before[night] for night in nights)
        kept = replaced.rows("select count(*) from nightshift.batches where version_ids = '{2}'")
        assert kept[0][0] == 3
        assert rescore(replaced.site, decision_id, now=at) == []
        replaced.score(29)  # again, and by the version that now serves it
        assert {row.as_of: row.batch for row in replaced.rows(SHOWN)} == after

    def test_nights_may_be_scored_anew_after_a_rollback_as_well(self, replaced: World) -> None:
        at = replaced.night(30) + timedelta(hours=6)
        assert rescore(replaced.site, roll_back(replaced, at), now=at) == []
        later = at + timedelta(hours=1)
        decision_id = roll_back(replaced, later, to=1, rescore=True)
        assert len(rescore(replaced.site, decision_id, now=later)) == 3
        assert shown(replaced) == {28: 1, 29: 1, 30: 1}

    def test_a_version_can_be_named(self, replaced: World) -> None:
        replaced.source("update truths set value = value + 7 where night > '2026-02-01'")
        replaced.train(39)
        assert serving(replaced) == 3
        roll_back(replaced, replaced.night(39) + timedelta(hours=1), to=1)
        assert serving(replaced) == 1

    @pytest.mark.parametrize(
        ("how", "message"),
        [
            ({"to": 2}, r"loads: loads: version 2 serves already, since 2026-01-28 02:00Z$"),
            (
                {"to": 7},
                "has had no champion with the version number 7; its champions so far: 1 and 2$",
            ),
            ({"model": "k1"}, "loads has no model 'k1'; `nightshift status loads` lists"),
        ],
    )
    def test_what_cannot_be_meant_is_refused_in_a_sentence(
        self, replaced: World, how: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(RegistryError, match=message):
            roll_back(replaced, replaced.night(31), **how)
        assert serving(replaced) == 2
        assert "registry" in replaced.codes()

    def test_the_first_champion_has_no_way_back(self, replaced: World) -> None:
        roll_back(replaced, replaced.night(31))
        with pytest.raises(RegistryError, match="has no champion before version 1; its champions"):
            roll_back(replaced, replaced.night(31) + timedelta(hours=1))

    def test_an_artifact_that_was_collected_is_refused(
        self, replaced: World, forget: Callable[[int], None]
    ) -> None:
        forget(1)
        with session(replaced.site.database_url) as connection:
            connection.exec_driver_sql(
                "insert into nightshift.collected_artifacts"
                " select artifact_hash, '2026-01-30Z' from nightshift.versions where number = 1"
            )
        told = r"version 1 of loads was not opened: its artifact was collected .*nightshift reprod"
        with pytest.raises(ArtifactRefused, match=told):
            roll_back(replaced, replaced.night(31))
        assert serving(replaced) == 2
        assert replaced.rows(SAID) == []

    def test_by_the_command_line(self, replaced: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(local, "site", lambda: replaced.site)
        words = ["rollback", FAMILY, "--reason", "it is wrong", "--rescore"]
        told = CliRunner().invoke(app, words)
        assert told.exit_code == 0, told.output
        assert "version 1 serves" in told.output
        assert "3 nights were scored anew" in told.output
        assert shown(replaced) == {28: 1, 29: 1, 30: 1}
        history = CliRunner().invoke(app, ["history", FAMILY]).output
        assert "rollback" in history
        again = CliRunner().invoke(app, words)
        assert isinstance(again.exception, RegistryError)


class TestKept:
    def versions(self, world: World, count: int) -> None:
        """So many champions, a week apart, each with an artifact of its own."""
        world.source("update truths set value = value + sin(extract(epoch from night) / 1e6)")
        for number in range(count):
            now = world.night(8 + 7 * number)
            asked = retrain.request_retrain(world.site, FAMILY, now, reason="r", by="b", now=now)
            [version_id] = retrain.fit(world.site, asked, now=now)
            people.promote(world.site, version_id, reason="r", by="b", now=now)

    def age(self, world: World) -> None:
        """Let every artifact have been written on the first day."""
        for file in Path(world.site.store).glob("??/*.joblib"):
            os.utime(file, (FIRST.timestamp(), FIRST.timestamp()))

    def stored(self, world: World) -> list[int]:
        """The numbers of the versions whose artifact is in the store."""
        return [
            row.number
            for row in world.rows(
                "select number, artifact_hash from nightshift.versions order by 1"
            )
            if list(Path(world.site.store).glob(f"*/{row.artifact_hash}.joblib"))
        ]

    def test_the_last_champions_stay_and_older_ones_go_after_the_grace(self, world: World) -> None:
        world.configure(promotion={"keep_versions": 2})
        self.versions(world, 4)
        snapshots = sorted(Path(world.site.store).glob("??/*.parquet"))
        now = world.night(8 + 21) + timedelta(days=6)
        self.age(world)
        # The second made way a week and six days ago, the first a week earlier.
        assert upkeep.maintain(world.site, now=now)["collected_artifacts"] == 2
        assert self.stored(world) == [3, 4]
        assert upkeep.maintain(world.site, now=now)["collected_artifacts"] == 0
        assert sorted(Path(world.site.store).glob("??/*.parquet")) == snapshots
        _verified_pipeline.cache_clear()
        with pytest.raises(ArtifactRefused, match="its artifact was collected at 2026-02-05"):
            roll_back(world, now, to=1)
        roll_back(world, now, to=3)
        assert "collected" in world.codes()

    def test_what_was_of_use_not_long_ago_stays(self, world: World) -> None:
        world.configure(promotion={"keep_versions": 1})
        self.versions(world, 4)
        now = world.night(8 + 21) + timedelta(hours=1)
        self.age(world)
        # Version 3 has just made way, and is the champion before; version 2 did a week ago.
        assert upkeep.maintain(world.site, now=now)["collected_artifacts"] == 2
        assert self.stored(world) == [3, 4]

    def test_a_challenger_that_was_rejected_goes_and_one_in_shadow_stays(
        self, world: World
    ) -> None:
        world.configure(promotion={"shadow": "P20D"})
        world.train(9)
        world.train(14)  # no better
        world.train(27)  # in shadow
        now = world.night(39)
        self.age(world)
        upkeep.maintain(world.site, now=now)
        assert 3 in self.stored(world)

    def test_files_that_no_version_is_made_of_go_after_the_grace(self, world: World) -> None:
        world.train(9)
        store = store_of(world.site)
        stray = store.write_bytes(b"left by a run that was killed", "joblib")
        now = datetime.now().astimezone() + timedelta(days=6)
        assert upkeep.maintain(world.site, now=now)["collected_artifacts"] == 0
        assert upkeep.maintain(world.site, now=now + timedelta(days=2))["collected_artifacts"] == 1
        assert not store.has(stray, "joblib")
        assert self.stored(world) == [1]

    def test_families_that_do_not_load_lose_nothing(self, world: World) -> None:
        world.configure(promotion={"keep_versions": 1})
        self.versions(world, 3)
        self.age(world)
        world.write("model.yaml", "family: [")
        assert upkeep.maintain(world.site, now=world.night(39))["collected_artifacts"] == 0


class TestWayBack:
    """Which champion a rollback without a version means."""

    model = Model(1, "f", "m")

    def served(self, *numbers: int) -> list[Promotion]:
        """Promotions; a number below zero is a rollback to that version."""
        return [
            Promotion(seq, abs(n), abs(n), "promote" if n > 0 else "rollback", FIRST, FIRST, None)
            for seq, n in enumerate(numbers, 1)
        ]

    @pytest.mark.parametrize(
        ("numbers", "to"),
        [
            ((1, 2), 1),
            ((1, 2, 3), 2),
            ((1, 2, 3, -2), 1),
            ((1, 2, -1, 3), 1),
            ((1, 2, -1, 3, 4, -3), 1),
            ((1, 2, 1), 2),
            ((1, 2, 3, -1, 2), 1),
        ],
    )
    def test_it_is_the_one_before_that_still_stands(
        self, numbers: tuple[int, ...], to: int
    ) -> None:
        _, found = registry.way_back(self.model, self.served(*numbers), None)
        assert found.number == to

    @pytest.mark.parametrize("numbers", [(1,), (1, 2, -1), (1, 2, 3, -2, -1)])
    def test_where_none_stands_there_is_no_way(self, numbers: tuple[int, ...]) -> None:
        with pytest.raises(RegistryError, match="has no champion before version 1"):
            registry.way_back(self.model, self.served(*numbers), None)

    def test_without_a_champion_there_is_nothing_to_undo(self) -> None:
        with pytest.raises(RegistryError, match="f: m has no champion; there is nothing to"):
            registry.way_back(self.model, [], None)
