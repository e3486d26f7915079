"""The schema, its named queries, and who may do what."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import ProgrammingError

from nightshift import data
from nightshift.data import positional, queries, query_text
from nightshift.local import Postgres, session

VIEWS = (
    "predictions",
    "predictions_latest",
    "nights",
    "champions",
    "performance",
    "decisions",
    "signals",
    "models",
    "contract",
)
APPEND_ONLY = (
    "snapshots",
    "validations",
    "decisions",
    "versions",
    "comparisons",
    "promotions",
    "labels",
    "measurements",
    "events",
    "memberships",
    "batch_models",
    "label_collections",
    "signals",
    "alerts",
    "alert_deliveries",
    "collected_artifacts",
    "exclusions",
    "shadows",
    "trials",
    "approvals",
    "answers",
    "holds",
    "retirements",
    "pseudonym_keys",
    "labels_set_aside",
)
INCOMING = """
create temporary table incoming_labels (
    entity_id text, answers timestamptz, value text, event_at timestamptz, stated_at timestamptz);
create temporary table unexpected_labels (
    entity_id text, answers timestamptz, value text, event_at timestamptz, stated_at timestamptz,
    reason text)
"""


@pytest.fixture(scope="module")
def database_url(postgres: Postgres) -> str:
    """One migrated database for all: what these tests may do changes nothing."""
    postgres.create_database("schema")
    url = postgres.url("schema")
    data.migrate(url)
    return url


class Anything(dict[str, None]):
    def __missing__(self, name: str) -> None:
        return None


@pytest.mark.parametrize("name", sorted(queries()))
def test_every_named_query_prepares(database_url: str, name: str) -> None:
    statement, _ = positional(query_text(name), Anything())
    with session(database_url) as connection:
        connection.exec_driver_sql(INCOMING)
        # psycopg2 reads % as a placeholder, so the statement goes to its cursor as it is.
        cursor = connection.connection.cursor()
        cursor.execute(f"prepare it as {statement}")


def test_migrating_again_changes_nothing(database_url: str) -> None:
    data.migrate(database_url)
    with session(database_url) as connection:
        assert (
            connection.exec_driver_sql("select count(*) from nightshift.schema_version").scalar()
            == 1
        )


def test_every_table_and_view_says_what_it_holds(database_url: str) -> None:
    with session(database_url) as connection:
        silent = connection.exec_driver_sql(
            "select relname from pg_class where relkind in ('r', 'p', 'v')"
            " and relnamespace in ('nightshift'::regnamespace, 'public'::regnamespace)"
            " and obj_description(oid) is null and relname <> 'schema_version'"
        ).all()
    assert silent == []


@pytest.mark.parametrize("view", VIEWS)
def test_the_reader_reads_the_views(database_url: str, view: str) -> None:
    with session(database_url) as connection:
        connection.exec_driver_sql("set role nightshift_reader")
        connection.exec_driver_sql(f"select * from {view}")


@pytest.mark.parametrize(
    "statement",
    [
        "select * from nightshift.prediction_rows",
        "select * from nightshift.events",
        "create table mine (x int)",
        "create temporary table mine (x int)",
        "create schema mine",
    ],
)
def test_the_reader_does_nothing_else(database_url: str, statement: str) -> None:
    data.migrate(database_url)  # a clone has its template's tables, but rights of its own
    refused(database_url, "nightshift_reader", statement)


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize(
    "verb",
    [
        "update nightshift.{0} set {1} = {1}",
        "delete from nightshift.{0}",
        "truncate nightshift.{0}",
    ],
)
def test_the_writer_cannot_rewrite_history(database_url: str, table: str, verb: str) -> None:
    with session(database_url) as connection:
        column = connection.exec_driver_sql(
            f"select attname from pg_attribute where attrelid = 'nightshift.{table}'::regclass"
            " and attnum > 0 order by attnum desc limit 1"
        ).scalar()
    refused(database_url, "nightshift_writer", verb.format(table, column))


def refused(url: str, role: str, statement: str) -> None:
    with session(url) as connection:
        connection.exec_driver_sql(f"set role {role}")
        with pytest.raises(ProgrammingError, match="permission denied"):
            connection.exec_driver_sql(statement)
