"""Who may do what: each role, each table and view, each verb, told by Postgres and by trying."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import yaml
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from nightshift import data
from nightshift.local import session

VERBS = ("select", "insert", "update", "delete", "truncate", "references", "trigger")
LETTERS = {"s": "select", "i": "insert", "u": "update", "d": "delete"}
DENIED = "42501"
RELATIONS = """
select c.oid, n.nspname || '.' || c.relname as name, c.relkind = 'v' as is_view,
       array_agg(a.attname::text order by a.attname) as columns
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname in ('nightshift', 'public')
group by c.oid, n.nspname, c.relname, c.relkind order by 2
"""


@dataclass(frozen=True)
class Relation:
    oid: int
    name: str
    is_view: bool
    columns: list[str]

    @property
    def entry(self) -> str:
        """Its line in roles.yaml: months and views of families share one each."""
        name = re.sub(r"prediction_rows_\d{4}_\d{2}$", "prediction_rows_YYYY_MM", self.name)
        return re.sub(r"^public\.predictions_(?!latest$)\w+", "public.predictions_<family>", name)


@dataclass(frozen=True)
class Rights:
    verbs: frozenset[str]
    updates: list[str]

    @staticmethod
    def read(text: str) -> Rights:
        letters, _, columns = text.partition(" ")
        named = re.findall(r"\w+", columns)
        return Rights(frozenset(LETTERS[letter] for letter in letters), named)


@cache
def expected(role: str) -> dict[str, Rights]:
    """What a role may do; ``stranger`` is anybody else who can log in to the server."""
    told = yaml.safe_load(Path(__file__).with_name("roles.yaml").read_text())
    return {
        name: Rights.read("" if role == "stranger" else text)
        for name, text in told["reader" if role == "stranger" else role].items()
    }


@pytest.fixture
def lived_in(database_url: str) -> str:
    """A migrated database with a month of predictions and the views of two families."""
    data.migrate(database_url)  # a clone has its template's tables, but rights of its own
    with session(database_url) as connection:
        connection.exec_driver_sql(
            "do $$ begin create role stranger login;"
            " exception when duplicate_object then null; end $$"
        )
        connection.exec_driver_sql("select nightshift.open_month('2026-01-01')")
        connection.exec_driver_sql("select nightshift.show_family('loads', 'regression')")
        connection.exec_driver_sql("select nightshift.show_family('late', 'binary_classification')")
    return database_url


def relations(connection: Connection) -> list[Relation]:
    return [Relation(*row) for row in connection.exec_driver_sql(RELATIONS)]


ROLES = ("writer", "reader", "stranger")


@pytest.mark.parametrize("role", ROLES)
def test_every_table_and_view_has_an_entry_for_every_role(lived_in: str, role: str) -> None:
    with session(lived_in) as connection:
        found = {relation.entry for relation in relations(connection)}
    assert found == set(expected(role)), "write it down in tests/integration/data/roles.yaml"


@pytest.mark.parametrize("role", ROLES)
def test_rights_are_those_that_are_written_down(lived_in: str, role: str) -> None:
    name = role if role == "stranger" else f"nightshift_{role}"
    with session(lived_in) as connection:
        for relation in relations(connection):
            rights = expected(role)[relation.entry]
            assert set(_told(connection, name, relation)) == rights.verbs, relation.name
            assert _updatable(connection, name, relation) == rights.updates, relation.name


def _told(connection: Connection, role: str, relation: Relation) -> Iterator[str]:
    """The verbs of which a role has the right, for the whole relation or a column of it."""
    for verb in VERBS:
        by_column = verb in ("select", "insert", "update", "references")
        ask = "has_any_column_privilege" if by_column else "has_table_privilege"
        told = f"{ask}('{role}', cast({relation.oid} as oid), '{verb}')"
        if connection.exec_driver_sql(f"select {told}").scalar():
            yield verb


def _updatable(connection: Connection, role: str, relation: Relation) -> list[str]:
    whole = f"select has_table_privilege('{role}', cast({relation.oid} as oid), 'update')"
    assert not connection.exec_driver_sql(whole).scalar()
    return [
        column
        for column in relation.columns
        if connection.exec_driver_sql(
            f"select has_column_privilege('{role}', cast({relation.oid} as oid),"
            f" '{column}', 'update')"
        ).scalar()
    ]


@pytest.mark.parametrize("role", ROLES)
def test_what_is_not_written_down_is_refused_and_the_rest_is_not(lived_in: str, role: str) -> None:
    """The same by doing it. Nothing is changed: no row qualifies, or the transaction is undone."""
    name = role if role == "stranger" else f"nightshift_{role}"
    with session(lived_in) as connection:
        found = relations(connection)
        connection.exec_driver_sql(f"set role {name}")
        for relation in found:
            rights = expected(role)[relation.entry]
            for verb, column, statement in _acts(relation):
                may = verb in rights.verbs and (column is None or column in rights.updates)
                assert _refused(connection, statement) != may, (relation.name, statement)


def _acts(relation: Relation) -> Iterator[tuple[str, str | None, str]]:
    """Each verb as a statement. ``references`` takes a table of one's own, which nobody has."""
    name = relation.name
    yield "select", None, f"select * from {name} limit 0"
    for column in relation.columns:
        yield "update", column, f"update {name} set {column} = default where false"
    yield "delete", None, f"delete from {name} where false"
    yield "truncate", None, f"truncate {name}"
    yield "insert", None, f"insert into {name} default values"
    act = "execute function suppress_redundant_updates_trigger()"
    yield "trigger", None, f"create trigger mine before update on {name} for each row {act}"


