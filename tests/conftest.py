"""One real Postgres for the whole run; a fresh clone of a migrated database for every test."""

from __future__ import annotations

import os

# Processes share the cores. Where threads do as well, each waits for the others by counting, which
# takes the time that those need: a fit of half a second takes a minute and a half.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}

import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Connection
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from nightshift import data, sources
from nightshift.local import Postgres, session
from nightshift.site import Site

HOME = Path(__file__).resolve().parents[1]
_numbers = count(1)


SHARED = {
    "tests/e2e/": "Airflow",
    "tests/integration/demo/test_flights_families.py": "flights",
    "tests/integration/training/test_reproduce.py": "flights",
    "tests/integration/demo/test_warehouse.py": "flights",
}
"""Tests that share what takes long to make, by the beginning of their ids."""


LONG = (*SHARED, "tests/packaging/", "tests/faults/")
"""What takes longest, by the beginning of its ids: begun last, it would go on alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest begin first; all else stays in its order."""

    def place(item: pytest.Item) -> int:
        begins = (number for number, path in enumerate(LONG) if item.nodeid.startswith(path))
        return next(begins, len(LONG))

    items.sort(key=place)


class SharedOnce(LoadFileScheduling):
    """A file's tests go to one process, and so do files that share what takes long to make."""

    def _split_scope(self, nodeid: str) -> str:
        shared = (what for path, what in SHARED.items() if nodeid.startswith(path))
        return next(shared, super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> SharedOnce | None:
    """Share out tests by file and by what files share, where xdist is asked for files."""
    return SharedOnce(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server that listens on its socket only and does not wait for the disk."""
    # Not pytest's own temporary folder: its path may be too long for a socket.
    folder = Path(tempfile.mkdtemp(prefix="nightshift-tests-", dir=_in_memory()))
    server = Postgres(folder / "pg", port=None, durable=False)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


def _in_memory() -> Path | None:
    """Where files are made and dropped fastest, if there is room for databases."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 4 << 30
    return memory if roomy else None


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> str:
    """The name of a database that was migrated once and that nobody writes to."""
    postgres.create_database("template")
    data.migrate(postgres.url("template"))
    return "template"


@pytest.fixture(scope="session")
def administration(postgres: Postgres) -> Iterator[Connection]:
    """A session beside the databases of the tests, which makes and drops them."""
    with session(postgres.url("postgres")) as connection:
        yield connection


@pytest.fixture
def new_database(postgres: Postgres, administration: Connection) -> Iterator[Callable[..., str]]:
    """Make a database (``template=`` names the one to clone); its superuser URL."""
    made = []

    def make(template: str = "template1") -> str:
        name = f"test_{next(_numbers)}"
        # The server does not wait for the disk, so copying files is the cheaper way.
        administration.exec_driver_sql(
            f"create database {name} template {template} strategy file_copy"
        )
        made.append(name)
        return postgres.url(name)

    yield make
    for name in made:
        leave(postgres.url(name))  # dropping would wait a tenth of a second
        administration.exec_driver_sql(f"drop database {name} with (force)")


def leave(url: str) -> None:
    """Close what this process keeps open of a database: it is to be copied or dropped."""
    for kept in ({}, {"role": None}):
        data.connect(url, **kept).close()
    sources.open_source("warehouse", url).close()


@pytest.fixture
def database_url(new_database: Callable[..., str], template: str) -> str:
    """The superuser's URL of a migrated, empty ``nightshift`` database."""
    return new_database(template)


EMPTY = """
select pg_terminate_backend(pid, 5000) from (
    select distinct pid from pg_locks
    where database = (select oid from pg_database where datname = current_database())
      and pid <> pg_backend_pid()
) who_holds_a_lock;
do $$
declare
    made regnamespace;
begin
    for made in select oid from pg_namespace where nspname !~ '^pg_|^information_schema$' loop
        execute 'drop schema ' || made || ' cascade';
    end loop;
end
$$;
create schema public authorization pg_database_owner;
grant usage on schema public to public;
"""


@pytest.fixture
def warehouse_url(postgres: Postgres) -> Iterator[str]:
    """The superuser's URL of an empty source database.

    It is emptied, not dropped: making a database takes longer than most tests work in this one.
    """
    postgres.create_database("warehouse")
    url = postgres.url("warehouse")
    yield url
    with session(url) as connection:
        connection.exec_driver_sql(EMPTY)


@pytest.fixture
def make_site(tmp_path: Path, database_url: str, warehouse_url: str) -> Callable[..., Site]:
    """Make a site on the test's databases; ``models=`` a folder with families of your own."""

    def make(home: Path = HOME) -> Site:
        sources = {"warehouse": warehouse_url}
        return Site(
            home=home,
            state=tmp_path / "state",
            models=home / "include" / "models",
            database_url=database_url,
            sources=sources,
        )

    return make


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """This checkout, with a state folder and databases of the test's own."""
    return make_site()
