"""What the search tries, how its folds lie in time, and what happens when the budget is spent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from nightshift import training
from nightshift.errors import TrainingError
from nightshift.family import ModelFamily, load_family
from nightshift.training import search
from nightshift.training.search import _folds

MODEL: dict[str, Any] = {
    "family": "horns",
    "description": "Horns",
    "task": "regression",
    "owner": "band",
    "source": {"connection": "warehouse", "history": "append_only"},
    "features": {"numeric": ["size", "noise"], "categorical": ["kind"]},
    "schedule": {"score": "0 2 * * *", "monitor": "0 6 * * *"},
    "labels": {"maturity": "P2D"},
    "performance": {"metric": "r2", "window": "P7D", "threshold": 0.5},
    "retrain": {"training": {"window": "P30D"}},
    "promotion": {"holdout": "P7D"},
}
ESTIMATOR = '''
"""A choice of pipelines."""
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import PolynomialFeatures

CHOICES = {
    "mean": DummyRegressor,
    "line": Ridge,
    "classes": LogisticRegression,
    "commonest": DummyClassifier,
}

def build(numeric, categorical, seed, model, degree=1, broken=False):
    if broken:
        raise ValueError("broken on purpose")
    columns = ColumnTransformer([("n", PolynomialFeatures(degree), numeric)])
    return Pipeline([("columns", columns), ("model", CHOICES[model]())])
'''
NIGHTS, A_NIGHT = 10, 40


@pytest.fixture
def horns(tmp_path: Path) -> Callable[..., ModelFamily]:
    """Make the family; keywords are keys of ``estimator.search``."""

    def make(params: dict[str, Any] | None = None, **declared: Any) -> ModelFamily:
        folder = tmp_path / "horns"
        folder.mkdir(exist_ok=True)
        sections = declared.pop("sections", {})
        estimator = {"params": params or {}, "search": declared or None}
        model = {**MODEL, "estimator": estimator, **sections}
        (folder / "model.yaml").write_text(yaml.safe_dump(model))
        (folder / "estimator.py").write_text(ESTIMATOR)
        for query in ("features.sql", "labels.sql"):
            (folder / query).write_text("select 1 where :as_of is not null")
        return load_family(folder)

    return make


def rows(task: str = "regression") -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """A parabola in ``size``: frame, truth, night of each row."""
    rng = np.random.default_rng(5)
    count = NIGHTS * A_NIGHT
    frame = pd.DataFrame(
        {"size": rng.normal(size=count), "noise": rng.normal(size=count), "kind": "k"}
    )
    truth = frame["size"].to_numpy() ** 2 + rng.normal(scale=0.1, size=count)
    if task != "regression":
        truth = (truth > 0.5).astype(np.int64)
    nights = np.repeat(np.datetime64("2026-01-01") + np.arange(NIGHTS), A_NIGHT)
    return frame, truth, nights


@pytest.mark.parametrize("method", ["grid", "random", "halving"])
def test_the_right_pipeline_features_and_parameters_win(
    horns: Callable[..., ModelFamily], method: str
) -> None:
    space = {"model": ["mean", "line"], "degree": [1, 2], "numeric": [["noise"], ["size"]]}
    found = search.best(horns(method=method, space=space, tries=8, folds=3), *rows())
    assert found.params == {"model": "line", "degree": 2, "numeric": ["size"]}
    assert {trial.state for trial in found.trials} == {"tried"}
    assert len(found.trials) >= 8


def test_a_random_search_tries_as_many_as_it_may(horns: Callable[..., ModelFamily]) -> None:
    family = horns(method="random", space={"model": ["line"], "degree": [1, 2, 3]}, tries=2)
    first, again = (search.best(family, *rows()) for _ in range(2))
    assert len(first.trials) == 2
    assert first == again


def test_the_metric_of_the_family_decides(horns: Callable[..., ModelFamily]) -> None:
    space = {"model": ["commonest", "classes"], "degree": [1, 2]}
    for metric, task in (("roc_auc", "binary"), ("accuracy", "multiclass")):
        sections = {
            "task": f"{task}_classification",
            "performance": {**MODEL["performance"], "metric": metric},
        }
        frame, truth, nights = rows("classification")
        known = truth if task == "binary" else np.where(truth, "loud", "soft").astype(object)
        found = search.best(horns(space=space, sections=sections), frame, known, nights)
        assert found.params == {"model": "classes", "degree": 2}
        dummy = found.trials[0]
        assert dummy.score is not None
        assert 0.4 < dummy.score < 0.7


def test_no_night_is_on_both_sides_and_the_later_one_judges(
    horns: Callable[..., ModelFamily],
) -> None:
    _, truth, nights = rows()
    shuffled = np.random.default_rng(1).permutation(len(truth))
    family = horns(space={"model": ["mean", "line"]})
    folds = _folds(family, truth, nights[shuffled], 4)
    assert len(folds) == 4
    for learn, judge in folds:
        assert nights[shuffled][learn].max() < nights[shuffled][judge].min()


def test_what_comes_after_the_budget_is_untried(horns: Callable[..., ModelFamily]) -> None:
    space = {"model": ["line"], "degree": [1, 2, 3]}
    for method in ("grid", "halving"):
        family = horns(method=method, space=space, budget="PT0.000001S")
        found = search.best(family, *rows())
        assert [trial.state for trial in found.trials[:3]] == ["tried", "untried", "untried"]
        assert found.params == {"model": "line", "degree": 1}


def test_a_candidate_that_fails_is_recorded_and_never_wins(
    horns: Callable[..., ModelFamily],
) -> None:
    family = horns({"model": "line"}, space={"broken": [True, False]})
    found = search.best(family, *rows())
    assert found.params == {"broken": False}
    failed = found.trials[0]
    assert (failed.state, failed.score) == ("failed", None)
    assert "broken on purpose" in str(failed.problem)
    everything = horns({"model": "line"}, space={"broken": [True, 1]})
    with pytest.raises(TrainingError, match=r"none of 2 candidates .*broken on purpose"):
        search.best(everything, *rows())


def test_a_search_needs_more_nights_than_folds(horns: Callable[..., ModelFamily]) -> None:
    family = horns(space={"model": ["mean", "line"]}, folds=NIGHTS)
    with pytest.raises(TrainingError, match=r"10 nights have labels, and 10 folds .* need 11"):
        search.best(family, *rows())


def test_folds_of_a_single_class_are_left_out(horns: Callable[..., ModelFamily]) -> None:
    frame, truth, nights = rows("classification")
    sections = {
        "task": "binary_classification",
        "performance": {**MODEL["performance"], "metric": "roc_auc"},
    }
    family = horns(space={"model": ["commonest", "classes"]}, folds=9, sections=sections)
    truth[: 3 * A_NIGHT] = 0
    assert search.best(family, frame, truth, nights).folds == 6
    with pytest.raises(TrainingError, match="holds a single class"):
        search.best(family, frame, np.zeros_like(truth), nights)


@pytest.mark.parametrize(
    ("space", "key", "said"),
    [
        (
            {"modle": ["a", "b"], "model": ["line"]},
            "space.modle",
            "estimator.build takes no 'modle'; it takes model, degree and broken",
        ),
        ({"model": ["line"], "seed": [1, 2]}, "space.seed", "luckiest seed"),
        (
            {"model": ["line"], "numeric": [["size"], ["sise"]]},
            "space.numeric",
            "found ['sise']: write lists of features.numeric: size and noise",
        ),
        ({"model": ["line"], "categorical": ["kind", []]}, "space.categorical", "found 'kind'"),
        ({"degree": [1, 2]}, "build", "missing 1 required positional argument: 'model'"),
    ],
)
def test_problems_of_the_space_are_told_by_check(
    horns: Callable[..., ModelFamily], space: dict[str, Any], key: str, said: str
) -> None:
    [problem] = training.estimator_problems(horns(space=space))
    assert problem.key == f"estimator.{'search.' if '.' in key else ''}{key}"
    assert said in problem.message


def test_what_only_the_space_gives_is_no_problem(horns: Callable[..., ModelFamily]) -> None:
    assert list(training.estimator_problems(horns(space={"model": ["mean", "line"]}))) == []


def test_a_policy_that_the_estimator_cannot_follow_is_told_by_check(
    horns: Callable[..., ModelFamily],
) -> None:
    sections = {"retrain": {"training": {"policy": "incremental", "window": "P30D"}}}
    family = horns({"model": "line"}, sections=sections)
    [problem] = training.estimator_problems(family)
    assert problem.key == "retrain.training.policy"
    assert "Ridge, the last step of estimator.build, has no partial_fit" in problem.message


def test_the_record_of_a_search_is_json(horns: Callable[..., ModelFamily]) -> None:
    from nightshift.data import as_json

    family = horns(method="halving", space={"model": ["mean", "line"], "degree": [1, 2, 3]})
    assert family.estimator.search is not None
    told = search.best(family, *rows()).record(family.estimator.search)
    assert as_json(told)
    assert told["declared"]["budget"] == "PT30M"


def test_an_unfitted_build_takes_the_features_it_is_given(
    horns: Callable[..., ModelFamily],
) -> None:
    built = training.build(horns(), {"model": "line", "numeric": ["size"]})
    assert built[0].transformers[0][2] == ["size"]
