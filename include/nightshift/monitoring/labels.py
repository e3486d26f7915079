"""Fresh labels in, append-only, with two times. The only room that reads labels from sources.

``event_at`` is when the truth came about, ``known_at`` when we could know it. Of several labels of
an entity that are known, the one wins that the source says became known last, however late it
reached us. Where it says so of several, the one that reached us last wins, then the greater text.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from nightshift.data import Database, query_text
from nightshift.errors import LabelsError, SourceError, words_of
from nightshift.failpoints import reach
from nightshift.family import ModelFamily
from nightshift.sources import Names
from nightshift.wording import listed, moment

OVERLAP = timedelta(days=2)
"""How far back each collection looks again, for labels that reached the source late."""

BEGINNING = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Collected:
    """What one collection found, and what became of it.

    ``duplicates`` were there already. Of those ``added``, ``corrections`` say something else than
    an earlier label of the same entity, ``contradictions`` something else than a label stated for
    the same moment, and ``late`` ones are stated for a moment that was asked about before.
    """

    found: int
    added: int
    duplicates: int
    corrections: int
    contradictions: int
    late: int


def collect(
    database: Database,
    source: Database,
    family: ModelFamily,
    as_of: datetime,
    *,
    names: Names,
    now: datetime,
    since: datetime | None = None,
) -> Collected:
    """Append the labels known by ``as_of`` that are not there yet.

    A label is known from the moment that the source states, with one exception: if that moment was
    asked about before and the label was not there, it is known from this collection on. So what was
    known on a day never changes once that day's collection is done.

    Parameters
    ----------
    names
        How entities are told, see :mod:`nightshift.sources`.
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
    found = names.in_column(_query(source, family, since, as_of))
    asked_since = since if _asks_since(family) else BEGINNING
    rows = pa.table(
        {
            "entity_id": found["entity_id"],
            "answers": _answers(found, family),
            "value": _values(found["value"], family),
            "event_at": found["event_at"],
            "stated_at": found["known_at"],
        }
    )
    asked = {"family": family.family, "since": asked_since, "as_of": as_of, "collected_at": now}
    with database.bulk() as bulk:
        # One at a time: what another collection covers must be there before this one looks.
        bulk.read(query_text("labels.lock"), {"family": family.family})
        bulk.append("incoming_labels", rows)
        told = bulk.read(query_text("labels.append_incoming"), asked).to_pylist()[0]
        collected = Collected(found=rows.num_rows, duplicates=rows.num_rows - told["added"], **told)
        bulk.run(query_text("labels.record_collection"), {**asked, **asdict(collected)})
        bulk.run("drop table incoming_labels")
        reach("labels.appended")
    if collected.added:
        with database.transaction() as tx:
            tx.rows("labels.recount", added=collected.added)
    return collected


def complete(
    database: Database,
    source: Database,
    family: ModelFamily,
    as_of: datetime,
    *,
    names: Names,
    since: datetime,
    now: datetime,
) -> None:
    """Have the labels that became known in (since, as_of]: :func:`collect` them, but once.

    What another collection of the same stretch would find is known only after ``as_of``.
    """
    with database.transaction() as tx:
        asked = {"family": family.family, "since": since, "as_of": as_of}
        if tx.one("labels.asked_before", **asked).asked:
            return
    collect(database, source, family, as_of, names=names, now=now, since=since)


def silence(database: Database, family: ModelFamily, as_of: datetime) -> str | None:
    """A sentence where labels have stopped arriving; None where they have not.

    They have when no label became known for ``labels.silent_after``, although predictions matured
    in that time and have none.
    """
    quiet_since = as_of - family.labels.silent_after
    start, end = quiet_since - family.labels.maturity, as_of - family.labels.maturity
    window = {"start": start, "end": end, "as_of": as_of}
    with database.transaction() as tx:
        tx.require_rows(family.family, start, end)
        known_at = tx.one("labels.latest", family=family.family, as_of=as_of).known_at
        if known_at is not None and known_at > quiet_since:
            return None
        predictions = tx.one("labels.unlabelled", family=family.family, **window).predictions
    if not predictions:
        return None
    last = f"since {moment(known_at)}" if known_at else "ever"
    return (
        f"{family.family}: no label has become known {last}; {family.folder / 'labels.sql'} should"
        f" have returned labels for {predictions} predictions that are older than"
        f" labels.maturity and have none. Look at the source {family.source.connection!r}"
    )


