"""`check` does what a training will do: what would fail at night fails here, by file and key."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.training.test_failed import DYING, HEAD, dying
from tests.world import FAMILY, World

from nightshift.steps import upkeep

CLASSIFIER = """
from sklearn import calibration, ensemble, linear_model, model_selection
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

def build(numeric, categorical, seed):
    columns = ColumnTransformer(
        [
            ("c", OneHotEncoder(handle_unknown="ignore"), categorical),
            ("n", StandardScaler(), numeric),
        ]
    )
    return Pipeline([("columns", columns), ("last", {last})])
"""


def told(world: World) -> list[str]:
    return [str(problem) for problem in upkeep.check(world.site)]


def test_a_family_that_trains_is_in_order(world: World) -> None:
    assert told(world) == []


@pytest.mark.parametrize("name", DYING)
def test_what_would_die_at_night_dies_here(world: World, name: str) -> None:
    said = dying(world, name)
    [problem] = told(world)
    assert problem.startswith(f"{world.folder / 'model.yaml'}: estimator.build: ")
    if "cannot be stored" in said:
        assert said in problem
    else:
        assert (
            said.rpartition(": ")[2].replace("149 scores for 150", "119 scores for 120") in problem
        )


OPENED = {
    "learns_outside_of_itself": (
        """
SEEN = {}
class Elsewhere(Numbers):
    def fit(self, X, y=None):
        SEEN["top"] = float(X["size"].max())
        return self
    def transform(self, X):
        return X[["size"]].to_numpy() / SEEN["top"]
""",
        "KeyError: 'top'",
    ),
    "cannot_be_read_back": (
        """
class Refusing(Numbers):
    def __setstate__(self, state):
        raise RuntimeError("not again")
""",
        "not again",
    ),
    "says_something_else_elsewhere": (
        """
import os
HERE = os.getpid()
class Restless(Numbers):
    def fit(self, X, y=None):
        self.at_ = HERE
        return self
    def transform(self, X):
        return X[["size"]].to_numpy() * (1 if HERE == self.at_ else 2)
""",
        "gives other scores after it was stored and opened by another process",
    ),
}


@pytest.mark.parametrize("name", OPENED)
def test_what_another_process_cannot_use_is_found(world: World, name: str) -> None:
    code, said = OPENED[name]
    step = code.split("class ")[1].partition("(")[0]
    world.write(
        "estimator.py",
        f"{HEAD}{code}\ndef build(numeric, categorical, seed):\n"
        f"    return Pipeline([('numbers', {step}()), ('line', LinearRegression())])\n",
    )
    [problem] = told(world)
    assert said in problem
    assert "estimator.build" in problem


@pytest.mark.parametrize(
    ("task", "metric", "last"),
    [
        ("binary_classification", "roc_auc", "linear_model.LogisticRegression()"),
        ("binary_classification", "f1", "ensemble.HistGradientBoostingClassifier()"),
        (
            "binary_classification",
            "neg_brier_score",
            "calibration.CalibratedClassifierCV(linear_model.LogisticRegression(), cv=5)",
        ),
        (
            "multiclass_classification",
            "accuracy",
            "model_selection.GridSearchCV("
            "ensemble.RandomForestClassifier(20), {'max_depth': [2, 3]}, cv=3)",
        ),
        ("regression", "r2", "linear_model.RidgeCV()"),
    ],
)
def test_ordinary_pipelines_are_in_order(world: World, task: str, metric: str, last: str) -> None:
    performance: dict[str, Any] = {"metric": metric, "threshold": 0.1}
    if metric.startswith("neg"):
        performance["threshold"] = -0.5
    world.configure(task=task, performance=performance)
    world.write("estimator.py", CLASSIFIER.replace("{last}", last))
    assert told(world) == []


def test_a_family_that_is_broken_leaves_the_others_their_rehearsal(world: World) -> None:
    other = world.folder.parent / "other"
    other.mkdir()
    for file in world.folder.iterdir():
        text = file.read_text().replace(f"family: {FAMILY}", "family: other")
        (other / file.name).write_text(text)
    dying(world, "cannot_be_stored")
    (other / "estimator.py").write_text("def build(:")
    [first, second] = sorted(told(world))
    assert "step 'before'" in first
    assert "cannot be imported" in second
