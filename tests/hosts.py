"""Who serves the pages, and what runs the DAGs, in tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, Request
from tests.world import FAMILY, World

from nightshift.family import ModelFamily
from nightshift.site import Site
from nightshift.web.app import create
from nightshift.web.host import Act, Host, User

HOME = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Door:
    """A host with a key for each user: the families they may see, and those they may score."""

    at: Site
    keys: Mapping[str, tuple[str, ...]]
    scorers: tuple[str, ...]

    def site(self) -> Site:
        return self.at

    async def user(self, request: Request) -> User:
        name = request.headers.get("authorization", "").removeprefix("Bearer ")
        if name not in self.keys:
            raise HTTPException(401, "log in first")
        return User(name, name)

    def login_url(self, to: str) -> str:
        return "/login"

    def origin(self) -> str | None:
        return None

    def allowed(self, user: User, families: Iterable[str], act: Act) -> frozenset[str]:
        if act == "act" and user.name not in self.scorers:
            return frozenset()
        return frozenset(families).intersection(self.keys[user.name])

    async def call(
        self, request: Request, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        raise NotImplementedError

    def partition_key(self, family: ModelFamily, as_of: datetime) -> str:
        raise NotImplementedError

    def run_url(self, dag_id: str, run_id: str | None = None) -> str:
        return dag_id


def served(door: Host) -> FastAPI:
    """The pages mounted as Airflow mounts them."""
    app = FastAPI(openapi_url=None)
    app.mount("/nightshift", create(door))
    return app


@dataclass
class Reader:
    """A host that lets one user read some families."""

    of: Site
    families: frozenset[str] | None = None

    def site(self) -> Site:
        return self.of

    async def user(self, request: Request) -> User:
        return User("reader", None)

    def allowed(self, user: User, families: Iterable[str], act: Act) -> frozenset[str]:
        wanted = frozenset(families)
        return wanted if self.families is None else wanted & self.families

    async def call(
        self, request: Request, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        raise NotImplementedError

    def login_url(self, to: str) -> str:
        return f"/login?next={to}"

    def origin(self) -> str | None:
        return None

    def partition_key(self, family: ModelFamily, as_of: datetime) -> str:
        return as_of.isoformat()

    def run_url(self, dag_id: str, run_id: str | None = None) -> str:
        return f"/dags/{dag_id}"


DAGS = HOME / "tests" / "dags"

LINES = "notifiers.LinesNotifier"

MONITORING = timedelta(hours=4)


@dataclass
class Airflow:
    """A process that runs one DAG after the other, on the families and databases of a test."""

    process: subprocess.Popen[str]
    log: Path
    world: World
    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, kind: str, number: int, database_url: str = "", **conf: Any) -> dict[str, Any]:
        """How a run about a night went: ``state``, the states of its ``tasks``, and ``log``."""
        as_of = self.world.night(number) + (MONITORING if kind == "monitor" else timedelta(0))
        site = self.world.site
        run = {
            "dag_id": f"{FAMILY}.{kind}",
            "conf": {"as_of": as_of.isoformat(), **conf},
            "environment": {
                "AIRFLOW_CONN_NIGHTSHIFT": database_url or site.database_url,
                "AIRFLOW_CONN_WAREHOUSE": site.sources["warehouse"],
                "NIGHTSHIFT_MODELS": str(site.models),
                "NIGHTSHIFT_STATE": str(site.state),
                **self.environment,
            },
        }
        start = self.log.stat().st_size
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps(run), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        log = self.log.read_bytes()[start:].decode()
        assert answer, log[-3000:]
        return {**json.loads(answer), "log": log}

    @property
    def messages(self) -> Path:
        return self.home / "messages.jsonl"

    def titles(self) -> list[str]:
        """The title of each message."""
        lines = self.messages.read_text().splitlines() if self.messages.exists() else []
        return [json.loads(line)["title"] for line in lines]

    def lines(self, **changes: Any) -> dict[str, Any]:
        """A notifier that writes to ``messages``."""
        arguments = {
            "file": str(self.messages),
            "text": "{{ alert.message }}",
            "fields": {"title": "{{ alert.title }}", "run": "{{ dag.dag_id }}"},
        }
        return {"notifier": LINES, "arguments": arguments} | changes


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    """A process that runs DAGs in an Airflow with a database of its own, and its log."""
    home = tmp_path_factory.mktemp("airflow")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(HOME / "include"), str(DAGS)]),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(HOME / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
    }
    migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
    subprocess.run(migrate, env=environment, capture_output=True, timeout=200, check=True)
    log = home / "log"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, str(DAGS / "run.py")],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        ) as process,
    ):
        yield process, log
        assert process.stdin
        process.stdin.close()
