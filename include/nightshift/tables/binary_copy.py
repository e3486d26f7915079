"""Arrow rows as bytes of Postgres' binary ``COPY``.

A driver that writes value by value takes about as long for a million predictions as a light model
takes to make them. Here a column is written at once. The format is told in Postgres' documentation
of ``COPY``, under "Binary Format".
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
"""What comes before the first row: a signature, no flags and no extension."""

_TRAILER = b"\xff\xff"
"""What comes after the last row."""

_EPOCH = 946_684_800_000_000
"""Postgres counts microseconds from the year 2000, Arrow from 1970."""

_NULL = -1
"""The length that a null is told by."""

_NUMBERS = {
    pa.int16(): ">i2",
    pa.int32(): ">i4",
    pa.float64(): ">f8",
    pa.timestamp("us", "UTC"): ">i8",
}
"""What has the same length in every row, and how numpy calls it in the order of the network."""


@dataclass(frozen=True)
class Encoded:
    """So many rows as ``COPY`` takes them, without what encloses them."""

    rows: int
    data: pa.Buffer


def encode(batch: pa.RecordBatch) -> Encoded:
    """Write rows down, with their columns in order.

    Parameters
    ----------
    batch
        Columns of text, which may have nulls, and of int16, int32, float64 and timestamp[us, UTC],
        which may not.

    Raises
    ------
    TypeError
        A column is of another type.
    ValueError
        A number is null.
    """
    parts: list[Any] = []
    waiting: list[tuple[str, Any]] = [(">i2", batch.num_columns)]
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if field.type == pa.string():
            waiting.append((">i4", pc.fill_null(pc.binary_length(column), _NULL).to_numpy()))
            parts += [_side_by_side(waiting, batch.num_rows), column.cast(pa.large_binary())]
            waiting = []
        else:
            kind = _kind(field, column)
            waiting += [(">i4", np.dtype(kind).itemsize), (kind, _numbers(column))]
    parts.append(_side_by_side(waiting, batch.num_rows))
    nothing = pa.scalar(b"", pa.large_binary())
    written = pc.binary_join_element_wise(*parts, nothing, null_handling="replace")
    _, offsets, data = written.buffers()
    return Encoded(batch.num_rows, data[: np.frombuffer(offsets, np.int64)[batch.num_rows]])


def enclosed(rows: Iterable[Encoded]) -> io.BytesIO:
    """A whole copy: what comes before rows, the rows, and what comes after them."""
    return io.BytesIO(b"".join([_HEADER, *(some.data for some in rows), _TRAILER]))


def _kind(field: pa.Field, column: pa.Array) -> str:
    if field.type not in _NUMBERS:
        raise TypeError(f"column {field.name!r} is {field.type}, which is not copied")
    if column.null_count:
        raise ValueError(f"column {field.name!r} has {column.null_count} nulls")
    return _NUMBERS[field.type]


def _numbers(column: pa.Array) -> np.ndarray:
    if pa.types.is_timestamp(column.type):
        return np.asarray(column.cast(pa.int64()).to_numpy() - _EPOCH)
    return np.asarray(column.to_numpy())


def _side_by_side(columns: Sequence[tuple[str, Any]], rows: int) -> pa.Array:
    """For each row the bytes of its values, one after the other."""
    table = np.empty(rows, [(str(number), kind) for number, (kind, _) in enumerate(columns)])
    for number, (_, values) in enumerate(columns):
        table[str(number)] = values
    width = pa.binary(table.itemsize)
    return pa.Array.from_buffers(width, rows, [None, pa.py_buffer(table)]).cast(pa.large_binary())
