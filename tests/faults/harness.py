"""Real processes that stop at named places, a reader that never stops looking, a lossy line.

A process is held at a failpoint and says so through a pipe; it goes on, or is killed, when the test
says so. Nothing here waits by the clock.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool
from tests.world import World

from nightshift import failpoints
from nightshift.data import store
from nightshift.errors import NightshiftError
from nightshift.local import Postgres

PATIENCE = 120
"""Seconds after which a process that says nothing is taken for lost."""

TRIES = 4
"""As Airflow has it: the first try, and three more after errors that time may mend."""

SOAK = bool(os.environ.get("SOAK"))
"""Set by ``make soak``: twenty times as many examples, and other ones every time."""

# Children are forked from a server that has imported everything and has no threads.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [__name__, "psycopg2.extras", "sklearn.compose", "sklearn.linear_model"]
)


def thorough(examples: int, **more: Any) -> settings:
    """How much hypothesis tries: the same every time, so that a failure is nobody's bad luck."""
    return settings(
        max_examples=examples * 20 if SOAK else examples,
        derandomize=not SOAK,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        **more,
    )


class Refused(Exception):
    """A process ended with one of our errors."""

    def __init__(self, code: str, message: str, transient: bool) -> None:
        super().__init__(message)
        self.code = code
        self.transient = transient


class Process:
    """A process of its own that does one piece of work, and is held at the places named.

    Parameters
    ----------
    work
        A ``partial`` of a function that both processes can import.
    held
        Failpoints at which it stops, each the first time, until :meth:`go`.
    """

    def __init__(self, work: partial[Any], *held: str) -> None:
        self._pipe, theirs = _context.Pipe()
        self._process = _context.Process(target=_live, args=(theirs, work, held), daemon=True)
        self._process.start()
        theirs.close()

    def reached(self, name: str) -> Process:
        """Wait until it is held at a place."""
        kind, content = self._received()
        assert (kind, content) == ("reached", name), (kind, content)
        return self

    def go(self) -> None:
        """Let it go on from where it is held."""
        self._pipe.send("go")

    def kill(self) -> None:
        """SIGKILL: nothing of it runs any more when this returns."""
        self._process.kill()
        self._process.join(PATIENCE)
        assert not self._process.is_alive()

    @property
    def runs(self) -> bool:
        """Whether it has neither ended nor anything to say."""
        return self._process.is_alive() and not self._pipe.poll()

    def outcome(self) -> Any:
        """What the work returns; its refusal is raised."""
        kind, content = self._received()
        self._process.join(PATIENCE)
        if kind == "refused":
            raise Refused(*content)
        assert kind == "done", (kind, content)
        return content

    def _received(self) -> tuple[str, Any]:
        assert self._pipe.poll(PATIENCE), "the process says nothing"
        message: tuple[str, Any] = self._pipe.recv()
        return message


def _live(pipe: Connection, work: partial[Any], held: Collection[str]) -> None:
    waiting = set(held)

    def hold(name: str) -> None:
        if name in waiting:
            waiting.discard(name)
            pipe.send(("reached", name))
            pipe.recv()

    failpoints._hook = hold
    store.ROW_GROUP = 10  # a night of thirty rows is copied in three pieces
    try:
        pipe.send(("done", work()))
    except NightshiftError as error:
        pipe.send(("refused", (error.code, str(error), error.transient)))


def together(work: Collection[partial[Any]], place: str) -> list[Any]:
    """Hold processes at one place until all are there, then let them race; what each came to."""
    processes = [Process(piece, place) for piece in work]
    for process in processes:
        process.reached(place)
    for process in processes:
        process.go()
    return [outcome(process) for process in processes]


def outcome(process: Process) -> Any:
    """What a process came to: its result, or its refusal."""
    try:
        return process.outcome()
    except Refused as refused:
        return refused


def until_it_waits(world: World, process: Process) -> None:
    """Wait until a process stands behind a lock of another one, or has ended without."""
    waiting = (
        "select count(*) from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock'"
    )
    while process.runs and not world.rows(waiting)[0][0]:
        pass


