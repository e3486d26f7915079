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
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, cast
from urllib.parse import quote, urlencode

import adbc_driver_manager
import adbc_driver_postgresql.dbapi as adbc
import psycopg2
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import URL, Connection, Row, create_engine, make_url, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from nightshift.data.queries import named_query
from nightshift.errors import WITHHELD, DatabaseError, DatabaseUnavailable, RowsRetired, SourceError
from nightshift.tables import Encoded, enclosed
from nightshift.wording import moment

LOCK_TIMEOUT = "30s"
"""How long a statement waits for a lock that somebody else holds."""

# Classes of SQLSTATE after which the same statement may well succeed. First those of a connection
# that is lost or refused; then serialisation, deadlock, a lock or a statement that took too long.
_LOST = re.compile(r"08...|57P0.|53300")
_BUSY = re.compile(r"40001|40P01|55P03|57014")

# What is wrong with a statement, as against the values that it met.
_ABOUT_THE_QUERY = "42"

# NUL as JSON spells it, after an even number of backslashes.
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")

# The moments that Arrow and Python can both tell, in microseconds. ADBC turns later ones, infinity
# among them, into earlier ones without a word.
_YEARS = (-62_135_596_800_000_000, 253_402_300_799_999_999)

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
        gone = self.one("database.retired", family=family, start=start, end=end)
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
        """Run a query without parameters; its columns, and its rows as they come.

        Rows with parameters would be gathered whole by the driver before the first is seen.
        """
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            # The reader that fetch_record_batch() gives away raises Arrow's errors, by which a
            # lost connection cannot be told from a query that fails.
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


class Database:
    """A Postgres database, entered as ``role``.

    Parameters
    ----------
    url
        A SQLAlchemy URL for psycopg2.
    role
        The role that every session takes on; None keeps the one that logs in.
    read_only
        Refuse every write, as for sources.
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
        options = " ".join(f"-c {key}={value}" for key, value in settings.items() if value)
        self._engine = create_engine(
            self._url,
            pool_size=2,
            pool_pre_ping=True,
            connect_args={"options": options, "connect_timeout": 10},
        )
        self._libpq_uri = _libpq_uri(self._url, options)
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
        with _nouns(self), self._engine.begin() as connection:
            yield Transaction(connection)

    @contextmanager
    def reading(self, patience: timedelta) -> Iterator[Transaction]:
        """A read-only transaction that sees one moment; a statement that lasts longer is ended."""
        limit = int(patience / timedelta(milliseconds=1))
        as_one = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with (
            _nouns(self),
            self._engine.connect().execution_options(**as_one) as connection,
            connection.begin(),
        ):
            connection.exec_driver_sql(f"set local statement_timeout = {limit}")
            yield Transaction(connection)

    @contextmanager
    def bulk(self) -> Iterator[Bulk]:
        """An ADBC transaction that is kept when the block ends, and undone when it raises."""
        with _nouns(self):
            connection = self._taken()
            try:
                yield Bulk(connection)
                connection.commit()
            except BaseException:
                # Whatever happened to it, the next caller gets a new one.
                connection.close()
                raise
            self._idle.append(connection)

    def _taken(self) -> adbc.Connection:
        with suppress(IndexError):  # asked by several threads, so it is tried rather than looked at
            return self._idle.pop()
        with self._opening:
            if self._origin is None:
                self._origin = adbc.connect(self._libpq_uri)
                self._origin.adbc_connection.close()
            origin = self._origin
        return origin.adbc_clone()

    def ask(
        self, sql: str, parameters: Mapping[str, Any], *, told_as: str, discreet: bool = False
    ) -> pa.Table:
        """Run a query that a user wrote, on a source; ``told_as`` names it where it fails.

        Parameters
        ----------
        discreet
            The source may name values when it refuses, and these must not be repeated. What is
            wrong with the query itself is told all the same.

        Raises
        ------
        SourceError
            The source refused the query, or told a moment outside of the years 1 to 9999.
        DatabaseUnavailable
            The source cannot be reached: an outage stays one.
        """
        with self._asked(told_as, discreet), self.bulk() as bulk:
            rows = bulk.read(sql, parameters)
        _refuse_other_years(rows, told_as)
        return rows

    @contextmanager
    def ask_for_stream(
        self,
        sql: str,
        parameters: Mapping[str, datetime],
        *,
        told_as: str,
        discreet: bool = False,
    ) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
        """:meth:`ask` for more rows than fit into memory: the columns, and the rows as they come.

        All rows are of one moment. Raises as :meth:`ask`, while rows are read as well.
        """
        with self.bulk() as bulk, ExitStack() as until_read:
            with self._asked(told_as, discreet):
                schema, batches = until_read.enter_context(bulk.stream(inlined(sql, parameters)))
            yield schema, self._told_about(batches, told_as, discreet)

    def _told_about(
        self, batches: Iterator[pa.RecordBatch], told_as: str, discreet: bool
    ) -> Iterator[pa.RecordBatch]:
        while True:
            with self._asked(told_as, discreet):
                batch = next(batches, None)
            if batch is None:
                return
            _refuse_other_years(batch, told_as)
            yield batch

    @contextmanager
    def _asked(self, told_as: str, discreet: bool) -> Iterator[None]:
        """What a source answers to a user's query, in our nouns."""
        try:
            with _nouns(self):
                yield
        except DatabaseUnavailable:
            raise
        except DatabaseError as error:
            if discreet and not (error.sqlstate or "").startswith(_ABOUT_THE_QUERY):
                state = f" with SQLSTATE {error.sqlstate}" if error.sqlstate else ""
                raise SourceError(f"{told_as}: {self} refused{state}; {WITHHELD}") from None
            raise SourceError(f"{told_as}: {error}") from error
        except pa.ArrowException as error:
            raise SourceError(
                f"{told_as}: a column is of a type that cannot be read ({error}); cast it to text,"
                " a number or timestamptz"
            ) from error

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


