"""Metrics that single nights cannot have, decisions of the pipeline's own, scores of any kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
from tests.world import FAMILY, World

from nightshift import simulation
from nightshift.errors import TrainingError
from nightshift.steps import retrain, upkeep

BINARY = """
update truths set value = case when {} then 1 else 0 end
from items where items.entity_id = truths.entity_id
"""
LARGE = "size + 10 * sin(size * 91 + extract(day from items.night)) > 24"
EVERY_THIRD = f"extract(doy from items.night)::int % 3 = 0 and {LARGE}"

ESTIMATOR = '''
"""A classifier of the sizes."""
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC

def build(numeric, categorical, seed):
    columns = ColumnTransformer([("n", "passthrough", numeric)])
    return Pipeline([("columns", columns), ("last", LAST)])
'''
TUNED = "TunedThresholdClassifierCV(LogisticRegression(), scoring='f1', random_state=seed)"


def classifying(world: World, last: str, truth: str, **performance: Any) -> None:
    world.source(BINARY.format(truth))
    world.write("estimator.py", ESTIMATOR.replace("LAST", last))
    world.configure(
        task="binary_classification",
        performance={"window": "P7D", "min_labels": 20, "threshold": 0.3, **performance},
        retrain={"training": {"window": "P9D"}, "when": {"breaches": 1, "of_last": 1}},
        promotion={"holdout": "P4D"},
    )


def measured(world: World) -> list[Any]:
    """The measurements of the serving version, oldest first."""
    return world.rows(
        "select * from nightshift.measurements where version_id is not null and slice = ''"
        " and basis = 'realized' order by as_of"
    )


def predicted(world: World) -> list[Any]:
    """Published rows of measured nights with their truth."""
    return world.rows(
        "select p.as_of, p.score, p.label, l.value from public.predictions p"
        " join nightshift.labels l using (entity_id) order by p.as_of, p.entity_id"
    )


def test_recall_is_measured_over_the_week_though_most_nights_have_no_positive(
    world: World,
) -> None:
    classifying(world, "LogisticRegression(class_weight='balanced')", EVERY_THIRD, metric="recall")
    world.train(15)
    for number in range(16, 22):
        world.score(number)
        world.monitor(number)
    latest = measured(world)[-1]
    assert latest.state in ("measured", "breached")
    rows = [row for row in predicted(world) if latest.window_start < row.as_of <= latest.window_end]
    truth, label = ([int(getattr(row, name)) for row in rows] for name in ("value", "label"))
    assert latest.value == pytest.approx(sk.recall_score(truth, label))
    without = [night for night in latest.nights if night["value"] is None]
    assert 0 < len(without) < len(latest.nights)
    assert {night["missing"] for night in without} == {"none of 30 truths is 1"}
    reason = world.rows("select reason from nightshift.decisions order by decision_id desc")[0][0]
    assert f"nights without the metric: {len(without)}" in reason


def test_r2_passes_over_the_night_whose_labels_are_all_equal(world: World) -> None:
    world.source(
        "update truths set value = 5 from items where items.entity_id = truths.entity_id"
        " and items.night = '2026-01-18 02:00Z'"
    )
    world.configure(performance={"metric": "r2", "window": "P7D", "threshold": 0.2})
    world.train(15)
    for number in (16, 17, 18):
        world.score(number)
        world.monitor(number)
    latest = measured(world)[-1]
    assert latest.state == "measured"
    assert [night["missing"] for night in latest.nights] == [
        None,
        "all 30 truths are equal, and it divides by how they differ",
    ]


def test_a_percentage_of_a_truth_of_zero_is_undefined_and_named(world: World) -> None:
    world.configure(performance={"metric": "neg_mean_absolute_percentage_error", "threshold": -0.5})
    world.train(15)
    world.source("update truths set value = 0 where entity_id = '20260117-3'")
    for number in (16, 17):
        world.score(number)
        world.monitor(number)
    latest = measured(world)[-1]
    assert (latest.state, latest.value) == ("undefined", None)
    assert latest.remark == "1 of 30 rows has a truth of 0, by which it divides"
    reason = world.rows("select reason from nightshift.decisions order by decision_id desc")[0][0]
    assert latest.remark in reason


def test_one_row_that_makes_up_the_metric_is_named_beside_it(world: World) -> None:
    world.train(15)
    world.source("update truths set value = 429491 where entity_id = '20260117-3'")
    for number in (16, 17):
        world.score(number)
        world.monitor(number)
    latest = measured(world)[-1]
    assert latest.remark == "one row of 30 makes up 100% of it"
    assert latest.state == "measured"  # the interval of one row says nothing


@pytest.mark.parametrize(
    "last", [TUNED, "FixedThresholdClassifier(LogisticRegression(), threshold=0.1)"]
)
def test_the_label_is_the_pipelines_own_and_metrics_of_labels_count_it(
    world: World, last: str
) -> None:
    rare = LARGE.replace("24", "35")
    classifying(world, last, rare, metric="f1", threshold=0.05, also=["roc_auc"])
    world.train(15)
    for number in (16, 17, 18):
        world.score(number)
        world.monitor(number)
    [f1, auc] = [
        next(m for m in reversed(measured(world)) if m.metric == metric)
        for metric in ("f1", "roc_auc")
    ]
    rows = [row for row in predicted(world) if f1.window_start < row.as_of <= f1.window_end]
    truth, label = ([int(getattr(row, name)) for row in rows] for name in ("value", "label"))
    score = np.array([row.score for row in rows])
    assert sum(label) > (score >= 0.5).sum()
    assert f1.value == pytest.approx(sk.f1_score(truth, label))
    assert auc.value == pytest.approx(sk.roc_auc_score(truth, score))
    [proof] = world.rows("select challenger_value, reference from nightshift.comparisons")
    assert proof.reference["metrics"]["f1"]["value"] == pytest.approx(proof.challenger_value)


@pytest.mark.parametrize("last", ["LinearSVC()", "RidgeClassifier()"])
def test_a_classifier_without_probabilities_is_scored_by_its_decision_function(
    world: World, last: str
) -> None:
    classifying(world, last, LARGE, metric="roc_auc", also=["average_precision", "f1"])
    assert upkeep.check(world.site) == []
    world.train(15)
    for number in (16, 17, 18):
        world.score(number)
        world.monitor(number)
    rows = predicted(world)
    assert {row.label for row in rows} == {"0", "1"}
    assert all((row.score > 0) == (row.label == "1") for row in rows)
    assert min(row.score for row in rows) < 0
    latest = [m for m in measured(world) if m.as_of == measured(world)[-1].as_of]
    assert {m.metric: m.state for m in latest} == dict.fromkeys(
        ("roc_auc", "average_precision", "f1"), "measured"
    )


def test_what_a_metric_needs_of_a_classifier_is_told_before_any_fit(world: World) -> None:
    classifying(world, "LinearSVC()", LARGE, metric="roc_auc", also=["neg_log_loss"])
    sentence = (
        "neg_log_loss needs predict_proba; LinearSVC has none: wrap it in"
        " sklearn.calibration.CalibratedClassifierCV"
    )
    [problem] = upkeep.check(world.site)
    assert (problem.key, problem.message) == ("performance.also", sentence)
    as_of = world.night(15)
    asked = retrain.request_retrain(world.site, FAMILY, as_of, reason="t", by="t", now=as_of)
    with pytest.raises(TrainingError, match="neg_log_loss needs predict_proba"):
        simulation.retrain(world.site, asked, now=as_of)
    assert world.rows("select version_id from nightshift.versions") == []
    world.write("estimator.py", ESTIMATOR.replace("LAST", "CalibratedClassifierCV(LinearSVC())"))
    assert upkeep.check(world.site) == []
