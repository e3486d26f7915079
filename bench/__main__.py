"""``make bench``: one night of 200,000 rows, snapshot to published, on an embedded Postgres.

Every round times three things one after the other, so that a slow moment of the machine slows all
of them: the bare ``predict`` on a frame in memory, our night, and the usual way (``read_sql``,
``predict``, ``to_sql``). Process start and imports are left out.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from sqlalchemy import create_engine

from nightshift import database, features, registry, simulation, steps
from nightshift.config import Site
from nightshift.embedded import Postgres, session
from nightshift.storage import Store

ROWS = 200_000
ROUNDS = 5
FIRST = datetime(2026, 1, 5, 2, tzinfo=UTC)
OUT = Path("build/bench/bench.json")

_SOURCE = f"""
select setseed(0.5);
create table rows as
select number, random() as a, random() as b, random() as c, random() as d,
       'k' || mod(number, 8) as kind, 'p' || mod(number, 100) as place
from generate_series(1, {ROWS}) number;
"""


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="nightshift-bench-"))
    server = Postgres(folder / "pg", port=None)
    server.start()
    try:
        figures = _figures(_rounds(_site(server, folder)))
    finally:
        server.stop()
        shutil.rmtree(folder)
    _tell(figures)


def _site(server: Postgres, folder: Path) -> Site:
    for name in ("nightshift", "warehouse"):
        server.create_database(name)
    database.migrate(server.url("nightshift"))
    with session(server.url("warehouse")) as connection:
        connection.exec_driver_sql(_SOURCE)
    models = folder / "models"
    shutil.copytree(Path(__file__).parent / "family", models / "family")
    sources = {"warehouse": server.url("warehouse")}
    return Site(folder, folder / "state", models, server.url("nightshift"), sources)


def _rounds(site: Site) -> list[dict[str, float]]:
    asked = steps.request_retrain(site, "family", FIRST, reason="first", by="bench", now=FIRST)
    simulation.retrain(site, asked, now=FIRST)
    return [_round(site, FIRST + timedelta(days=day)) for day in range(ROUNDS + 1)][1:]


def _round(site: Site, night: datetime) -> dict[str, float]:
    now = night + timedelta(minutes=5)
    nightly = _seconds(lambda: simulation.score_night(site, "family", night, now=now))
    with database.connect(site.database_url).transaction() as tx:
        [champion] = registry.champions(tx, "family", night).values()
        frozen = tx.one("snapshots.latest", family="family", as_of=night)
    pipeline = (
        registry.Registry(Store(site.store), site.keys, site.models).load(champion.version).pipeline
    )
    family = site.family("family")
    frame = features.frame(Store(site.store).read_table(frozen.content_hash), family.features)
    bare = _seconds(lambda: pipeline.predict(frame))
    usual = _seconds(lambda: _usual_way(site, pipeline, family.features.names))
    return {"night": nightly, "bare": bare, "usual": usual}


def _usual_way(site: Site, pipeline: Any, columns: list[str]) -> None:
    source, target = create_engine(site.sources["warehouse"]), create_engine(site.database_url)
    frame = pd.read_sql("select * from rows", source)
    scored = frame[["number"]].assign(score=pipeline.predict(frame[columns]))
    scored.to_sql("usual", target, if_exists="replace", index=False)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _figures(rounds: list[dict[str, float]]) -> list[dict[str, Any]]:
    ratios = {
        "a night, in times of the bare predict": [r["night"] / r["bare"] for r in rounds],
        "the usual way, in times of a night": [r["usual"] / r["night"] for r in rounds],
        "rows a second, snapshot to published": [ROWS / r["night"] for r in rounds],
    }
    return [
        {
            "figure": figure,
            "value": statistics.median(values),
            "low": min(values),
            "high": max(values),
            "unit": "rows/s" if figure.startswith("rows") else "ratio",
            "bar": None,
            "holds": None,
        }
        for figure, values in ratios.items()
    ]


def _tell(figures: list[dict[str, Any]]) -> None:
    table = Table(title=f"One night of {ROWS:,} rows, median of {ROUNDS} (lowest to highest)")
    for heading in ("figure", "value", "low", "high", "unit"):
        table.add_column(heading)
    for f in figures:
        table.add_row(
            f["figure"], *(f"{f[key]:.3g}" for key in ("value", "low", "high")), f["unit"]
        )
    Console().print(table)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
