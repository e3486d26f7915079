"""Cases 1 to 12: whatever dies in the middle of a night, readers see whole nights only."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from tests.faults.harness import (
    Process,
    Reader,
    Refused,
    as_airflow_would,
    crash,
    lossy,
    together,
    until_it_waits,
)
from tests.world import FAMILY, World

from nightshift import simulation
from nightshift.data import connect, database
from nightshift.errors import DatabaseUnavailable, ScoringError
from nightshift.local import session
from nightshift.steps import night as night_steps
from nightshift.steps import upkeep

from .conftest import NIGHT

PUBLISHED = "select entity_id, as_of, score, label, flags, model_version, snapshot from predictions"
LATE = timedelta(minutes=5)


def night(world: World, number: int) -> partial[Any]:
    """The work of one night, as the DAG does it."""
    as_of = world.night(number)
    return partial(simulation.score_night, world.site, FAMILY, as_of, now=as_of + LATE)


def scoring(world: World, number: int) -> partial[Any]:
    """The scoring of a night that is frozen and validated already."""
    now = world.night(number) + LATE
    snapshot_id = world.freeze(number)
    night_steps.validate(world.site, snapshot_id, now=now)
    return partial(night_steps.score, world.site, snapshot_id, now=now)


def publishing(world: World, batch_id: int, now: datetime) -> partial[Any]:
    return partial(night_steps.publish, world.site, batch_id, now=now)


def shown(world: World) -> dict[str, float]:
    """What readers see of all nights, by key; no key twice."""
    rows = world.rows("select entity_id, score from predictions")
    found = {row.entity_id: row.score for row in rows}
    assert len(found) == len(rows)
    return found


def oracle(world: World, *numbers: int) -> Any:
    """What they must see: the first champion has learnt size + 3."""
    return pytest.approx(
        {
            f"{world.night(number):%Y%m%d}-{size}": size + 3.0
            for number in numbers
            for size in range(1, 31)
        }
    )


@pytest.mark.parametrize(
    "place",
    [
        "snapshots.stored",
        "scoring.copying",
        "scoring.copied",
        "scoring.finished",
        "scoring.flipped",
    ],
)
def test_case_1_and_2_a_night_killed_before_it_is_published_is_not_there_and_is_made_up_for(
    served: World, reader: Reader, place: str
) -> None:
    Process(night(served, 10), place).reached(place).kill()
    assert shown(served) == {}
    assert Process(night(served, 10)).outcome()
    assert shown(served) == oracle(served, 10)
    assert served.codes().count("published") == 1


@pytest.mark.parametrize("place", ["scoring.copied", "scoring.finished"])
def test_case_2_rows_that_a_killed_process_left_are_purged(served: World, place: str) -> None:
    Process(night(served, 10), place).reached(place).kill()
    served.score(10)
    rows = "select count(*) from nightshift.prediction_rows"
    assert served.rows(rows)[0][0] == 60
    now = served.night(11) + LATE
    assert upkeep.maintain(served.site, now=now + timedelta(hours=1))["purged_rows"] == 30
    assert served.rows(rows)[0][0] == 30
    assert shown(served) == oracle(served, 10)
    assert "purged" in served.codes()


def test_case_3_killed_after_the_commit_the_retry_changes_nothing(
    served: World, reader: Reader
) -> None:
    now = served.night(10) + LATE
    batch_id = scoring(served, 10)()
    held = Process(publishing(served, batch_id, now), "scoring.published")
    held.reached("scoring.published").kill()
    before = served.rows(PUBLISHED)
    assert Process(publishing(served, batch_id, now)).outcome()["batch_id"] == batch_id
    assert served.rows(PUBLISHED) == before
    assert shown(served) == oracle(served, 10)
    assert served.codes().count("published") == 1


def test_case_4_when_the_answer_to_commit_is_lost_the_retry_looks_what_became_of_it(
    served: World, reader: Reader
) -> None:
    now = served.night(10) + LATE
    batch_id = scoring(served, 10)()
    with lossy(served.site.database_url) as line:
        there = replace(served.site, database_url=line.url)
        held = Process(partial(night_steps.publish, there, batch_id, now=now), "scoring.flipped")
        held.reached("scoring.flipped")
        line.lose_the_next_answer_to_commit()
        held.go()
        with pytest.raises(Refused) as lost:
            held.outcome()
        assert (lost.value.code, lost.value.transient) == ("database_unavailable", True)
        assert len(shown(served)) == 30  # it was published, and the process could not know
        again = Process(partial(night_steps.publish, there, batch_id, now=now)).outcome()
    assert (again["batch_id"], again["rows"]) == (batch_id, 30)
    assert served.codes().count("published") == 1
    assert shown(served) == oracle(served, 10)


def test_case_4_when_the_answer_to_the_copys_commit_is_lost_the_rows_are_written_again(
    served: World, reader: Reader
) -> None:
    work = scoring(served, 10)
    with lossy(served.site.database_url) as line:
        there = replace(served.site, database_url=line.url)
        through = partial(work.func, there, *work.args[1:], **work.keywords)
        held = Process(through, "scoring.copying")
        held.reached("scoring.copying")
        line.lose_the_next_answer_to_commit()
        held.go()
        with pytest.raises(Refused) as lost:
            held.outcome()
    assert lost.value.transient
    assert served.rows("select count(*) from nightshift.prediction_rows")[0][0] == 30
    assert Process(night(served, 10)).outcome()
    assert shown(served) == oracle(served, 10)


@pytest.mark.parametrize("newer_first", [False, True])
def test_case_5_of_two_attempts_of_one_night_the_later_begun_stays(
    served: World, reader: Reader, newer_first: bool
) -> None:
    work = scoring(served, 10)
    batches = together([work, work], "scoring.copying")
    assert len(set(batches)) == 2
    now = served.night(10) + LATE
    for batch_id in sorted(batches, reverse=newer_first):
        Process(publishing(served, batch_id, now)).outcome()
    [pointer] = served.rows("select distinct batch_id from predictions")
    assert pointer.batch_id == max(batches)
    assert shown(served) == oracle(served, 10)


def test_case_5_two_attempts_may_publish_at_the_same_instant(served: World, reader: Reader) -> None:
    work, now = scoring(served, 10), served.night(10) + LATE
    older, newer = sorted(together([work, work], "scoring.copying"))
    holding = Process(publishing(served, newer, now), "scoring.flipped").reached("scoring.flipped")
    waiting = Process(publishing(served, older, now))
    holding.go()
    assert [one.outcome()["batch_id"] for one in (holding, waiting)] == [newer, newer]
    assert shown(served) == oracle(served, 10)


def test_case_6_a_backfill_of_a_night_that_the_schedule_also_runs(
    served: World, reader: Reader
) -> None:
    assert together([night(served, 10)] * 2, "snapshots.stored") == [True, True]
    taken = served.rows(
        "select content_hash from nightshift.snapshots where as_of = '2026-01-11Z'"
        "::timestamptz + interval '2 hours'"
    )
    assert len(taken) == 1
    assert shown(served) == oracle(served, 10)


def test_two_first_nights_of_a_month_that_begin_together_open_it_once(served: World) -> None:
    opening = "select nightshift.open_month('2030-05-01')"
    with (
        session(served.site.database_url) as first,
        session(served.site.database_url) as second,
        ThreadPoolExecutor(1) as beside,
    ):
        # As in a process that has looked for the month before: Postgres remembers that it was not.
        second.exec_driver_sql("select to_regclass('nightshift.prediction_rows_2030_05')")
        first.exec_driver_sql("begin")
        first.exec_driver_sql(opening)
        asked = beside.submit(lambda: second.exec_driver_sql(opening).scalar())
        waiting = (
            "select count(*) from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock'"
        )
        while not asked.done() and not served.rows(waiting)[0][0]:
            pass
        first.exec_driver_sql("commit")
        assert asked.result(timeout=60)


def test_case_7_twenty_overlapping_backfills_are_as_if_one_had_run_after_the_other(
    served: World, reader: Reader
) -> None:
    nights = random.Random(7).sample([*range(10, 15)] * 4, 20)
    running = [Process(partial(_nights, served, nights[part::4])) for part in range(4)]
    assert [one.outcome() for one in running] == [5, 5, 5, 5]
    assert shown(served) == oracle(served, *range(10, 15))
    assert len(served.rows("select distinct as_of, batch_id from predictions")) == 5


def _nights(world: World, numbers: list[int]) -> int:
    return sum(bool(night(world, number)()) for number in numbers)


def test_case_8_a_rerun_with_fewer_rows_leaves_no_stale_key(served: World) -> None:
    with Reader(served.site.database_url, {NIGHT, (27, NIGHT[1] - 3 * 3 - (28 + 29 + 30))}):
        assert Process(night(served, 10)).outcome()
        # Another feature is declared: the old snapshot is rejected, and another one is taken.
        served.source("delete from items where size > 27")
        served.configure(features={"numeric": ["size", "age"]})
        assert not Process(night(served, 10)).outcome()
        served.write(
            "features.sql",
            "select entity_id, size, kind, 1 as age from items"
            " where night = cast(:as_of as timestamptz)",
        )
        assert len(shown(served)) == 30  # the previous batch is still served
        held = Process(night(served, 10), "scoring.copying").reached("scoring.copying")
        assert len(shown(served)) == 30
        held.go()
        assert held.outcome()
    keys = {key.split("-")[1] for key in shown(served)}
    assert keys == {str(size) for size in range(1, 28)}


def test_case_9_postgres_stops_in_the_middle_of_a_copy_and_comes_back(
    crashable: World, own_server: Any
) -> None:
    with Reader(crashable.site.database_url, {NIGHT}):
        assert Process(night(crashable, 10)).outcome()
        held = Process(night(crashable, 11), "scoring.copying").reached("scoring.copying")
        crash(own_server)
        held.go()
        with pytest.raises(Refused) as lost:
            held.outcome()
        assert (lost.value.code, lost.value.transient) == ("database_unavailable", True)
        assert as_airflow_would(night(crashable, 11)) == (True, 1)
    assert shown(crashable) == oracle(crashable, 10, 11)


def test_case_9_a_postgres_that_stays_away_is_asked_a_bounded_number_of_times(
    crashable: World, own_server: Any
) -> None:
    own_server.stop()
    try:
        with pytest.raises(Refused, match="cannot reach Postgres") as lost:
            as_airflow_would(night(crashable, 10))
    finally:
        own_server.start()
    assert lost.value.transient


@pytest.mark.parametrize("place", ["scoring.copying", "scoring.flipped"])
def test_case_10_a_backend_that_is_terminated_ends_its_attempt_only(
    served: World, reader: Reader, place: str
) -> None:
    held = Process(night(served, 10), place).reached(place)
    # Two connections of the child: whichever of them is in a transaction is ended.
    served.rows(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and state = 'idle in transaction'"
    )
    held.go()
    with pytest.raises(Refused) as lost:
        held.outcome()
    assert (lost.value.code, lost.value.transient) == ("database_unavailable", True)
    assert shown(served) == {}
    assert as_airflow_would(night(served, 10)) == (True, 1)
    assert shown(served) == oracle(served, 10)


def test_case_10_a_backend_that_is_terminated_while_rows_are_fetched_is_an_outage(
    served: World,
) -> None:
    ours = connect(served.site.database_url, role=None)

    def fetch() -> None:
        with ours.bulk() as bulk, bulk._connection.cursor() as cursor:
            [backend] = bulk.read("select pg_backend_pid() as pid").to_pylist()
            cursor.execute("select $1::timestamptz as moment", [served.night(1)])
            served.rows(f"select pg_terminate_backend({backend['pid']}, 5000)")
            cursor.fetch_arrow_table()

    with pytest.raises(DatabaseUnavailable, match="run this step again"):
        fetch()


def test_case_11_publishing_does_not_wait_for_readers(served: World) -> None:
    took = []
    with session(served.site.database_url) as connection:
        connection.exec_driver_sql("begin isolation level repeatable read")
        connection.exec_driver_sql("select count(*) from predictions").all()
        for number in range(10, 15):
            batch_id = scoring(served, number)()
            started = time.perf_counter()
            publishing(served, batch_id, served.night(number) + LATE)()
            took.append(time.perf_counter() - started)
        assert connection.exec_driver_sql("select count(*) from predictions").scalar() == 0
    assert len(shown(served)) == 150
    assert statistics.median(took) < 0.1


@pytest.fixture
def impatient(served: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Statements wait for a lock for a moment only."""
    monkeypatch.setattr(database, "LOCK_TIMEOUT", "200ms")
    connect.cache_clear()
    yield served
    connect.cache_clear()


