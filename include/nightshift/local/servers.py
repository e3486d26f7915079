"""Nightshift on one machine: what must run, and how it starts and stops.

``up`` starts the embedded Postgres (unless the environment names a server), brings both schemas to
their newest version, and starts Airflow's four processes under supervisord, which brings back
whatever dies. ``down`` stops exactly that. Nothing listens beyond loopback.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg2.extensions
from rich.console import Console
from sqlalchemy import URL, Connection, make_url
from sqlalchemy.exc import DBAPIError, ProgrammingError

from nightshift import data
from nightshift.data import write_once
from nightshift.errors import SetupError
from nightshift.local.embedded import (
    Postgres,
    create_database,
    private_folder,
    require_free_port,
    session,
)
from nightshift.local.installation import (
    LOCAL_ROLES,
    admin_url,
    airflow_environment,
    embedded_server,
    is_embedded,
    logins,
    metadata_url,
    passwords_file,
    psql_command,
    runtime_folder,
    site,
    stored_secrets,
    ui_url,
)
from nightshift.local.processes import Processes
from nightshift.local.progress import Progress
from nightshift.site import Site
from nightshift.wording import listed

__all__ = [
    "Postgres",
    "admin_url",
    "airflow",
    "airflow_environment",
    "airflow_is_running",
    "down",
    "fresh_database",
    "logins",
    "prepare",
    "psql_command",
    "site",
    "ui_url",
    "up",
    "warehouse_url",
]

PARTS = {
    "api-server": ["api-server"],
    # The api-server reads logs from the same disk: nobody needs the log servers, which would
    # listen on every interface.
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
"""Airflow's processes and the arguments that start each."""

_PATIENCE = 180  # seconds until all of Airflow is healthy: four cold starts share two cores


# Up and down --------------------------------------------------------------------------------------


def up(site: Site, *, airflow: bool = True, console: Console | None = None) -> None:
    """Start what does not run yet and wait until all of it is healthy.

    Parameters
    ----------
    airflow
        False starts the databases only.
    console
        Where progress is told; the terminal by default.

    Raises
    ------
    SetupError
        A port is taken, or a server does not start; the message ends with what it said.
    """
    progress = Progress(console or Console())
    with _alone(site):
        if airflow:
            _claim_port(site)
        _start_databases(site, progress)
        if airflow:
            _prepare_airflow(site, progress)
            _start_airflow(site, progress)


def prepare(site: Site, *, console: Console | None = None) -> None:
    """Bring both schemas and Airflow's pools to their newest state; start no Airflow."""
    progress = Progress(console or Console())
    with _alone(site):
        _start_databases(site, progress)
        _prepare_airflow(site, progress)


def down(site: Site, *, console: Console | None = None) -> None:
    """Stop exactly what ``up`` started. The data stays."""
    progress = Progress(console or Console())
    with _alone(site):
        processes = _processes(site)
        with progress("Airflow", "stopping", _stopped(processes.is_running())):
            processes.stop()
            (runtime_folder(site) / "ui-port").unlink(missing_ok=True)
        server = embedded_server(site.state)
        with progress("Postgres", "stopping", _stopped(server.is_running())):
            server.stop()


def _stopped(was_running: bool) -> str:
    return "is stopped" if was_running else "was not running"


def airflow(site: Site, arguments: Sequence[str]) -> int:
    """Run Airflow's own command line in this installation; its exit code."""
    if is_embedded(site) and not embedded_server(site.state).is_running():
        raise SetupError("Postgres does not run; start it with `nightshift up`")
    quiet = {"PYTHONWARNINGS": "ignore"}  # Airflow's command line warns of what nobody here uses
    environment = quiet | os.environ | airflow_environment(site)
    return subprocess.run([*_AIRFLOW, *arguments], env=environment, check=False).returncode


