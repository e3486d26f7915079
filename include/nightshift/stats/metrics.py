"""scikit-learn's metrics over stored predictions, with intervals and paired differences.

A metric has an *influence function*: for each row, how far it pulls the metric from its value. Its
variance gives the interval of the metric, and the variance of the difference of two models'
influences, row by row, that of their paired difference. Means of per-row scores have it trivially,
ratios of means and smooth functions of them by the delta method, ROC AUC by DeLong's structural
components [1]_. Every other scorer is bootstrapped with a fixed seed.

Rows of one night share its weather, so where there are at least five nights, they and not the rows
are the units: influences are summed by night (the cluster-robust variance [2]_, with Student's t),
and the bootstrap draws nights.

.. [1] DeLong, DeLong, Clarke-Pearson (1988), "Comparing the areas under two or more correlated
   receiver operating characteristic curves", Biometrics 44.
.. [2] Cameron, Miller (2015), "A practitioner's guide to cluster-robust inference", Journal of
   Human Resources 50.
.. [3] Imbens, Kolesár (2016), "Robust standard errors in small samples: some practical advice",
   Review of Economics and Statistics 98.
.. [4] Lai (1976), "On confidence sequences", Annals of Statistics 4,
   https://doi.org/10.1214/aos/1176343406; Wang, Ramdas (2025), "Anytime-valid t-tests and
   confidence sequences for Gaussian means with unknown variance", Sequential Analysis 44,
   https://doi.org/10.48550/arXiv.2310.03722.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import gammaincinv, ndtri, stdtrit

from nightshift.errors import ConfigError
from nightshift.records import Night, Reference
from nightshift.stats import ranges
from nightshift.stats.ranges import Task
from nightshift.wording import nearest

Array = np.ndarray

RESAMPLES = 200
SEED = 20130101
FEWEST_NIGHTS = 5
"""With fewer nights than this a variance between them cannot be told."""


@dataclass(frozen=True)
class Outcomes:
    """Predictions whose truth is known, row by row.

    ``truth`` and ``score`` are float64 of shape (n,): the value and its prediction in regression,
    0 or 1 and the probability of 1 in binary classification. In multiclass classification
    ``truth`` and ``label`` are str arrays and ``score`` is the probability of ``label``.
    """

    truth: Array
    score: Array
    label: Array | None = None

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, rows: Array) -> Outcomes:
        label = None if self.label is None else self.label[rows]
        return Outcomes(self.truth[rows], self.score[rows], label)


@dataclass(frozen=True)
class Estimate:
    """A metric's value, and an interval around it; greater is better.

    ``error`` is the standard error, ``method`` says in words how the interval was made.
    """

    value: float
    low: float
    high: float
    error: float = 0.0
    method: str = ""


def outcomes(rows: pd.DataFrame, task: Task) -> Outcomes:
    """Rows with columns ``value`` (text), ``score`` and ``label`` as :class:`Outcomes`."""
    score = rows["score"].to_numpy(dtype=np.float64)
    if task == "multiclass_classification":
        return Outcomes(
            rows["value"].to_numpy(dtype=object), score, rows["label"].to_numpy(dtype=object)
        )
    return Outcomes(rows["value"].to_numpy(dtype=np.float64), score)


def perfect(metric: str, task: Task, known: Outcomes) -> float | None:
    """A metric on the same rows if every prediction were the truth; None where it is undefined."""
    if task == "multiclass_classification":
        return value(metric, task, Outcomes(known.truth, np.ones(len(known)), known.truth))
    return value(metric, task, replace(known, score=known.truth))


def baseline(metric: str, task: Task, known: Outcomes) -> float | None:
    """A metric on the same rows if every prediction were the same; None where it is undefined.

    The same is the mean of the truth, or its commonest class.
    """
    if task != "multiclass_classification":
        same = np.full(len(known), known.truth.mean())
        return value(metric, task, replace(known, score=same))
    classes, counts = np.unique(known.truth, return_counts=True)
    common = np.full(len(known), classes[counts.argmax()])
    share = np.full(len(known), counts.max() / len(known))
    return value(metric, task, Outcomes(known.truth, share, common))


def estimate(
    metric: str,
    task: Task,
    known: Outcomes,
    *,
    nights: Array | None = None,
    confidence: float = 0.95,
) -> Estimate | None:
    """A metric with its two-sided interval; None where it is undefined on these rows.

    Parameters
    ----------
    nights
        For each row the night it belongs to, of any sortable dtype; rows are units without it.
    """
    found = value(metric, task, known)
    if found is None:
        return None
    units = _units(nights)
    influence = _influence(metric, known)
    if influence is not None:
        error, reach = _reach(influence, units, confidence, sides=2)
        how = "nights as units, Student's t" if units is not None else "rows as units, normal"
        return Estimate(found, found - reach, found + reach, error, how)
    draws = _bootstrap(len(known), units, lambda rows: value(metric, task, known.take(rows)))
    if len(draws) < 2:
        return None
    low, high = np.quantile(draws, [0.5 - confidence / 2, 0.5 + confidence / 2])
    how = f"bootstrap of {'rows' if units is None else 'nights'}, seed {SEED}"
    return Estimate(found, float(low), float(high), float(draws.std(ddof=1)), how)


def nights_of(rows: pd.DataFrame) -> Array:
    """The night of each row, in UTC, as datetime64: of moments with a zone numpy makes objects."""
    return rows["as_of"].to_numpy(dtype="datetime64[us]")


def by_night(metric: str, task: Task, rows: pd.DataFrame) -> list[Night]:
    """A metric night by night, oldest first.

    Parameters
    ----------
    rows
        Columns ``as_of`` and those of :func:`outcomes`; ``value`` is None where no label is known.
    """
    moments, unit = np.unique(nights_of(rows), return_inverse=True)
    labelled = rows["value"].notna().to_numpy()
    predictions = np.bincount(unit, minlength=len(moments))
    told = []
    for number, figures in enumerate(
        _night_figures(metric, task, rows[labelled], unit[labelled], len(moments))
    ):
        labels, value_, error = figures
        as_of = pd.Timestamp(moments[number])
        as_of = as_of.tz_localize("UTC") if as_of.tz is None else as_of
        told.append(Night(as_of.to_pydatetime(), int(predictions[number]), labels, value_, error))
    return told


def _night_figures(
    metric: str, task: Task, rows: pd.DataFrame, unit: Array, nights: int
) -> Iterator[tuple[int, float | None, float | None]]:
    """For each night its labels, its value and standard error; None where undefined."""
    known = outcomes(rows, task)
    row_scores = _ROW_SCORES[metric](known) if metric in _ROW_SCORES else None
    order = np.argsort(unit, kind="stable")
    borders = np.searchsorted(unit[order], np.arange(nights + 1))
    for start, end in pairwise(borders):
        chosen = order[start:end]
        if len(chosen) < 2:
            yield len(chosen), None, None
        elif row_scores is not None:
            own = row_scores[chosen]
            yield len(chosen), float(own.mean()), float(own.std(ddof=1) / math.sqrt(len(own)))
        else:
            found = estimate(metric, task, known.take(chosen))
            yield len(chosen), *((found.value, found.error) if found else (None, None))


def reference(metric: str, task: Task, rows: pd.DataFrame) -> Reference | None:
    """What a model is worth on labelled rows (see :func:`by_night`); None where undefined."""
    from scipy.stats import skew

    known = outcomes(rows, task)
    found = estimate(metric, task, known, nights=nights_of(rows))
    alone = estimate(metric, task, known)
    if found is None or alone is None:
        return None
    deviation = alone.error * math.sqrt(len(known))
    pulls = _influence(metric, known)
    skewness = float(skew(pulls)) if pulls is not None and pulls.std() > 0 else 0.0
    told = [(n.value, n.labels) for n in by_night(metric, task, rows) if n.value is not None]
    spread = single = 0.0
    if len(told) >= FEWEST_NIGHTS:
        values, labels = np.array(told).T
        single = float(np.average(values, weights=labels)) - found.value
        spread = spread_of(values, labels, deviation)
    return Reference(found.value, found.error, spread, deviation, skewness, single)


def spread_of(values: Array, labels: Array, deviation: float) -> float:
    """The standard deviation of nights' true levels around their mean.

    Nights differ by chance as well: only what it does not explain at the 5% level counts.

    Parameters
    ----------
    values, labels
        The metric of each night, and how many labels it is made of; both of shape (nights,).
    deviation
        That of one row's pull on the metric.
    """
    between, chance = float(values.var(ddof=1)), float((deviation**2 / labels).mean())
    most = chance * float(2 * gammaincinv((len(values) - 1) / 2, 0.95)) / (len(values) - 1)
    return math.sqrt(between - chance) if between > most else 0.0


def expected(
    metric: str, score: Array, share: Array, *, draws: int = RESAMPLES, confidence: float = 0.95
) -> Estimate | None:
    """A binary classifier's metric before any label, from calibrated scores.

    Labels are drawn as ``share`` says, and the metric is taken of each draw: its mean is the
    estimate, its quantiles are the interval, which holds the chance in the labels but not an error
    of the calibration. The idea is that of confidence-based performance estimation (NannyML's
    CBPE). None where the metric is undefined on every draw.

    Parameters
    ----------
    score
        The probabilities that the model told, of shape (n,).
    share
        What they were worth on labelled rows: the probability of 1 for each.
    """
    random = np.random.default_rng(SEED)
    drawn = (
        value(
            metric,
            "binary_classification",
            Outcomes((random.random(len(share)) < share).astype(np.float64), score),
        )
        for _ in range(draws)
    )
    sample = np.array([found for found in drawn if found is not None])
    if len(sample) < 2:
        return None
    low, high = np.quantile(sample, [0.5 - confidence / 2, 0.5 + confidence / 2])
    how = f"labels drawn from calibrated scores, seed {SEED}"
    return Estimate(float(sample.mean()), float(low), float(high), float(sample.std(ddof=1)), how)


def paired_difference(
    metric: str,
    task: Task,
    champion: Outcomes,
    challenger: Outcomes,
    *,
    confidence: float,
    nights: Array | None = None,
) -> Estimate | None:
    """Challenger minus champion on the same rows.

    ``low`` and ``high`` are one-sided bounds, each at ``confidence``. None where the metric is
    undefined for either.
    """
    before, after = value(metric, task, champion), value(metric, task, challenger)
    if before is None or after is None:
        return None
    gain = after - before
    units = _units(nights)
    pulls = _influence(metric, champion), _influence(metric, challenger)
    if pulls[0] is not None and pulls[1] is not None:
        error, reach = _reach(pulls[1] - pulls[0], units, confidence, sides=1)
        return Estimate(gain, gain - reach, gain + reach, error)

    def difference(rows: Array) -> float | None:
        pair = (value(metric, task, side.take(rows)) for side in (champion, challenger))
        old, new = pair
        return None if old is None or new is None else new - old

    draws = _bootstrap(len(champion), units, difference)
    if len(draws) < 2:
        return None
    low, high = np.quantile(draws, [1 - confidence, confidence])
    return Estimate(gain, float(low), float(high), float(draws.std(ddof=1)))


def nightly_differences(
    metric: str, task: Task, older: Outcomes, newer: Outcomes, nights: Array
) -> Array:
    """Newer minus older on the same rows, night by night, oldest first.

    A night's difference is the mean of how its rows pull the two apart; where a metric has no
    influence function it is that of the night's own metric, and nights on which that is undefined
    are left out.
    """
    before, after = value(metric, task, older), value(metric, task, newer)
    if before is None or after is None:
        return np.array([])
    _, unit = np.unique(nights, return_inverse=True)
    pulls = _influence(metric, older), _influence(metric, newer)
    if pulls[0] is not None and pulls[1] is not None:
        return after - before + np.bincount(unit, pulls[1] - pulls[0]) / np.bincount(unit)
    pairs = (
        [value(metric, task, side.take(np.flatnonzero(unit == night))) for side in (older, newer)]
        for night in range(unit.max() + 1)
    )
    return np.array([new - old for old, new in pairs if old is not None and new is not None])


def metric_problem(metric: str, task: Task) -> str | None:
    """Why a metric cannot be used for a task; None where it can."""
    from sklearn.metrics import get_scorer_names

    if metric not in get_scorer_names():
        hint = nearest(metric, get_scorer_names(), most=3)
        return f"{metric!r} is not the name of a scikit-learn scorer{hint}"
    problem = ranges.task_problem(metric, task)
    if problem:
        return problem
    try:
        value(metric, task, _specimen(task))
    except ConfigError as error:
        return str(error)
    return None


def value(metric: str, task: Task, known: Outcomes) -> float | None:
    """The scorer's value on stored predictions; None where scikit-learn calls it undefined."""
    from sklearn.exceptions import UndefinedMetricWarning
    from sklearn.metrics import get_scorer

    from nightshift.stats import stored_predictions

    stored = stored_predictions.of(task, known.truth, known.score, known.label)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        try:
            found = float(get_scorer(metric)(stored, np.arange(len(known)), known.truth))
        except (ValueError, AttributeError, TypeError) as error:
            if len(np.unique(known.truth)) < 2:
                return None
            raise ConfigError(
                f"the metric {metric!r} does not apply to {task} from stored predictions: {error}"
            ) from error
    return found if math.isfinite(found) else None


