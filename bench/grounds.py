"""What benchmarks stand on: a Postgres of their own, a source, families, and a clock."""

from __future__ import annotations

import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from nightshift import data
from nightshift.local import Postgres, session
from nightshift.site import Site


@contextmanager
def folder() -> Iterator[Path]:
    """An empty folder, which goes afterwards; its path is short, since Postgres makes a socket."""
    made = Path(tempfile.mkdtemp(prefix="nightshift-bench-"))
    try:
        yield made
    finally:
        shutil.rmtree(made)


@contextmanager
def postgres(*, durable: bool = True) -> Iterator[tuple[Postgres, Path]]:
    """A server with a migrated database ``nightshift``, and the folder in which it runs."""
    with folder() as made:
        server = Postgres(made / "pg", port=None, durable=durable)
        server.start()
        try:
            server.create_database("nightshift")
            data.migrate(server.url("nightshift"))
            yield server, made
        finally:
            server.stop()


@contextmanager
def site(models: int, rows: int) -> Iterator[tuple[Site, Postgres]]:
    """An installation without families, whose source has so many rows for each of its models."""
    with postgres() as (server, made):
        server.create_database("warehouse")
        with session(server.url("warehouse")) as connection:
            connection.exec_driver_sql(source(models, rows))
        sources = {"warehouse": server.url("warehouse")}
        url = server.url("nightshift")
        yield Site(made, made / "state", made / "models", url, sources), server


def fresh_database(server: Postgres, name: str, template: str | None = None) -> str:
    """A migrated database, or a copy of another one, as simulations make them; its URL."""
    if template is not None:
        data.connect(server.url(template)).close()
    with session(server.url("postgres")) as connection:
        connection.exec_driver_sql(f"drop database if exists {name} with (force)")
        copied = f" template {template}" if template else ""
        connection.exec_driver_sql(f"create database {name}{copied}")
        connection.exec_driver_sql(f"alter database {name} set synchronous_commit = off")
    data.migrate(server.url(name))
    return server.url(name)


def source(models: int, rows: int) -> str:
    """The source's one table: so many rows for each of so many models."""
    return f"""
select setseed(0.5);
create table rows as
select number, random() as a, random() as b, random() as c, random() as d, random() as e,
       random() as f, random() as g,
       'k' || mod(number, 8) as kind, 'p' || mod(number, 100) as place,
       's' || mod(number, 12) as shift, 'v' || mod(number, 50) as vendor,
       'm' || mod(number, {models}) as machine
from generate_series(1, {models * rows}) number;
grant select on rows to public;
"""


def family(kind: str, folder: Path, **changes: Any) -> None:
    """Copy ``bench/<kind>`` into a new folder that names the family, with changes to it."""
    shutil.copytree(Path(__file__).parent / kind, folder)
    configure(folder, family=folder.name, **changes)


def configure(folder: Path, **changes: Any) -> None:
    """Change a family's ``model.yaml``: a mapping is added to the one that is there."""
    file = folder / "model.yaml"
    model = yaml.safe_load(file.read_text())
    for key, value in changes.items():
        model[key] = model.get(key, {}) | value if isinstance(value, dict) else value
    file.write_text(yaml.safe_dump(model))


def seconds(work: Callable[[], object]) -> float:
    """How long work takes, by the clock."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