def _refuse_other_years(rows: pa.Table | pa.RecordBatch, told_as: str) -> None:
    for field, column in zip(rows.schema, rows.columns, strict=True):
        if not pa.types.is_timestamp(field.type):
            continue
        told = pc.min_max(column.cast(pa.int64())).as_py()
        if told["min"] is not None and (told["min"] < _YEARS[0] or told["max"] > _YEARS[1]):
            raise SourceError(
                f"{told_as}: column {field.name!r} has moments outside of the years 1 to 9999,"
                " or infinity; write null for a moment that is not known"
            )


@cache
def connect(
    url: str, *, role: str | None = "nightshift_writer", read_only: bool = False
) -> Database:
    """The database at ``url``; one pool for each process."""
    return Database(url, role=role, read_only=read_only)


def as_json(value: Any) -> str:
    """JSON that Postgres takes: moments as ISO 8601, no NaN, a replacement character for NUL."""
    return _NUL.sub(r"\1\\ufffd", json.dumps(value, default=_iso, allow_nan=False))


def _iso(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot be stored as JSON")


def positional(sql: str, parameters: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """``:named`` parameters as ``$1`` and their values in order, as libpq wants them."""
    compiled = text(sql).compile(dialect=_POSITIONAL)
    names = cast("list[str]", getattr(compiled, "positiontup", None) or [])
    return str(compiled), [parameters[name] for name in names]


_SPACE = re.compile(r"(?:\s|;|--[^\n]*(?:\n|\Z)|/\*.*?\*/)+", re.DOTALL)
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|(\$\w*\$).*?\1|.", re.DOTALL)


def inlined(sql: str, moments: Mapping[str, datetime]) -> str:
    """A query with its ``:named`` moments written into it, without what may follow a query.

    Postgres streams the rows of such a query only where it is part of another statement: no
    parameter, no semicolon and no comment at its end is understood there.
    """
    told = {name: moment.astimezone(UTC).isoformat() for name, moment in moments.items()}
    query = text(sql)
    named = query.bindparams(**{name: told[name] for name in query.compile().params})
    written = str(named.compile(dialect=_POSITIONAL, compile_kwargs={"literal_binds": True}))
    return written[: _end(written)]


def _end(sql: str) -> int:
    """Where the last thing in a query ends that is neither space, comment nor semicolon."""
    place = end = 0
    while place < len(sql):
        space = _SPACE.match(sql, place)
        if space is not None:
            place = space.end()
            continue
        token = _QUOTED.match(sql, place)
        assert token is not None
        place = end = token.end()
    return end


@contextmanager
def _nouns(database: Database) -> Iterator[None]:
    """Drivers' errors as ours."""
    try:
        yield
    except NoConnectionFree as error:
        raise DatabaseUnavailable(f"{database}: every connection is in use. Try again") from error
    except DBAPIError as error:
        state = getattr(error.orig, "pgcode", None)
        raise _noun(database, state, str(error.orig), lost=error.connection_invalidated) from error
    except adbc_driver_manager.Error as error:
        raise _noun(database, error.sqlstate, str(error)) from error
    except OSError as error:  # while rows are fetched the driver may raise what is Arrow's
        if not str(error).startswith("[libpq]"):
            raise
        raise _noun(database, None, str(error)) from error


def _noun(
    database: Database, state: str | None, message: str, *, lost: bool = False
) -> DatabaseError:
    first = message.strip().splitlines()[0] if message.strip() else "no message"
    if state is None:
        lost |= "connect" in first or "closed" in first
    else:
        lost |= _LOST.fullmatch(state) is not None
    if lost:
        return DatabaseUnavailable(
            f"cannot reach Postgres at {database}: {first}. What was not committed is undone; run"
            " this step again. Is Postgres running? `nightshift up` starts the embedded one"
        )
    if state is not None and _BUSY.fullmatch(state):
        return DatabaseUnavailable(
            f"Postgres at {database} asks to try again: {first}. Nothing was changed. If it says so"
            " again, look in pg_stat_activity for what holds the lock or takes so long"
        )
    refused = DatabaseError(f"{database}: {first}" + (f" (SQLSTATE {state})" if state else ""))
    refused.sqlstate = state
    return refused


def _libpq_uri(url: URL, options: str) -> str:
    """For libpq, which takes a plus sign for itself, everything is percent-encoded.

    What it cannot read it repeats in its error, a password included.
    """
    login = ":".join(quote(part, safe="") for part in (url.username, url.password) if part)
    host = f"[{url.host}]" if url.host and ":" in url.host else url.host or ""
    at = f"{login}@{host}" if login else host
    place = f"{at}:{url.port}" if url.port else at
    query = urlencode({**url.query, "options": options}, doseq=True, quote_via=quote)
    return f"postgresql://{place}/{quote(url.database or '', safe='')}?{query}"
