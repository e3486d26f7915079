"""``make bench-history``: what a night costs after a month of nights, and after a year of them.

A factory of 20 models with 50 rows each lives through a year of nights, with the same steps that
Airflow runs. Then nights that follow the first month, in a copy of the database as it was then, and
nights that follow the year take turns. Last, ``nightshift simulate`` lives through a year of the
flights, whose own year is repeated for it.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from nightshift import database, simulation, steps, warehouse
from nightshift.config import Site
from nightshift.embedded import Postgres, session

HOME = Path(__file__).resolve().parents[1]
MODELS, ROWS = 20, 50
EARLY, LATE = 30, 365
ROUNDS = 7
FIRST = datetime(2025, 1, 6, 2, tzinfo=UTC)
AFTER = timedelta(hours=4)  # from a night to its monitoring
OUT = Path("build/bench/history.json")

_SOURCE = f"""
select setseed(0.5);
create table rows as
select number, random() as a, random() as b, random() as c, random() as d,
       'k' || mod(number, 8) as kind, 'p' || mod(number, 100) as place,
       'm' || mod(number, {MODELS}) as machine
from generate_series(1, {MODELS * ROWS}) number;
"""
_ESTIMATOR = '''
"""A line through four numbers: what is measured here is everything around it."""
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder


def build(numeric, categorical, seed):
    columns = ColumnTransformer(
        [("c", OneHotEncoder(handle_unknown="ignore"), categorical), ("n", "passthrough", numeric)]
    )
    return Pipeline([("columns", columns), ("line", Ridge())])
'''


def main(parts: list[str]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="nightshift-bench-"))
    server = Postgres(folder / "pg", port=None)
    server.start()
    try:
        figures = []
        if "nights" in parts:
            figures += _nights(server, folder)
        if "simulate" in parts:
            figures += _simulations(server, folder)
    finally:
        server.stop()
        shutil.rmtree(folder)
    _tell(figures)


# Nights -------------------------------------------------------------------------------------------


def _nights(server: Postgres, folder: Path) -> list[dict[str, Any]]:
    site = _site(server, folder)
    asked = steps.request_retrain(site, "family", FIRST, reason="first", by="bench", now=FIRST)
    simulation.retrain(site, asked, now=FIRST)
    _live(site, 0, EARLY)
    early = replace(site, database_url=_fresh(server, "early", "nightshift"))
    _live(site, EARLY, LATE)
    rounds = []
    for number in range(ROUNDS + 1):
        before = _night(early, FIRST + timedelta(days=EARLY + number))
        after = _night(site, FIRST + timedelta(days=LATE + number))
        rounds.append({name: (before[name], after[name]) for name in before})
    return list(_growth(rounds[1:]))


def _site(server: Postgres, folder: Path) -> Site:
    for name in ("nightshift", "warehouse"):
        server.create_database(name)
    database.migrate(server.url("nightshift"))
    with session(server.url("warehouse")) as connection:
        connection.exec_driver_sql(_SOURCE)
    family = folder / "models" / "family"
    shutil.copytree(Path(__file__).parent / "family", family)
    for name in ("features.sql", "labels.sql"):
        text = (family / name).read_text()
        text = text.replace("kind, place\n", "kind, place, machine\n")
        (family / name).write_text(text.replace("number <= 2000", "true"))
    (family / "estimator.py").write_text(_ESTIMATOR)
    _configure(family / "model.yaml")
    sources = {"warehouse": server.url("warehouse")}
    return Site(folder, folder / "state", folder / "models", server.url("nightshift"), sources)


def _configure(file: Path) -> None:
    model = yaml.safe_load(file.read_text())
    model["models"] = {"by": "machine", "thresholds": {"*": -100.0}}
    model["performance"] |= {"threshold": None, "window": "P7D", "min_labels": 100}
    model["retrain"] |= {"when": {"breaches": 2, "of_last": 3}}
    model["retrain"]["training"]["min_rows"] = 20
    model["promotion"] |= {"min_rows": 20, "too_good": None}
    file.write_text(yaml.safe_dump(model))


def _live(site: Site, first: int, last: int) -> None:
    for number in range(first, last):
        _night(site, FIRST + timedelta(days=number))


def _night(site: Site, night: datetime) -> dict[str, float]:
    """Seconds that a night's parts take: scored and published, and measured and decided."""
    monitor = night + AFTER
    now = monitor + simulation.RUN_TIME
    return {
        "scoring": _seconds(
            lambda: simulation.score_night(site, "family", night, now=night + simulation.RUN_TIME)
        ),
        "collecting labels": _seconds(
            lambda: steps.collect_labels(site, "family", monitor, now=now)
        ),
        "measuring": _seconds(lambda: steps.measure(site, "family", monitor, now=now)),
        "deciding and alerting": _seconds(lambda: _decide(site, monitor, now)),
    }


