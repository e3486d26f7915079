"""Which falls the rules can find at all, at the labels that a model has a night."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from statistics import median

from nightshift import stats
from nightshift.documents import Reference
from nightshift.family import ModelFamily
from nightshift.monitoring.measuring import shift
from nightshift.monitoring.references import references, threshold
from nightshift.records import Night
from nightshift.registry import Champion
from nightshift.wording import count

DOUBLED = 2.0
"""A window is too short for its rows where not even so many times the loss at the threshold is
found in it."""

_LARGEST = 1e4
_STEPS = 40


def unbounded(family: ModelFamily) -> str | None:
    """A sentence where the detector cannot be used for the family's metric, and what is instead."""
    rule, metric = family.retrain.when, family.performance.metric
    if rule is None or rule.shift is None or stats.perfect(metric) is not None:
        return None
    instead = "a breach over a whole performance.window retrains"
    if rule.breaches is not None:
        instead = (
            f"{rule.breaches} breaches of the last {rule.of_last} measurements do, or {instead}"
        )
    return (
        f"{family.family}: {metric} has no greatest value, so the sequential detector"
        f" (retrain.when.shift) cannot judge it: {instead}"
    )


def smallest_fall(
    family: ModelFamily, champion: Champion, reference: Reference, labels: int, nights: int
) -> float | None:
    """The value nearest to the threshold that so many nights of nothing else are found by.

    None where not even the worst value is. The rule itself is asked.
    """
    best = stats.perfect(family.performance.metric)
    name = champion.version.model.name
    level = threshold(family, name, champion, reference)
    if best is None or level is None or level >= best:
        return None
    limits = stats.range_of(family.performance.metric)
    worst = (best - limits.low) / (best - level) if limits is not None else _LARGEST
    least, most = 1.0, min(worst, _LARGEST)

    def is_found(times: float) -> bool:
        value = best - times * (best - level)
        start = champion.effective_from
        lived = [
            Night(start + timedelta(days=day), labels, labels, value, None) for day in range(nights)
        ]
        verdict = shift(family, name, champion, lived, reference)
        return verdict is not None and verdict.detected

    if not is_found(most):
        return None
    for _ in range(_STEPS):
        middle = (least * most) ** 0.5
        least, most = (least, middle) if is_found(middle) else (middle, most)
    return best - most * (best - level)


def too_short(
    family: ModelFamily,
    champions: Mapping[int, Champion],
    nights: Mapping[int, Sequence[Night]],
) -> str | None:
    """A sentence where a window has too few rows for even a doubled loss; None where it has not.

    It is about the middle one of the models by the labels that a night brings.

    Parameters
    ----------
    nights
        The matured nights of each champion.
    """
    held_to = references(family, champions)
    usual = {
        model_id: int(median(night.labels for night in nights[model_id]))
        for model_id in champions
        if nights.get(model_id) and model_id in held_to
    }
    if not usual:
        return None
    ordered = sorted(usual, key=lambda model_id: usual[model_id])
    model_id = ordered[len(ordered) // 2]
    champion, reference, labels = champions[model_id], held_to[model_id], usual[model_id]
    name = champion.version.model.name
    level = threshold(family, name, champion, reference)
    best = stats.perfect(family.performance.metric)
    if level is None or best is None or labels < 1:
        return None
    end = champion.effective_from
    window = sum(1 for _ in family.ticks(end - family.performance.window, end))
    falls = [
        smallest_fall(family, champion, reference, labels, stretch)
        for stretch in (window, stats.HORIZON)
    ]
    if falls[0] is not None and best - falls[0] <= DOUBLED * (best - level):
        return None
    here, later = ("none" if value is None else f"one to {value:.4g}" for value in falls)
    whose = f"of {name}, its middle model by labels, " if family.models else ""
    return (
        f"{family.family}: performance.window holds {count(window, 'night')} of"
        f" {count(labels, 'label')}: the"
        f" smallest fall {whose}from {reference.value:.4g}, with the threshold at {level:.4g}, that"
        f" the detector can find in them is {here}; in {stats.HORIZON} nights it is {later}."
        " A breach over the whole window retrains in any case, and a longer performance.window has"
        " narrower intervals"
    )
