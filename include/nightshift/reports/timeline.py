"""What happened to a model or a family, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from nightshift.data import Database, Transaction
from nightshift.reports.health import find_model
from nightshift.wording import moment


@dataclass(frozen=True)
class Event:
    """Something that happened to a model. Nights on which it was merely kept are one event."""

    as_of: datetime
    until: datetime
    kind: str
    rule: str
    sentence: str
    decision_ids: tuple[int, ...]


@dataclass(frozen=True)
class History:
    """What a model lived through, oldest first, and every measurement of it."""

    family: str
    model: str
    events: tuple[Event, ...]
    measurements: tuple[Mapping[str, Any], ...]


def history(database: Database, name: str) -> History:
    """What was decided about a model since its beginning, and what was measured."""
    with database.transaction() as tx:
        model = find_model(tx, name)
        measured = tx.rows("reports.decisive_measurements", model_id=model.model_id)
        return History(
            model.family,
            model.model,
            events_in(tx, model.model_id),
            tuple(dict(row._mapping) for row in measured),
        )


def events_in(tx: Transaction, model_id: int) -> tuple[Event, ...]:
    """What happened to a model, oldest first."""
    return tuple(_events(tx.rows("reports.history", model_id=model_id)))


def _events(decided: Sequence[Any]) -> Iterator[Event]:
    for is_keep, rows in groupby(decided, key=lambda row: row.kind == "keep"):
        run = list(rows)
        if is_keep:
            yield _kept_nights(run)
        else:
            yield from map(_event, run)


def _kept_nights(run: Sequence[Any]) -> Event:
    first, last = run[0], run[-1]
    times = "once" if len(run) == 1 else f"{len(run)} times"
    ids = tuple(row.decision_id for row in run)
    return Event(
        first.as_of, last.as_of, "keep", last.rule, f"kept {times}; lastly: {last.reason}", ids
    )


def _event(row: Any) -> Event:
    serves = (
        f"version {row.version} serves from {moment(row.effective_from)}: " if row.version else ""
    )
    return Event(
        row.as_of, row.as_of, row.kind, row.rule, f"{serves}{row.reason}", (row.decision_id,)
    )
