"""``nightshift prepare`` on a Postgres of somebody else's, whose administrator is no superuser.

Managed servers (RDS, Cloud SQL, Azure) give out such a role: it makes roles and databases, and owns
the database, or is a member of who does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import Connection, make_url
from tests.ports import free_port

from nightshift import local
from nightshift.errors import SetupError
from nightshift.local import Postgres, session

OURS = ("nightshift_owner", "nightshift_writer", "nightshift_reader", "airflow")
QUIET = Console(quiet=True)


@dataclass(frozen=True)
class Managed:
    """A server, and its provider's superuser, who is not us."""

    server: Postgres
    provider: Connection

    def roles(self) -> list[str]:
        """Which of our roles are there."""
        names = ", ".join(f"'{name}'" for name in OURS)
        asked = f"select rolname from pg_roles where rolname in ({names}) order by 1"
        return list(self.provider.exec_driver_sql(asked).scalars())

    def databases(self) -> set[str]:
        """Every database but the server's own."""
        asked = "select datname from pg_database where datname not like 'template%%'"
        return set(self.provider.exec_driver_sql(asked).scalars()) - {"postgres"}

    def run(self, *statements: str) -> None:
        """As the provider."""
        for statement in statements:
            self.provider.exec_driver_sql(statement)


@pytest.fixture
def managed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Managed]:
    """A server of its own, since roles are the server's; ``admin`` may make roles and databases."""
    server = Postgres(tmp_path / "pg", port=free_port(), durable=False)
    server.start()
    with session(server.url("postgres")) as provider:
        provider.exec_driver_sql("create role admin login createrole createdb password 'boss'")
        provider.exec_driver_sql("create database nightshift owner admin")
        admin = make_url(server.url("nightshift")).set(
            username="admin", password="boss", host="127.0.0.1", port=server.port, query={}
        )
        urls = {
            "NIGHTSHIFT_ADMIN_URL": admin,
            "NIGHTSHIFT_DATABASE_URL": admin.set(username="nightshift_writer", password="ours"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": admin.set(
                username="airflow", password="air", database="airflow"
            ),
        }
        for name, url in urls.items():
            monkeypatch.setenv(name, url.render_as_string(hide_password=False))
        monkeypatch.setenv("NIGHTSHIFT_STATE", str(tmp_path / "state"))
        yield Managed(server, provider)
    server.stop()


def prepare() -> None:
    """What ``nightshift prepare`` does before it comes to Airflow's own migrations."""
    local.up(local.site(), airflow=False, console=QUIET)


def refused() -> str:
    """The sentence with which it ends."""
    with pytest.raises(SetupError) as caught:
        prepare()
    return str(caught.value)


def assert_ready(managed: Managed) -> None:
    """Both logins get in, and each may do its work."""
    assert managed.databases() == {"nightshift", "airflow"}
    assert managed.roles() == sorted(OURS)
    with session(local.site().database_url) as writer:
        writer.exec_driver_sql(
            "insert into nightshift.models (family, name, created_at) values ('f', 'm', now())"
        )
    with session(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]) as airflow:
        airflow.exec_driver_sql("create table made_by_airflow ()")


def assert_untouched(managed: Managed, *roles: str) -> None:
    """Nothing was made: no database, no role beyond ``roles``, no schema."""
    assert managed.databases() == {"nightshift"}
    assert managed.roles() == sorted(roles)
    with session(managed.server.url("nightshift")) as provider:
        schemas = provider.exec_driver_sql("select to_regnamespace('nightshift')")
        assert schemas.scalar() is None


def test_who_makes_roles_and_databases_and_owns_ours_needs_be_no_superuser(
    managed: Managed,
) -> None:
    for _ in range(2):  # a second time finds everything
        prepare()
    assert_ready(managed)
    for _ in range(2):  # what `nightshift simulate` makes, and makes anew
        simulated = local.fresh_database(local.site(), "simulated")
    with session(simulated) as writer:
        assert writer.exec_driver_sql("select count(*) from nightshift.models").scalar() == 0