def _since(database: Database, family: ModelFamily, as_of: datetime) -> datetime:
    with database.transaction() as tx:
        latest: datetime | None = tx.one(
            "labels.latest", family=family.family, as_of=as_of
        ).known_at
    if latest is not None:
        return latest - OVERLAP
    return as_of - family.labels.maturity - family.performance.window - OVERLAP


def _asks_since(family: ModelFamily) -> bool:
    return re.search(r":since\b", family.labels_sql) is not None


def _query(source: Database, family: ModelFamily, since: datetime, as_of: datetime) -> pa.Table:
    file = family.folder / "labels.sql"
    sql = family.labels_sql
    parameters = {"as_of": as_of} | ({"since": since} if _asks_since(family) else {})
    where = f"{family.family}: {file} failed on connection {family.source.connection!r}"
    table = source.ask(sql, parameters, told_as=where, discreet=family.discreet)
    _refuse_other_shape(table, family)
    known = table.filter(pc.less_equal(table["known_at"], pa.scalar(as_of)))
    return known.filter(pc.is_valid(known["value"]))


def _refuse_other_shape(table: pa.Table, family: ModelFamily) -> None:
    file = family.folder / "labels.sql"
    wanted = ["entity_id", "value", "event_at", "known_at"]
    if family.labels.per == "entity_and_as_of":
        wanted.append("as_of")
    wrong = [name for name in wanted if table.schema.names.count(name) != 1]
    if wrong:
        raise SourceError(
            f"{family.family}: {file} returns {listed(table.schema.names)}; it must return"
            f" {listed(wanted)}, each once (missing or repeated: {listed(wrong)})"
        )
    for name in (name for name in wanted if name != "value"):
        kind = table.schema.field(name).type
        accepted = _is_text(kind) if name == "entity_id" else _is_moment(kind)
        if not accepted:
            needed = "text" if name == "entity_id" else "timestamptz"
            raise SourceError(f"{family.family}: {file}: {name} is {kind}, not {needed}; cast it")
        if table[name].null_count:
            raise LabelsError(
                f"{family.family}: {file}: {table[name].null_count} labels have no {name};"
                " leave such rows out in the query"
            )


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_moment(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) and kind.tz is not None)


def _answers(found: pa.Table, family: ModelFamily) -> pa.ChunkedArray | pa.Array:
    if family.labels.per == "entity_and_as_of":
        return found["as_of"]
    return pa.nulls(found.num_rows, pa.timestamp("us", "UTC"))


def _values(values: pa.ChunkedArray, family: ModelFamily) -> pa.ChunkedArray:
    """Labels as text: a number, ``0`` or ``1``, or the class."""
    try:
        if family.task == "regression":
            return _finite(values).cast(pa.string())
        if family.task == "binary_classification":
            return _zero_or_one(values).cast(pa.string())
        return values.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise LabelsError(
            f"{family.family}: {family.folder / 'labels.sql'}: value does not fit"
            f" {family.task}: {words_of(error, discreet=family.discreet)}"
        ) from None if family.discreet else error


def _finite(values: pa.ChunkedArray) -> pa.ChunkedArray:
    numbers = values.cast(pa.float64())
    other = numbers.filter(pc.invert(pc.is_finite(numbers)))
    if len(other):
        raise pa.ArrowInvalid(f"labels are finite numbers, found {other[0]}")
    return numbers


def _zero_or_one(values: pa.ChunkedArray) -> pa.ChunkedArray:
    numbers = values.cast(pa.int64())
    other = pc.unique(numbers.filter(pc.invert(pc.is_in(numbers, pa.array([0, 1])))))
    if len(other):
        raise pa.ArrowInvalid(f"binary labels are 0 or 1, found {other[0]}")
    return numbers
