"""Every accepted night of a family, and what was known of its truths on each day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from nightshift import stats, training
from nightshift.data import Database, Store, query_text
from nightshift.errors import TrainingError
from nightshift.family import ModelFamily
from nightshift.training import Rows
from nightshift.wording import day

Places = NDArray[np.intp]

NOBODY = ""
"""The member of rows in a family that is no factory."""


@dataclass(frozen=True)
class History:
    """The rows of a family's accepted nights, in the order of the nights.

    Parameters
    ----------
    table
        The columns of the snapshots with ``as_of`` and ``place``, the number of the row.
    nights, unit
        The moments of the nights, and of each row the number of its night.
    truth
        Of each row, as it is known last: float64, or text in multiclass classification; NaN or
        None where it never became known, or was by the row's own night.
    known_at
        When the first label became known, datetime64 in UTC; NaT where none did.
    due
        Whether there was a truth to wait for: not where the row's own night knew it.
    revisions
        What was stated of the rows with more than one label: ``place``, ``known_at``, ``truth``,
        the one that wins last.
    """

    family: ModelFamily
    table: pa.Table
    nights: list[datetime]
    unit: NDArray[np.int64]
    truth: NDArray[Any]
    known_at: NDArray[np.datetime64]
    due: NDArray[np.bool_]
    revisions: pd.DataFrame

    def __len__(self) -> int:
        return len(self.unit)

    @cached_property
    def moments(self) -> NDArray[np.datetime64]:
        """The nights as datetime64 in UTC."""
        return np.array([_moment64(night) for night in self.nights])

    @cached_property
    def stamps(self) -> pd.DatetimeIndex:
        """The same with their zone, as tables of outcomes have them."""
        return pd.DatetimeIndex(self.moments, tz="UTC")

    @cached_property
    def borders(self) -> NDArray[np.int64]:
        """Of each night its first row; one more at the end."""
        return np.searchsorted(self.unit, np.arange(len(self.nights) + 1))

    @cached_property
    def member(self) -> NDArray[np.object_]:
        """The member that each row belongs to."""
        if self.family.models is None:
            return np.full(len(self), NOBODY, dtype=object)
        return np.asarray(self.table[self.family.models.by].to_pandas(), dtype=object)

    @cached_property
    def places(self) -> Mapping[str, Places]:
        """The rows of each member, in order."""
        frame = pd.Series(np.arange(len(self)))
        return {name: part.to_numpy() for name, part in frame.groupby(self.member, sort=True)}

    @cached_property
    def settled(self) -> NDArray[np.datetime64]:
        """Of each night the moment from which on nothing more became known of it."""
        latest = np.full(len(self.nights), np.datetime64("1970-01-01", "us"))
        known = ~np.isnat(self.known_at)
        np.maximum.at(latest, self.unit[known], self.known_at[known])
        if len(self.revisions):
            units = self.unit[self.revisions["place"].to_numpy()]
            np.maximum.at(latest, units, self.revisions["known_at"].to_numpy("datetime64[us]"))
        return latest

    def between(self, start: datetime, end: datetime, own: Places | None = None) -> Places:
        """The rows of the nights in (start, end], among those of a member if they are given."""
        first, last = np.searchsorted(self.moments, [_moment64(start), _moment64(end)], "right")
        low, high = self.borders[first], self.borders[last]
        if own is None:
            return np.arange(low, high)
        low, high = np.searchsorted(own, [low, high])
        return own[low:high]

    def truths(self, places: Places, known_by: datetime) -> NDArray[Any]:
        """The truths of some rows as they were known at a moment; NaN or None where not yet."""
        moment = _moment64(known_by)
        told = self.truth[places].copy()
        told[~(self.known_at[places] <= moment)] = _missing(told)
        if len(self.revisions):
            known = self.revisions[self.revisions["known_at"] <= pd.Timestamp(known_by)]
            latest = known.groupby("place")["truth"].last()
            revised = np.isin(places, latest.index)
            told[revised] = latest.loc[places[revised]].to_numpy(told.dtype)
        return told

    def told(
        self, places: Places, known_by: datetime, score: NDArray[Any], label: NDArray[Any] | None
    ) -> pd.DataFrame:
        """Rows as :mod:`nightshift.stats` takes them, with what a version told of each."""
        return pd.DataFrame(
            {
                "as_of": self.stamps[self.unit[places]],
                "value": self.truths(places, known_by),
                "score": score,
                "label": label,
            }
        )

    def rows(self, places: Places, known_by: datetime) -> Rows:
        """The labelled ones among some rows, as trainings and comparisons take them.

        Nights of which fewer labels were known than ``labels.min_coverage`` asks for are left out.
        """
        value = self.truths(places, known_by)
        known = pd.notna(value)
        rows = Rows(self.table.take(pa.array(places[known])), value[known], [])
        arrived = self._arrived(np.unique(self.unit[places]), known_by)
        return replace(rows, arrived=arrived).complete(self.family.labels.min_coverage)

    def _arrived(
        self, units: NDArray[np.int64], known_by: datetime
    ) -> dict[datetime, tuple[int, int]]:
        """By night, how many of its rows had labels by a moment, of how many that could."""
        if not len(units):
            return {}
        low, high = self.borders[units[0]], self.borders[units[-1] + 1]
        unit = self.unit[low:high] - units[0]
        came = self.known_at[low:high] <= _moment64(known_by)
        labelled, size = (
            np.bincount(unit[came], minlength=unit[-1] + 1),
            np.bincount(unit[self.due[low:high]], minlength=unit[-1] + 1),
        )
        return {
            self.nights[number]: (int(labelled[number - units[0]]), int(size[number - units[0]]))
            for number in units
        }

    def outcomes(
        self, places: Places, score: NDArray[Any], label: NDArray[Any] | None
    ) -> stats.Outcomes:
        """Scores and labels with the truths that are known last; rows without one are left out."""
        told = {"value": self.truth[places], "score": score, "label": label}
        frame = pd.DataFrame(told)
        return stats.outcomes(frame[frame["value"].notna()], self.family.task)


def read(
    database: Database, store: Store, family: ModelFamily, start: datetime, end: datetime
) -> History:
    """The accepted nights in (start, end], with all labels that are known.

    Raises
    ------
    TrainingError
        There is no night, or no label answers one.
    """
    with database.transaction() as tx:
        accepted = tx.rows("training.snapshots", family=family.family, start=start, end=end)
    if not accepted:
        raise TrainingError(
            f"{family.family}: no accepted night is stored between {day(start)} and"
            f" {day(end)}; choose nights that were scored, or a source with history:"
            " append_only"
        )
    tables = [_night(store.read_table(row.content_hash), family, row.as_of) for row in accepted]
    table = pa.concat_tables(tables, promote_options="permissive")
    table = table.append_column("place", pa.array(np.arange(table.num_rows)))
    unit = np.repeat(np.arange(len(tables)), [part.num_rows for part in tables])
    with database.bulk() as bulk:
        since = {"family": family.family, "start": start}
        labels = bulk.read(query_text("tuning.labels"), since).to_pandas()
    return labelled(family, table, [row.as_of for row in accepted], unit, labels)


def labelled(
    family: ModelFamily,
    table: pa.Table,
    nights: list[datetime],
    unit: NDArray[np.int64],
    labels: pd.DataFrame,
) -> History:
    """Rows in the order of their nights, with the labels that were ever stated of them.

    Parameters
    ----------
    table
        Columns of the snapshots with ``as_of`` and ``place``.
    unit
        Of each row the number of its night.
    labels
        Columns ``entity_id``, ``answers``, ``value``, ``stated_at`` and ``known_at``.
    """
    keys = table.select(["entity_id", "as_of", "place"]).to_pandas()
    if labels["answers"].isna().all():
        stated = keys.merge(labels.drop(columns="answers"), how="inner", on="entity_id")
    else:
        pairs = {"left_on": ["entity_id", "as_of"], "right_on": ["entity_id", "answers"]}
        stated = keys.merge(labels, how="inner", **pairs)
    # Who can know a truth does not predict it.
    early = stated.groupby("place")["stated_at"].transform("min") <= stated["as_of"]
    due = np.ones(table.num_rows, dtype=bool)
    due[stated["place"].to_numpy()[early.to_numpy()]] = False
    stated = stated[~early].sort_values(["place", "stated_at", "known_at"], kind="stable")
    if stated.empty:
        raise TrainingError(
            f"{family.family}: none of the {len(labels):,} labels that are known answers one of the"
            f" {table.num_rows:,} rows: {family.folder / 'labels.sql'} must name entities as"
            " features.sql does"
        )
    stated["truth"] = training.truth_of(family, stated["value"].to_numpy())
    if family.task != "multiclass_classification":
        stated["truth"] = stated["truth"].astype(np.float64)
    missing = np.full(table.num_rows, None if stated["truth"].dtype == object else np.nan)
    truth = missing.astype(stated["truth"].dtype)
    known_at = np.full(table.num_rows, np.datetime64("NaT", "us"))
    by_place = stated.groupby("place")
    last, first = by_place["truth"].last(), by_place["known_at"].min()
    truth[last.index] = last.to_numpy()
    known_at[first.index] = first.to_numpy("datetime64[us]")
    several = stated[stated["place"].duplicated(keep=False)]
    revisions = several[["place", "known_at", "truth"]].reset_index(drop=True)
    return History(family, table, nights, unit, truth, known_at, due, revisions)


def _night(frozen: pa.Table, family: ModelFamily, as_of: datetime) -> pa.Table:
    moments = pa.array([as_of] * frozen.num_rows, pa.timestamp("us", "UTC"))
    there = [name for name in family.columns if name in frozen.column_names]
    return frozen.select(there).append_column("as_of", moments)


def _missing(values: NDArray[Any]) -> Any:
    return None if values.dtype == object else np.nan


def _moment64(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.replace(tzinfo=None), "us")
