"""What comes in, as a port: what a source answers, which kinds there are, and where one is opened.

Another kind is a module beside this one, with ``url_of`` and ``open_url``, and a row in
:data:`KINDS`; its drivers are an extra of this package.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Protocol, cast

import pyarrow as pa

from nightshift.errors import SetupError
from nightshift.sources.connections import AirflowConnection
from nightshift.wording import listed, nearest


@dataclass(frozen=True)
class Question:
    """A query that an author wrote, with the moments that it is asked about.

    Parameters
    ----------
    sql
        One query; ``:as_of`` and ``:since`` are moments in it, see :mod:`nightshift.sources`.
    moments
        The value of each parameter that the query may use.
    where
        What is asked, as told where it fails: the family, the file, the connection.
    discreet
        The source may name values when it refuses, and these must not be repeated. What is wrong
        with the query itself is told all the same.
    """

    sql: str
    moments: Mapping[str, datetime]
    where: str
    discreet: bool = False


class Source(Protocol):
    """Where features and labels come from. Nothing can be written through it.

    Every method raises SourceError where the query, its result or a setting of the connection is
    wrong, and DatabaseUnavailable in an outage. Moments come in UTC, numbers of any precision as
    numbers of Arrow.
    """

    def ask(self, question: Question) -> pa.Table:
        """The whole result."""

    def stream(
        self, question: Question
    ) -> AbstractContextManager[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
        """The columns, and the rows as they come, all of one moment: for more than fits memory.

        Raises as the others do, while rows are read as well.
        """

    def columns(self, question: Question) -> pa.Schema:
        """The columns that the result would have; no row is computed."""

    def close(self) -> None:
        """Give back what is kept open."""

    def __str__(self) -> str:
        """Where it is, without passwords."""


class _KindModule(Protocol):
    """What the module of a kind has."""

    def url_of(self, name: str, connection: AirflowConnection) -> str:
        """The URL that an Airflow connection means; its scheme is the kind's."""

    def open_url(self, url: str) -> Source:
        """The source at a URL. Nothing is connected before the first question."""


@dataclass(frozen=True)
class Kind:
    """A kind of source.

    Parameters
    ----------
    module
        Where it is, with ``url_of`` and ``open_url``; imported when one is opened.
    scheme
        What its URLs begin with, before ``+`` and ``://``.
    extra
        The extra of this package that brings its drivers; None where they are always there.
    """

    module: str
    scheme: str
    extra: str | None = None


KINDS: Mapping[str, Kind] = {
    "postgres": Kind("nightshift.sources.postgres", "postgresql"),
}
"""Every kind, by the type of its Airflow connections."""


def url_of(name: str, connection: AirflowConnection) -> str:
    """The URL of the source that an Airflow connection leads to.

    Raises
    ------
    SetupError
        No kind of source has this type, or its extra is not installed.
    """
    return _module(name, connection.conn_type).url_of(name, connection)


@cache
def open_source(name: str, url: str) -> Source:
    """The source at ``url``, which is the connection ``name``; one for each process."""
    scheme = url.partition(":")[0].partition("+")[0]
    conn_type = next((key for key, kind in KINDS.items() if kind.scheme == scheme), scheme)
    return _module(name, conn_type).open_url(url)


def _module(name: str, conn_type: str) -> _KindModule:
    if conn_type not in KINDS:
        raise SetupError(
            f"connection {name!r} is of type {conn_type!r}{nearest(conn_type, KINDS)}, which is no"
            f" kind of source; known: {listed(map(_listed, KINDS))}"
        )
    kind = KINDS[conn_type]
    try:
        return cast("_KindModule", importlib.import_module(kind.module))
    except ImportError as error:
        if kind.extra is None:
            raise
        raise SetupError(
            f"connection {name!r} is of type {conn_type!r}, and {error.name} is not installed:"
            f" pip install 'nightshift[{kind.extra}]'"
        ) from error


def _listed(conn_type: str) -> str:
    extra = KINDS[conn_type].extra
    return f"{conn_type} (nightshift[{extra}])" if extra else conn_type
