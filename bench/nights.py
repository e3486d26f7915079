"""``make bench``: what a night costs over the library calls that it is made of.

A million rows are scored by one hundred trees and by a logistic regression over one-hot columns,
and a factory of a thousand models by its own rows. Every round times, one after the other in one
process, so that a slow moment of the machine slows all of them: the bare ``predict_proba`` on a
frame in memory, our night from the source to published and indexed, and the usual way
(``read_sql``, ``predict_proba``, ``to_sql``). Process start and imports are left out. Peak memory
is that of a process that does nothing but one night.

``python -m bench --memory`` compares nights of one and of ten million rows. ``--against FILE``
compares with the figures of another run.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import resource
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sqlalchemy import create_engine, text

from nightshift import data, registry, simulation
from nightshift.data import Store
from nightshift.family import ModelFamily
from nightshift.registry.versions import _verified_pipeline
from nightshift.site import Site
from nightshift.steps import night as night_steps
from nightshift.steps import retrain

from . import grounds
from .figures import Figure, figure, tell
from .grounds import seconds

FIRST = datetime(2026, 1, 5, 2, tzinfo=UTC)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of a night")
    parser.add_argument("--models", type=int, default=1_000, help="models of the factory")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--memory", action="store_true", help="one night of rows and one of ten times as many"
    )
    parser.add_argument("--only", choices=("trees", "line", "factory"), help="one of three parts")
    parser.add_argument("--against", type=Path, help="figures of another run")
    options = parser.parse_args(arguments)
    before = json.loads(options.against.read_text()) if options.against else []
    figures = list(_memory(options.rows) if options.memory else _figures(options))
    name = "memory" if options.memory else "bench"
    tell(f"Medians of the rounds, on {os.cpu_count()} cores", figures, name, before=before)


def _figures(options: argparse.Namespace) -> Iterator[Figure]:
    if options.only != "factory":
        with _site(options.rows) as site:
            for kind in ("trees", "line"):
                if options.only in (None, kind):
                    yield from _nights(site, kind, options.rows, options.rounds)
    if options.only in (None, "factory"):
        with _site(options.models * 200, options.models) as site:
            yield _factory(site, options.models, options.rounds)


# A family of one model ----------------------------------------------------------------------------

_NAMES = {"trees": "HGB(100)", "line": "logistic, one-hot"}
_SCORING = {"trees": 0.62, "line": 0.50}
_USUAL = {"trees": 2.8, "line": 3.2}


def _nights(site: Site, kind: str, rows: int, rounds: int) -> Iterator[Figure]:
    _train(site, kind)
    peak = _apart(partial(_peak, site, kind, FIRST + timedelta(days=1)))
    timings = _apart(partial(_rounds, site, kind, rounds))
    name = _NAMES[kind]
    yield figure(
        f"{name}: scoring to published, rows/s over bare predict_proba",
        [r["bare"] / r["score"] for r in timings],
        "ratio",
        at_least=_SCORING[kind],
    )
    yield figure(
        f"{name}: a whole night, in times of bare predict_proba",
        [r["night"] / r["bare"] for r in timings],
        "ratio",
        at_most=3.0 if kind == "trees" else None,
    )
    yield figure(
        f"{name}: read_sql + predict_proba + to_sql, in times of a night",
        [r["usual"] / r["night"] for r in timings],
        "ratio",
        at_least=_USUAL[kind],
    )
    for step in ("freeze", "validate", "score", "bare"):
        yield figure(f"{name}: {step}", [r[step] for r in timings], "s")
    yield figure(f"{name}: a whole night", [rows / r["night"] for r in timings], "rows/s")
    yield figure(f"{name}: peak memory of a night", [peak], "MB")


def _rounds(site: Site, kind: str, rounds: int) -> list[dict[str, float]]:
    """Some rounds after one night that warms the process up."""
    first = FIRST + timedelta(days=2)
    _night(site, kind, first)
    return [_round(site, kind, first + timedelta(days=day + 1)) for day in range(rounds)]


def _round(site: Site, kind: str, night: datetime) -> dict[str, float]:
    times = _night(site, kind, night)
    store, family = Store(site.store), site.family(kind)
    with data.connect(site.database_url).transaction() as tx:
        [champion] = registry.champions(tx, kind, night).values()
    pipeline = registry.Registry(store, site.keys, site.models).load(champion.version).pipeline
    frame = _read(site, family, night)[family.features.names]
    times["bare"] = seconds(lambda: pipeline.predict_proba(frame))
    times["usual"] = seconds(lambda: _usual_way(site, family, pipeline, night))
    return times


def _night(site: Site, kind: str, night: datetime) -> dict[str, float]:
    """The seconds of each step, from the source to published and indexed."""
    now, ids = night + timedelta(minutes=5), {}

    def freeze() -> None:
        ids["snapshot"] = night_steps.freeze(site, kind, night, now=now)

    def validate() -> None:
        night_steps.validate(site, ids["snapshot"], now=now)

    def score() -> None:
        night_steps.publish(site, night_steps.score(site, ids["snapshot"], now=now), now=now)

    times = {step.__name__: seconds(step) for step in (freeze, validate, score)}
    return times | {"night": sum(times.values())}


def _usual_way(site: Site, family: ModelFamily, pipeline: Any, night: datetime) -> None:
    frame, target = _read(site, family, night), create_engine(site.database_url)
    score = pipeline.predict_proba(frame[family.features.names])[:, 1]
    scored = frame[["entity_id"]].assign(score=score, label=np.where(score >= 0.5, "1", "0"))
    scored.to_sql("usual", target, if_exists="replace", index=False)


def _read(site: Site, family: ModelFamily, night: datetime) -> pd.DataFrame:
    """A night's rows as pandas reads them."""
    source = create_engine(site.sources["warehouse"])
    return pd.read_sql(text(family.features_sql), source, params={"as_of": night})


