"""A part of a night, scored: the rows of a snapshot in, encoded prediction rows out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from threadpoolctl import ThreadpoolController

from nightshift import data
from nightshift.artifacts import LoadedVersion
from nightshift.data import Store
from nightshift.errors import ConfigError, RegistryError, ScoringError
from nightshift.family import ModelFamily
from nightshift.night.plans import Plan, Work
from nightshift.records import READERS, SHADOW, Snapshot, Version
from nightshift.tables import Encoded, ahead, chunked, encode, mapped, ordered

ROWS = pa.schema(
    [
        pa.field("as_of", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("batch_id", pa.int32(), nullable=False),
        pa.field("version_id", pa.int32(), nullable=False),
        pa.field("model_id", pa.int32(), nullable=False),
        pa.field("flags", pa.int16(), nullable=False),
        pa.field("role", pa.int16(), nullable=False),
        pa.field("entity_id", pa.string(), nullable=False),
        pa.field("label", pa.string()),
    ]
)


_FORGIVEN: Mapping[int, tuple[type[Exception], ...]] = {
    READERS: (ScoringError, RegistryError, ConfigError),
    SHADOW: (Exception,),
}
"""What a version raises that cannot score, by role. Of champions an outage is not among it;
whatever a challenger does, readers get their rows."""


@dataclass
class ScoredRows:
    """What versions say about some rows, each with its id, and which failed at that."""

    rows: list[tuple[int, pa.RecordBatch | Encoded]] = field(default_factory=list)
    errors: dict[int, Exception] = field(default_factory=dict)

    def surviving(self, failed: dict[int, Exception]) -> list[Any]:
        """The rows of versions that have not failed, here or before; who did is added."""
        for version_id, error in self.errors.items():
            failed.setdefault(version_id, error)
        return [rows for version_id, rows in self.rows if version_id not in failed]


@dataclass(frozen=True)
class PartScorer:
    """What makes the rows of one part of a batch; it writes nothing down."""

    store: Store
    family: ModelFamily
    snapshot: Snapshot
    load: Callable[[Version], LoadedVersion]
    batch_id: int
    plan: Plan
    versions: Mapping[int, Version]
    form: Callable[[pa.RecordBatch], pa.RecordBatch | Encoded] = encode
    """What becomes of scored rows where they were scored: as `COPY` takes them."""

    turn: threading.Lock = field(default_factory=threading.Lock)

    def scored(self, role: int) -> Iterator[ScoredRows]:
        """What is said in a role about the part's rows, piece by piece; others go on meanwhile."""
        work = self.plan.scored(role)
        failed: set[int] = set()

        def score(table: pa.Table) -> ScoredRows:
            scored_rows = self._rows(table, work, role, failed)
            failed.update(scored_rows.errors)
            return scored_rows

        return mapped(score, ahead(self._tables()), workers=self._workers)

    @property
    def _workers(self) -> int:
        """How many row groups are scored at once. The models of a factory are small: one."""
        if self.family.models is not None:
            return 1
        cores: int = joblib.cpu_count()
        return max(1, min(cores, self.store.chunk_rows // data.ROW_GROUP))

    @contextmanager
    def _turn(self, loaded: LoadedVersion) -> Iterator[None]:
        """Let a version be asked by several threads at once if it is known to bear that.

        Each then does with one thread of OpenMP: several that share a row group would wait for
        each other at every tree, while the cores are busy with copying as well.
        """
        if self._workers > 1 and loaded.bears_threads:
            with _controller().limit(limits=1, user_api="openmp"):
                yield
        else:
            with self.turn:
                yield

    def _tables(self) -> Iterator[pa.Table]:
        """The part's rows; in a factory all of a member at once, so that it is called once."""
        by = self.family.models.by if self.family.models else None
        groups = self.store.stream_table(
            self.snapshot.content_hash,
            self.plan.piece,
            self.plan.pieces,
            encoded=[name for name in self.family.features.categorical if name != by],
        )
        if by is None:
            yield from groups
            return
        members = pa.array([work.member for work in self.plan.work], pa.string())
        own = (group.filter(pc.is_in(group[by], value_set=members)) for group in groups)
        with self.store.scratch() as folder:
            in_order = ordered(own, by, rows=self.store.chunk_rows, folder=folder)
            yield from _whole_members(in_order, by)

    def _rows(
        self,
        table: pa.Table,
        scored: Mapping[str | None, Work],
        role: int,
        failed: Collection[int],
    ) -> ScoredRows:
        """The rows of every member that somebody scores who has not failed before."""
        scored_rows = ScoredRows()
        for member, numbers in split(table, self.family).items():
            work = scored.get(member)
            version_id = work.scorer(role) if work else None
            if work is None or version_id is None or version_id in (*failed, *scored_rows.errors):
                continue
            part = table if len(numbers) == table.num_rows else table.take(numbers)
            try:
                with self.turn:  # or several would open the same artifact
                    loaded = self.load(self.versions[version_id])
                predicted = self._predicted(part, loaded, work, role)
                scored_rows.rows.append((version_id, self.form(predicted)))
            except _FORGIVEN[role] as error:
                scored_rows.errors[version_id] = error
        return scored_rows

    def _predicted(
        self, part: pa.Table, loaded: LoadedVersion, work: Work, role: int
    ) -> pa.RecordBatch:
        with self._turn(loaded):
            predicted = loaded.predict(part)
        version, rows = loaded.version, part.num_rows
        model_id = work.model_id or version.model.model_id
        return pa.record_batch(
            {
                "as_of": pa.repeat(pa.scalar(self.snapshot.as_of, ROWS.field("as_of").type), rows),
                "score": pa.array(predicted.score),
                "batch_id": pa.repeat(pa.scalar(self.batch_id, pa.int32()), rows),
                "version_id": pa.repeat(pa.scalar(version.version_id, pa.int32()), rows),
                "model_id": pa.repeat(pa.scalar(model_id, pa.int32()), rows),
                "flags": pa.array(predicted.flags),
                "role": pa.repeat(pa.scalar(role, pa.int16()), rows),
                "entity_id": part["entity_id"].combine_chunks().cast(pa.string()),
                "label": pa.array(predicted.label, pa.string())
                if predicted.label is not None
                else pa.nulls(rows, pa.string()),
            },
            schema=ROWS,
        )


def split(table: pa.Table, family: ModelFamily) -> dict[str | None, pa.Array]:
    """The row numbers of each member of a table, in order; under None in a family of one model."""
    if family.models is None:
        return {None: pa.array(np.arange(table.num_rows))} if table.num_rows else {}
    members = table[family.models.by].to_numpy(zero_copy_only=False)
    order = np.argsort(members, kind="stable")
    names, starts = np.unique(members[order], return_index=True)
    pieces = np.split(order, starts[1:])
    return {str(name): pa.array(rows) for name, rows in zip(names, pieces, strict=False)}


@cache
def _controller() -> ThreadpoolController:
    """Of the libraries that are loaded by the time that a version is."""
    return ThreadpoolController()


def _whole_members(tables: Iterable[pa.Table], by: str) -> Iterator[pa.Table]:
    """Tables that are sorted by member, in pieces of about a row group that cut no member."""
    held: list[pa.Table] = []
    for table in chunked(tables, data.ROW_GROUP):
        *whole, rest = _cut(pa.concat_tables([*held, table]).combine_chunks(), by)
        yield from whole
        held = [rest]
    yield from held


def _cut(table: pa.Table, by: str) -> Iterator[pa.Table]:
    """Pieces of whole members; the last one's may go on in the next table."""
    codes = table[by].combine_chunks().dictionary_encode().indices.to_numpy()
    start = 0
    for end in (np.flatnonzero(np.diff(codes)) + 1).tolist():
        if end - start >= data.ROW_GROUP:
            yield table.slice(start, end - start)
            start = end
    yield table.slice(start)
