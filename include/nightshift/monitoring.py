"""Matured labels meet published predictions: measurements. And nights are watched before any label.

A measurement covers the nights with ``as_of`` in (end - window, end], where end is the moment of
measuring less the maturity of labels. Only labels known by that moment count, so measuring the same
moment again gives the same measurement; the first one stored stays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from nightshift import detection, features, metrics
from nightshift.database import Database, Transaction, as_json, queries
from nightshift.family import SIGNALS, Fall, ModelFamily, ticks_per_year
from nightshift.records import Level, Measurement, Model, Night, Reference, Shift
from nightshift.registry import Champion
from nightshift.storage import Store

Basis = Literal["realized", "estimated"]


def measure(
    database: Database,
    store: Store,
    family: ModelFamily,
    models: Sequence[Model],
    champions: Mapping[int, Champion],
    as_of: datetime,
    *,
    now: datetime,
) -> list[int]:
    """Measure models over their window of matured nights, as known at ``as_of``.

    Each is measured by every metric of the family: over all its rows, over those of the version
    that serves at ``as_of``, and over each slice.

    Returns
    -------
    list of int
        The ids of the decisive measurements, one for each model in order.
    """
    end = as_of - family.labels.maturity
    start = end - family.performance.window
    rows = outcomes(database, family, start, end, as_of)
    if family.performance.slices:
        rows = _with_slices(database, store, family, rows, start, end)
    rows_of = _rows_of(rows, family)
    nothing = rows.iloc[:0]
    measured = []
    for model in models:
        own = rows_of.get(model.model_id, nothing)
        scope = _Scope(family, model, champions.get(model.model_id), as_of, start, end)
        measured.append(list(_measurements(scope, own)))
    with database.transaction() as tx:
        _append(tx, [m for of_model in measured for m in of_model], now)
        found = tx.rows(
            "monitoring.find",
            metric=family.performance.metric,
            as_of=as_of,
            model_ids=[of_model[0].model_id for of_model in measured],
            version_ids=[of_model[0].version_id for of_model in measured],
        )
    return [row.measurement_id for row in found]


def recent(
    tx: Transaction, family: ModelFamily, as_of: datetime
) -> dict[int, tuple[Measurement, ...]]:
    """The decisive measurements up to ``as_of``, latest first, by model id.

    They are of the version that served at each moment, and as many as the family's rule counts.
    """
    rule = family.retrain.when
    rows = tx.rows(
        "monitoring.recent",
        family=family.family,
        metric=family.performance.metric,
        as_of=as_of,
        count=(rule.of_last if rule else None) or 1,
    )
    found: dict[int, tuple[Measurement, ...]] = {}
    for row in rows:
        found[row.model_id] = (*found.get(row.model_id, ()), _measurement(row))
    return found


def outcomes(
    database: Database, family: ModelFamily, start: datetime, end: datetime, known_by: datetime
) -> pd.DataFrame:
    """Published predictions of the nights in (start, end] with the latest label known by a moment.

    Columns ``entity_id``, ``as_of``, ``model_id`` (whose row it is), ``version_id`` and
    ``scored_by`` (which version of which model scored it), ``score``, ``label``, ``value`` (text,
    None where unknown). Raises RowsRetired where rows of these nights were dropped.
    """
    with database.transaction() as tx:
        tx.require_rows(family.family, start, end)
    with database.bulk() as bulk:
        return bulk.read(
            queries()["monitoring.outcomes"],
            {"family": family.family, "start": start, "end": end, "known_by": known_by},
        ).to_pandas()


def shift(family: ModelFamily, champion: Champion, latest: Measurement) -> Shift | None:
    """What the sequential detector says of a measurement's nights; None where it is not used."""
    rule = family.retrain.when
    if rule is None or rule.shift is None or latest.threshold is None:
        return None
    return detection.shift(
        latest.nights,
        latest.threshold,
        champion.worth(latest.metric),
        false_alarms=rule.shift.false_alarms,
        nights_per_year=ticks_per_year(family.schedule.score, family.schedule.timezone),
    )


