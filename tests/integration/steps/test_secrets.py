"""Planted secrets are found nowhere: logs, Airflow's database, the audit trail, pages, files."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import psycopg2.extensions
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import make_url
from tests.hosts import Airflow, Door, runner, served
from tests.ports import free_port
from tests.world import FAMILY, SOURCE, World

from nightshift import data
from nightshift.data import Keys
from nightshift.local import Postgres, session
from nightshift.local.installation import _to_json
from nightshift.registry.versions import _verified_pipeline

__all__ = ["runner"]

pytestmark = pytest.mark.timeout(600)  # two real runs of Airflow, and one that waits for S3

WRITER = "planted+writer one/two"
SOURCES = "planted source@three:four"
AWS = "planted-aws-five"
TOKEN = "planted-mlflow-six"
PLANTED = (WRITER, SOURCES, AWS, TOKEN)


@pytest.fixture
def locked() -> Iterator[Postgres]:
    """A server that asks for passwords, as over TCP the embedded one does."""
    folder = Path(tempfile.mkdtemp(prefix="nightshift-secrets-"))
    server = Postgres(folder / "pg", port=free_port(), durable=False)
    server.start()
    for name in ("nightshift", "warehouse"):
        server.create_database(name)
    data.migrate(server.url("nightshift"))
    with session(server.url("warehouse")) as connection:
        connection.exec_driver_sql(SOURCE)
        connection.exec_driver_sql("create role source_reader login")
        connection.exec_driver_sql("grant select on all tables in schema public to source_reader")
        driver = connection.connection.driver_connection
        for role, password in (("nightshift_writer", WRITER), ("source_reader", SOURCES)):
            hashed = psycopg2.extensions.encrypt_password(password, role, driver, "scram-sha-256")
            connection.exec_driver_sql(f"alter role {role} password '{hashed}'")
    yield server
    data.connect.cache_clear()
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def planted(world: World, locked: Postgres) -> World:
    """The world on that server, reached with the planted passwords."""

    def url(name: str, role: str, password: str) -> str:
        found = make_url(locked.url(name)).set(query={}, host="127.0.0.1", port=locked.port)
        return found.set(username=role, password=password).render_as_string(hide_password=False)

    world.site = replace(
        world.site,
        database_url=url("nightshift", "nightshift_writer", WRITER),
        sources={"warehouse": url("warehouse", "source_reader", SOURCES)},
    )
    return world


def needles(world: World) -> set[bytes]:
    """Each secret as it is, and as URLs and JSON write it."""
    keys = world.site.keys
    [pem] = [
        line for line in (keys / "signing.pem").read_text().splitlines() if "-----" not in line
    ]
    key = Keys(keys).pseudonym_key().hex()
    spelt = {f(one) for one in PLANTED for f in (str, quote, quote_plus, lambda s: quote(s, ""))}
    return {one.encode() for one in (*spelt, pem, key)}


def found_in(places: dict[str, bytes], sought: set[bytes]) -> list[tuple[str, bytes]]:
    return [(name, one) for name, text in places.items() for one in sought if one in text]


def test_planted_secrets_are_found_nowhere(
    planted: World, locked: Postgres, runner: tuple[Any, Path], tmp_path: Path
) -> None:
    planted.configure(pseudonymise="hmac")
    planted.train(9)
    site = planted.site
    airflow = Airflow(*runner, planted, tmp_path)
    # As an installation writes them; Airflow may hide what it is told is secret, we must not ask.
    airflow.environment = {
        "AIRFLOW_CONN_NIGHTSHIFT": _to_json(site.database_url),
        "AIRFLOW_CONN_WAREHOUSE": _to_json(site.sources["warehouse"]),
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": AWS,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_MAX_ATTEMPTS": "1",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
        "MLFLOW_TRACKING_TOKEN": TOKEN,
    }
    states = [airflow.run("score", 10)["state"]]
    wrong = make_url(site.sources["warehouse"])
    for broken in (
        wrong.set(username="nobody"),  # the password is refused
        wrong.set(port=9),  # nobody answers
        wrong.set(database="nowhere"),
    ):
        url = broken.render_as_string(hide_password=False)
        airflow.environment["AIRFLOW_CONN_WAREHOUSE"] = _to_json(url)
        states.append(airflow.run("score", 11)["state"])
    lost = make_url(site.database_url).set(port=9).render_as_string(hide_password=False)
    known = airflow.environment["AIRFLOW_CONN_NIGHTSHIFT"]
    airflow.environment["AIRFLOW_CONN_NIGHTSHIFT"] = _to_json(lost)
    states.append(airflow.run("score", 11)["state"])
    airflow.environment |= {
        "AIRFLOW_CONN_NIGHTSHIFT": known,
        "NIGHTSHIFT_STORE": "s3://bucket/prefix",
        "AIRFLOW_CONN_WAREHOUSE": _to_json(site.sources["warehouse"]),
    }
    states.append(airflow.run("score", 11)["state"])
    assert states == ["success", *["failed"] * 5]

    sought = needles(planted)
    home = airflow.log.parent
    written = {str(f): f.read_bytes() for f in _files(home, tmp_path, site.keys, locked.data)}
    assert found_in(written, sought) == []
    assert any(name.endswith(".db") and b"dag_run" in text for name, text in written.items())
    with session(locked.url("nightshift")) as connection:
        tables = connection.exec_driver_sql(
            "select c.oid::regclass::text from pg_class c where c.relkind in ('r', 'p')"
            " and c.relnamespace = 'nightshift'::regnamespace"
        ).scalars()
        rows = {
            name: str(connection.exec_driver_sql(f"select * from {name}").all()).encode()
            for name in tables
        }
    assert b"cannot reach Postgres" in rows["nightshift.events"]
    assert found_in(rows, sought) == []
    assert found_in(dict(_answers(planted)), sought) == []


def _files(home: Path, tmp_path: Path, keys: Path, server: Path) -> Iterator[Path]:
    """Logs, Airflow's database (XCom, rendered fields), the store, Postgres' own logs."""
    for folder in (home, tmp_path, server / "log"):
        for file in folder.rglob("*"):
            if file.is_file() and keys not in file.parents:
                yield file


def _answers(world: World) -> Iterator[tuple[str, bytes]]:
    """Pages and answers while things are well, and while the database is away."""
    _verified_pipeline.cache_clear()
    away = make_url(world.site.database_url).set(port=9).render_as_string(hide_password=False)
    night = world.night(10).isoformat().replace("+00:00", "Z")
    for site in (world.site, replace(world.site, database_url=away)):
        app = served(Door(site, {"ada": (FAMILY,)}, ("ada",)))
        with TestClient(app, headers={"Authorization": "Bearer ada"}) as client:
            for path in (
                "",
                "/",
                f"/models/{FAMILY}/{FAMILY}",
                f"/models/{FAMILY}/{FAMILY}/versions/1",
                f"/models/{FAMILY}/{FAMILY}/versions/1.json",
                f"/nights/{FAMILY}/{night}",
                f"/nights/{FAMILY}/{world.night(11).isoformat().replace('+00:00', 'Z')}",
                "/api/v1/fleet",
                "/api/v1/models",
                "/api/v1/nights",
                f"/api/v1/fleet/{FAMILY}",
                f"/api/v1/nights/{FAMILY}/{night}",
                "/api/v1/decisions",
            ):
                answer = client.get(f"/nightshift{path}")
                yield f"{path} {answer.status_code}", answer.content + str(answer.headers).encode()


def test_the_state_folder_of_an_installation_is_for_its_owner_only(tmp_path: Path) -> None:
    from nightshift.local import stored_secrets

    stored_secrets(tmp_path)
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "secrets.json").stat().st_uid == os.geteuid()
