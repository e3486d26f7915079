"""What is made for pages on the server: sparklines, heat maps, whiskers, bars, differences."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nightshift.wording import Gauge

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
"""The heights of a sparkline, lowest first; ``-`` is a night without a value."""

MANY = 8
"""From how many entries on a list of a manifest is told in short."""

TOP = len(LETTERS) - 1
STEPS = 5

STATES: Mapping[str, str] = {"awaiting": "awaiting approval"}
"""The states whose words are not their names."""

NOTHING = "\N{EN DASH}"
"""What stands where there is no value."""


def spark(points: Sequence[float | None], threshold: float | None, gauge: Gauge) -> str:
    """A sparkline in one letter a night, the first letter for the threshold; an error goes up.

    Thousands of them fit a page; a script draws those that are looked at.
    """
    heights = [shown(value, gauge) for value in (threshold, *points)]
    values = [height for height in heights if height is not None]
    if not values:
        return ""
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 1, high + 1
    scale = TOP / (high - low)
    return "".join(
        [
            "-" if height is None else LETTERS[int((height - low) * scale + 0.5)]
            for height in heights
        ]
    )


@dataclass(frozen=True)
class Cell:
    """One night of one feature: where it is, how strong (0 to 4), at which level."""

    x: int
    step: int
    level: str
    value: float
    as_of: datetime


@dataclass(frozen=True)
class Strip:
    """One row of a heat map."""

    signal: str
    feature: str
    y: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Heat:
    """A heat map: its strips, and where the nights that are named stand."""

    strips: tuple[Strip, ...]
    nights: tuple[tuple[int, datetime], ...]
    width: int
    height: int


def heat(signals: Iterable[Mapping[str, Any]], order: Sequence[str]) -> Heat:
    """What was watched, by feature and night; strips that were always zero are left out.

    Strengths are relative to 0.5, beyond which distances and shares are as strong as can be told.
    """
    rows = list(signals)
    nights = sorted({row["as_of"] for row in rows})
    place = {night: number for number, night in enumerate(nights)}
    by_strip: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        by_strip.setdefault((row["signal"], row["feature"]), []).append(row)
    keys = sorted(
        (key for key, own in by_strip.items() if "drift" in key[0] or any(r["value"] for r in own)),
        key=lambda key: (order.index(key[0]), key[1]),
    )
    strips = tuple(
        Strip(
            *key,
            y,
            tuple(
                Cell(place[r["as_of"]], _step(r["value"]), r["level"], r["value"], r["as_of"])
                for r in by_strip[key]
            ),
        )
        for y, key in enumerate(keys)
    )
    every = max(len(nights) // 6, 1)
    named = tuple((place[night], night) for night in nights[::every])
    return Heat(strips, named, len(nights), len(strips))


def _step(value: float) -> int:
    return min(int(abs(value) / 0.5 * STEPS), STEPS - 1) if value else 0


@dataclass(frozen=True)
class Scale:
    """Values to places from 0 to 100."""

    low: float
    high: float

    def __call__(self, value: float) -> float:
        width = self.high - self.low
        return round((value - self.low) / width * 100, 2) if width else 50.0


def scale(values: Iterable[float | None]) -> Scale:
    """A scale on which all of the values have a place."""
    present = [value for value in values if value is not None]
    return Scale(min(present), max(present)) if present else Scale(0.0, 0.0)


def shown(value: float | None, gauge: Gauge) -> float | None:
    """A value in the direction in which people think of it."""
    return None if value is None else gauge.shown(value)


def chart(
    measured: Sequence[Mapping[str, Any]],
    estimated: Sequence[Mapping[str, Any]],
    changes: Iterable[Mapping[str, Any]],
    gauge: Gauge,
) -> dict[str, Any]:
    """What the script draws: the metric with its interval, labels, and what happened when.

    Times are seconds since 1970; estimates have times of their own. A night without a value is a
    gap. ``marks`` are (time, kind, version). Figures are those that people think of: an error lies
    above zero, and ``low`` is the smaller end of its interval.
    """
    ends = ("high", "low") if gauge.is_error else ("low", "high")
    places = {"value": "value", "low": ends[0], "high": ends[1], "threshold": "threshold"}
    figures = {
        name: [shown(row[place], gauge) for row in measured] for name, place in places.items()
    }
    return {
        "metric": gauge.name if measured or estimated else None,
        "limit": gauge.limit_word,
        "error": gauge.is_error,
        "time": [row["as_of"].timestamp() for row in measured],
        **figures,
        **{name: [row[name] for row in measured] for name in ("state", "predictions", "labels")},
        "estimated": {
            "time": [row["as_of"].timestamp() for row in estimated],
            "value": [shown(row["value"], gauge) for row in estimated],
        },
        "marks": [_mark(change) for change in changes],
    }


def _mark(change: Mapping[str, Any]) -> tuple[float, str, int | None]:
    moment = change["effective_from"] or change["as_of"]
    return moment.timestamp(), change["kind"], change["version"]


def as_json(value: Any) -> str:
    """JSON for people who read it."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def difference(older: Mapping[str, Any], newer: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Where two manifests differ: (place, older, newer), long lists by their length."""
    sides = [dict(_flat(side["manifest"])) for side in (older, newer)]
    places = dict.fromkeys([*sides[0], *sides[1]])
    return [
        (place, sides[0].get(place, NOTHING), sides[1].get(place, NOTHING))
        for place in places
        if sides[0].get(place) != sides[1].get(place)
    ]


def _flat(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every value with its place; what has many entries is told by their number, sum or ends."""
    entries = list(value.values()) if isinstance(value, dict) else value
    if isinstance(entries, list) and len(entries) > MANY and not _nested(entries):
        ends = f"sum {sum(entries):,.6g}" if _numbers(entries) else f"{entries[0]} to {entries[-1]}"
        yield place, f"{len(entries):,} values, {ends}"
    elif isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list) and _nested(value):
        for number, inner in enumerate(value):
            named = inner.get("name", number) if isinstance(inner, dict) else number
            yield from _flat(inner, f"{place}.{named}")
    else:
        yield place, value if isinstance(value, str) else json.dumps(value)


def _nested(values: Iterable[Any]) -> bool:
    return any(isinstance(value, dict | list) for value in values)


def _numbers(values: Iterable[Any]) -> bool:
    return all(isinstance(value, int | float) for value in values)
