"""The nightly loop through Airflow's processes, asked over its REST API as an operator would."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.waiting import until

from .airflow import until_started
from .conftest import CONSUMER, Installation
from .families import FLIGHTS, HOME, NIGHTS

pytestmark = pytest.mark.timeout(600)  # on a busy machine; a quiet one needs a quarter


def predictions(running: Installation) -> dict[str, tuple[Any, ...]]:
    """The published rows of the newest night, by key."""
    rows = running.seen(
        "select entity_id, score, label, flags, model_version, snapshot"
        " from predictions where family = %(family)s and as_of = %(as_of)s",
        family=FLIGHTS,
        as_of=running.as_of,
    )
    by_key = {row[0]: row[1:] for row in rows}
    assert len(by_key) == len(rows)
    return by_key


@pytest.fixture(scope="module")
def asked(running: Installation) -> dict[str, str]:
    """Runs that were all asked for at once, so that they share the machine: their ids."""
    trigger = running.airflow.trigger
    return {
        "monitor": trigger(f"{FLIGHTS}.monitor", as_of=running.as_of.isoformat()),
        "score": trigger(f"{FLIGHTS}.score", as_of=running.as_of.isoformat()),
        "maintain": trigger("maintain"),
        "no offset": trigger(f"{FLIGHTS}.score", as_of="2026-01-05T02:00:00"),
    }


def test_a_night_is_published_whole_announced_and_the_same_when_run_again(
    running: Installation, asked: dict[str, str]
) -> None:
    airflow = running.airflow
    airflow.succeed(f"{FLIGHTS}.score", asked["score"])
    first = predictions(running)
    assert len(first) > 100

    [event] = airflow.get("assets/events", source_run_id=asked["score"])["asset_events"]
    assert event["name"] == f"{FLIGHTS}.predictions"
    assert event["extra"]["rows"] == len(first)
    assert datetime.fromisoformat(event["extra"]["as_of"]) == running.as_of
    committed = json.loads((HOME / "sql" / "contract.json").read_text())
    assert event["extra"]["contract"] == committed["version"]
    assert event["partition_key"] == running.as_of.strftime("%Y-%m-%dT%H:%M:%SZ")
    airflow.succeed(CONSUMER, until_started(airflow, CONSUMER))

    again = airflow.trigger(f"{FLIGHTS}.score", partition_key=event["partition_key"])
    airflow.succeed(f"{FLIGHTS}.score", again)
    assert predictions(running) == first


def test_a_moment_without_an_offset_fails_once_and_publishes_nothing(
    running: Installation, asked: dict[str, str]
) -> None:
    dag_id, run_id = f"{FLIGHTS}.score", asked["no offset"]
    assert running.airflow.outcome(dag_id, run_id) == "failed"
    tasks = running.airflow.tasks(dag_id, run_id)
    assert tasks["freeze"] == ("failed", 1)
    assert tasks["publish"] == ("upstream_failed", 0)
    assert tasks["alert"] == ("failed", 1)  # about which moment, it cannot know either
    assert "Add the UTC offset" in running.airflow.complaints(dag_id, run_id)["freeze"]


def test_a_breach_is_retrained_once_however_often_it_is_measured(
    running: Installation, asked: dict[str, str]
) -> None:
    airflow = running.airflow
    airflow.succeed(f"{FLIGHTS}.monitor", asked["monitor"])
    measured = (
        "select state, labels from performance"
        " where family = %(family)s and as_of = %(as_of)s and model_version is not null"
    )
    [(state, labels)] = running.seen(measured, family=FLIGHTS, as_of=running.as_of)
    assert (state, labels > 100) == ("breached", True)

    called_for = (
        "select decision_id from decisions"
        " where family = %(family)s and kind = 'retrain' and as_of = %(as_of)s"
    )
    [(decision_id,)] = running.seen(called_for, family=FLIGHTS, as_of=running.as_of)
    airflow.succeed(f"{FLIGHTS}.retrain", f"decision-{decision_id}")
    verdicts = (
        "select kind from decisions where family = %(family)s and kind in ('promote', 'reject')"
    )
    assert (
        len(running.seen(verdicts, family=FLIGHTS)) == 2
    )  # the first champion, and this challenger
    told = running.titles(FLIGHTS)
    assert told[:2] == [f"{FLIGHTS}: breached", f"{FLIGHTS}: retrain started"]
    assert told[2:] in ([f"{FLIGHTS}: promoted"], [f"{FLIGHTS}: rejected"])

    again = airflow.trigger(f"{FLIGHTS}.monitor", as_of=running.as_of.isoformat())
    airflow.succeed(f"{FLIGHTS}.monitor", again)
    assert airflow.tasks(f"{FLIGHTS}.monitor", again)["retrain"][0] == "skipped"
    assert airflow.get(f"dags/{FLIGHTS}.retrain/dagRuns")["total_entries"] == 1
    assert running.titles(FLIGHTS) == told


def test_maintenance_leaves_published_nights_alone(
    running: Installation, asked: dict[str, str]
) -> None:
    running.airflow.succeed("maintain", asked["maintain"])
    nights = (
        "select count(distinct as_of) from predictions"
        " where family = %(family)s and as_of < %(as_of)s"
    )
    assert running.seen(nights, family=FLIGHTS, as_of=running.as_of) == [(NIGHTS,)]


def held_night(running: Installation, number: int) -> str:
    """Ask for a night so many days before; the run's id, once its first task runs."""
    as_of = running.as_of - timedelta(days=number)
    run_id = running.airflow.trigger(f"{FLIGHTS}.score", as_of=as_of.isoformat())

    def state() -> str | None:
        return running.airflow.tasks(f"{FLIGHTS}.score", run_id)["freeze"][0]

    until(lambda: state() not in (None, "scheduled"), 120)
    return run_id


def published(running: Installation, number: int) -> list[tuple[Any, ...]]:
    """Batches, rows and keys that readers see of a night."""
    return running.seen(
        "select count(distinct batch_id), count(*) > 100, count(*) = count(distinct entity_id)"
        " from predictions where family = %(family)s and as_of = %(as_of)s",
        family=FLIGHTS,
        as_of=running.as_of - timedelta(days=number),
    )


def test_case_19_a_scheduler_that_is_killed_during_a_night_ends_it_when_it_is_back(
    running: Installation,
) -> None:
    run_id = held_night(running, 1)
    killed = running.process("scheduler")
    family = [killed, *killed.children(recursive=True)]
    killed.kill()
    running.airflow.succeed(f"{FLIGHTS}.score", run_id)
    assert running.process("scheduler").pid != killed.pid
    assert not any(one.is_running() for one in family)
    assert published(running, 1) == [(1, True, True)]


def test_case_20_an_api_server_that_hangs_for_20_seconds_costs_a_night_nothing(
    running: Installation,
) -> None:
    run_id = running.airflow.trigger(
        f"{FLIGHTS}.score", as_of=(running.as_of - timedelta(days=1)).isoformat()
    )
    server = running.process("api-server")
    family = [server, *server.children(recursive=True)]
    for one in family:
        one.suspend()
    time.sleep(20)  # the fault itself
    for one in family:
        one.resume()
    running.airflow.succeed(f"{FLIGHTS}.score", run_id)
    assert published(running, 1) == [(1, True, True)]
