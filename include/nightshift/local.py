"""Nightshift on one machine: where things are, what must run, and how it starts and stops.

``up`` starts the embedded Postgres (unless the environment names a server), brings both schemas to
their newest version, and starts Airflow's four processes under supervisord, which brings back
whatever dies. ``down`` stops exactly that. Nothing listens beyond loopback.

Environment
-----------
NIGHTSHIFT_HOME          the checkout; default: where this package is installed from
NIGHTSHIFT_STATE         what this installation writes; default: ``.nightshift`` in the checkout
NIGHTSHIFT_MODELS        the folder of families; default: ``include/models`` in the checkout
NIGHTSHIFT_PG_PORT       the embedded Postgres on loopback; default 54329
NIGHTSHIFT_UI_PORT       Airflow's pages and API on loopback; default 8080
NIGHTSHIFT_DATABASE_URL  a Postgres of yours instead of the embedded one
NIGHTSHIFT_ADMIN_URL     the same database, as someone who may create roles
AIRFLOW_CONN_<NAME>      a source, as Airflow writes connections: a URI or JSON
AIRFLOW__<PART>__<KEY>   Airflow's own settings, except those that hold an installation together
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import secrets
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psycopg2.extensions
from rich.console import Console
from sqlalchemy import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, ProgrammingError

from nightshift import config, database
from nightshift.config import Site
from nightshift.embedded import (
    BINARIES,
    DEFAULT_PORT,
    Postgres,
    create_database,
    private_folder,
    require_free_port,
    session,
    short_folder,
)
from nightshift.processes import LONGEST_NAME, Processes
from nightshift.records import SetupError

__all__ = [
    "Postgres",
    "admin_url",
    "airflow",
    "airflow_environment",
    "airflow_is_running",
    "down",
    "logins",
    "prepare",
    "psql_command",
    "site",
    "ui_url",
    "up",
]

DEFAULT_UI_PORT = 8080
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
_LOCAL_ROLES = ("postgres", "airflow", "nightshift_writer", "nightshift_reader", "warehouse_reader")
_POSTGRES_SCHEMES = ("postgres", "postgresql", "postgresql+psycopg2", "postgresql+psycopg")


# Where things are ---------------------------------------------------------------------------------


def site() -> Site:
    """This installation, as the environment describes it.

    Raises
    ------
    SetupError
        A variable holds something that cannot be read; the message names it.
    """
    home = config.default_home().absolute()
    state = Path(os.environ.get("NIGHTSHIFT_STATE") or home / ".nightshift").absolute()
    connections = _connections_from_environment()
    server = _server(state)
    embedded = server.url("nightshift", "nightshift_writer")
    given = os.environ.get("NIGHTSHIFT_DATABASE_URL")
    url = _connection_url("NIGHTSHIFT_DATABASE_URL", given) if given else None
    url = url or connections.pop("nightshift", None)
    sources = {} if url else {"warehouse": server.url("warehouse", "warehouse_reader")}
    connections.pop("nightshift", None)
    return Site(
        home=home,
        state=state,
        models=config.models_folder(home).absolute(),
        database_url=url or embedded,
        sources=sources | connections,
    )


def admin_url(site: Site, database: str = "nightshift") -> str:
    """A SQLAlchemy URL of someone who may create things in a database of the site's server."""
    if _is_embedded(site):
        return _server(site.state).url(database)
    given = os.environ.get("NIGHTSHIFT_ADMIN_URL")
    url = _connection_url("NIGHTSHIFT_ADMIN_URL", given) if given else site.database_url
    if database != "nightshift":
        url = make_url(url).set(database=database).render_as_string(hide_password=False)
    return url


def ui_url(site: Site) -> str:
    """Where Airflow's pages are, or will be."""
    remembered = _runtime(site) / "ui-port"
    if "NIGHTSHIFT_UI_PORT" not in os.environ and remembered.exists():
        return f"http://127.0.0.1:{remembered.read_text()}"
    return f"http://127.0.0.1:{_port('NIGHTSHIFT_UI_PORT', DEFAULT_UI_PORT)}"