def fresh_database(site: Site, name: str, template: str | None = None) -> str:
    """An empty, migrated database beside ``nightshift``, or a copy of ``template``; its URL.

    A database of that name is dropped first.
    """
    admin = make_url(admin_url(site))
    with session(admin_url(site)) as connection:
        quote = connection.dialect.identifier_preparer.quote_identifier
        connection.exec_driver_sql(f"drop database if exists {quote(name)} with (force)")
        copied = f" template {quote(template)}" if template else ""
        connection.exec_driver_sql(f"create database {quote(name)}{copied}")
        # What is lost with the power is simulated again.
        connection.exec_driver_sql(f"alter database {quote(name)} set synchronous_commit = off")
    data.migrate(admin.set(database=name).render_as_string(hide_password=False))
    own = make_url(site.database_url).set(database=name)
    return own.render_as_string(hide_password=False)


def drop_database(site: Site, name: str) -> None:
    """Drop a database that :func:`fresh_database` made; nothing happens where it is gone."""
    with session(admin_url(site)) as connection:
        quoted = connection.dialect.identifier_preparer.quote_identifier(name)
        connection.exec_driver_sql(f"drop database if exists {quoted} with (force)")


def warehouse_url(site: Site) -> str:
    """Where ``nightshift demo load`` puts the flights, as somebody who may create tables there."""
    if is_embedded(site):
        return admin_url(site, "warehouse")
    if "warehouse" not in site.sources:
        raise SetupError(
            "the flights need a database on your server: set AIRFLOW_CONN_WAREHOUSE to the URL of"
            " somebody who may create schemas in it"
        )
    return site.sources["warehouse"]


def airflow_is_running(site: Site) -> bool:
    """Whether ``up`` started Airflow and it has not been stopped since."""
    return _processes(site).is_running()