def _peak(site: Site, kind: str, night: datetime) -> float:
    """Megabytes that this process has held at most, once it has done a night."""
    _night(site, kind, night)
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


# A factory ----------------------------------------------------------------------------------------


def _factory(site: Site, models: int, rounds: int) -> Figure:
    folder = site.models / "line"
    sql = folder / "features.sql"
    sql.write_text(sql.read_text().replace("vendor\n", "vendor, machine\n"))
    labels = folder / "labels.sql"
    labels.write_text(labels.read_text().replace("number <= 200000", "true"))
    grounds.configure(
        folder,
        models={"by": "machine", "thresholds": {"*": 0.5}},
        scoring={"max_tasks": 1},
        performance={"threshold": None, "min_labels": 20},
        retrain={"training": {"window": "P1D", "min_rows": 20}},
        promotion={"min_rows": 20},
    )
    _train(site, "line", models)
    timings = _apart(partial(_factory_rounds, site, rounds))
    return figure(
        f"factory of {models:,} models with 200 rows: a model, over load and predict alone",
        [1000 * (r["score"] - r["library"]) / models for r in timings],
        "ms",
        at_most=40,
    )


def _factory_rounds(site: Site, rounds: int) -> list[dict[str, float]]:
    """Some rounds after one that warms the process up."""
    timings = [_factory_round(site, FIRST + timedelta(days=day + 1)) for day in range(rounds + 1)]
    return timings[1:]


def _factory_round(site: Site, night: datetime) -> dict[str, float]:
    _verified_pipeline.cache_clear()
    times = _night(site, "line", night)
    family, store = site.family("line"), Store(site.store)
    with data.connect(site.database_url).transaction() as tx:
        champions = registry.champions(tx, "line", night).values()
        frozen = tx.one("snapshots.latest", family="line", as_of=night)
    rows = store.read_table(frozen.content_hash).to_pandas()
    own = dict(iter(rows.groupby("machine")))
    work = [
        (
            Path(store.address(c.version.artifact_hash, "joblib")),
            own[c.version.model.name][family.features.names],
        )
        for c in champions
        if c.version.model.name in own
    ]

    def library() -> None:
        for file, frame in work:
            joblib.load(io.BytesIO(file.read_bytes())).predict_proba(frame)  # noqa: TID251

    return times | {"library": seconds(library)}


# Memory -------------------------------------------------------------------------------------------


def _memory(rows: int) -> Iterator[Figure]:
    peaks = {}
    for count in (rows, 10 * rows):
        with _site(count) as site:
            _train(site, "trees")
            peaks[count] = _apart(partial(_peak, site, "trees", FIRST + timedelta(days=1)))
        yield figure(f"a night of {count:,} rows: peak memory", [peaks[count]], "MB")
    yield figure(
        f"peak memory of {10 * rows:,} rows over that of {rows:,}",
        [peaks[10 * rows] / peaks[rows]],
        "ratio",
        at_most=1.3,
    )


# What all of them need ----------------------------------------------------------------------------


@contextmanager
def _site(rows: int, models: int = 1) -> Iterator[Site]:
    """An installation with both families, whose source has so many rows for all its models."""
    with grounds.site(models, rows // models) as (site, _):
        for kind in _NAMES:
            params = {"params": {"kind": kind}}
            grounds.family("classifier", site.models / kind, estimator=params)
        yield site


def _train(site: Site, kind: str, models: int = 1) -> None:
    parser = retrain.request_retrain(site, kind, FIRST, reason="first", by="bench", now=FIRST)
    trained = len(simulation.retrain(site, parser, now=FIRST))
    assert trained >= models, f"{trained} of {models} models of {kind} were trained"


def _apart(work: Callable[[], Any]) -> Any:
    """What work comes to in a process of its own."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as process:
        return process.submit(work).result()
