"""Matured labels meet published predictions: measurements with intervals, counts and coverage."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

import pandas as pd

from nightshift import metrics
from nightshift.database import Database, Transaction, queries
from nightshift.family import ModelFamily
from nightshift.records import Measurement, Model


def measure(
    database: Database, family: ModelFamily, model: Model, as_of: datetime, *, now: datetime
) -> int:
    """Measure a model over its window of matured nights, as known at ``as_of``; the id.

    The window holds the published nights with ``as_of`` in (end - window, end], where end is this
    ``as_of`` less the maturity of labels. Only labels known by ``as_of`` count, so measuring again
    later gives the same measurement; the first one stored stays.
    """
    measurement = _measure(database, family, model, as_of)
    with database.transaction() as tx:
        tx.run("monitoring.append", **asdict(measurement), measured_at=now)
        stored: int = tx.one(
            "monitoring.find", model_id=model.model_id, metric=measurement.metric, as_of=as_of
        ).measurement_id
        return stored


def recent(
    tx: Transaction, family: ModelFamily, model: Model, as_of: datetime
) -> list[Measurement]:
    """A model's measurements up to ``as_of``, latest first: as many as its rule looks at."""
    rule = family.retrain.when
    rows = tx.rows(
        "monitoring.recent",
        model_id=model.model_id,
        metric=family.performance.metric,
        as_of=as_of,
        count=rule.of_last if rule else 1,
    )
    names = Measurement.__dataclass_fields__
    return [Measurement(**{name: getattr(row, name) for name in names}) for row in rows]


def outcomes(
    database: Database, family: ModelFamily, start: datetime, end: datetime, known_by: datetime
) -> pd.DataFrame:
    """Published predictions of the nights in (start, end] with the latest label known by a moment.

    Columns ``entity_id``, ``as_of``, ``score``, ``label``, ``value`` (text, None where unknown).
    """
    with database.bulk() as bulk:
        return bulk.read(
            queries()["monitoring.outcomes"],
            {"family": family.family, "start": start, "end": end, "known_by": known_by},
        ).to_pandas()


def _measure(database: Database, family: ModelFamily, model: Model, as_of: datetime) -> Measurement:
    rule = family.performance
    end = as_of - family.labels.maturity
    start = end - rule.window
    rows = outcomes(database, family, start, end, as_of)
    known = rows[rows["value"].notna()]
    found = _judged(family, known, len(rows))
    return Measurement(
        model_id=model.model_id,
        metric=rule.metric,
        as_of=as_of,
        window_start=start,
        window_end=end,
        predictions=len(rows),
        labels=len(known),
        threshold=rule.threshold,
        **found,
    )


def _judged(family: ModelFamily, known: pd.DataFrame, predictions: int) -> dict[str, Any]:
    """State and figures; a metric that cannot be told is a state of its own, never a breach."""
    nothing = {"value": None, "low": None, "high": None}
    rule = family.performance
    enough = predictions and len(known) / predictions >= family.labels.min_coverage
    if not enough or len(known) < rule.min_labels:
        return {"state": "immature", **nothing}
    found = metrics.estimate(rule.metric, family.task, metrics.outcomes(known, family.task))
    if found is None:
        return {"state": "undefined", **nothing}
    state = "breached" if found.high < rule.threshold else "measured"
    return {"state": state, "value": found.value, "low": found.low, "high": found.high}
