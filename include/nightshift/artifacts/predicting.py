"""What a pipeline says about rows: its score, and the class that it decides for itself.

The published label is what ``predict`` says, whatever rule it decides by: a threshold that was
tuned, one that was fixed, costs. To ask ``predict`` beside ``predict_proba`` would be a second
pass through the model, so it is avoided where scikit-learn's own classifiers are known to decide by
the probability that they give: the label then follows from it, and only rows so near the border
that rounding could decide are asked about again. Everything else is asked both questions, on rows
that are transformed once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

_BINARY = np.array(["0", "1"], dtype=object)

_BORDER = 1e-6
"""Nearer to the border than this a row is asked about; single precision is ten times finer."""

_BY_PROBABILITY = {
    "BaggingClassifier",
    "BernoulliNB",
    "CalibratedClassifierCV",
    "CategoricalNB",
    "DecisionTreeClassifier",
    "ExtraTreeClassifier",
    "ExtraTreesClassifier",
    "GaussianNB",
    "GradientBoostingClassifier",
    "HistGradientBoostingClassifier",
    "KNeighborsClassifier",
    "LinearDiscriminantAnalysis",
    "LogisticRegression",
    "LogisticRegressionCV",
    "MLPClassifier",
    "MultinomialNB",
    "QuadraticDiscriminantAnalysis",
    "RandomForestClassifier",
    "SGDClassifier",
}
"""scikit-learn's classifiers that decide for the class with the largest probability.

Not among them: SVC with probabilities, which decides by another score, and whatever wraps others.
"""

_SEARCHES = {
    "GridSearchCV",
    "RandomizedSearchCV",
    "HalvingGridSearchCV",
    "HalvingRandomSearchCV",
}


def predict(pipeline: Any, frame: Any, task: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Scores and, in classification, labels as text.

    Parameters
    ----------
    pipeline
        A fitted scikit-learn pipeline, or what predicts as one does.

    Returns
    -------
    tuple
        The score is float64 of shape (n,): the value in regression, the probability of 1 in binary
        classification, that of the label among several classes; where the pipeline has no
        ``predict_proba``, what ``decision_function`` gives in its place. The label is what
        ``predict`` says.

    Raises
    ------
    ValueError
        A classifier has neither, or decides for a class that it does not know.
    """
    if task == "regression":
        return np.asarray(pipeline.predict(frame), dtype=np.float64), None
    scores, labels = _answers(pipeline, frame)
    classes = list(pipeline.classes_)
    if task == "binary_classification":
        return scores[:, classes.index(1)], _BINARY[(labels == 1).astype(np.intp)]
    place = pd.Index(classes).get_indexer(labels)
    if (place < 0).any():
        raise ValueError("predict gives a class that is not among classes_")
    return scores[np.arange(len(place)), place], np.asarray(pipeline.classes_, dtype=object)[place]


def _answers(estimator: Any, rows: Any) -> tuple[np.ndarray, np.ndarray]:
    """The scores by class, of shape (n, classes), and the classes decided for."""
    kind = _kind(estimator)
    if kind == "Pipeline":
        inner = rows if len(estimator) == 1 else estimator[:-1].transform(rows)
        return _answers(estimator[-1], inner)
    if kind in _SEARCHES:
        return _answers(estimator.best_estimator_, rows)
    scores = _scores(estimator, rows)
    if kind in _BY_PROBABILITY and hasattr(estimator, "predict_proba"):
        return scores, _largest(estimator, rows, scores)
    threshold = _threshold(estimator, kind)
    if threshold is not None:
        return scores, _above(estimator, rows, scores[:, 1], threshold)
    return scores, np.asarray(estimator.predict(rows))


def _kind(estimator: Any) -> str:
    """The name of one of scikit-learn's own classes; a class derived from one decides anew."""
    kind = type(estimator)
    return kind.__name__ if kind.__module__.partition(".")[0] == "sklearn" else ""


def _scores(estimator: Any, rows: Any) -> np.ndarray:
    if hasattr(estimator, "predict_proba"):
        return np.asarray(estimator.predict_proba(rows), dtype=np.float64)
    if not hasattr(estimator, "decision_function"):
        raise ValueError(
            f"{type(estimator).__name__} has neither predict_proba nor decision_function, and a"
            " score is what is published"
        )
    decided = np.asarray(estimator.decision_function(rows), dtype=np.float64)
    if decided.ndim == 1:
        return np.column_stack([-decided, decided])
    if decided.shape[1] != len(estimator.classes_):
        raise ValueError(
            f"decision_function of {type(estimator).__name__} compares classes in pairs; write"
            " decision_function_shape='ovr'"
        )
    return decided


def _largest(estimator: Any, rows: Any, scores: np.ndarray) -> np.ndarray:
    """The class with the largest probability."""
    labels: np.ndarray = np.asarray(estimator.classes_)[scores.argmax(axis=1)]
    if scores.shape[1] == 2:
        lead = np.abs(scores[:, 1] - scores[:, 0])
    elif scores.shape[1] > 2:
        second, first = np.partition(scores, -2, axis=1)[:, -2:].T
        lead = first - second
    else:
        return labels
    return _decided_near(estimator.predict, rows, labels, np.flatnonzero(lead < _BORDER))


def _threshold(estimator: Any, kind: str) -> float | None:
    """From which probability on a classifier decides for its second class, if it has a say."""
    if kind not in ("FixedThresholdClassifier", "TunedThresholdClassifierCV"):
        return None
    if estimator.response_method == "decision_function" or not hasattr(estimator, "predict_proba"):
        return None
    if kind == "TunedThresholdClassifierCV":
        return float(estimator.best_threshold_)
    return 0.5 if estimator.threshold == "auto" else float(estimator.threshold)


def _above(estimator: Any, rows: Any, score: np.ndarray, threshold: float) -> np.ndarray:
    """The class by a threshold on the probability of the second.

    The threshold may be meant for the first class (``pos_label``), and so lie elsewhere: the rows
    next to it on either side tell.
    """
    above = score >= threshold
    labels: np.ndarray = np.asarray(estimator.classes_)[above.astype(np.intp)]
    sides = (np.where(above, -np.inf, score).argmax(), np.where(above, score, np.inf).argmin())
    next_to = np.unique(sides)
    if (_labels_at(rows, next_to, estimator.predict) != labels[next_to]).any():
        return np.asarray(estimator.predict(rows))
    return _decided_near(
        estimator.predict, rows, labels, np.flatnonzero(np.abs(score - threshold) < _BORDER)
    )


def _decided_near(
    decide: Callable[[Any], Any], rows: Any, labels: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """Labels with those at some places as the estimator decides them itself."""
    if len(places):
        labels[places] = _labels_at(rows, places, decide)
    return labels


def _labels_at(rows: Any, places: np.ndarray, decide: Callable[[Any], Any]) -> np.ndarray:
    return np.asarray(decide(rows.iloc[places] if hasattr(rows, "iloc") else rows[places]))