def _specimen(task: Task) -> Outcomes:
    """A few rows on which every metric that fits the task is defined."""
    if task == "multiclass_classification":
        truth = np.array(["a", "b", "c", "a", "b", "c"], dtype=object)
        return Outcomes(truth, np.full(6, 0.5), truth[::-1].copy())
    truth = np.array([0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    return Outcomes(truth, np.array([0.2, 0.7, 0.6, 0.4, 0.9, 0.1]))


_ROW_SCORES: dict[str, Callable[[Outcomes], Array]] = {
    "neg_mean_absolute_error": lambda known: -np.abs(known.truth - known.score),
    "neg_mean_squared_error": lambda known: -((known.truth - known.score) ** 2),
    "neg_brier_score": lambda known: -((known.truth - known.score) ** 2),
    "accuracy": lambda known: (
        (known.truth == known.label).astype(np.float64)
        if known.label is not None
        else ((known.score >= 0.5) == known.truth).astype(np.float64)
    ),
}


def _counts(known: Outcomes) -> tuple[Array, Array, Array, Array]:
    """Row by row: true positive, false positive, false negative, true negative."""
    told, truth = known.score >= 0.5, known.truth == 1
    cells = (told & truth, told & ~truth, ~told & truth, ~told & ~truth)
    tp, fp, fn, tn = (cell.astype(np.float64) for cell in cells)
    return tp, fp, fn, tn


# Ratios of two means: numerator and denominator, row by row.
_RATIOS: dict[str, Callable[[Outcomes], tuple[Array, Array]]] = {
    "precision": lambda known: (_counts(known)[0], known.score >= 0.5),
    "recall": lambda known: (_counts(known)[0], known.truth == 1),
    "f1": lambda known: (
        2 * _counts(known)[0],
        (known.score >= 0.5).astype(np.float64) + (known.truth == 1),
    ),
    "r2": lambda known: (
        -((known.truth - known.score) ** 2),
        (known.truth - known.truth.mean()) ** 2,
    ),
}


def _influence(metric: str, known: Outcomes) -> Array | None:
    if metric in _ROW_SCORES:
        row_scores = _ROW_SCORES[metric](known)
        return row_scores - row_scores.mean()
    if metric == "neg_root_mean_squared_error":
        squares = (known.truth - known.score) ** 2
        return -(squares - squares.mean()) / (2 * math.sqrt(max(squares.mean(), 1e-300)))
    if metric in _RATIOS and known.label is None:
        top, bottom = _RATIOS[metric](known)
        return (top - top.mean() / bottom.mean() * bottom) / bottom.mean()
    if metric == "roc_auc":
        return _auc_influence(known)
    return None


def _auc_influence(known: Outcomes) -> Array:
    from scipy.stats import rankdata

    positive = known.truth == 1
    m, n = int(positive.sum()), int((~positive).sum())
    ranks = rankdata(known.score)
    wins = np.empty(len(known))
    wins[positive] = (ranks[positive] - rankdata(known.score[positive])) / n
    wins[~positive] = 1 - (ranks[~positive] - rankdata(known.score[~positive])) / m
    auc = wins[positive].mean()
    weight = np.where(positive, len(known) / m, len(known) / n)
    return (wins - auc) * weight


def _units(nights: Array | None) -> Array | None:
    """For each row the number of its night; None where there are too few nights to be units."""
    if nights is None:
        return None
    names, numbers = np.unique(nights, return_inverse=True)
    return numbers if len(names) >= FEWEST_NIGHTS else None


def _reach(
    influence: Array, units: Array | None, confidence: float, *, sides: int
) -> tuple[float, float]:
    """The standard error of a metric, and how far its bound lies from its value."""
    tail = 1 - (1 - confidence) / sides
    size = len(influence)
    if units is None:
        error = float(influence.std(ddof=1) / math.sqrt(size)) if size > 1 else 0.0
        return error, float(ndtri(tail)) * error
    pulls = np.bincount(units, weights=influence)
    error = math.sqrt(len(pulls) / (len(pulls) - 1) * float((pulls**2).sum())) / size
    # One degree of freedom fewer than nights have: they differ in size and skew, and a bound a
    # little too near would promote equals more often than the confidence says, see [3].
    return error, float(stdtrit(len(pulls) - 2, tail)) * error


def _bootstrap(size: int, units: Array | None, statistic: Callable[[Array], float | None]) -> Array:
    """``statistic`` on resampled rows or nights; draws on which it is undefined are left out.

    The rows themselves were checked when their own value was told, so scikit-learn does not check
    each draw again: that takes longer than most metrics.
    """
    from sklearn import config_context

    random = np.random.default_rng(SEED)
    if units is None:
        samples = (random.integers(0, size, size) for _ in range(RESAMPLES))
    else:
        rows_of = [np.flatnonzero(units == unit) for unit in range(units.max() + 1)]
        samples = (
            np.concatenate([rows_of[u] for u in random.integers(0, len(rows_of), len(rows_of))])
            for _ in range(RESAMPLES)
        )
    with config_context(skip_parameter_validation=True, assume_finite=True):
        draws: list[Any] = [statistic(rows) for rows in samples]
    return np.array([draw for draw in draws if draw is not None])
