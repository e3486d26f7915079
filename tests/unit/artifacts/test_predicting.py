"""The published label is what ``predict`` says, and asking costs no second pass if avoidable."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.linear_model import (
    LogisticRegression,
    Perceptron,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from nightshift import artifacts

RANDOM = np.random.default_rng(4)
# Rounded, so that small trees and neighbours have ties at one half.
FRAME = pd.DataFrame(
    {"x1": RANDOM.normal(size=600).round(1), "x2": RANDOM.normal(size=600).round()}
)
RARE = (FRAME["x1"] + RANDOM.normal(size=600) > 1.8).to_numpy(dtype=np.int64)
KINDS = np.array(["k2", "k0", "k1"], dtype=object)[
    (FRAME["x1"] + RANDOM.normal(size=600)).round().clip(0, 2).astype(int)
]


class Own(LogisticRegression):  # type: ignore[misc]
    """A decision of its own, inherited probabilities."""

    def predict(self, rows: Any) -> np.ndarray:
        return np.asarray(self.classes_[(self.predict_proba(rows)[:, 1] > 0.1).astype(int)])


class Counted(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """How many rows each of its answers was asked about."""

    def __init__(self) -> None:
        self.rows = 0

    def fit(self, rows: Any, y: Any) -> Counted:
        self.inner_ = LogisticRegression().fit(rows, y)
        self.classes_ = self.inner_.classes_
        return self

    def predict_proba(self, rows: Any) -> np.ndarray:
        self.rows += len(rows)
        return np.asarray(self.inner_.predict_proba(rows))

    def predict(self, rows: Any) -> np.ndarray:
        self.rows += len(rows)
        return np.asarray(self.inner_.predict(rows))


def fitted(last: Any, truth: np.ndarray) -> Pipeline:
    return Pipeline([("scale", StandardScaler()), ("last", last)]).fit(FRAME, truth)


DECIDERS = [
    LogisticRegression(),
    LogisticRegression(class_weight="balanced"),
    Own(),
    DecisionTreeClassifier(max_depth=3, random_state=0),
    RandomForestClassifier(n_estimators=4, random_state=0),
    ExtraTreesClassifier(n_estimators=2, max_depth=3, random_state=0),
    GradientBoostingClassifier(n_estimators=5, random_state=0),
    HistGradientBoostingClassifier(max_iter=5, random_state=0),
    BaggingClassifier(n_estimators=2, random_state=0),
    KNeighborsClassifier(n_neighbors=2),
    KNeighborsClassifier(n_neighbors=4, weights="distance"),
    GaussianNB(),
    LinearDiscriminantAnalysis(),
    MLPClassifier(max_iter=30, random_state=0),
    SGDClassifier(loss="log_loss", random_state=0),
    SGDClassifier(loss="modified_huber", random_state=0),
    SGDClassifier(loss="hinge", random_state=0),
    SVC(),
    LinearSVC(),
    RidgeClassifier(),
    Perceptron(),
    CalibratedClassifierCV(LinearSVC(), cv=3),
    GridSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [1, 3]}),
    StackingClassifier([("a", GaussianNB())]),
    VotingClassifier([("a", GaussianNB()), ("b", LogisticRegression())], voting="soft"),
    Pipeline([("again", StandardScaler()), ("line", LogisticRegression())]),
]
THRESHOLDS = [
    TunedThresholdClassifierCV(LogisticRegression(), scoring="f1", random_state=0),
    TunedThresholdClassifierCV(DecisionTreeClassifier(max_depth=2), scoring="balanced_accuracy"),
    TunedThresholdClassifierCV(LinearSVC(), scoring="f1"),
    TunedThresholdClassifierCV(
        LogisticRegression(), scoring="f1", response_method="decision_function"
    ),
    FixedThresholdClassifier(LogisticRegression(), threshold=0.2),
    FixedThresholdClassifier(LogisticRegression(), threshold=0.7, pos_label=0),
    TunedThresholdClassifierCV(
        LogisticRegression(), scoring=make_scorer(f1_score, pos_label=0), random_state=0
    ),
    FixedThresholdClassifier(LogisticRegression(), threshold=0.0),
    FixedThresholdClassifier(LogisticRegression()),
    FixedThresholdClassifier(LinearSVC(), threshold=-0.4),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("last", [*DECIDERS, *THRESHOLDS], ids=str)
def test_the_label_of_two_classes_is_what_predict_says(last: Any) -> None:
    pipeline = fitted(last, RARE)
    score, label = artifacts.predict(pipeline, FRAME, "binary_classification")
    assert label is not None
    assert (label == pipeline.predict(FRAME).astype(str)).all()
    if hasattr(pipeline, "predict_proba"):
        assert (score == pipeline.predict_proba(FRAME)[:, 1]).all()
    else:
        assert (score == pipeline.decision_function(FRAME)).all()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("last", DECIDERS, ids=str)
def test_the_label_of_several_classes_is_what_predict_says(last: Any) -> None:
    pipeline = fitted(last, KINDS)
    score, label = artifacts.predict(pipeline, FRAME, "multiclass_classification")
    assert label is not None
    assert (label == pipeline.predict(FRAME)).all()
    assert np.isfinite(score).all()


def test_a_threshold_of_its_own_is_published_and_not_one_half() -> None:
    pipeline = fitted(THRESHOLDS[0], RARE)
    score, label = artifacts.predict(pipeline, FRAME, "binary_classification")
    assert label is not None
    assert (label == "1").sum() > (score >= 0.5).sum()


def test_rows_are_transformed_once_and_known_deciders_are_asked_once() -> None:
    class Watched(StandardScaler):  # type: ignore[misc]
        asked = 0

        def transform(self, rows: Any, copy: Any = None) -> Any:
            Watched.asked += len(rows)
            return super().transform(rows, copy)

    last = Counted()
    pipeline = Pipeline([("scale", Watched()), ("last", last)]).fit(FRAME, RARE)
    Watched.asked = 0
    artifacts.predict(pipeline, FRAME, "binary_classification")
    assert Watched.asked == len(FRAME)
    assert last.rows == 2 * len(FRAME)  # of somebody else's class nothing is known: both are asked

    inner = Counted().fit(FRAME, RARE)
    tuned = FixedThresholdClassifier(inner, threshold=0.2).fit(FRAME, RARE)
    tuned.estimator_ = inner
    inner.rows = 0
    artifacts.predict(Pipeline([("last", tuned)]), FRAME, "binary_classification")
    assert len(FRAME) <= inner.rows < 1.05 * len(FRAME)


@pytest.mark.parametrize("last", [LogisticRegression(), *THRESHOLDS[4:7]], ids=str)
def test_a_single_row_is_decided_as_among_many(last: Any) -> None:
    pipeline = fitted(last, RARE)
    whole = artifacts.predict(pipeline, FRAME, "binary_classification")[1]
    alone = artifacts.predict(pipeline, FRAME.iloc[:1], "binary_classification")[1]
    assert whole is not None
    assert alone is not None
    assert alone.tolist() == whole[:1].tolist()


def test_a_classifier_without_any_score_is_refused_in_words() -> None:
    hard = VotingClassifier([("a", GaussianNB()), ("b", LogisticRegression())])
    with pytest.raises(ValueError, match="neither predict_proba nor decision_function"):
        artifacts.predict(fitted(hard, RARE), FRAME, "binary_classification")


def test_pairwise_decisions_of_many_classes_are_refused_in_words() -> None:
    four = np.array(list("abcd"), dtype=object)[RANDOM.integers(0, 4, len(FRAME))]
    pairs = SVC(decision_function_shape="ovo")
    with pytest.raises(ValueError, match="decision_function_shape='ovr'"):
        artifacts.predict(fitted(pairs, four), FRAME, "multiclass_classification")