def _refused(connection: Connection, statement: str) -> bool:
    connection.exec_driver_sql("begin")
    try:
        connection.exec_driver_sql(statement)
    except DBAPIError as error:
        state = getattr(error.orig, "pgcode", None)
        # A view of several tables takes no rows from anybody; a row of nothing but nulls is let in
        # and then breaks the table's rules.
        return state in (DENIED, "55000", "0A000", "42809")
    finally:
        connection.exec_driver_sql("rollback")
    return False


MAKING = [
    "create table mine (x int)",
    "create table public.mine (x int)",
    "create table nightshift.mine (x int)",
    "create view mine as select 1",
    "create schema mine",
    "create function mine() returns int language sql as 'select 1'",
    "create type mine as (x int)",
    "create sequence mine",
    "create extension vector",
    "create publication mine",
    "select lo_create(0)",
    "select lo_from_bytea(0, 'x')",
    "alter role nightshift_reader superuser",
    "set role nightshift_owner",
    "alter view predictions rename to mine",
    "select nightshift.open_month(now())",
    "copy (select 1) to program 'true'",
    "select pg_read_file('postgresql.conf')",
]


@pytest.mark.parametrize("statement", [*MAKING, "create temporary table mine (x int)"])
def test_a_reader_makes_nothing(lived_in: str, statement: str) -> None:
    assert _told_as("nightshift_reader", lived_in, statement) == DENIED


@pytest.mark.parametrize("statement", [one for one in MAKING if "open_month" not in one])
def test_a_writer_makes_nothing_that_stays(lived_in: str, statement: str) -> None:
    assert _told_as("nightshift_writer", lived_in, statement) == DENIED


def test_a_reader_cannot_make_writers_wait(lived_in: str) -> None:
    """Advisory locks are what promotions and decisions take turns by."""
    for function in ("pg_advisory_lock(1)", "pg_try_advisory_xact_lock(1)"):
        assert _told_as("nightshift_reader", lived_in, f"select {function}") == DENIED
    for table in ("nightshift.events", "public.predictions"):
        assert _told_as("nightshift_reader", lived_in, f"begin; lock table {table}") == DENIED


def _told_as(role: str, url: str, statement: str) -> str | None:
    """The SQLSTATE with which Postgres refuses a statement of somebody who logs in as a role."""
    as_role = re.sub("//[^@]*@", f"//{role}@", url)
    with session(as_role) as connection, pytest.raises(DBAPIError) as refused:
        connection.exec_driver_sql(statement)
    state: str | None = getattr(refused.value.orig, "pgcode", None)
    return state


def test_nobody_logs_in_as_the_owner_and_no_role_is_more_than_it_seems(lived_in: str) -> None:
    with session(lived_in) as connection:
        ours = connection.exec_driver_sql(
            "select rolname, rolcanlogin, rolsuper or rolcreatedb or rolcreaterole or rolbypassrls"
            " or rolreplication from pg_roles where rolname like 'nightshift%%' order by 1"
        ).all()
        belongs = connection.exec_driver_sql(
            "select count(*) from pg_auth_members where member in"
            " ('nightshift_reader'::regrole, 'nightshift_writer'::regrole)"
        ).scalar()
        others = connection.exec_driver_sql(
            "select c.relname from pg_class c where relnamespace = 'nightshift'::regnamespace"
            " and relowner <> 'nightshift_owner'::regrole and relname not like 'schema_version%%'"
        ).all()
    assert [tuple(row) for row in ours] == [
        ("nightshift_owner", False, False),
        ("nightshift_reader", True, False),
        ("nightshift_writer", True, False),
    ]
    assert (belongs, others) == (0, [])


def test_a_stranger_does_not_get_in(lived_in: str) -> None:
    with (
        pytest.raises(Exception, match="permission denied for database"),
        session(re.sub("//[^@]*@", "//stranger@", lived_in)),
    ):
        pass


def test_functions_that_act_as_their_owner_name_what_they_mean(lived_in: str) -> None:
    """A search_path of the caller's could put another table in the place of ours."""
    with session(lived_in) as connection:
        functions = connection.exec_driver_sql(
            "select proname, array_to_string(proconfig, ' '),"
            " has_function_privilege('nightshift_reader', oid, 'execute')"
            " from pg_proc where pronamespace = 'nightshift'::regnamespace and prosecdef"
        ).all()
    assert len(functions) >= 3
    for name, settings, open_to_readers in functions:
        assert "search_path=pg_catalog, pg_temp" in settings, name
        assert not open_to_readers, name


@pytest.mark.parametrize("role", ["nightshift_writer", "nightshift_reader"])
def test_names_mean_ours_before_anything_temporary(lived_in: str, role: str) -> None:
    with session(re.sub("//[^@]*@", f"//{role}@", lived_in)) as connection:
        assert (
            connection.exec_driver_sql("show search_path").scalar() == "pg_catalog, public, pg_temp"
        )
    entered = data.Database(lived_in)
    with entered.transaction() as tx:
        path = tx._connection.exec_driver_sql("show search_path").scalar()
    entered.close()
    assert path == "pg_catalog,public,pg_temp"
