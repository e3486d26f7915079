"""Rows that were scored again, held against those that were stored, bit by bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

SAID = ("model_id", "version_id", "score", "label", "flags")
"""What a prediction says of an entity."""


@dataclass(frozen=True)
class Sameness:
    """How rows of two scorings of the same entities differ.

    ``moved`` is the number of rows whose score has other bits, ``largest`` the largest distance
    between two such scores (0 where none is told); ``labels`` and ``others`` count rows of another
    label, or of other flags, model or version. ``missing`` were there then only, ``extra`` are
    there again only.
    """

    rows: int
    moved: int
    largest: float
    labels: int
    others: int
    missing: int
    extra: int

    @property
    def whole(self) -> bool:
        """Whether nothing differs."""
        return not (self.moved or self.labels or self.others or self.missing or self.extra)


def sameness(then: pa.Table, again: pa.Table) -> Sameness:
    """Hold two scorings against each other; ``entity_id`` is a key of both.

    Parameters
    ----------
    then, again
        Tables with ``entity_id`` and the columns of :data:`SAID`.
    """
    first, second = (_sorted(table) for table in (then, again))
    keys: list[Any] = [t["entity_id"].to_numpy(zero_copy_only=False) for t in (first, second)]
    _, left, right = np.intersect1d(keys[0], keys[1], assume_unique=True, return_indices=True)
    first, second = first.take(pa.array(left)), second.take(pa.array(right))
    scores = [table["score"].to_numpy() for table in (first, second)]
    moved = scores[0].view(np.int64) != scores[1].view(np.int64)
    distances = np.abs(scores[0][moved] - scores[1][moved])
    others = np.zeros(len(left), dtype=bool)
    for name in ("model_id", "version_id", "flags"):
        others |= first[name].to_numpy() != second[name].to_numpy()
    labels = [table["label"].to_numpy(zero_copy_only=False) for table in (first, second)]
    return Sameness(
        rows=then.num_rows,
        moved=int(moved.sum()),
        largest=float(np.nanmax(distances, initial=0.0)),
        labels=int((labels[0] != labels[1]).sum()),
        others=int(others.sum()),
        missing=then.num_rows - len(left),
        extra=again.num_rows - len(left),
    )


def _sorted(table: pa.Table) -> pa.Table:
    return table.select(["entity_id", *SAID]).sort_by("entity_id").combine_chunks()
