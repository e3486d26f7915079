"""Fresh labels in, append-only, with two times. The only room that reads labels from sources.

``event_at`` is when the truth came about, ``known_at`` when we could know it. Of several labels of
an entity that are known, the one wins that the source says became known last, however late it
reached us. Where it says so of several, the one that reached us last wins, then the greater text.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from nightshift import tables
from nightshift.data import Database, query_text
from nightshift.errors import LabelsError, SourceError, words_of
from nightshift.failpoints import reach
from nightshift.family import OVERLAP, ModelFamily
from nightshift.sources import Names, Question, Source, label_columns, read_query
from nightshift.wording import listed

BEGINNING = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Collected:
    """What one collection found, and what became of it.

    ``duplicates`` were there already. Of those ``added``, ``corrections`` say something else than
    an earlier label of the same entity, ``contradictions`` something else than a label stated for
    the same moment, and ``late`` ones are stated for a moment that was asked about before.
    ``set_aside`` are new ones of which an expectation does not hold; they are kept apart.
    """

    found: int
    added: int
    duplicates: int
    corrections: int
    contradictions: int
    late: int
    set_aside: int = 0


def collect(
    database: Database,
    source: Source,
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
        Ask the source for labels known after this moment; by default those of the last
        ``labels.look_back``, however many of them are there already: a part of them may be late.

    Raises
    ------
    SourceError
        labels.sql fails or returns other columns than it must.
    LabelsError
        A value does not fit the family's task, a moment is missing, or an expectation cannot run.
    """
    since = since or _since(database, family, as_of)
    rows = names.in_column(_rows(known_labels(source, family, since, as_of), family))
    asked_since = since if _asks_since(family) else BEGINNING
    question = {"family": family.family, "since": asked_since, "as_of": as_of, "collected_at": now}
    expected, unexpected = _judged(rows, family)
    with database.bulk() as bulk:
        # One at a time: what another collection covers must be there before this one looks.
        bulk.read(query_text("labels.lock"), {"family": family.family})
        bulk.append("incoming_labels", expected)
        counts = bulk.read(query_text("labels.append_incoming"), question).to_pylist()[0]
        if unexpected.num_rows:
            bulk.append("unexpected_labels", unexpected)
            apart = {"family": family.family, "collected_at": now}
            [added] = bulk.read(query_text("labels.set_aside"), apart).to_pylist()
            counts["set_aside"] = added["added"]
            bulk.run("drop table unexpected_labels")
        collected = Collected(
            found=rows.num_rows,
            duplicates=rows.num_rows - counts["added"] - counts.get("set_aside", 0),
            **counts,
        )
        bulk.run(query_text("labels.record_collection"), {**question, **asdict(collected)})
        bulk.run("drop table incoming_labels")
        reach("labels.appended")
    if collected.added:
        with database.transaction() as tx:
            tx.rows("labels.recount", added=collected.added)
    return collected


