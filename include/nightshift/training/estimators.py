"""From a family's ``estimator.py`` to a pipeline: built, fitted at a fixed number of threads, told.

The bytes of a fit may depend on the number of threads. So it is chosen by the size of the fit and
never by the machine, and it is kept in the manifest.
"""

from __future__ import annotations

import hashlib
import inspect
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from nightshift import artifacts
from nightshift.artifacts import Code, LegacyCode
from nightshift.errors import FOREIGN, ConfigError
from nightshift.family import RECORDED_LIBRARIES, ModelFamily

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


SMALL_FIT = 2_000_000
"""Rows times columns; a smaller fit is made at one thread, which is faster than to share it."""

THREADS = 2
"""At how many threads a larger fit is made, on any machine."""

LONGEST = 200
"""How many characters of a parameter a manifest keeps."""


def build(
    family: ModelFamily,
    params: Mapping[str, Any] | None = None,
    code: Code | LegacyCode | None = None,
) -> Pipeline:
    """The family's unfitted pipeline.

    Parameters
    ----------
    code
        What is run; by default the files in the family's folder as they are now.
    params
        Instead of ``estimator.params``. They may choose among the features, under ``numeric`` and
        ``categorical``.

    Raises
    ------
    ConfigError
        The module cannot be imported, the function is not there, it raises, or it returns
        something other than a scikit-learn Pipeline.
    """
    from sklearn.pipeline import Pipeline

    function, where = _function(family, code)
    features = {"numeric": family.features.numeric, "categorical": family.features.categorical}
    arguments = {**features, **(family.estimator.params if params is None else params)}
    try:
        pipeline = function(**arguments, seed=family.estimator.seed)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where} refused estimator.params: {error}") from error
    except FOREIGN as error:  # it is the family's own code
        raise ConfigError(f"{where} failed: {type(error).__name__}: {error}") from error
    if not isinstance(pipeline, Pipeline):
        raise ConfigError(
            f"{where} returned {type(pipeline).__name__}, not a sklearn.pipeline.Pipeline"
        )
    return pipeline


def scoring_problems(family: ModelFamily, pipeline: Pipeline) -> Iterator[tuple[str, str]]:
    """What the family's metrics need and its classifier does not have: (key, message)."""
    from nightshift import stats

    name, kind = type(pipeline[-1]).__name__, _kind(pipeline)
    if kind in ("a classifier", "a regressor") and (kind == "a regressor") != (
        family.task == "regression"
    ):
        yield "estimator.build", f"task is {family.task}, and the last step, {name}, is {kind}"
        return
    if family.task == "regression":
        return
    probabilities, decisions = _responses(pipeline)
    advice = f"{name} has none: wrap it in sklearn.calibration.CalibratedClassifierCV"
    if not (probabilities or decisions):
        needs = "a score is published beside the label, by predict_proba or decision_function"
        yield "estimator.build", f"{needs}; {advice if kind else f'{name} is no classifier'}"
        return
    for metric in family.performance.metrics:
        problem = stats.metric_problem(metric, family.task, probabilities=probabilities)
        if problem is not None and stats.metric_problem(metric, family.task) is None:
            key = "metric" if metric == family.performance.metric else "also"
            yield f"performance.{key}", f"{problem}; {advice}"


def _kind(pipeline: Pipeline) -> str | None:
    """What scikit-learn takes the last step for; None where that is neither, or cannot be told."""
    from sklearn.base import is_classifier, is_regressor

    try:
        if is_classifier(pipeline):
            return "a classifier"
        return "a regressor" if is_regressor(pipeline) else None
    except FOREIGN:  # a step of the family's own may tell nothing of itself
        return None


def _responses(pipeline: Pipeline) -> tuple[bool, bool]:
    """Whether a pipeline has ``predict_proba``, and whether it has ``decision_function``.

    Some estimators of scikit-learn know only once they are fitted: the last step is then tried on
    a few made-up rows, and where it takes none of those, it is believed to have both.
    """
    from sklearn.base import clone

    answers = hasattr(pipeline, "predict_proba"), hasattr(pipeline, "decision_function")
    if answers[0]:
        return answers
    random = np.random.default_rng(0)
    rows, truth = random.normal(size=(60, 3)), np.arange(60) % 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            last = clone(pipeline[-1]).fit(rows, truth)
        except FOREIGN:  # the family's own code runs here
            return True, True
    return hasattr(last, "predict_proba"), hasattr(last, "decision_function")


def parameters(family: ModelFamily) -> list[str] | None:
    """The names that ``build`` takes; None where it takes any."""
    arguments = inspect.signature(_function(family, None)[0]).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in arguments):
        return None
    return [parameter.name for parameter in arguments]


