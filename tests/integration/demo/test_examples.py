"""The examples for downstream teams run, as the reader."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url
from tests.world import FAMILY, World

from nightshift.local import binaries

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


@pytest.fixture
def published(world: World) -> World:
    world.train(9)
    world.score(10)
    return world


def _url(world: World, driver: str = "postgresql") -> str:
    reader = make_url(world.site.database_url).set(drivername=driver, username="nightshift_reader")
    return reader.render_as_string(hide_password=False)


def _run(*command: str | Path) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_psql_reads_an_entity_and_a_night(published: World) -> None:
    variables = ["-v", f"family={FAMILY}", "-v", "entity=20260111-7", "-v", "ON_ERROR_STOP=1"]
    said = _run(binaries() / "psql", *variables, "-f", EXAMPLES / "latest.sql", _url(published))
    assert "2026-01-11 02:00:00+00" in said
    assert "\n          30 |" in said


def test_pandas_reads_the_last_night(published: World) -> None:
    url = _url(published, "postgresql+psycopg2")
    said = _run(sys.executable, EXAMPLES / "night.py", FAMILY, url)
    assert "30 predictions of 2026-01-11 02:00:00+00:00, from " in said


def test_a_client_hears_of_a_published_night(published: World) -> None:
    command = [sys.executable, str(EXAMPLES / "listen.py"), _url(published), "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        try:
            assert client.stdout.readline() == "listening\n"
            published.score(11)
            said, _ = client.communicate(timeout=60)
        finally:
            client.kill()
    assert f"{FAMILY}: 30 predictions of 2026-01-12 02:00:00+00:00 in batch " in said
    assert client.returncode == 0
