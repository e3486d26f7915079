"""Labelled snapshots in, challengers out, each with the manifest that can make it again."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from nightshift import artifacts, stats, tables
from nightshift.artifacts import Code, LegacyCode, LoadedVersion
from nightshift.errors import FOREIGN, NightshiftError, TrainingError, words_of
from nightshift.family import ModelFamily, Problem
from nightshift.records import Model, Version
from nightshift.training import estimators

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from nightshift.training.search import Choice
from nightshift.training.manifest import _estimator, _manifest, _spans
from nightshift.training.rows import Plan, Rows, learnable, least_rows
from nightshift.wording import listed


def fit(
    family: ModelFamily,
    model: Model,
    rows: Rows,
    plan: Plan,
    *,
    base: LoadedVersion | None = None,
    proven: Version | None = None,
) -> tuple[bytes, dict[str, Any], Code | LegacyCode]:
    """A fitted pipeline as it is stored, the manifest that can make it again, and its code.

    Parameters
    ----------
    rows
        Those of the family in ``plan.learn``, with labels known by ``plan.cutoff``; those of
        ``plan.later`` are not learnt from.
    base
        The champion that the policy ``incremental`` goes on from; None makes a fresh start.
    proven
        The challenger that has won, fitted once more with its parameters, on its holdout too.

    Raises
    ------
    TrainingError
        There are too few labelled rows, only one class, the estimator raises, it cannot go on from
        a champion, or what was fitted cannot be stored, or cannot score the rows that it has learnt
        from.
    """
    code = _code(family, base)
    held_out, rows = rows.coverage(plan.border), rows.until(plan.border)
    own = learnable(family, model, rows, plan, base.version if base else None)
    _refuse_too_few(family, model, own, plan, base)
    truth = truth_of(family, own.value)
    missing = artifacts.missing_text(base.version.manifest) if base else math.nan
    frame = tables.frame(own.table, family.features, missing)
    params, choice = family.estimator.params, None
    if proven is not None:
        params = proven.manifest.params
    elif base is not None:
        params = base.version.manifest.params
    elif family.estimator.search is not None:
        choice = _searched(family, frame, truth, own.nights, code)
        params = {**params, **choice.params}
    threads = estimators.threads_for(frame)
    pipeline = make(family, model, params, frame, truth, threads, base=base, code=code)
    # Before anything asks it: some estimators count in themselves how often they were asked.
    artifact = artifacts.to_bytes(pipeline)
    _refuse_what_cannot_score(family, model, pipeline, frame)
    manifest = _manifest(
        family, model, plan, own, base.version if base else None, code, pipeline
    ) | {
        "coverage": {"training": own.coverage(), "holdout": held_out},
        "guess": asdict(stats.constant(family.task, truth)),
        "estimator": _estimator(family, params),
        "threads": threads,
        "missing_text": None if missing is None else "NaN",
        "pipeline": estimators.describe(pipeline),
    }
    if proven is not None:
        manifest["proven"] = {
            "version_id": proven.version_id,
            "number": proven.number,
            "artifact_hash": proven.artifact_hash,
            "holdout": [moment.isoformat() for moment in proven.manifest.holdout],
        }
    if choice is not None and family.estimator.search is not None:
        manifest["search"] = choice.record(family.estimator.search)
    return artifact, manifest, code


def fresh(
    family: ModelFamily, model: Model, rows: Rows, plan: Plan, code: Code | LegacyCode
) -> Pipeline:
    """The pipeline that :func:`fit` makes of a fresh start, for who does not mean to store it.

    Parameters and errors as there; ``code`` is what the family's folder holds.
    """
    own = learnable(family, model, rows, plan)
    _refuse_too_few(family, model, own, plan, None)
    truth = truth_of(family, own.value)
    frame = tables.frame(own.table, family.features, math.nan)
    params = family.estimator.params
    if family.estimator.search is not None:
        params = {**params, **_searched(family, frame, truth, own.nights, code).params}
    threads = estimators.threads_for(frame)
    pipeline = make(family, model, params, frame, truth, threads, base=None, code=code)
    _refuse_what_cannot_score(family, model, pipeline, frame)
    return pipeline


def _searched(
    family: ModelFamily,
    frame: pd.DataFrame,
    truth: np.ndarray,
    nights: np.ndarray,
    code: Code | LegacyCode,
) -> Choice:
    from nightshift.training import search

    return search.best(family, frame, truth, nights, code)


def _code(family: ModelFamily, base: LoadedVersion | None) -> Code | LegacyCode:
    """What is in the folder now; whoever goes on from a version without code carries none."""
    carried = base is None or "archive" in base.version.manifest.get("code", {})
    return Code.of(family.folder) if carried else LegacyCode(family.folder)


def make(
    family: ModelFamily,
    model: Model,
    params: Mapping[str, Any],
    frame: pd.DataFrame,
    truth: np.ndarray,
    threads: int,
    *,
    base: LoadedVersion | None,
    code: Code | LegacyCode,
) -> Pipeline:
    """A pipeline fitted on these rows, or one that has gone on from ``base``."""
    # What a loaded version holds is shared by everybody who loads it.
    pipeline = copy.deepcopy(base.pipeline) if base else estimators.build(family, params, code)
    problem = next(estimators.scoring_problems(family, pipeline), None)
    if problem is not None:
        raise TrainingError(f"{model.name}: {': '.join(problem)}")
    try:
        if base is None:
            estimators.fit(pipeline, frame, truth, threads)
        elif _goes_on(pipeline):
            estimators.go_on(pipeline, frame, truth, threads)
        else:
            why = _cannot_go_on(family, pipeline)
            raise TrainingError(f"{model.name}: retrain.training.policy {why}")
    except NightshiftError:
        raise
    except FOREIGN as error:  # a fit runs the family's own code
        raise TrainingError(
            f"{model.name}: {family.estimator.build} could not be fitted on {len(frame)} rows:"
            f" {words_of(error, discreet=family.discreet)}"
        ) from None if family.discreet else error
    return pipeline


SCORED_FIRST = 1_000
"""How many of the rows that it has learnt from a pipeline must score before it is stored."""


def _refuse_what_cannot_score(
    family: ModelFamily, model: Model, pipeline: Pipeline, frame: pd.DataFrame
) -> None:
    some = frame.iloc[:SCORED_FIRST]
    try:
        score, _ = artifacts.predict(pipeline, some, family.task)
    except FOREIGN as error:  # the family's own code runs here
        raise TrainingError(
            f"{model.name}: what {family.estimator.build} made was fitted, and cannot score the"
            f" rows that it has learnt from: {words_of(error, discreet=family.discreet)}"
        ) from None if family.discreet else error
    if len(score) != len(some):
        raise TrainingError(
            f"{model.name}: what {family.estimator.build} made gave {len(score)} scores for"
            f" {len(some)} rows"
        )


def estimator_problems(family: ModelFamily) -> Iterator[Problem]:
    """What is wrong with the family's estimator or metric, without fitting anything."""
    from nightshift.training import search

    file = family.folder / "model.yaml"
    try:
        pipeline = estimators.build(family, search.first_choice(family))
        wrong = list(search.problems(family))
    except NightshiftError as error:
        wrong = list(_refusals(family, error))
    else:
        wrong += estimators.scoring_problems(family, pipeline)
        if family.retrain.training.policy == "incremental" and not _goes_on(pipeline):
            wrong.append(("retrain.training.policy", _cannot_go_on(family, pipeline)))
    yield from (Problem(file, key, message) for key, message in wrong)
    for metric in family.performance.metrics:
        problem = stats.metric_problem(metric, family.task)
        if problem:
            key = "metric" if metric == family.performance.metric else "also"
            yield Problem(file, f"performance.{key}", problem)


