"""How late labels arrive, and which maturity that speaks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import numpy as np
import pandas as pd

from nightshift.data import Database, query_text
from nightshift.family import ModelFamily
from nightshift.monitoring.labels import stated
from nightshift.sources import Source
from nightshift.wording import count

HORIZONS = (1, 2, 3, 7, 14, 30)
"""Days after a night at which the arrival of its labels is told."""

LOOK_BACK = timedelta(days=60)
"""From how many nights, beyond those that are too young, the arrival of labels is told."""

ARRIVALS = timedelta(days=max(HORIZONS)) + LOOK_BACK
"""How far back the arrival of labels reads predictions."""

REACH = timedelta(days=730)
"""How far back labels.sql is asked where there are no nights."""

FEWEST = 10
"""With fewer labels a class has no maturity of its own."""

Basis = Literal["nights", "entities", "labels"]

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
    """How fast labels come, day by day, and the maturity that follows.

    ``basis`` says from what: published ``nights``, or ``labels`` alone, before there are any.
    ``ever`` is the share of predictions that get a label, None where it cannot be told.
    ``proposed`` is None where nothing is old enough; ``by_class`` has what each class would need.
    ``sentence`` says what it means.
    """

    as_of: datetime
    basis: Basis
    curve: tuple[Arrival, ...]
    ever: float | None
    proposed: timedelta | None
    by_class: Mapping[str, timedelta]
    sentence: str

    @property
    def rows(self) -> list[Arrival]:
        """The curve at the days people ask about, and where it ends."""
        last = self.curve[-1].days
        return [arrival for arrival in self.curve if arrival.days in {*HORIZONS, last}]


def arrivals(database: Database, family: ModelFamily, as_of: datetime) -> Arrivals:
    """How fast the labels of published nights came, as known at ``as_of``."""
    with database.transaction() as tx:
        kept_from = tx.one("labels.oldest_rows").kept_from
        start = as_of - max(ARRIVALS, family.labels.maturity + ARRIVALS - LOOK_BACK)
        start = start if kept_from is None else max(start, kept_from)
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
    return _arrivals(family, as_of, "nights", counted)


def foreseen(
    source: Source,
    family: ModelFamily,
    as_of: datetime,
    entities: Sequence[tuple[str, datetime | None]] = (),
) -> Arrivals:
    """How fast labels came by labels.sql alone, before any night was published.

    Parameters
    ----------
    as_of
        What the source states later is not looked at.
    entities
        Who would have been scored, and when: a label's days count from there. Without a moment
        they count from the label's ``event_at``, and so do those of everybody where none is given.

    Raises
    ------
    SourceError, LabelsError
        As :func:`nightshift.monitoring.collect`.
    """
    labels = stated(source, family, as_of - REACH, as_of)
    labels = labels.sort_values(["stated_at", "value"])
    by = ["entity_id", "answers"] if family.labels.per == "entity_and_as_of" else ["entity_id"]
    of_entity = labels.groupby(by, as_index=False, sort=False).agg(
        known_at=("stated_at", "min"), event_at=("event_at", "min"), value=("value", "last")
    )
    if entities:
        listed = pd.DataFrame(list(entities), columns=["entity_id", "night"]).drop_duplicates()
        of_entity = listed.merge(of_entity, how="left", on="entity_id")
    else:
        of_entity["night"] = None
    begun = of_entity["answers"] if "answers" in of_entity else of_entity["event_at"]
    stated_night = pd.to_datetime(of_entity["night"], utc=True).astype("datetime64[us, UTC]")
    started = pd.to_datetime(begun, utc=True).astype("datetime64[us, UTC]")
    night = stated_night.where(stated_night.notna(), started)
    # Of whom nothing is known, everything could have been by now: old enough to count as never.
    night = night.where(night.notna(), pd.Timestamp(as_of - REACH))
    days = np.ceil((of_entity["known_at"] - night) / pd.Timedelta(days=1)).clip(lower=0)
    value = of_entity["value"] if family.task != "regression" else None
    counted = pd.DataFrame({"as_of": night, "days": days, "value": value, "predictions": 1})
    return _arrivals(family, as_of, "entities" if entities else "labels", counted)


def _arrivals(
    family: ModelFamily, as_of: datetime, basis: Basis, counted: pd.DataFrame
) -> Arrivals:
    """What rows of (as_of, days, value, predictions) say; days are null where no label came."""
    reach = counted["days"].max()
    longest = max(*HORIZONS, 0 if pd.isna(reach) else int(reach))
    counted["age"] = (pd.Timestamp(as_of) - counted["as_of"]) / pd.Timedelta(days=1)
    curve = tuple(_arrival(counted, days) for days in range(longest + 1))
    # Younger ones would speak for labels that come fast.
    old = counted[counted["age"] >= max(HORIZONS)]
    old = old if len(old[old["age"] >= longest]) == 0 else old[old["age"] >= longest]
    came = old[old["days"].notna()]
    ever = float(came["predictions"].sum() / old["predictions"].sum()) if len(old) else None
    by_class = {
        str(name): days
        for name, part in came.groupby("value")
        if part["predictions"].sum() >= FEWEST and (days := _proposed(part)) is not None
    }
    proposals = [days for days in (_proposed(came), *by_class.values()) if days is not None]
    proposed = max(proposals, default=None)
    if basis == "labels":
        ever = None  # who has no label is not there
    sentence = _sentence(family, basis, ever, proposed, by_class)
    return Arrivals(as_of, basis, curve, ever, proposed, by_class, sentence)


def _arrival(counted: pd.DataFrame, days: int) -> Arrival:
    old = counted[counted["age"] >= days]
    predictions = int(old["predictions"].sum())
    within = old["days"] <= days
    came = old[old["days"].notna()]
    by_class = {
        str(name): float(part.loc[part["days"] <= days, "predictions"].sum())
        / float(part["predictions"].sum())
        for name, part in came.groupby("value")
    }
    share = float(old.loc[within, "predictions"].sum() / predictions) if predictions else None
    return Arrival(days, int(old["as_of"].nunique()), predictions, share, by_class)


def _proposed(came: pd.DataFrame) -> timedelta | None:
    if came.empty:
        return None
    by_day = came.groupby("days")["predictions"].sum().sort_index().cumsum()
    enough = by_day[by_day >= NEARLY_ALL * by_day.iloc[-1]]
    return timedelta(days=max(int(enough.index[0]), 1))


def _sentence(
    family: ModelFamily,
    basis: Basis,
    ever: float | None,
    proposed: timedelta | None,
    by_class: Mapping[str, timedelta],
) -> str:
    configured = family.labels.maturity / timedelta(days=1)
    if proposed is None:
        what = "published night" if basis == "nights" else "label of labels.sql"
        return (
            f"no {what} is {max(HORIZONS)} days old yet, or none has labels, so no"
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
    slow = sorted(by_class.items(), key=lambda item: (-item[1], item[0]))
    apart = ""
    if len(slow) > 1 and slow[0][1] > slow[-1][1]:
        classes = ", ".join(f"{name} after {count(of.days, 'day')}" for name, of in slow)
        apart = (
            f" (by class: {classes}; judged earlier, a night has mostly the class that comes first)"
        )
    of_whom = {"nights": "predictions", "entities": "the entities"}.get(basis)
    if ever is None or of_whom is None:
        speed = (
            f"{NEARLY_ALL:.0%} of labels are known {count(days, 'day')} after what they are about"
        )
        return f"{speed}{apart}: {advice}"
    return (
        f"{ever:.1%} of {of_whom} get a label, and {NEARLY_ALL:.0%} of those have it after"
        f" {count(days, 'day')}{apart}: {advice}"
    )
