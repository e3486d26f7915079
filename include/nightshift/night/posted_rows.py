"""Rows that somebody posts, as the table that a snapshot of the family would hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from nightshift.errors import RowProblem, RowsRefused
from nightshift.family import ModelFamily
from nightshift.wording import nearest

Record = Mapping[str, Any]
Fault = Callable[[Any], str | None]


def table(records: Sequence[Record], family: ModelFamily) -> pa.Table:
    """JSON records as a table with the family's columns, in the order in which they were posted.

    A number or true or false is a number, null is missing, and every column must be named in every
    row, as features.sql names it. Keys are text; ``entity_id`` and the column that names a
    factory's model are never null, and an entity is posted once.

    Raises
    ------
    RowsRefused
        With every problem of every column.
    """
    problems = [*_unknown(records, family), *_missing(records, family)]
    for name in family.columns:
        problems += _unusable(records, name, _fault(name, family))
    problems += _repeated(records)
    if problems:
        raise RowsRefused(family.family, problems)
    return pa.table(
        {
            name: pa.array(
                [_cell(record[name]) for record in records],
                pa.float64() if name in family.features.numeric else pa.string(),
            )
            for name in family.columns
        }
    )


def _unknown(records: Sequence[Record], family: ModelFamily) -> Iterable[RowProblem]:
    accepted = set(family.columns)
    named: dict[str, list[int]] = {}
    for number, record in enumerate(records):
        for name in record.keys() - accepted:
            named.setdefault(name, []).append(number)
    for name, rows in sorted(named.items()):
        hint = nearest(name, accepted)
        yield RowProblem(name, tuple(rows), f"is no column that {family.family} reads{hint}")


def _missing(records: Sequence[Record], family: ModelFamily) -> Iterable[RowProblem]:
    for name in family.columns:
        rows = tuple(number for number, record in enumerate(records) if name not in record)
        if rows:
            yield RowProblem(name, rows, "is missing; write null where a value is not known")


def _unusable(records: Sequence[Record], name: str, fault: Fault) -> Iterable[RowProblem]:
    """Of each kind of fault in a column, one problem."""
    rows_by_text: dict[str, list[int]] = {}
    for number, record in enumerate(records):
        problem_text = fault(record[name]) if name in record else None
        if problem_text is not None:
            rows_by_text.setdefault(problem_text, []).append(number)
    return [RowProblem(name, tuple(rows), text) for text, rows in rows_by_text.items()]


def _fault(name: str, family: ModelFamily) -> Fault:
    if name in family.features.numeric:
        return _number_fault
    needed = name == "entity_id" or (family.models is not None and name == family.models.by)
    return _key_fault if needed else _text_fault


def _number_fault(cell: Any) -> str | None:
    if cell is None or isinstance(cell, bool):
        return None
    if not isinstance(cell, int | float):
        return f"is {_kind(cell)}, not a number"
    try:
        exact = float(cell) == cell
    except OverflowError:
        exact = False
    if not (exact or isinstance(cell, float)) or not math.isfinite(cell):
        return "is not finite, or too large for double precision"
    return None


def _key_fault(cell: Any) -> str | None:
    return "is null, and must not be" if cell is None else _text_fault(cell)


def _text_fault(cell: Any) -> str | None:
    return None if cell is None or isinstance(cell, str) else f"is {_kind(cell)}, not text"


def _kind(cell: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return names.get(type(cell), "null" if cell is None else "an object")


def _repeated(records: Sequence[Record]) -> Iterable[RowProblem]:
    rows: dict[str, list[int]] = {}
    for number, record in enumerate(records):
        entity = record.get("entity_id")
        if isinstance(entity, str):
            rows.setdefault(entity, []).append(number)
    again = sorted(number for numbers in rows.values() for number in numbers[1:])
    if again:
        yield RowProblem("entity_id", tuple(again), "repeats that of an earlier row")


def _cell(cell: Any) -> Any:
    return float(cell) if isinstance(cell, bool | int) else cell
