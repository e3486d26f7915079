"""The named queries of ``sql/queries``."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from sqlalchemy import TextClause, text

SQL = Path(__file__).resolve().parents[3] / "sql"


@cache
def queries() -> dict[str, str]:
    """Every named query, ``<room>.<query>`` to SQL, from ``sql/queries``.

    A query starts at a line ``-- name: <query>`` and ends where the next one starts.
    """
    found = {}
    for file in sorted((SQL / "queries").glob("*.sql")):
        for block in re.split(r"^-- name: ", file.read_text(), flags=re.MULTILINE)[1:]:
            name, _, body = block.partition("\n")
            found[f"{file.stem}.{name.strip()}"] = body.strip().removesuffix(";")
    return found


def query_text(name: str) -> str:
    """The SQL of one named query, for a driver that SQLAlchemy does not know."""
    return queries()[name]


@cache
def named_query(name: str) -> TextClause:
    """One named query, ready to execute."""
    return text(query_text(name))
