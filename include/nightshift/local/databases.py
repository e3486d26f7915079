"""Nightshift's databases on one machine, or on a server of somebody else's: made, migrated, let in.

Whose server it is, is what the environment says: with ``NIGHTSHIFT_DATABASE_URL`` it is not ours.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg2.extensions
from sqlalchemy import URL, Connection, make_url
from sqlalchemy.exc import DBAPIError, ProgrammingError

from nightshift import data
from nightshift.errors import SetupError
from nightshift.local.embedded import create_database, session
from nightshift.local.installation import (
    LOCAL_ROLES,
    admin_url,
    embedded_server,
    is_embedded,
    metadata_url,
    stored_secrets,
)
from nightshift.local.progress import Progress
from nightshift.site import Site


def fresh_database(site: Site, name: str, template: str | None = None) -> str:
    """An empty, migrated database beside ``nightshift``, or a copy of ``template``; its URL.

    A database of that name is dropped first.
    """
    admin = make_url(admin_url(site))
    with session(admin_url(site)) as connection:
        quote = connection.dialect.identifier_preparer.quote_identifier
        connection.exec_driver_sql(f"drop database if exists {quote(name)} with (force)")
        copied = f" template {quote(template)}" if template else ""
        connection.exec_driver_sql(f"create database {quote(name)}{copied}")
        # What is lost with the power is simulated again.
        connection.exec_driver_sql(f"alter database {quote(name)} set synchronous_commit = off")
    data.migrate(admin.set(database=name).render_as_string(hide_password=False))
    own = make_url(site.database_url).set(database=name)
    return own.render_as_string(hide_password=False)


def drop_database(site: Site, name: str) -> None:
    """Drop a database that :func:`fresh_database` made; nothing happens where it is gone."""
    with session(admin_url(site)) as connection:
        quoted = connection.dialect.identifier_preparer.quote_identifier(name)
        connection.exec_driver_sql(f"drop database if exists {quoted} with (force)")


def warehouse_url(site: Site) -> str:
    """Where ``nightshift demo load`` puts the flights, as somebody who may create tables there."""
    if is_embedded(site):
        return admin_url(site, "warehouse")
    if "warehouse" not in site.sources:
        raise SetupError(
            "the flights need a database on your server: set AIRFLOW_CONN_WAREHOUSE to the URL of"
            " somebody who may create schemas in it"
        )
    return site.sources["warehouse"]


@contextmanager
def ready_databases(site: Site, progress: Progress) -> Iterator[None]:
    """Start the embedded server, or connect to yours; make what is not there, and migrate.

    On a server of yours, databases that were made go again where the body fails.
    """
    if is_embedded(site):
        _start_embedded(site, progress)
        _migrate(site, progress, _AirflowsOwn(None, None))
        yield
        return
    with _taken_back_on_failure(site) as made:
        made.extend(_our_database(site))
        own = _airflows_own(site, progress)
        made.extend(_migrate(site, progress, own))
        yield


def _migrate(site: Site, progress: Progress, own: _AirflowsOwn) -> list[str]:
    """Bring our schema forward; the databases that were made for Airflow's."""
    with progress("Schema", "migrating", "is the newest"):
        data.migrate(admin_url(site), logins=[own.owner] if own.owner else [])
        _give_passwords(site)
        return _make_airflow_database(site, own)


@contextmanager
def _taken_back_on_failure(site: Site) -> Iterator[list[str]]:
    """The databases that are made meanwhile: they go again where something after them fails."""
    made: list[str] = []
    completed = False
    try:
        yield made
        completed = True
    finally:
        if not completed and made:
            with session(_maintenance_url(site)) as connection:
                quote = connection.dialect.identifier_preparer.quote_identifier
                for name in reversed(made):
                    connection.exec_driver_sql(
                        f"drop database if exists {quote(name)} with (force)"
                    )


def _maintenance_url(site: Site) -> str:
    """The administrator's URL to the database that every server has."""
    return make_url(admin_url(site)).set(database="postgres").render_as_string(hide_password=False)


def _our_database(site: Site) -> list[str]:
    """Make Nightshift's database on a server of yours, unless it is there; its name if so."""
    admin = make_url(admin_url(site))
    name = str(admin.database)
    try:
        with session(_maintenance_url(site)) as connection:
            exists = connection.exec_driver_sql(
                "select 1 from pg_database where datname = %s", (name,)
            ).first()
            if exists is not None:
                return []
            create_database(connection, name)
            return [name]
    except SetupError:  # without a way to look, connecting to ours says what is wrong
        return []
    except ProgrammingError as error:
        raise SetupError(
            f"the database {name!r} is not there, and {admin.username} may not make it:"
            f" {str(error.orig).splitlines()[0]}. Let a role with CREATEDB run: create database"
            f" {name} owner {admin.username}. Nothing was changed"
        ) from error


