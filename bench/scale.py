"""``make bench-scale``: what one more model, one more row and one more task cost a night.

A factory of 300 models with 40 rows each is scored by one task that has opened nothing yet, then
by eight shares one after the other. docs/scale.md multiplies these figures.
"""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nightshift import data, registry, simulation
from nightshift.data import Store
from nightshift.local import session
from nightshift.registry.versions import _verified_pipeline
from nightshift.site import Site
from nightshift.steps import night as night_steps
from nightshift.steps import retrain

from . import grounds
from .figures import figure, tell
from .grounds import seconds

MODELS, ROWS = 300, 40
ROUNDS, SHARES = 5, 8
FIRST = datetime(2026, 1, 5, 2, tzinfo=UTC)


def main() -> None:
    with grounds.site(MODELS, ROWS) as (site, _):
        grounds.family("family", site.models / "family", estimator={"params": {"kind": "trees"}})
        _train(site)
        rounds = [_round(site, FIRST + timedelta(days=day)) for day in range(1, ROUNDS + 1)]
        told = {name: [each[name] for each in rounds] for name in rounds[0]}
        told |= {name: [value] for name, value in _sizes(site).items()}
    figures = [figure(name, values, _unit(name)) for name, values in told.items()]
    tell(f"A factory of {MODELS} models with {ROWS} rows each", figures, "scale")


def _train(site: Site) -> None:
    asked = retrain.request_retrain(site, "family", FIRST, reason="first", by="bench", now=FIRST)
    assert len(simulation.retrain(site, asked, now=FIRST)) == MODELS


def _round(site: Site, night: datetime) -> dict[str, float]:
    now = night + timedelta(minutes=5)
    snapshot_id = night_steps.freeze(site, "family", night, now=now)
    night_steps.validate(site, snapshot_id, now=now)
    folder = site.models / "family"
    grounds.configure(folder, scoring={"max_tasks": 1})
    cpu = time.process_time()
    whole = _shares(site, snapshot_id, now)
    cpu = time.process_time() - cpu
    grounds.configure(folder, scoring={"max_tasks": SHARES, "rows_per_task": 1})
    return {
        "one task, ms a model": 1000 * sum(whole) / MODELS,
        "one task, CPU ms a model": 1000 * cpu / MODELS,
        f"{SHARES} shares one after the other, ms a model": 1000
        * sum(shares := _shares(site, snapshot_id, now))
        / MODELS,
        "the longest share, in times of the mean": max(shares) / statistics.mean(shares),
        "opening and verifying, ms a model": 1000 * _loading(site, night) / MODELS,
    }


def _shares(site: Site, snapshot_id: int, now: datetime) -> list[float]:
    """What each share takes a process that has opened no artifact yet."""
    taken = []
    for share in night_steps.share_out(site, snapshot_id, now=now):
        _verified_pipeline.cache_clear()
        taken.append(seconds(lambda share=share: night_steps.score_share(site, **share, now=now)))  # type: ignore[misc]
    return taken


def _loading(site: Site, night: datetime) -> float:
    with data.connect(site.database_url).transaction() as tx:
        champions = registry.champions(tx, "family", night)
    _verified_pipeline.cache_clear()
    opened = registry.Registry(Store(site.store), site.keys, site.models)
    return seconds(lambda: [opened.load(champion.version) for champion in champions.values()])


def _sizes(site: Site) -> dict[str, float]:
    artifacts = [file.stat().st_size for file in Path(site.store).glob("??/*.joblib")]
    snapshots = [file.stat().st_size for file in Path(site.store).glob("??/*.parquet")]
    with session(site.database_url) as connection:
        size, rows = connection.exec_driver_sql(
            "select pg_total_relation_size('nightshift.prediction_rows'), count(*)"
            " from nightshift.prediction_rows"
        ).one()
        open_now = connection.exec_driver_sql(
            "select count(*) from pg_stat_activity where datname = 'nightshift'"
            " and pid <> pg_backend_pid()"
        ).scalar()
    return {
        "an artifact, bytes": statistics.mean(artifacts),
        "a snapshot, bytes a row of 6 columns and a key": statistics.mean(snapshots)
        / (MODELS * ROWS),
        "a prediction, bytes with its indexes": size / rows,
        "connections of a task to nightshift": float(open_now or 0),
    }


def _unit(name: str) -> str:
    """What a figure's name says it counts."""
    return next((unit for unit in ("ms", "bytes", "times") if f" {unit} " in f"{name} "), "")


if __name__ == "__main__":
    main()
