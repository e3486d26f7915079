"""The flights, loaded once for every test that only reads them."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from nightshift import warehouse
from nightshift.embedded import Postgres
from nightshift.warehouse import LoadReport


@pytest.fixture(scope="session")
def today() -> date:
    """The day of the load. It is real, for the views show what was known by the server's clock."""
    return datetime.now(UTC).date()


@pytest.fixture(scope="session")
def flights_load(postgres: Postgres, today: date) -> LoadReport:
    """What the first load into the database ``flights`` reported."""
    postgres.create_database("flights")
    return warehouse.load(postgres.url("flights"), today=today)


@pytest.fixture(scope="session")
def flights_url(postgres: Postgres, flights_load: LoadReport) -> str:
    """The superuser's URL of the loaded flights, for reading; clone ``flights`` to write."""
    return postgres.url("flights")
