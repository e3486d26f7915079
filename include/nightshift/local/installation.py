"""Where this installation is: its folders, databases, ports, passwords, and Airflow's environment.

Environment
-----------
NIGHTSHIFT_HOME          the project; default: the nearest folder upward that has include/models
NIGHTSHIFT_STATE         what this installation writes; default: ``.nightshift`` in the project
NIGHTSHIFT_STORE         snapshots and artifacts, a folder or s3://bucket/prefix; default: in state
NIGHTSHIFT_KEYS          the folder of the key that signs artifacts; default: in state
NIGHTSHIFT_MODELS        the folder of families; default: ``include/models`` in the project
NIGHTSHIFT_PG_PORT       the embedded Postgres on loopback; default 54329
NIGHTSHIFT_UI_PORT       Airflow's pages and API on loopback; default 8080
NIGHTSHIFT_DATABASE_URL  a Postgres of yours instead of the embedded one
NIGHTSHIFT_ADMIN_URL     the same database, as someone who may create roles
AIRFLOW_CONN_<NAME>      a source, as Airflow writes connections: a URI or JSON
AIRFLOW__<PART>__<KEY>   Airflow's own settings, except those that hold an installation together
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shlex
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from sqlalchemy import make_url

from nightshift.data import write_once
from nightshift.errors import SetupError
from nightshift.local.embedded import DEFAULT_PORT, Postgres, binaries, short_folder
from nightshift.local.processes import LONGEST_NAME
from nightshift.site import Site, default_home, models_folder, shared_places
from nightshift.sources import (
    KINDS,
    AirflowConnection,
    missing_connection,
    read_connection,
    url_of,
    variable_of,
)

DEFAULT_UI_PORT = 8080
LOCAL_ROLES = ("postgres", "airflow", "nightshift_writer", "nightshift_reader", "warehouse_reader")
"""Who may log in to the embedded server, each with a password for loopback."""

_KEYS = (
    "AIRFLOW__API__SECRET_KEY",
    "AIRFLOW__API_AUTH__JWT_SECRET",
    "AIRFLOW__CORE__FERNET_KEY",
)
_TALKATIVE = (
    "airflow.dag_processing",
    "airflow.models.dag",
    "airflow.serialization",
    "alembic",
    "great_expectations",
)


# Where things are ---------------------------------------------------------------------------------


def site() -> Site:
    """This installation, as the environment describes it.

    Raises
    ------
    SetupError
        A variable holds something that cannot be read; the message names it.
    """
    home = default_home().absolute()
    state = Path(os.environ.get("NIGHTSHIFT_STATE") or home / ".nightshift").absolute()
    connections = _connections_from_environment()
    external = connections.pop("nightshift", None)
    if url := os.environ.get("NIGHTSHIFT_DATABASE_URL"):
        external = _connection_url("NIGHTSHIFT_DATABASE_URL", url)
    server = embedded_server(state)
    ours = {} if external else {"warehouse": server.url("warehouse", "warehouse_reader")}
    bare = Site(
        home=home,
        state=state,
        models=models_folder(home).absolute(),
        database_url=external or server.url("nightshift", "nightshift_writer"),
        sources=ours | connections,
        **shared_places(),
    )
    return replace(bare, find=partial(find_source, bare))


def find_source(site: Site, name: str) -> str:
    """The URL of a source whose connection Airflow keeps elsewhere than in the environment.

    Asks Airflow, in a process of its own: its secrets backend, then its database.

    Raises
    ------
    SetupError
        There is no such connection, it leads to no kind of source, or Airflow cannot be asked.
    """
    variable = variable_of(name)
    if text := os.environ.get(variable):  # of another type, or it would be among the sources
        return url_of(name, _read(variable, text))
    command = [sys.executable, "-m", "nightshift_airflow.connections", name]
    environment = os.environ | {"PYTHONWARNINGS": "ignore"} | airflow_environment(site)
    process = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    answer = process.stdout.strip().splitlines()
    places = [f"{variable} in the environment"]
    if process.returncode or not answer:
        reason = (process.stderr.strip().splitlines() or ["no answer"])[-1]
        raise missing_connection(
            name, "a source", [*places, f"and Airflow could not be asked ({reason})"]
        )
    reply = json.loads(answer[-1])
    if reply["connection"] is None:
        raise missing_connection(name, "a source", [*places, *reply["places"]])
    return url_of(name, AirflowConnection(**reply["connection"]))


def admin_url(site: Site, database: str = "nightshift") -> str:
    """A SQLAlchemy URL of someone who may create things in a database of the site's server."""
    if is_embedded(site):
        return embedded_server(site.state).url(database)
    configured = os.environ.get("NIGHTSHIFT_ADMIN_URL")
    url = _connection_url("NIGHTSHIFT_ADMIN_URL", configured) if configured else site.database_url
    if database != "nightshift":
        url = make_url(url).set(database=database).render_as_string(hide_password=False)
    return url


