"""``make bench-parse``: what 200 families cost the process that parses DAG files.

First each file's parse, through Airflow's DagBag, in a fresh process a round: imports are told
apart. Then a real dag-processor on an embedded Postgres, which also stores what it parsed: how long
a pass takes, which must be over when the next one is due.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from nightshift import local
from nightshift.local import session
from nightshift.site import Site

from . import grounds
from .figures import Figure, figure, tell

HOME = Path(__file__).resolve().parents[1]
FAMILIES = 200
ROUNDS = 5
WATCHED = 150  # seconds for which the dag-processor is watched

_PARSE = """
import json, sys, time
from airflow.dag_processing.dagbag import DagBag
began = time.perf_counter(), time.process_time()
from nightshift_airflow import wiring
imported = time.perf_counter()
bag = DagBag()
ended = time.perf_counter(), time.process_time()
files = {stat.file: stat.duration.total_seconds() for stat in bag.dagbag_stats}
json.dump({"dags": len(bag.dags), "errors": len(bag.import_errors), "files": files,
           "imports": imported - began[0], "parse": ended[0] - imported,
           "cpu": ended[1] - began[1]}, open(sys.argv[1], "w"))
"""


def main() -> None:
    with grounds.folder() as folder:
        _write_families(folder / "models")
        os.environ |= {
            "NIGHTSHIFT_STATE": str(folder / "state"),
            "NIGHTSHIFT_MODELS": str(folder / "models"),
        }
        site = local.site()
        try:
            local.up(site, airflow=False)
            local.prepare(site)
            rounds = [_parse(site, folder / "round.json") for _ in range(ROUNDS)]
            gaps = _watch(site)
        finally:
            local.down(site)
        interval = float(local.airflow_environment(site)[_INTERVAL])
    title = f"{rounds[0]['dags']} DAGs of {FAMILIES} families, median of {ROUNDS} processes"
    tell(title, list(_figures(rounds, gaps, interval)), "parse")


_INTERVAL = "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL"


def _write_families(models: Path) -> None:
    """Copies of ``air_time`` under other names."""
    origin = HOME / "include" / "models" / "air_time"
    for number in range(FAMILIES):
        name = f"family_{number:03}"
        folder = models / name
        shutil.copytree(origin, folder)
        model = yaml.safe_load((origin / "model.yaml").read_text()) | {"family": name}
        (folder / "model.yaml").write_text(yaml.safe_dump(model))


def _parse(site: Site, report: Path) -> dict[str, Any]:
    environment = os.environ | local.airflow_environment(site)
    subprocess.run(
        [sys.executable, "-c", _PARSE, str(report)],
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    found: dict[str, Any] = json.loads(report.read_text())
    assert (found["dags"], found["errors"]) == (4 * FAMILIES + 1, 0), found
    return found


def _watch(site: Site) -> dict[str, float]:
    """Seconds from one parse of each file to its next, the median, once all is stored."""
    environment = os.environ | local.airflow_environment(site)
    seen: dict[str, list[float]] = {}
    with (site.state / "dag-processor.log").open("w") as log:
        processor = subprocess.Popen(
            [sys.executable, "-m", "airflow", "dag-processor"],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            deadline = time.monotonic() + WATCHED
            while time.monotonic() < deadline:
                for file, moment in _parsed(environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]):
                    moments = seen.setdefault(file, [])
                    if moment not in moments:
                        moments.append(moment)
                time.sleep(0.5)
        finally:
            processor.terminate()
            processor.wait(60)
    return {
        Path(file).name: statistics.median(b - a for a, b in pairwise(moments[1:]))
        for file, moments in seen.items()
        if len(moments) > 2
    }


def _parsed(url: str) -> list[tuple[str, float]]:
    with session(url) as connection:
        rows = connection.exec_driver_sql(
            "select fileloc, extract(epoch from max(last_parsed_time)) from dag group by fileloc"
        ).all()
    return [(row[0], float(row[1])) for row in rows]


def _figures(
    rounds: list[dict[str, Any]], gaps: dict[str, float], interval: float
) -> Iterator[Figure]:
    def median(name: str, key: str, bar: float | None = None) -> Figure:
        return figure(name, [one[key] for one in rounds], "s", at_most=bar)

    yield median(f"{FAMILIES} families parsed, without imports", "parse", bar=2.0)
    yield median("imports", "imports")
    yield median("CPU of both", "cpu")
    for file in rounds[0]["files"]:
        yield figure(f"parsing {Path(file).name}", [one["files"][file] for one in rounds], "s")
    # A file is due an interval after it was last done with; what is more was spent on the pass.
    passes = [gap - interval for gap in gaps.values()]
    name = f"a pass of the dag-processor, which is due every {interval:.0f} s"
    yield figure(name, passes, "s", at_most=interval, value=max(passes))


if __name__ == "__main__":
    main()
