"""What ``nightshift check`` says of levels that no model can reach or fall below."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from nightshift import monitoring, training
from nightshift.family import load_family

HORNS: dict[str, Any] = {
    "family": "horns",
    "description": "Horns",
    "task": "regression",
    "owner": "band",
    "source": {"connection": "warehouse", "history": "append_only"},
    "features": {"numeric": ["size"], "categorical": ["kind"]},
    "schedule": {"score": "0 2 * * *", "monitor": "0 6 * * *"},
    "labels": {"maturity": "P2D"},
    "performance": {"metric": "neg_mean_absolute_error", "window": "P7D", "threshold": -8.0},
    "retrain": {"training": {"window": "P30D"}},
    "promotion": {"holdout": "P7D"},
}
ESTIMATOR = """
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.pipeline import Pipeline

def build(numeric, categorical, seed):
    return Pipeline([("model", KIND())])
"""


def checked(place: Path, **changes: Any) -> list[str]:
    """What check says of the family with these sections in place of its own, without its path."""
    folder = place / "horns"
    folder.mkdir()
    kind = "DummyClassifier" if "task" in changes else "DummyRegressor"
    (folder / "estimator.py").write_text(ESTIMATOR.replace("KIND", kind))
    for query in ("features.sql", "labels.sql"):
        (folder / query).write_text("select 1 where :as_of is not null")
    (folder / "model.yaml").write_text(yaml.safe_dump({**HORNS, **changes}))
    family = load_family(folder)
    problems = [*training.estimator_problems(family), *monitoring.level_problems(family)]
    return [str(problem).partition("model.yaml: ")[2] for problem in problems]


def measured(metric: str, **changes: Any) -> dict[str, Any]:
    return {"metric": metric, "window": "P7D", **changes}


def of_classes(metric: str, **changes: Any) -> dict[str, Any]:
    return {"task": "binary_classification", "performance": measured(metric, **changes)}


def members(metric: str, **models: Any) -> dict[str, Any]:
    return {"performance": measured(metric), "models": {"by": "kind", **models}}


def test_a_level_that_can_be_is_in_order(tmp_path: Path) -> None:
    assert checked(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"performance": measured("neg_mean_absolute_error", threshold=8.0)},
            "performance.threshold: found 8.0: neg_mean_absolute_error is at most 0; write -8.0",
        ),
        (
            of_classes("accuracy", threshold=85),
            "performance.threshold: found 85.0: accuracy lies between 0 and 1; write 0.85 for 85"
            " percent",
        ),
        (
            of_classes("roc_auc", max_drop=5),
            "performance.max_drop: found 5.0: roc_auc lies between 0 and 1, so it can never change"
            " by 5; write 0.05 for 5 percent",
        ),
        (
            {
                **of_classes("roc_auc", max_drop=0.1),
                "watch": {"estimated": {"warn": 0.1, "alert": 2}},
            },
            "watch.estimated.alert: found 2.0: roc_auc lies between 0 and 1, so it can never change"
            " by 2; write 0.02 for 2 percent",
        ),
        (
            {"performance": measured("neg_mean_absolute_error", threshold=0)},
            "performance.threshold: found 0.0: neg_mean_absolute_error is at most 0, so whatever is"
            " not perfect is a breach",
        ),
        (
            of_classes("accuracy", threshold=0.0),
            "performance.threshold: found 0.0: accuracy lies between 0 and 1, so nothing is ever a"
            " breach",
        ),
        (
            {**of_classes("f1", threshold=0.5), "promotion": {"holdout": "P7D", "margin": 1}},
            "promotion.margin: found 1.0: f1 lies between 0 and 1, so it can never change by 1",
        ),
        (
            members("neg_mean_absolute_error", thresholds={"*": -8.0, "oboe": 20}),
            "models.thresholds.oboe: found 20.0: neg_mean_absolute_error is at most 0; write -20.0",
        ),
        (
            members("r2", groups={"brass": {"thresholds": {"horn": 0.5, "tuba": 60}}}),
            "models.groups.brass.thresholds.tuba: found 60.0: r2 is at most 1; write 0.6 for 60"
            " percent",
        ),
        (
            of_classes("r2", threshold=0.5),
            "performance.metric: the metric 'r2' does not apply to binary_classification: it is of"
            " regression; write roc_auc, average_precision, f1 or neg_brier_score",
        ),
    ],
)
def test_a_level_that_cannot_be_is_refused_with_its_key(
    tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    assert checked(tmp_path, **changes) == [line]