@contextmanager
def _alone(site: Site) -> Iterator[None]:
    """One ``up`` or ``down`` at a time; a second one waits for the first."""
    site.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (site.state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# Databases ----------------------------------------------------------------------------------------


def _start_databases(site: Site, progress: Progress) -> None:
    if is_embedded(site):
        _start_embedded(site, progress)
        own = _AirflowsOwn(None, None)
    else:
        own = _airflows_own(site, progress)
    with progress("Schema", "migrating", "is the newest"):
        data.migrate(admin_url(site), logins=[own.owner] if own.owner else [])
        _give_passwords(site)
        _make_airflow_database(site, own)


def _start_embedded(site: Site, progress: Progress) -> None:
    server = embedded_server(site.state)
    running = "is running already" if server.is_running() else f"runs on 127.0.0.1:{server.port}"
    with progress("Postgres", "starting", running):
        server.start()
        with session(server.url("postgres")) as connection:
            for role in ("airflow", "warehouse_reader"):
                _create_login(connection, role)
            create_database(connection, "airflow", owner="airflow")
            create_database(connection, "nightshift")
            create_database(connection, "warehouse")
            connection.exec_driver_sql("revoke all on database airflow, warehouse from public")
            connection.exec_driver_sql("grant connect on database warehouse to warehouse_reader")
        with session(server.url("warehouse")) as connection:
            connection.exec_driver_sql("grant usage on schema public to warehouse_reader")
            connection.exec_driver_sql(
                "alter default privileges in schema public"
                " grant select on tables to warehouse_reader"
            )


@dataclass(frozen=True)
class _AirflowsOwn:
    """What of Airflow's is missing on the server that Nightshift's database is on.

    Parameters
    ----------
    database
        The database to make; None: it is there.
    owner
        Who owns it; None: whoever makes it.
    """

    database: str | None
    owner: str | None


def _airflows_own(site: Site, progress: Progress) -> _AirflowsOwn:
    """Connect to a server of yours, and see before anything is made that all of it can be."""
    admin, airflow = make_url(admin_url(site)), make_url(metadata_url(site))
    with (
        progress("Postgres", "connecting", f"is yours, at {_address(admin)}"),
        session(admin_url(site)) as connection,
    ):
        if _address(airflow) != _address(admin):
            return _AirflowsOwn(None, None)
        distinct = "NIGHTSHIFT_ADMIN_URL" in os.environ and airflow.username != admin.username
        owner = airflow.username if distinct else None
        exists, has_owner, may_make = connection.exec_driver_sql(
            "select exists (select from pg_database where datname = %s),"
            " exists (select from pg_roles where rolname = %s), rolcreatedb or rolsuper"
            " from pg_roles where rolname = current_user",
            (airflow.database, owner),
        ).one()
    if exists:
        return _AirflowsOwn(None, None if has_owner else owner)
    if not may_make:
        raise SetupError(
            f"Airflow's database {airflow.database!r} is not there, and {admin.username} may not"
            " make it. Let a role with CREATEDB run: create database"
            f" {airflow.database} owner {owner or admin.username}; or name another database with"
            " AIRFLOW__DATABASE__SQL_ALCHEMY_CONN. Nothing was changed"
        )
    return _AirflowsOwn(airflow.database, owner)


def _make_airflow_database(site: Site, own: _AirflowsOwn) -> None:
    """Last of all, because Postgres cannot take it back with what failed after it."""
    if own.database is None:
        return
    try:
        with session(admin_url(site)) as connection:
            create_database(connection, own.database, own.owner)
    except DBAPIError as error:
        raise SetupError(
            f"Airflow's database {own.database!r} cannot be made:"
            f" {str(error.orig).splitlines()[0]}. Make it, or name another with"
            " AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
        ) from error


def _address(url: URL) -> str:
    return f"{url.query.get('host') or url.host}:{url.query.get('port') or url.port or 5432}"


def _create_login(connection: Connection, role: str) -> None:
    roles = connection.exec_driver_sql("select 1 from pg_roles where rolname = %s", (role,))
    if roles.first() is None:
        name = connection.dialect.identifier_preparer.quote_identifier(role)
        connection.exec_driver_sql(f"create role {name} login")


def _give_passwords(site: Site) -> None:
    """Let logins in that come over TCP."""
    with session(admin_url(site)) as connection:
        for role, password in _passwords(site).items():
            try:
                _set_password(connection, role, password)
            except ProgrammingError as error:
                if not _lets_in(admin_url(site), role, password):
                    raise SetupError(
                        f"the password of {role} cannot be set: {str(error.orig).splitlines()[0]}."
                        f" Let who administers {role} give it the one that its URL has"
                    ) from error


def _lets_in(url: str, role: str, password: str) -> bool:
    """Whether the server takes a login as it is; a role may lack the right to one database."""
    own = make_url(url).set(username=role, password=password)
    for database in (own.database, "postgres"):
        try:
            with session(own.set(database=database).render_as_string(hide_password=False)):
                return True
        except SetupError:
            continue
    return False


def _passwords(site: Site) -> dict[str, str]:
    """Role to password: all of ours, or on a server of yours those that our URLs name."""
    if is_embedded(site):
        stored = stored_secrets(site.state)
        return {role: stored[role] for role in LOCAL_ROLES}
    if "NIGHTSHIFT_ADMIN_URL" not in os.environ:
        return {}
    admin = make_url(admin_url(site))
    urls = [make_url(site.database_url), make_url(metadata_url(site))]
    return {
        str(url.username): str(url.password)
        for url in urls
        if url.password and url.username != admin.username and _address(url) == _address(admin)
    }


def _set_password(connection: Connection, role: str, password: str) -> None:
    # Hashed here, so that the password itself is in no statement and in no log.
    driver: Any = connection.connection.driver_connection
    verifier = psycopg2.extensions.encrypt_password(password, role, driver, "scram-sha-256")
    name = connection.dialect.identifier_preparer.quote_identifier(role)
    connection.exec_driver_sql(f"alter role {name} password '{verifier}'")


# Airflow ------------------------------------------------------------------------------------------

_AIRFLOW = [sys.executable, "-m", "airflow"]


def _prepare_airflow(site: Site, progress: Progress) -> None:
    """Migrate Airflow's database and import our pools, unless that was done: it takes long."""
    passwords = passwords_file(site)
    passwords.parent.mkdir(parents=True, exist_ok=True)
    if not passwords.exists():
        write_once(passwords, json.dumps(logins(site)))
    # Named, not imported: nothing here knows the package that knows Airflow.
    pools = Path(str(files("nightshift_airflow") / "pools.json"))
    stamp = site.state / "airflow" / "prepared.json"
    current = {"airflow": version("apache-airflow"), "pools": _sha256(pools)}
    before = json.loads(stamp.read_text()) if stamp.exists() else {}
    if before != current | {"revision": _airflow_revision(site)}:
        with progress("Airflow", "migrating its database, about 20 s", "has the newest schema"):
            _run_airflow(site, "db", "migrate")
            _run_airflow(site, "pools", "import", str(pools))
        stamp.write_text(json.dumps(current | {"revision": _airflow_revision(site)}))


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _airflow_revision(site: Site) -> str | None:
    with session(metadata_url(site)) as connection:
        if not connection.dialect.has_table(connection, "alembic_version"):
            return None
        revision: str | None = connection.exec_driver_sql(
            "select version_num from alembic_version"
        ).scalar()
        return revision


def _run_airflow(site: Site, *arguments: str) -> None:
    completed = subprocess.run(
        [*_AIRFLOW, *arguments],
        env=os.environ | airflow_environment(site),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if completed.returncode:
        output_text = "\n".join((completed.stdout + completed.stderr).strip().splitlines()[-15:])
        raise SetupError(f"`airflow {' '.join(arguments)}` failed and said:\n{output_text}")


def _processes(site: Site) -> Processes:
    commands = {name: [*_AIRFLOW, *arguments] for name, arguments in PARTS.items()}
    return Processes(runtime_folder(site), site.state / "logs", commands)


def _claim_port(site: Site) -> None:
    """Choose the port of Airflow's pages, before minutes are spent on what could not start."""
    processes = _processes(site)
    if processes.is_running():
        return
    processes.stop()
    private_folder(processes.folder)
    remembered = processes.folder / "ui-port"
    remembered.unlink(missing_ok=True)
    port = ui_url(site).rpartition(":")[2]
    require_free_port(int(port), "Airflow", "NIGHTSHIFT_UI_PORT")
    remembered.write_text(port)


def _start_airflow(site: Site, progress: Progress) -> None:
    processes = _processes(site)
    url = ui_url(site)
    running = processes.is_running()
    outcome = f"is running already at {url}" if running else f"is healthy at {url}"
    with progress("Airflow", "starting its four processes", outcome):
        processes.start(os.environ | airflow_environment(site))
        _wait_until_healthy(processes, url)


def _wait_until_healthy(processes: Processes, url: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while unhealthy := _unhealthy(url):
        dead = [name for name, state in processes.states().items() if state == "FATAL"]
        if dead or time.monotonic() > deadline:
            failing = dead or [part for part in PARTS if part.replace("-", "_") in unhealthy]
            logs = "\n".join(processes.last_lines(name) for name in failing)
            raise SetupError(f"Airflow is not healthy: {listed(unhealthy)}.\n{logs}")
        time.sleep(0.5)


def _unhealthy(url: str) -> list[str]:
    """The parts of Airflow that do not work, by the api-server's account."""
    # Loopback needs no proxy, whatever the environment says.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/api/v2/monitor/health", timeout=5) as answer:
            health = json.load(answer)
    except (OSError, ValueError):
        return ["api_server"]
    parts = ("metadatabase", "scheduler", "dag_processor", "triggerer")
    return [part for part in parts if (health.get(part) or {}).get("status") != "healthy"]
