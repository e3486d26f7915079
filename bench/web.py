"""``make bench-web``: the fleet of 5,000 models with a year of history, as a browser meets it.

An embedded Postgres is filled with what 365 nights of 5,000 models leave behind, and the pages are
served by uvicorn without Airflow, to a reader who may see everything.
"""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import Connection, text

from nightshift.embedded import Postgres, session

NIGHTS = 365


def fill(server: Postgres, name: str) -> None:
    """Write a year of history into a migrated database, night by night."""
    blocks = dict(
        re.findall(r"^-- name: (\w+)\n(.*?)(?=^-- name|\Z)", _SQL.read_text(), re.MULTILINE | re.DOTALL)
    )
    with session(server.url(name)) as connection:
        _run(connection, blocks["before"])
        for number in range(1, NIGHTS + 1):
            _run(connection, blocks["night"], n=number)
        _run(connection, blocks["after"])


_SQL = Path(__file__).with_suffix(".sql")


def _run(connection: Connection, block: str, **parameters: int) -> None:
    for statement in block.strip().removesuffix(";").split(";\n"):
        connection.execute(
            text(statement.replace("::", "\\:\\:")), parameters if ":n" in statement else {}
        )
