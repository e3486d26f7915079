"""What versions have told of matured nights, and what others would have told of the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from nightshift import monitoring, stats
from nightshift.artifacts import LoadedVersion
from nightshift.data import ROW_GROUP, Database, Store, query_text
from nightshift.family import ModelFamily
from nightshift.records import Version

Load = Callable[[Version], LoadedVersion]
"""Opens a version, see :meth:`nightshift.registry.Registry.load`."""


def predictions_of(
    database: Database,
    family: ModelFamily,
    versions: Sequence[int],
    start: datetime,
    as_of: datetime,
) -> dict[tuple[int, int], pd.DataFrame]:
    """What versions have told of the nights after ``start`` that have matured, by version and role.

    Columns ``entity_id``, ``as_of``, ``score``, ``label`` and ``value``, the latest label known at
    ``as_of``; missing where none is.
    """
    end = as_of - family.labels.maturity
    window = {
        "family": family.family,
        "start": start,
        "end": end,
        "known_by": as_of,
        "versions": ",".join(map(str, versions)),
    }
    with database.transaction() as tx:
        tx.require_rows(family.family, start, end)
    with database.bulk() as bulk:
        rows = bulk.read(query_text("trials.rows"), window).to_pandas()
    return dict(iter(rows.groupby(["version_id", "role"])))


def matured(family: ModelFamily, rows: pd.DataFrame) -> pd.DataFrame:
    """The labelled rows of the nights whose labels are complete enough."""
    known = rows["value"].notna()
    share = known.groupby(stats.nights_of(rows)).transform("mean")
    return rows[known & (share >= family.labels.min_coverage)]


class Predecessor:
    """What a version would have told of the rows of its successor, many rows at a time."""

    def __init__(self, version: Version, rows: pd.DataFrame) -> None:
        self._version = version
        self._nights = dict(iter(rows.groupby("as_of")))
        self._waiting: list[tuple[pd.DataFrame, pa.Table]] = []
        self._done: list[tuple[pd.DataFrame, pd.DataFrame]] = []

    def see(self, night: datetime, table: pa.Table, load: Load) -> None:
        """Take the rows of a night from its snapshot."""
        own = self._nights.get(pd.Timestamp(night))
        if own is None:
            return
        ids = pa.array(own["entity_id"], table["entity_id"].type)
        self._waiting.append((own, table.take(pc.index_in(ids, value_set=table["entity_id"]))))
        if sum(len(rows) for rows, _ in self._waiting) >= ROW_GROUP:
            self._predict(load)

    def told(self, load: Load) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The rows with what this version tells of them, and with what its successor told."""
        self._predict(load)
        older, newer = (pd.concat(side) for side in zip(*self._done, strict=True))
        return older, newer

    def _predict(self, load: Load) -> None:
        if not self._waiting:
            return
        rows = pd.concat([rows for rows, _ in self._waiting])
        parts = [part for _, part in self._waiting]
        predicted = load(self._version).predict(
            pa.concat_tables(parts, promote_options="permissive")
        )
        self._done.append((rows.assign(score=predicted.score, label=predicted.label), rows))
        self._waiting = []


def frozen_nights(
    database: Database, store: Store, family: ModelFamily, start: datetime, as_of: datetime
) -> Iterator[tuple[datetime, pa.Table]]:
    """The snapshots of the matured nights after ``start``, one after the other."""
    until = as_of - family.labels.maturity
    with database.transaction() as tx:
        nights = monitoring.published_snapshots(tx, family.family, start, until)
    for night, content_hash in nights:
        yield night, store.read_table(content_hash)
