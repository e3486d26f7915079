"""Rows that are copied are the rows that Postgres tells back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightshift.data import Database, Transaction, connect
from nightshift.errors import DatabaseError, DatabaseUnavailable
from nightshift.local import session
from nightshift.tables import Encoded, encode

SCHEMA = pa.schema(
    [
        ("small", pa.int16()),
        ("name", pa.string()),
        ("number", pa.int32()),
        ("moment", pa.timestamp("us", "UTC")),
        ("score", pa.float64()),
        ("label", pa.string()),
    ]
)
TABLE = """
create table copied (
    small int2, name text, number int4, moment timestamptz, score float8, label text,
    place bigint generated always as identity
);
grant select, insert on copied to nightshift_writer;
"""

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
ROW = st.tuples(
    st.integers(-(2**15), 2**15 - 1),
    st.none() | TEXT,
    st.integers(-(2**31), 2**31 - 1),
    st.datetimes(timezones=st.just(UTC)),
    st.floats(),
    st.none() | TEXT,
)


@pytest.fixture
def table(database_url: str) -> Iterator[Database]:
    """A database with an empty table ``copied``."""
    with session(database_url) as connection:
        connection.exec_driver_sql(TABLE)
    database = connect(database_url)
    yield database
    database.close()


def batch(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else [()] * len(SCHEMA)
    arrays = [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)]
    return pa.record_batch(arrays, SCHEMA)


def told(tx: Transaction) -> list[tuple[Any, ...]]:
    """The rows in the order they came: a table alone promises none once space is used again."""
    query = f"select {', '.join(SCHEMA.names)} from public.copied order by place"
    return [tuple(row) for row in tx._connection.exec_driver_sql(query)]


class _Undone(Exception):
    """Leaves the table empty."""


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        alike = math.isnan(one) and math.isnan(other)
        return alike or (one == other and math.copysign(1, one) == math.copysign(1, other))
    return bool(one == other)


@given(rows=st.lists(ROW, max_size=20), cut=st.integers(0, 20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_rows_come_back_as_they_were(
    table: Database, rows: list[tuple[Any, ...]], cut: int
) -> None:
    whole = batch(rows)
    pieces = [encode(whole.slice(0, cut)), encode(whole.slice(cut))]
    with suppress(_Undone), table.transaction() as tx:
        assert tx.copy("public.copied", SCHEMA.names, pieces) == len(rows)
        found = told(tx)
        raise _Undone
    assert len(found) == len(rows)
    for row, other in zip(rows, found, strict=True):
        assert all(map(same, row, other)), (row, other)


def test_other_types_and_nulls_are_refused() -> None:
    with pytest.raises(TypeError, match="column 'day' is date32"):
        encode(pa.record_batch({"day": pa.array([None], pa.date32())}))
    with pytest.raises(ValueError, match="column 'number' has 1 nulls"):
        encode(pa.record_batch({"number": pa.array([1, None], pa.int32())}))


ONE = (1, "one", 1, datetime(2026, 1, 1, tzinfo=UTC), 0.5, None)


def test_what_postgres_refuses_is_told_and_undone(table: Database) -> None:
    good, bad = encode(batch([ONE])), encode(batch([(1, "\0", *ONE[2:])]))

    def copy(*rows: Encoded) -> None:
        with table.transaction() as tx:
            for some in rows:
                tx.copy("public.copied", SCHEMA.names, [some])

    with pytest.raises(DatabaseError, match=r"invalid byte sequence.*22021"):
        copy(good, bad)
    copy(good)
    with table.transaction() as tx:
        assert told(tx) == [ONE]


def test_a_connection_that_is_lost_is_an_outage(table: Database, database_url: str) -> None:
    rows = encode(batch([ONE]))

    def lose() -> None:
        with table.transaction() as tx:
            tx.copy("public.copied", SCHEMA.names, [rows])
            with session(database_url) as connection:
                connection.exec_driver_sql(
                    "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                    " where datname = current_database() and pid <> pg_backend_pid()"
                )
            tx.copy("public.copied", SCHEMA.names, [rows])

    with pytest.raises(DatabaseUnavailable, match="cannot reach Postgres"):
        lose()
    with table.transaction() as tx:
        assert told(tx) == []
