"""What downstream reads: the committed contract is the database's, and the page tells it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from nightshift.family import ModelFamily
from nightshift.local import session

HOME = Path(__file__).resolve().parents[3]
COMMITTED = HOME / "sql" / "contract.json"
PAGE = HOME / "docs" / "downstream.md"
TASKS: tuple[str, ...] = get_args(ModelFamily.model_fields["task"].annotation)
RENEW = "RENEW_CONTRACT=1 .venv/bin/python -m pytest tests/integration/data/test_contract.py"

VIEWS = """
select c.relname as view, obj_description(c.oid, 'pg_class') as comment,
       a.attname as column, format_type(a.atttypid, a.atttypmod) as type,
       col_description(c.oid, a.attnum) as said
from pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
where c.relkind = 'v' and c.relnamespace = 'public'::regnamespace
  and has_table_privilege('nightshift_reader', c.oid, 'select')
order by c.relname, a.attnum
"""


@pytest.fixture
def contract(database_url: str) -> dict[str, Any]:
    """Every view that readers may read, with a typed view for each task."""
    with session(database_url) as connection:
        connection.exec_driver_sql("set role nightshift_writer")
        for task in TASKS:
            connection.exec_driver_sql(f"select nightshift.show_family('{task}', '{task}')")
        rows = connection.exec_driver_sql(VIEWS).all()
        version = connection.exec_driver_sql("select version from contract").scalar_one()
    views: dict[str, Any] = {}
    for view, comment, column, kind, said in rows:
        found = views.setdefault(view, {"comment": comment, "columns": {}})
        found["columns"][column] = {"type": kind, "comment": said}
    return {"version": version, "views": views}


def test_the_views_are_those_of_the_committed_contract(contract: dict[str, Any]) -> None:
    committed = json.loads(COMMITTED.read_text()) if COMMITTED.exists() else {}
    if os.environ.get("RENEW_CONTRACT") and contract != committed:
        assert contract["version"] != committed.get("version"), "raise the version first"
        COMMITTED.write_text(json.dumps(contract, indent=2) + "\n")
        PAGE.write_text(_with_tables(PAGE.read_text(), contract))
        return
    assert contract == committed, (
        "What readers rely on has changed. Where their queries run as before, raise the second"
        " number of the view contract in your migration, otherwise the first, and say so in"
        f" CHANGELOG.md. Then renew sql/contract.json and docs/downstream.md: {RENEW}"
    )


def test_the_page_tells_every_view_and_column(contract: dict[str, Any]) -> None:
    page = PAGE.read_text()
    assert page == _with_tables(page, contract), f"renew it: {RENEW}"


def test_every_column_says_what_it_holds(contract: dict[str, Any]) -> None:
    silent = [
        f"{view}.{column}"
        for view, told in contract["views"].items()
        for column, of in told["columns"].items()
        if not of["comment"]
    ]
    assert silent == []


def _with_tables(page: str, contract: dict[str, Any]) -> str:
    tables = "\n\n".join(_table(view, told) for view, told in contract["views"].items())
    told = f"<!-- contract -->\nVersion {contract['version']}.\n\n{tables}\n<!-- /contract -->"
    return re.sub(r"<!-- contract -->.*<!-- /contract -->", lambda _: told, page, flags=re.DOTALL)


def _table(view: str, told: dict[str, Any]) -> str:
    lines = [f"### `{view}`", "", told["comment"], "", "| column | type | |", "|---|---|---|"]
    for column, of in told["columns"].items():
        lines.append(f"| `{column}` | {of['type']} | {of['comment']} |")
    return "\n".join(lines)
