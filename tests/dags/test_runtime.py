"""Which moment a run is about, where its databases are, and which errors Airflow tries again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from inspect import signature
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowFailException
from airflow.timetables.trigger import CronPartitionTimetable
from sqlalchemy import make_url
from sqlalchemy.dialects.postgresql.psycopg2 import dialect
from tests.faults.harness import TRIES

from nightshift.errors import DatabaseUnavailable, SetupError, SnapshotRejected
from nightshift.family import ModelFamily, load_family
from nightshift.site import Site
from nightshift_airflow.connections import source_url
from nightshift_airflow.runtime import (
    as_of,
    by_calendar,
    decisions_of_run,
    failing_once,
    retrain_request,
    site,
)
from nightshift_airflow.wiring import DEFAULTS, _run_id, partition_key, retrain_runs, timetable

SCHEDULES = {
    "nightly": {"score": "0 2 * * *", "monitor": "0 6 * * *"},
    "hourly": {"score": "0 * * * *", "monitor": "30 * * * *"},
    "berlin": {"score": "30 2 * * *", "monitor": "0 6 * * *", "timezone": "Europe/Berlin"},
    "berlin_hourly": {"score": "0 * * * *", "monitor": "30 * * * *", "timezone": "Europe/Berlin"},
}
MakeFamily = Callable[..., ModelFamily]


@dataclass(frozen=True)
class Run:
    """What a task sees of its run."""

    run_after: datetime
    partition_key: str | None = None
    run_id: str = "manual__1"
    dag_id: str = "flights.retrain"
    triggering_user_name: str | None = None


def context(run: Run, **params: Any) -> Any:
    empty = {"as_of": None, "decision_ids": None, "members": None, "reason": None}
    return {"dag_run": run, "params": empty | params}


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


MORNING = Run(run_after=utc("2025-11-03T07:15:00"))


@pytest.fixture
def family(write_family: Callable[..., Path]) -> MakeFamily:
    """The family ``flights`` with one of the schedules above."""

    def make(schedule: str = "nightly", **changes: Any) -> ModelFamily:
        changes = {"schedule": SCHEDULES[schedule]} | changes
        return load_family(write_family("flights", **changes))

    return make


def test_a_scheduled_run_is_about_its_partition(family: MakeFamily) -> None:
    run = Run(run_after=utc("2025-11-03T02:00:00"), partition_key="2025-11-03T02:00:00Z")
    assert as_of(family(), "score", context(run)) == utc("2025-11-03T02:00:00")


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        ("2025-11-01T02:00:00+00:00", "2025-11-01T02:00:00"),
        ("2025-11-01T02:00:00Z", "2025-11-01T02:00:00"),
        ("2025-11-01T02:00:00.000+02:00", "2025-11-01T00:00:00"),
        ("2025-10-31T21:00:00-05:00", "2025-11-01T02:00:00"),
    ],
)
def test_a_run_by_hand_is_about_its_parameter_in_utc(
    family: MakeFamily, given: str, moment: str
) -> None:
    found = as_of(family(), "score", context(MORNING, as_of=given))
    assert found == utc(moment)
    assert found.tzinfo is UTC


@pytest.mark.parametrize("empty", [None, ""])
@pytest.mark.parametrize(
    ("schedule", "kind", "moment"),
    [
        ("nightly", "score", "2025-11-03T02:00:00"),
        ("nightly", "monitor", "2025-11-03T06:00:00"),
        ("nightly", "retrain", "2025-11-03T02:00:00"),
        ("hourly", "score", "2025-11-03T07:00:00"),
        ("hourly", "monitor", "2025-11-03T06:30:00"),
        ("berlin", "score", "2025-11-03T01:30:00"),
    ],
)
def test_an_empty_parameter_means_the_latest_tick(
    family: MakeFamily, schedule: str, kind: Any, moment: str, empty: str | None
) -> None:
    assert as_of(family(schedule), kind, context(MORNING, as_of=empty)) == utc(moment)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "2025-11-03T02:00:00",
            "the parameter as_of is '2025-11-03T02:00:00', which could be any time zone's."
            " Add the UTC offset: 2025-11-03T02:00:00+00:00 if you mean UTC.",
        ),
        ("2025-11-03", "Add the UTC offset: 2025-11-03T00:00:00+00:00 if you mean UTC."),
        ("yesterday", "which is no moment. Write it as 2026-11-03T02:00:00+00:00."),
        ("2999-01-01T00:00:00Z", "which has not come yet."),
    ],
)
def test_a_moment_that_cannot_be_meant_fails_the_task_at_once(
    family: MakeFamily, given: str, message: str
) -> None:
    with pytest.raises(AirflowFailException) as refused:
        as_of(family(), "score", context(MORNING, as_of=given))
    assert message in str(refused.value)


def test_a_partition_and_a_parameter_must_name_one_moment(family: MakeFamily) -> None:
    flights = family()
    run = Run(run_after=MORNING.run_after, partition_key="2025-11-01T02:00:00Z")
    agreed = context(run, as_of="2025-11-01T03:00:00+01:00")
    assert as_of(flights, "score", agreed) == utc("2025-11-01T02:00:00")
    with pytest.raises(
        AirflowFailException, match="name two moments: 2025-11-01 02:00:00Z and 2025-11-02 "
    ):
        as_of(flights, "score", context(run, as_of="2025-11-02T02:00:00Z"))


AUTUMN = utc("2025-10-25T00:00:00")  # Berlin puts its clocks back at 01:00 UTC of the 26th
SPRING = utc("2025-03-29T00:00:00")  # and forward at 01:00 UTC of the 30th


def airflow_partitions(family: ModelFamily, start: datetime) -> list[tuple[str, datetime]]:
    """The keys and moments that Airflow itself gives to three days of partitions."""
    ours = timetable(family, "score")
    assert ours
    theirs = CronPartitionTimetable(
        ours.expression, timezone=family.schedule.timezone, key_format=ours.key_format
    )
    infos = theirs.iter_partition_dagrun_infos(earliest=start, latest=start + timedelta(days=3))
    return [(info.partition_key, utc(f"{info.partition_date:%Y-%m-%dT%H:%M}")) for info in infos]


@pytest.mark.parametrize("start", [AUTUMN, SPRING], ids=["autumn", "spring"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_partition_has_a_key_of_its_own_that_says_its_moment(
    family: MakeFamily, schedule: str, start: datetime
) -> None:
    flights = family(schedule)
    partitions = airflow_partitions(flights, start)
    assert len({key for key, _ in partitions}) == len(partitions) >= 3
    for key, moment in partitions:
        run = Run(run_after=moment, partition_key=key)
        assert as_of(flights, "score", context(run)) == moment
        assert partition_key(flights, moment) == key


@pytest.mark.parametrize("start", [AUTUMN, SPRING], ids=["autumn", "spring"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_latest_tick_is_that_of_airflow_also_when_clocks_change(
    family: MakeFamily, schedule: str, start: datetime
) -> None:
    flights = family(schedule)
    ticks = [moment for _, moment in airflow_partitions(flights, start)]
    for tick, following in pairwise(ticks):
        for asked in (tick, tick + timedelta(minutes=20), following - timedelta(minutes=1)):
            assert as_of(flights, "score", context(Run(run_after=asked))) == tick


def test_a_decision_has_one_retrain_run() -> None:
    expected = [{"trigger_run_id": "decision-17", "conf": {"decision_ids": [17]}}]
    assert retrain_runs([17]) == retrain_runs([17]) == expected
    assert retrain_runs([]) == []
    assert retrain_runs([17], "approval")[0]["trigger_run_id"] == "approval-17"


@pytest.mark.parametrize(("decisions", "runs"), [(2, 2), (16, 16), (17, 16), (86, 16), (1000, 16)])
def test_many_decisions_share_a_few_retrain_runs_evenly(decisions: int, runs: int) -> None:
    ids = list(range(100, 100 + decisions))
    found = retrain_runs(ids)
    chunks = [run["conf"]["decision_ids"] for run in found]
    sizes = {len(chunk) for chunk in chunks}
    assert [decision for chunk in chunks for decision in chunk] == ids
    assert (len(chunks), max(sizes) - min(sizes) <= 1) == (runs, True)
    assert retrain_runs(ids[::-1]) == found


def test_the_name_of_a_shared_retrain_run_says_which_decisions_it_carries_out() -> None:
    named = {run["trigger_run_id"] for run in retrain_runs(range(17, 50))}
    assert len(named) == 16
    assert "decisions-17-to-18-e5d73c69" in named
    # The ends are the same, the decisions are not.
    assert _run_id([17, 18, 20]) != _run_id([17, 19, 20])


def test_a_retrain_knows_its_decisions_or_who_asks_for_what_and_why() -> None:
    assert decisions_of_run(context(MORNING, decision_ids=[17, 18])) == [17, 18]
    assert decisions_of_run(context(MORNING)) is None
    by_hand = Run(run_after=MORNING.run_after, triggering_user_name="ada")
    assert retrain_request(context(by_hand, reason="new routes", members=["HNL"])) == {
        "by": "ada",
        "reason": "new routes",
        "members": ["HNL"],
    }
    scheduled = Run(run_after=MORNING.run_after, partition_key="k", run_id="scheduled__1")
    assert retrain_request(context(scheduled)) == {
        "by": "schedule",
        "reason": "run scheduled__1 of flights.retrain",
        "members": None,
    }
    assert by_calendar(context(scheduled))
    assert not by_calendar(context(by_hand))


@pytest.mark.parametrize(
    ("uri", "arguments"),
    [
        (
            "postgresql://ada:p%40ss%2Fword@db.example.org:5433/nightshift",
            {
                "host": "db.example.org",
                "port": 5433,
                "user": "ada",
                "password": "p@ss/word",
                "dbname": "nightshift",
            },
        ),
        (
            "postgresql+psycopg2://ada@/nightshift?host=/var/run/night%20shift",
            {"host": "/var/run/night shift", "user": "ada", "dbname": "nightshift"},
        ),
        (
            "postgres://ada@%2Fvar%2Frun%2Fpg:5433/nightshift",
            {"host": "/var/run/pg", "port": 5433, "user": "ada", "dbname": "nightshift"},
        ),
        (
            "postgres://ada@/nightshift?host=/var/run/pg&port=5433",
            {"host": "/var/run/pg", "port": 5433, "user": "ada", "dbname": "nightshift"},
        ),
        (
            "postgres://db/nightshift?sslmode=verify-full&sslrootcert=/etc/ca.pem",
            {
                "host": "db",
                "dbname": "nightshift",
                "sslmode": "verify-full",
                "sslrootcert": "/etc/ca.pem",
            },
        ),
    ],
)
def test_an_airflow_connection_reaches_psycopg2_unchanged(
    uri: str, arguments: dict[str, Any]
) -> None:
    connection = Connection(conn_id="warehouse", uri=uri)
    for written in (connection, Connection(conn_id="warehouse", uri=connection.get_uri())):
        url = make_url(source_url(written))
        assert url.drivername == "postgresql+psycopg2"
        assert dialect().create_connect_args(url)[1] == arguments


def test_a_connection_made_field_by_field_may_name_a_socket_folder() -> None:
    connection = Connection(
        conn_id="warehouse", conn_type="postgres", host="/var/run/pg", login="ada", schema="flights"
    )
    assert source_url(connection) == "postgresql+psycopg2://ada@/flights?host=%2Fvar%2Frun%2Fpg"


def test_a_site_is_where_airflow_and_the_environment_say(
    family: MakeFamily, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT", "postgres://writer@db/nightshift")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", "postgres://reader@db/warehouse")
    monkeypatch.setenv("NIGHTSHIFT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NIGHTSHIFT_STATE", str(tmp_path / "state"))
    assert site(family()) == Site(
        home=tmp_path / "home",
        state=tmp_path / "state",
        models=tmp_path / "home" / "include" / "models",
        database_url="postgresql+psycopg2://writer@db/nightshift",
        sources={"warehouse": "postgresql+psycopg2://reader@db/warehouse"},
    )


def test_a_connection_to_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT", "mysql://writer@db/nightshift")
    with pytest.raises(SetupError, match=r"'nightshift'.* is of type 'mysql'; accepted: postgres"):
        site()


def test_tries_are_bounded_and_lie_further_apart_each_time() -> None:
    """By Airflow's own arithmetic, without the chance that it adds: at most half an hour in all."""
    told = DEFAULTS
    pauses = [
        min(told["retry_delay"] * told["retry_exponential_backoff"] ** n, told["max_retry_delay"])
        for n in range(told["retries"])
    ]
    assert pauses == [timedelta(minutes=minutes) for minutes in (1, 2, 4)]
    assert told["retries"] + 1 == TRIES  # what tests/faults tries is what Airflow tries


def test_only_errors_that_time_can_mend_are_tried_again() -> None:
    def validate(snapshot_id: int) -> int:
        raise SnapshotRejected(f"snapshot {snapshot_id}: 3 of 4 rows have no distance")

    def freeze() -> int:
        raise DatabaseUnavailable("no answer")

    with pytest.raises(AirflowFailException) as failed:
        failing_once(validate)(7)
    assert str(failed.value) == "snapshot 7: 3 of 4 rows have no distance [snapshot_rejected]"
    with pytest.raises(DatabaseUnavailable):
        failing_once(freeze)()
    assert list(signature(failing_once(validate)).parameters) == ["snapshot_id"]
