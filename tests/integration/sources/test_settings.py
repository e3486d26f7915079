"""A wrong setting of a connection is told as one, an outage as one; a source's options are kept."""

from __future__ import annotations

import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url
from tests.ports import free_port
from tests.world import FAMILY, World

from nightshift.data import Database
from nightshift.errors import ConnectionFault, DatabaseUnavailable, NightshiftError, SourceError
from nightshift.local import Postgres, session
from nightshift.sources import AirflowConnection, Question, open_source, url_of

TLS_REQUEST = struct.pack("!ii", 8, 80877103)
KERBEROS_REQUEST = struct.pack("!ii", 8, 80877104)
OPTIONS = "-c search_path=dwh -c statement_timeout=600000"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A server that asks for a password on loopback, with a schema of its own in its database."""
    server = Postgres(
        Path(tempfile.mkdtemp(prefix="nightshift-settings-")) / "pg",
        port=free_port(),
        durable=False,
    )
    server.start()
    with session(server.url("postgres")) as connection:
        connection.exec_driver_sql("alter role postgres password 'right'")
        connection.exec_driver_sql("create role idle nologin password 'right'")
        connection.exec_driver_sql("create schema dwh create table dwh.facts (n int)")
        connection.exec_driver_sql("insert into dwh.facts values (7)")
    yield server
    server.stop()


@contextmanager
def listening(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """A port on loopback where somebody answers."""
    door = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = door.accept()
                threading.Thread(target=answer, args=(client,), daemon=True).start()

    def answer(client: socket.socket) -> None:
        with suppress(OSError), client:
            serve(client)

    threading.Thread(target=accept, daemon=True).start()
    yield door.getsockname()[1]
    door.close()


def web_server(client: socket.socket) -> None:
    client.recv(8)
    client.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


def hangs_up(client: socket.socket) -> None:
    client.recv(8)


def pooler(server: Postgres) -> Callable[[socket.socket], None]:
    """As PgBouncer does, it refuses what it does not know at connecting, and lets in the rest."""
    place = make_url(server.url("postgres")).query

    def serve(client: socket.socket) -> None:
        while (head := client.recv(8)) in (TLS_REQUEST, KERBEROS_REQUEST):
            client.sendall(b"N")
        size = struct.unpack("!i", head[:4])[0]
        start = head + client.recv(size - 8)
        names = start[8:].split(b"\0")[::2]
        if b"options" in names:
            told = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0"
            client.sendall(b"E" + struct.pack("!i", len(told) + 4) + told)
            return
        behind = socket.socket(socket.AF_UNIX)
        behind.connect(f"{place['host']}/.s.PGSQL.{place['port']}")
        behind.sendall(start)
        threading.Thread(target=passing, args=(behind, client), daemon=True).start()
        passing(client, behind)

    return serve


def passing(giver: socket.socket, taker: socket.socket) -> None:
    with suppress(OSError):
        while some := giver.recv(65536):
            taker.sendall(some)
        taker.shutdown(socket.SHUT_WR)


def connection(server: Postgres, **changes: Any) -> str:
    """The URL of the server's connection with some of its fields changed."""
    fields: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": server.port,
        "login": "postgres",
        "password": "right",
        "schema": "postgres",
        "extra": {},
    }
    return url_of("dwh", AirflowConnection("postgres", **{**fields, **changes}))


def ask(url: str, sql: str = "select 1 as x") -> list[Any]:
    question = Question(sql, {}, "loads: features.sql failed on connection 'dwh'")
    return list(open_source("dwh", url).ask(question).to_pylist()[0].values())


def test_a_sources_own_options_hold_and_its_sessions_are_read_only_all_the_same(
    server: Postgres,
) -> None:
    options = f"{OPTIONS} -c default_transaction_read_only=off -c timezone=Asia/Tokyo"
    names = ["search_path", "statement_timeout", "transaction_read_only", "timezone"]
    settings = ", ".join(f"current_setting('{name}') as {name}" for name in names)
    url = connection(server, extra={"options": options, "cursor": "dictcursor", "iam": False})
    assert ask(url, f"select {settings}, n from facts") == ["dwh", "10min", "on", "UTC", 7]


def test_a_pooler_that_knows_no_options_stands_before_a_source(server: Postgres) -> None:
    with listening(pooler(server)) as port:
        settings = "select current_setting('transaction_read_only'), n from dwh.facts"
        assert ask(connection(server, port=port), settings) == ["on", 7]


