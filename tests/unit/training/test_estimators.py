"""What a classifier must be able to answer is known before it is fitted on anybody's rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.training.test_search import MODEL

from nightshift import training
from nightshift.family import load_family

ESTIMATOR = '''
"""A classifier."""
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression, Perceptron, RidgeClassifier, SGDClassifier
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

def build(numeric, categorical, seed):
    return Pipeline([("scale", StandardScaler()), ("last", LAST)])
'''
Problems = Callable[..., list[tuple[str, str]]]


@pytest.fixture
def problems(tmp_path: Path) -> Problems:
    """What check says of a family whose pipeline ends so: (key, message)."""

    def of(last: str, *metrics: str, task: str = "binary_classification") -> list[tuple[str, str]]:
        folder = tmp_path / "horns"
        folder.mkdir(exist_ok=True)
        performance = {**MODEL["performance"], "metric": metrics[0], "also": list(metrics[1:])}
        model: dict[str, Any] = {**MODEL, "task": task, "performance": performance}
        (folder / "model.yaml").write_text(yaml.safe_dump(model))
        (folder / "estimator.py").write_text(ESTIMATOR.replace("LAST", last))
        for query in ("features.sql", "labels.sql"):
            (folder / query).write_text("select 1 where :as_of is not null")
        family = load_family(folder)
        return [(problem.key, problem.message) for problem in training.estimator_problems(family)]

    return of


@pytest.mark.parametrize(
    "last",
    [
        "LinearSVC()",
        "RidgeClassifier()",
        "Perceptron()",
        "SGDClassifier()",
        "SVC()",
        "GridSearchCV(LinearSVC(), {'C': [0.1, 1]})",
        "FixedThresholdClassifier(LinearSVC())",
    ],
)
def test_metrics_of_ranks_and_labels_need_no_probabilities_and_others_say_so(
    problems: Problems, last: str
) -> None:
    ranks = ("roc_auc", "average_precision", "f1", "accuracy", "balanced_accuracy", "recall")
    assert problems(last, *ranks) == []
    name = last.partition("(")[0]
    assert problems(last, "roc_auc", "neg_brier_score", "neg_log_loss") == [
        (
            "performance.also",
            f"{metric} needs predict_proba; {name} has none: wrap it in"
            " sklearn.calibration.CalibratedClassifierCV",
        )
        for metric in ("neg_brier_score", "neg_log_loss")
    ]


@pytest.mark.parametrize(
    "last",
    [
        "LogisticRegression()",
        "SGDClassifier(loss='log_loss')",
        "StackingClassifier([('a', GaussianNB()), ('b', LinearSVC())])",
        "FixedThresholdClassifier(LogisticRegression(), threshold=0.2)",
    ],
)
def test_who_has_probabilities_once_fitted_is_refused_nothing(
    problems: Problems, last: str
) -> None:
    assert problems(last, "neg_log_loss", "roc_auc") == []


def test_a_classifier_without_any_score_is_a_fault_of_build(problems: Problems) -> None:
    hard = "VotingClassifier([('a', GaussianNB()), ('b', LogisticRegression())])"
    [(key, message)] = problems(hard, "accuracy")
    assert key == "estimator.build"
    assert "VotingClassifier has none" in message
    [(key, _)] = problems(hard, "f1_macro", task="multiclass_classification")
    assert key == "estimator.build"


def test_classes_need_no_probabilities_where_there_are_many(problems: Problems) -> None:
    assert problems("LinearSVC()", "f1_macro", task="multiclass_classification") == []