def logins(site: Site) -> dict[str, str]:
    """Airflow's users and their passwords."""
    kept = _secrets(site.state)
    return {user: kept[f"{user}_password"] for user in ("admin", "viewer")}


def psql_command(site: Site, role: str = "nightshift_reader") -> str:
    """A command line that opens psql on the ``nightshift`` database as ``role``."""
    url = make_url(site.database_url).set(drivername="postgresql")
    if _is_embedded(site):
        url = url.set(username=role)
        return shlex.join([str(BINARIES / "psql"), url.render_as_string(hide_password=False)])
    return shlex.join(["psql", url.set(username=role, password=None).render_as_string()])


def _server(state: Path) -> Postgres:
    return Postgres(state / "postgres", _port("NIGHTSHIFT_PG_PORT", DEFAULT_PORT))


def _is_embedded(site: Site) -> bool:
    sockets = make_url(site.database_url).query.get("host")
    return sockets == str(_server(site.state).socket_folder)


def _runtime(site: Site) -> Path:
    """Where sockets and pid files are."""
    return short_folder(site.state / "run", LONGEST_NAME)


def _port(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise SetupError(f"{variable} is {text!r}; accepted: a port from 1 to 65535")
    return int(text)


# Connections, as Airflow writes them --------------------------------------------------------------


def _connections_from_environment() -> dict[str, str]:
    """Name to SQLAlchemy URL of every ``AIRFLOW_CONN_<NAME>`` that leads to Postgres."""
    prefix = "AIRFLOW_CONN_"
    found = {
        variable.removeprefix(prefix).lower(): _connection_url(variable, text, others=True)
        for variable, text in os.environ.items()
        if variable.startswith(prefix)
    }
    return {name: url for name, url in found.items() if url}


def _connection_url(variable: str, text: str, *, others: bool = False) -> str:
    """A URI or JSON connection as a SQLAlchemy URL; with ``others``, "" for one not to Postgres."""
    try:
        url = _from_json(json.loads(text)) if text.lstrip().startswith("{") else make_url(text)
    except (ArgumentError, ValueError, KeyError, TypeError) as error:
        # The text may hold a password: it is not repeated.
        raise SetupError(f"{variable} is not a URL or a JSON connection: {_kind(error)}") from None
    if url.drivername not in _POSTGRES_SCHEMES:
        if others:
            return ""
        raise SetupError(
            f"{variable} begins with {url.drivername}://;"
            " accepted: postgresql://user:password@host:5432/database"
        )
    host = unquote(url.host) if url.host else None
    if host and host.startswith("/"):
        url = url.set(host="").update_query_dict({"host": host})
    return url.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)


def _from_json(fields: Mapping[str, Any]) -> URL:
    extra = fields.get("extra") or {}
    extra = json.loads(extra) if isinstance(extra, str) else extra
    return URL.create(
        fields["conn_type"],
        username=fields.get("login") or None,
        password=fields.get("password") or None,
        host=fields.get("host") or None,
        port=int(fields["port"]) if fields.get("port") else None,
        database=fields.get("schema") or None,
        query={key: str(value) for key, value in extra.items()},
    )


def _to_json(url: str) -> str:
    parsed = make_url(url)
    extra = dict(parsed.query)
    fields = {
        "conn_type": "postgres",
        "host": extra.pop("host", None) or parsed.host,
        "port": int(str(extra.pop("port", 0))) or parsed.port,
        "login": parsed.username,
        "password": parsed.password,
        "schema": parsed.database,
        "extra": extra,
    }
    return json.dumps({key: value for key, value in fields.items() if value})


