"""Connections as Airflow keeps them, for tasks and for commands outside of Airflow.

``python -m nightshift_airflow.connections NAME`` prints one as JSON, from wherever Airflow finds
it: the secrets backend, the environment, Airflow's database.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from nightshift.sources import AirflowConnection


def source_url(connection: Connection) -> str:
    """The URL of the source that an Airflow connection leads to.

    Raises
    ------
    SetupError
        No kind of source is of this type, or its extra cannot be read.
    """
    from nightshift import sources

    return sources.url_of(connection.conn_id, fields(connection))


def fields(connection: Connection) -> AirflowConnection:
    """An Airflow connection as sources take it."""
    from nightshift.errors import SetupError
    from nightshift.sources import AirflowConnection, read_extra

    try:
        extra = read_extra(connection.extra)
    except (ValueError, TypeError) as error:
        raise SetupError(
            f"the extra of the Airflow connection {connection.conn_id!r} is no JSON of names and"
            f" values ({type(error).__name__})"
        ) from None
    return AirflowConnection(
        conn_type=connection.conn_type or "",
        host=connection.host or None,
        port=int(connection.port) if connection.port else None,
        login=connection.login or None,
        password=connection.password or None,
        schema=connection.schema or None,
        extra=extra,
    )


def places(name: str) -> list[str]:
    """Where Airflow looks for a connection, in its order."""
    from airflow.configuration import conf

    backend = conf.get("secrets", "backend", fallback="")
    workers = conf.get("workers", "secrets_backend", fallback="")
    return [
        *(f"the secrets backend {name}" for name in dict.fromkeys((workers, backend)) if name),
        f"AIRFLOW_CONN_{name.upper()} in the environment",
        "Airflow's database",
    ]


def find(name: str) -> dict[str, Any]:
    """A connection's fields under ``connection``, or None, and the ``places`` that were looked at.

    A place that cannot be asked is told as such: what it holds is not known.
    """
    from airflow.configuration import ensure_secrets_loaded

    from nightshift.sources import spellings

    looked = []
    for backend in ensure_secrets_loaded():
        kind = type(backend).__name__
        place = {
            "EnvironmentVariablesBackend": "Airflow's environment",
            "MetastoreBackend": "Airflow's database",
        }.get(kind, f"the secrets backend {kind}")
        try:
            kept = (backend.get_connection(conn_id=spelling) for spelling in spellings(name))
            connection = next(filter(None, kept), None)
        except Exception as error:  # a backend is anybody's code
            looked.append(f"{place}, which could not be asked ({type(error).__name__})")
            continue
        if connection is not None:
            return {"connection": vars(fields(connection)), "places": looked}
        looked.append(place)
    return {"connection": None, "places": looked}


if __name__ == "__main__":
    print(json.dumps(find(sys.argv[1])))  # noqa: T201 - what this command is for
