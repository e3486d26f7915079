"""What every kind of source keeps to. A kind joins by a row in ``SERVERS``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from nightshift.data import connect
from nightshift.errors import DatabaseUnavailable, SourceError
from nightshift.local import Postgres, session
from nightshift.sources import KINDS, Question, Source, open_source

AS_OF = datetime(2026, 11, 3, 2, tzinfo=UTC)
MOMENTS = {"as_of": AS_OF, "since": AS_OF - timedelta(days=7)}


@dataclass(frozen=True)
class Server:
    """A real server of a kind: where it is, and how the tests reach behind the source's back."""

    source: Source
    run: Callable[[str], object]
    outage: Callable[[], object]
    """Every session of the source ends at once."""


def postgres_server(postgres: Postgres, url: str) -> Server:
    def run(sql: str) -> None:
        with connect(url, role=None).administration() as connection:
            connection.exec_driver_sql(sql)

    def outage() -> None:
        with session(postgres.url("postgres")) as connection:
            connection.exec_driver_sql(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                " where datname = 'warehouse' and pid <> pg_backend_pid()"
            )

    return Server(open_source("warehouse", url), run, outage)


SERVERS: dict[str, Callable[[Postgres, str], Server]] = {"postgres": postgres_server}


def test_every_kind_is_held_to_the_contract() -> None:
    assert set(SERVERS) == set(KINDS)


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, postgres: Postgres, warehouse_url: str) -> Server:
    return SERVERS[request.param](postgres, warehouse_url)


def question(sql: str, **changes: Any) -> Question:
    return Question(sql, MOMENTS, "loads: features.sql failed", **changes)


def value(server: Server, expression: str) -> Any:
    """What an expression is, and the type it comes as."""
    table = server.source.ask(question(f"select {expression} as x"))
    return table["x"].to_pylist()[0], table.schema.field("x").type


@pytest.mark.parametrize(
    ("expression", "expected", "kind"),
    [
        ("cast(7 as smallint)", 7, pa.int16()),
        ("cast(9007199254740993 as bigint)", 9007199254740993, pa.int64()),
        ("cast(1.5 as double precision)", 1.5, pa.float64()),
        ("cast(1.25 as numeric(10, 4))", 1.25, pa.float64()),
        ("1.5", 1.5, pa.float64()),
        ("(select avg(n) from (values (1), (2)) t (n))", 1.5, pa.float64()),
        ("cast(null as numeric)", None, pa.float64()),
        ("cast(123456789012345678901234567890 as numeric)", 1.2345678901234568e29, pa.float64()),
        ("true", True, pa.bool_()),
        ("cast('größe' as text)", "größe", pa.string()),
        (":as_of", AS_OF, pa.timestamp("us", "UTC")),
        ("cast('2026-11-03 03:00+01' as timestamptz)", AS_OF, pa.timestamp("us", "UTC")),
    ],
)
def test_values_come_as_arrow_knows_them(
    server: Server, expression: str, expected: object, kind: pa.DataType
) -> None:
    assert value(server, expression) == (expected, kind)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_none_stay_what_they_are(server: Server, number: str) -> None:
    told, _ = value(server, f"cast('{number}' as numeric)")
    assert str(told) == str(float(number))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("extract(dow from :as_of)", 2),
        ("cast(:as_of as date) - date '2026-11-01'", 2),
        (":as_of - interval '7 days' = :since", True),
        ("date_trunc('day', :as_of) < :as_of", True),
        (
            "cast(cast(:as_of as timestamptz) at time zone 'Europe/Berlin' as text)",
            "2026-11-03 03:00:00",
        ),
        ("'it''s :as_of'", "it's :as_of"),
    ],
)
def test_parameters_are_moments_wherever_a_moment_may_stand(
    server: Server, expression: str, expected: object
) -> None:
    assert value(server, expression)[0] == expected


def test_a_result_streams_as_it_is_asked_and_both_go_one_way(server: Server) -> None:
    sql = "select n, cast(n as numeric) / 4 as part, repeat('x', 200) as text"
    sql += " from generate_series(1, 200000) n; -- all"
    with server.source.stream(question(sql)) as (schema, batches):
        parts = list(batches)
    assert schema == server.source.columns(question(sql)).remove_metadata()
    assert len(parts) > 1
    assert pa.Table.from_batches(parts) == server.source.ask(question(sql))
    assert parts[0]["part"][0].as_py() == 0.25


def test_columns_are_told_without_a_row_being_computed(server: Server) -> None:
    schema = server.source.columns(question("select 1 / 0 as x, cast(:as_of as date) as day"))
    assert schema.names == ["x", "day"]


@pytest.mark.parametrize(
    "sql",
    [
        "create table made (n int)",
        "insert into kept values (2)",
        "with gone as (delete from kept returning n) select n from gone",
        "select n into made from kept",
        "select set_config('transaction_read_only', 'off', true), nextval('numbers')",
    ],
)
def test_nothing_is_written_through_a_source(server: Server, sql: str) -> None:
    server.run("create table kept (n int); insert into kept values (1); create sequence numbers")
    with pytest.raises(SourceError):
        server.source.ask(question(sql))
    assert server.source.ask(question("select n from kept")).to_pylist() == [{"n": 1}]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("select * from nowhere", "nowhere"),
        ("select nothing from (values (1)) t (n)", "nothing"),
        ("selec 1", "selec"),
        ("select 1 / 0 as x", "zero"),
        ("select :today", ":today is no parameter"),
        ("select 1; select 2", "more than one statement"),
        ("select 'open", "never closed"),
        ("", "is empty"),
        ("select cast('infinity' as timestamptz) as x", "'x' has moments outside"),
        ("select cast(1 as money) as x", "cast(cast(x as numeric) as double precision) as x"),
    ],
)
def test_a_query_that_cannot_be_answered_is_refused_in_one_sentence(
    server: Server, sql: str, message: str
) -> None:
    with pytest.raises(SourceError, match=r"^loads: features\.sql failed: ") as refused:
        server.source.ask(question(sql))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_discreet_question_is_refused_without_the_values_it_met(server: Server) -> None:
    sql = "select cast(secret as integer) as x from (values ('hush')) t (secret)"
    with pytest.raises(SourceError, match="withheld") as refused:
        server.source.ask(question(sql, discreet=True))
    assert "hush" not in str(refused.value)
    with pytest.raises(SourceError, match='"nothing" does not exist'):
        server.source.ask(question("select nothing", discreet=True))


def test_an_outage_while_rows_come_is_an_outage_and_the_next_question_is_answered(
    server: Server,
) -> None:
    def read(batches: Iterator[pa.RecordBatch]) -> None:
        next(batches)
        server.outage()
        for _ in batches:
            pass

    sql = "select n, repeat('x', 200) as text from generate_series(1, 5000000) n"
    with server.source.stream(question(sql)) as (_, batches), pytest.raises(DatabaseUnavailable):
        read(batches)
    assert value(server, "1")[0] == 1


def test_many_ask_at_once_and_leave_no_session_behind(server: Server) -> None:
    with (
        server.source.stream(question("select 1 as n")) as (_, one),
        server.source.stream(question("select 2 as n")) as (_, other),
    ):
        assert [next(one)["n"][0].as_py(), next(other)["n"][0].as_py()] == [1, 2]
    server.run("create table kept (n int)")
    server.run("drop table kept")  # would wait for a transaction that is still open
