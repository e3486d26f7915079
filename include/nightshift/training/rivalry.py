"""Policies of training that compete: one is chosen by nights before the holdout.

Each learns as it would have some nights earlier, and is asked about the nights between. Whoever is
best there makes the challenger, which alone is then held against the champion, on nights that have
not chosen it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from nightshift import artifacts, policy, stats, tables
from nightshift.artifacts import Code
from nightshift.errors import FOREIGN
from nightshift.family import ModelFamily
from nightshift.records import Model
from nightshift.training import estimators, fitting
from nightshift.training.rows import Plan, Rows, Span, learnable, least_rows, plan


@dataclass(frozen=True)
class Choice:
    """The family with the policy that was chosen, and what the manifest says of the choice.

    ``record`` is None where nothing competed.
    """

    family: ModelFamily
    record: Mapping[str, Any] | None = None


def spans(family: ModelFamily, planned: Plan) -> tuple[Span, ...]:
    """The nights to look at before the holdout of a plan, oldest first, those of rivals too."""
    if len(family.trainings) == 1:
        return planned.learn
    cutoffs = planned.cutoff, _earlier(family, planned.cutoff)
    looked_at = [
        span
        for training in family.trainings
        for cutoff in cutoffs
        for span in plan(family.learning_by(training), cutoff, now=planned.stated_by).learn
    ]
    return _merged(sorted([*planned.learn, *looked_at], key=lambda span: span.start))


def _merged(ordered: list[Span]) -> tuple[Span, ...]:
    """The same nights, none of them twice."""
    whole: list[Span] = []
    for span in ordered:
        if whole and span.start <= whole[-1].end:
            last = whole.pop()
            whole.append(Span(last.start, max(last.end, span.end)))
        else:
            whole.append(span)
    return tuple(whole)


def _earlier(family: ModelFamily, cutoff: datetime) -> datetime:
    """The cutoff whose holdout are the nights before that of ``cutoff``: there rivals compete."""
    return cutoff - family.promotion.holdout


def choose(
    family: ModelFamily, model: Model, rows: Rows, cutoff: datetime, *, now: datetime
) -> Choice:
    """Which of ``retrain.training`` a model learns by at a cutoff.

    The first one named, where nothing tells them apart.

    Parameters
    ----------
    rows
        Those of the family in :func:`spans`, with labels known by ``cutoff``.
    """
    rivals = [family.learning_by(training) for training in family.trainings]
    if len(rivals) == 1:
        return Choice(family)
    plans = [plan(rival, _earlier(family, cutoff), now=now) for rival in rivals]
    nights = plans[0].later
    judged_on = rows.within([nights]).of(family, model)
    code = Code.of(family.folder)
    scored = [
        _scored(rival, model, rows, earlier, judged_on, code)
        for rival, earlier in zip(rivals, plans, strict=True)
    ]
    gains = rival_gains(family, scored, judged_on)
    chosen = policy.select(gains)
    record = {
        "nights": [nights.start.isoformat(), nights.end.isoformat()],
        "policies": [
            training.model_dump(mode="json", exclude={"rivals"}) for training in family.trainings
        ],
        "gains": [float(gain.mean()) if len(gain) else None for gain in gains],
        "chosen": chosen,
    }
    return Choice(rivals[chosen], record)


def rival_gains(
    family: ModelFamily, scored: Sequence[stats.Outcomes | None], judged_on: Rows
) -> list[np.ndarray]:
    """By night, what each would have gained over the first that could be trained."""
    first = next((outcomes for outcomes in scored if outcomes is not None), None)
    if first is None:
        return [np.array([])] * len(scored)
    nights = judged_on.nights.astype("datetime64[us]")
    metric, task = family.performance.metric, family.task
    return [
        np.array([]) if outcomes is None else stats.gains(metric, task, first, outcomes, nights)[1]
        for outcomes in scored
    ]


def _scored(
    family: ModelFamily, model: Model, rows: Rows, earlier: Plan, judged_on: Rows, code: Code
) -> stats.Outcomes | None:
    """What a policy would have told of later rows; None where it could not have been trained."""
    from nightshift.training import search

    own = learnable(family, model, rows.within(earlier.learn), earlier)
    if len(own) < least_rows(family) or not len(judged_on):
        return None
    truth = fitting.truth_of(family, own.value)
    frame = tables.frame(own.table, family.features, math.nan)
    threads = estimators.threads_for(frame)
    params = search.first_choice(family)
    try:
        pipeline = fitting.make(family, model, params, frame, truth, threads, base=None, code=code)
        later = tables.frame(judged_on.table, family.features, math.nan)
        score, label = artifacts.predict(pipeline, later, family.task)
    except FOREIGN:  # the family's own code runs here
        return None
    predictions = pd.DataFrame({"value": judged_on.value, "score": score, "label": label})
    return stats.outcomes(predictions, family.task)
