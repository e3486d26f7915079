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
