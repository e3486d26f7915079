"""A first training that has too little to learn from says why; once mended, it works."""

from __future__ import annotations

import pytest
from tests.world import World

from nightshift.errors import TrainingError

WRONG = [{"type": "expect_column_values_to_be_between", "column": "size", "max_value": 5}]


def refused(world: World, number: int = 9) -> str:
    with pytest.raises(TrainingError) as caught:
        world.train(number)
    return str(caught.value)


@pytest.mark.parametrize("history", ["append_only", "mutable"])
def test_nights_that_were_rejected_are_judged_again_once_mended(world: World, history: str) -> None:
    if history == "mutable":
        world.configure(expectations=WRONG, source={"history": history})
        for number in range(10):
            world.score(number)
    else:
        world.configure(expectations=WRONG)
    told = refused(world)
    assert "5 nights were rejected by validation" in told
    assert "agree on entity_id" not in told
    world.configure(expectations=[])
    world.train(9)
    [version] = world.rows("select manifest ->> 'rows' as rows from nightshift.versions")
    assert version.rows == "150"


def test_truths_older_than_their_night_are_the_cause(world: World) -> None:
    world.source("update truths set known_at = night - interval '1 hour'")
    told = refused(world)
    assert "have a truth that was known by their own night" in told
    assert "rejected" not in told


def test_a_source_without_history_is_the_cause(world: World) -> None:
    world.configure(source={"history": "mutable"})
    told = refused(world)
    assert (
        "5 nights were never frozen, and cannot be any more, for source.history is mutable" in told
    )


def test_labels_that_match_no_entity_are_the_cause(world: World) -> None:
    world.source("update truths set entity_id = 'x' || entity_id")
    told = refused(world)
    assert "labels answers an entity of these nights" in told
    assert "labels.sql and features.sql must agree on entity_id (labels say 'x2026" in told


def test_no_labels_are_the_cause(world: World) -> None:
    world.source("delete from truths")
    assert "labels.sql gave no label for these nights" in refused(world)


def test_nights_whose_labels_are_half_there_are_the_cause(world: World) -> None:
    world.source("delete from truths where mod(right(entity_id, 1)::int, 2) = 0")
    told = refused(world)
    assert "5 nights were left out, for fewer of their rows have labels" in told
    assert "labels.min_coverage asks for (80%)" in told


def test_a_night_whose_labels_are_half_there_is_neither_learnt_nor_compared_on(
    world: World,
) -> None:
    half = "delete from truths where night = '{}' and mod(right(entity_id, 1)::int, 2) = 0"
    for night in ("2026-01-06 02:00Z", "2026-01-08 02:00Z"):
        world.source(half.format(night))
    world.train(9)
    [version] = world.rows("select manifest from nightshift.versions")
    assert version.manifest["rows"] == 120
    assert version.manifest["nights_incomplete"] == ["2026-01-06T02:00:00+00:00"]
    assert version.manifest["coverage"] == {"training": 1.0, "holdout": 1.0}
    [compared] = world.rows("select row_count, coverage from nightshift.comparisons")
    assert tuple(compared) == (30, 1.0)


def test_entities_whose_truth_is_old_are_not_missed_in_later_nights(world: World) -> None:
    world.configure(labels={"per": "entity"})
    # Half of every night's rows are of entities that were answered on the very first night.
    world.source(
        "update items set entity_id = 'old-' || right(entity_id, 2) where mod(size::int, 2) = 0;"
        "delete from truths where entity_id not in (select entity_id from items);"
        "insert into truths select distinct entity_id, timestamptz '2026-01-01 02:00Z',"
        " timestamptz '2026-01-01 14:00Z', 1.0 from items where entity_id like 'old-%'"
    )
    for number in (8, 9):  # the labels of that night lie within the nights of the first one only
        world.train(number)
    versions = world.rows("select manifest from nightshift.versions order by number")
    assert [version.manifest["rows"] for version in versions] == [75, 75]
    assert [version.manifest["nights_incomplete"] for version in versions] == [[], []]
