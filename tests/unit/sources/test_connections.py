"""Airflow's connections as sources: what reaches the driver, what does not, what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from nightshift import sources
from nightshift.errors import SetupError
from nightshift.sources import KINDS, AirflowConnection, Kind, read_connection
from nightshift.sources import base as port

HOME = Path(__file__).resolve().parents[3]


def query_of(**extra: Any) -> dict[str, Any]:
    connection = AirflowConnection("postgres", "db", 5432, "ann", "p@ss", "stock", extra)
    return dict(make_url(sources.url_of("dwh", connection)).query)


def test_options_reach_the_driver_as_they_are_written() -> None:
    options = "-c search_path=dwh -c statement_timeout=600000"
    assert query_of(options=options, sslmode="require") == {
        "options": options,
        "sslmode": "require",
    }


def test_a_search_path_becomes_one_of_the_options() -> None:
    assert query_of(search_path="dwh, public", options="-c work_mem=1MB") == {
        "options": "-c work_mem=1MB -c search_path=dwh,\\ public"
    }


@pytest.mark.parametrize(
    "extra",
    [
        {"cursor": "dictcursor"},
        {"iam": False, "redshift": False, "aws_conn_id": "aws", "cluster-identifier": "c"},
        {"sqlalchemy_scheme": "postgresql+psycopg", "sqlalchemy_query": {"gssencmode": "disable"}},
        {"azure_conn_id": "azure", "placeholder": "?", "escape_word_format": "[{}]"},
        {"sslmode": None, "options": ""},
    ],
)
def test_what_airflows_hooks_keep_for_themselves_never_reaches_the_driver(
    extra: dict[str, Any],
) -> None:
    assert query_of(**extra) == {}


def test_every_extra_that_airflows_hook_ignores_is_left_out() -> None:
    hook = pytest.importorskip("airflow.providers.postgres.hooks.postgres").PostgresHook
    assert query_of(**dict.fromkeys(hook.ignored_extra_options, "x")) == {}


def test_flags_are_numbers_as_libpq_takes_them_and_lists_are_refused() -> None:
    assert query_of(keepalives=True) == {"keepalives": "1"}
    with pytest.raises(SetupError, match="'dwh': its extra 'hosts' holds several values"):
        query_of(hosts=["a", "b"])


@pytest.mark.parametrize("name", ["database", "dbname"])
def test_an_extra_that_names_the_database_wins_over_the_schema_field(name: str) -> None:
    connection = AirflowConnection("postgres", "db", schema="stock", extra={name: "other"})
    assert make_url(sources.url_of("dwh", connection)).database == "other"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://ann:p%40ss@db:5433/stock?options=-c%20search_path%3Ddwh",
        "postgres://ann:p%40ss@db:5433/stock?__extra__="
        + "%7B%22options%22%3A+%22-c+search_path%3Ddwh%22%2C+%22cursor%22%3A+%22dictcursor%22%7D",
        json.dumps(
            {
                "conn_type": "postgresql",
                "host": "db",
                "port": "5433",
                "login": "ann",
                "password": "p@ss",
                "schema": "stock",
                "extra": json.dumps({"options": "-c search_path=dwh", "iam": False}),
            }
        ),
    ],
    ids=["uri", "uri with all extras in one", "json"],
)
def test_a_connection_reads_the_same_in_each_spelling(text: str) -> None:
    url = make_url(sources.url_of("dwh", read_connection(text)))
    assert (url.username, url.password, url.host, url.port, url.database) == (
        "ann",
        "p@ss",
        "db",
        5433,
        "stock",
    )
    assert url.query == {"options": "-c search_path=dwh"}


@pytest.mark.parametrize("text", ["hush", '{"host": "hush"}', '{"conn_type": 1, "x": "hush"', "[]"])
def test_a_text_that_is_no_connection_is_never_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as refused:
        read_connection(text)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("conn_type", ["mysql", "postgrs", "http"])
def test_a_connection_of_an_unknown_type_is_told_the_known_ones(conn_type: str) -> None:
    with pytest.raises(SetupError, match=f"'dwh' is of type '{conn_type}'.*known: postgres"):
        sources.url_of("dwh", AirflowConnection(conn_type))


def test_a_kind_whose_extra_is_not_installed_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = Kind("nightshift.sources.nowhere", "nowhere", extra="nowhere")
    monkeypatch.setattr(port, "KINDS", {**KINDS, "nowhere": kind})
    with pytest.raises(SetupError, match=re.escape("pip install 'nightshift[nowhere]'")):
        sources.url_of("dwh", AirflowConnection("nowhere"))
    with pytest.raises(
        SetupError, match=re.escape("known: postgres and nowhere (nightshift[nowhere]")
    ):
        sources.url_of("dwh", AirflowConnection("mysql"))


def test_another_kind_of_source_touches_four_files_as_contributing_says() -> None:
    """All that knows a kind: its module, its row, its extra, its line in the contract suite."""
    [row] = [
        line
        for line in (HOME / "CONTRIBUTING.md").read_text().splitlines()
        if line.startswith("| a kind of source")
    ]
    named = {name for name in re.findall(r"`([^`]+)`", row) if "." in name and "/" in name}
    assert len(named | {"pyproject.toml"}) == 4
    rooms = [HOME / "include" / "nightshift", HOME / "include" / "nightshift_airflow"]
    knowing = {
        str(file.relative_to(HOME))
        for room in rooms
        for file in room.rglob("*.py")
        if "sources.postgres" in file.read_text()
    }
    assert knowing == {"include/nightshift/sources/base.py"}