def _refusals(family: ModelFamily, error: NightshiftError) -> Iterator[tuple[str, str]]:
    """What build refuses, and of a search what it may have refused: the key, not the call."""
    from nightshift.training import search

    try:
        wrong = list(search.problems(family))
    except NightshiftError:
        wrong = []
    yield from wrong or [("estimator.build", str(error))]


def truth_of(family: ModelFamily, values: np.ndarray) -> np.ndarray:
    """Labels as an estimator is given them."""
    if family.task == "regression":
        return values.astype(np.float64)
    if family.task == "binary_classification":
        return values.astype(np.int64)
    return values.astype(object)


def _refuse_too_few(
    family: ModelFamily,
    model: Model,
    rows: Rows,
    plan: Plan,
    base: LoadedVersion | None,
) -> None:
    least = least_rows(family)
    nights = listed(_spans(family, plan, base.version if base else None))
    if len(rows) < least:
        causes = list(rows.shortage.sentences(family))
        if base is not None:
            causes.insert(0, f"{base} has learnt the nights before; wait for labels of later ones")
        advice = "; ".join(causes) or "collect labels, or widen retrain.training.window"
        raise TrainingError(
            f"{model.name}: {len(rows)} labelled rows in {len(rows.snapshots)} snapshots of"
            f" {nights}, and {least} are needed (retrain.training.min_rows, or else"
            f" performance.min_labels): {advice}"
        )
    classes = set(rows.value)
    if family.task != "regression" and len(classes) < 2 and base is None:
        kind = "of one class" if family.discreet else repr(classes.pop())
        raise TrainingError(
            f"{model.name}: the {len(rows)} labelled rows of {nights} are all {kind};"
            " a classifier needs at least two classes"
        )


def _goes_on(pipeline: Pipeline) -> bool:
    return hasattr(pipeline[-1], "partial_fit")


def _cannot_go_on(family: ModelFamily, pipeline: Pipeline) -> str:
    return (
        f"is incremental, and {type(pipeline[-1]).__name__}, the last step of"
        f" {family.estimator.build}, has no partial_fit; choose an estimator that has it, such as"
        " SGDRegressor, or another policy"
    )