def _kind(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else type(error).__name__


# Secrets ------------------------------------------------------------------------------------------


def _secrets(state: Path) -> dict[str, str]:
    """Passwords and keys of this installation, made once and kept where only its user reads."""
    file = state / "secrets.json"
    if not file.exists():
        named = [*_LOCAL_ROLES, "api_secret_key", "jwt_secret"]
        made = {name: secrets.token_urlsafe(32) for name in named}
        made |= {f"{user}_password": secrets.token_urlsafe(12) for user in ("admin", "viewer")}
        made["fernet_key"] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        _write_once(file, json.dumps(made, indent=2))
    kept: dict[str, str] = json.loads(file.read_text())
    return kept


def _write_once(file: Path, text: str) -> None:
    """Write a private file unless another process was faster; never a half of one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=file.parent) as draft:  # mode 0600
        draft.write(text)
        draft.flush()
        os.fsync(draft.fileno())
        try:
            os.link(draft.name, file)
        except FileExistsError:
            return


# Airflow's environment ----------------------------------------------------------------------------


def airflow_environment(site: Site) -> dict[str, str]:
    """What every Airflow process of this installation finds in its environment.

    Variables that the caller's environment already sets win where they tune, and lose where they
    would tie this Airflow to another installation's database, folders, ports or keys.
    """
    chosen = {name: value for name, value in os.environ.items() if name.startswith("AIRFLOW__")}
    return _tuning() | chosen | _identity(site)


def _tuning() -> dict[str, str]:
    return {
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__DEFAULT_TIMEZONE": "utc",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        # A family that is dropped into include/models works from its next tick on.
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        # A new or edited family shows within half a minute.
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "20",
        "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "10",
        # After a scheduler died, its successor takes over the tasks it left behind within a minute.
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
        "AIRFLOW__DAG_PROCESSOR__PRINT_STATS_INTERVAL": "600",
        "AIRFLOW__LOGGING__UVICORN_LOGGING_LEVEL": "WARNING",
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "great_expectations=WARNING alembic=WARNING",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "GX_ANALYTICS_ENABLED": "False",
        # Tasks are the parallelism. A thread pool in each would fight for the same cores, slow
        # small fits down, and let the number of cores change the bytes of a fitted model.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS", "1"),
        "PYTHONUNBUFFERED": "1",
        # Tasks talk to the api-server on loopback, also where a proxy is configured.
        "NO_PROXY": _with_loopback(os.environ.get("NO_PROXY", os.environ.get("no_proxy", ""))),
        "no_proxy": _with_loopback(os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))),
    }


def _identity(site: Site) -> dict[str, str]:
    kept = _secrets(site.state)
    url = ui_url(site)
    sources = {f"AIRFLOW_CONN_{name.upper()}": _to_json(to) for name, to in site.sources.items()}
    return sources | {
        "NIGHTSHIFT_HOME": str(site.home),
        "NIGHTSHIFT_STATE": str(site.state),
        "NIGHTSHIFT_MODELS": str(site.models),
        "AIRFLOW_CONN_NIGHTSHIFT": _to_json(site.database_url),
        "AIRFLOW_HOME": str(site.state / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(site.home / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(site.home / "plugins"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__FERNET_KEY": kept["fernet_key"],
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,viewer:viewer",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(_passwords_file(site)),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": url.rpartition(":")[2],
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__SECRET_KEY": kept["api_secret_key"],
        "AIRFLOW__API_AUTH__JWT_SECRET": kept["jwt_secret"],
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": _metadata_url(site),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(site.state / "logs" / "airflow"),
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(
            site.state / "logs" / "airflow" / "dag_processor"
        ),
    }


def _metadata_url(site: Site) -> str:
    """Airflow's own database: on the embedded server, or beside ``nightshift`` on yours."""
    if _is_embedded(site):
        return _server(site.state).url("airflow", "airflow")
    given = os.environ.get("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")
    return given or admin_url(site, "airflow")


def _passwords_file(site: Site) -> Path:
    return site.state / "airflow" / "passwords.json"


def _with_loopback(hosts: str) -> str:
    return ",".join(dict.fromkeys([*filter(None, hosts.split(",")), "127.0.0.1", "localhost"]))


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
    tell = Progress(console or Console())
    with _alone(site):
        _start_databases(site, tell)
        if airflow:
            _prepare_airflow(site, tell)
            _start_airflow(site, tell)


def prepare(site: Site, *, console: Console | None = None) -> None:
    """Bring both schemas and Airflow's pools to their newest state; start no Airflow."""
    tell = Progress(console or Console())
    with _alone(site):
        _start_databases(site, tell)
        _prepare_airflow(site, tell)


def down(site: Site, *, console: Console | None = None) -> None:
    """Stop exactly what ``up`` started. The data stays."""
    tell = Progress(console or Console())
    with _alone(site):
        processes = _processes(site)
        with tell("Airflow", "stopping", _stopped(processes.is_running())):
            processes.stop()
            (_runtime(site) / "ui-port").unlink(missing_ok=True)
        server = _server(site.state)
        with tell("Postgres", "stopping", _stopped(server.is_running())):
            server.stop()


def _stopped(was_running: bool) -> str:
    return "is stopped" if was_running else "was not running"


def airflow(site: Site, arguments: Sequence[str]) -> int:
    """Run Airflow's own command line in this installation; its exit code."""
    if _is_embedded(site) and not _server(site.state).is_running():
        raise SetupError("Postgres does not run; start it with `nightshift up`")
    environment = os.environ | airflow_environment(site)
    return subprocess.run([*_AIRFLOW, *arguments], env=environment, check=False).returncode


def airflow_is_running(site: Site) -> bool:
    """Whether ``up`` started Airflow and it has not been stopped since."""
    return _processes(site).is_running()


class Progress:
    """Tells what is being done while it is done, and how long it took."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def __call__(self, subject: str, doing: str, done: str) -> Iterator[None]:
        began = time.monotonic()
        with self._console.status(f"{subject}: {doing}"):
            yield
        seconds = time.monotonic() - began
        took = f"[dim]{seconds:.1f} s[/dim]" if seconds >= 0.1 else ""
        self._console.print(f"[bold]{subject:<9}[/bold] {done} {took}", highlight=False)


@contextmanager
def _alone(site: Site) -> Iterator[None]:
    """One ``up`` or ``down`` at a time; a second one waits for the first."""
    site.state.mkdir(parents=True, exist_ok=True)
    with (site.state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# Databases ----------------------------------------------------------------------------------------


def _start_databases(site: Site, tell: Progress) -> None:
    if _is_embedded(site):
        _start_embedded(site, tell)
    else:
        _check_external(site, tell)
    with tell("Schema", "migrating", "is the newest"):
        database.migrate(admin_url(site))
        _give_passwords(site)


def _start_embedded(site: Site, tell: Progress) -> None:
    server = _server(site.state)
    running = "is running already" if server.is_running() else f"runs on 127.0.0.1:{server.port}"
    with tell("Postgres", "starting", running):
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


def _check_external(site: Site, tell: Progress) -> None:
    where = make_url(admin_url(site))
    with (
        tell("Postgres", "connecting", f"is yours, at {where.host or where.query.get('host')}"),
        session(admin_url(site)) as connection,
    ):
        if "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" in os.environ:
            return
        try:
            create_database(connection, "airflow")
        except ProgrammingError as error:
            raise SetupError(
                f"Airflow needs a database of its own and {where.username!r} may not make one:"
                " create the database 'airflow', or set AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
            ) from error


def _create_login(connection: Connection, role: str) -> None:
    known = connection.exec_driver_sql("select 1 from pg_roles where rolname = %s", (role,))
    if known.first() is None:
        connection.exec_driver_sql(f"create role {role} login")


def _give_passwords(site: Site) -> None:
    """Let logins that come over TCP in: all of ours, or the one that ``database_url`` names."""
    if _is_embedded(site):
        kept = _secrets(site.state)
        passwords = {role: kept[role] for role in _LOCAL_ROLES}
    elif "NIGHTSHIFT_ADMIN_URL" in os.environ:
        url = make_url(site.database_url)
        passwords = {str(url.username): str(url.password)} if url.password else {}
    else:
        passwords = {}
    with session(admin_url(site)) as connection:
        for role, password in passwords.items():
            _set_password(connection, role, password)


def _set_password(connection: Connection, role: str, password: str) -> None:
    # Hashed here, so that the password itself is in no statement and in no log.
    driver: Any = connection.connection.driver_connection
    verifier = psycopg2.extensions.encrypt_password(password, role, driver, "scram-sha-256")
    name = connection.dialect.identifier_preparer.quote_identifier(role)
    connection.exec_driver_sql(f"alter role {name} password '{verifier}'")


# Airflow ------------------------------------------------------------------------------------------

_AIRFLOW = [sys.executable, "-m", "airflow"]


def _prepare_airflow(site: Site, tell: Progress) -> None:
    """Migrate Airflow's database and import our pools, unless that was done: it takes long."""
    passwords = _passwords_file(site)
    passwords.parent.mkdir(parents=True, exist_ok=True)
    if not passwords.exists():
        _write_once(passwords, json.dumps(logins(site)))
    pools = site.home / "include" / "nightshift_airflow" / "pools.json"
    stamp = site.state / "airflow" / "prepared.json"
    wanted = {"airflow": version("apache-airflow"), "pools": _sha256(pools)}
    before = json.loads(stamp.read_text()) if stamp.exists() else {}
    if before != wanted | {"revision": _airflow_revision(site)}:
        with tell("Airflow", "migrating its database, about 20 s", "has the newest schema"):
            _run_airflow(site, "db", "migrate")
            _run_airflow(site, "pools", "import", str(pools))
        stamp.write_text(json.dumps(wanted | {"revision": _airflow_revision(site)}))


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _airflow_revision(site: Site) -> str | None:
    with session(_metadata_url(site)) as connection:
        if not connection.dialect.has_table(connection, "alembic_version"):
            return None
        revision: str | None = connection.exec_driver_sql(
            "select version_num from alembic_version"
        ).scalar()
        return revision


def _run_airflow(site: Site, *arguments: str) -> None:
    done = subprocess.run(
        [*_AIRFLOW, *arguments],
        env=os.environ | airflow_environment(site),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise SetupError(f"`airflow {' '.join(arguments)}` failed and said:\n{said}")


def _processes(site: Site) -> Processes:
    commands = {name: [*_AIRFLOW, *arguments] for name, arguments in PARTS.items()}
    return Processes(_runtime(site), site.state / "logs", commands)


def _start_airflow(site: Site, tell: Progress) -> None:
    processes = _processes(site)
    url = ui_url(site)
    running = processes.is_running()
    if not running:
        private_folder(processes.folder)
        port = url.rpartition(":")[2]
        require_free_port(int(port), "Airflow", "NIGHTSHIFT_UI_PORT")
        (processes.folder / "ui-port").write_text(port)
    said = f"is running already at {url}" if running else f"is healthy at {url}"
    with tell("Airflow", "starting its four processes", said):
        processes.start(os.environ | airflow_environment(site))
        _wait_until_healthy(processes, url)


def _wait_until_healthy(processes: Processes, url: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while unhealthy := _unhealthy(url):
        dead = [name for name, state in processes.states().items() if state == "FATAL"]
        if dead or time.monotonic() > deadline:
            shown = dead or [part for part in PARTS if part.replace("-", "_") in unhealthy]
            logs = "\n".join(processes.last_lines(name) for name in shown)
            raise SetupError(f"Airflow is not healthy: {', '.join(unhealthy)}.\n{logs}")
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