def _start_embedded(site: Site, progress: Progress) -> None:
    server = embedded_server(site.state)
    running = "is running already" if server.is_running() else f"runs on 127.0.0.1:{server.port}"
    with progress("Postgres", "starting", running):
        server.start()
        with session(server.url("postgres")) as connection:
            for role in ("airflow", "warehouse_reader"):
                _create_login(connection, role)
            create_database(connection, "airflow", owner="airflow")
            create_database(connection, "nightshift")
            create_database(connection, "warehouse")
            connection.exec_driver_sql("revoke all on database airflow, warehouse from public")
            connection.exec_driver_sql("grant connect on database warehouse to warehouse_reader")
        with session(server.url("warehouse")) as connection:
            connection.exec_driver_sql("grant usage on schema public to warehouse_reader")
            connection.exec_driver_sql(
                "alter default privileges in schema public"
                " grant select on tables to warehouse_reader"
            )


@dataclass(frozen=True)
class _AirflowsOwn:
    """What of Airflow's is missing on the server that Nightshift's database is on.

    Parameters
    ----------
    database
        The database to make; None: it is there.
    owner
        Who owns it; None: whoever makes it.
    """

    database: str | None
    owner: str | None


def _airflows_own(site: Site, progress: Progress) -> _AirflowsOwn:
    """Connect to a server of yours, and see before anything is made that all of it can be."""
    admin, airflow = make_url(admin_url(site)), make_url(metadata_url(site))
    with (
        progress("Postgres", "connecting", f"is yours, at {_address(admin)}"),
        session(admin_url(site)) as connection,
    ):
        if _address(airflow) != _address(admin):
            return _AirflowsOwn(None, None)
        distinct = "NIGHTSHIFT_ADMIN_URL" in os.environ and airflow.username != admin.username
        owner = airflow.username if distinct else None
        exists, has_owner, may_make = connection.exec_driver_sql(
            "select exists (select from pg_database where datname = %s),"
            " exists (select from pg_roles where rolname = %s), rolcreatedb or rolsuper"
            " from pg_roles where rolname = current_user",
            (airflow.database, owner),
        ).one()
    if exists:
        return _AirflowsOwn(None, None if has_owner else owner)
    if not may_make:
        raise SetupError(
            f"Airflow's database {airflow.database!r} is not there, and {admin.username} may not"
            " make it. Let a role with CREATEDB run: create database"
            f" {airflow.database} owner {owner or admin.username}; or name another database with"
            " AIRFLOW__DATABASE__SQL_ALCHEMY_CONN. Nothing was changed"
        )
    return _AirflowsOwn(airflow.database, owner)


def _make_airflow_database(site: Site, own: _AirflowsOwn) -> list[str]:
    """Last of all, because Postgres cannot take it back with what failed after it; its name."""
    if own.database is None:
        return []
    try:
        with session(admin_url(site)) as connection:
            create_database(connection, own.database, own.owner)
            return [own.database]
    except DBAPIError as error:
        raise SetupError(
            f"Airflow's database {own.database!r} cannot be made:"
            f" {str(error.orig).splitlines()[0]}. Make it, or name another with"
            " AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
        ) from error


def _address(url: URL) -> str:
    return f"{url.query.get('host') or url.host}:{url.query.get('port') or url.port or 5432}"


def _create_login(connection: Connection, role: str) -> None:
    roles = connection.exec_driver_sql("select 1 from pg_roles where rolname = %s", (role,))
    if roles.first() is None:
        name = connection.dialect.identifier_preparer.quote_identifier(role)
        connection.exec_driver_sql(f"create role {name} login")


def _give_passwords(site: Site) -> None:
    """Let logins in that come over TCP."""
    with session(admin_url(site)) as connection:
        for role, password in _passwords(site).items():
            try:
                _set_password(connection, role, password)
            except ProgrammingError as error:
                if not _lets_in(admin_url(site), role, password):
                    raise SetupError(
                        f"the password of {role} cannot be set: {str(error.orig).splitlines()[0]}."
                        f" Let who administers {role} give it the one that its URL has"
                    ) from error


def _lets_in(url: str, role: str, password: str) -> bool:
    """Whether the server takes a login as it is; a role may lack the right to one database."""
    own = make_url(url).set(username=role, password=password)
    for database in (own.database, "postgres"):
        try:
            with session(own.set(database=database).render_as_string(hide_password=False)):
                return True
        except SetupError:
            continue
    return False


def _passwords(site: Site) -> dict[str, str]:
    """Role to password: all of ours, or on a server of yours those that our URLs name."""
    if is_embedded(site):
        stored = stored_secrets(site.state)
        return {role: stored[role] for role in LOCAL_ROLES}
    if "NIGHTSHIFT_ADMIN_URL" not in os.environ:
        return {}
    admin = make_url(admin_url(site))
    urls = [make_url(site.database_url), make_url(metadata_url(site))]
    return {
        str(url.username): str(url.password)
        for url in urls
        if url.password and url.username != admin.username and _address(url) == _address(admin)
    }


def _set_password(connection: Connection, role: str, password: str) -> None:
    # Hashed here, so that the password itself is in no statement and in no log.
    driver: Any = connection.connection.driver_connection
    verifier = psycopg2.extensions.encrypt_password(password, role, driver, "scram-sha-256")
    name = connection.dialect.identifier_preparer.quote_identifier(role)
    connection.exec_driver_sql(f"alter role {name} password '{verifier}'")
