"""What a training will do, done on rows that are made up: `check` fails where a night would.

The pipeline is built, fitted on rows of the declared types, asked, stored, opened by another
process, and asked again. One process opens those of all families.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nightshift import artifacts, stats, tables
from nightshift.artifacts import Code
from nightshift.data import Store
from nightshift.documents import Manifest
from nightshift.errors import FOREIGN, ConfigError, NightshiftError, words_of
from nightshift.family import RECORDED_LIBRARIES, ModelFamily, Problem, load_family
from nightshift.records import Model, Version
from nightshift.registry import Registry
from nightshift.training import estimators, fitting

ROWS = 120
"""How many rows are made up: enough for a few folds of each class."""

ENOUGH = 20
"""With fewer rows of a night it is not tried whether they can be learnt from."""

WORDS = ("first kind", "second kind", "third kind")
"""What stands in a column of text."""

PATIENCE = 300
"""Seconds that another process may take to open what was stored."""

_ANSWER = """
import sys
from pathlib import Path
from nightshift.training.rehearsal import answer
answer(Path(sys.argv[1]))
"""

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class _Stored:
    """What was fitted for a family, and what it said before it was stored."""

    family: ModelFamily
    version: Version
    scores: np.ndarray


def rehearse(families: Sequence[ModelFamily]) -> Iterator[Problem]:
    """What a training of each family would die of, by file and key.

    Only families whose ``build`` works are worth a rehearsal, see
    :func:`nightshift.training.estimator_problems`.
    """
    with tempfile.TemporaryDirectory(prefix="nightshift-check-") as name:
        folder, stored = Path(name), []
        for family in families:
            try:
                stored.append(_stored(family, folder))
            except NightshiftError as error:
                yield _problem(family, str(error))
            except FOREIGN as error:  # the family's own code runs here
                yield _problem(family, _died(family, error))
        if stored:
            yield from _opened_elsewhere(stored, folder)


def _stored(family: ModelFamily, folder: Path) -> _Stored:
    from nightshift.training import search

    code = Code.of(family.folder)
    table, truth = invented_rows(family)
    frame = tables.frame(table, family.features)
    pipeline = estimators.build(family, search.first_choice(family), code)
    with warnings.catch_warnings():
        # Of made-up rows nobody wants to know that they do not converge.
        warnings.simplefilter("ignore")
        estimators.fit(pipeline, frame, truth, 1)
        if family.retrain.training.policy == "incremental":
            estimators.go_on(pipeline, frame, truth, 1)
        artifact = artifacts.to_bytes(pipeline)
        score, label = artifacts.predict(pipeline, frame, family.task)
        _measure(family, truth, score, label)
    manifest = {
        "task": family.task,
        "features": family.features.model_dump(),
        "estimator": {"build": family.estimator.build},
        "missing_text": "NaN",
        "profile": tables.profile(table, family.features),
        "libraries": {name: installed_version(name) for name in RECORDED_LIBRARIES},
        "code": code.record,
    }
    model = Model(0, family.family, family.family)
    version = _registry(folder, family.folder).sign(model, artifact, manifest, code, now=_EPOCH)
    return _Stored(family, version, np.asarray(score, dtype=np.float64))


def fit_problem(family: ModelFamily, table: pa.Table) -> str | None:
    """What a training would die of on rows of a night; None where it would not.

    Parameters
    ----------
    table
        Columns of a snapshot. Its truth is invented.
    """
    from nightshift.training import search

    some = table.select(family.features.names).slice(0, ROWS)
    if len(some) < ENOUGH:
        return None
    _, truth = invented_rows(family)
    frame = tables.frame(some, family.features)
    try:
        pipeline = estimators.build(family, search.first_choice(family), Code.of(family.folder))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimators.fit(pipeline, frame, truth[: len(some)], 1)
            artifacts.predict(pipeline, frame, family.task)
    except NightshiftError:
        return None  # it is told without a source
    except FOREIGN as error:  # the family's own code runs here
        return (
            f"{family.estimator.build} cannot be fitted and asked on {len(some)} rows of this"
            f" night: {words_of(error, discreet=family.discreet)}"
        )
    return None


def invented_rows(family: ModelFamily) -> tuple[pa.Table, np.ndarray]:
    """Rows of the declared types, with a truth that depends on the numbers.

    Numbers lie between 1 and 100 and are never missing; text is one of :data:`WORDS`.
    """
    draws = np.random.default_rng(0)
    numbers = {name: draws.uniform(1, 100, ROWS) for name in family.features.numeric}
    texts = {name: draws.choice(WORDS, ROWS) for name in family.features.categorical}
    table = pa.table(
        {name: pa.array(values) for name, values in numbers.items()}
        | {name: pa.array(values, pa.string()) for name, values in texts.items()}
    )
    value = sum(numbers.values(), draws.normal(size=ROWS))
    if family.task == "regression":
        return table, value
    classes = 2 if family.task == "binary_classification" else 3
    ranks = np.argsort(np.argsort(value)) * classes // ROWS
    names = ranks if classes == 2 else np.array([f"class {rank}" for rank in ranks], dtype=object)
    return table, fitting.truth_of(family, names)


def _measure(
    family: ModelFamily, truth: np.ndarray, score: np.ndarray, label: np.ndarray | None
) -> None:
    import pandas as pd

    if len(score) != len(truth):
        raise ConfigError(f"{family.estimator.build} gave {len(score)} scores for {ROWS} rows")
    unusable = int((~np.isfinite(score)).sum())
    if unusable:
        raise ConfigError(
            f"{family.estimator.build} gave {unusable} of {ROWS} scores that are not finite"
        )
    values = truth if family.task == "regression" else truth.astype(str)
    rows = pd.DataFrame({"value": values, "score": score, "label": label})
    for metric in family.performance.metrics:
        if stats.metric_problem(metric, family.task) is None:
            stats.value(metric, family.task, stats.outcomes(rows, family.task))


def _opened_elsewhere(stored: Sequence[_Stored], folder: Path) -> Iterator[Problem]:
    questions = [
        {
            "family": str(rehearsed.family.folder),
            "artifact": rehearsed.version.artifact_hash,
            "signature": rehearsed.version.signature.hex(),
            "manifest": dict(rehearsed.version.manifest),
        }
        for rehearsed in stored
    ]
    (folder / "asked.json").write_text(json.dumps(questions))
    ran = subprocess.run(
        [sys.executable, "-c", _ANSWER, folder],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    file = folder / "answers.json"
    answers: list[Mapping[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    for number, rehearsed in enumerate(stored):
        if number >= len(answers):
            last = ran.stderr.strip().splitlines()[-1:] or [f"exit code {ran.returncode}"]
            yield _problem(
                rehearsed.family, f"another process died of opening what was stored: {last[0]}"
            )
            return
        if "problem" in answers[number]:
            yield _problem(
                rehearsed.family,
                "what was fitted was stored, and another process cannot use it:"
                f" {answers[number]['problem']}",
            )
        elif not np.allclose(answers[number]["scores"], rehearsed.scores, rtol=1e-6, atol=1e-9):
            yield _problem(
                rehearsed.family,
                "gives other scores after it was stored and opened by another process: a step keeps"
                " what it has learnt outside of itself",
            )


def _answered(folder: Path) -> Iterator[dict[str, Any]]:
    """What each stored version says in this process, or why it says nothing."""
    for question in json.loads((folder / "asked.json").read_text()):
        family_folder = Path(question["family"])
        version = Version(
            version_id=0,
            model=Model(0, family_folder.name, family_folder.name),
            number=0,
            artifact_hash=question["artifact"],
            signature=bytes.fromhex(question["signature"]),
            manifest=Manifest(question["manifest"]),
            decision_id=0,
            trained_at=_EPOCH,
            collected_at=None,
        )
        try:
            loaded = _registry(folder, family_folder).load(version)
            table, _ = invented_rows(load_family(family_folder))
            yield {"scores": loaded.predict(table).score.tolist()}
        except FOREIGN as error:  # the family's own code runs here
            yield {"problem": f"{type(error).__name__}: {error}"}


def _registry(folder: Path, family_folder: Path) -> Registry:
    return Registry(Store(folder / "store"), folder / "keys", family_folder.parent)


def _problem(family: ModelFamily, message: str) -> Problem:
    return Problem(family.folder / "model.yaml", "estimator.build", message)


def _died(family: ModelFamily, error: BaseException) -> str:
    """What an estimator raised, and the line of the family's own code where there is one."""
    own = [
        f"{Path(frame.filename).name}, line {frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(family.folder)
    ]
    where = f" ({own[-1]})" if own else ""
    return (
        f"cannot be fitted and asked on {ROWS} made-up rows (numbers from 1 to 100, text such as"
        f" {WORDS[0]!r}): {type(error).__name__}: {error}{where}"
    )


def answer(folder: Path) -> None:
    """What the other process does."""
    (folder / "answers.json").write_text(json.dumps(list(_answered(folder))))
