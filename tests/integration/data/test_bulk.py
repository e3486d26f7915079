"""Bulk transactions through ADBC, as the server sees them."""

from __future__ import annotations

import pyarrow as pa
import pytest
from sqlalchemy import make_url
from tests.waiting import until

from nightshift.data import Database
from nightshift.errors import DatabaseError
from nightshift.local import Postgres, session

ROWS = pa.table({"x": [1, 2]})
EVENT = "insert into nightshift.events (happened_at, code, detail) values (now(), 'e', '{}')"


def test_postgres_has_nothing_to_warn_of(postgres: Postgres, database_url: str) -> None:
    """Such as a transaction that is begun in a transaction: each collection of labels did so."""
    database = Database(database_url)
    with database.bulk() as bulk:
        bulk.append("incoming", ROWS)
        bulk.run("insert into incoming select :x", {"x": 3})
        bulk.append("more", ROWS)
        assert bulk.read("select count(*) as rows from incoming, more").to_pylist() == [{"rows": 6}]
        bulk.run("drop table incoming")
    with pytest.raises(DatabaseError, match="division by zero"):
        append_and(database, "select 1 / 0")
    with database.bulk() as bulk:
        assert bulk.read("select 1 as one").num_rows == 1
    database.close()
    assert warnings(postgres, database_url) == []


def test_what_is_appended_belongs_to_the_transaction(database_url: str) -> None:
    database = Database(database_url)
    with pytest.raises(DatabaseError, match="division by zero"):
        append_and(database, EVENT, "select 1 / 0")
    with database.bulk() as bulk:
        assert bulk.read("select * from nightshift.events").num_rows == 0
    append_and(database, EVENT)
    with database.bulk() as bulk:
        assert bulk.read("select * from nightshift.events").num_rows == 2
    database.close()


def append_and(database: Database, *statements: str) -> None:
    """An event, rows that are appended, and statements, all in one transaction."""
    with database.bulk() as bulk:
        bulk.run(EVENT)
        bulk.append("incoming", ROWS)
        for statement in statements:
            bulk.run(statement)


def warnings(postgres: Postgres, url: str) -> list[str]:
    """What the server's log says of a database; its end is there once our own word is."""
    with session(url) as connection:
        connection.exec_driver_sql("do $$ begin raise warning 'the last word'; end $$")
    of_this = f"@{make_url(url).database} WARNING:"

    def said() -> list[str]:
        files = (postgres.data / "log").glob("*.log")
        lines = [line for file in files for line in file.read_text().splitlines()]
        return [line for line in lines if of_this in line]

    until(lambda: any("the last word" in line for line in said()))
    return [line for line in said() if "the last word" not in line]
