"""Queries of authors, read as the source reads them: which colons are parameters, where they end.

A parameter is a colon with a name right behind it, as in psql: nothing in a literal, a quoted name,
a comment or a dollar quote is one, nor is a cast or a slice of an array.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

from nightshift.wording import nearest

if TYPE_CHECKING:
    from sqlglot.errors import SqlglotError
    from sqlglot.tokenizer_core import Token

MOMENTS = ("as_of", "since")
"""The parameters that a query may use: the moment it is asked about, and labels known after."""

_NAME = re.compile(r"[^\W\d]\w*")
_QUOTED_NAME = re.compile(r"'([^\W\d]\w*)'")  # as psql writes a variable that is to be quoted
_OPENING = {"L_PAREN", "L_BRACKET"}
_CLOSING = {"R_PAREN", "R_BRACKET"}
_BEGINNINGS = {"select", "with", "values", "table"}


@dataclass(frozen=True)
class Parameter:
    """A place in a query where a moment is meant: ``[start, end)`` of its text."""

    name: str
    start: int
    end: int


@dataclass(frozen=True)
class Fault:
    """What is wrong with the text of a query, and in which line of it, from 1."""

    line: int
    message: str


@dataclass(frozen=True)
class Query:
    """The text of a query, what is in it, and what is wrong with it.

    ``end`` is where its last token ends: what follows are comments, space and semicolons.
    """

    sql: str
    tokens: Sequence[Token]
    parameters: Sequence[Parameter]
    end: int
    faults: Sequence[Fault]

    def bound(self, moments: Mapping[str, datetime]) -> str:
        """The query with its moments written into it, each of type ``timestamptz``.

        Postgres streams the rows of a query only where it is part of another statement: no
        parameter, no semicolon and no comment at its end is understood there.
        """
        parts, place = [], 0
        for parameter in self.parameters:
            moment = moments[parameter.name].astimezone(UTC).isoformat()
            parts += [self.sql[place : parameter.start], f"('{moment}'::timestamptz)"]
            place = parameter.end
        return "".join([*parts, self.sql[place : self.end]])

    def uses(self, name: str) -> bool:
        """Whether a parameter is used."""
        return any(parameter.name == name for parameter in self.parameters)


@cache
def read_query(sql: str, accepted: tuple[str, ...] = MOMENTS, dialect: str = "postgres") -> Query:
    """A query as the SQL of its source reads it.

    Parameters
    ----------
    accepted
        The parameters that it may use; another name behind a colon is a fault.
    """
    from sqlglot import Dialect
    from sqlglot.errors import SqlglotError

    try:
        tokens = list(Dialect.get_or_raise(dialect).tokenize(sql))
    except SqlglotError as error:
        line = sql.count("\n") + 1
        return Query(sql, (), (), len(sql), (Fault(line, f"is no SQL: {_sentence(error)}"),))
    faults: list[Fault] = []
    parameters = []
    for place, parameter, unsure in _colons(sql, tokens):
        if parameter.name in accepted:
            parameters.append(parameter)
        elif not unsure:
            names = " and ".join(f":{name}" for name in accepted)
            faults.append(
                Fault(
                    place.line,
                    f":{parameter.name} is no parameter of this query"
                    f"{nearest(parameter.name.lower(), accepted)}; there is {names}",
                )
            )
    last = max(
        (number for number, token in enumerate(tokens) if token.token_type.name != "SEMICOLON"),
        default=-1,
    )
    faults += _statement_faults(tokens[: last + 1])
    end = tokens[last].end + 1 if last >= 0 else 0
    return Query(sql, tokens[: last + 1], parameters, end, tuple(faults))


def _colons(sql: str, tokens: Sequence[Token]) -> list[tuple[Token, Parameter, bool]]:
    """Each colon with a name right behind it, and whether it may be one of an array's slice.

    A quoted name may be the end of a slice too.
    """
    colons, brackets = [], ["L_PAREN"]
    for token in tokens:
        kind = token.token_type.name
        if kind in _OPENING:
            brackets.append(kind)
        elif kind in _CLOSING and len(brackets) > 1:
            brackets.pop()
        elif kind != "COLON":
            continue
        elif name := _NAME.match(sql, token.end + 1):
            parameter = Parameter(name.group(), token.start, name.end())
            colons.append((token, parameter, brackets[-1] == "L_BRACKET"))
        elif name := _QUOTED_NAME.match(sql, token.end + 1):
            colons.append((token, Parameter(name.group(1), token.start, name.end()), True))
    return colons


def _statement_faults(tokens: Sequence[Token]) -> list[Fault]:
    if not tokens:
        return [Fault(1, "is empty: write a query")]
    second = next((token for token in tokens if token.token_type.name == "SEMICOLON"), None)
    if second is not None:
        return [Fault(second.line, "holds more than one statement; one query is asked")]
    return []


def no_query(query: Query) -> list[Fault]:
    """That a text begins as no query does; for who has only the text, as a source knows better."""
    first = next((token for token in query.tokens if token.text not in ("(", "")), None)
    if first is None or first.text.lower() in _BEGINNINGS:
        return []
    return [Fault(first.line, f"begins with {first.text!r} and is no query; write a select")]


def _sentence(error: SqlglotError) -> str:
    """What the tokenizer says, without the letters around, which may be all there are."""
    reason = str(error.__cause__ or error).partition(" from ")[0].strip()
    opened = reason.removeprefix("Missing ")
    if opened != reason:
        return f"{opened} is opened and never closed"
    return "a comment or quote is never closed"
