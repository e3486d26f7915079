"""Postgres: transactions, named queries, bulk Arrow in and out, migrations, the audit trail.

The one place that knows the drivers: SQLAlchemy over psycopg2 for control and for copying
predictions, ADBC for other bulk. Their errors leave as :class:`~nightshift.errors.DatabaseError`
or its child :class:`~nightshift.errors.DatabaseUnavailable`, which is worth another try.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import cache
from typing import Any, cast

import adbc_driver_postgresql.dbapi as adbc
import psycopg2
import pyarrow as pa
from sqlalchemy import Connection, Row, create_engine, make_url, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError

from nightshift.data.drivers import libpq_uri, our_nouns
from nightshift.data.queries import named_query
from nightshift.documents import Document
from nightshift.errors import RowsRetired
from nightshift.tables import Encoded, enclosed
from nightshift.wording import moment

LOCK_TIMEOUT = "30s"
"""How long a statement waits for a lock that somebody else holds."""

# NUL as JSON spells it, after an even number of backslashes.
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")

# Bytes that are sent at once. Between two such pieces the driver may have to wait until another
# thread, one that scores, lets go of Python.
_AT_ONCE = 8 * 2**20

_POSITIONAL = postgresql.base.PGDialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]


class Transaction:
    """One open transaction. Queries are named ``<room>.<query>``, as in ``sql/queries``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def rows(self, name: str, /, **parameters: Any) -> Sequence[Row[Any]]:
        """Every row of a query."""
        return self._connection.execute(named_query(name), parameters).all()

    def maybe(self, name: str, /, **parameters: Any) -> Row[Any] | None:
        """The only row, or None."""
        return self._connection.execute(named_query(name), parameters).one_or_none()

    def one(self, name: str, /, **parameters: Any) -> Row[Any]:
        """The only row of a query that always has one."""
        return self._connection.execute(named_query(name), parameters).one()

    def run(self, name: str, /, **parameters: Any) -> int:
        """Run a statement; the number of rows it touched."""
        return self._connection.execute(named_query(name), parameters).rowcount

    def copy(self, table: str, columns: Sequence[str], rows: Sequence[Encoded]) -> int:
        """Append rows to a table; how many."""
        statement = f"copy {table} ({', '.join(columns)}) from stdin (format binary)"
        driver: Any = self._connection.connection.driver_connection
        with driver.cursor() as cursor:
            try:
                cursor.copy_expert(statement, enclosed(rows), _AT_ONCE)
            except psycopg2.Error as error:
                lost = bool(driver.closed)
                if lost:
                    self._connection.invalidate(error)
                raise DBAPIError(statement, None, error, connection_invalidated=lost) from error
        return sum(some.rows for some in rows)

    def record(
        self,
        code: str,
        /,
        *,
        now: datetime,
        family: str | None = None,
        as_of: datetime | None = None,
        **detail: Any,
    ) -> None:
        """Append a line to the audit trail; it is kept if this transaction is."""
        self.run(
            "database.record_event",
            happened_at=now,
            code=code,
            family=family,
            as_of=as_of,
            detail=as_json(detail),
        )

    def require_rows(self, family: str, start: datetime, end: datetime) -> None:
        """Raise RowsRetired if a night of a family in (start, end] was published and dropped since.

        Whoever reads prediction rows asks first: a figure over what is left would be wrong.
        """
        gone = self.one("database.retired_nights", family=family, start=start, end=end)
        if gone.nights:
            raise RowsRetired(
                f"{family}: predictions of {gone.nights} published nights up to"
                f" {moment(gone.last)} were retired; those before {moment(gone.ends)} are"
                " gone. Ask about later nights; keep_predictions in include/nightshift.yaml says"
                " how long predictions are kept"
            )


class Bulk:
    """One ADBC transaction: Arrow in, Arrow out."""

    def __init__(self, connection: adbc.Connection) -> None:
        self._connection = connection

    def read(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run a query with ``:named`` parameters; its result as an Arrow table."""
        statement, values = positional(sql, parameters or {})
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetch_arrow_table()

    @contextmanager
    def stream(self, sql: str) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
        """Run a query without parameters, of which Postgres sends row by row; as batches."""
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            # The reader of fetch_record_batch() raises Arrow's errors, which tell less.
            reader = cursor._results.reader  # noqa: SLF001
            yield reader.schema, iter(reader)

    def run(self, sql: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Run a statement."""
        statement, values = positional(sql, parameters or {})
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values or None)

    def append(self, table: str, rows: pa.Table | pa.RecordBatchReader) -> None:
        """Copy rows into a temporary table that is made from their schema."""
        with self._connection.cursor() as cursor:
            cursor.adbc_ingest(table, rows, mode="create", temporary=True)
        # The driver leaves the end of a copy unread and takes the transaction for ended: it would
        # begin another, of which Postgres warns. What it asks for itself it reads to the end.
        assert self._connection.adbc_current_db_schema is not None


