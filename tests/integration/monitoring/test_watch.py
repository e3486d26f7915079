"""Nights are held against training before any label is there; labels are measured by slice."""

from __future__ import annotations

import pytest
from tests.world import FAMILY, World

from nightshift.local import session
from nightshift.steps import monitor

TOLD = "select signal, feature, value, level from signals where as_of = '{}' order by 1, 2"
BINARY = """
update truths set value = case when size + 10 * sin(size * 91) > 15 then 1 else 0 end
from items where items.entity_id = truths.entity_id
"""
CLASSIFIER = '''
"""A logistic regression on the sizes."""
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

def build(numeric, categorical, seed):
    columns = ColumnTransformer([("n", "passthrough", numeric)])
    return Pipeline([("columns", columns), ("line", LogisticRegression())])
'''


def told(world: World, number: int) -> dict[tuple[str, str], tuple[float, str]]:
    rows = world.rows(TOLD.format(world.night(number).isoformat()))
    return {(row.signal, row.feature): (row.value, row.level) for row in rows}


def test_a_night_that_looks_like_training_raises_nothing(world: World) -> None:
    world.configure(watch={"window": "P2D", "min_rows": 30})
    world.train(9)
    world.score(10)
    found = told(world, 10)
    assert {signal for signal, _ in found} == {
        "missing",
        "unseen",
        "out_of_range",
        "drift",
        "score_drift",
    }
    assert {level for _, level in found.values()} == {"ok"}


def test_a_changed_night_is_told_the_same_night(world: World) -> None:
    world.configure(watch={"window": "P1D", "min_rows": 30})
    world.train(9)
    world.source(
        "update items set size = size + 40, kind = 'new' where night > '2026-01-11 03:00Z'"
    )
    world.score(11)
    found = told(world, 11)
    assert found["out_of_range", "size"] == (1.0, "alert")
    assert found["unseen", "kind"] == (1.0, "alert")
    assert found["drift", "size"][1] == found["score_drift", ""][1] == "alert"
    assert found["missing", "size"] == (0.0, "ok")


def test_few_rows_are_not_judged(world: World) -> None:
    world.configure(watch={"window": "P1D", "min_rows": 31})
    world.train(9)
    world.score(10)
    assert told(world, 10) == {}


def test_no_signal_replaces_a_model_unless_the_rule_names_it(world: World) -> None:
    world.configure(watch={"window": "P1D", "min_rows": 30})
    world.train(9)
    world.source("update items set size = size + 40 where night > '2026-01-10 03:00Z'")
    world.source("delete from truths where night > '2026-01-10 03:00Z'")
    for number in (10, 11):
        world.score(number)
    assert world.monitor(11) == []
    world.configure(
        retrain={"when": {"signals": {"drift": {"nights": 2, "of_last": 3}}}, "cooldown": "PT1H"}
    )
    world.score(12)
    assert len(world.monitor(12)) == 0  # nothing new was labelled since the first training
    world.source(
        "insert into truths select entity_id, night, night + interval '1 hour', size from items"
        " where night > '2026-01-10 03:00Z' and night < '2026-01-12 03:00Z'"
    )
    world.score(13)
    [decision] = world.monitor(13)
    said = world.rows(f"select rule, reason from decisions where decision_id = {decision}")[0]
    assert said.rule == "signal drift"
    assert "drift is at alert in 3 of the last 3 nights" in said.reason


def test_performance_is_estimated_beside_the_realized(world: World) -> None:
    world.write("estimator.py", CLASSIFIER)
    world.source(BINARY)
    world.configure(
        task="binary_classification",
        performance={"metric": "roc_auc", "threshold": 0.6, "window": "P3D"},
        watch={"window": "P3D", "min_rows": 30, "estimated": {"warn": 0.05, "alert": 0.2}},
    )
    world.train(9)
    for number in range(10, 14):
        world.score(number)
    world.monitor(13)
    rows = world.rows(
        "select basis, value, low, high, labels from performance"
        " where model_version = 1 order by as_of"
    )
    estimated = [row for row in rows if row.basis == "estimated"]
    [realized] = [row for row in rows if row.basis == "realized"]
    assert len(estimated) == 4
    assert all(row.labels == 0 for row in estimated)
    assert estimated[-1].low < realized.value < estimated[-1].high
    assert ("estimated", "") in told(world, 13)


def test_several_metrics_and_slices_are_measured_with_one_that_decides(world: World) -> None:
    world.configure(
        performance={
            "also": ["r2", "neg_median_absolute_error"],
            "slices": ["kind"],
            "min_labels": 5,
        },
    )
    world.train(9)
    for number in range(10, 14):
        world.score(number)
    world.monitor(13)
    rows = world.rows(
        "select metric, slice, model_version, threshold, predictions, method"
        " from performance where basis = 'realized'"
    )
    assert {row.metric for row in rows} == {
        "neg_mean_absolute_error",
        "r2",
        "neg_median_absolute_error",
    }
    sliced = {row.slice: row.predictions for row in rows if row.metric == "r2"}
    assert sliced == {"": 60, "kind=k0": 20, "kind=k1": 20, "kind=k2": 20}
    deciding = [row for row in rows if row.threshold is not None]
    assert {(row.metric, row.slice) for row in deciding} == {("neg_mean_absolute_error", "")}
    seeded = {row.method for row in rows if row.metric == "neg_median_absolute_error"}
    assert seeded == {"bootstrap of rows, seed 20130101"}


def test_a_threshold_may_lie_below_what_the_champion_was_worth(world: World) -> None:
    world.source(
        "update truths set value = value + 2 * sin(size * 77 + extract(day from truths.night))"
        " from items where items.entity_id = truths.entity_id"
    )
    world.configure(performance={"threshold": None, "max_drop": {"fraction": 0.5}})
    world.train(9)
    for number in range(10, 14):
        world.score(number)
    world.monitor(13)
    [row] = world.rows(
        "select threshold, reference, value, state from performance where model_version is not null"
    )
    assert row.reference == pytest.approx(-1.3, abs=0.3)
    assert row.threshold == pytest.approx(1.5 * row.reference)
    assert row.state == "measured"


def test_measuring_a_past_day_again_gives_what_was_measured_then(world: World) -> None:
    world.train(9)
    for number in range(10, 15):
        world.score(number)
        world.monitor(number)
    asked = (
        "select as_of, state, value, low, high, labels, nights from nightshift.measurements"
        " order by as_of, version_id"
    )
    before = world.rows(asked)
    world.source("update truths set value = value + 100")
    world.source("update truths set known_at = '2026-01-17 02:00Z' where night < '2026-01-14'")
    world.monitor(17)
    with_corrections = world.rows(
        "select count(*) from nightshift.labels l join nightshift.labels o using (entity_id)"
        " where l.value <> o.value"
    )[0][0]
    assert with_corrections > 0
    with session(world.site.database_url) as connection:
        connection.exec_driver_sql("truncate nightshift.measurements")
    for number in range(10, 15):
        as_of = before[0].as_of.replace(day=number + 1)
        monitor.measure(world.site, FAMILY, as_of, now=world.night(20))
    assert world.rows(asked) == before