def as_airflow_would(work: partial[Any]) -> tuple[Any, int]:
    """Try again after errors that time may mend, and no more often; the result, and the tries."""
    for tries in range(1, TRIES + 1):
        try:
            return Process(work).outcome(), tries
        except Refused as refused:
            if not refused.transient or tries == TRIES:
                raise
    raise AssertionError


LOOK = """
select as_of, min(batch_id), max(batch_id), count(*), count(distinct entity_id), round(sum(score))
from predictions group by as_of
"""


class Reader:
    """Looks at what readers see, over and over; remembers what must never be seen.

    Parameters
    ----------
    whole
        What a whole night may look like: its rows, and the sum of their scores.
    """

    def __init__(self, url: str, whole: Collection[tuple[int, int]]) -> None:
        self._engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        self._whole = set(whole)
        self._shown: dict[Any, int] = {}
        self._served: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.looks = 0
        self.violations: list[str] = []

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(PATIENCE)
        assert self.looks, "the reader has seen nothing"
        assert self.violations == []

    def _run(self) -> None:
        while not self._over.is_set():
            with suppress(DBAPIError), self._engine.connect() as connection:
                connection.exec_driver_sql("set role nightshift_reader")
                while not self._over.is_set():
                    self._look(connection)
                    self.looks += 1

    def _look(self, connection: Any) -> None:
        for as_of, low, high, rows, keys, total in connection.exec_driver_sql(LOOK):
            if low != high or rows != keys or (rows, int(total)) not in self._whole:
                self._violated(f"{as_of}: batches {low} to {high}, {rows} rows, sum {total}")
            if low < self._shown.get(as_of, 0):
                self._violated(f"{as_of}: back from batch {self._shown[as_of]} to {low}")
            self._shown[as_of] = low
        serving = [row.model for row in connection.exec_driver_sql("select model from champions")]
        if len(set(serving)) != len(serving) or not self._served <= set(serving):
            self._violated(f"champions of {serving}, before of {self._served}")
        self._served |= set(serving)

    def _violated(self, violation: str) -> None:
        self.violations.append(violation)


class LossyLine:
    """A line to Postgres that can lose the answer to the next COMMIT, and everything after."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._losing = threading.Event()
        self._folder = tempfile.TemporaryDirectory(prefix="nightshift-line-")
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(f"{self._folder.name}/.s.PGSQL.{self._port}")
        self._server.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def _port(self) -> str:
        return str(self._url.query["port"])

    @property
    def url(self) -> str:
        """The database through this line."""
        through = self._url.update_query_dict({"host": self._folder.name})
        return through.render_as_string(hide_password=False)

    def lose_the_next_answer_to_commit(self) -> None:
        self._losing.set()

    def close(self) -> None:
        self._server.close()
        self._folder.cleanup()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(f"{self._url.query['host']}/.s.PGSQL.{self._port}")
                committing = threading.Event()
                for way in (
                    (client, server, committing, None),
                    (server, client, None, committing),
                ):
                    threading.Thread(target=self._pass, args=way, daemon=True).start()

    def _pass(
        self,
        source: socket.socket,
        target: socket.socket,
        asks: threading.Event | None,
        asked: threading.Event | None,
    ) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if asks and self._losing.is_set() and b"COMMIT\0" in data:
                    self._losing.clear()
                    asks.set()
                if asked and asked.is_set():
                    break  # the server has committed; nobody hears of it
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def lossy(url: str) -> Iterator[LossyLine]:
    line = LossyLine(url)
    yield line
    line.close()


def crash(server: Postgres) -> None:
    """Stop a server of one's own at once, as a power cut of the process would, and start it."""
    from nightshift.local.embedded import _server_user

    server._run(_server_user(), "pg_ctl", "stop", "-m", "immediate")
    server.start()


def forks(work: Callable[..., Any], *arguments: Any, **named: Any) -> Process:
    """A process that is held nowhere."""
    return Process(partial(work, *arguments, **named))


def store_files(folder: Path | str) -> set[str]:
    """The names of all files in a store, unfinished ones too."""
    return {file.name for file in Path(folder).rglob("*") if file.is_file()}
