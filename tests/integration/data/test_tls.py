"""A Postgres behind TLS: what the URL says about it reaches both drivers.

The embedded server is built without TLS, so a door stands before it that speaks the protocol's TLS
with the drivers, and plainly with the server.
"""

from __future__ import annotations

import shutil
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2.extensions
import pytest
from sqlalchemy import URL, make_url

from nightshift.data import Database
from nightshift.errors import ConnectionFault
from nightshift.local import Postgres, session
from nightshift.local.installation import _connection_url, _to_json

PASSWORD = "a password+with/signs@of:its own"
TLS_REQUEST = struct.pack("!ii", 8, 80877103)


@dataclass
class Door:
    """Listens on loopback, lets in who speaks TLS, and remembers by which version."""

    server: Postgres
    certificates: Path
    spoken: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(
            self.certificates / "server.pem", self.certificates / "server.key"
        )
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def url(self, **query: str) -> str:
        url = URL.create(
            "postgresql+psycopg2", "tls_writer", PASSWORD, "localhost", self.port, "postgres", query
        )
        return url.render_as_string(hide_password=False)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._let_in, args=(client,), daemon=True).start()

    def _let_in(self, client: socket.socket) -> None:
        with suppress(OSError):
            asked = client.recv(8)
            while asked != TLS_REQUEST:  # it may ask for Kerberos first
                client.sendall(b"N")
                asked = client.recv(8)
            client.sendall(b"S")
            inside = self._context.wrap_socket(client, server_side=True)
            self.spoken.append(inside.version())
            at = make_url(self.server.url("postgres")).query
            behind = socket.socket(socket.AF_UNIX)
            behind.connect(f"{at['host']}/.s.PGSQL.{at['port']}")
            threading.Thread(target=_pass, args=(behind, inside), daemon=True).start()
            _pass(inside, behind)


def _pass(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities; the first one signs what the server shows, which is for localhost."""
    if shutil.which("openssl") is None:
        pytest.skip("makes its certificates with openssl")
    folder = tmp_path_factory.mktemp("tls")
    new = ("req", "-new", "-newkey", "rsa:2048", "-nodes")
    for name in ("authority", "stranger"):
        _openssl(
            folder,
            *new,
            "-x509",
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.pem",
        )
    _openssl(folder, *new, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName=DNS:localhost")
    _openssl(
        folder,
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "authority.pem",
        "-CAkey",
        "authority.key",
        "-days",
        "2",
        "-extfile",
        "names",
        "-out",
        "server.pem",
    )
    return folder


@pytest.fixture(scope="module")
def door(postgres: Postgres, certificates: Path) -> Iterator[Door]:
    with session(postgres.url("postgres")) as connection:
        driver = connection.connection.driver_connection
        hashed = psycopg2.extensions.encrypt_password(
            PASSWORD, "tls_writer", driver, "scram-sha-256"
        )
        connection.exec_driver_sql(f"create role tls_writer login password '{hashed}'")
        connection.exec_driver_sql("grant pg_read_all_stats to tls_writer")
    opened = Door(postgres, certificates)
    yield opened
    opened.close()


def spoken_by_both(door: Door, url: str) -> list[set[str | None]]:
    """By which version of TLS the driver of control came, and that of bulk data."""
    database = Database(url, role=None)
    told = []
    try:
        door.spoken.clear()
        with database.transaction() as tx:
            assert tx._connection.exec_driver_sql("select 1").scalar() == 1
        told.append(set(door.spoken))
        door.spoken.clear()
        with database.bulk() as bulk:
            assert bulk.read("select 1 as one").to_pylist() == [{"one": 1}]
        told.append(set(door.spoken))
    finally:
        database.close()
    return told


def test_both_drivers_verify_the_server_as_the_url_says(door: Door) -> None:
    url = door.url(sslmode="verify-full", sslrootcert=str(door.certificates / "authority.pem"))
    assert spoken_by_both(door, url) == [{"TLSv1.3"}, {"TLSv1.3"}]
    older = door.url(sslmode="require", ssl_max_protocol_version="TLSv1.2")
    assert spoken_by_both(door, older) == [{"TLSv1.2"}, {"TLSv1.2"}]


@pytest.mark.parametrize("driver", ["transaction", "bulk"])
def test_a_server_that_somebody_else_vouches_for_is_refused(door: Door, driver: str) -> None:
    url = door.url(sslmode="verify-full", sslrootcert=str(door.certificates / "stranger.pem"))
    told = refused(url, driver)
    assert "certificate verify failed" in told


@pytest.mark.parametrize("driver", ["transaction", "bulk"])
def test_a_server_of_another_name_is_refused(door: Door, driver: str) -> None:
    authority = str(door.certificates / "authority.pem")
    url = make_url(door.url(sslmode="verify-full", sslrootcert=authority)).set(host="127.0.0.1")
    assert "does not match host name" in refused(url.render_as_string(False), driver)


def refused(url: str, driver: str) -> str:
    database = Database(url, role=None)
    opening = database.transaction() if driver == "transaction" else database.bulk()
    with pytest.raises(ConnectionFault) as told, opening:
        pass
    database.close()
    assert PASSWORD not in str(told.value)
    assert "password" not in str(told.value)
    return str(told.value)


def test_options_of_tls_survive_the_way_through_an_airflow_connection(door: Door) -> None:
    authority = str(door.certificates / "authority.pem")
    url = door.url(sslmode="verify-full", sslrootcert=authority)
    again = _connection_url("AIRFLOW_CONN_NIGHTSHIFT", _to_json(url))
    assert make_url(again) == make_url(url)
    assert spoken_by_both(door, again) == [{"TLSv1.3"}, {"TLSv1.3"}]


def test_passwords_are_kept_as_scram(postgres: Postgres, door: Door) -> None:
    with session(postgres.url("postgres")) as connection:
        assert connection.exec_driver_sql("show password_encryption").scalar() == "scram-sha-256"
        kept = connection.exec_driver_sql(
            "select rolpassword from pg_authid where rolname = 'tls_writer'"
        ).scalar()
    assert str(kept).startswith("SCRAM-SHA-256$")