def _function(family: ModelFamily, code: Code | LegacyCode | None) -> tuple[Any, str]:
    module_name, function_name = family.estimator.build.split(".")
    file = family.folder / f"{module_name}.py"
    where = f"{family.family}: {file}: {function_name}"
    module = (code or artifacts.Code.of(family.folder)).module(module_name)
    function = vars(module).get(function_name)
    if not callable(function):
        raise ConfigError(f"{where} is not there; model.yaml names it under estimator.build")
    return function, where


def threads_for(frame: pd.DataFrame) -> int:
    """At how many threads a frame is learnt from."""
    return 1 if frame.size < SMALL_FIT else THREADS


def fit(pipeline: Pipeline, frame: pd.DataFrame, truth: np.ndarray, threads: int) -> None:
    """Fit in place. ``n_jobs`` of an estimator stays what its author made it."""
    with threadpool_limits(limits=threads):
        pipeline.fit(frame, truth)


def go_on(pipeline: Pipeline, frame: pd.DataFrame, truth: np.ndarray, threads: int) -> None:
    """Let the last step of a fitted pipeline learn more; the steps before it stay as they are."""
    with threadpool_limits(limits=threads):
        pipeline[-1].partial_fit(pipeline[:-1].transform(frame), truth)


def describe(estimator: Any) -> dict[str, Any]:
    """What a fitted estimator is made of, for its manifest.

    Returns
    -------
    dict
        ``class``, ``params`` (name to text), and where they exist: ``parts`` (each with ``name``,
        and ``columns`` where it sees some only), ``members`` (of an ensemble) and ``depths`` (the
        least and the greatest of its trees).
    """
    from sklearn.base import BaseEstimator

    if not isinstance(estimator, BaseEstimator):
        return {"class": _shown_param(estimator)}
    parts = list(_parts(estimator))
    own = estimator.get_params(deep=False)
    description: dict[str, Any] = {
        "class": _path(type(estimator)),
        "params": {name: _shown_param(value) for name, value in own.items() if not _is_part(value)},
    }
    return description | ({"parts": parts} if parts else {}) | _ensemble(estimator)


def libraries_of(pipeline: Pipeline) -> list[str]:
    """The packages, as pip names them, that the steps of a pipeline come from; none is listed
    twice, nor those that are recorded anyway."""
    steps = [pipeline, *pipeline.get_params(deep=True).values()]
    modules = {
        type(step).__module__.partition(".")[0] for step in steps if hasattr(step, "get_params")
    }
    names = {name for module in modules for name in _distributions().get(module, ())}
    return sorted(names - {*RECORDED_LIBRARIES, "nightshift"})


@cache
def _distributions() -> Mapping[str, list[str]]:
    """The packages that a module may come from; to read them all takes longer than a small fit."""
    return packages_distributions()


def code_of(folder: Path) -> str:
    """The hash of every file of a family's folder, with its name."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder)
        if file.is_file() and not any(part[0] in "._" for part in name.parts):
            digest.update(f"{name.as_posix()}\n{file.stat().st_size}\n".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _parts(estimator: Any) -> Iterator[dict[str, Any]]:
    from sklearn.compose import ColumnTransformer

    if isinstance(estimator, ColumnTransformer):
        for name, part, columns in estimator.transformers_:
            yield {"name": name, "columns": _shown_param(columns), **describe(part)}
        return
    for value in estimator.get_params(deep=False).values():
        if _is_part(value):
            named = value if isinstance(value, list) else [(_path(type(value)), value)]
            for name, part, *_ in named:
                yield {"name": name, **describe(part)}


def _is_part(value: Any) -> bool:
    """An estimator, or a list of (name, estimator)."""
    from sklearn.base import BaseEstimator

    if isinstance(value, list):
        return any(isinstance(item, tuple) and len(item) > 1 for item in value)
    return isinstance(value, BaseEstimator)


def _ensemble(estimator: Any) -> dict[str, Any]:
    members = getattr(estimator, "estimators_", None)
    if members is None:
        members = getattr(estimator, "_predictors", None)
    if members is None:
        return {}
    trees = [tree for member in members for tree in np.atleast_1d(np.array(member, dtype=object))]
    depths = [int(_depth(tree)) for tree in trees if hasattr(tree, _depth_of(tree))]
    spread = {"depths": [min(depths), max(depths)]} if depths else {}
    return {"members": len(members), **spread}


def _depth_of(tree: Any) -> str:
    """A boosted tree by histograms has another name for it."""
    return "get_max_depth" if hasattr(tree, "get_max_depth") else "get_depth"


def _depth(tree: Any) -> Any:
    return getattr(tree, _depth_of(tree))()


def _shown_param(value: Any) -> str:
    if isinstance(value, str):
        return value
    text = _path(value) if callable(value) and hasattr(value, "__qualname__") else repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}\N{HORIZONTAL ELLIPSIS}"


def _path(definition: Any) -> str:
    """Where a class or function comes from; of the family's own, the file in its folder."""
    module = definition.__module__
    if module.startswith(artifacts.PREFIX):
        module = module.partition(".")[2]
    return f"{module}.{definition.__qualname__}"
