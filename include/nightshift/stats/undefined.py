"""Where a metric has no value, and why: said before scikit-learn would give a number in its place.

scikit-learn answers some questions that have no answer with a number and a warning (a recall
without positives is 0, an r2 of equal truths is 0 or 1, a percentage of 0 is 4.5e15). Here these
are states with a reason. What has an answer keeps scikit-learn's: the recall of positives of which
none was predicted is truly 0, averages over classes count a class that was never predicted as 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nightshift.stats.outcomes import Array, Outcomes

_LEAST_TRUTH = float(np.finfo(np.float64).eps)
"""scikit-learn divides by this where the truth of a percentage is nearer to 0."""


def reason(metric: str, known: Outcomes) -> str | None:
    """Why a metric is undefined on these rows; None where nothing speaks against it."""
    if not len(known):
        return "no row has a label"
    if not known.multiclass:
        unusable = int((~(np.isfinite(known.truth) & np.isfinite(known.score))).sum())
        if unusable:
            return f"{_rows(unusable, known)} a truth or a score that is no finite number"
    rule = _RULES.get(metric)
    return rule(known) if rule else None


def _rows(count: int, known: Outcomes) -> str:
    return f"{count:,} of {len(known):,} rows {'has' if count == 1 else 'have'}"


def _same(known: Outcomes) -> str | None:
    """Metrics that compare with the spread of the truth."""
    if len(known) < 2:
        return "it needs two rows at least"
    if (known.truth == known.truth[0]).all():
        return f"all {len(known):,} truths are equal, and it divides by how they differ"
    return None


def _zero(known: Outcomes) -> str | None:
    zero = (np.abs(known.truth) < _LEAST_TRUTH) & (known.truth != known.score)
    if zero.any():
        return f"{_rows(int(zero.sum()), known)} a truth of 0, by which it divides"
    return None


def _no_logarithm(known: Outcomes) -> str | None:
    wrong = int(((known.truth <= -1) | (known.score <= -1)).sum())
    if wrong:
        return f"{_rows(wrong, known)} a truth or a prediction of -1 or less, without a logarithm"
    return None


def _no_deviance(known: Outcomes, least: Callable[[Array], Array], truths: str) -> str | None:
    wrong = int((least(known.truth) | (known.score <= 0)).sum())
    if wrong:
        return f"{_rows(wrong, known)} a {truths} or a prediction of 0 or less"
    return None


def _single_class(known: Outcomes) -> str | None:
    if (known.truth == known.truth[0]).all():
        return f"all {len(known):,} truths are of one class"
    return None


def _no_positive(known: Outcomes) -> str | None:
    if known.multiclass or (known.truth == 1).any():
        return None
    return f"none of {len(known):,} truths is 1"


def _none_predicted(known: Outcomes) -> str | None:
    if known.multiclass or (known.decided == 1).any():
        return None
    return f"none of {len(known):,} rows is predicted as 1"


def _neither(known: Outcomes) -> str | None:
    if _no_positive(known) and _none_predicted(known):
        return f"none of {len(known):,} rows is 1, and none is predicted as 1"
    return None


def _no_false_positive(known: Outcomes) -> str | None:
    single = _single_class(known)
    if single or ((known.truth == 0) & (known.decided == 1)).any():
        return single
    return f"none of {len(known):,} rows is 0 and predicted as 1"


def _no_true_negative(known: Outcomes) -> str | None:
    single = _single_class(known)
    if single or ((known.truth == 0) & (known.decided == 0)).any():
        return single
    return f"none of {len(known):,} rows is 0 and predicted as 0"


def _no_probability(known: Outcomes) -> str | None:
    outside = int(((known.score < 0) | (known.score > 1)).sum())
    if outside:
        return f"{_rows(outside, known)} a score that is no probability"
    return None


def _compared_probabilities(known: Outcomes) -> str | None:
    return _no_probability(known) or _single_class(known)


_RULES: dict[str, Callable[[Outcomes], str | None]] = {
    "r2": _same,
    "explained_variance": _same,
    "d2_absolute_error_score": _same,
    "neg_mean_absolute_percentage_error": _zero,
    "neg_mean_squared_log_error": _no_logarithm,
    "neg_root_mean_squared_log_error": _no_logarithm,
    "neg_mean_poisson_deviance": lambda known: _no_deviance(
        known, lambda truth: truth < 0, "truth below 0"
    ),
    "neg_mean_gamma_deviance": lambda known: _no_deviance(known, lambda truth: truth <= 0, "truth"),
    "roc_auc": _single_class,
    "roc_auc_ovr": _compared_probabilities,
    "roc_auc_ovo": _compared_probabilities,
    "roc_auc_ovr_weighted": _compared_probabilities,
    "roc_auc_ovo_weighted": _compared_probabilities,
    "top_k_accuracy": _single_class,
    "balanced_accuracy": _single_class,
    "matthews_corrcoef": _single_class,
    "positive_likelihood_ratio": _no_false_positive,
    "neg_negative_likelihood_ratio": _no_true_negative,
    "d2_brier_score": _compared_probabilities,
    "d2_log_loss_score": _compared_probabilities,
    "neg_log_loss": _no_probability,
    "neg_brier_score": _no_probability,
    "average_precision": _no_positive,
    "recall": _no_positive,
    "precision": _none_predicted,
    "f1": _neither,
    "jaccard": _neither,
}
