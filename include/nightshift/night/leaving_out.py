"""Rows that are left out of a night, each alone for what is wrong with it: counted, with examples.

Rows pass in the order of ``entity_id``, nulls last, so those that repeat one are neighbours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.family import Fault, ModelFamily

EXAMPLES = 5
"""How many rows of each reason are remembered."""

NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"


@dataclass
class LeftOut:
    """What was left out so far: rows by reason, and the first few of each as they are told."""

    family: ModelFamily
    rows: Counter[Fault] = field(default_factory=Counter)
    examples: dict[Fault, list[str]] = field(default_factory=dict)
    columns: dict[Fault, set[str]] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """As a snapshot keeps it: reason to ``rows``, ``examples``, and the ``columns`` in them."""
        return {
            fault: {
                "rows": self.rows[fault],
                "examples": self.examples[fault],
                "columns": sorted(self.columns[fault]),
            }
            for fault in sorted(self.rows)
        }

    def from_sorted(self, pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """The rows that can be scored."""
        if not self.family.rows.excusable:
            yield from pieces
            return
        waiting: pa.Table | None = None
        for piece in pieces:
            rows = piece if waiting is None else pa.concat_tables([waiting, piece])
            # Those of the last entity wait: the next piece may begin with more of them.
            last = len(rows) - _run_lengths(rows["entity_id"])[-1]
            waiting = rows.slice(last)
            yield from self._sound(rows.slice(0, last))
        if waiting is not None:
            yield from self._sound(waiting)

    def _sound(self, rows: pa.Table) -> Iterator[pa.Table]:
        left_out = np.zeros(len(rows), dtype=bool)
        numbers: dict[str, pa.ChunkedArray] = {}
        for fault in self.family.rows.excusable if len(rows) else ():
            for column, faulty in self._faulty(fault, rows):
                new = faulty & ~left_out
                left_out |= new
                self._remember(fault, column, rows, new)
        sound = rows.filter(pa.array(~left_out)) if left_out.any() else rows
        for name in self.family.features.numeric:
            if pa.types.is_string(sound.schema.field(name).type):
                trimmed = pc.utf8_trim_whitespace(sound[name])
                numbers[name] = trimmed.cast(pa.float64())
        for name, column in numbers.items():
            sound = sound.set_column(sound.schema.get_field_index(name), name, column)
        if len(sound):
            yield sound.combine_chunks()

    def _faulty(self, fault: Fault, rows: pa.Table) -> Iterator[tuple[str, np.ndarray]]:
        """For each column that a fault may lie in, which rows have it."""
        if fault == "missing_key":
            yield "entity_id", _mask(pc.is_null(rows["entity_id"]))
        elif fault == "repeated_key":
            yield "entity_id", _repeated(rows)
        elif fault == "missing_member" and self.family.models is not None:
            yield self.family.models.by, _mask(pc.is_null(rows[self.family.models.by]))
        elif fault == "not_finite":
            for name in self.family.features.numeric:
                if pa.types.is_floating(rows.schema.field(name).type):
                    yield name, ~_mask(pc.fill_null(pc.is_finite(rows[name]), True))
        elif fault == "not_a_number":
            for name in self.family.features.numeric:
                if pa.types.is_string(rows.schema.field(name).type):
                    matches = pc.match_substring_regex(rows[name], NUMBER)
                    yield name, ~_mask(pc.fill_null(matches, True))

    def _remember(self, fault: Fault, column: str, rows: pa.Table, new: np.ndarray) -> None:
        count = int(new.sum())
        if not count:
            return
        self.rows[fault] += count
        examples = self.examples.setdefault(fault, [])
        shown = self.columns.setdefault(fault, set())
        for place in np.flatnonzero(new)[: EXAMPLES - len(examples)]:
            row = rows.slice(int(place), 1)
            columns = self._shown(column, row)
            shown.update(columns)
            examples.append(_example(columns, row))

    def _shown(self, column: str, row: pa.Table) -> list[str]:
        """The columns that tell a row beside its key, or instead of it where it has none."""
        columns = [column] if column != "entity_id" else []
        if row["entity_id"][0].as_py() is None:
            columns = [name for name in self.family.columns if name != "entity_id"][:5]
        return [name for name in columns if name not in self.family.features.sensitive]


def _example(columns: Sequence[str], row: pa.Table) -> str:
    """A row by its key and the values of some columns."""
    values = ", ".join(f"{name}={_cell_text(row[name][0].as_py())}" for name in columns)
    return "; ".join(filter(None, [row["entity_id"][0].as_py(), values])) or "not shown"


def _cell_text(value: Any) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _mask(chosen: Any) -> np.ndarray:
    return np.asarray(chosen.to_numpy(), dtype=bool)


def _same_as_before(column: pa.ChunkedArray) -> np.ndarray:
    """For each value but the first, whether it is the one before it; null is like null."""
    values = column.combine_chunks()
    before, after = values[:-1], values[1:]
    same = pc.fill_null(pc.equal(before, after), False)
    both_null = pc.and_(pc.is_null(before), pc.is_null(after))
    return np.asarray(pc.or_(same, both_null).to_numpy(zero_copy_only=False), dtype=bool)


def _run_lengths(keys: pa.ChunkedArray) -> np.ndarray:
    """How many rows each key of a sorted column has."""
    starts = np.flatnonzero(np.concatenate([[True], ~_same_as_before(keys)]))
    return np.diff(np.append(starts, len(keys)))


def _repeated(rows: pa.Table) -> np.ndarray:
    """Rows whose key is another's too; where all rows of a key are equal, the first may stay."""
    lengths = _run_lengths(rows["entity_id"])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    same = np.concatenate(
        [[True], np.logical_and.reduce([_same_as_before(rows[n]) for n in rows.schema.names])]
    )
    same[starts] = True
    all_equal = np.logical_and.reduceat(same, starts)
    out = np.repeat(lengths > 1, lengths)
    out[starts[all_equal]] = False
    repeated: np.ndarray = np.logical_and(out, ~_mask(pc.is_null(rows["entity_id"])))
    return repeated