def fresh_labels(latest: Measurement, since: datetime) -> int:
    """Labels of the nights that had not matured at an earlier measuring of the same model."""
    matured_then = latest.window_end - (latest.as_of - since)
    return sum(night.labels for night in latest.nights if night.as_of > matured_then)


def watch(
    database: Database,
    store: Store,
    family: ModelFamily,
    models: Sequence[Model],
    champions: Mapping[int, Champion],
    batch_id: int,
    as_of: datetime,
    *,
    now: datetime,
) -> int:
    """Hold a night against what the champions saw in training; how many signals were stored.

    The nights of ``watch.window`` up to this one are looked at together, without any label. Models
    with fewer than ``watch.min_rows`` rows in them are passed over.
    """
    start = as_of - family.watch.window
    scored = _scored(database, family, start, as_of)
    counts = scored["model_id"].value_counts()
    judged = [
        (model, champions[model.model_id])
        for model in models
        if model.model_id in champions and counts.get(model.model_id, 0) >= family.watch.min_rows
    ]
    if not judged:
        return 0
    table = _snapshots(database, store, start, as_of, family, family.columns)
    table_of = _tables_of(table, family)
    rows_of = _rows_of(scored, family)
    estimates, told = [], []
    for model, champion in judged:
        own = table if model.name == family.family else table_of[model.name]
        scores = rows_of[model.model_id]["score"].to_numpy()
        estimated = _estimated(family, model, champion, scores, start, as_of)
        estimates += [estimated] if estimated else []
        told += [
            _finite({
                "model_id": model.model_id, "version_id": champion.version.version_id,
                "signal": name, "feature": feature, "value": value, "level": level,
                "row_count": own.num_rows,
            })
            for name, feature, value in _signals(champion, own, scores, estimated)
            if (level := _level(family, name, value)) is not None
        ]  # fmt: skip
    with database.transaction() as tx:
        _append(tx, estimates, now)
        return tx.run(
            "monitoring.append_signals", batch_id=batch_id, signals=as_json(told), watched_at=now
        )


def _scored(
    database: Database, family: ModelFamily, start: datetime, end: datetime
) -> pd.DataFrame:
    """Published predictions of the nights in (start, end] without their truth.

    Columns ``model_id``, ``scored_by`` and ``score``, as in :func:`outcomes`.
    """
    with database.transaction() as tx:
        tx.require_rows(family.family, start, end)
    with database.bulk() as bulk:
        return bulk.read(
            queries()["monitoring.scored"], {"family": family.family, "start": start, "end": end}
        ).to_pandas()


def _tables_of(table: pa.Table, family: ModelFamily) -> dict[str, pa.Table]:
    """The rows of each member of a factory, by its name; sorted once for all members."""
    if family.models is None or not table.num_rows:
        return {}
    encoded = table[family.models.by].combine_chunks().dictionary_encode()
    codes = encoded.indices.to_numpy()
    ordered = table.take(pa.array(np.argsort(codes, kind="stable")))
    ends = np.cumsum(np.bincount(codes, minlength=len(encoded.dictionary)))
    return {
        name: ordered.slice(end - count, count)
        for name, end, count in zip(
            encoded.dictionary.to_pylist(), ends.tolist(), np.diff(ends, prepend=0).tolist(),
            strict=True,
        )
    }  # fmt: skip


def signals(
    tx: Transaction, family: ModelFamily, as_of: datetime
) -> dict[int, dict[str, tuple[Level, ...]]]:
    """The worst level of each signal by night, latest first, by model id and signal."""
    rule = family.retrain.when
    if rule is None or not rule.signals:
        return {}
    nights = max(asked.of_last for asked in rule.signals.values())
    found: dict[int, dict[str, tuple[Level, ...]]] = {}
    for row in tx.rows("monitoring.signals", family=family.family, as_of=as_of, nights=nights):
        of_model = found.setdefault(row.model_id, {})
        of_model[row.signal] = (*of_model.get(row.signal, ()), row.level)
    return found


