"""The nightly loop through Airflow's four processes, asked over its REST API as an operator would.

A copy of ``air_time`` is trained on a short history. Its threshold cannot be met, so the first
measurement calls for a retrain, which the scheduler must carry out.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from sqlalchemy import make_url
from tests.ports import free_port

from nightshift import local, steps, warehouse
from nightshift.config import Site, load_family
from nightshift.embedded import session
from nightshift.family import ModelFamily

from .airflow import PARSED_ONCE, Airflow, until, until_listed, until_started

HOME = Path(__file__).resolve().parents[2]
FAMILY = "air_time"
DAGS = {"maintain", *(f"{FAMILY}.{kind}" for kind in ("score", "monitor", "retrain"))}
CONSUMER = "plan_gates"  # of another team, in a folder of its own
BUNDLES = [
    {
        "name": folder,
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(HOME / folder), "refresh_interval": 10},
    }
    for folder in ("dags", "examples")
]
NIGHTS = 3  # published before Airflow starts, all mature
pytestmark = pytest.mark.timeout(600)  # on a busy machine; a quiet one needs a quarter


@dataclass(frozen=True)
class Loop:
    """An installation that runs."""

    site: Site
    airflow: Airflow
    as_of: datetime

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """What the reader's role sees."""
        reader = make_url(self.site.database_url).set(username="nightshift_reader")
        with session(reader.render_as_string(hide_password=False)) as connection:
            return [tuple(row) for row in connection.exec_driver_sql(sql, values)]

    def predictions(self) -> dict[str, tuple[Any, ...]]:
        """The published rows of the night, by key."""
        rows = self.rows(
            "select entity_id, score, label, flags, model_version, snapshot"
            " from predictions where family = %s and as_of = %s",
            FAMILY,
            self.as_of,
        )
        by_key = {row[0]: row[1:] for row in rows}
        assert len(by_key) == len(rows)
        return by_key

    def told(self) -> list[str]:
        """The titles of the alerts that were sent."""
        lines = (self.site.models / "told").read_text().splitlines()
        return [json.loads(line)["text"] for line in lines]


def short_family(models: Path) -> ModelFamily:
    """The project's family, trained on days instead of months, and never good enough."""
    folder = models / FAMILY
    shutil.copytree(HOME / "include" / "models" / FAMILY, folder)
    file = folder / "model.yaml"
    model = yaml.safe_load(file.read_text())
    # No tick while the test runs: a scheduled measurement would call for a retrain of its own.
    model["schedule"]["monitor"] = f"0 {(datetime.now(UTC).hour + 12) % 24} * * *"
    model["labels"] |= {"maturity": "P2D", "min_coverage": 0.5}
    model["performance"] |= {"window": "P4D", "min_labels": 100, "threshold": -0.001}
    model["retrain"] = {"when": {"breaches": 1, "of_last": 1}, "training": {"window": "P4D"}}
    model["promotion"] |= {"holdout": "P2D", "min_rows": 100}
    arguments = {"file": str(models / "told"), "text": "{{ alert.title }}"}
    causes = ["breach", "retrain_started", "promoted", "rejected"]
    notifier = {"notifier": "notifiers.LinesNotifier", "arguments": arguments, "on": causes}
    model["alerts"] = [notifier]
    file.write_text(yaml.safe_dump(model))
    return load_family(folder)


