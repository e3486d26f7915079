"""A night of a factory over two Celery workers, of which one is killed in the middle of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from tests.ports import free_port

from nightshift import local, steps
from nightshift.config import Site
from nightshift.embedded import session

from .airflow import PARSED_ONCE, Airflow, until, until_listed

FAMILY = "fleet"
NIGHT = datetime(2026, 1, 12, 2, tzinfo=UTC)
ROWS = 120
WORKERS = ("one", "two")

MODEL: dict[str, Any] = {
    "family": FAMILY,
    "description": "The load of each machine tomorrow",
    "task": "regression",
    "owner": "tests",
    "source": {"connection": "warehouse", "history": "append_only"},
    "features": {"numeric": ["size"]},
    "schedule": {"score": "0 2 * * *", "monitor": "0 6 * * *"},
    "labels": {"maturity": "P1D"},
    "performance": {"metric": "neg_mean_absolute_error", "window": "P2D"},
    "retrain": {"when": None, "training": {"window": "P5D", "min_rows": 20}},
    "promotion": {"holdout": "P2D", "min_rows": 20, "too_good": None},
    "models": {"by": "machine", "thresholds": {"*": -1.0}},
    "scoring": {"rows_per_task": 1, "max_tasks": 2},  # two parts, for two workers
}
FEATURES = """
select to_char(cast(:as_of as timestamptz), 'YYYYMMDD') || '-' || i as entity_id,
       cast(i as double precision) as size, 'm' || mod(i, 4) as machine
from generate_series(1, 120) i
"""
LABELS = """
select to_char(night, 'YYYYMMDD') || '-' || i as entity_id, night as event_at, known_at,
       cast(2 * i as float) as value
