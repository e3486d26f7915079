"""Migrations: forward from every earlier revision with rows in its tables, to what schema.sql says.

``sql/schema.sql`` is what all of them together make, to be read. It is renewed by::

    RENEW_SCHEMA=1 .venv/bin/python -m pytest tests/integration/data/test_migrations.py
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import make_url
from tests.integration.data.earlier_rows import CHAIN, ROWS

from nightshift import data, reports
from nightshift.local import session
from nightshift.local.embedded import binaries

SQL = Path(__file__).resolve().parents[3] / "sql"
SCHEMA = SQL / "schema.sql"
RENEW = "RENEW_SCHEMA=1 .venv/bin/python -m pytest tests/integration/data/test_migrations.py"
REVISIONS = sorted(file.name[:4] for file in (SQL / "migrations" / "versions").glob("*.sql"))

OURS = "('nightshift'::regnamespace, 'public'::regnamespace)"
CATALOGUES = {
    "schemas": "select nspname, nspowner::regrole::text, nspacl::text from pg_namespace"
    f" where oid in {OURS}",
    "relations": "select oid::regclass::text, relkind, relowner::regrole::text, relacl::text,"
    " relpersistence, relispartition, relrowsecurity, reloptions::text,"
    " obj_description(oid, 'pg_class'), pg_get_partkeydef(oid),"
    " case when relkind = 'v' then pg_get_viewdef(oid) end,"
    " case when relkind = 'i' then pg_get_indexdef(oid) end"
    f" from pg_class where relnamespace in {OURS}",
    "columns": "select a.attrelid::regclass::text, a.attnum - (select count(*) from pg_attribute b"
    " where b.attrelid = a.attrelid and b.attisdropped and b.attnum < a.attnum), a.attname,"
    " format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,"
    " a.attacl::text, a.attcollation::regcollation::text, pg_get_expr(d.adbin, d.adrelid),"
    " col_description(a.attrelid, a.attnum)"
    " from pg_attribute a join pg_class c on c.oid = a.attrelid"
    " left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum"
    f" where c.relnamespace in {OURS} and a.attnum > 0 and not a.attisdropped",
    "constraints": "select conrelid::regclass::text, conname, convalidated,"
    f" pg_get_constraintdef(oid) from pg_constraint where connamespace in {OURS}",
    "functions": "select oid::regprocedure::text, proowner::regrole::text, proacl::text,"
    " obj_description(oid, 'pg_proc'), pg_get_functiondef(oid) from pg_proc"
    f" where pronamespace in {OURS} and prokind = 'f'",
    "triggers": "select tgrelid::regclass::text, tgenabled, pg_get_triggerdef(oid) from pg_trigger"
    " where not tgisinternal",
    "policies": "select polrelid::regclass::text, polname, polcmd from pg_policy",
    "revision": "select version_num from nightshift.schema_version",
}


@pytest.fixture
def migrated(database_url: str) -> str:
    return database_url


def test_schema_sql_is_what_the_migrations_make(migrated: str) -> None:
    made = dumped(migrated)
    if os.environ.get("RENEW_SCHEMA"):
        SCHEMA.write_text(made)
    assert SCHEMA.read_text() == made, f"the migrations make something else; renew it: {RENEW}"


def test_a_database_made_from_schema_sql_differs_in_nothing(
    migrated: str, new_database: Callable[..., str]
) -> None:
    other = new_database()
    with data.connect(other, role=None).administration() as connection:
        connection.exec_driver_sql((SQL / "migrations" / "roles.sql").read_text())
        connection.exec_driver_sql(SCHEMA.read_text())
    by_migrations, by_schema = catalogues(migrated), catalogues(other)
    for name, rows in by_migrations.items():
        assert rows or name == "policies", f"nothing was looked at: {name}"
        assert by_schema[name] == rows, f"{name}; renew it: {RENEW}"


def catalogues(url: str) -> dict[str, list[Any]]:
    with session(url) as connection:
        connection.exec_driver_sql("set search_path = ''")
        return {
            name: sorted(map(tuple, connection.exec_driver_sql(query).all()), key=str)
            for name, query in CATALOGUES.items()
        }


def dumped(url: str) -> str:
    """The schema as SQL that makes it, in the role of its owner, without what differs by run."""
    made = make_url(url)
    command = [
        str(binaries() / "pg_dump"),
        "--schema-only",
        "--no-owner",
        "--schema=nightshift",
        "--schema=public",
        f"--host={made.query['host']}",
        f"--username={made.username}",
        *([f"--port={made.query['port']}"] if "port" in made.query else []),
        str(made.database),
    ]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    text = re.sub(
        r"^(--.*|SET .*|\\.*|SELECT pg_catalog.set_config.*)\n", "", text, flags=re.MULTILINE
    )
    text = re.sub(r"^[^\n]* SCHEMA (public\b|nightshift;)[^\n]*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    head = (
        "-- What the migrations make, to be read, and for databases that begin empty: after\n"
        f"-- migrations/roles.sql, by a superuser or nightshift_owner. Renewed by a test:\n"
        f"-- {RENEW}\n\n"
        "set local role nightshift_owner;\n"
        "set local check_function_bodies = off;\n\n"
    )
    revision = f"insert into nightshift.schema_version values ('{REVISIONS[-1]}');"
    return f"{head}{text}\n\n{revision}\n"


# Forward, with rows in the tables -----------------------------------------------------------


def test_the_revisions_are_a_chain_without_branches() -> None:
    config = Config()
    config.set_main_option("script_location", str(SQL / "migrations"))
    script = ScriptDirectory.from_config(config)
    assert sorted(revision.revision for revision in script.walk_revisions()) == REVISIONS
    assert script.get_heads() == [REVISIONS[-1]]


@pytest.mark.parametrize("revision", REVISIONS)
def test_rows_of_every_revision_go_forward(new_database: Callable[..., str], revision: str) -> None:
    """Nothing is lost, readers see what they saw, and the chain of decisions is whole."""
    url = made_at(new_database(), revision)
    before, seen = counts(url), shown(url)
    assert [table for table, rows in before.items() if not rows] == [], "earlier_rows.py is short"

    data.migrate(url)

    after, shown_now = counts(url), shown(url)
    assert {table: after[table] for table in before if table in after} == {
        table: rows for table, rows in before.items() if table in after
    }
    for view, rows in seen.items():
        columns = rows[0].keys()
        assert [{name: row[name] for name in columns} for row in shown_now[view]] == rows, view
    assert reports.audit(data.connect(url)).faults == ()
    with session(url) as connection:
        decisions = connection.exec_driver_sql(
            "select subject, kind, about, about_id, alarming, round(severity), falling_since::text"
            " from nightshift.decisions order by decision_id"
        ).all()
    assert [tuple(row) for row in decisions] == [
        expected for since, expected in CHAIN if since <= revision
    ]


@pytest.mark.parametrize(
    "change",
    [
        "about = 'shadow' where subject = 'comparison 2'",
        "about_id = 3 where subject = 'comparison 2'",
        "about = 'request' where subject = 'monitor 3'",
        "kind = 'held' where subject = 'monitor 3'",
        "kind = 'wait' where subject = 'comparison 2'",
        "hash_rule = 2 where subject = 'monitor 3'",
    ],
)
def test_what_the_first_hashes_leave_out_cannot_be_changed_unseen(
    new_database: Callable[..., str], change: str
) -> None:
    url = made_at(new_database(), "0008")
    data.migrate(url)
    with session(url) as connection:
        connection.exec_driver_sql(f"update nightshift.decisions set {change}")
    [fault] = reports.audit(data.connect(url)).faults
    assert "it was changed after it was made" in fault


def made_at(url: str, revision: str) -> str:
    """A database with rows in its tables as a revision knew them."""
    data.migrate(url, to=revision)
    with session(url) as connection:
        for since, until, statement in ROWS:
            if since <= revision <= until:
                connection.exec_driver_sql(statement)
    return url


def counts(url: str) -> dict[str, int]:
    """How many rows each table has; a partitioned one with its months in it."""
    with session(url) as connection:
        tables = connection.exec_driver_sql(
            "select relname from pg_class where relnamespace = 'nightshift'::regnamespace"
            " and relkind in ('r', 'p') and not relispartition and relname <> 'schema_version'"
        ).scalars()
        return {
            table: connection.exec_driver_sql(
                f"select count(*) from nightshift.{table}"
            ).scalar_one()
            for table in list(tables)
        }


def shown(url: str) -> dict[str, list[dict[str, Any]]]:
    """What readers see, by view; the contract's own version and the word hold aside."""
    with session(url) as connection:
        views = connection.exec_driver_sql(
            "select relname from pg_class where relnamespace = 'public'::regnamespace"
            " and relkind = 'v' and relname <> 'contract'"
        ).scalars()
        found = {
            view: [
                dict(row._mapping)
                for row in connection.exec_driver_sql(f"select * from {view} order by {view}::text")
            ]
            for view in list(views)
        }
    for row in found["decisions"]:
        row["kind"] = "hold" if row["kind"] in ("wait", "ask", "held") else row["kind"]
    return found
