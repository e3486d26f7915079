"""Everything on one machine: the embedded Postgres, the environment, up and down."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from rich.console import Console
from sqlalchemy import make_url
from tests.ports import free_port

from nightshift import local
from nightshift.errors import SetupError
from nightshift.local import Postgres, session
from nightshift.site import Site

QUIET = Console(quiet=True)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path that is short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="nightshift-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def server(folder: Path) -> Iterator[Postgres]:
    """A running server that listens on loopback as well."""
    one = Postgres(folder / "pg", free_port(), durable=False)
    one.start()
    yield one
    one.stop()


@pytest.fixture
def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An installation of its own, described by the environment as a user would do it."""
    for name in [*os.environ]:
        if name.startswith(("AIRFLOW_", "NIGHTSHIFT_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NIGHTSHIFT_STATE", str(folder / "state"))
    monkeypatch.setenv("NIGHTSHIFT_PG_PORT", str(free_port()))
    monkeypatch.setenv("NIGHTSHIFT_UI_PORT", str(free_port()))
    site = local.site()
    yield site
    local.down(site, console=QUIET)


def over_tcp(url: str, port: int | None, password: str | None) -> str:
    changed = make_url(url).set(host="127.0.0.1", port=port, password=password, query={})
    return changed.render_as_string(hide_password=False)


def listening(*processes: psutil.Process) -> set[tuple[str, int]]:
    """Addresses and ports that these processes, or all on this machine, listen on."""
    everyone = processes or [psutil]
    found = [one.net_connections("tcp") for one in everyone]
    return {
        (each.laddr[0], each.laddr[1])
        for connections in found
        for each in connections
        if each.laddr and each.status == psutil.CONN_LISTEN
    }


def current_user(url: str) -> object:
    with session(url) as connection:
        return connection.exec_driver_sql("select current_user").scalar()


# Postgres -----------------------------------------------------------------------------------------


def test_loopback_asks_for_a_password(installed: Site) -> None:
    local.up(installed, airflow=False, console=QUIET)
    port = int(str(make_url(installed.database_url).query["port"]))
    password = local.stored_secrets(installed.state)["nightshift_writer"]

    with pytest.raises(SetupError, match="no password supplied"):
        current_user(over_tcp(installed.database_url, port, None))
    with pytest.raises(SetupError, match="password authentication failed"):
        current_user(over_tcp(installed.database_url, port, "guess"))
    assert current_user(over_tcp(installed.database_url, port, password)) == "nightshift_writer"


def test_passwords_are_stored_as_scram_and_kept_in_a_private_file(installed: Site) -> None:
    local.up(installed, airflow=False, console=QUIET)
    with session(local.admin_url(installed)) as connection:
        kinds = connection.exec_driver_sql(
            "select distinct left(rolpassword, 13) from pg_authid where rolpassword is not null"
        )
        assert kinds.scalars().all() == ["SCRAM-SHA-256"]
    assert (installed.state / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_it_listens_on_loopback_only(server: Postgres) -> None:
    addresses = {ip for ip, port in listening() if port == server.port}
    assert "127.0.0.1" in addresses
    assert addresses <= {"127.0.0.1", "::1"}


def test_a_port_that_is_taken_is_named_with_the_way_out(folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SetupError) as refused:
            Postgres(folder / "pg", port).start()
    assert str(refused.value) == (
        f"Postgres cannot listen on 127.0.0.1:{port}: Address already in use."
        f" Stop what uses that port, or choose another: NIGHTSHIFT_PG_PORT={port + 1}"
    )


def test_a_second_start_is_the_same_server(server: Postgres) -> None:
    pid = server._postmaster()[0]
    server.start()
    assert server._postmaster()[0] == pid


def test_stop_leaves_nothing_running_and_keeps_the_data(server: Postgres) -> None:
    server.create_database("kept")
    processes = [psutil.Process(int(server._postmaster()[0]))]
    processes += processes[0].children(recursive=True)
    server.stop()
    assert psutil.wait_procs(processes, timeout=10)[1] == []
    assert not server.is_running()
    server.stop()
    server.start()
    assert current_user(server.url("kept")) == "postgres"


def test_a_crash_is_recovered_from_at_the_next_start(server: Postgres) -> None:
    server.create_database("kept")
    postmaster = psutil.Process(int(server._postmaster()[0]))
    for process in [postmaster, *postmaster.children(recursive=True)]:
        process.kill()
    assert psutil.wait_procs([postmaster], timeout=30)[1] == []
    assert not server.is_running()
    server.start()
    assert current_user(server.url("kept")) == "postgres"


def test_a_path_too_long_for_a_socket_gets_a_private_folder(folder: Path) -> None:
    server = Postgres(folder / ("long" * 25) / "it's, a place" / "pg", port=None, durable=False)
    server.start()
    try:
        assert current_user(server.url("postgres")) == "postgres"
        assert server.socket_folder != server.data
        assert server.socket_folder.stat().st_mode & 0o777 == 0o700
    finally:
        server.stop()
        shutil.rmtree(server.socket_folder)


def test_a_socket_folder_of_somebody_else_is_refused(folder: Path) -> None:
    server = Postgres(folder / ("long" * 25) / "pg", port=None, durable=False)
    server.socket_folder.mkdir(mode=0o777)
    try:
        with pytest.raises(SetupError, match="is not a folder that only user"):
            server.start()
    finally:
        server.socket_folder.rmdir()


def test_data_of_another_postgres_version_is_refused(folder: Path) -> None:
    (folder / "pg").mkdir()
    (folder / "pg" / "PG_VERSION").write_text("16\n")
    with pytest.raises(SetupError, match="made by Postgres 16; this is Postgres 18"):
        Postgres(folder / "pg", port=None).start()


# What the environment says ------------------------------------------------------------------------


def test_the_warehouse_can_be_read_and_not_written(installed: Site) -> None:
    local.up(installed, airflow=False, console=QUIET)
    with session(local.admin_url(installed, "warehouse")) as connection:
        connection.exec_driver_sql("create table flights as select 7 as number")
    with session(installed.sources["warehouse"]) as connection:
        assert connection.exec_driver_sql("select number from flights").scalar() == 7
        allowed = connection.exec_driver_sql(
            "select has_table_privilege('flights', 'insert'),"
            " has_schema_privilege('public', 'create'),"
            " has_database_privilege('airflow', 'connect')"
        )
        assert tuple(allowed.one()) == (False, False, False)


def test_a_server_of_ones_own_is_used_and_none_is_started(
    server: Postgres, installed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.create_database("nightshift")
    with session(server.url("postgres")) as connection:
        connection.exec_driver_sql("alter role postgres password 'boss'")
    admin = over_tcp(server.url("nightshift"), server.port, "boss")
    writer = make_url(admin).set(
        drivername="postgres", username="nightshift_writer", password="p%@ss"
    )
    airflow = make_url(admin).set(username="airflow", password="air", database="metadata")
    for name, url in {
        "NIGHTSHIFT_ADMIN_URL": make_url(admin),
        "NIGHTSHIFT_DATABASE_URL": writer,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": airflow,
    }.items():
        monkeypatch.setenv(name, url.render_as_string(hide_password=False))
    site = local.site()

    local.up(site, airflow=False, console=QUIET)

    assert not (site.state / "postgres").exists()
    assert current_user(site.database_url) == "nightshift_writer"
    assert current_user(airflow.render_as_string(hide_password=False)) == "airflow"
    assert site.sources == {}
    local.down(site, console=QUIET)
    assert server.is_running()


@pytest.mark.parametrize(
    "written",
    [
        "postgres://ann:p%40ss@db.example:5433/stock?sslmode=require",
        "postgresql://ann:p%40ss@db.example:5433/stock?sslmode=require",
        '{"conn_type": "postgres", "host": "db.example", "port": 5433, "login": "ann",'
        ' "password": "p@ss", "schema": "stock", "extra": {"sslmode": "require"}}',
        '{"conn_type": "postgres", "host": "db.example", "port": "5433", "login": "ann",'
        ' "password": "p@ss", "schema": "stock", "extra": "{\\"sslmode\\": \\"require\\"}"}',
    ],
)
def test_a_source_is_read_as_airflow_writes_it(
    installed: Site, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_STOCK", written)
    site = local.site()
    url = "postgresql+psycopg2://ann:p%40ss@db.example:5433/stock?sslmode=require"
    assert site.sources == {**installed.sources, "stock": url}
    environment = local.airflow_environment(site)
    monkeypatch.setenv("AIRFLOW_CONN_STOCK", environment["AIRFLOW_CONN_STOCK"])
    assert local.site() == site


def test_connections_to_other_things_are_airflows_own_business(
    installed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CHAT", "https://:token@chat.example")
    assert local.site() == installed


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("NIGHTSHIFT_DATABASE_URL", "mysql://me:hush@db/x", "begins with mysql://"),
        ("NIGHTSHIFT_DATABASE_URL", "hush", "NIGHTSHIFT_DATABASE_URL is not a URL"),
        ("AIRFLOW_CONN_STOCK", '{"host": "hush"}', "AIRFLOW_CONN_STOCK .* no 'conn_type'"),
        ("NIGHTSHIFT_PG_PORT", "70000", "NIGHTSHIFT_PG_PORT is '70000'; accepted: a port"),
    ],
)
def test_a_variable_that_cannot_be_read_is_named_and_not_repeated(
    installed: Site, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SetupError, match=message) as refused:
        local.site()
    assert "hush" not in str(refused.value)
    monkeypatch.delenv(name)


def test_airflow_is_tuned_by_the_user_and_never_led_to_another_database(
    installed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__PARALLELISM", "16")
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://elsewhere/airflow")
    environment = local.airflow_environment(installed)
    assert environment["AIRFLOW__CORE__PARALLELISM"] == "16"
    assert "elsewhere" not in environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    assert environment["AIRFLOW__API__HOST"] == "127.0.0.1"


# Airflow, which tests/e2e starts ------------------------------------------------------------------


def test_a_taken_port_stops_airflow_before_it_starts(installed: Site) -> None:
    port = int(os.environ["NIGHTSHIFT_UI_PORT"])
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(SetupError, match=f"127.0.0.1:{port}: .* NIGHTSHIFT_UI_PORT={port + 1}"):
            local.up(installed, console=QUIET)
    assert not local.airflow_is_running(installed)