def test_a_database_may_belong_to_a_group_that_the_administrator_is_in(managed: Managed) -> None:
    managed.run(
        "create role cloudsuperuser createrole createdb",
        "grant cloudsuperuser to admin",
        "alter database nightshift owner to cloudsuperuser",
    )
    prepare()
    assert_ready(managed)


def test_who_may_make_no_database_changes_nothing_and_reads_who_may(managed: Managed) -> None:
    managed.run("alter role admin nocreatedb")
    sentence = refused()
    assert "create database airflow owner airflow" in sentence
    assert "CREATEDB" in sentence
    assert_untouched(managed)

    managed.run("create role airflow login password 'air'", "create database airflow owner airflow")
    prepare()
    assert_ready(managed)


def test_who_may_make_no_role_changes_nothing_and_reads_who_may(managed: Managed) -> None:
    managed.run("alter role admin nocreaterole")
    sentence = refused()
    for role in OURS:
        attribute = "nologin" if role == "nightshift_owner" else "login"
        assert f"create role {role} {attribute}; grant {role} to admin" in sentence
    assert_untouched(managed)

    for statements in sentence.split("as a role with CREATEROLE: ")[1:]:
        managed.run(*statements.split(". Then")[0].removesuffix("; and ").split("; "))
    managed.run("alter role nightshift_writer password 'ours'", "alter role airflow password 'air'")
    prepare()
    assert_ready(managed)


def test_roles_of_somebody_else_are_granted_by_who_made_them(managed: Managed) -> None:
    managed.run("create role nightshift_owner", "create role nightshift_reader login")
    sentence = refused()
    for role in ("nightshift_owner", "nightshift_reader"):
        grant = f"grant {role} to admin with inherit true, set true"
        assert f"as who administers {role}: {grant}" in sentence
    assert_untouched(managed, "nightshift_owner", "nightshift_reader")

    managed.run("grant nightshift_owner, nightshift_reader to admin with inherit true, set true")
    prepare()
    assert_ready(managed)


def test_a_password_that_only_others_may_set_is_asked_for(managed: Managed) -> None:
    managed.run("create role airflow login password 'older'", "grant airflow to admin")
    assert "the password of airflow cannot be set" in refused()
    assert managed.databases() == {"nightshift"}

    managed.run("alter role airflow password 'air'")
    prepare()
    assert_ready(managed)


def test_a_database_of_somebody_else_needs_rights_in_it(managed: Managed) -> None:
    managed.run("alter database nightshift owner to postgres")
    sentence = refused()
    assert "as postgres: grant create on database nightshift to admin" in sentence
    assert "as postgres: grant usage, create on schema public to nightshift_owner" in sentence
    assert_untouched(managed)

    managed.run("alter database nightshift owner to admin")
    prepare()
    assert_ready(managed)


def test_a_login_that_is_no_administrator_is_sent_to_one(
    managed: Managed, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare()
    monkeypatch.delenv("NIGHTSHIFT_ADMIN_URL")
    assert "or as an administrator (NIGHTSHIFT_ADMIN_URL): nothing was changed" in refused()


def test_our_database_is_made_too_where_it_is_not_there(managed: Managed) -> None:
    managed.run("drop database nightshift")
    prepare()
    assert_ready(managed)


def test_a_database_that_is_not_there_and_cannot_be_made_is_asked_for(managed: Managed) -> None:
    managed.run("drop database nightshift", "alter role admin nocreatedb")
    sentence = refused()
    assert "create database nightshift owner admin" in sentence
    assert "CREATEDB" in sentence
    assert managed.databases() == set()
    assert managed.roles() == []


def test_what_was_made_goes_again_where_something_after_it_fails(managed: Managed) -> None:
    managed.run("drop database nightshift", "create role airflow login", "grant airflow to admin")
    assert "the password of airflow cannot be set" in refused()
    assert managed.databases() == set()

    managed.run("grant airflow to admin with admin true", "alter role airflow connection limit 0")
    with pytest.raises(SetupError, match="too many connections for role"):
        local.prepare(local.site(), console=QUIET)  # it ends when Airflow looks into its database
    assert managed.databases() == set()
