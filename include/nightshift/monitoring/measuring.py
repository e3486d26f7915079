"""Matured labels meet published predictions: measurements. And nights are watched before any label.

A measurement covers the nights with ``as_of`` in (end - window, end], where end is the moment of
measuring less the maturity of labels. Only labels known by that moment count, so measuring the same
moment again gives the same measurement; the first one stored stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import pandas as pd
import pyarrow as pa

from nightshift import stats
from nightshift.data import Database, Store, Transaction, as_json, query_text
from nightshift.documents import Reference, Shift
from nightshift.family import ModelFamily, ticks_per_year
from nightshift.monitoring.references import (
    conditions,
    in_conditions,
    references,
    threshold,
)
from nightshift.records import Measurement, Model, Night
from nightshift.registry import Champion

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
    moments = _moments(family, as_of)
    _, start, end, _ = moments
    rows = outcomes(database, family, start, end, as_of)
    if family.performance.slices:
        rows = _with_slices(database, store, family, rows, start, end)
    rows_of = _rows_of(rows, family)
    nothing = rows.iloc[:0]
    measured = []
    held_to = references(family, champions)
    for model in models:
        own = rows_of.get(model.model_id, nothing)
        champion = champions.get(model.model_id)
        scope = _Scope(family, model, champion, held_to.get(model.model_id), moments)
        measured.append(list(_measurements(scope, own)))
    with database.transaction() as tx:
        _append(tx, [m for of_model in measured for m in of_model], now)
        recorded = tx.rows(
            "monitoring.find_measurements",
            metric=family.performance.metric,
            as_of=as_of,
            model_ids=[of_model[0].model_id for of_model in measured],
            version_ids=[of_model[0].version_id for of_model in measured],
        )
    return [row.measurement_id for row in recorded]


def judged(
    family: ModelFamily,
    model: Model,
    champion: Champion,
    reference: Reference | None,
    as_of: datetime,
    rows: pd.DataFrame,
    nights: tuple[Night, ...],
) -> Measurement:
    """The decisive measurement of a champion at ``as_of``, from its own rows in the window.

    Parameters
    ----------
    rows
        Columns ``as_of``, ``score``, ``label`` and ``value``, missing where no label is known.
    nights
        The same rows night by night, see :func:`nightshift.stats.by_night`.
    """
    scope = _Scope(family, model, champion, reference, _moments(family, as_of))
    scope.meet(nights)
    version_id = champion.version.version_id
    measured = scope.measurement(family.performance.metric, rows, version_id=version_id)
    return replace(measured, nights=nights)


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
            query_text("monitoring.outcomes"),
            {"family": family.family, "start": start, "end": end, "known_by": known_by},
        ).to_pandas()


def nights_judged(
    tx: Transaction, family: ModelFamily, champions: Mapping[int, Champion], as_of: datetime
) -> dict[int, tuple[Night, ...]]:
    """The matured nights of each champion that it has not learnt, by model id, oldest first.

    Each as its latest measurement up to ``as_of`` saw it; the last :data:`nightshift.stats.HORIZON`
    are looked for. Nights of which fewer labels are known than ``labels.min_coverage`` asks for say
    nothing: which labels come first is no matter of chance.
    """
    a_year = ticks_per_year(family.schedule.score, family.schedule.timezone)
    reach = timedelta(days=stats.HORIZON * 366 / a_year) + family.performance.window
    rows = tx.rows(
        "monitoring.nights",
        versions=sorted(champion.version.version_id for champion in champions.values()),
        metric=family.performance.metric,
        since=as_of - family.labels.maturity - reach,
        as_of=as_of,
    )
    nights: dict[int, tuple[Night, ...]] = {}
    for row in rows:
        champion = champions.get(row.model_id)
        stored = [_night(night) for night in row.nights]
        if champion is not None:
            learnt = champion.version.manifest.training[1]
            nights[row.model_id] = tuple(
                night
                for night in stored
                if night.as_of > learnt
                and night.labels >= family.labels.min_coverage * night.predictions
            )
    return nights


def shift(
    family: ModelFamily,
    name: str,
    champion: Champion,
    nights: Sequence[Night],
    reference: Reference | None,
) -> Shift | None:
    """What the sequential detector says of a champion's nights; None where it is not used.

    What falls short of perfection is tested for means of rows. Of other metrics the nights are no
    means of their rows, and :func:`nightshift.stats.shift` holds them against the reference. A
    metric without a greatest value has no test: what is left is a breach over a whole window.
    """
    rule, metric = family.retrain.when, family.performance.metric
    level = threshold(family, name, champion, reference)
    best = stats.perfect(metric)
    if rule is None or rule.shift is None or level is None or best is None:
        return None
    a_year = ticks_per_year(family.schedule.score, family.schedule.timezone)
    false_alarms = rule.shift.false_alarms
    if not stats.is_mean(metric):
        return stats.shift(
            nights, level, reference, false_alarms=false_alarms, nights_per_year=a_year
        )
    nights = in_conditions(family, nights, reference)
    relative = family.performance.max_drop is not None
    if family.models is not None and reference is not None:
        # All members together tell how uncertain it is, and each is drawn towards them already.
        reference, relative = replace(reference, error=0.0), False
    return stats.fallen(
        nights,
        level,
        reference,
        false_alarms=false_alarms,
        perfect=best,
        relative=relative,
        nights_per_year=a_year,
    )


def whole_window(family: ModelFamily, latest: Measurement) -> bool:
    """Whether the nights of a measurement reach over its whole window."""
    first = next(iter(family.ticks(latest.window_start, latest.window_end)), None)
    return bool(latest.nights) and first is not None and latest.nights[0].as_of <= first


def measured_at(tx: Transaction, as_of: datetime) -> list[str]:
    """The families that were measured at a moment."""
    return [row.family for row in tx.rows("monitoring.measured_families", as_of=as_of)]


def fresh_labels(latest: Measurement, since: datetime) -> int:
    """Labels of the nights that had not matured at an earlier measuring of the same model."""
    matured_then = latest.window_end - (latest.as_of - since)
    return sum(night.labels for night in latest.nights if night.as_of > matured_then)


def _moments(family: ModelFamily, as_of: datetime) -> tuple[datetime, datetime, datetime, datetime]:
    """The moment of measuring, its window's start and end, and the end of the one before."""
    end = as_of - family.labels.maturity
    before = family.previous_monitoring(as_of) - family.labels.maturity
    return as_of, end - family.performance.window, end, before


