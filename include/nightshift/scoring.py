"""Snapshot and champion in, prediction rows out; then one short transaction makes them visible."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from nightshift.database import Database, Transaction, as_json, queries
from nightshift.family import ModelFamily
from nightshift.records import (
    READERS,
    SHADOW,
    Batch,
    Model,
    RowsRetired,
    ScoringError,
    Snapshot,
    Version,
)
from nightshift.registry import LoadedVersion
from nightshift.storage import Store

VERSIONS_TOLD = 100
"""A notification lists so many version numbers at most; more would not fit in every case."""

TRIES = 10
"""How often readers are asked to make way for dropping months."""

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


@dataclass(frozen=True)
class Seen:
    """A member in a snapshot: its rows, and the group that ``models.group_by`` tells."""

    rows: int
    group: str | None = None


def seen(store: Store, family: ModelFamily, snapshot: Snapshot) -> dict[str | None, Seen]:
    """The members in a snapshot, by name; in a family of one model all rows are under None."""
    if family.models is None:
        return {None: Seen(snapshot.row_count)}
    columns = [name for name in (family.models.by, family.models.group_by) if name]
    table = store.read_table(snapshot.content_hash, columns).select(columns)
    grouped = table.group_by(columns[0]).aggregate([([], "count_all"), (columns[-1], "max")])
    names, counts = grouped[columns[0]].to_pylist(), grouped["count_all"].to_pylist()
    told = grouped[f"{columns[-1]}_max"].to_pylist() if len(columns) > 1 else [None] * len(names)
    return {name: Seen(*of) for name, *of in zip(names, counts, told, strict=True)}


@dataclass(frozen=True)
class Serving:
    """Which version scores the rows of which model; None where nobody can.

    ``members`` are by the value of ``models.by``, or one under None in a family of one model.
    ``fallback`` scores the rows of every other value, and those of members without a version.
    ``shadows`` are challengers by the id of the version beside which they score, unseen by readers.
    """

    members: Mapping[str | None, tuple[Model, Version | None]]
    fallback: Version | None = None
    shadows: Mapping[int, Version] = field(default_factory=dict)

    def of(self, member: str | None) -> Version | None:
        """The version that scores a member's rows."""
        _, version = self.members.get(member, (None, None))
        return version or self.fallback

    def beside(self, member: str | None) -> Version | None:
        """The challenger in shadow that scores a member's rows as well."""
        version = self.of(member)
        return self.shadows.get(version.version_id) if version else None


def score(
    database: Database,
    store: Store,
    family: ModelFamily,
    snapshot: Snapshot,
    found: Mapping[str | None, Seen],
    serving: Serving,
    load: Callable[[Version], LoadedVersion],
    *,
    now: datetime,
) -> int:
    """Write a batch that nobody sees yet; its id.

    A night that is published already with this snapshot and these versions is not scored again:
    the published batch's id is returned. Rows that nobody can score are counted and left out. What
    fails leaves a batch that is never published and whose rows are purged later.

    Challengers in shadow score the same rows once those of the champions are written. One that
    fails is recorded, and none of its rows are kept. Whether a night is scored again does not
    depend on them.

    Parameters
    ----------
    found
        The members in the snapshot, see :func:`seen`.
    load
        Opens a version, see :meth:`nightshift.registry.Registry.load`.
    """
    versions = sorted({v.version_id for m in found if (v := serving.of(m)) is not None})
    night = {"family": family.family, "as_of": snapshot.as_of, "snapshot_id": snapshot.snapshot_id}
    with database.transaction() as tx:
        _refuse_unvalidated(tx, family, snapshot)
        _open_month(tx, family, snapshot)
        tx.rows("scoring.show_family", family=family.family, task=family.task)
        same = tx.maybe("scoring.published_same", **night, version_ids=versions)
        if same is not None:
            published: int = same.batch_id
            return published
        batch_id: int = tx.one(
            "scoring.start", **night, version_ids=versions, started_at=now
        ).batch_id
    scorers = {member: v for member in found if (v := serving.of(member)) is not None}
    beside = {member: v for member in found if (v := serving.beside(member)) is not None}
    batch = _Batch(database, store, family, snapshot, serving, load, batch_id)
    try:
        written = batch.write(scorers)
    except ScoringError:
        with database.transaction() as tx:
            tx.run("scoring.abandon", batch_id=batch_id)
        raise
    with database.transaction() as tx:
        _record_models(tx, batch_id, serving, found)
        tx.run(
            "scoring.finish",
            batch_id=batch_id,
            row_count=written,
            skipped_rows=snapshot.row_count - written,
            written_at=now,
        )
    batch.write_shadows(beside, now)
    return batch_id