@pytest.mark.parametrize(
    ("table", "step"),
    [("prediction_rows", "score"), ("published", "publish")],
)
def test_case_12_a_table_that_is_locked_elsewhere_is_worth_another_try(
    impatient: World, table: str, step: str
) -> None:
    score, now = scoring(impatient, 10), impatient.night(10) + LATE
    batch_id = score()
    work = score if step == "score" else publishing(impatient, batch_id, now)
    with session(impatient.site.database_url) as connection:
        connection.exec_driver_sql("begin")
        connection.exec_driver_sql(f"lock table nightshift.{table} in access exclusive mode")
        with pytest.raises(DatabaseUnavailable, match="lock timeout") as lost:
            work()
        assert "Is it running" not in str(lost.value)
        connection.exec_driver_sql("rollback")
    assert impatient.codes()[-1] == "database_unavailable"
    assert work()
    publishing(impatient, work() if step == "score" else batch_id, now)()
    assert shown(impatient) == oracle(impatient, 10)


def test_a_statement_that_takes_too_long_is_worth_another_try(served: World) -> None:
    with session(served.site.database_url) as connection:
        name = connection.exec_driver_sql("select current_database()").scalar()
        connection.exec_driver_sql(f"alter database {name} set statement_timeout = '100ms'")
    connect.cache_clear()
    with (
        pytest.raises(DatabaseUnavailable, match="statement timeout"),
        connect(served.site.database_url).bulk() as bulk,
    ):
        bulk.read("select pg_sleep(5)")


