"""The schema, brought forward."""

from __future__ import annotations

from nightshift.data.database import Database
from nightshift.data.drivers import our_nouns
from nightshift.data.queries import SQL


def migrate(admin_url: str, *, to: str = "head") -> None:
    """Bring a database to the newest schema, and make the roles it needs.

    Parameters
    ----------
    admin_url
        A SQLAlchemy URL of someone who may create roles and schemas.
    to
        Stop at this revision.
    """
    from alembic import command
    from alembic.config import Config

    database = Database(admin_url, role=None)
    try:
        with our_nouns(database), database.administration() as connection:
            connection.exec_driver_sql((SQL / "migrations" / "roles.sql").read_text())
            config = Config()
            config.set_main_option("script_location", "nightshift_sql:migrations")
            config.attributes["connection"] = connection
            command.upgrade(config, to)
    finally:
        database.close()
