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
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from rich.console import Console

from nightshift.data import write_once
from nightshift.errors import SetupError
from nightshift.local.databases import ready_databases
from nightshift.local.embedded import (
    Postgres,
    private_folder,
    require_free_port,
    session,
)
from nightshift.local.installation import (
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
    "logins",
    "prepare",
    "psql_command",
    "site",
    "ui_url",
    "up",
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
        with ready_databases(site, progress):
            if airflow:
                _prepare_airflow(site, progress)
        if airflow:
            _start_airflow(site, progress)


def prepare(site: Site, *, console: Console | None = None) -> None:
    """Bring both schemas and Airflow's pools to their newest state; start no Airflow."""
    progress = Progress(console or Console())
    with _alone(site), ready_databases(site, progress):
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
