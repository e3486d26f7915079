"""Labels of which an expectation does not hold: kept apart until a later one corrects them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.world import FAMILY, World

from nightshift.errors import ConfigError, LabelsError
from nightshift.family import load_family
from nightshift.monitoring import Collected
from nightshift.reports import Run
from nightshift.steps import monitor

BETWEEN = {"type": "expect_column_values_to_be_between", "min_value": 0, "max_value": 100}
APART = "select entity_id, value, reason from nightshift.labels_set_aside order by entity_id"
WRONG = "update truths set value = {value} where entity_id = '20260111-3'"


def expecting(world: World, *expectations: dict[str, Any]) -> None:
    world.configure(labels={"expectations": list(expectations)})


def collect(world: World, number: int) -> Collected:
    as_of = world.night(number) + timedelta(hours=4)
    return monitor.collect_labels(world.site, FAMILY, as_of, now=as_of)


@pytest.mark.parametrize("value", ["429491", "-3", "'-1e300'::float8"])
def test_a_label_that_cannot_be_is_set_aside_told_and_not_learnt_from(
    world: World, value: str
) -> None:
    expecting(world, BETWEEN)
    world.train(9)
    world.score(10)
    world.source(WRONG.format(value=value))
    found = world.monitor(11)
    assert found == []
    [apart] = world.rows(APART)
    assert (apart.entity_id, apart.reason) == ("20260111-3", BETWEEN["type"])
    labelled = "select count(*) from nightshift.labels where entity_id = '20260111-3'"
    assert world.rows(labelled)[0][0] == 0
    [measured] = world.rows(
        "select predictions, labels from performance where model_version is not null"
    )
    assert tuple(measured) == (30, 29)
    as_of = world.night(11) + timedelta(hours=4)
    [alert] = [
        a
        for a in monitor.alerts(world.site, FAMILY, Run("monitor", as_of, as_of), now=as_of)
        if a.cause == "left_out"
    ]
    assert alert.message.startswith("loads: labels were set aside: 1 by expect_column_values_to_be")
    assert "such as 20260111-3: " in alert.message


def test_it_is_counted_once_however_often_it_is_collected(world: World) -> None:
    expecting(world, BETWEEN)
    world.source(WRONG.format(value=-1))
    first, second = collect(world, 11), collect(world, 12)
    assert (first.set_aside, second.set_aside) == (1, 0)
    assert first.found == first.added + first.set_aside
    assert second.found == second.added + second.duplicates
    rows = world.rows("select set_aside from nightshift.label_collections order by collection_id")
    assert [row.set_aside for row in rows] == [1, 0]


def test_a_later_label_that_is_as_expected_counts(world: World) -> None:
    expecting(world, BETWEEN)
    world.source(WRONG.format(value=-1))
    collect(world, 11)
    world.source(
        "insert into truths select entity_id, night, '2026-01-12 07:00Z', 6 from truths"
        " where entity_id = '20260111-3'"
    )
    collect(world, 12)
    kept = world.rows("select value from nightshift.labels where entity_id = '20260111-3'")
    assert [row.value for row in kept] == ["6"]


def test_whoever_widens_the_expectation_has_the_label_again(world: World) -> None:
    expecting(world, BETWEEN)
    world.source(WRONG.format(value=-1))
    collect(world, 11)
    expecting(world, {**BETWEEN, "min_value": -5})
    assert collect(world, 12).late == 1


def test_classes_and_several_expectations(world: World) -> None:
    world.configure(task="multiclass_classification", performance={"metric": "accuracy"})
    world.write(
        "labels.sql",
        "select entity_id, case when value < 9 then 'lo' else 'high' end as value, night as"
        " event_at, known_at from truths where known_at > :since and known_at <= :as_of",
    )
    expecting(
        world,
        {"type": "expect_column_values_to_be_in_set", "value_set": ["high", "lo"]},
        {"type": "expect_column_value_lengths_to_be_between", "min_value": 3},
    )
    found = collect(world, 10)
    assert found.set_aside == 50
    assert {row.value for row in world.rows(APART)} == {"lo"}


def test_an_expectation_that_cannot_run_is_a_fault_of_the_file(world: World) -> None:
    expecting(world, {**BETWEEN, "max_value": "many"})
    with pytest.raises(LabelsError, match=r"model\.yaml: labels\.expectations\.0: .*cannot run"):
        collect(world, 10)
    assert world.rows("select * from nightshift.labels") == []


@pytest.mark.parametrize(
    "idle", [{"severity": "info"}, {"mostly": 0.9}, {"column": "value"}, {"row_condition": "x"}]
)
def test_what_means_nothing_to_labels_is_refused(world: World, idle: dict[str, Any]) -> None:
    expecting(world, {**BETWEEN, **idle})
    with pytest.raises(ConfigError, match=f"labels.*{next(iter(idle))} means nothing to labels"):
        load_family(world.folder)


def test_values_are_not_told_where_the_file_forbids_it(world: World) -> None:
    world.configure(features={"sensitive": ["size"]})
    expecting(world, BETWEEN)
    world.source(WRONG.format(value=429491))
    collect(world, 11)
    as_of = world.night(11) + timedelta(hours=4)
    told = monitor.alerts(world.site, FAMILY, Run("monitor", as_of, as_of), now=as_of)
    messages = [alert.message for alert in told if alert.cause == "left_out"]
    assert messages
    assert "429491" not in str(messages)