def test_a_batch_that_was_purged_is_never_published(served: World, reader: Reader) -> None:
    """A run that was held up for days finds its rows gone, and says so."""
    batch_id = scoring(served, 10)()
    later = served.night(13)
    assert upkeep.maintain(served.site, now=later)["purged_rows"] == 30
    with pytest.raises(ScoringError, match="was purged"):
        night_steps.publish(served.site, batch_id, now=later)
    assert served.codes()[-1] == "scoring"
    assert Process(night(served, 10)).outcome()
    assert shown(served) == oracle(served, 10)


@pytest.mark.parametrize("first", ["publish", "purge"])
def test_purging_and_publishing_one_batch_at_once_end_as_one_after_the_other(
    served: World, reader: Reader, first: str
) -> None:
    batch_id, later = scoring(served, 10)(), served.night(13)
    work = {
        "publish": (publishing(served, batch_id, later), "scoring.flipped"),
        "purge": (partial(upkeep.maintain, served.site, now=later), "scoring.purged"),
    }
    holding = Process(*work[first]).reached(work[first][1])
    if first == "publish":
        assert Process(work["purge"][0]).outcome()["purged_rows"] == 0  # it does not wait
        holding.go()
        holding.outcome()
        assert shown(served) == oracle(served, 10)
        return
    other = Process(work["publish"][0])
    until_it_waits(served, other)
    holding.go()
    assert holding.outcome()["purged_rows"] == 30
    with pytest.raises(Refused, match="was purged"):
        other.outcome()
    assert shown(served) == {}


def test_a_batch_with_other_rows_than_its_snapshot_is_not_published(served: World) -> None:
    batch_id = scoring(served, 10)()
    with session(served.site.database_url) as connection:
        connection.exec_driver_sql("update nightshift.batches set row_count = row_count - 1")
    with pytest.raises(ScoringError, match="29 rows for a snapshot of 30; it was not published"):
        night_steps.publish(served.site, batch_id, now=served.night(10) + LATE)
    assert shown(served) == {}