class Database:
    """A Postgres database, entered as ``role``.

    Parameters
    ----------
    url
        A SQLAlchemy URL for psycopg2.
    role
        The role that every session takes on; None keeps the one that logs in.
    read_only
        Refuse every write, as for pages.
    """

    def __init__(
        self, url: str, *, role: str | None = "nightshift_writer", read_only: bool = False
    ) -> None:
        self._url = make_url(url)
        settings = {
            "timezone": "UTC",
            "lock_timeout": LOCK_TIMEOUT,
            "default_transaction_read_only": "on" if read_only else None,
            "role": role,
            # A source's own; ours are not to be shadowed by what somebody makes elsewhere.
            "search_path": "pg_catalog,public,pg_temp" if role else None,
        }
        ours = " ".join(f"-c {key}={value}" for key, value in settings.items() if value)
        options = f"{self._url.query.get('options', '')} {ours}".strip()  # of two, the later holds
        self._engine = create_engine(
            self._url,
            pool_size=2,
            pool_pre_ping=True,
            connect_args={"options": options, "connect_timeout": 10},
        )
        self._libpq_uri = libpq_uri(self._url, options=options)
        # What learned the server's types, which takes ADBC longer than most queries take; sessions
        # are cloned from it, and it has none itself.
        self._origin: adbc.Connection | None = None
        self._opening = threading.Lock()
        self._idle: list[adbc.Connection] = []

    def __str__(self) -> str:
        return self._url.render_as_string(hide_password=True)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A transaction that is kept when the block ends, and undone when it raises."""
        with our_nouns(self), self._engine.begin() as connection:
            yield Transaction(connection)

    @contextmanager
    def reading(self, patience: timedelta) -> Iterator[Transaction]:
        """A read-only transaction that sees one moment; a statement that lasts longer is ended."""
        limit = int(patience / timedelta(milliseconds=1))
        as_one = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with (
            our_nouns(self),
            self._engine.connect().execution_options(**as_one) as connection,
            connection.begin(),
        ):
            connection.exec_driver_sql(f"set local statement_timeout = {limit}")
            yield Transaction(connection)

    @contextmanager
    def bulk(self) -> Iterator[Bulk]:
        """An ADBC transaction that is kept when the block ends, and undone when it raises."""
        with our_nouns(self):
            connection = self._idle_or_new()
            try:
                yield Bulk(connection)
                connection.commit()
            except BaseException:
                # Whatever happened to it, the next caller gets a new one.
                connection.close()
                raise
            self._idle.append(connection)

    def _idle_or_new(self) -> adbc.Connection:
        with suppress(IndexError):  # asked by several threads, so it is tried rather than looked at
            return self._idle.pop()
        with self._opening:
            if self._origin is None:
                self._origin = adbc.connect(self._libpq_uri)
                self._origin.adbc_connection.close()
            origin = self._origin
        return origin.adbc_clone()

    @contextmanager
    def administration(self) -> Iterator[Connection]:
        """A bare transaction in which SQL is sent as it is written, for migrations."""
        with self._engine.execution_options(no_parameters=True).begin() as connection:
            yield connection

    def close(self) -> None:
        """Give every connection back to the server."""
        self._engine.dispose()
        while self._idle:
            self._idle.pop().close()
        if self._origin is not None:
            self._origin.close()
            self._origin = None


@cache
def connect(
    url: str, *, role: str | None = "nightshift_writer", read_only: bool = False
) -> Database:
    """The database at ``url``; one pool for each process."""
    return Database(url, role=role, read_only=read_only)


def as_json(value: Any) -> str:
    """JSON that Postgres takes: moments as ISO 8601, no NaN, a replacement character for NUL."""
    return _NUL.sub(r"\1\\ufffd", json.dumps(value, default=_plain, allow_nan=False))


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Document):
        return value.stored
    raise TypeError(f"{type(value).__name__} cannot be stored as JSON")


def positional(sql: str, parameters: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """``:named`` parameters as ``$1`` and their values in order, as libpq wants them."""
    compiled = text(sql).compile(dialect=_POSITIONAL)
    names = cast("list[str]", getattr(compiled, "positiontup", None) or [])
    return str(compiled), [parameters[name] for name in names]