class _Scope:
    """What the measurements of one model at one moment have in common."""

    def __init__(
        self,
        family: ModelFamily,
        model: Model,
        champion: Champion | None,
        as_of: datetime,
        start: datetime,
        end: datetime,
    ) -> None:
        self.family = family
        self.champion = champion
        self.common: dict[str, Any] = {
            "model_id": model.model_id, "as_of": as_of, "window_start": start, "window_end": end,
        }  # fmt: skip
        self.threshold, self.reference = _threshold(family, model, champion)

    def measurement(self, metric: str, rows: pd.DataFrame, **scope: Any) -> Measurement:
        """One metric over some rows; a metric that cannot be told is never a breach."""
        family = self.family
        known = rows[rows["value"].notna()]
        decisive = metric == family.performance.metric
        worth = self.champion.worth(metric) if self.champion else None
        counted = Measurement(
            **self.common, metric=metric, state="immature", value=None, low=None, high=None,
            predictions=len(rows), labels=len(known), **scope,
            threshold=self.threshold if decisive else None, decisive=decisive,
            reference=worth.value if worth else None,
        )  # fmt: skip
        enough = len(rows) and counted.coverage >= family.labels.min_coverage
        if not enough or len(known) < family.performance.min_labels:
            return counted
        found = metrics.estimate(
            metric, family.task, metrics.outcomes(known, family.task),
            nights=metrics.nights_of(known),
        )  # fmt: skip
        if found is None:
            return replace(counted, state="undefined")
        return _valued(counted, found)


def _valued(counted: Measurement, found: metrics.Estimate) -> Measurement:
    below = counted.threshold is not None and found.high < counted.threshold
    return replace(
        counted,
        state="breached" if below else "measured",
        value=found.value,
        low=found.low,
        high=found.high,
        method=found.method,
    )


def _measurements(scope: _Scope, rows: pd.DataFrame) -> Iterator[Measurement]:
    """The decisive one first: the champion's rows, with their nights."""
    rule = scope.family.performance
    serving = scope.champion.version.version_id if scope.champion else None
    own = rows[rows["version_id"] == serving]
    for metric in rule.metrics:
        if serving is not None:
            measured = scope.measurement(metric, own, version_id=serving)
            yield replace(measured, nights=_nights(scope.family, metric, own))
        if serving is not None and len(own) == len(rows):
            yield replace(measured, version_id=None)
        else:
            yield scope.measurement(metric, rows)
        for column in rule.slices:
            for value, part in rows.groupby(column, sort=True):
                yield replace(
                    scope.measurement(metric, part, slice=f"{column}={value}"), threshold=None
                )


def _nights(family: ModelFamily, metric: str, rows: pd.DataFrame) -> tuple[Night, ...]:
    if metric != family.performance.metric:
        return ()
    return tuple(metrics.by_night(metric, family.task, rows))


def _threshold(
    family: ModelFamily, model: Model, champion: Champion | None
) -> tuple[float | None, Reference | None]:
    """A model's threshold: a level, or so much below what its champion was worth."""
    reference = champion.worth(family.performance.metric) if champion else None
    level = family.level_of(model.name)
    drop = family.performance.max_drop
    if level is not None or drop is None:
        return level, reference
    if reference is None:
        return None, None
    fall = drop.fraction * abs(reference.value) if isinstance(drop, Fall) else drop
    return reference.value - fall, reference


def _rows_of(rows: pd.DataFrame, family: ModelFamily) -> dict[int, pd.DataFrame]:
    """Rows by the model they belong to; the model of the whole family has those it scored."""
    found = dict(iter(rows.groupby("model_id")))
    if family.models is not None:
        found |= dict(iter(rows[rows["scored_by"] != rows["model_id"]].groupby("scored_by")))
    return found