def ui_url(site: Site) -> str:
    """Where Airflow's pages are, or will be."""
    remembered = runtime_folder(site) / "ui-port"
    if "NIGHTSHIFT_UI_PORT" not in os.environ and remembered.exists():
        return f"http://127.0.0.1:{remembered.read_text()}"
    return f"http://127.0.0.1:{_port('NIGHTSHIFT_UI_PORT', DEFAULT_UI_PORT)}"


def logins(site: Site) -> dict[str, str]:
    """Airflow's users and their passwords."""
    stored = stored_secrets(site.state)
    return {user: stored[f"{user}_password"] for user in ("admin", "viewer")}


def psql_command(site: Site, role: str = "nightshift_reader") -> str:
    """A command line that opens psql on the ``nightshift`` database as ``role``."""
    url = make_url(site.database_url).set(drivername="postgresql")
    if is_embedded(site):
        url = url.set(username=role)
        return shlex.join([str(binaries() / "psql"), url.render_as_string(hide_password=False)])
    return shlex.join(["psql", url.set(username=role, password=None).render_as_string()])


def embedded_server(state: Path) -> Postgres:
    """The server that keeps its data in this state folder, whether it runs or not."""
    return Postgres(state / "postgres", _port("NIGHTSHIFT_PG_PORT", DEFAULT_PORT))


def is_embedded(site: Site) -> bool:
    """Whether the site's database is on the embedded server, or on one that the user named."""
    sockets = make_url(site.database_url).query.get("host")
    return sockets == str(embedded_server(site.state).socket_folder)


def runtime_folder(site: Site) -> Path:
    """Where sockets and pid files are."""
    return short_folder(site.state / "run", LONGEST_NAME)


