"""The small world of the integration tests with its first champion, and servers to crash."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.faults.harness import Reader
from tests.integration.conftest import forget, keeping, kept, world
from tests.world import Kept, World

from nightshift import data
from nightshift.local import Postgres, session
from nightshift.registry.versions import _verified_pipeline

__all__ = ["forget", "keeping", "kept", "world"]

NIGHT = (30, sum(range(1, 31)) + 30 * 3)
"""A whole night as the first champion scores it: its rows, and the sum of size + 3."""


@pytest.fixture
def served(world: World, kept: Kept) -> World:
    """The world with version 1 serving since night 9."""
    return kept.world("served", world, lambda world: world.train(9))


@pytest.fixture
def reader(served: World) -> Iterator[Reader]:
    """Somebody who looks at the predictions all the time, and must see whole nights only."""
    with Reader(served.site.database_url, {NIGHT}) as looking:
        yield looking


@pytest.fixture(scope="module")
def own_server() -> Iterator[Postgres]:
    """A durable server that a test may crash: nobody else uses it."""
    folder = Path(tempfile.mkdtemp(prefix="nightshift-faults-"))
    server = Postgres(folder / "pg", port=None)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def crashable(world: World, own_server: Postgres) -> Iterator[World]:
    """The served world with its ``nightshift`` database on a server of the test's own."""
    own_server.create_database("nightshift")
    data.migrate(own_server.url("nightshift"))
    world.site = replace(world.site, database_url=own_server.url("nightshift"))
    world.train(9)
    yield world
    data.connect.cache_clear()
    with session(own_server.url("postgres")) as connection:
        connection.exec_driver_sql("drop database nightshift with (force)")


@pytest.fixture
def opened_anew() -> Callable[[], None]:
    """Forget the artifacts that this process has opened, so that they are verified again."""
    _verified_pipeline.cache_clear()
    return _verified_pipeline.cache_clear
