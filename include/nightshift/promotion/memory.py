"""Champions of the past go on being scored: one that is proven better serves again, without a fit.

Every few nights a sample of the rows that have matured is scored by earlier champions, spaced over
the past. What each night says of either is kept, so that a night is looked at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from nightshift import policy, stats
from nightshift.data import Database, Store, as_json
from nightshift.documents import Inputs, Worth
from nightshift.errors import RegistryError, ScoringError
from nightshift.family import ModelFamily, ticks_per_year
from nightshift.promotion.predecessors import (
    Load,
    Predecessor,
    frozen_nights,
    matured,
    predictions_of,
)
from nightshift.promotion.trials import Probation
from nightshift.records import READERS, Decision
from nightshift.registry import version
from nightshift.wording import count, figures

KEPT = 3
"""How many earlier champions of a model go on being scored."""

PAUSE = timedelta(days=3)
"""The least time between two looks: earlier champions are opened, and that is most of the cost."""

SAMPLE = 1_000
"""How many rows of a night they score for each model."""


def recall(
    database: Database, store: Store, family: ModelFamily, load: Load, as_of: datetime
) -> list[tuple[Probation, Decision]]:
    """The champions that make way for an earlier one as of a moment, with the verdict on each.

    Nothing is looked at where ``promotion.probation`` is null, and no oftener than :data:`PAUSE`.
    """
    if family.promotion.probation is None:
        return []
    until = as_of - family.labels.maturity
    pairs = list(_pairs(database, family, as_of))
    due = [(pair, seen) for pair, seen in pairs if until - seen >= PAUSE]
    if not due:
        return []
    nights = list(_looked_at(database, store, family, load, due, as_of))
    with database.transaction() as tx:
        tx.run("memory.append", nights=as_json(nights))
    return list(_verdicts(database, family, [pair for pair, _ in pairs], as_of))


def _pairs(
    database: Database, family: ModelFamily, as_of: datetime
) -> Iterator[tuple[Probation, datetime]]:
    """Each champion with the earlier ones that are remembered, and since when they are due."""
    with database.transaction() as tx:
        rows = tx.rows("memory.earlier", family=family.family, as_of=as_of)
    by_model: dict[int, list[Any]] = {}
    for row in rows:
        by_model.setdefault(row.model_id, []).append(row)
    for earlier in by_model.values():
        days = [(row.starts - row.trained_at).total_seconds() / 86400 for row in earlier]
        for place in policy.spaced([max(age, 0.0) for age in days], KEPT):
            stored = dict(earlier[place]._mapping)
            seen = stored.pop("seen")
            del stored["trained_at"]
            reference = Worth.parse(stored.pop("reference"))
            yield Probation(**stored, reference=reference, ends=as_of), seen


def _looked_at(
    database: Database,
    store: Store,
    family: ModelFamily,
    load: Load,
    due: Sequence[tuple[Probation, datetime]],
    as_of: datetime,
) -> Iterator[dict[str, Any]]:
    """What the nights since the last look say, as it is stored.

    Nights whose predictions may be gone are not caught up with.
    """
    start = max(min(seen for _, seen in due), as_of - family.looks_back)
    newer = sorted({pair.newer for pair, _ in due})
    served = predictions_of(database, family, newer, start, as_of)
    asked = []
    with database.transaction() as tx:
        for pair, seen in due:
            own = served.get((pair.newer, READERS))
            if own is None:
                continue
            rows = _sample(matured(family, own[own["as_of"] > max(seen, pair.starts)]))
            if len(rows):
                asked.append((pair, rows, Predecessor(version(tx, pair.older), rows)))
    for night, table in frozen_nights(database, store, family, start, as_of) if asked else ():
        for _, _, predecessor in asked:
            with suppress(ScoringError, RegistryError):  # told below, where it is asked again
                predecessor.see(night, table, load)
    for pair, rows, predecessor in asked:
        yield from _nights_of(family, pair, rows, predecessor, load)


def _nights_of(
    family: ModelFamily, pair: Probation, rows: pd.DataFrame, predecessor: Predecessor, load: Load
) -> Iterator[dict[str, Any]]:
    gain_of: dict[pd.Timestamp, float] = {}
    try:
        older, newer = predecessor.told(load)
        moments, gains = stats.gains(
            family.performance.metric,
            family.task,
            stats.outcomes(newer, family.task),
            stats.outcomes(older, family.task),
            stats.nights_of(newer),
        )
        gain_of = {
            pd.Timestamp(moment, tz="UTC"): float(gain)
            for moment, gain in zip(moments, gains, strict=True)
        }
    except (ScoringError, RegistryError):  # who cannot score the rows is no better
        pass
    for night, size in rows.groupby("as_of").size().items():
        yield {
            "model_id": pair.model_id,
            "seq": pair.seq,
            "version_id": pair.older,
            "as_of": night.isoformat(),
            "gain": gain_of.get(night.tz_convert("UTC")),
            "row_count": int(size),
        }


def _sample(rows: pd.DataFrame) -> pd.DataFrame:
    """At most :data:`SAMPLE` rows of each night, by the order of a hash of their entities."""
    if not len(rows) or rows.groupby("as_of").size().max() <= SAMPLE:
        return rows
    order = pd.util.hash_pandas_object(rows["entity_id"], index=False)
    rank = order.groupby(rows["as_of"].to_numpy()).rank(method="first").to_numpy()
    return rows[rank <= SAMPLE]


def _verdicts(
    database: Database, family: ModelFamily, pairs: Sequence[Probation], as_of: datetime
) -> Iterator[tuple[Probation, Decision]]:
    until = as_of - family.labels.maturity
    a_year = ticks_per_year(family.schedule.score, family.schedule.timezone)
    since = until - timedelta(days=stats.HORIZON * 366 / a_year)
    with database.transaction() as tx:
        rows = tx.rows("memory.gains", family=family.family, since=since, until=until)
    gains = {(row.model_id, row.seq, row.version_id): np.array(row.gains) for row in rows}
    by_model: dict[int, list[Probation]] = {}
    for pair in pairs:
        by_model.setdefault(pair.model_id, []).append(pair)
    for earlier in by_model.values():
        memory = policy.recollect(
            [gains.get((pair.model_id, pair.seq, pair.older), np.array([])) for pair in earlier],
            confidence=family.promotion.confidence,
            nights_per_year=a_year,
        )
        if memory is not None and memory.proven:
            pair = earlier[memory.place]
            yield pair, _verdict(family, pair, memory, as_of)


def _verdict(
    family: ModelFamily, pair: Probation, memory: policy.Recollection, as_of: datetime
) -> Decision:
    gauge = family.performance.gauge()
    evidence, needed = figures([memory.evidence], memory.needed)
    reason = (
        f"version {pair.number}: over the last {count(memory.nights, 'night')} that were looked at"
        f" version {pair.older_number}, a champion of the past, would have been better by"
        f" {gauge.by(memory.gain)}: evidence {evidence}, and {needed} is needed;"
        f" version {pair.older_number} serves again"
    )
    inputs = {
        "starts": pair.starts,
        "older": pair.older,
        "newer": pair.newer,
        "nights": memory.nights,
        "difference": -memory.gain,
        "evidence": memory.evidence,
        "needed": memory.needed,
    }
    return Decision(pair.model_id, "rollback", "memory", reason, as_of, Inputs(inputs))
