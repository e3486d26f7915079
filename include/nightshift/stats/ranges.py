"""What a metric can be, and of which task it is: the one table of scikit-learn's scorers.

Greater is better throughout: what scikit-learn calls a loss or an error is negative here, as its
scorers have it. The ranges are those that scikit-learn's user guide states for each metric
(https://scikit-learn.org/stable/modules/model_evaluation.html).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

Task = Literal["regression", "binary_classification", "multiclass_classification"]

REGRESSION = frozenset({"regression"})
BINARY = frozenset({"binary_classification"})
CLASSES = frozenset({"binary_classification", "multiclass_classification"})
NONE: frozenset[str] = frozenset()

USUAL = {
    "regression": "neg_mean_absolute_error, neg_root_mean_squared_error or r2",
    "binary_classification": "roc_auc, average_precision, f1 or neg_brier_score",
    "multiclass_classification": "accuracy, balanced_accuracy or f1_macro",
}
"""What is usually measured, as an answer to a metric of another task."""


@dataclass(frozen=True)
class Range:
    """The least and the greatest that a metric can be, both included.

    ``tasks`` are those it measures. ``span`` is the most that may be lost of it: where a metric has
    no least value, but one that no better than a constant prediction reaches, what lies between
    that and perfection. ``percent`` metrics are fractions, which people like to write as percents.
    """

    low: float
    high: float
    tasks: frozenset[str]
    span: float = math.inf
    percent: bool = False

    def __contains__(self, level: float) -> bool:
        return self.low <= level <= self.high

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"is at least {self.low:g}"
        if math.isinf(self.low):
            return f"is at most {self.high:g}"
        return f"lies between {self.low:g} and {self.high:g}"


def _fraction(tasks: frozenset[str], low: float = 0.0, high: float = 1.0) -> Range:
    return Range(low, high, tasks, span=high - low, percent=True)


def _loss(tasks: frozenset[str]) -> Range:
    return Range(-math.inf, 0.0, tasks)


def _skill(tasks: frozenset[str]) -> Range:
    """1 is perfect, 0 what a constant prediction is worth; below there is no end."""
    return Range(-math.inf, 1.0, tasks, span=1.0, percent=True)


RANGES: dict[str, Range] = {
    "accuracy": _fraction(CLASSES),
    "balanced_accuracy": _fraction(CLASSES),
    "top_k_accuracy": _fraction(CLASSES),
    "f1": _fraction(BINARY),
    "jaccard": _fraction(BINARY),
    "precision": _fraction(BINARY),
    "recall": _fraction(BINARY),
    "average_precision": _fraction(BINARY),
    "roc_auc": _fraction(BINARY),
    "matthews_corrcoef": _fraction(CLASSES, low=-1.0),
    "neg_brier_score": _fraction(BINARY, low=-1.0, high=0.0),
    "neg_log_loss": _loss(BINARY),
    "d2_brier_score": _skill(BINARY),
    "d2_log_loss_score": _skill(BINARY),
    "positive_likelihood_ratio": Range(0.0, math.inf, BINARY),
    "neg_negative_likelihood_ratio": _loss(BINARY),
    "r2": _skill(REGRESSION),
    "explained_variance": _skill(REGRESSION),
    "d2_absolute_error_score": _skill(REGRESSION),
    "neg_max_error": _loss(REGRESSION),
    "neg_mean_absolute_error": _loss(REGRESSION),
    "neg_mean_absolute_percentage_error": Range(-math.inf, 0.0, REGRESSION, percent=True),
    "neg_mean_squared_error": _loss(REGRESSION),
    "neg_mean_squared_log_error": _loss(REGRESSION),
    "neg_median_absolute_error": _loss(REGRESSION),
    "neg_root_mean_squared_error": _loss(REGRESSION),
    "neg_root_mean_squared_log_error": _loss(REGRESSION),
    "neg_mean_gamma_deviance": _loss(REGRESSION),
    "neg_mean_poisson_deviance": _loss(REGRESSION),
    # They compare groupings, and are perfect where every class is taken for another.
    "adjusted_mutual_info_score": _fraction(NONE, low=-1.0),
    "adjusted_rand_score": _fraction(NONE, low=-0.5),
    "completeness_score": _fraction(NONE),
    "fowlkes_mallows_score": _fraction(NONE),
    "homogeneity_score": _fraction(NONE),
    "mutual_info_score": Range(0.0, math.inf, NONE),
    "normalized_mutual_info_score": _fraction(NONE),
    "rand_score": _fraction(NONE),
    "v_measure_score": _fraction(NONE),
}
"""scikit-learn's scorers; averages over classes (f1_macro, roc_auc_ovr) go by their first name."""

