"""What people ask in the morning: how the fleet is, why a decision was made, what happened before.

Everything is read from the database, so a family whose folder is broken is told of as well. Every
report is a dataclass of plain values; :func:`as_data` makes JSON of it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from nightshift import registry
from nightshift.data import Database, Transaction
from nightshift.errors import RegistryError
from nightshift.family import words_of
from nightshift.records import DecisionKind, Health, Hold, State
from nightshift.reports.outdated import outdated
from nightshift.wording import Gauge, Reading, count, listed, moment, nearest

HEALTHS: tuple[Health, ...] = get_args(Health)
"""The states of a model, those that need somebody first."""


@dataclass(frozen=True)
class Line:
    """One model at a glance. ``version`` is the champion's number, ``since`` when it began.

    ``shadow`` is the number of the challenger that scores beside it, ``waiting`` the approval that
    a person is asked for. The figures are those of the last decisive measurement, as scikit-learn's
    scorer has them: greater is better, and ``low`` and ``high`` bound 95%; ``gauge`` reads them
    aloud, in the family's own words ``say_as``. ``alerts`` counts the signals at alert in the last
    night; ``failure`` is what the last run about the model said when it failed.
    """

    family: str
    model: str
    group: str | None
    health: Health
    version: int | None
    since: datetime | None
    shadow: int | None
    metric: str | None
    measured: State | None
    value: float | None
    low: float | None
    high: float | None
    threshold: float | None
    reference: float | None
    labels: int | None
    predictions: int | None
    measured_as_of: datetime | None
    alerts: int
    decision: DecisionKind | None
    rule: str | None
    reason: str | None
    decided_as_of: datetime | None
    waiting: int | None
    failure: str | None
    say_as: str | None = None

    @property
    def gauge(self) -> Gauge:
        """How its figures are read aloud."""
        return Gauge(self.metric or "", self.say_as)

    @property
    def reading(self) -> Reading | None:
        """Its figures beside each other, as people read them; None where there is no value."""
        if self.value is None:
            return None
        return self.gauge.reading(self.value, self.threshold, self.low, self.high)

    @property
    def limit(self) -> str:
        """Its threshold in words, value or not; empty where there is none."""
        if self.reading is not None or self.threshold is None:
            return self.reading.limit if self.reading else ""
        return self.gauge.limit(self.threshold)


@dataclass(frozen=True)
class LastNight:
    """The last night of a family that readers see.

    ``warned`` is whether an expectation failed that does not reject; ``left_out`` counts rows.
    """

    family: str
    as_of: datetime
    rows: int
    published_at: datetime
    warned: bool = False
    left_out: int = 0


@dataclass(frozen=True)
class Status:
    """The fleet: a sentence for each family, and a line for each model, the worst first."""

    sentences: tuple[str, ...]
    nights: tuple[LastNight, ...]
    lines: tuple[Line, ...]
    holds: tuple[Hold, ...] = ()


def as_data(report: Any) -> Any:
    """A report as JSON has it: dictionaries and lists, moments in ISO 8601, durations in days."""
    return json.loads(json.dumps(asdict(report), default=_plain))


def status(database: Database, family: str | None = None, *, models: Path | None = None) -> Status:
    """Every active model, or those of one family.

    Parameters
    ----------
    models
        The folder that holds the families' folders: what changed there since the champions were
        trained is told as well.
    """
    words = words_of(models) if models is not None else {}
    with database.transaction() as tx:
        return status_in(tx, family, models=models, words=words)


def status_in(
    tx: Transaction,
    family: str | None = None,
    *,
    models: Path | None = None,
    words: Mapping[str, str] = MappingProxyType({}),
) -> Status:
    """The same, in a transaction that reads more than this.

    Parameters
    ----------
    words
        How each family says its figures, where it does.
    """
    rows = tx.rows("reports.fleet", family=family)
    nights = tuple(
        LastNight(**row._mapping)
        for row in tx.rows("reports.last_nights")
        if family in (None, row.family)
    )
    held = registry.holds_now(tx, datetime.now(UTC))
    lines = sorted((_line(row, words) for row in rows), key=urgency)
    if family is not None and not lines:
        raise RegistryError(f"no model of a family {family!r} is known; score or train it first")
    holds = tuple(held[name] for name in sorted(held) if family in (None, name))
    changed = outdated(tx, models, family) if models is not None else {}
    sentences = tuple(_family_sentences(lines, nights, held, changed))
    return Status(sentences, nights, tuple(lines), holds)


def urgency(line: Line) -> tuple[int, str, str]:
    """What lines are sorted by: those that need somebody first."""
    return HEALTHS.index(line.health), line.family, line.model


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value / timedelta(days=1)
    raise TypeError(f"{type(value).__name__} has no JSON")


_STORED = [f.name for f in fields(Line) if f.name not in ("health", "say_as")]


def _line(row: Any, words: Mapping[str, str]) -> Line:
    columns = row._asdict()
    stored = {name: columns[name] for name in _STORED}
    return Line(health=_health(row), say_as=words.get(row.family), **stored)


def _health(row: Any) -> Health:
    worried = (
        row.alerts or row.rolled_back or row.decision in ("alert", "wait", "ask", "held", "defer")
    )
    facts: tuple[tuple[Health, Any], ...] = (
        ("failed", row.failure),
        ("awaiting", row.waiting),
        ("retraining", row.decision == "retrain"),
        ("untrained", row.version is None),
        ("breached", row.measured == "breached"),
        ("warning", worried),
        ("undefined", row.measured == "undefined"),
        ("healthy", row.measured == "measured"),
    )
    return next((health for health, holds in facts if holds), "immature")


def _family_sentences(
    lines: Sequence[Line],
    nights: Sequence[LastNight],
    held: Mapping[str, Hold],
    changed: Mapping[str, Sequence[str]],
) -> Iterator[str]:
    last = {night.family: night for night in nights}
    for family in sorted({line.family for line in lines}):
        own = [line for line in lines if line.family == family]
        healths = Counter(line.health for line in own)
        metric = next((f" by {line.gauge.name}" for line in own if line.metric), "")
        counted = listed(f"{healths[health]:,} {health}" for health in HEALTHS if healths[health])
        night = last.get(family)
        night_words = (
            f"last night published {moment(night.as_of)}, {count(night.rows, 'row')}"
            if night
            else "no night published yet"
        )
        if night and night.left_out:
            night_words += f" and {night.left_out:,} left out"
        if night and night.warned:
            night_words += ", with warnings"
        hold_words = f"; {held[family]}" if family in held else ""
        since = "".join(f"; {sentence}" for sentence in changed.get(family, ()))
        figures = f"{count(len(own), 'model')}{metric}: {counted}"
        yield f"{family}: {figures}; {night_words}{hold_words}{since}"


def find_model(tx: Transaction, name: str) -> Any:
    """The row (``model_id``, ``family``, ``model``) of a model, by ``model`` or ``family/model``.

    Raises
    ------
    RegistryError
        No model is called so, or several are.
    """
    family, _, model = name.rpartition("/")
    matches = tx.rows("reports.find_models", family=family or None, model=model)
    if len(matches) == 1:
        return matches[0]
    if matches:
        names = listed(f"{row.family}/{row.model}" for row in matches)
        raise RegistryError(f"several models are called {name!r}: {names}; write one of these")
    rows = tx.rows("reports.names")
    spelt = {row.model for row in rows} | {f"{row.family}/{row.model}" for row in rows}
    hint = nearest(name, spelt, most=3) or "; `nightshift status` lists them"
    raise RegistryError(f"no model is called {name!r}{hint}")