from generate_series(timestamptz '2026-01-01 02:00+00', '2026-02-09 02:00+00', '1 day') n (night)
cross join generate_series(1, 120) i
cross join lateral (select night + interval '12 hours' as known_at) k
where known_at > cast(:since as timestamptz) and known_at <= cast(:as_of as timestamptz)
"""
# While the file `hold` is there, whoever predicts says who he is and waits: the middle of a night.
ESTIMATOR = '''
"""A line that can be held while it predicts."""
import os, time
from pathlib import Path
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline

HERE = Path(__file__).parent

class Line(LinearRegression):
    def predict(self, X):
        if (HERE / "hold").exists():
            (HERE / f"held-{os.getpid()}").touch()
        deadline = time.monotonic() + 120
        while (HERE / "hold").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        return super().predict(X)

def build(numeric, categorical, seed):
    return Pipeline([("line", Line())])
'''
SETTINGS = PARSED_ONCE | {
    "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
    "AIRFLOW__CELERY__WORKER_CONCURRENCY": "1",
    # A dead worker shows by its silence: after 20 s instead of 5 minutes.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "4",
}
pytestmark = [
    pytest.mark.timeout(600),  # on a busy machine; a quiet one needs a quarter
    pytest.mark.skipif(
        shutil.which("redis-server") is None and "CI" not in os.environ,
        reason="redis-server is not installed",
    ),
]


@dataclass(frozen=True)
class Cluster:
    """An installation whose tasks run on two workers."""

    site: Site
    airflow: Airflow
    workers: dict[str, psutil.Popen]

    @property
    def folder(self) -> Path:
        return self.site.models / FAMILY

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with session(self.site.database_url) as connection:
            return [tuple(row) for row in connection.exec_driver_sql(sql).all()]

    def held(self) -> set[str]:
        """The workers that are in the middle of predicting."""
        above: set[int] = set()
        for file in self.folder.glob("held-*"):
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(int(file.name.removeprefix("held-")))
                above |= {each.pid for each in process.parents()}
        return {name for name, worker in self.workers.items() if worker.pid in above}


def kill(process: psutil.Process) -> None:
    """Kill a process and all that it started, at once and with -9, as a power cut would."""
    with suppress(psutil.NoSuchProcess):
        every = [process, *process.children(recursive=True)]
        for each in every:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(every, timeout=30)


def write_family(models: Path) -> None:
    folder = models / FAMILY
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(yaml.safe_dump(MODEL))
    (folder / "features.sql").write_text(FEATURES)
    (folder / "labels.sql").write_text(LABELS)
    (folder / "estimator.py").write_text(ESTIMATOR)


def train(site: Site) -> None:
    before, now = NIGHT - timedelta(days=1), datetime.now(UTC)
    asked = steps.request_retrain(site, FAMILY, before, reason="first", by="test", now=now)
    steps.conclude(site, steps.compare(site, steps.fit(site, asked, now=now), now=now), now=now)


def start_redis(port: int, folder: Path) -> psutil.Popen:
    command = [
        "redis-server", "--port", str(port), "--bind", "127.0.0.1",
        "--save", "", "--appendonly", "no", "--dir", str(folder),
    ]  # fmt: skip
    return psutil.Popen(command, stdout=subprocess.DEVNULL)


def start_worker(site: Site, name: str, folder: Path) -> psutil.Popen:
    command = [
        sys.executable, "-m", "airflow", "celery", "worker",
        "--celery-hostname", f"{name}@%h", "--skip-serve-logs",
    ]  # fmt: skip
    environment = os.environ | local.airflow_environment(site)
    with (folder / f"{name}.log").open("w") as log:
        return psutil.Popen(
            command, env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT
        )


def is_ready(folder: Path, name: str) -> bool:
    return f"{name}@" in (said := (folder / f"{name}.log").read_text()) and " ready." in said


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Postgres, Redis, a factory with its champions, Airflow's processes, and two workers."""
    # Not pytest's own temporary folder: its path may be too long for a socket.
    folder = Path(tempfile.mkdtemp(prefix="nightshift-e2e-"))
    write_family(folder / "models")
    started = {}
    with pytest.MonkeyPatch.context() as environment:
        port = free_port()
        environment.setenv("NIGHTSHIFT_STATE", str(folder / "state"))
        environment.setenv("NIGHTSHIFT_MODELS", str(folder / "models"))
        environment.setenv("NIGHTSHIFT_PG_PORT", str(free_port()))
        environment.setenv("NIGHTSHIFT_UI_PORT", str(free_port()))
        environment.setenv("AIRFLOW__CELERY__BROKER_URL", f"redis://127.0.0.1:{port}/0")
        for name, value in SETTINGS.items():
            environment.setenv(name, value)
        site = local.site()
        try:
            local.up(site, airflow=False)
            database = local.airflow_environment(site)["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
            environment.setenv("AIRFLOW__CELERY__RESULT_BACKEND", f"db+{database}")
            train(site)
            started["redis"] = start_redis(port, folder)
            local.up(site)
            workers = {name: start_worker(site, name, folder) for name in WORKERS}
            started |= workers
            airflow = Airflow.log_in(local.ui_url(site), "admin", local.logins(site)["admin"])
            until_listed(airflow, {f"{FAMILY}.score"})
            airflow.unpause(f"{FAMILY}.score")
            until(lambda: all(is_ready(folder, name) for name in WORKERS), 120)
            yield Cluster(site, airflow, workers)
        finally:
            for process in started.values():
                kill(process)
            local.down(site)
            shutil.rmtree(folder)


def test_a_night_survives_the_death_of_a_worker_and_is_published_once(cluster: Cluster) -> None:
    (cluster.folder / "hold").touch()
    run_id = cluster.airflow.trigger(f"{FAMILY}.score", as_of=NIGHT.isoformat())
    until(lambda: cluster.held() == set(WORKERS), 120)
    assert cluster.rows("select 1 from predictions") == []

    kill(cluster.workers["one"])
    (cluster.folder / "hold").unlink()
    cluster.airflow.succeed(f"{FAMILY}.score", run_id)

    path = f"dags/{FAMILY}.score/dagRuns/{run_id}/taskInstances"
    tries = [
        (task["map_index"], task["try_number"])
        for task in cluster.airflow.get(path, task_id="score")["task_instances"]
        if task["task_id"] == "score"
    ]
    assert sorted(number for _, number in tries) == [1, 2]  # only what was lost was done again
    published = cluster.rows(
        "select count(*), count(distinct entity_id), count(distinct batch_id) from predictions"
    )
    assert published == [(ROWS, ROWS, 1)]
    assert cluster.rows("select count(*) from nightshift.prediction_rows") == [(ROWS,)]
    assert cluster.rows("select count(*) from nightshift.published") == [(1,)]