class _Scope:
    """What the measurements of one model at one moment have in common."""

    def __init__(
        self,
        family: ModelFamily,
        model: Model,
        champion: Champion | None,
        reference: Reference | None,
        moments: tuple[datetime, datetime, datetime, datetime],
    ) -> None:
        self.family = family
        self.champion = champion
        as_of, start, end, self.matured_since = moments
        self.common: dict[str, Any] = {
            "model_id": model.model_id,
            "as_of": as_of,
            "window_start": start,
            "window_end": end,
        }
        self.reference = reference
        self.threshold = threshold(family, model.name, champion, reference)

    def meet(self, nights: Sequence[Night]) -> None:
        """Hold the model to what its threshold comes to in the conditions of these nights."""
        best = stats.perfect(self.family.performance.metric)
        if self.threshold is not None and best is not None:
            harder = conditions(self.family, nights, self.reference)
            self.threshold = best - (best - self.threshold) * harder

    def measurement(self, metric: str, rows: pd.DataFrame, **scope: Any) -> Measurement:
        """One metric over some rows; a metric that cannot be told is never a breach."""
        family = self.family
        known = rows[rows["value"].notna()]
        decisive = metric == family.performance.metric
        worth = self.champion.worth(metric) if self.champion else None
        counted = Measurement(
            **self.common,
            metric=metric,
            state="immature",
            value=None,
            low=None,
            high=None,
            predictions=len(rows),
            labels=len(known),
            **scope,
            threshold=self.threshold if decisive else None,
            decisive=decisive,
            reference=worth.value if worth else None,
            matured_predictions=int((rows["as_of"] > self.matured_since).sum()),
            matured_labels=int((known["as_of"] > self.matured_since).sum()),
        )
        enough = len(rows) and counted.coverage >= family.labels.min_coverage
        if not enough or len(known) < family.performance.min_labels:
            return counted
        estimate = stats.estimate(
            metric,
            family.task,
            stats.outcomes(known, family.task),
            nights=stats.nights_of(known),
        )
        return _valued(counted, estimate)


