"""Whether labels come as usual, for a family and for each of its parts: models, slices.

A night is counted once, when it has just matured: how many of its predictions have a label then.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from nightshift.data import Database
from nightshift.family import ModelFamily
from nightshift.wording import moment

LATELY = timedelta(days=2)
"""The monitorings whose nights are judged together: one feed that is late alarms nobody."""

USUAL = timedelta(days=28)
"""The monitorings before, which say what is usual."""

FEWEST_BEFORE = 5
"""With fewer monitorings before, nothing is usual yet."""

HALF = 0.5
"""Labels have dwindled where they are fewer than this fraction of what is usual."""

FEWEST_MISSING = 10
"""With fewer labels missing than this nothing is said."""

DEVIATIONS = 5.0
"""By how many standard deviations of a count labels must fall short of what calm nights have: by
chance alone none of a thousand parts does so in years."""

IRREGULAR = 2
"""A part whose labels dwindled so often before, and came again, has them so by nature: as one whose
labels pause at weekends."""

NAMED = 10
"""How many parts a sentence names; the others are counted."""


@dataclass(frozen=True)
class Matured:
    """The nights that matured between two monitorings: predictions, and how many have a label."""

    as_of: datetime
    predictions: int
    labels: int


@dataclass(frozen=True)
class Dwindled:
    """A part whose labels are fewer than usual; ``usual`` is the share that has a label else."""

    predictions: int
    labels: int
    usual: float

    @property
    def share(self) -> float:
        """The share that has a label now, 0 to 1."""
        return self.labels / self.predictions

    def below(self, required: float | None) -> bool:
        """Whether that is too little for what is usual, and enough labels to speak of."""
        half = HALF * self.usual
        level = half if required is None or self.usual < required else max(half, required)
        missing = self.usual * self.predictions - self.labels
        return self.share < level and missing >= FEWEST_MISSING

    def by_chance(self, calm: Sequence[Matured]) -> bool:
        """Whether chance may make labels so few, as many as there are in calm times."""
        share = sum(m.labels for m in calm) / max(sum(m.predictions for m in calm), 1)
        expected = share * self.predictions
        return expected - self.labels < DEVIATIONS * math.sqrt(expected * (1 - share))

    def __str__(self) -> str:
        return (
            f"{self.labels:,} of {self.predictions:,} have a label ({self.share:.0%}), usually"
            f" {self.usual:.0%}"
        )


def dwindled(monitorings: Sequence[Matured], required: float | None = None) -> Dwindled | None:
    """Whether the labels of a part have dwindled by its latest monitoring; None where not.

    They have where the nights that matured in the last two days have less than half of the labels
    that are usual, or less than are required where that is usual. Usual is what the better
    quarter of monitorings had in the four weeks before.

    Parameters
    ----------
    monitorings
        Those of a part, oldest first.
    required
        The share of labels, 0 to 1, without which it cannot be judged; None where nothing is
        judged by it.
    """
    counted = [monitoring for monitoring in monitorings if monitoring.predictions]
    if not counted:
        return None
    now = counted[-1].as_of
    before = [m for m in counted if now - LATELY - USUAL < m.as_of <= now - LATELY]
    if len(before) < FEWEST_BEFORE:
        return None
    shares = sorted(m.labels / m.predictions for m in before)
    usual = shares[math.ceil(0.75 * len(shares)) - 1]
    recent = [m for m in counted if m.as_of > now - LATELY - USUAL]
    windows = [Dwindled(*_lately(counted, m.as_of), usual) for m in recent]
    low = [fewer.below(required) for fewer in windows]
    episodes = sum(1 for is_low, _ in groupby(low) if is_low)
    if not low[-1] or episodes > IRREGULAR:
        return None
    calm = [m for m, is_low in zip(recent, low, strict=True) if not is_low and m in before]
    return None if windows[-1].by_chance(calm) else windows[-1]


def _lately(counted: Sequence[Matured], as_of: datetime) -> tuple[int, int]:
    """The predictions of the nights that had matured lately at a monitoring, and their labels."""
    span = [m for m in counted if as_of - LATELY < m.as_of <= as_of]
    return sum(m.predictions for m in span), sum(m.labels for m in span)


def fewer_labels(database: Database, family: ModelFamily, as_of: datetime) -> str | None:
    """A sentence where fewer labels came than usual: of all models, of some, or of some slices."""
    with database.transaction() as tx:
        rows = tx.rows(
            "monitoring.matured",
            family=family.family,
            metric=family.performance.metric,
            since=as_of - LATELY - USUAL,
            as_of=as_of,
        )
    whole, parts = _of_parts(rows, family)
    required = family.labels.min_coverage
    everywhere = dwindled(whole, required)
    short = {
        name: fewer
        for name, monitorings in parts.items()
        if monitorings[-1].as_of == as_of
        and (fewer := dwindled(monitorings, None if "=" in name else required)) is not None
        and (everywhere is None or fewer.share < HALF * everywhere.share)
    }
    if everywhere is None and not short:
        return None
    sentences = [f"{everywhere}" if everywhere else "most have their labels"]
    sentences += [
        f"{name}: {fewer}" for name, fewer in sorted(short.items(), key=_fewest_first)[:NAMED]
    ]
    if len(short) > NAMED:
        sentences.append(f"and {len(short) - NAMED:,} more")
    return (
        f"{family.family}: of the predictions that matured since {moment(as_of - LATELY)},"
        f" {'; '.join(sentences)}. Look at what {family.folder / 'labels.sql'} reads from the"
        f" source {family.source.connection!r}"
    )


def _fewest_first(part: tuple[str, Dwindled]) -> tuple[float, str]:
    name, fewer = part
    return fewer.share, name


def _of_parts(
    rows: Iterable[Any], family: ModelFamily
) -> tuple[list[Matured], dict[str, list[Matured]]]:
    """All rows of a family, and those of its models, and of each slice; by monitoring."""
    counts: dict[str, dict[datetime, Matured]] = defaultdict(dict)
    for row in rows:
        if family.models is not None and family.is_whole(row.model):
            continue  # what the fallback scores belongs to members
        names = [row.slice] if row.slice else ["", row.model]
        for name in names if family.models is not None else names[:1]:
            before = counts[name].get(row.as_of, Matured(row.as_of, 0, 0))
            counts[name][row.as_of] = Matured(
                row.as_of, before.predictions + row.predictions, before.labels + row.labels
            )
    series = {name: [of[at] for at in sorted(of)] for name, of in counts.items()}
    return series.pop("", []), series
