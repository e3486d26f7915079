"""What is wrong with an author's queries, as far as their text says. No source is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from nightshift.family import ModelFamily, Problem
from nightshift.sources.queries import MOMENTS, Query, no_query, read_query
from nightshift.wording import nearest

if TYPE_CHECKING:
    from sqlglot.expressions import Expr

_SOME_MOMENT = dict.fromkeys(MOMENTS, datetime(2026, 1, 1, tzinfo=UTC))


def label_columns(family: ModelFamily) -> list[str]:
    """What labels.sql must return, each once."""
    answers = ["as_of"] if family.labels.per == "entity_and_as_of" else []
    return ["entity_id", "value", "event_at", "known_at", *answers]


def query_problems(family: ModelFamily) -> Iterator[Problem]:
    """Problems of features.sql and labels.sql, each with its file and line."""
    yield from _problems(family.folder / "features.sql", ("as_of",), family.columns)
    yield from _problems(family.folder / "labels.sql", MOMENTS, label_columns(family))


def _problems(file: Path, moments: tuple[str, ...], columns: Sequence[str]) -> Iterator[Problem]:
    try:
        query = read_query(file.read_text(), moments)
    except UnicodeDecodeError:
        yield Problem(file, "", "is no UTF-8 text; save it as UTF-8")
        return
    faults = [*query.faults, *no_query(query)]
    if faults:
        for fault in faults:
            yield Problem(file, f"line {fault.line}", fault.message)
        return
    if not query.uses("as_of"):
        yield Problem(
            file,
            "",
            "has :as_of in a comment or a literal only, where it is no parameter:"
            " a query must know the moment it is asked about",
        )
    yield from _column_problems(file, query, columns)


def _column_problems(file: Path, query: Query, columns: Sequence[str]) -> Iterator[Problem]:
    """What the list of the outermost select says about the columns, where it can be told."""
    items = _selected(query)
    stars = [item for item in items if item.is_star]
    names = [_name(item) for item in items if not item.is_star]
    if stars:
        for item in items:
            if not item.is_star and (name := _hidden(item)):
                yield Problem(
                    file,
                    f"line {_line(item)}",
                    f"returns {name!r} twice: as it is in {stars[0].sql()}, and cast beside it;"
                    " list the columns instead of the star",
                )
        return
    returned = [name for name in names if name]
    for name, times in Counter(returned).items():
        if times > 1:
            yield Problem(file, "", f"returns column {name!r} {times} times; leave one")
    if not items or not all(names):
        return
    for name in columns:
        if name not in returned:
            others = [column for column in returned if column not in columns]
            near = nearest(name, others)
            if name != name.lower() and name.lower() in others:
                near = (
                    f", but {name.lower()!r}, as Postgres folds a name without quotes: write"
                    f' "{name}" in quotes, or {name.lower()} in model.yaml'
                )
            yield Problem(
                file, f"line {_line(items[0])}", f"the select list has no column {name!r}{near}"
            )


def tables_of(sql: str) -> list[str]:
    """The tables that a query reads, ``schema.table`` where it says so, each once.

    None where the text is more than a parser knows.
    """
    from sqlglot import exp

    tree = _parsed(read_query(sql))
    if tree is None:
        return []
    inner = {cte.alias for cte in tree.find_all(exp.CTE)}
    named = [
        ".".join(filter(None, (table.catalog, table.db, table.name)))
        for table in tree.find_all(exp.Table)
        if table.name  # a function that returns rows has none
    ]
    return sorted({name for name in named if name not in inner})


def _selected(query: Query) -> Sequence[Expr]:
    """The items of the outermost select list; none where the text is more than a parser knows."""
    from sqlglot import exp

    tree = _parsed(query)
    while isinstance(tree, exp.Subquery):
        tree = tree.this
    return list(tree.selects) if isinstance(tree, exp.Query) else []


def _parsed(query: Query) -> Expr | None:
    """A query as a tree; None where the text is more than a parser knows."""
    import logging

    import sqlglot
    from sqlglot.errors import SqlglotError

    logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it warns of what it does not know
    try:
        return sqlglot.parse_one(query.bound(_SOME_MOMENT), read="postgres")
    except (SqlglotError, RecursionError):
        return None


def _name(item: Expr) -> str | None:
    """The column that an item becomes, folded as Postgres folds names; None where unsure."""
    from sqlglot import exp

    inner = item
    while isinstance(inner, exp.Cast | exp.Paren):
        inner = inner.this
    if isinstance(item, exp.Alias):
        identifier = item.args["alias"]
    elif isinstance(inner, exp.Column):
        identifier = inner.this
    else:
        return None
    if not isinstance(identifier, exp.Identifier):
        return None
    return str(identifier.name if identifier.quoted else identifier.name.lower())


def _hidden(item: Expr) -> str | None:
    """The column that an item casts and names as it was named."""
    from sqlglot import exp

    inner = item.this if isinstance(item, exp.Alias) else item
    if not isinstance(inner, exp.Cast):
        return None
    name = _name(item)
    return name if name is not None and name == _name(inner) else None


def _line(item: Expr) -> int:
    from sqlglot import exp

    return next((name.meta["line"] for name in item.find_all(exp.Identifier) if name.meta), 1)
