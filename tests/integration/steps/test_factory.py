"""A family of many models: members appear, are served, measured, retrained, and retired."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.families import K1_CHANGES, MEMBERS, NEW_KIND, train_all
from tests.world import FAMILY, World

from nightshift import registry, simulation
from nightshift.data import connect
from nightshift.errors import ConfigError, NoChampion, TrainingError
from nightshift.steps import retrain

SCORED = """
select model, count(*) as rows, bool_or('fallback' = any(flags)) as fallback,
       min(model_version) as version
from predictions where as_of = '{}' group by model order by model
"""


@pytest.fixture
def factory(world: World) -> World:
    world.configure(**MEMBERS)
    return world


def scored(world: World, number: int) -> dict[str, tuple[int, bool, int]]:
    world.score(number)
    rows = world.rows(SCORED.format(world.night(number).isoformat()))
    return {row.model: (row.rows, row.fallback, row.version) for row in rows}


def test_each_member_is_scored_by_its_own_model(factory: World) -> None:
    assert len(train_all(factory, 9)) == 4
    assert scored(factory, 10) == {f"k{i}": (10, False, 1) for i in range(3)}
    assert [tuple(row) for row in factory.rows("select model, state from models order by 1")] == [
        ("k0", "active"),
        ("k1", "active"),
        ("k2", "active"),
        (FAMILY, "active"),
    ]


def test_a_new_member_is_scored_by_the_fallback_until_it_has_labels_enough(factory: World) -> None:
    train_all(factory, 9)
    factory.source(NEW_KIND)
    for number in range(10, 12):
        assert "new" not in scored(factory, number)
        assert factory.monitor(number) == []
    assert scored(factory, 12)["new"] == (10, True, 1)
    for number in range(13, 18):
        factory.score(number)
        decisions = factory.monitor(number)
    # Thirty labels are enough. They must be older than maturity and holdout together, three days:
    # on night 17 those of the nights 12 to 14 are.
    [said] = factory.rows("select model, as_of, reason from decisions where rule = 'first_model'")
    assert (said.model, said.as_of) == ("new", factory.night(17) + timedelta(hours=4))
    assert "30 labelled rows are enough for a first" in said.reason
    simulation.retrain(factory.site, decisions, now=factory.night(17) + timedelta(hours=5))
    assert scored(factory, 18)["new"] == (10, False, 1)


def test_without_a_fallback_rows_of_new_members_are_counted_and_left_out(factory: World) -> None:
    factory.configure(models={"fallback": False})
    assert len(train_all(factory, 9)) == 3
    factory.source(NEW_KIND)
    assert "new" not in scored(factory, 12)
    [batch] = factory.rows("select row_count, skipped_rows from nightshift.batches")
    assert (batch.row_count, batch.skipped_rows) == (30, 10)


def test_a_member_that_vanishes_is_retired_and_not_deleted(factory: World) -> None:
    train_all(factory, 9)
    factory.source("delete from items where kind = 'k2' and night > '2026-01-12'")
    for number in range(10, 17):
        factory.score(number)
        factory.monitor(number)
    states = dict(tuple(row) for row in factory.rows("select model, state from models"))
    assert states == {"k0": "active", "k1": "active", "k2": "retired", FAMILY: "active"}
    assert factory.rows("select count(*) from predictions where model = 'k2'")[0][0] == 10
    assert "retired" in factory.codes()


def test_only_the_members_that_fail_are_retrained(factory: World) -> None:
    factory.source(K1_CHANGES)
    train_all(factory, 9)
    for number in range(10, 16):
        factory.score(number)
    decisions = factory.monitor(15)
    [said] = factory.rows(
        "select model, kind, rule from decisions where kind = 'retrain' and rule <> 'on_demand'"
    )
    assert tuple(said) == ("k1", "retrain", "breaches")
    assert len(decisions) == 1


def test_a_group_is_retrained_together_when_its_rule_fires(factory: World) -> None:
    factory.configure(models=None)
    groups = {
        "pair": {"thresholds": {"k0": -1.0, "k1": -1.0}, "retrain_if": "any"},
        "lone": {"thresholds": {"k2": -1.0}, "retrain_if": "all"},
    }
    factory.configure(models={"by": "kind", "groups": groups})
    factory.source(K1_CHANGES)
    train_all(factory, 9)
    for number in range(10, 16):
        factory.score(number)
    assert len(factory.monitor(15)) == 2
    said = factory.rows(
        "select model, kind, rule, reason from decisions where as_of > '2026-01-12' order by model"
    )
    assert [(row.model, row.kind, row.rule) for row in said] == [
        ("k0", "retrain", "group"),
        ("k1", "retrain", "breaches"),
        ("k2", "keep", "measured"),
    ]
    assert "pair: 1 of 2 fail (k1); it retrains if any does" in said[0].reason


def test_the_budget_of_a_night_takes_the_worst_first(factory: World) -> None:
    (factory.site.home / "include" / "nightshift.yaml").write_text("retrains_per_night: 1\n")
    train_all(factory, 9)
    factory.source(
        "update truths set value = value + 5 * ascii(right(kind, 1)) from items"
        " where items.entity_id = truths.entity_id and items.night > '2026-01-13'"
    )
    for number in range(10, 16):
        factory.score(number)
    assert len(factory.monitor(15)) == 1
    said = factory.rows(
        "select model, kind, reason from decisions where as_of > '2026-01-12'"
        " and kind <> 'keep' order by model"
    )
    assert [(row.model, row.kind) for row in said] == [
        ("k0", "defer"),
        ("k1", "defer"),
        ("k2", "retrain"),
    ]
    assert "number 3 of 3 by severity" in said[0].reason


def test_a_factory_that_cannot_learn_says_what_it_needs(factory: World) -> None:
    with pytest.raises(NoChampion, match="nightshift train loads"):
        factory.score(10)
    factory.configure(retrain={"training": {"window": "P5D", "min_rows": 9999}})
    with pytest.raises(TrainingError, match="no model has the 9999 labelled rows"):
        train_all(factory, 9)
    with pytest.raises(ConfigError, match=r"no active model 'load' \(did you mean"):
        retrain.request_retrain(
            factory.site,
            FAMILY,
            factory.night(9),
            reason="t",
            by="t",
            now=factory.night(9),
            members=["load"],
        )


def test_deciding_again_decides_nothing_new(factory: World) -> None:
    train_all(factory, 9)
    factory.source("update truths set value = 5 * value where night > '2026-01-13'")
    for number in range(10, 16):
        factory.score(number)
    first = factory.monitor(15)
    assert len(first) == 3
    assert factory.monitor(15) == first
    count = factory.rows("select count(*) from decisions where as_of > '2026-01-12'")[0][0]
    assert count == 4


NAMESAKE = f"update items set kind = '{FAMILY}' where kind = 'k1'"


@pytest.mark.parametrize("listed", [False, True])
def test_a_member_called_as_the_family_learns_from_its_own_rows(
    factory: World, listed: bool
) -> None:
    factory.source(NAMESAKE)
    factory.configure(models={"fallback": False})
    if listed:
        groups = {"g": {"thresholds": {FAMILY: -1.0, "k0": -1.0, "k2": -1.0}}}
        factory.configure(models={"groups": groups, "thresholds": {}})
    factory.source(
        f"update truths set value = 9 * value from items where kind = '{FAMILY}'"
        " and items.entity_id = truths.entity_id"
    )
    assert len(train_all(factory, 9)) == 3
    learnt = factory.rows(
        "select m.name, (v.manifest ->> 'rows')::int as rows from nightshift.versions v"
        " join nightshift.models m using (model_id) order by 1"
    )
    assert [tuple(row) for row in learnt] == [("k0", 50), ("k2", 50), (FAMILY, 50)]
    assert scored(factory, 10) == dict.fromkeys(("k0", "k2", FAMILY), (10, False, 1))
    [far] = factory.rows(f"select max(score) as most from predictions where model = '{FAMILY}'")
    assert far.most > 200  # nobody else's truth is above 33


def test_a_member_called_as_the_family_is_retired_as_the_others_are(factory: World) -> None:
    factory.source(NAMESAKE)
    factory.configure(models={"fallback": False, "retire_after": "P2D"})
    train_all(factory, 9)
    scored(factory, 10)
    factory.source(f"delete from items where kind = '{FAMILY}' and night > '{factory.night(10)}'")
    for number in range(11, 15):
        factory.score(number)
        factory.monitor(number)
    with connect(factory.site.database_url).transaction() as tx:
        found = factory.site.family(FAMILY)
        registry.retire(tx, found, factory.night(14))
        assert [one.name for one in registry.members(tx, FAMILY, factory.night(14))] == ["k0", "k2"]


def test_beside_a_fallback_a_member_called_as_the_family_is_refused_with_a_sentence(
    factory: World,
) -> None:
    factory.source(NAMESAKE)
    assert len(train_all(factory, 9)) == 3
    assert scored(factory, 10)[FAMILY] == (10, False, 1)
    [refused] = factory.rows("select detail from nightshift.events where code = 'member_refused'")
    assert "kind has the value 'loads'" in refused.detail["reason"]
    assert "Give the family or the value another name" in refused.detail["reason"]
    factory.source(f"update items set kind = 'k1' where kind = '{FAMILY}'")
    scored(factory, 11)
    codes = factory.rows("select * from nightshift.events where code = 'member_refused'")
    assert len(codes) == 1
