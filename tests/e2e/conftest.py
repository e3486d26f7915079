"""One installation for all of it, since starting Airflow takes longer than most of what it does.

Its scheduler hands the factory's tasks to two Celery workers and runs all others itself.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import make_url
from tests.ports import free_port
from tests.receivers import Receiver, receiver
from tests.waiting import until

from nightshift import demo, local
from nightshift.family import ModelFamily
from nightshift.local import session
from nightshift.local.servers import _processes
from nightshift.site import Site

from .airflow import Airflow, until_listed
from .families import (
    BEFORE,
    FLEET,
    FLIGHTS,
    HOME,
    NIGHT,
    TIMEOUTS,
    WALKED,
    publish,
    train_first,
    write_families,
    write_history,
)

CONSUMER = "plan_gates"  # of another team, in a folder of its own
BUNDLES = [
    {
        "name": folder,
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(HOME / folder), "refresh_interval": 10},
    }
    for folder in ("dags", "examples")
]
SETTINGS = {
    "PYTHONPATH": str(HOME / "tests" / "dags"),  # the notifier
    "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(BUNDLES),
    # The DAGs stay as they are: parsing them every 20 s takes a fifth of a core.
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
    # What a scheduler that was killed has left is looked for often.
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    # A dead worker shows by its silence: after 45 s instead of 5 minutes. An api-server that hangs
    # for 20 s silences everybody.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "45",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "4",
}


def watching(metrics: Receiver, lineage: Receiver) -> dict[str, str]:
    """What sends our numbers and our lineage to receivers, by Airflow's own settings."""
    transport = {"type": "http", "url": lineage.url, "endpoint": "api/v1/lineage"}
    return {
        "AIRFLOW__METRICS__OTEL_ON": "True",
        "AIRFLOW__METRICS__METRICS_ALLOW_LIST": "nightshift",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{metrics.url}/v1/metrics",
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        "AIRFLOW__OPENLINEAGE__NAMESPACE": "e2e",
    }


WORKERS = ("one", "two")
REDIS = shutil.which("redis-server") is not None or "CI" in os.environ
"""Whether there can be workers; in CI a missing Redis is an error."""

POLICY = f'''
"""Whose tasks go to Celery."""

def task_instance_mutation_hook(task_instance):
    if task_instance.dag_id.startswith("{FLEET}."):
        task_instance.executor = "CeleryExecutor"
'''


def celery_settings(site: Site, redis_port: int) -> dict[str, str]:
    """A second executor beside the one that runs tasks where the scheduler is."""
    metadata = local.airflow_environment(site)["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    return {
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor,CeleryExecutor",
        "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{redis_port}/0",
        "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{metadata}",
        "AIRFLOW__CELERY__WORKER_CONCURRENCY": "1",
    }


def write_policy(site: Site) -> None:
    folder = site.state / "airflow" / "config"
    folder.mkdir(parents=True)
    (folder / "airflow_local_settings.py").write_text(POLICY)


@dataclass(frozen=True)
class Installation:
    """An installation that runs."""

    site: Site
    airflow: Airflow
    as_of: datetime
    """The newest night of FLIGHTS: nobody has scored it."""

    workers: Mapping[str, psutil.Popen]
    """Celery's, by name; none without Redis."""

    metrics: Receiver
    """What came over OTLP."""

    lineage: Receiver
    """What came as OpenLineage's events."""

    @property
    def url(self) -> str:
        return local.ui_url(self.site)

    def logged_in(self, user: str) -> Airflow:
        """Airflow's API as somebody."""
        return Airflow.log_in(self.url, user, local.logins(self.site)[user])

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        return _rows(self.site.database_url, sql, values)

    def seen(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        """What the reader's role sees."""
        reader = make_url(self.site.database_url).set(username="nightshift_reader")
        return _rows(reader.render_as_string(hide_password=False), sql, values)

    def titles(self, family: str) -> list[str]:
        """The titles of the alerts that were sent."""
        lines = (self.site.models / family / "told").read_text().splitlines()
        return [json.loads(line)["text"] for line in lines]

    def process(self, name: str) -> psutil.Process:
        """One of Airflow's four."""
        with _processes(self.site)._control() as control:
            return psutil.Process(control.getProcessInfo(name)["pid"])


def _rows(url: str, sql: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    with session(url) as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql, values)]


def kill(process: psutil.Process) -> None:
    """Kill a process and all that it started, at once and with -9, as a power cut would."""
    with suppress(psutil.NoSuchProcess):
        every = [process, *process.children(recursive=True)]
        for child in every:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(every, timeout=30)


def describe(environment: pytest.MonkeyPatch, settings: Mapping[str, str]) -> None:
    for name, value in settings.items():
        environment.setenv(name, value)