def refused(url: str) -> str:
    with pytest.raises(SourceError) as caught:
        ask(url)
    message = str(caught.value)
    assert not caught.value.transient
    assert message.startswith("loads: features.sql failed on connection 'dwh': ")
    assert "Mend the connection" in message
    assert "Is Postgres running" not in message
    assert "right" not in message.replace("copyright", "")
    return message


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"extra": {"application": "x"}}, '"application"'),
        ({"extra": {"sslmod": "require"}}, '"sslmod"'),
        ({"extra": {"sslmode": "maybe"}}, 'sslmode value: "maybe"'),
        ({"extra": {"sslmode": "require"}}, "does not support SSL"),
        ({"extra": {"connect_timeout": "soon"}}, '"connect_timeout"'),
        ({"extra": {"options": "-c serch_path=dwh"}}, '"serch_path"'),
        ({"extra": {"options": "-c statement_timeout=long"}}, '"statement_timeout"'),
        ({"extra": {"channel_binding": "sometimes"}}, "channel_binding"),
        ({"extra": {"service": "nowhere"}}, '"nowhere"'),
        ({"password": "wrong"}, "password authentication failed"),
        ({"password": None}, "password"),
        ({"login": "nobody"}, 'user "nobody"'),
        ({"login": "idle"}, '"idle" is not permitted to log in'),
        ({"schema": "nowhere"}, 'database "nowhere" does not exist'),
        ({"host": "no host"}, '"no host"'),
        ({"port": 70000}, "70000"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_setting_is_named_and_is_no_outage(
    server: Postgres, changes: dict[str, Any], named: str
) -> None:
    assert named in refused(connection(server, **changes))


def test_something_else_at_the_port_is_a_wrong_setting(server: Postgres) -> None:
    with listening(web_server) as port:
        assert "invalid response" in refused(connection(server, port=port))
        plainly = connection(server, port=port, extra={"sslmode": "disable"})
        assert "expected authentication request" in refused(plainly)


def test_a_pooler_that_refuses_an_option_is_told_with_its_name(server: Postgres) -> None:
    with listening(pooler(server)) as port:
        url = connection(server, port=port, extra={"options": OPTIONS})
        assert "unsupported startup parameter: options" in refused(url)


def test_who_does_not_answer_is_away(server: Postgres) -> None:
    with pytest.raises(DatabaseUnavailable, match="Is Postgres running"):
        ask(connection(server, port=free_port()))
    with pytest.raises(DatabaseUnavailable):
        ask(connection(server, host=str(server.socket_folder / "elsewhere")))
    with listening(hangs_up) as port, pytest.raises(DatabaseUnavailable):
        ask(connection(server, port=port, extra={"sslmode": "disable"}))


def test_too_many_clients_are_an_outage(server: Postgres) -> None:
    with session(server.url("postgres")) as admin:
        admin.exec_driver_sql("alter role postgres connection limit 0")
        admin.exec_driver_sql("create role crowd login password 'right' connection limit 0")
    with pytest.raises(DatabaseUnavailable, match="too many connections"):
        ask(connection(server, login="crowd"))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"extra": {"application": "x"}}, '"application"'),
        ({"extra": {"sslmode": "maybe"}}, '"maybe"'),
        ({"password": "wrong"}, "password authentication failed"),
        ({"schema": "nowhere"}, 'database "nowhere"'),
        ({"host": "no host"}, '"no host"'),
    ],
    ids=lambda value: str(value)[:40],
)
def test_nightshifts_own_database_is_told_in_the_same_way_by_both_its_drivers(
    server: Postgres, changes: dict[str, Any], named: str
) -> None:
    database = Database(connection(server, **changes), role=None)
    for enter in (database.transaction, database.bulk):
        with pytest.raises(ConnectionFault, match=r"Mend the connection") as caught, enter():
            pass
        assert named in str(caught.value)
        assert not caught.value.transient


def test_nightshifts_own_database_keeps_its_options_and_ours_hold(server: Postgres) -> None:
    options = "-c statement_timeout=600000 -c timezone=Asia/Tokyo"
    database = Database(connection(server, extra={"options": options}), role=None)
    with database.administration() as connected:
        shown = [
            connected.exec_driver_sql(f"show {name}").scalar()
            for name in ("statement_timeout", "timezone")
        ]
    assert shown == ["10min", "UTC"]
    database.close()


def test_a_wrong_setting_is_on_record_as_a_fault_of_the_source(world: World) -> None:
    sources = {"warehouse": f"{world.site.sources['warehouse']}&nothing=1"}
    object.__setattr__(world.site, "sources", sources)
    with pytest.raises(NightshiftError, match='"nothing"'):
        world.freeze(10)
    [event] = world.rows("select code, family from nightshift.events")
    assert tuple(event) == ("source", FAMILY)
