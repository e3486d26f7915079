"""A connection as Airflow keeps it: read from its two spellings, without Airflow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from nightshift.errors import SetupError

_ALIASES = {"postgresql": "postgres"}


@dataclass(frozen=True)
class AirflowConnection:
    """The fields of a connection; ``schema`` is what others call the database.

    Of several spellings of a type, ``postgresql+psycopg2`` for one, it has the one that Airflow
    keeps.
    """

    conn_type: str
    host: str | None = None
    port: int | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    schema: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        name = self.conn_type.partition("+")[0].lower()
        conn_type = _ALIASES.get(name, name.replace("-", "_"))
        object.__setattr__(self, "conn_type", conn_type)


def read_connection(text: str) -> AirflowConnection:
    """A connection from the URI or the JSON that Airflow takes for it.

    Raises
    ------
    ValueError
        The text is neither. What is raised never repeats it: it may hold a password.
    """
    try:
        return _from_json(text) if text.lstrip().startswith("{") else _from_uri(text)
    except KeyError as error:
        raise ValueError(f"no {error}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(type(error).__name__) from None


def read_extra(text: str | None) -> dict[str, Any]:
    """What is beside a connection's fields; none where the text holds none."""
    extra = json.loads(text) if text else {}
    if isinstance(extra, str):
        extra = json.loads(extra)
    if not isinstance(extra, dict):
        raise TypeError("extra holds no names")
    return extra


def missing_connection(name: str, purpose: str, places: Sequence[str]) -> SetupError:
    """That no connection has this name; ``places`` are those that were looked at."""
    return SetupError(
        f"no connection {name!r} was found ({purpose}); looked in {'; '.join(places)}. Add it:"
        f" airflow connections add {name} --conn-uri"
        " 'postgresql://user:password@host:5432/database', or set"
        f" {variable_of(name)} for every process"
    )


def spellings(name: str) -> list[str]:
    """A name as it is written, and as others may have written it: in any case of letters."""
    return list(dict.fromkeys((name, name.lower(), name.upper())))


def variable_of(name: str) -> str:
    """The variable of the environment in which Airflow looks for a connection."""
    return f"AIRFLOW_CONN_{name.upper()}"


def _from_json(text: str) -> AirflowConnection:
    fields = json.loads(text)
    extra = fields.get("extra") or {}
    return AirflowConnection(
        conn_type=fields["conn_type"],
        host=fields.get("host") or None,
        port=int(fields["port"]) if fields.get("port") else None,
        login=fields.get("login") or None,
        password=fields.get("password") or None,
        schema=fields.get("schema") or None,
        extra=read_extra(extra) if isinstance(extra, str) else dict(extra),
    )


def _from_uri(text: str) -> AirflowConnection:
    parts = urlsplit(text)
    if not parts.scheme or "://" not in text:
        raise ValueError("no scheme")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    extra: dict[str, Any] = read_extra(query["__extra__"]) if "__extra__" in query else dict(query)
    # urlsplit gives the host in small letters, and a folder of sockets may have others.
    place = parts.netloc.rpartition("@")[2]
    host = place[1:].partition("]")[0] if place.startswith("[") else place.partition(":")[0]
    return AirflowConnection(
        conn_type=parts.scheme,
        host=unquote(host) or None,
        port=parts.port,
        login=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        schema=unquote(parts.path[1:]) or None,
        extra=extra,
    )
