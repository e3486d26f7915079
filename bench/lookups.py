"""``make bench-lookups``: what readers wait for, with 20 million predictions in the table.

200 nights of a family of 100,000 entities, which are scored every night, and of one of 1,000, which
are scored once. Rows are made inside Postgres, in the order in which nights come. Four things are
timed: the look-up of one entity, planned every time and prepared; a whole night; and publishing
while readers look up entities and read nights without a pause.
"""

from __future__ import annotations

import random
import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
from sqlalchemy import make_url

from nightshift import data
from nightshift.local import session
from nightshift.night import publish

from . import grounds
from .figures import Figure, figure, tell
from .grounds import seconds

NIGHTS, NIGHTLY, ONCE = 200, 100_000, 1_000
FIRST = datetime(2026, 1, 1, 2, tzinfo=UTC)
LAST = FIRST + timedelta(days=NIGHTS)  # the night that is published under readers
READERS = 2

_FAMILIES = f"""
insert into nightshift.models (family, name, created_at)
values ('nightly', 'nightly', now()), ('once', 'once', now());
insert into nightshift.decisions
    (model_id, kind, rule, reason, as_of, inputs, subject, decided_at)
select model_id, 'retrain', 'first', 'first', now(), '{{}}', 'first', now() from nightshift.models;
insert into nightshift.versions
    (model_id, number, artifact_hash, signature, manifest, decision_id, trained_at)
select model_id, 1, repeat('a', 64), '', '{{}}', decision_id, now() from nightshift.decisions;
insert into nightshift.snapshots
    (family, as_of, revision, content_hash, row_count, dropped_rows, query_hash, taken_at)
select m.family, night, 1, repeat('b', 64),
       case m.family when 'nightly' then {NIGHTLY} else {ONCE} end, 0, '', night
from generate_series(timestamptz '{FIRST}', timestamptz '{LAST}', '1 day') night,
     nightshift.models m;
select nightshift.open_month(as_of) from nightshift.snapshots;
select nightshift.show_family('nightly', 'regression');
insert into nightshift.batches
    (family, as_of, snapshot_id, version_ids, row_count, state, started_at, written_at)
select s.family, s.as_of, s.snapshot_id, array[v.version_id], s.row_count, 'written', s.as_of,
       s.as_of
from nightshift.snapshots s join nightshift.models m on m.family = s.family
join nightshift.versions v using (model_id) order by s.as_of, s.family;
insert into nightshift.published
select family, as_of, batch_id, as_of from nightshift.batches
where as_of < timestamptz '{LAST}';
"""
_NIGHT = """
insert into nightshift.prediction_rows
    (as_of, score, batch_id, version_id, model_id, flags, entity_id)
select b.as_of, random(), b.batch_id, v.version_id, v.model_id, 0,
       case b.family when 'nightly' then 'customer-' || e
                     else 'order-' || b.batch_id || '-' || e end
from nightshift.batches b join nightshift.versions v on v.version_id = b.version_ids[1],
     generate_series(1, b.row_count) e
where b.as_of = %s
"""
_ENTITY = "select * from predictions_latest where entity_id = %s"
_WHOLE = "select * from predictions_nightly where as_of = %s"


def main() -> None:
    with grounds.postgres() as (server, _):
        rows = _fill(server.url("nightshift"))
        figures = list(_figures(server.url("nightshift")))
    title = f"What readers wait for, with {rows:,} predictions of {NIGHTS} nights"
    tell(title, figures, "lookups")


def _fill(url: str) -> int:
    """Every night's rows, as they come; how many."""
    with session(url) as connection:
        for statement in _FAMILIES.split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
        for night in range(NIGHTS + 1):
            connection.exec_driver_sql(_NIGHT, (FIRST + timedelta(days=night),))
            if night % 20 == 0:
                print(f"night {night} of {NIGHTS}", flush=True)
        connection.exec_driver_sql("vacuum analyze")
        connection.exec_driver_sql("checkpoint")  # or it disturbs whoever reads first
        count = "select count(*) from nightshift.prediction_rows"
        return int(connection.exec_driver_sql(count).scalar_one())


def _figures(url: str) -> Iterator[Figure]:
    with _reader(url) as cursor:
        yield _figure("one entity, planned every time", _lookups(cursor, _ENTITY), 5)
        cursor.execute(f"prepare entity (text) as {_ENTITY.replace('%s', '$1')}")
        yield _figure("one entity, prepared", _lookups(cursor, "execute entity (%s)"), 5)
        yield _figure(f"a night of {NIGHTLY:,} rows", _nights(cursor, 60), 1000)
    yield _figure("publishing under readers", _publishing(url), 50)


def _lookups(cursor: Any, query: str) -> list[float]:
    entities = [f"customer-{random.randint(1, NIGHTLY)}" for _ in range(2000)]
    return [_timed(cursor, query, entity) for entity in entities]


def _nights(cursor: Any, count: int) -> list[float]:
    return [_timed(cursor, _WHOLE, _some_night()) for _ in range(count)]


def _some_night() -> datetime:
    return FIRST + timedelta(days=random.randrange(NIGHTS))


def _timed(cursor: Any, query: str, parameter: Any) -> float:
    return seconds(lambda: (cursor.execute(query, (parameter,)), cursor.fetchall()))


def _publishing(url: str) -> list[float]:
    """The last night's batches, published and taken back, while readers read without a pause."""
    ours, times = data.connect(url), []
    with session(url) as connection:
        batches = connection.exec_driver_sql(
            "select batch_id from nightshift.batches where as_of = %s and family = 'nightly'",
            (LAST,),
        )
        batch_id = batches.scalar_one()
        with _reading(url):
            for _ in range(50):
                times.append(seconds(lambda: publish(ours, batch_id, now=LAST)))
                connection.exec_driver_sql(
                    "delete from nightshift.published where batch_id = %s", (batch_id,)
                )
    ours.close()
    return times


@contextmanager
def _reading(url: str) -> Iterator[None]:
    ended = threading.Event()

    def read() -> None:
        with _reader(url) as cursor:
            while not ended.is_set():
                _lookups_once(cursor)
                _timed(cursor, _WHOLE, _some_night())

    readers = [threading.Thread(target=read) for _ in range(READERS)]
    for thread in readers:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in readers:
            thread.join()


def _lookups_once(cursor: Any) -> None:
    _timed(cursor, _ENTITY, f"customer-{random.randint(1, NIGHTLY)}")


@contextmanager
def _reader(url: str) -> Iterator[Any]:
    plain = make_url(url).set(drivername="postgresql", username="nightshift_reader")
    connection = psycopg2.connect(plain.render_as_string(hide_password=False))
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def _figure(name: str, seconds: list[float], bar: float) -> Figure:
    """The 95th percentile of some times, between their median and their highest."""
    milliseconds = [1000 * second for second in seconds]
    return figure(
        f"{name}, p95 of {len(milliseconds)} (median to highest)",
        milliseconds,
        "ms",
        at_most=bar,
        value=statistics.quantiles(milliseconds, n=20, method="inclusive")[-1],
        low=statistics.median(milliseconds),
    )


if __name__ == "__main__":
    main()