def _port(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise SetupError(f"{variable} is {text!r}; accepted: a port from 1 to 65535")
    return int(text)


# Connections, as Airflow writes them --------------------------------------------------------------


def _connections_from_environment() -> dict[str, str]:
    """Name to SQLAlchemy URL of every ``AIRFLOW_CONN_<NAME>`` that leads to a kind of source."""
    prefix = "AIRFLOW_CONN_"
    named = {
        variable.removeprefix(prefix).lower(): _read(variable, text)
        for variable, text in os.environ.items()
        if variable.startswith(prefix)
    }
    urls = {}
    for name, connection in named.items():
        if connection.conn_type not in KINDS:
            continue
        try:
            urls[name] = url_of(name, connection)
        except SetupError:  # it may be no business of ours; who asks for it by name is told
            if name == "nightshift":
                raise
    return urls


def _connection_url(variable: str, text: str) -> str:
    """A URI or JSON connection to a Postgres of ours as a SQLAlchemy URL."""
    connection = _read(variable, text)
    if connection.conn_type != "postgres":
        raise SetupError(
            f"{variable} begins with {connection.conn_type}://;"
            " accepted: postgresql://user:password@host:5432/database"
        )
    return url_of(variable, connection)


def _read(variable: str, text: str) -> AirflowConnection:
    try:
        return read_connection(text)
    except ValueError as error:
        raise SetupError(f"{variable} is not a URL or a JSON connection: {error}") from None


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


# Secrets ------------------------------------------------------------------------------------------


def stored_secrets(state: Path) -> dict[str, str]:
    """Passwords and keys of this installation, made once and kept where only its user reads."""
    file = state / "secrets.json"
    if not file.exists():
        named = [*LOCAL_ROLES, "api_secret_key", "jwt_secret"]
        generated = {name: secrets.token_urlsafe(32) for name in named}
        generated |= {f"{user}_password": secrets.token_urlsafe(12) for user in ("admin", "viewer")}
        generated["fernet_key"] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        write_once(file, json.dumps(generated, indent=2))
    stored: dict[str, str] = json.loads(file.read_text())
    return stored


# Airflow's environment ----------------------------------------------------------------------------


def airflow_environment(site: Site) -> dict[str, str]:
    """What every Airflow process of this installation finds in its environment.

    Variables that the caller's environment already sets win where they tune, and lose where they
    would tie this Airflow to another installation's database, folders, ports or keys.
    """
    chosen = {name: value for name, value in os.environ.items() if name.startswith("AIRFLOW__")}
    # Beside a server of yours there may be other machines, which must hold the same keys.
    shared = {} if is_embedded(site) else {key: chosen[key] for key in _KEYS if key in chosen}
    return _tuning() | chosen | _identity(site) | shared


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
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": " ".join(f"{name}=WARNING" for name in _TALKATIVE),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "GX_ANALYTICS_ENABLED": "False",
        # Tasks are the parallelism. A thread pool in each would fight for the same cores, slow
        # small fits down, and let the number of cores change the bytes of a fitted model.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS", "1"),
        # Large fits have threads of their own. By default each waits for the others by counting,
        # which takes the time from the very thread that it waits for where tasks share the cores.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive"),
        "PYTHONUNBUFFERED": "1",
        # Tasks talk to the api-server on loopback, also where a proxy is configured.
        "NO_PROXY": _with_loopback(os.environ.get("NO_PROXY", os.environ.get("no_proxy", ""))),
        "no_proxy": _with_loopback(os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))),
    }


def _identity(site: Site) -> dict[str, str]:
    stored = stored_secrets(site.state)
    url = ui_url(site)
    sources = {
        variable: os.environ.get(variable) or _to_json(url)
        for variable, url in ((variable_of(name), url) for name, url in site.sources.items())
    }
    return sources | {
        "NIGHTSHIFT_HOME": str(site.home),
        "NIGHTSHIFT_STATE": str(site.state),
        "NIGHTSHIFT_STORE": site.store,
        "NIGHTSHIFT_KEYS": str(site.keys),
        "NIGHTSHIFT_MODELS": str(site.models),
        "AIRFLOW_CONN_NIGHTSHIFT": _to_json(site.database_url),
        "AIRFLOW_HOME": str(site.state / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(site.home / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(site.home / "plugins"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__FERNET_KEY": stored["fernet_key"],
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,viewer:viewer",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords_file(site)),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": url.rpartition(":")[2],
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__SECRET_KEY": stored["api_secret_key"],
        "AIRFLOW__API_AUTH__JWT_SECRET": stored["jwt_secret"],
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata_url(site),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(site.state / "logs" / "airflow"),
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(
            site.state / "logs" / "airflow" / "dag_processor"
        ),
    }


def metadata_url(site: Site) -> str:
    """Airflow's own database: on the embedded server, or beside ``nightshift`` on yours."""
    if is_embedded(site):
        return embedded_server(site.state).url("airflow", "airflow")
    configured = os.environ.get("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")
    return configured or admin_url(site, "airflow")


def passwords_file(site: Site) -> Path:
    return site.state / "airflow" / "passwords.json"


def _with_loopback(hosts: str) -> str:
    return ",".join(dict.fromkeys([*filter(None, hosts.split(",")), "127.0.0.1", "localhost"]))
