"""``make bench-parse``: what 200 families cost the process that parses DAG files.

First each file's parse, through Airflow's DagBag, in a fresh process a round: imports are told
apart. Then a real dag-processor on an embedded Postgres, which also stores what it parsed: how long
it takes until it comes back to the same file, which must be its interval and not more.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from nightshift import local
from nightshift.config import Site
from nightshift.embedded import session

HOME = Path(__file__).resolve().parents[1]
FAMILIES = 200
ROUNDS = 5
WATCHED = 150  # seconds for which the dag-processor is watched
OUT = Path("build/bench/parse.json")

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
    # Not below a long path: Postgres makes its socket here.
    folder = Path(tempfile.mkdtemp(prefix="nightshift-bench-"))
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
        shutil.rmtree(folder)
    _tell(rounds, gaps, float(local.airflow_environment(site)[_INTERVAL]))


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
        [sys.executable, "-c", _PARSE, str(report)], env=environment, check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
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
            env=environment, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
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


def _tell(rounds: list[dict[str, Any]], gaps: dict[str, float], interval: float) -> None:
    def median(key: str) -> float:
        return statistics.median(one[key] for one in rounds)

    print(f"{FAMILIES} families, {rounds[0]['dags']} DAGs, median of {ROUNDS} processes")
    for key in ("imports", "parse", "cpu"):
        print(f"{key:<16} {median(key):.2f} s")
    for file in rounds[0]["files"]:
        seconds = statistics.median(one["files"][file] for one in rounds)
        print(f"  {Path(file).name:<14} {seconds:.2f} s")
    print(f"the dag-processor comes back to a file after (interval {interval:.0f} s):")
    for name, gap in sorted(gaps.items()):
        print(f"  {name:<14} {gap:.1f} s")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"rounds": rounds, "gaps": gaps, "interval": interval}, indent=2))


if __name__ == "__main__":
    main()