def complete(
    database: Database,
    source: Source,
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
        stretch = {"family": family.family, "since": since, "as_of": as_of}
        if tx.one("labels.covering_collection", **stretch).asked:
            return
    collect(database, source, family, as_of, names=names, now=now, since=since)


def stated(source: Source, family: ModelFamily, since: datetime, as_of: datetime) -> pd.DataFrame:
    """What labels.sql states of a stretch, without keeping it; see :func:`collect`.

    Columns ``entity_id``, ``answers``, ``value``, ``event_at``, ``stated_at``.
    """
    return _rows(known_labels(source, family, since, as_of), family).to_pandas()


def _rows(table: pa.Table, family: ModelFamily) -> pa.Table:
    return pa.table(
        {
            "entity_id": table["entity_id"],
            "answers": _answers(table, family),
            "value": table["value"],
            "event_at": table["event_at"],
            "stated_at": table["known_at"],
        }
    )


def _since(database: Database, family: ModelFamily, as_of: datetime) -> datetime:
    """As far back as labels are asked for again, and to the latest one where that was earlier."""
    with database.transaction() as tx:
        latest: datetime | None = tx.one(
            "labels.latest", family=family.family, as_of=as_of
        ).known_at
    since = first_look(family, as_of)
    return since if latest is None else min(since, latest - OVERLAP)


def first_look(family: ModelFamily, as_of: datetime) -> datetime:
    """After which moment labels are asked for, where nothing else asks for older ones."""
    return as_of - family.labels_reach


def _judged(rows: pa.Table, family: ModelFamily) -> tuple[pa.Table, pa.Table]:
    """The labels that are as expected, and the others with the ``reason``."""
    expectations = family.labels.of_value
    if not expectations or not rows.num_rows:
        return rows, rows.slice(0, 0)
    values = (
        rows["value"]
        if family.task == "multiclass_classification"
        else rows["value"].cast(pa.float64())
    )
    frame = pd.DataFrame({"value": values.to_pandas()})
    reasons = np.full(rows.num_rows, None, dtype=object)
    for position, finding in enumerate(tables.expect(frame, expectations, places=True)):
        if finding.fault is not None:
            fault = (
                words_of(ValueError(finding.fault), discreet=True)
                if family.discreet
                else finding.fault
            )
            raise LabelsError(
                f"{family.family}: {family.folder / 'model.yaml'}: labels.expectations.{position}:"
                f" {expectations[position].type} cannot run: {fault}. Mend model.yaml; until then"
                " no label is collected"
            )
        places = np.array(finding.places, dtype=int)
        reasons[places[[reasons[place] is None for place in places]]] = expectations[position].type
    kept = pa.array([reason is None for reason in reasons], pa.bool_())
    apart = rows.append_column("reason", pa.array(reasons, pa.string()))
    return rows.filter(kept), apart.filter(pc.invert(kept))


def _asks_since(family: ModelFamily) -> bool:
    return read_query(family.labels_sql).uses("since")


def known_labels(source: Source, family: ModelFamily, since: datetime, as_of: datetime) -> pa.Table:
    """What labels.sql says at ``as_of``: the columns that it must return, ``value`` as text.

    Labels without a value are left out. Raises as :func:`collect`.
    """
    file = family.folder / "labels.sql"
    moments = {"as_of": as_of, "since": since}
    where = f"{family.family}: {file} failed on connection {family.source.connection!r}"
    table = source.ask(Question(family.labels_sql, moments, where, family.discreet))
    _refuse_other_shape(table, family)
    in_time = table.filter(pc.less_equal(table["known_at"], pa.scalar(as_of)))
    labels = in_time.filter(pc.is_valid(in_time["value"])).select(label_columns(family))
    values = _values(labels["value"], family)
    labels = labels.set_column(labels.schema.get_field_index("value"), "value", values)
    return tables.with_keys(labels, {"entity_id"})


def _refuse_other_shape(table: pa.Table, family: ModelFamily) -> None:
    file = family.folder / "labels.sql"
    wanted = label_columns(family)
    wrong = [name for name in wanted if table.schema.names.count(name) != 1]
    if wrong:
        raise SourceError(
            f"{family.family}: {file} returns {listed(table.schema.names)}; it must return"
            f" {listed(wanted)}, each once (missing or repeated: {listed(wrong)})"
        )
    for name in (name for name in wanted if name != "value"):
        kind = table.schema.field(name).type
        accepted = tables.is_key(kind) if name == "entity_id" else _is_moment(kind)
        if not accepted:
            needed = tables.KEY_TYPES if name == "entity_id" else "timestamptz"
            raise SourceError(f"{family.family}: {file}: {name} is {kind}, not {needed}; cast it")
        if table[name].null_count:
            raise LabelsError(
                f"{family.family}: {file}: {table[name].null_count} labels have no {name};"
                " leave such rows out in the query"
            )


def _is_moment(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) and kind.tz is not None)


def _answers(table: pa.Table, family: ModelFamily) -> pa.ChunkedArray | pa.Array:
    if family.labels.per == "entity_and_as_of":
        return table["as_of"]
    return pa.nulls(table.num_rows, pa.timestamp("us", "UTC"))


def _values(values: pa.ChunkedArray, family: ModelFamily) -> pa.ChunkedArray:
    """Labels as text: a number, ``0`` or ``1``, or the class."""
    try:
        return _OF_TASK[family.task](values).cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise LabelsError(
            f"{family.family}: {family.folder / 'labels.sql'}: value does not fit"
            f" {family.task}: {words_of(error, discreet=family.discreet)};"
            f" write {_CASTS[family.task]} as value"
        ) from None if family.discreet else error


def _finite(values: pa.ChunkedArray) -> pa.ChunkedArray:
    numbers = _numbers(values)
    other = numbers.filter(pc.invert(pc.is_finite(numbers)))
    if len(other):
        raise pa.ArrowInvalid(f"labels are finite numbers, found {other[0]}")
    return numbers


def _zero_or_one(values: pa.ChunkedArray) -> pa.ChunkedArray:
    numbers = _numbers(values)
    other = pc.unique(numbers.filter(pc.invert(pc.is_in(numbers, pa.array([0.0, 1.0])))))
    if len(other):
        raise pa.ArrowInvalid(f"binary labels are 0 or 1, found {other[0]}")
    return numbers.cast(pa.int64())


def _classes(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Classes by their names; of numbers, 1.0 is the class 1."""
    if not pa.types.is_floating(values.type):
        return values
    whole = values.cast(pa.int64(), safe=False)
    exact = pc.equal(whole.cast(pa.float64(), safe=False), values)
    return pc.if_else(exact, whole.cast(pa.string()), values.cast(pa.string()))


def _numbers(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers, booleans, and text of either in letters of any case, as float64."""
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        text = pc.utf8_trim_whitespace(values)
        for word, digit in (("true", "1"), ("false", "0")):
            text = pc.if_else(pc.equal(pc.utf8_lower(text), word), digit, text)
        values = text
    return values.cast(pa.float64(), safe=False)


_OF_TASK = {
    "regression": _finite,
    "binary_classification": _zero_or_one,
    "multiclass_classification": _classes,
}
_CASTS = {
    "regression": "cast(... as double precision)",
    "binary_classification": "cast(... as integer), which is 0 or 1,",
    "multiclass_classification": "cast(... as text)",
}