def _decide(site: Site, monitor: datetime, now: datetime) -> None:
    steps.judge_trials(site, "family", monitor, now=now)
    assert steps.decide(site, "family", monitor, now=now) == []
    steps.alerts(site, "family", monitor, "monitor", now=now, since=monitor)


def _growth(rounds: list[dict[str, tuple[float, float]]]) -> list[dict[str, Any]]:
    wholes = [
        tuple(sum(each[name][when] for name in each if name != "scoring") for when in (0, 1))
        for each in rounds
    ]
    told = {"a night measured, from labels to decisions": wholes}
    told |= {name: [each[name] for each in rounds] for name in rounds[0]}
    figures = []
    for name, pairs in told.items():
        ratios = [late / early for early, late in pairs]
        # Medians of both, not of their ratio: one slow moment touches one side only.
        value = statistics.median(late for _, late in pairs) / statistics.median(
            early for early, _ in pairs
        )
        bar = 1.3 if name.startswith("a night") else None
        figures.append(
            _figure(f"{name}: night {LATE} in times of night {EARLY}", value, ratios, "ratio", bar)
        )
    late = [1000 * pair[1] for pair in wholes]
    figures.append(_figure(f"measuring night {LATE}", statistics.median(late), late, "ms", None))
    return figures


# Simulations --------------------------------------------------------------------------------------


def _simulations(server: Postgres, folder: Path) -> list[dict[str, Any]]:
    server.create_database("flights")
    today = datetime.now(UTC).date()
    for loaded in (today - timedelta(days=LATE + 6), today):  # the second load repeats the year
        warehouse.load(server.url("flights"), today=loaded)
    site = Site(
        HOME, folder / "simulated", HOME / "include" / "models", server.url("postgres"),
        {"warehouse": server.url("flights")},
    )  # fmt: skip
    end = site.family("air_time").previous_tick(datetime.now(UTC) - timedelta(days=1))
    start = end - timedelta(days=LATE - 1)
    whole = simulation.default_policies(site.family("air_time"))
    figures = []
    for told, policies in {"as configured": ["as-configured"], "three policies": whole}.items():
        took = _seconds(lambda policies=policies: _simulate(server, site, start, end, policies))  # type: ignore[misc]
        figure = f"simulate {LATE} nights of air_time, {told}"
        figures.append(_figure(figure, took, [took], "s", 180.0))
        print(figures[-1], flush=True)
    return figures


def _simulate(
    server: Postgres,
    site: Site,
    start: datetime,
    end: datetime,
    policies: list[simulation.Policy],
) -> None:
    outcomes = simulation.simulate(
        site, "air_time", start, end, policies,
        folder=site.state / "simulations",
        make_database=lambda name, template: _fresh(server, name, template),
        progress=lambda name, night: None,
    )  # fmt: skip
    assert all(len(outcome.nights) == LATE for outcome in outcomes)


def _fresh(server: Postgres, name: str, template: str | None = None) -> str:
    """A migrated database, or a copy of another one; its URL."""
    if template is not None:
        database.connect(server.url(template)).close()
    with session(server.url("postgres")) as connection:
        connection.exec_driver_sql(f"drop database if exists {name} with (force)")
        copied = f" template {template}" if template else ""
        connection.exec_driver_sql(f"create database {name}{copied}")
        # As `nightshift simulate` makes its databases.
        connection.exec_driver_sql(f"alter database {name} set synchronous_commit = off")
    database.migrate(server.url(name))
    return server.url(name)


# Figures ------------------------------------------------------------------------------------------


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _figure(
    figure: str, value: float, values: list[float], unit: str, bar: float | None
) -> dict[str, Any]:
    return {
        "figure": figure, "value": value, "low": min(values), "high": max(values), "unit": unit,
        "bar": bar, "holds": None if bar is None else value <= bar,
    }  # fmt: skip


def _tell(figures: list[dict[str, Any]]) -> None:
    table = Table(title=f"{LATE} nights, medians of {ROUNDS} rounds; a simulation runs once")
    for heading in ("figure", "value", "low", "high", "unit", "bar", "holds"):
        table.add_column(heading)
    for f in figures:
        bar = ("", "") if f["bar"] is None else (f"{f['bar']:g}", str(f["holds"]))
        table.add_row(
            f["figure"], *(f"{f[key]:.3g}" for key in ("value", "low", "high")), f["unit"], *bar
        )
    Console().print(table)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:] or ["nights", "simulate"])
