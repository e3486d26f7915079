"""What is written down about a version, so that it can be made again."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nightshift
from nightshift import tables
from nightshift.artifacts import Code, LegacyCode
from nightshift.family import RECORDED_LIBRARIES, ModelFamily
from nightshift.records import Model, Version
from nightshift.training import estimators

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline
from nightshift.training.rows import NightSnapshot, Plan, Rows, Span, learnt_until


def _spans(family: ModelFamily, plan: Plan, base: Version | None) -> tuple[Span, ...]:
    """The nights that one model learns from: all of the plan, or those it has not learnt yet."""
    if family.retrain.training.policy != "incremental":
        return plan.learn
    start = learnt_until(base) if base else plan.border - family.retrain.training.window
    return (Span(start, plan.border),)


def _manifest(
    family: ModelFamily,
    model: Model,
    plan: Plan,
    rows: Rows,
    base: Version | None,
    code: Code | LegacyCode,
    pipeline: Pipeline,
) -> dict[str, Any]:
    spans = _spans(family, plan, base)
    return {
        "family": family.family,
        "model": model.name,
        "task": family.task,
        "discreet": family.discreet,
        "features": family.features.model_dump(),
        "dtypes": [[name, _dtype(family, name)] for name in family.features.names],
        "policy": family.retrain.training.model_dump(mode="json", exclude={"rivals"}),
        "base": _base(base) if base else None,
        "cutoff": plan.cutoff.isoformat(),
        "training": [spans[0].start.isoformat(), spans[-1].end.isoformat()],
        "spans": [[span.start.isoformat(), span.end.isoformat()] for span in spans],
        "labels_since": plan.learn[0].start.isoformat(),
        "excluded_by": plan.stated_by.isoformat(),
        "holdout": [plan.later.start.isoformat(), plan.later.end.isoformat()],
        "snapshots": [night.content_hash for night in rows.snapshots],
        "nights": [night.as_of.isoformat() for night in rows.snapshots],
        "bootstrapped": [t.as_of.isoformat() for t in rows.snapshots if _too_late(family, t)],
        "nights_left_out": rows.shortage.unlike,
        "nights_incomplete": [night.isoformat() for night in rows.shortage.incomplete],
        "rows": len(rows),
        "profile": tables.profile(rows.table, family.features),
        "python": platform.python_version(),
        "libraries": {
            name: installed_version(name)
            for name in (*RECORDED_LIBRARIES, *estimators.libraries_of(pipeline))
        },
        "nightshift": nightshift.__version__,
        "code": {
            "family": estimators.code_of(family.folder),
            "commit": _commit(),
            **code.record,
        },
    }


def _estimator(family: ModelFamily, params: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "build": family.estimator.build,
        "params": dict(params),
        "seed": family.estimator.seed,
    }


def _dtype(family: ModelFamily, name: str) -> str:
    return "float64" if name in family.features.numeric else "text"


def _base(version: Version) -> dict[str, Any]:
    return {
        "version_id": version.version_id,
        "number": version.number,
        "artifact_hash": version.artifact_hash,
    }


def _too_late(family: ModelFamily, night: NightSnapshot) -> bool:
    """Whether a night was frozen only when the next one had begun: by a bootstrap."""
    return night.taken_at >= family.next_tick(night.as_of)


@cache
def _commit() -> str | None:
    """The commit of this checkout; None where nightshift does not run from one."""
    folder = Path(__file__).parent
    try:
        answer = subprocess.run(
            ["git", "-C", folder, "rev-parse", "HEAD"],  # noqa: S607 - whichever git there is
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return answer.stdout.strip() or None