def places(folder: Path) -> dict[str, str]:
    """An installation of its own, as a user would describe it."""
    return {
        "NIGHTSHIFT_STATE": str(folder / "state"),
        "NIGHTSHIFT_MODELS": str(folder / "models"),
        "NIGHTSHIFT_PG_PORT": str(free_port()),
        "NIGHTSHIFT_UI_PORT": str(free_port()),
    }


def start_redis(folder: Path, started: ExitStack) -> int:
    """The port of a Redis that ends with what was started."""
    port = free_port()
    command = [
        "redis-server",
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(folder),
    ]
    started.callback(kill, psutil.Popen(command, stdout=subprocess.DEVNULL))
    return port


def start_workers(site: Site, folder: Path, started: ExitStack) -> dict[str, psutil.Popen]:
    workers = {name: start_worker(site, name, folder) for name in WORKERS}
    for worker in workers.values():
        started.callback(kill, worker)
    return workers


def start_worker(site: Site, name: str, folder: Path) -> psutil.Popen:
    command = [
        sys.executable,
        "-m",
        "airflow",
        "celery",
        "worker",
        "--celery-hostname",
        f"{name}@%h",
        "--skip-serve-logs",
    ]
    environment = os.environ | local.airflow_environment(site)
    with (folder / f"{name}.log").open("w") as log:
        return psutil.Popen(
            command, env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT
        )


def is_ready(folder: Path, name: str) -> bool:
    return f"{name}@" in (log := (folder / f"{name}.log").read_text()) and " ready." in log


def live(site: Site, flights: ModelFamily) -> datetime:
    """Live through what has happened before Airflow starts; the night that comes next."""
    now = datetime.now(UTC)
    demo.load(local.admin_url(site, "warehouse"), today=now.date())
    as_of = flights.previous_tick(now)
    write_history(site, flights, as_of)
    for name in (FLEET, *TIMEOUTS):
        train_first(site, name, BEFORE)
    publish(site, WALKED, NIGHT)
    return as_of


def until_unpaused(airflow: Airflow) -> None:
    """Wait until the DAGs are there that tests ask for, and let those run that have schedules."""
    used = {"maintain", CONSUMER, f"{FLEET}.score", f"{FLIGHTS}.score", f"{FLIGHTS}.monitor"}
    on_request = {f"{family}.retrain" for family in (FLIGHTS, *TIMEOUTS)}
    for dag_id in until_listed(airflow, used | on_request):
        airflow.unpause(dag_id)


@pytest.fixture(scope="package")
def running() -> Iterator[Installation]:
    """Postgres, families with champions and nights, Airflow's four processes, and two workers."""
    # Not pytest's own temporary folder: its path may be too long for a socket.
    folder = Path(tempfile.mkdtemp(prefix="nightshift-e2e-"))
    flights = write_families(folder / "models")
    with pytest.MonkeyPatch.context() as environment, ExitStack() as started:
        started.callback(shutil.rmtree, folder)
        metrics, lineage = (started.enter_context(receiver()) for _ in range(2))
        describe(environment, SETTINGS | places(folder) | watching(metrics, lineage))
        site = local.site()
        started.callback(local.down, site)
        local.up(site, airflow=False)
        as_of = live(site, flights)
        workers = {}
        if REDIS:
            port = start_redis(folder, started)
            describe(environment, celery_settings(site, port))
            write_policy(site)
            workers = start_workers(site, folder, started)
        local.up(site)
        airflow = Airflow.log_in(local.ui_url(site), "admin", local.logins(site)["admin"])
        until_unpaused(airflow)
        until(lambda: all(is_ready(folder, name) for name in workers), 120)
        yield Installation(site, airflow, as_of, workers, metrics, lineage)


@pytest.fixture(scope="package")
def orphaned(running: Installation) -> str:
    """The night of FLEET, one of whose two workers was killed in the middle of it: the run's id.

    Who asks for it early need not wait when it counts: it takes two minutes to be done again.
    """
    hold = running.site.models / FLEET / "hold"
    hold.touch()
    run_id = running.airflow.trigger(f"{FLEET}.score", as_of=NIGHT.isoformat())
    until(lambda: held(running) == set(WORKERS), 120)
    assert running.rows("select 1 from predictions where family = %(family)s", family=FLEET) == []
    kill(running.workers[WORKERS[0]])
    hold.unlink()
    return run_id


def held(running: Installation) -> set[str]:
    """The workers that are in the middle of predicting."""
    above: set[int] = set()
    for file in (running.site.models / FLEET).glob("held-*"):
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(int(file.name.removeprefix("held-")))
            above |= {child.pid for child in process.parents()}
    return {name for name, worker in running.workers.items() if worker.pid in above}
