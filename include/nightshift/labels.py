"""Fresh labels in, append-only. The only room that reads labels from sources."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from nightshift.database import Database, queries
from nightshift.family import ModelFamily
from nightshift.records import LabelsError, SourceError

OVERLAP = timedelta(days=2)
"""How far back each collection looks again, for labels that reached the source late."""


def collect(
    database: Database,
    source: Database,
    family: ModelFamily,
    as_of: datetime,
    *,
    now: datetime,
    since: datetime | None = None,
) -> int:
    """Append the labels known by ``as_of`` that are not there yet; how many were new.

    Parameters
    ----------
    since
        Ask the source for labels known after this moment; by default, two days before the latest
        label that is there, or the family's whole window where there is none.

    Raises
    ------
    SourceError
        labels.sql fails or returns other columns than it must.
    LabelsError
        A value does not fit the family's task, or a moment is missing.
    """
    since = since or _since(database, family, as_of)
    found = _query(source, family, since, as_of)
    rows = pa.table(
        {
            "family": pa.array([family.family] * found.num_rows, pa.string()),
            "entity_id": found["entity_id"],
            "answers": _answers(found, family),
            "value": _values(found["value"], family),
            "event_at": found["event_at"],
            "known_at": found["known_at"],
            "collected_at": pa.array([now] * found.num_rows, pa.timestamp("us", "UTC")),
        }
    )
    with database.bulk() as bulk:
        bulk.append("incoming_labels", rows, temporary=True)
        added: int = bulk.read(queries()["labels.append_incoming"])["added"][0].as_py()
        bulk.run("drop table incoming_labels")
    return added


def _since(database: Database, family: ModelFamily, as_of: datetime) -> datetime:
    with database.transaction() as tx:
        latest: datetime | None = tx.one(
            "labels.latest", family=family.family, as_of=as_of
        ).known_at
    if latest is not None:
        return latest - OVERLAP
    return as_of - family.labels.maturity - family.performance.window - OVERLAP


def _query(source: Database, family: ModelFamily, since: datetime, as_of: datetime) -> pa.Table:
    file = family.folder / "labels.sql"
    sql = family.labels_sql
    parameters = (
        {"since": since, "as_of": as_of} if re.search(r":since\b", sql) else {"as_of": as_of}
    )
    where = f"{family.family}: {file} failed on connection {family.source.connection!r}"
    table = source.ask(sql, parameters, told_as=where)
    _refuse_other_shape(table, family)
    known = table.filter(pc.less_equal(table["known_at"], pa.scalar(as_of)))
    return known.filter(pc.is_valid(known["value"]))


def _refuse_other_shape(table: pa.Table, family: ModelFamily) -> None:
    file = family.folder / "labels.sql"
    wanted = ["entity_id", "value", "event_at", "known_at"]
    if family.labels.per == "entity_and_as_of":
        wanted.append("as_of")
    missing = [name for name in wanted if name not in table.schema.names]
    if missing:
        raise SourceError(
            f"{family.family}: {file} does not return {', '.join(missing)};"
            f" it returns {', '.join(table.schema.names)}, and must return {', '.join(wanted)}"
        )
    for name in ("event_at", "known_at"):
        kind = table.schema.field(name).type
        if not pa.types.is_timestamp(kind) or kind.tz is None:
            raise SourceError(f"{family.family}: {file}: {name} is {kind}, not timestamptz")
    for name in ("entity_id", "event_at", "known_at"):
        if table[name].null_count:
            raise LabelsError(
                f"{family.family}: {file}: {table[name].null_count} labels have no {name};"
                " leave such rows out in the query"
            )


def _answers(found: pa.Table, family: ModelFamily) -> pa.ChunkedArray | pa.Array:
    if family.labels.per == "entity_and_as_of":
        return found["as_of"]
    return pa.nulls(found.num_rows, pa.timestamp("us", "UTC"))


def _values(values: pa.ChunkedArray, family: ModelFamily) -> pa.ChunkedArray:
    """Labels as text: a number, ``0`` or ``1``, or the class."""
    try:
        if family.task == "regression":
            return values.cast(pa.float64()).cast(pa.string())
        if family.task == "binary_classification":
            return _zero_or_one(values).cast(pa.string())
        return values.cast(pa.string())
    except pa.ArrowInvalid as error:
        raise LabelsError(
            f"{family.family}: {family.folder / 'labels.sql'}: value does not fit"
            f" {family.task}: {error}"
        ) from error


def _zero_or_one(values: pa.ChunkedArray) -> pa.ChunkedArray:
    numbers = values.cast(pa.int64())
    other = pc.unique(numbers.filter(pc.invert(pc.is_in(numbers, pa.array([0, 1])))))
    if len(other):
        raise pa.ArrowInvalid(f"binary labels are 0 or 1, found {other[0]}")
    return numbers
