"""What can be seen of a night before its labels are known: drift, and performance as estimated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from nightshift import stats, tables
from nightshift.data import Database, Store, Transaction, as_json, query_text
from nightshift.family import SIGNALS, ModelFamily
from nightshift.monitoring.measuring import (
    _append,
    _frozen,
    _rows_of,
    _valued,
)
from nightshift.monitoring.references import threshold
from nightshift.records import Level, Measurement, Model
from nightshift.registry import Champion


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
    wanted = [*family.columns, *_learnt(champion for _, champion in judged)]
    nights = _frozen(database, store, start, as_of, family, list(dict.fromkeys(wanted)))
    if not nights:
        return 0
    table = pa.concat_tables(nights, promote_options="permissive")
    table_of = _tables_of(table, family)
    rows_of = _rows_of(scored, family)
    estimates, watched = [], []
    for model, champion in judged:
        own = table if family.is_whole(model.name) else table_of[model.name]
        rows = rows_of[model.model_id]
        scores = rows["score"].to_numpy()
        estimated = _estimated(family, model, champion, rows, start, as_of)
        estimates += [estimated] if estimated else []
        watched += [
            {
                "model_id": model.model_id,
                "version_id": champion.version.version_id,
                "signal": name,
                "feature": feature,
                "value": value,
                "level": level,
                "row_count": own.num_rows,
            }
            for name, feature, value in _signals(champion, own, nights, scores, estimated)
            if (level := _level(family, name, value)) is not None
        ]
    with database.transaction() as tx:
        _append(tx, estimates, now)
        return tx.run(
            "monitoring.append_signals",
            batch_id=batch_id,
            signals=as_json(watched),
            watched_at=now,
        )


def _scored(
    database: Database, family: ModelFamily, start: datetime, end: datetime
) -> pd.DataFrame:
    """Published predictions of the nights in (start, end] without their truth.

    Columns ``model_id``, ``scored_by`` and ``score``, as in :func:`outcomes`, and ``positive``,
    whether the label is 1 in binary classification.
    """
    with database.transaction() as tx:
        tx.require_rows(family.family, start, end)
    with database.bulk() as bulk:
        return bulk.read(
            query_text("monitoring.scores"), {"family": family.family, "start": start, "end": end}
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
            encoded.dictionary.to_pylist(),
            ends.tolist(),
            np.diff(ends, prepend=0).tolist(),
            strict=True,
        )
    }


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


def _signals(
    champion: Champion,
    table: pa.Table,
    nights: Sequence[pa.Table],
    scores: np.ndarray,
    estimated: Measurement | None,
) -> Iterator[tuple[str, str, float]]:
    profile = champion.version.manifest.profile
    if "distributions" in profile:
        for moments, names in _by_nights(nights, profile["distributions"]):
            some = {name: profile["distributions"][name] for name in names}
            own = table.filter(pc.is_in(table["as_of"], value_set=moments))
            yield from tables.differences(own, {**profile, "distributions": some})
    profiled = champion.reference.scores if champion.reference else None
    if profiled:
        yield "score_drift", "", tables.histogram_distance(scores, profiled)
    if estimated is not None and estimated.value is not None and estimated.reference is not None:
        yield "estimated", "", max(estimated.reference - estimated.value, 0.0)


def _by_nights(
    nights: Sequence[pa.Table], features: Iterable[str]
) -> Iterator[tuple[pa.Array, list[str]]]:
    """The features by the nights that were frozen with them; one that none has is passed over."""
    having: dict[tuple[int, ...], list[str]] = {}
    for name in features:
        numbers = [n for n, night in enumerate(nights) if name in night.column_names]
        having.setdefault(tuple(numbers), []).append(name)
    for places, names in having.items():
        own = [nights[place]["as_of"] for place in places]
        if own:
            yield pa.chunked_array([chunk for of in own for chunk in of.chunks]).unique(), names


def _learnt(champions: Iterable[Champion]) -> list[str]:
    """The features that champions have learnt from, in order."""
    declared = [champion.version.manifest["features"] for champion in champions]
    return [name for of in declared for name in (*of["numeric"], *of["categorical"])]


def _estimated(
    family: ModelFamily,
    model: Model,
    champion: Champion,
    rows: pd.DataFrame,
    start: datetime,
    as_of: datetime,
) -> Measurement | None:
    """The decisive metric before any label, of a binary classifier that was calibrated.

    None where ``watch.estimated`` asks for none: its draws cost more than all else of a night.
    """
    if family.watch.estimated is None:
        return None
    corners = champion.reference.calibration if champion.reference else None
    if family.task != "binary_classification" or not corners or rows.empty:
        return None
    scores = rows["score"].to_numpy()
    decided = rows["positive"].to_numpy(dtype=np.float64)
    share = np.interp(scores, corners["score"], corners["share"])
    metric = family.performance.metric
    expected = stats.expected(metric, scores, share, label=decided)
    reference = champion.worth(metric)
    level = threshold(family, model.name, champion, reference)
    counted = Measurement(
        model_id=model.model_id,
        metric=metric,
        as_of=as_of,
        window_start=start,
        window_end=as_of,
        state="undefined",
        value=None,
        low=None,
        high=None,
        predictions=len(rows),
        labels=0,
        threshold=level,
        version_id=champion.version.version_id,
        basis="estimated",
        reference=reference.value if reference else None,
    )
    return _valued(counted, expected)


def _level(family: ModelFamily, signal: str, value: float) -> Level | None:
    assert signal in SIGNALS
    levels = family.watch.levels(signal)
    if levels is None:
        return None
    if value >= levels.alert:
        return "alert"
    return "warn" if value >= levels.warn else "ok"
