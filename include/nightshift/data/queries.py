"""The named queries of ``sql/queries``."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from sqlalchemy import TextClause, text

SQL = files("nightshift_sql")
"""The folder ``sql`` of the project, wherever it is installed."""


@cache
def queries() -> dict[str, str]:
    """Every named query, ``<room>.<query>`` to SQL, from ``sql/queries``.

    A query starts at a line ``-- name: <query>`` and ends where the next one starts.
    """
    named = {}
    files_of_rooms = [file for file in (SQL / "queries").iterdir() if file.name.endswith(".sql")]
    for file in sorted(files_of_rooms, key=lambda file: file.name):
        room = file.name.removesuffix(".sql")
        for block in re.split(r"^-- name: ", file.read_text(), flags=re.MULTILINE)[1:]:
            name, _, body = block.partition("\n")
            named[f"{room}.{name.strip()}"] = body.strip().removesuffix(";")
    return named


def query_text(name: str) -> str:
    """The SQL of one named query, for a driver that SQLAlchemy does not know."""
    return queries()[name]


@cache
def named_query(name: str) -> TextClause:
    """One named query, ready to execute."""
    return text(query_text(name))
