"""Postgres as a source: queries of authors over ADBC, read only, whatever stands before it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import URL, make_url

from nightshift.data import LOCK_TIMEOUT, libpq_uri, our_nouns
from nightshift.errors import (
    WITHHELD,
    ConnectionFault,
    DatabaseError,
    DatabaseUnavailable,
    SetupError,
    SourceError,
)
from nightshift.sources.base import Question, Source
from nightshift.sources.connections import AirflowConnection
from nightshift.sources.queries import read_query

# What Airflow's hooks keep beside a connection for themselves: of its provider for Postgres, and of
# all that speak SQL. Everything else there is a parameter of libpq.
_FOR_HOOKS = frozenset(
    {
        "iam",
        "redshift",
        "redshift-serverless",
        "cursor",
        "cluster-identifier",
        "workgroup-name",
        "aws_conn_id",
        "azure_conn_id",
        "azure_oauth_scope",
        "azure_tenant_id",
        "region_name",
        "sqlalchemy_scheme",
        "sqlalchemy_query",
        "sqlalchemy_engine",
        "placeholder",
        "escape_word_format",
        "escape_column_names",
        "dialect",
        "log_sql",
        "enable_log_db_messages",
        "connector_version",
        "__extra__",
    }
)
_LEGACY = "extra__postgres__"

# Set in every transaction, after connecting and for it alone: a pooler refuses what it does not
# know at connecting, and hands a session from one client to the next.
_OURS = (
    "set transaction read only",
    f"set local lock_timeout = '{LOCK_TIMEOUT}'",
    "set local timezone = 'UTC'",
    "set local client_encoding = 'UTF8'",
)

# What is wrong with a statement, as against the values that it met.
_ABOUT_THE_QUERY = "42"

# The moments that Arrow and Python can both tell, in microseconds. ADBC turns later ones, infinity
# among them, into earlier ones without a word.
_YEARS = (-62_135_596_800_000_000, 253_402_300_799_999_999)


def url_of(name: str, connection: AirflowConnection) -> str:
    """An Airflow connection as a SQLAlchemy URL for psycopg2.

    A host that is a path is the folder of a Unix socket. Extras are libpq parameters (``sslmode``,
    ``options``, ``host``); they win over the fields, as in a libpq URI. Those that Airflow's hooks
    keep for themselves are left out, and ``search_path`` becomes one of the options.

    Raises
    ------
    SetupError
        An extra is a list or nested names, which no parameter of libpq is.
    """
    query = {
        key.removeprefix(_LEGACY): _text(name, key, value)
        for key, value in connection.extra.items()
        if key.removeprefix(_LEGACY) not in _FOR_HOOKS and value not in (None, "")
    }
    if path := query.pop("search_path", None):
        escaped = path.replace("\\", "\\\\").replace(" ", "\\ ")
        query["options"] = f"{query.get('options', '')} -c search_path={escaped}".strip()
    host = query.pop("host", None) or connection.host
    if host and host.startswith("/"):
        query["host"] = host
        host = None
    port = query.pop("port", None) or connection.port
    if not str(port or 0).isdecimal():
        raise SetupError(f"connection {name!r}: port is {port!r}; write a number")
    schema = query.pop("dbname", None) or query.pop("database", None) or connection.schema
    url = URL.create(
        "postgresql+psycopg2",
        username=query.pop("user", None) or connection.login,
        password=query.pop("password", None) or connection.password,
        host=host,
        port=int(port) if port else None,
        database=schema,
        query=query,
    )
    return url.render_as_string(hide_password=False)


def _text(name: str, key: str, value: object) -> str:
    if isinstance(value, dict | list):
        raise SetupError(
            f"connection {name!r}: its extra {key!r} holds several values, and is no parameter that"
            " Postgres' driver takes; leave it out or write one value"
        )
    return str(int(value)) if isinstance(value, bool) else str(value)


def open_url(url: str) -> Source:
    """The source at a SQLAlchemy URL for psycopg2."""
    return PostgresSource(url)


class PostgresSource:
    """A Postgres, or what speaks as one. Each question has a session and a transaction of its own.

    The session keeps what the connection says (``options``, ``search_path``); that it is read-only,
    tells moments in UTC, and does not wait long for locks is ours.
    """

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._uri = libpq_uri(self._url, **_patience(self._url))
        # What learned the server's types, which takes ADBC longer than most queries take; sessions
        # are cloned from it, and it has none itself.
        self._origin: adbc.Connection | None = None
        self._opening = threading.Lock()

    def __str__(self) -> str:
        place = {key: value for key, value in self._url.query.items() if key in ("host", "port")}
        return self._url.set(query=place).render_as_string(hide_password=True)

    def ask(self, question: Question) -> pa.Table:
        """See :class:`~nightshift.sources.base.Source`."""
        with self.stream(question) as (schema, batches):
            return pa.Table.from_batches(batches, schema)

    @contextmanager
    def stream(self, question: Question) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
        """See :class:`~nightshift.sources.base.Source`."""
        with self._cursor(question) as cursor:
            with self._nouns(question):
                cursor.execute(_bound(question))
                # The reader that fetch_record_batch() gives away raises Arrow's errors, by which a
                # lost connection cannot be told from a query that fails.
                reader = cursor._results.reader  # noqa: SLF001
                schema = _plain_schema(reader.schema, question)
            yield schema, self._batches(iter(reader), schema, question)

    def columns(self, question: Question) -> pa.Schema:
        """See :class:`~nightshift.sources.base.Source`."""
        with self._cursor(question) as cursor, self._nouns(question):
            return _plain_schema(cursor.adbc_execute_schema(_bound(question)), question)

    def close(self) -> None:
        """See :class:`~nightshift.sources.base.Source`."""
        with self._opening:
            if self._origin is not None:
                self._origin.close()
                self._origin = None

    @contextmanager
    def _cursor(self, question: Question) -> Iterator[adbc.Cursor]:
        """A cursor of a new session, in a transaction that nothing is written in."""
        with self._nouns(question):
            session = self._session()
        try:
            with session.cursor() as cursor:
                with self._nouns(question):
                    for statement in _OURS:
                        cursor.execute(statement)
                yield cursor
        finally:
            session.close()

    def _session(self) -> adbc.Connection:
        with self._opening:
            if self._origin is None:
                self._origin = adbc.connect(self._uri)
                self._origin.adbc_connection.close()
            origin = self._origin
        return origin.adbc_clone()

    def _batches(
        self, batches: Iterator[pa.RecordBatch], schema: pa.Schema, question: Question
    ) -> Iterator[pa.RecordBatch]:
        while True:
            with self._nouns(question):
                batch = next(batches, None)
                if batch is None:
                    return
                plain = _plain_batch(batch, schema)
            _refuse_other_years(plain, question)
            yield plain

    @contextmanager
    def _nouns(self, question: Question) -> Iterator[None]:
        """What the source answers to a question, in our nouns."""
        try:
            with our_nouns(self):
                yield
        except DatabaseUnavailable:
            raise
        except ConnectionFault as error:
            raise SourceError(f"{question.where}: {error}") from error
        except DatabaseError as error:
            if question.discreet and not (error.sqlstate or "").startswith(_ABOUT_THE_QUERY):
                state = f" with SQLSTATE {error.sqlstate}" if error.sqlstate else ""
                raise SourceError(f"{question.where}: {self} refused{state}; {WITHHELD}") from None
            raise SourceError(f"{question.where}: {error}") from error
        except pa.ArrowException as error:
            raise SourceError(
                f"{question.where}: a column is of a type that cannot be read ({error}); cast it to"
                " text, a number or timestamptz"
            ) from error


def _patience(url: URL) -> Mapping[str, str]:
    return {} if "connect_timeout" in url.query else {"connect_timeout": "10"}


def _bound(question: Question) -> str:
    query = read_query(question.sql, tuple(question.moments))
    if query.faults:
        listed = "; ".join(f"line {fault.line}: {fault.message}" for fault in query.faults)
        raise SourceError(f"{question.where}: {listed}")
    return query.bound(question.moments)


def _plain_schema(schema: pa.Schema, question: Question) -> pa.Schema:
    return pa.schema([_plain_field(field, question) for field in schema])


def _plain_field(field: pa.Field, question: Question) -> pa.Field:
    """A column as we take it: decimals of any precision are float64."""
    own_type = (field.metadata or {}).get(b"POSTGRESQL:type", b"").decode()
    if own_type == "money":  # comes as a count of its smallest coins, and nothing says how small
        raise SourceError(
            f"{question.where}: column {field.name!r} is money; write"
            f" cast(cast({field.name} as numeric) as double precision) as {field.name}"
        )
    return pa.field(field.name, pa.float64()) if _is_decimal(field.type) else field


def _is_decimal(kind: pa.DataType) -> bool:
    opaque: Any = kind
    return isinstance(kind, pa.OpaqueType) and opaque.type_name == "numeric"


def _plain_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        column.storage.cast(pa.float64()) if _is_decimal(column.type) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _refuse_other_years(rows: pa.RecordBatch, question: Question) -> None:
    for field, column in zip(rows.schema, rows.columns, strict=True):
        if not pa.types.is_timestamp(field.type):
            continue
        span = pc.min_max(column.cast(pa.int64())).as_py()
        if span["min"] is not None and (span["min"] < _YEARS[0] or span["max"] > _YEARS[1]):
            raise SourceError(
                f"{question.where}: column {field.name!r} has moments outside of the years 1 to"
                " 9999, or infinity; write null for a moment that is not known"
            )
