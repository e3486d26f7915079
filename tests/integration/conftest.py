"""The small world, and the flights, as fixtures."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import yaml
from tests.buckets import s3
from tests.conftest import leave
from tests.hosts import runner
from tests.world import (
    ESTIMATOR,
    FAMILY,
    FEATURES,
    LABELS,
    MODEL,
    SOURCE,
    Kept,
    World,
    live_through_the_change,
)

from nightshift import demo
from nightshift.data import Store
from nightshift.demo import LoadReport
from nightshift.local import Postgres
from nightshift.registry.versions import _verified_pipeline
from nightshift.site import Site

__all__ = ["runner", "s3"]  # fixtures that stand elsewhere


@pytest.fixture
def world(tmp_path: Path, make_site: Callable[..., Site]) -> Iterator[World]:
    folder = tmp_path / "include" / "models" / FAMILY
    folder.mkdir(parents=True)
    world = World(make_site(tmp_path), folder)
    world.write("model.yaml", yaml.safe_dump(MODEL))
    world.write("features.sql", FEATURES)
    world.write("labels.sql", LABELS)
    world.write("estimator.py", ESTIMATOR)
    world.source(SOURCE)
    yield world
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files of worlds are kept that were lived through."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def kept(postgres: Postgres, keeping: Path, new_database: Callable[..., str]) -> Kept:
    """Worlds that were lived through."""
    return Kept(postgres, keeping, new_database)


@pytest.fixture
def lived(world: World, kept: Kept) -> World:
    """A champion of night 15, scored and monitored until the world changed and it was replaced."""
    return kept.world("lived", world, live_through_the_change)


@pytest.fixture
def forget(world: World) -> Callable[[int], None]:
    """Lose the artifact of a version, by its number, in the store and in memory."""

    def lose(number: int) -> None:
        [row] = world.rows(f"select artifact_hash from nightshift.versions where number = {number}")
        Store(world.site.store).delete(row.artifact_hash, "joblib")
        _verified_pipeline.cache_clear()

    return lose


@pytest.fixture(scope="session")
def today() -> date:
    """The day of the flights' load: real, for their views show what the server's clock allows."""
    return datetime.now(UTC).date()


@pytest.fixture(scope="session")
def flights_load(postgres: Postgres, today: date) -> LoadReport:
    """What the first load of the flights, into the database ``flights``, reported."""
    postgres.create_database("flights")
    return demo.load(postgres.url("flights"), today=today)


@pytest.fixture
def flights_url(postgres: Postgres, flights_load: LoadReport) -> Iterator[str]:
    """The superuser's URL of the loaded flights, for reading; clone ``flights`` to write."""
    url = postgres.url("flights")
    yield url
    leave(url)
