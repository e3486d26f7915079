"""How late labels arrive, and which maturity that speaks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd

from nightshift.data import Database, query_text
from nightshift.family import ModelFamily
from nightshift.wording import count

HORIZONS = (1, 2, 3, 7, 14, 30)
"""Days after a night at which the arrival of its labels is told."""

LOOK_BACK = timedelta(days=60)
"""From how many nights, beyond those that are too young, the arrival of labels is told."""

ARRIVALS = timedelta(days=max(HORIZONS)) + LOOK_BACK
"""How far back the arrival of labels reads predictions."""

NEARLY_ALL = 0.99
"""The share of the labels that ever come which a maturity must wait for."""


@dataclass(frozen=True)
class Arrival:
    """The share of a night's predictions whose label is known ``days`` after it.

    ``nights`` are those that are old enough to tell; ``share`` is None where none is. ``by_class``
    has the share of each class among labels that have come by now, in classification.
    """

    days: int
    nights: int
    predictions: int
    share: float | None
    by_class: Mapping[str, float]


@dataclass(frozen=True)
class Arrivals:
    """How fast labels come: by day from 0 to 30, and the maturity that follows.

    ``proposed`` is None where no night is a month old yet; ``sentence`` says what it means.
    """

    as_of: datetime
    curve: tuple[Arrival, ...]
    ever: float | None
    proposed: timedelta | None
    sentence: str

    @property
    def rows(self) -> list[Arrival]:
        """The curve at the days people ask about."""
        return [arrival for arrival in self.curve if arrival.days in HORIZONS]


def arrivals(database: Database, family: ModelFamily, as_of: datetime) -> Arrivals:
    """How fast the labels of published nights came, as known at ``as_of``."""
    longest = max(HORIZONS)
    start = as_of - ARRIVALS
    with database.transaction() as tx:
        tx.require_rows(family.family, start, as_of)
    with database.bulk() as bulk:
        counted = bulk.read(
            query_text("labels.arrivals"),
            {
                "family": family.family,
                "start": start,
                "as_of": as_of,
                "by_class": family.task != "regression",
            },
        ).to_pandas()
    counted["age"] = (pd.Timestamp(as_of) - counted["as_of"]) / pd.Timedelta(days=1)
    curve = tuple(_arrival(counted, days) for days in range(longest + 1))
    old = counted[counted["age"] >= longest]
    came = old[old["days"].notna()]
    ever = float(came["predictions"].sum() / old["predictions"].sum()) if len(old) else None
    proposed = _proposed(came)
    return Arrivals(as_of, curve, ever, proposed, _sentence(family, ever, proposed))


def _arrival(counted: pd.DataFrame, days: int) -> Arrival:
    old = counted[counted["age"] >= days]
    predictions = int(old["predictions"].sum())
    known = old["days"] <= days
    came = old[old["days"].notna()]
    by_class = {
        str(name): float(part.loc[part["days"] <= days, "predictions"].sum())
        / float(part["predictions"].sum())
        for name, part in came.groupby("value")
    }
    share = float(old.loc[known, "predictions"].sum() / predictions) if predictions else None
    return Arrival(days, int(old["as_of"].nunique()), predictions, share, by_class)


def _proposed(came: pd.DataFrame) -> timedelta | None:
    if came.empty:
        return None
    by_day = came.groupby("days")["predictions"].sum().sort_index().cumsum()
    enough = by_day[by_day >= NEARLY_ALL * by_day.iloc[-1]]
    return timedelta(days=max(int(enough.index[0]), 1))


def _sentence(family: ModelFamily, ever: float | None, proposed: timedelta | None) -> str:
    configured = family.labels.maturity / timedelta(days=1)
    if ever is None or proposed is None:
        return (
            f"no published night is {max(HORIZONS)} days old yet, or none has labels, so no"
            f" maturity can be proposed; labels.maturity is {count(configured, 'day')}"
        )
    days = proposed.days
    advice = (
        "as labels.maturity says"
        if days == configured
        else f"labels.maturity says {configured:g}; P{days}D would do"
        if days < configured
        else f"labels.maturity says {configured:g}, which is too early: write P{days}D"
    )
    return (
        f"{ever:.1%} of predictions get a label, and {NEARLY_ALL:.0%} of those have it after"
        f" {count(days, 'day')}: {advice}"
    )
