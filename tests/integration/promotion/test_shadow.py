"""A challenger in shadow: scored beside the champion, unseen by readers, and promoted on proof."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.families import FACTORY, K1_CHANGES
from tests.world import FAMILY, Kept, World
from typer.testing import CliRunner

from nightshift import artifacts, local, promotion, registry, simulation
from nightshift.cli import app
from nightshift.data import connect
from nightshift.steps import monitor, people, retrain

ROLES = """
select b.as_of, v.number, r.role, count(*) as rows
from nightshift.published p join nightshift.batches b using (batch_id)
join nightshift.prediction_rows r using (batch_id) join nightshift.versions v using (version_id)
group by 1, 2, 3 order by 1, 3
"""
SAID = """
select d.kind, d.rule, d.reason, d.as_of from nightshift.decisions d
where d.about = 'shadow' order by d.decision_id
"""
SERVING = "select model_version from champions where family = 'loads' and model = '{}'"


@pytest.fixture
def shadowed(world: World, kept: Kept) -> World:
    """A champion of the old world, and from night 27 on one of the new world in shadow."""
    return kept.world("shadowed", world, train_a_shadow)


def train_a_shadow(world: World) -> None:
    world.configure(promotion={"shadow": "P8D"})
    world.train(9)
    world.train(27)


def live(world: World, first: int, last: int) -> None:
    """Score and monitor nights."""
    for number in range(first, last + 1):
        world.score(number)
        world.monitor(number)


def serving(world: World, model: str = FAMILY) -> int:
    [row] = world.rows(SERVING.format(model))
    number: int = row.model_version
    return number


def shadow_rows(world: World) -> list[tuple[int, int, int]]:
    """For each night its number, and how many rows readers see and the shadow has."""
    roles: dict[int, dict[int, int]] = {}
    for row in world.rows(ROLES):
        roles.setdefault((row.as_of - world.night(0)).days, {})[row.role] = row.rows
    return [(night, of.get(0, 0), of.get(1, 0)) for night, of in roles.items()]


def test_a_challenger_that_was_proven_scores_beside_the_champion(shadowed: World) -> None:
    [said] = shadowed.rows(
        "select kind, reason from nightshift.decisions where about = 'comparison' and about_id = 2"
    )
    assert said.kind == "shadow"
    assert "it scores beside the champion for 8 days" in said.reason
    assert serving(shadowed) == 1
    shadowed.score(26)  # the shadow had not begun
    shadowed.score(28)
    assert shadow_rows(shadowed) == [(26, 30, 0), (28, 30, 30)]
    [told] = shadowed.rows(
        "select count(*) as rows, max(model_version) as version from predictions"
        " where as_of > '2026-01-29'"
    )
    assert (told.rows, told.version) == (30, 1)


def test_only_readers_rows_are_measured_watched_and_counted(shadowed: World) -> None:
    for number in range(28, 31):
        shadowed.score(number)
    shadowed.monitor(30)
    [batch] = shadowed.rows(
        "select row_count, skipped_rows, version_ids from nightshift.batches"
        " order by batch_id desc limit 1"
    )
    assert (batch.row_count, batch.skipped_rows, len(batch.version_ids)) == (30, 0, 1)
    measured = shadowed.rows(
        "select predictions, model_version from performance"
        " where as_of > '2026-01-30' and basis = 'realized'"
    )
    assert {row.predictions for row in measured} == {60}
    assert {row.model_version for row in measured} == {1, None}


def test_scoring_a_night_again_is_scoring_it_once_whatever_became_of_the_shadow(
    shadowed: World,
) -> None:
    shadowed.score(27)  # published before the shadow began
    shadowed.score(28)
    before = shadowed.rows(ROLES)
    shadowed.score(27)
    shadowed.score(28)
    assert shadowed.rows(ROLES) == before
    live(shadowed, 29, 32)
    assert serving(shadowed) == 2
    after = shadowed.rows(ROLES)
    shadowed.score(28)
    shadowed.score(31)
    assert shadowed.rows(ROLES) == after


def test_a_challenger_is_promoted_as_soon_as_it_has_proved_itself(shadowed: World) -> None:
    live(shadowed, 28, 31)
    assert serving(shadowed) == 1
    looks = shadowed.rows("select * from nightshift.trials order by as_of")
    # A look a night: the nights before it that have matured. Thirty rows each, evenly better.
    assert [look.nights for look in looks] == [0, 1, 2, 3]
    assert [look.row_count for look in looks] == [0, 30, 60, 90]
    assert [round(look.evidence, 2) for look in looks] == [0, 0, 1.73, 4]
    assert looks[-1].difference == pytest.approx(15.5)
    live(shadowed, 32, 32)
    [said] = shadowed.rows(SAID)
    assert (said.kind, said.rule, said.as_of) == (
        "promote",
        "proof",
        shadowed.night(32) + timedelta(hours=4),
    )
    assert said.reason == (
        "version 2, in shadow: better by 15.5 in mean absolute error on 4 nights (120 rows):"
        " evidence 11.2, and 10 is needed"
    )
    assert serving(shadowed) == 2
    shadowed.score(33)
    assert shadow_rows(shadowed)[-1] == (33, 30, 0)
    database = connect(shadowed.site.database_url)
    with database.transaction() as tx:
        [champion] = registry.champions(tx, FAMILY, shadowed.night(33)).values()
    assert champion.reference is not None  # what it was worth when it was compared


def test_looking_again_decides_nothing_new(shadowed: World) -> None:
    live(shadowed, 28, 32)
    as_of = shadowed.night(32) + timedelta(hours=4)
    first = monitor.judge_trials(shadowed.site, FAMILY, as_of, now=as_of)
    assert len(first) == 1
    assert monitor.judge_trials(shadowed.site, FAMILY, as_of, now=as_of) == first
    assert len(shadowed.rows("select from nightshift.trials where kind = 'shadow'")) == 5


def test_without_proof_in_its_time_the_challenger_is_rejected(world: World) -> None:
    world.configure(promotion={"shadow": "P3D"})
    world.train(9)
    world.train(27)
    live(world, 28, 30)
    assert world.rows(SAID) == []
    live(world, 31, 33)
    [said] = world.rows(SAID)
    assert (said.kind, said.rule) == ("reject", "shadow_without_proof")
    assert "on 3 nights (90 rows)" in said.reason
    assert said.reason.endswith("evidence 4, and 10 is needed; its time is over")
    assert serving(world) == 1
    assert [row[0] for row in shadow_rows(world) if row[2]] == [28, 29, 30]


def test_a_person_is_asked_where_one_must_approve(shadowed: World) -> None:
    shadowed.configure(promotion={"approval": "human"})
    live(shadowed, 28, 32)
    [said] = shadowed.rows(SAID)
    assert (said.kind, said.rule) == ("ask", "approval")
    assert serving(shadowed) == 1
    with connect(shadowed.site.database_url).transaction() as tx:
        [asked] = promotion.pending(tx)
    assert "better by 15.5 in mean absolute error on 4 nights" in asked.evidence
    now = shadowed.night(33)
    people.answer(shadowed.site, asked.approval_id, "approved", "ada", now=now)
    assert serving(shadowed) == 2


def test_a_newer_challenger_takes_the_place_of_an_older_one(shadowed: World) -> None:
    live(shadowed, 28, 29)
    shadowed.train(30)
    [said] = shadowed.rows(SAID)
    assert (said.kind, said.rule) == ("reject", "superseded")
    assert said.reason == "version 2, in shadow: version 3 has taken its place"
    live(shadowed, 31, 35)
    assert [(row.kind, row.rule) for row in shadowed.rows(SAID)] == [
        ("reject", "superseded"),
        ("promote", "proof"),
    ]
    assert serving(shadowed) == 3


def test_a_shadow_ends_when_its_champion_is_replaced_by_other_means(shadowed: World) -> None:
    live(shadowed, 28, 29)
    [challenger] = shadowed.rows("select version_id from nightshift.versions where number = 2")
    now = shadowed.night(30) - timedelta(hours=1)
    people.promote(shadowed.site, challenger.version_id, reason="r", by="ada", now=now)
    live(shadowed, 30, 30)
    [said] = shadowed.rows(SAID)
    assert (said.kind, said.rule) == ("reject", "champion_replaced")
    assert shadow_rows(shadowed)[-1] == (30, 30, 0)


def test_a_challenger_that_cannot_be_opened_harms_nobody(
    shadowed: World, forget: Callable[[int], None]
) -> None:
    forget(2)
    assert shadowed.score(28)
    assert shadow_rows(shadowed) == [(28, 30, 0)]
    [event] = shadowed.rows("select detail from nightshift.events where code = 'shadow_failed'")
    assert event.detail["version"] == 2
    assert event.detail["reason"].startswith("ArtifactRefused: loads: version 2 of loads was not")


def test_a_challenger_that_raises_midway_leaves_no_row_behind(
    shadowed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nightshift.data.store.ROW_GROUP", 10)
    predict = artifacts.LoadedVersion.predict

    def weak(self: artifacts.LoadedVersion, table: Any) -> Any:
        if self.version.number == 2 and max(table["size"].to_pylist()) > 20:
            raise RuntimeError("too large for me")
        return predict(self, table)

    monkeypatch.setattr(artifacts.LoadedVersion, "predict", weak)
    assert shadowed.score(28)
    assert shadow_rows(shadowed) == [(28, 30, 0)]
    [event] = shadowed.rows("select detail from nightshift.events where code = 'shadow_failed'")
    assert event.detail["reason"] == "RuntimeError: too large for me"
    assert (
        monitor.judge_trials(shadowed.site, FAMILY, shadowed.night(30), now=shadowed.night(30))
        == []
    )


def test_in_a_factory_only_the_rows_of_the_model_are_scored_twice(world: World) -> None:
    world.configure(
        performance={"threshold": None, "min_labels": 10},
        models=FACTORY,
        retrain={"training": {"window": "P5D", "min_rows": 30}},
        promotion={"holdout": "P2D", "min_rows": 10, "shadow": "P8D"},
    )
    world.source(K1_CHANGES)
    as_of = world.night(9)
    asked = retrain.request_retrain(world.site, FAMILY, as_of, reason="t", by="t", now=as_of)
    simulation.retrain(world.site, asked, now=as_of)
    as_of = world.night(19)
    asked = retrain.request_retrain(
        world.site, FAMILY, as_of, reason="t", by="t", now=as_of, members=["k1"]
    )
    simulation.retrain(world.site, asked, now=as_of)
    live(world, 20, 24)
    assert shadow_rows(world) == [(number, 30, 10) for number in range(20, 25)]
    assert (serving(world, "k0"), serving(world, "k1")) == (1, 2)


def test_people_are_told_of_a_shadow_while_it_lasts_and_when_it_ends(
    shadowed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "site", lambda: shadowed.site)
    monkeypatch.setattr("nightshift.cli.console.width", 200)

    def run(*words: str) -> str:
        return CliRunner().invoke(app, words).output

    live(shadowed, 28, 28)
    assert "1, 2 in shadow" in run("status")
    request = (shadowed.night(27) + timedelta(hours=1)).isoformat()
    assert "In shadow: version 2 until 2026-02-05 02:00Z, 0 nights judged." in run(
        "why", FAMILY, "--on", request
    )
    live(shadowed, 29, 32)
    assert "In shadow: promote: version 2, in shadow: better by 15.5" in run(
        "why", FAMILY, "--on", request
    )
    assert "Tried: promote: version 2, in shadow: better by 15.5" in run("why", FAMILY)
    told = run("history", FAMILY)
    assert "shadow   over 99.9% better on 2 nights: mean absolute error" in told
    assert "promote  version 2 serves from 2026-02-02 06:00Z: version 2, in shadow" in told