def write_history(site: Site, family: ModelFamily, last: datetime) -> None:
    """Train a first champion, and publish the nights before ``last`` that are mature by then."""
    mature = last - family.labels.maturity
    nights = list(family.ticks(mature - timedelta(days=NIGHTS), mature))
    now = datetime.now(UTC)
    asked = steps.request_retrain(site, FAMILY, nights[0], reason="first", by="test", now=now)
    comparison = steps.compare(site, steps.fit(site, asked, now=now), now=now)
    steps.conclude(site, comparison, now=now)
    for night in nights:
        snapshot = steps.freeze(site, FAMILY, night, now=now)
        steps.validate(site, snapshot, now=now)
        steps.publish(site, steps.score(site, snapshot, now=now), now=now)


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    """Postgres, a loaded warehouse, a short history, and Airflow's four processes."""
    # Not pytest's own temporary folder: its path may be too long for a socket.
    folder = Path(tempfile.mkdtemp(prefix="nightshift-e2e-"))
    family = short_family(folder / "models")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NIGHTSHIFT_STATE", str(folder / "state"))
        environment.setenv("NIGHTSHIFT_MODELS", str(folder / "models"))
        environment.setenv("PYTHONPATH", str(HOME / "tests" / "dags"))  # the notifier
        environment.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(BUNDLES))
        for name, value in PARSED_ONCE.items():
            environment.setenv(name, value)
        environment.setenv("NIGHTSHIFT_PG_PORT", str(free_port()))
        environment.setenv("NIGHTSHIFT_UI_PORT", str(free_port()))
        # What a scheduler that was killed has left is looked for often, not every five minutes.
        environment.setenv("AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL", "10")
        site = local.site()
        try:
            local.up(site, airflow=False)
            now = datetime.now(UTC)
            warehouse.load(local.admin_url(site, "warehouse"), today=now.date())
            as_of = family.previous_tick(now)
            write_history(site, family, as_of)
            local.up(site)
            airflow = Airflow.log_in(local.ui_url(site), "admin", local.logins(site)["admin"])
            for dag_id in until_listed(airflow, {*DAGS, CONSUMER}):
                airflow.unpause(dag_id)
            yield Loop(site, airflow, as_of)
        finally:
            local.down(site)
            shutil.rmtree(folder)


@pytest.fixture(scope="module")
def asked(loop: Loop) -> dict[str, str]:
    """Runs that were all asked for at once, so that they share the machine: their ids."""
    trigger = loop.airflow.trigger
    return {
        "monitor": trigger(f"{FAMILY}.monitor", as_of=loop.as_of.isoformat()),
        "score": trigger(f"{FAMILY}.score", as_of=loop.as_of.isoformat()),
        "maintain": trigger("maintain"),
        "no offset": trigger(f"{FAMILY}.score", as_of="2026-01-05T02:00:00"),
    }


def test_a_night_is_published_whole_announced_and_the_same_when_run_again(
    loop: Loop, asked: dict[str, str]
) -> None:
    airflow = loop.airflow
    airflow.succeed(f"{FAMILY}.score", asked["score"])
    first = loop.predictions()
    assert len(first) > 100

    [event] = airflow.get("assets/events", source_run_id=asked["score"])["asset_events"]
    assert event["name"] == f"{FAMILY}.predictions"
    assert event["extra"]["rows"] == len(first)
    assert datetime.fromisoformat(event["extra"]["as_of"]) == loop.as_of
    assert event["extra"]["contract"] == "1.0"
    assert event["partition_key"] == loop.as_of.strftime("%Y-%m-%dT%H:%M:%SZ")
    airflow.succeed(CONSUMER, until_started(airflow, CONSUMER))

    again = airflow.trigger(f"{FAMILY}.score", partition_key=event["partition_key"])
    airflow.succeed(f"{FAMILY}.score", again)
    assert loop.predictions() == first


def test_a_moment_without_an_offset_fails_once_and_publishes_nothing(
    loop: Loop, asked: dict[str, str]
) -> None:
    dag_id, run_id = f"{FAMILY}.score", asked["no offset"]
    assert loop.airflow.outcome(dag_id, run_id) == "failed"
    tasks = loop.airflow.tasks(dag_id, run_id)
    assert tasks["freeze"] == ("failed", 1)
    assert tasks["publish"] == ("upstream_failed", 0)
    assert tasks["alert"] == ("failed", 1)  # about which moment, it cannot know either
    assert "Add the UTC offset" in loop.airflow.complaints(dag_id, run_id)["freeze"]


