"""Commands find a source's connection where Airflow keeps it, in any case of letters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nightshift import local
from nightshift.errors import SetupError
from nightshift.site import Site

URL = "postgresql+psycopg2://ann:p%40ss@db.example:5433/stock?options=-c+search_path%3Ddwh"


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Airflow's own database, with the connections ``dwh`` and ``chat``."""
    folder = tmp_path_factory.mktemp("airflow")
    environment = os.environ | {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__CORE__FERNET_KEY": "",
    }
    dwh = {
        "conn_type": "postgres",
        "host": "db.example",
        "port": 5433,
        "login": "ann",
        "password": "p@ss",
        "schema": "stock",
        "extra": {"options": "-c search_path=dwh", "cursor": "dictcursor"},
    }
    airflow = [sys.executable, "-m", "airflow"]
    for arguments in (
        ["db", "migrate"],
        ["connections", "add", "dwh", "--conn-json", json.dumps(dwh)],
        ["connections", "add", "chat", "--conn-uri", "https://:hush@chat.example"],
    ):
        done = subprocess.run(
            [*airflow, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=250,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture
def site(
    metadata: Path, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Site:
    """An installation beside a server of its own, whose Airflow has that database."""
    monkeypatch.setenv("NIGHTSHIFT_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("NIGHTSHIFT_DATABASE_URL", database_url)
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "")
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", f"sqlite:///{metadata}/airflow.db")
    return local.site()


@pytest.mark.parametrize("name", ["stock", "STOCK", "Stock"])
def test_a_connection_in_the_environment_is_found_in_any_case_of_letters(
    site: Site, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_STOCK", URL.replace("+psycopg2", ""))
    assert local.site().source(name) == URL


@pytest.mark.parametrize("name", ["dwh", "DWH"])
def test_a_connection_in_airflows_database_is_found_with_its_options(site: Site, name: str) -> None:
    assert site.source(name) == URL


def test_a_secrets_backend_is_asked(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "connections.json"
    kept.write_text(json.dumps({"vaulted": URL.replace("+psycopg2", "")}))
    monkeypatch.setenv(
        "AIRFLOW__SECRETS__BACKEND", "airflow.secrets.local_filesystem.LocalFilesystemBackend"
    )
    monkeypatch.setenv(
        "AIRFLOW__SECRETS__BACKEND_KWARGS", json.dumps({"connections_file_path": str(kept)})
    )
    assert local.site().source("vaulted") == URL


def test_a_connection_that_is_nowhere_is_told_with_where_was_looked(site: Site) -> None:
    with pytest.raises(SetupError, match=r"no connection 'DWH2' was found") as refused:
        site.source("DWH2")
    message = str(refused.value)
    for words in (
        "AIRFLOW_CONN_DWH2 in the environment",
        "Airflow's database",
        "airflow connections add DWH2 --conn-uri",
    ):
        assert words in message


def test_a_connection_to_something_else_is_told_the_known_kinds(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for look in (site, None):
        if look is None:
            monkeypatch.setenv("AIRFLOW_CONN_CHAT", "https://:hush@chat.example")
        with pytest.raises(SetupError, match=r"'chat' is of type 'https?'.*known: postgres") as no:
            (look or local.site()).source("chat")
        assert "hush" not in str(no.value)


def test_airflows_database_that_cannot_be_asked_is_told_as_such(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "sqlite:////nowhere/airflow.db")
    with pytest.raises(SetupError, match="could not be asked") as refused:
        local.site().source("dwh")
    assert "\n" not in str(refused.value)


def test_a_setting_that_cannot_be_used_is_told_to_who_asks_for_it_only(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = {"conn_type": "postgres", "host": "db", "extra": {"hosts": ["a", "b"]}}
    monkeypatch.setenv("AIRFLOW_CONN_ODD", json.dumps(odd))
    assert local.site() == site
    with pytest.raises(SetupError, match="'odd': its extra 'hosts' holds several values"):
        local.site().source("odd")
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT", json.dumps(odd))
    with pytest.raises(SetupError, match="'nightshift': its extra 'hosts'"):
        local.site()
