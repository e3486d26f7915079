"""A night that several tasks score: written once, gone on with, and published whole."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.families import MEMBERS, train_all
from tests.world import Kept, World

from nightshift import artifacts
from nightshift.errors import ArtifactRefused, NoChampion, ScoringError
from nightshift.local import session
from nightshift.registry.versions import _verified_pipeline
from nightshift.steps import night
from nightshift.steps.frame import store_of

ROWS = """
select r.role, m.name, r.entity_id, r.score, r.flags, r.model_id <> versions.model_id as by_fallback
from nightshift.prediction_rows r
join nightshift.published using (batch_id)
join nightshift.versions using (version_id)
join nightshift.models m on m.model_id = r.model_id
order by r.role, r.entity_id
"""


@pytest.fixture
def factory(world: World, kept: Kept) -> World:
    """Three members and a fallback; each member is a task's share."""
    return kept.world("shared_out", world, train_members)


def train_members(world: World) -> None:
    world.configure(**MEMBERS, scoring={"rows_per_task": 1, "max_tasks": 3})
    train_all(world, 9)


@pytest.fixture
def large(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """One model, whose thirty rows are eight row groups."""
    monkeypatch.setattr("nightshift.data.store.ROW_GROUP", 4)
    monkeypatch.setattr("nightshift.steps.night.ROW_GROUP", 4)
    world.configure(scoring={"rows_per_task": 1, "max_tasks": 5})
    train_all(world, 9)
    return world


def shared_out(world: World, number: int) -> list[dict[str, int]]:
    snapshot_id = world.freeze(number)
    night.validate(world.site, snapshot_id, now=world.night(number))
    return night.share_out(world.site, snapshot_id, now=world.night(number))


def score(world: World, number: int, share: dict[str, int]) -> int:
    return night.score_share(world.site, **share, now=world.night(number))


def publish(world: World, number: int, batch_id: int) -> dict[str, Any]:
    return night.publish(world.site, batch_id, now=world.night(number))


def alter(world: World, model: str, change: Callable[[bytes], bytes]) -> None:
    """Alter the artifact of a model."""
    [row] = world.rows(
        "select artifact_hash from nightshift.versions join nightshift.models using (model_id)"
        f" where name = '{model}'"
    )
    store = store_of(world.site)
    file = Path(store.address(row.artifact_hash, "joblib"))
    file.write_bytes(change(file.read_bytes()))
    _verified_pipeline.cache_clear()


def lose(world: World, model: str) -> None:
    alter(world, model, lambda there: there + b"x")


def fail_on(
    monkeypatch: pytest.MonkeyPatch, size: int, error: type[Exception], number: int
) -> None:
    """Have version ``number`` of every model raise where a row has this size."""
    predict = artifacts.LoadedVersion.predict

    def weak(self: artifacts.LoadedVersion, table: Any) -> Any:
        if self.version.number == number and size in table["size"].to_pylist():
            raise error("too much for me")
        return predict(self, table)

    monkeypatch.setattr(artifacts.LoadedVersion, "predict", weak)


@pytest.mark.parametrize(("which", "count"), [("factory", 3), ("large", 5)])
def test_a_night_in_parts_is_the_night_in_one(
    which: str, count: int, request: pytest.FixtureRequest
) -> None:
    world: World = request.getfixturevalue(which)
    shares = shared_out(world, 10)
    assert len(shares) == count
    batches = {score(world, 10, share) for share in reversed(shares)}
    assert publish(world, 10, *batches)["rows"] == 30
    in_parts = world.rows(ROWS)
    assert len({row.entity_id for row in in_parts}) == 30
    counted = "select model_id, version_id, row_count from nightshift.batch_models order by 1"
    models = world.rows(counted)

    with session(world.site.database_url) as connection:
        connection.exec_driver_sql("delete from nightshift.published")
        connection.exec_driver_sql("delete from nightshift.batch_models")
    world.configure(scoring={"max_tasks": 1})
    [share] = shared_out(world, 10)
    publish(world, 10, score(world, 10, share))
    assert world.rows(ROWS) == in_parts
    assert world.rows(counted) == models


def test_a_night_is_not_published_before_its_last_part_is_there(factory: World) -> None:
    *first, last = shared_out(factory, 10)
    [batch_id] = {score(factory, 10, share) for share in first}
    with pytest.raises(ScoringError, match="is writing with"):
        publish(factory, 10, batch_id)
    score(factory, 10, last)
    assert publish(factory, 10, batch_id)["rows"] == 30


def test_a_retry_writes_only_what_is_missing(factory: World) -> None:
    shares = shared_out(factory, 10)
    score(factory, 10, shares[1])
    there = "select ctid, entity_id from nightshift.prediction_rows order by entity_id"
    before = factory.rows(there)

    assert shared_out(factory, 10) == shares  # the task before was cleared as well
    score(factory, 10, shares[1])
    assert factory.rows(there) == before
    for share in shares:
        score(factory, 10, share)
    assert publish(factory, 10, shares[0]["batch_id"])["rows"] == 30
    assert set(before) < set(factory.rows(there))
    # Once the night is published, nothing is left to share out.
    assert shared_out(factory, 10) == [{"snapshot_id": shares[0]["snapshot_id"]}]


def test_two_who_write_the_same_part_write_it_once(
    factory: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, predict = threading.Barrier(2, timeout=60), artifacts.LoadedVersion.predict

    def together(self: artifacts.LoadedVersion, table: Any) -> Any:
        both.wait()
        return predict(self, table)

    first, *others = shared_out(factory, 10)
    with monkeypatch.context() as patched:
        patched.setattr(artifacts.LoadedVersion, "predict", together)
        tasks = [threading.Thread(target=score, args=(factory, 10, first)) for _ in range(2)]
        for task in tasks:
            task.start()
        for task in tasks:
            task.join()
    for share in others:
        score(factory, 10, share)
    assert publish(factory, 10, first["batch_id"])["rows"] == 30
    [found] = factory.rows("select count(*), count(distinct entity_id) as keys from predictions")
    assert tuple(found) == (30, 30)


def test_a_model_that_fails_is_left_out_and_tried_again(factory: World) -> None:
    lose(factory, "k1")
    batches = {score(factory, 10, share) for share in shared_out(factory, 10)}
    assert publish(factory, 10, *batches)["rows"] == 20
    assert {row.name for row in factory.rows(ROWS)} == {"k0", "k2"}  # the fallback is not asked
    counts = "select row_count, skipped_rows, failed_rows from nightshift.batches"
    assert [tuple(row) for row in factory.rows(counts)] == [(20, 0, 10)]
    [event] = factory.rows("select detail from nightshift.events where code = 'model_failed'")
    assert event.detail["model"] == "k1"
    assert "was changed after it was written" in event.detail["reason"]
    alter(factory, "k1", lambda there: there[:-1])
    again = {score(factory, 10, share) for share in shared_out(factory, 10)}
    assert batches != again
    assert publish(factory, 10, *again)["rows"] == 30


def test_a_batch_in_which_a_model_failed_is_not_gone_on_with(factory: World) -> None:
    lose(factory, "k1")
    shares = shared_out(factory, 10)
    assert shared_out(factory, 10) == shares
    plans = factory.rows("select plan from nightshift.batch_parts order by part")
    [failing] = [
        share for share, row in zip(shares, plans, strict=True) if row.plan["work"][0][0] == "k1"
    ]
    score(factory, 10, failing)
    [batch_id] = {share["batch_id"] for share in shares}
    [another] = {share["batch_id"] for share in shared_out(factory, 10)}
    assert another > batch_id


def test_a_model_that_fails_in_one_piece_leaves_no_row_in_any(
    factory: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nightshift.data.store.ROW_GROUP", 4)
    monkeypatch.setattr("nightshift.steps.night.ROW_GROUP", 4)
    factory.configure(scoring={"rows_per_task": 1, "max_tasks": 8})
    shares = shared_out(factory, 10)
    plans = factory.rows("select plan from nightshift.batch_parts")
    assert {row.plan["pieces"] for row in plans} == {2}
    fail_on(monkeypatch, 30, ScoringError, 1)
    batches = {score(factory, 10, share) for share in reversed(shares)}
    assert publish(factory, 10, *batches)["rows"] == 20
    [event] = factory.rows("select detail from nightshift.events where code = 'model_failed'")
    assert event.detail["model"] not in {row.name for row in factory.rows(ROWS)}
    rows = factory.rows("select count(*) from nightshift.prediction_rows")
    assert rows[0][0] == 20
    models = factory.rows(
        "select row_count, version_id is null as lost from nightshift.batch_models order by 2"
    )
    assert [tuple(row) for row in models] == [(10, False), (10, False), (10, True)]


def test_one_model_that_fails_in_one_piece_gives_the_batch_up(
    large: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = shared_out(large, 10)
    fail_on(monkeypatch, 30, ScoringError, 1)
    ends: list[str] = []
    for share in shares:
        with suppress(ScoringError):
            score(large, 10, share)
            ends.append("written")
    with pytest.raises(ScoringError, match="was given up; clear the task before"):
        score(large, 10, shares[-1])
    with pytest.raises(ScoringError, match="is abandoned with"):
        publish(large, 10, shares[0]["batch_id"])
    assert len(ends) < len(shares)
    monkeypatch.undo()
    assert shared_out(large, 10)[0].get("batch_id") != shares[0]["batch_id"]


@pytest.mark.parametrize("max_tasks", [1, 3])
def test_a_night_that_no_model_can_score_is_given_up(factory: World, max_tasks: int) -> None:
    factory.configure(models={"fallback": False}, scoring={"max_tasks": max_tasks})
    for name in ("k0", "k1", "k2"):
        lose(factory, name)
    *others, last = shared_out(factory, 10)
    for share in others:
        score(factory, 10, share)
    with pytest.raises(ArtifactRefused, match="was changed after it was written"):
        score(factory, 10, last)
    [batch] = factory.rows("select batch_id, state from nightshift.batches")
    assert batch.state == "abandoned"
    with pytest.raises(ScoringError, match="is abandoned with"):
        publish(factory, 10, batch.batch_id)


def test_a_shadow_that_fails_in_one_part_leaves_no_row_in_any(
    large: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    large.configure(promotion={"shadow": "P8D"})
    large.train(27)
    fail_on(monkeypatch, 30, RuntimeError, 2)
    shares = shared_out(large, 28)
    for share in shares:
        score(large, 28, share)
    assert publish(large, 28, shares[0]["batch_id"])["rows"] == 30
    counted = "select role, count(*) as rows from nightshift.prediction_rows group by role"
    assert [tuple(row) for row in large.rows(counted)] == [(0, 30)]
    assert large.codes().count("shadow_failed") == 1


def test_without_a_champion_it_is_the_scoring_that_says_so(world: World) -> None:
    world.configure(scoring={"rows_per_task": 1})
    [share] = shared_out(world, 10)
    with pytest.raises(NoChampion):
        score(world, 10, share)