def split(table: pa.Table, family: ModelFamily) -> dict[str | None, pa.Array]:
    """The row numbers of each member of a table, in order; under None in a family of one model."""
    if family.models is None:
        return {None: pa.array(range(table.num_rows), pa.int64())} if table.num_rows else {}
    members = table[family.models.by].to_numpy(zero_copy_only=False)
    order = np.argsort(members, kind="stable")
    names, starts = np.unique(members[order], return_index=True)
    pieces = np.split(order, starts[1:])
    return {str(name): pa.array(rows) for name, rows in zip(names, pieces, strict=False)}


def publish(database: Database, batch_id: int, *, now: datetime) -> Batch:
    """Make a written batch the one that readers see, in one short transaction.

    Where a newer batch of the same night is published already, that one stays and is returned.

    Raises
    ------
    ScoringError
        The batch was not written to its end, or does not hold as many rows as its snapshot.
    """
    with database.transaction() as tx:
        row = tx.one("scoring.get", batch_id=batch_id)
        if row.state != "written" or row.row_count + row.skipped_rows != row.snapshot_rows:
            raise ScoringError(
                f"{row.family}: batch {batch_id} of {row.as_of.isoformat()} is {row.state} with"
                f" {row.row_count} rows for a snapshot of {row.snapshot_rows}; it was not"
                " published. Run the night again"
            )
        flipped = tx.run(
            "scoring.flip", family=row.family, as_of=row.as_of, batch_id=batch_id, published_at=now
        )
        if flipped:
            tx.record(
                "published", now=now, family=row.family, as_of=row.as_of,
                batch_id=batch_id, rows=row.row_count,
            )  # fmt: skip
            tx.rows("scoring.notify", payload=as_json(_notice(tx, row)))
        shown = tx.one("scoring.shown", family=row.family, as_of=row.as_of)
        return Batch(
            shown.batch_id, row.family, row.as_of, shown.snapshot_id, shown.row_count, "written"
        )


def purge(database: Database, *, before: datetime, now: datetime) -> int:
    """Delete the rows of batches started before a moment that no reader sees; how many rows."""
    with database.transaction() as tx:
        unseen = tx.rows("scoring.unseen", before=before)
        if not unseen:
            return 0
        batches = [row.batch_id for row in unseen]
        nights = sorted({row.as_of for row in unseen})
        rows = tx.run("scoring.delete_rows", batch_ids=batches, nights=nights)
        tx.run("scoring.mark_purged", batch_ids=batches, purged_at=now)
        tx.record("purged", now=now, batches=batches, rows=rows)
        return rows


def retire(database: Database, *, before: datetime, now: datetime) -> list[str]:
    """Drop the months of prediction rows that end by a moment; the tables that were dropped.

    Dropping waits for everybody who reads predictions, and whoever comes later waits along. So each
    try gives up after 0.3 seconds, and after :data:`TRIES` of them the rest is left to another day.
    Pointers, batches and measurements stay: it is known what was published.
    """
    dropped: list[str] = []
    for _ in range(TRIES):
        while (month := _retire_month(database, before, now)) not in ("none", "busy"):
            dropped.append(month)
        if month == "none":
            break
    return dropped


def _retire_month(database: Database, before: datetime, now: datetime) -> str:
    with database.transaction() as tx:
        month: str = tx.one("scoring.retire_month", before=before, now=now).month
        if month not in ("none", "busy"):
            tx.record("retired_rows", now=now, table=month, before=before)
        return month


def _notice(tx: Transaction, batch: Any) -> dict[str, Any]:
    """What listeners are told of a published batch; Postgres allows 8000 bytes."""
    versions = [row.number for row in tx.rows("scoring.versions", batch_id=batch.batch_id)]
    return {
        "family": batch.family,
        "as_of": batch.as_of,
        "batch_id": batch.batch_id,
        "rows": batch.row_count,
        "versions": versions if len(versions) <= VERSIONS_TOLD else None,
        "contract": contract(tx),
    }


def contract(tx: Transaction) -> str:
    """The version of what readers may rely on."""
    version: str = tx.one("scoring.contract").version
    return version


def _open_month(tx: Transaction, family: ModelFamily, snapshot: Snapshot) -> None:
    if not tx.one("scoring.open_month", as_of=snapshot.as_of).open:
        raise RowsRetired(
            f"{family.family}: predictions of {snapshot.as_of:%B %Y} were retired, because"
            " keep_predictions in include/nightshift.yaml has passed; a night of that month is not"
            " scored again"
        )