def _valued(counted: Measurement, estimate: stats.Estimate | stats.Undefined) -> Measurement:
    if isinstance(estimate, stats.Undefined):
        return replace(counted, state="undefined", remark=estimate.reason)
    below = counted.threshold is not None and estimate.high < counted.threshold
    return replace(
        counted,
        state="breached" if below else "measured",
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        method=estimate.method,
        remark=estimate.remark or None,
    )


def _measurements(scope: _Scope, rows: pd.DataFrame) -> Iterator[Measurement]:
    """The decisive one first: the champion's rows, with their nights."""
    rule = scope.family.performance
    serving = scope.champion.version.version_id if scope.champion else None
    own = rows[rows["version_id"] == serving]
    for metric in rule.metrics:
        if serving is not None:
            nights = _nights(scope.family, metric, own)
            scope.meet(nights)
            measured = scope.measurement(metric, own, version_id=serving)
            yield replace(measured, nights=nights)
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
    return tuple(stats.by_night(metric, family.task, rows))


def _rows_of(rows: pd.DataFrame, family: ModelFamily) -> dict[int, pd.DataFrame]:
    """Rows by the model they belong to; the model of the whole family has those it scored."""
    rows_of = dict(iter(rows.groupby("model_id")))
    if family.models is not None:
        rows_of |= dict(iter(rows[rows["scored_by"] != rows["model_id"]].groupby("scored_by")))
    return rows_of


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
    """Columns of the published nights in (start, end], with ``as_of``.

    A night that was frozen without one of them has nulls there.
    """
    parts = _frozen(database, store, start, end, family, columns)
    if not parts:
        moments = pa.array([], pa.timestamp("us", "UTC"))
        return pa.table({name: pa.array([], pa.string()) for name in columns} | {"as_of": moments})
    table = pa.concat_tables(parts, promote_options="permissive")
    for name in columns:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, pa.string()))
    return table


def _frozen(
    database: Database,
    store: Store,
    start: datetime,
    end: datetime,
    family: ModelFamily,
    columns: Sequence[str],
) -> list[pa.Table]:
    """Of each published night in (start, end] those columns that it was frozen with, and as_of."""
    with database.transaction() as tx:
        nights = published_snapshots(tx, family.family, start, end)
    parts = []
    for as_of, content_hash in nights:
        part = store.read_table(content_hash, columns)
        part = part.select([name for name in columns if name in part.column_names])
        moments = pa.array([as_of] * part.num_rows, pa.timestamp("us", "UTC"))
        parts.append(part.append_column("as_of", moments))
    return parts


def published_snapshots(
    tx: Transaction, family: str, start: datetime, end: datetime
) -> list[tuple[datetime, str]]:
    """The published nights in (start, end], oldest first, each with its snapshot's content hash."""
    rows = tx.rows("monitoring.snapshots", family=family, start=start, end=end)
    return [(row.as_of, row.content_hash) for row in rows]


def _append(tx: Transaction, measurements: Sequence[Measurement], now: datetime) -> None:
    stored = [asdict(measurement) for measurement in measurements]
    tx.run("monitoring.append", measurements=as_json(stored), measured_at=now)


def _measurement(row: Any) -> Measurement:
    stored = {name: getattr(row, name) for name in Measurement.__dataclass_fields__}
    nights = stored.pop("nights")
    return Measurement(**stored, nights=tuple(map(_night, nights)))


def _night(stored: Mapping[str, Any]) -> Night:
    return Night(**{**stored, "as_of": datetime.fromisoformat(stored["as_of"])})
