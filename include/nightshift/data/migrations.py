"""The schema, brought forward."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy.exc import DBAPIError

from nightshift.data.database import Database
from nightshift.data.drivers import our_nouns, sqlstate
from nightshift.data.queries import SQL
from nightshift.errors import SetupError

_RIGHTS_LACK = "NS001"
"""The SQLSTATE of ``roles.sql`` for what somebody else must grant first."""


def migrate(admin_url: str, *, to: str = "head", logins: Sequence[str] = ()) -> None:
    """Bring a database to the newest schema, and make the roles it needs, in one transaction.

    Parameters
    ----------
    admin_url
        A SQLAlchemy URL of someone who may create roles, and schemas in that database.
    to
        Stop at this revision.
    logins
        Further roles to make, which may log in, and for which that someone may act.

    Raises
    ------
    SetupError
        Somebody else must grant something first: the message says who, and what. Nothing was
        changed.
    """
    from alembic import command
    from alembic.config import Config

    database = Database(admin_url, role=None)
    try:
        with our_nouns(database), database.administration() as connection:
            named = json.dumps(list(logins)).replace("'", "''")
            connection.exec_driver_sql(f"select set_config('nightshift.logins', '{named}', true)")
            try:
                connection.exec_driver_sql((SQL / "migrations" / "roles.sql").read_text())
            except DBAPIError as error:
                if sqlstate(error) != _RIGHTS_LACK:
                    raise
                sentence = str(error.orig).splitlines()[0]
                raise SetupError(f"{database}: {sentence}") from error
            config = Config()
            config.set_main_option("script_location", "nightshift_sql:migrations")
            config.attributes["connection"] = connection
            command.upgrade(config, to)
    finally:
        database.close()