def _with_slices(
    database: Database,
    store: Store,
    family: ModelFamily,
    rows: pd.DataFrame,
    start: datetime,
    end: datetime,
) -> pd.DataFrame:
    columns = ["entity_id", *family.performance.slices]
    table = _snapshots(database, store, start, end, family, columns)
    return rows.merge(table.to_pandas(), on=["entity_id", "as_of"], how="left")


def _snapshots(
    database: Database,
    store: Store,
    start: datetime,
    end: datetime,
    family: ModelFamily,
    columns: Sequence[str],
) -> pa.Table:
    """Columns of the published nights in (start, end], with ``as_of``."""
    with database.transaction() as tx:
        window = {"family": family.family, "start": start, "end": end}
        nights = [(r.as_of, r.content_hash) for r in tx.rows("monitoring.snapshots", **window)]
    parts = []
    for as_of, content_hash in nights:
        part = store.read_table(content_hash, columns).select(columns)
        moments = pa.array([as_of] * part.num_rows, pa.timestamp("us", "UTC"))
        parts.append(part.append_column("as_of", moments))
    empty = pa.table({name: pa.array([], pa.string()) for name in [*columns, "as_of"]})
    return pa.concat_tables(parts, promote_options="permissive") if parts else empty


def _signals(
    champion: Champion, table: pa.Table, scores: np.ndarray, estimated: Measurement | None
) -> Iterator[tuple[str, str, float]]:
    profile = champion.version.manifest["profile"]
    if "distributions" in profile:
        yield from features.differences(table, profile)
    told = (champion.reference or {}).get("scores")
    if told:
        yield "score_drift", "", features.histogram_distance(scores, told)
    if estimated is not None and estimated.value is not None and estimated.reference is not None:
        yield "estimated", "", max(estimated.reference - estimated.value, 0.0)


def _estimated(
    family: ModelFamily,
    model: Model,
    champion: Champion,
    scores: np.ndarray,
    start: datetime,
    as_of: datetime,
) -> Measurement | None:
    """The decisive metric before any label, of a binary classifier that was calibrated."""
    corners = (champion.reference or {}).get("calibration")
    if family.task != "binary_classification" or not corners or not len(scores):
        return None
    share = np.interp(scores, corners["score"], corners["share"])
    metric = family.performance.metric
    found = metrics.expected(metric, scores, share)
    threshold, reference = _threshold(family, model, champion)
    counted = Measurement(
        model_id=model.model_id, metric=metric, as_of=as_of, window_start=start, window_end=as_of,
        state="undefined", value=None, low=None, high=None, predictions=len(scores), labels=0,
        threshold=threshold, version_id=champion.version.version_id, basis="estimated",
        reference=reference.value if reference else None,
    )  # fmt: skip
    return _valued(counted, found) if found else counted


def _level(family: ModelFamily, signal: str, value: float) -> Level | None:
    assert signal in SIGNALS
    levels = family.watch.levels(signal)
    if levels is None:
        return None
    if value >= levels.alert:
        return "alert"
    return "warn" if value >= levels.warn else "ok"


def _append(tx: Transaction, measurements: Sequence[Measurement], now: datetime) -> None:
    stored = [_finite(asdict(measurement)) for measurement in measurements]
    tx.run("monitoring.append", measurements=as_json(stored), measured_at=now)


def _finite(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The same with infinities as Postgres reads them: JSON has none."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in stored.items()
    }


def _measurement(row: Any) -> Measurement:
    told = {name: getattr(row, name) for name in Measurement.__dataclass_fields__}
    nights = (
        Night(**{**night, "as_of": datetime.fromisoformat(night["as_of"])})
        for night in told.pop("nights")
    )
    return Measurement(**told, nights=tuple(nights))
