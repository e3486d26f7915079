"""What rows are found by, as one text each: the same for features and labels, of whatever type.

A number is written without needless zeros (``1`` for 1, 1.0 and 1.00), a day and a UUID as ISO
writes them, and blanks at the end of a text count as little as they do in Postgres' ``char(n)``.
"""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

KEY_TYPES = "text, a whole number, numeric, double precision, date or uuid"
"""The types of a key, as they are told."""


def is_key(kind: pa.DataType) -> bool:
    """Whether values of a type can be written as keys."""
    return (
        _is_text(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_date(kind)
        or isinstance(kind, pa.UuidType)
        or _is_numeric(kind)
    )


def as_key(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as keys; nulls stay null."""
    return pa.chunked_array([_as_key(chunk) for chunk in column.chunks], pa.string())


def with_keys(table: pa.Table, names: Collection[str]) -> pa.Table:
    """A table whose columns of these names are keys."""
    for place, name in enumerate(table.schema.names):
        if name in names:
            table = table.set_column(place, name, as_key(table.column(place)))
    return table


def _as_key(chunk: pa.Array) -> pa.Array:
    kind = chunk.type
    if isinstance(kind, pa.UuidType):
        return pa.array([None if v is None else str(v) for v in chunk.to_pylist()], pa.string())
    if _is_numeric(kind):
        return _plain(chunk.storage)
    if pa.types.is_floating(kind):
        numbers = chunk.cast(pa.float64())
        whole = pc.equal(numbers, pc.round(numbers))
        near = pc.and_(whole, pc.less(pc.abs(numbers), 2.0**53))
        exact = pc.if_else(near, numbers, None).cast(pa.int64()).cast(pa.string())
        return pc.if_else(near, exact, numbers.cast(pa.string()))
    text = chunk.cast(pa.string())
    if pa.types.is_decimal(kind):
        return _plain(text)
    return pc.utf8_rtrim(text, " ") if _is_text(kind) else text


def _plain(decimals: pa.Array) -> pa.Array:
    """Decimal numbers without the zeros that say nothing."""
    shorter = pc.replace_substring_regex(decimals, r"^(-?\d+\.\d*[1-9])0+$", r"\1")
    whole = pc.replace_substring_regex(shorter, r"^(-?\d+)\.0*$", r"\1")
    return pc.replace_substring_regex(whole, r"^-0$", "0")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_numeric(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.OpaqueType) and kind.type_name == "numeric"