_AVERAGES = {
    "_macro": CLASSES,
    "_micro": CLASSES,
    "_weighted": CLASSES,
    "_samples": NONE,  # of several labels for one row
    "_ovo": BINARY,  # they need the probability of each class, and one is kept
    "_ovr": BINARY,
    "_ovo_weighted": BINARY,
    "_ovr_weighted": BINARY,
}
_AVERAGED = re.compile(r"(f1|jaccard|precision|recall|roc_auc)(_\w+)")


def range_of(metric: str) -> Range | None:
    """What a scikit-learn scorer can be; None of one that this table does not know."""
    averaged = _AVERAGED.fullmatch(metric)
    if averaged and averaged[2] in _AVERAGES:
        return _fraction(_AVERAGES[averaged[2]])
    return RANGES.get(metric)


def perfect(metric: str) -> float | None:
    """The value of a metric if every prediction were the truth; None where it has no end."""
    limits = range_of(metric)
    return None if limits is None or math.isinf(limits.high) else limits.high


def task_problem(metric: str, task: Task) -> str | None:
    """Why a metric does not measure a task, and what does; None where it may."""
    limits = range_of(metric)
    if limits is None or task in limits.tasks:
        return None
    if not limits.tasks:
        reason = "it compares groupings or several labels of one row"
    elif task == "multiclass_classification" and limits.tasks == BINARY:
        macro = f"{metric}_macro"
        if range_of(macro) and "roc_auc" not in metric:
            return (
                f"the metric {metric!r} does not apply to {task}: it is of two classes; write"
                f" {macro}, or {metric}_weighted, where each class counts by its rows"
            )
        reason = "it needs the probability of every class, and only that of the told one is kept"
    else:
        reason = f"it is of {' and '.join(sorted(limits.tasks))}"
    return f"the metric {metric!r} does not apply to {task}: {reason}; write {USUAL[task]}"


def level_problem(metric: str, level: float) -> str | None:
    """Why a metric can never be at a level, and what was probably meant; None where it can."""
    limits = range_of(metric)
    if limits is None or level in limits:
        return None
    meant = _meant(limits, level)
    return f"{metric} {limits}" + (f"; write {meant}" if meant else "")


def drop_problem(metric: str, drop: float) -> str | None:
    """Why a metric can never lose so much (a positive number, in its units); None where it can."""
    limits = range_of(metric)
    if limits is None or drop < limits.span or (drop == limits.span and math.isinf(limits.low)):
        return None
    hint = f"; write {_percent(drop)}" if _is_percent(drop) else ""
    if math.isinf(limits.low):
        return f"{metric} {limits}, and at 0 a constant prediction is as good{hint}"
    return f"{metric} {limits}, so it can never change by {drop:g}{hint}"


def _meant(limits: Range, level: float) -> str | None:
    """What was probably meant by a level that cannot be: a percent, or the other sign."""
    if limits.percent and _is_percent(level):
        share = next((s for s in (level, -level) if s / 100 in limits), None)
        if share is not None:
            return _percent(share)
    return _number_text(-level) if 0 in (limits.low, limits.high) and -level in limits else None


def _is_percent(number: float) -> bool:
    return 2 <= abs(number) <= 100


def _percent(number: float) -> str:
    return f"{_number_text(number / 100)} for {abs(number):g} percent"


def _number_text(number: float) -> str:
    text = f"{number:.6g}"
    return text if "." in text or "e" in text else f"{text}.0"
