"""Programs that run in the background until they are told to stop, and come back when they die.

supervisord keeps them: each in a process group of its own, its output in a rotated log, control
over a private Unix socket only.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
import tempfile
import xmlrpc.client
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import psutil

from nightshift.errors import SetupError, extra_missing

LONGEST_NAME = "supervisor.sock.1234567"
"""The longest file name in ``Processes.folder``: sockets' paths have a limit."""

_PATIENCE = 60  # seconds for all programs to stop; supervisord kills what takes longer than 30

_SETTINGS = """\
[supervisord]
pidfile={folder}/supervisord.pid
logfile={logs}/supervisord.log
logfile_maxbytes=5MB
logfile_backups=2
directory={folder}
{user}

[unix_http_server]
file={folder}/supervisor.sock
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""

_PROGRAM = """
[program:{name}]
command={command}
stdout_logfile={logs}/{name}.log
stdout_logfile_maxbytes=20MB
stdout_logfile_backups=3
redirect_stderr=true
autorestart=true
startsecs=5
startretries=10
stopwaitsecs=30
stopasgroup=true
killasgroup=true
"""


@dataclass(frozen=True)
class Processes:
    """A set of programs that start and stop together.

    Parameters
    ----------
    folder
        A private folder for the control socket and the pid file; its path must be short.
    logs
        Where ``<name>.log`` of each program goes.
    commands
        Name to command line.
    """

    folder: Path
    logs: Path
    commands: Mapping[str, Sequence[str]]

    def start(self, environment: Mapping[str, str]) -> None:
        """Start what does not run; ``environment`` counts for a fresh start only."""
        if not self.is_running():
            self.stop()  # what a supervisord that was killed has left behind
            self._launch(environment)
            return
        with self._control() as control:
            for name, state in self.states().items():
                if state in ("STOPPED", "EXITED", "FATAL"):
                    control.startProcess(name, False)

    def stop(self) -> None:
        """Stop every program, whatever they started, and supervisord itself."""
        session = self._session()
        if self.is_running():
            with self._control() as control:
                supervisord = psutil.Process(control.getPID())
                control.shutdown()
            psutil.wait_procs([supervisord], timeout=_PATIENCE)
        if session is not None:
            _kill(_members(session, self.folder))

    def is_running(self) -> bool:
        """Whether supervisord answers."""
        if not self._socket.exists():
            return False
        try:
            with self._control() as control:
                return bool(control.getState()["statename"] == "RUNNING")
        except (OSError, HTTPException):
            return False

    def states(self) -> dict[str, str]:
        """supervisord's word for each program: STARTING, RUNNING, BACKOFF, FATAL, ..."""
        with self._control() as control:
            return {info["name"]: info["statename"] for info in control.getAllProcessInfo()}

    def last_lines(self, name: str, count: int = 15) -> str:
        """The end of a program's log."""
        log = self.logs / f"{name}.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return "\n".join([f"{log}:", *lines[-count:]])

    def _launch(self, environment: Mapping[str, str]) -> None:
        _require_supervisor()
        self.logs.mkdir(parents=True, exist_ok=True)
        settings = self.folder / "supervisord.conf"
        settings.write_text(self._settings())
        # A pipe would never end: the daemon keeps what it was handed.
        with tempfile.TemporaryFile() as output:
            command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(settings)]
            completed = subprocess.run(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
            output.seek(0)
            output_text = output.read().decode(errors="replace").strip()
        if completed.returncode:
            raise SetupError(f"supervisord did not start with {settings}: {output_text}")

    def _settings(self) -> str:
        places = {"folder": _escaped(self.folder), "logs": _escaped(self.logs)}
        user = "user=root" if os.geteuid() == 0 else ""  # else it warns on every start
        programs = [
            _PROGRAM.format(name=name, command=_escaped(self._command(name)), **places)
            for name in self.commands
        ]
        return _SETTINGS.format(user=user, **places) + "".join(programs)

    def _command(self, name: str) -> str:
        become = f"from {__name__} import main; main()"
        return shlex.join([sys.executable, "-c", become, *self.commands[name]])

    @property
    def _socket(self) -> Path:
        return self.folder / "supervisor.sock"

    @contextmanager
    def _control(self) -> Iterator[Any]:
        _require_supervisor()
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        with xmlrpc.client.ServerProxy("http://localhost", transport) as server:
            yield server.supervisor

    def _session(self) -> int | None:
        """The Unix session that supervisord opened and everything it started is in."""
        try:
            return int((self.folder / "supervisord.pid").read_text())
        except (FileNotFoundError, ValueError):
            return None


def _require_supervisor() -> None:
    if importlib.util.find_spec("supervisor") is None:
        raise extra_missing("Airflow on one machine", "supervisor", "local")


def _escaped(value: object) -> str:
    return str(value).replace("%", "%%")  # supervisord expands %(...)s in its settings


def _members(session: int, folder: Path) -> set[psutil.Process]:
    """Every process of a session that works in our folder, and whatever such a process started.

    The folder is the proof that a session number from an old file has not gone to somebody else.
    """
    roots = [process for process in psutil.process_iter() if _belongs(process, session, folder)]
    return set(roots).union(*(_descendants(process) for process in roots))


def _belongs(process: psutil.Process, session: int, folder: Path) -> bool:
    try:
        return os.getsid(process.pid) == session and Path(process.cwd()) == folder.resolve()
    except (OSError, psutil.Error):
        return False


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _kill(processes: Collection[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=_PATIENCE)


def main() -> None:
    """Become a program, once the orphans of its predecessor are gone.

    A scheduler that dies leaves its executor's workers behind. They would go on with tasks that the
    next scheduler starts again, so they die first; every step can be repeated.
    """
    supervisord = psutil.Process(os.getppid())
    alive = {supervisord, *_descendants(supervisord)}
    _kill(_members(os.getsid(0), Path.cwd()) - alive)
    os.execv(sys.argv[1], sys.argv[1:])