def _refuse_unvalidated(tx: Transaction, family: ModelFamily, snapshot: Snapshot) -> None:
    verdict = tx.one("scoring.verdict", snapshot_id=snapshot.snapshot_id).verdict
    if verdict not in ("passed", "warned"):
        raise ScoringError(
            f"{family.family}: the snapshot of {snapshot.as_of.isoformat()} is"
            f" {verdict or 'not validated'}; only one that passed is scored"
        )


def _record_models(
    tx: Transaction, batch_id: int, serving: Serving, found: Mapping[str | None, Seen]
) -> None:
    for member, (model, _) in serving.members.items():
        if member not in found:
            continue
        version = serving.of(member)
        tx.run(
            "scoring.record_model",
            batch_id=batch_id,
            model_id=model.model_id,
            version_id=version.version_id if version else None,
            row_count=found[member].rows,
        )


@dataclass(frozen=True)
class _Batch:
    """A batch that is being written."""

    database: Database
    store: Store
    family: ModelFamily
    snapshot: Snapshot
    serving: Serving
    load: Callable[[Version], LoadedVersion]
    batch_id: int

    def write(self, scorers: Mapping[str | None, Version]) -> int:
        """Write what readers will see; how many rows."""
        written = 0
        with self.database.bulk() as bulk:
            for table in self._tables():
                rows = [
                    self._rows(part, self.load(scorers[member]), member, READERS)
                    for member, part in _parts(table, self.family, scorers)
                ]
                if rows:
                    written += bulk.append("prediction_rows", pa.Table.from_batches(rows, ROWS))
        return written

    def write_shadows(self, scorers: Mapping[str | None, Version], now: datetime) -> None:
        """Write what challengers in shadow tell; of one that fails nothing is left."""
        if not scorers:
            return
        failed: dict[int, Exception] = {}
        with self.database.bulk() as bulk:
            for table in self._tables():
                rows = []
                for member, part in _parts(table, self.family, scorers):
                    version = scorers[member]
                    if version.version_id in failed:
                        continue
                    try:
                        rows.append(self._rows(part, self.load(version), member, SHADOW))
                    except Exception as error:  # whatever a challenger does, readers get their rows
                        failed[version.version_id] = error
                if rows:
                    bulk.append("prediction_rows", pa.Table.from_batches(rows, ROWS))
            for version_id in failed:
                batch = {"batch_id": self.batch_id, "as_of": self.snapshot.as_of}
                bulk.run(queries()["scoring.delete_shadow"], batch | {"version_id": version_id})
        if failed:
            versions = {version.version_id: version for version in scorers.values()}
            with self.database.transaction() as tx:
                for version_id, why in failed.items():
                    self._record(tx, versions[version_id], why, now)

    def _tables(self) -> Iterator[pa.Table]:
        for group in self.store.stream_table(self.snapshot.content_hash):
            yield pa.Table.from_batches([group])

    def _record(self, tx: Transaction, version: Version, error: Exception, now: datetime) -> None:
        tx.record(
            "shadow_failed",
            now=now,
            family=self.family.family,
            as_of=self.snapshot.as_of,
            model=version.model.name,
            version=version.number,
            batch_id=self.batch_id,
            reason=f"{type(error).__name__}: {error}",
        )

    def _rows(
        self, part: pa.Table, version: LoadedVersion, member: str | None, role: int
    ) -> pa.RecordBatch:
        model, _ = self.serving.members.get(member, (version.version.model, None))
        predicted = version.predict(part)
        rows = part.num_rows
        return pa.record_batch(
            {
                "as_of": pa.repeat(pa.scalar(self.snapshot.as_of, ROWS.field("as_of").type), rows),
                "score": pa.array(predicted.score),
                "batch_id": pa.repeat(pa.scalar(self.batch_id, pa.int32()), rows),
                "version_id": pa.repeat(pa.scalar(version.version.version_id, pa.int32()), rows),
                "model_id": pa.repeat(pa.scalar(model.model_id, pa.int32()), rows),
                "flags": pa.array(predicted.flags),
                "role": pa.repeat(pa.scalar(role, pa.int16()), rows),
                "entity_id": part["entity_id"].combine_chunks().cast(pa.string()),
                "label": pa.array(predicted.label, pa.string())
                if predicted.label is not None
                else pa.nulls(rows, pa.string()),
            },
            schema=ROWS,
        )


def _parts(
    table: pa.Table, family: ModelFamily, scorers: Mapping[str | None, Version]
) -> Iterator[tuple[str | None, pa.Table]]:
    """The rows of each member that somebody scores."""
    for member, numbers in split(table, family).items():
        if member in scorers:
            yield member, table if len(numbers) == table.num_rows else table.take(numbers)
