"""Champions of the past go on being scored, and serve again without a fit when they are better."""

from __future__ import annotations

from tests.families import live
from tests.world import World

# A second season of nine nights, in which the same size means twice the load.
SEASON = """
update truths set value = size * (case when items.night between '2026-01-15' and '2026-01-24'
                                 then 2 else 1 end) + 3
from items where items.entity_id = truths.entity_id
"""


def test_the_champion_of_a_season_returns_with_it_although_probation_is_over(world: World) -> None:
    world.source(SEASON)
    world.configure(promotion={"probation": "P1D"})
    world.train(12)
    world.train(21)
    live(world, 22, 34)
    [said] = world.rows("select rule, reason from nightshift.decisions where kind = 'rollback'")
    assert said.rule == "memory"
    assert "version 1, a champion of the past, would have been better by 15.5" in said.reason
    assert world.rows("select model_version from champions") == [(1,)]
    assert world.rows("select count(*) from nightshift.versions") == [(2,)]
    # Each night was looked at once.
    looked = world.rows("select as_of, count(*) as times from nightshift.recollections group by 1")
    assert {row.times for row in looked} == {1}
    assert len(looked) > 8


def test_nothing_is_remembered_where_probation_is_switched_off(world: World) -> None:
    world.configure(promotion={"probation": None})
    world.train(12)
    world.train(28)
    live(world, 29, 33)
    assert not world.rows("select from nightshift.recollections")