def test_a_breach_is_retrained_once_however_often_it_is_measured(
    loop: Loop, asked: dict[str, str]
) -> None:
    airflow = loop.airflow
    airflow.succeed(f"{FAMILY}.monitor", asked["monitor"])
    measured = (
        "select state, labels from performance"
        " where family = %s and as_of = %s and model_version is not null"
    )
    [(state, labels)] = loop.rows(measured, FAMILY, loop.as_of)
    assert (state, labels > 100) == ("breached", True)

    called_for = "select decision_id from decisions where family = %s and kind = %s and as_of = %s"
    [(decision_id,)] = loop.rows(called_for, FAMILY, "retrain", loop.as_of)
    airflow.succeed(f"{FAMILY}.retrain", f"decision-{decision_id}")
    verdicts = "select kind from decisions where family = %s and kind in ('promote', 'reject')"
    assert len(loop.rows(verdicts, FAMILY)) == 2  # the first champion, and this challenger
    told = loop.told()
    assert told[:2] == [f"{FAMILY}: breached", f"{FAMILY}: retrain started"]
    assert told[2:] in ([f"{FAMILY}: promoted"], [f"{FAMILY}: rejected"])

    again = airflow.trigger(f"{FAMILY}.monitor", as_of=loop.as_of.isoformat())
    airflow.succeed(f"{FAMILY}.monitor", again)
    assert airflow.tasks(f"{FAMILY}.monitor", again)["retrain"][0] == "skipped"
    assert airflow.get(f"dags/{FAMILY}.retrain/dagRuns")["total_entries"] == 1
    assert loop.told() == told


def test_maintenance_leaves_published_nights_alone(loop: Loop, asked: dict[str, str]) -> None:
    loop.airflow.succeed("maintain", asked["maintain"])
    nights = "select count(distinct as_of) from predictions where family = %s and as_of < %s"
    assert loop.rows(nights, FAMILY, loop.as_of) == [(NIGHTS,)]


def process(loop: Loop, name: str) -> psutil.Process:
    with local._processes(loop.site)._control() as control:
        return psutil.Process(control.getProcessInfo(name)["pid"])


def held_night(loop: Loop, number: int) -> str:
    """Ask for a night so many days before; the run's id, once its first task runs."""
    as_of = loop.as_of - timedelta(days=number)
    run_id = loop.airflow.trigger(f"{FAMILY}.score", as_of=as_of.isoformat())

    def state() -> str | None:
        return loop.airflow.tasks(f"{FAMILY}.score", run_id)["freeze"][0]

    until(lambda: state() not in (None, "scheduled"), 120)
    return run_id


def published(loop: Loop, number: int) -> list[tuple[Any, ...]]:
    """Batches, rows and keys that readers see of a night."""
    return loop.rows(
        "select count(distinct batch_id), count(*) > 100, count(*) = count(distinct entity_id)"
        " from predictions where family = %s and as_of = %s",
        FAMILY,
        loop.as_of - timedelta(days=number),
    )


def test_case_19_a_scheduler_that_is_killed_during_a_night_ends_it_when_it_is_back(
    loop: Loop,
) -> None:
    run_id = held_night(loop, 1)
    killed = process(loop, "scheduler")
    killed.kill()
    loop.airflow.succeed(f"{FAMILY}.score", run_id)
    assert process(loop, "scheduler").pid != killed.pid
    assert published(loop, 1) == [(1, True, True)]


def test_case_20_an_api_server_that_hangs_for_20_seconds_costs_a_night_nothing(loop: Loop) -> None:
    run_id = loop.airflow.trigger(
        f"{FAMILY}.score", as_of=(loop.as_of - timedelta(days=1)).isoformat()
    )
    server = process(loop, "api-server")
    family = [server, *server.children(recursive=True)]
    for one in family:
        one.suspend()
    time.sleep(20)  # the fault itself
    for one in family:
        one.resume()
    loop.airflow.succeed(f"{FAMILY}.score", run_id)
    assert published(loop, 1) == [(1, True, True)]
