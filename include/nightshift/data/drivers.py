"""How the drivers of Postgres are entered, and what they say, in our nouns.

A failure is one of three: a refused statement, an outage that time may mend, or a setting of the
connection that somebody must mend.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, urlencode

import adbc_driver_manager
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from nightshift.errors import ConnectionFault, DatabaseError, DatabaseUnavailable

# Classes of SQLSTATE after which the same statement may well succeed. First those of a connection
# that is lost or refused; then serialisation, deadlock, a lock or a statement that took too long.
_LOST = re.compile(r"08...|57P0.|53300")
_BUSY = re.compile(r"40001|40P01|55P03|57014")

# Who enters is told why not in words alone, without a SQLSTATE. What a setting is to blame for:
_SETTING = re.compile(
    r"authentication (failed|method|mechanism)|no password supplied|does not exist"
    r"|not permitted to log in|pg_hba\.conf|unsupported startup parameter"
    r"|unrecognized configuration parameter|invalid .*(option|value|parameter|port|URI|integer)"
    r"|does not support SSL|certificate|unsupported frontend protocol"
    r"|invalid response|expected authentication request|wrong version number|permission denied"
    r"|name or service not known|nodename nor servname|no address associated"
    r"|no such (user|database)|not currently accepting connections",
    re.IGNORECASE,
)
# Of the rest, what time may mend; whatever else is said there is for a person to read.
_OUTAGE = re.compile(
    r"refused|timeout|timed out|could not connect|cannot connect|no route to host|unreachable"
    r"|(host|network) is down|closed|reset|broken pipe|EOF detected|starting up|shutting down"
    r"|recovery|not yet accepting|too many|remaining connection slots|temporary failure"
    r"|could not (receive|send)|no connection|terminat|socket .*(no such file|not found)"
    r"|no more connections|server login|crash|try again",
    re.IGNORECASE,
)


@contextmanager
def our_nouns(place: object) -> Iterator[None]:
    """Drivers' errors as ours; ``place`` is told as where they happened.

    Raises
    ------
    DatabaseUnavailable
        An outage, or a lock or a conflict: another try may succeed.
    ConnectionFault
        A setting of the connection is wrong.
    DatabaseError
        Any other refusal, with its SQLSTATE.
    """
    try:
        yield
    except NoConnectionFree as error:
        raise DatabaseUnavailable(f"{place}: every connection is in use. Try again") from error
    except DBAPIError as error:
        state = sqlstate(error)
        entering = error.statement is None and not error.connection_invalidated
        raise _noun(
            place, state, str(error.orig), entering=entering, lost=error.connection_invalidated
        ) from error
    except adbc_driver_manager.Error as error:
        entering = "Failed to connect" in str(error)
        raise _noun(place, error.sqlstate, str(error), entering=entering) from error
    except OSError as error:  # while rows are fetched the driver may raise what is Arrow's
        if not str(error).startswith("[libpq]"):
            raise
        raise _noun(place, None, str(error)) from error


def sqlstate(error: DBAPIError) -> str | None:
    """The SQLSTATE of a refusal; None where none came from a server."""
    return getattr(error.orig, "pgcode", None)


def _noun(
    place: object, state: str | None, message: str, *, entering: bool = False, lost: bool = False
) -> DatabaseError:
    first = message.strip().splitlines()[0] if message.strip() else "no message"
    if state is None and entering:
        setting = next((line for line in message.splitlines() if _SETTING.search(line)), None)
        if setting or not _OUTAGE.search(message):
            reason = (setting or first).strip()
            return ConnectionFault(
                f"Postgres at {place} cannot be entered as the connection says: {reason}."
                " Mend the connection; trying again does not help"
            )
        lost = True
    elif state is None:
        lost |= "connect" in first or "closed" in first
    else:
        lost |= _LOST.fullmatch(state) is not None
    if lost:
        return DatabaseUnavailable(
            f"cannot reach Postgres at {place}: {first}. What was not committed is undone; run"
            " this step again. Is Postgres running? `nightshift up` starts the embedded one"
        )
    if state is not None and _BUSY.fullmatch(state):
        return DatabaseUnavailable(
            f"Postgres at {place} asks to try again: {first}. Nothing was changed. If it says so"
            " again, look in pg_stat_activity for what holds the lock or takes so long"
        )
    refused = DatabaseError(f"{place}: {first}" + (f" (SQLSTATE {state})" if state else ""))
    refused.sqlstate = state
    return refused


def libpq_uri(url: URL, **parameters: str) -> str:
    """For libpq, which takes a plus sign for itself, everything is percent-encoded.

    What it cannot read it repeats in its error, a password included. ``parameters`` win over those
    of the URL.
    """
    login = ":".join(quote(part, safe="") for part in (url.username, url.password) if part)
    host = f"[{url.host}]" if url.host and ":" in url.host else url.host or ""
    at = f"{login}@{host}" if login else host
    place = f"{at}:{url.port}" if url.port else at
    query = urlencode({**url.query, **parameters}, doseq=True, quote_via=quote)
    return f"postgresql://{place}/{quote(url.database or '', safe='')}?{query}"
