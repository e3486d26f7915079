"""Pictures of what other rooms found; matplotlib is imported where one is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nightshift.family import ModelFamily
from nightshift.wording import Gauge, count

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY, DARK = "#0072B2", "#D55E00", "#999999", "#555555"
_STYLES = {
    "never": (GREY, "-"),
    "as-configured": (BLUE, "-"),
    "weekly": (ORANGE, "--"),
    "always": (ORANGE, "--"),
}
"""Colour and line of a policy."""


class Arrival(Protocol):
    """How many labels are known so many days after a night."""

    @property
    def days(self) -> int: ...
    @property
    def share(self) -> float | None: ...
    @property
    def by_class(self) -> Mapping[str, float]: ...


class Outcome(Protocol):
    """What a policy came to; ``nights`` has the columns ``as_of``, ``value`` and ``versions``."""

    @property
    def policy(self) -> str: ...
    @property
    def value(self) -> float: ...
    @property
    def fits(self) -> int: ...
    @property
    def nights(self) -> pd.DataFrame: ...


def plot_arrivals(
    family: ModelFamily, curve: Sequence[Arrival], proposed: timedelta | None, file: Path
) -> None:
    """How fast labels arrive, with the maturity that is configured and the one proposed."""
    figure, axes = _figure(9, 4.5)
    reached = [arrival for arrival in curve if arrival.share is not None]
    days = [float(arrival.days) for arrival in reached]
    shares = [arrival.share or 0.0 for arrival in reached]
    axes.plot(days, shares, color=BLUE, label="of all predictions")
    classes = sorted(reached[0].by_class if reached else ())
    for style, name in zip(("--", ":", "-."), classes, strict=False):
        of_class = [arrival.by_class.get(name, math.nan) for arrival in reached]
        axes.plot(days, of_class, style, color=DARK, label=f"of class {name}, if it came")
    configured = family.labels.maturity / timedelta(days=1)
    axes.axvline(configured, color=ORANGE, label=f"labels.maturity, {count(configured, 'day')}")
    if proposed is not None:
        after = proposed / timedelta(days=1)
        axes.axvline(after, color=GREY, linestyle="--", label=f"proposed, {count(after, 'day')}")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("days after the night")
    axes.set_ylabel("share of labels known")
    axes.set_title(f"{family.family}: how fast labels arrive")
    axes.legend(loc="lower right", fontsize=9)
    _save(figure, file)


def plot_policies(family: ModelFamily, outcomes: Sequence[Outcome], file: Path) -> None:
    """The metric by night, a week's running mean, one line for each policy; promotions as dots."""
    figure, axes = _figure(11, 5)
    gauge = family.performance.gauge()
    for outcome in outcomes:
        nights = outcome.nights.set_index("as_of")
        smooth = _weekly(outcome, gauge)
        colour, line = _STYLES[outcome.policy]
        label = f"{outcome.policy}: {gauge.figure(outcome.value)}, {count(outcome.fits, 'fit')}"
        axes.plot(smooth.index, smooth, color=colour, linestyle=line, label=label)
        if outcome.policy == "as-configured":
            new = nights["versions"].ne(nights["versions"].shift()).iloc[1:]
            at = smooth.iloc[1:][new]
            if family.models is None:
                axes.plot(at.index, at, "o", color=colour, label="a new champion's first night")
    threshold = family.performance.threshold
    if threshold is not None:
        label = gauge.limit(threshold)
        axes.axhline(
            gauge.shown(threshold), color="black", linewidth=0.8, linestyle=":", label=label
        )
    axes.set_ylabel(f"{gauge.name}, mean of 7 nights")
    axes.set_title(f"{family.family}: what retraining wins. {gauge.direction}")
    axes.legend(loc="lower left", fontsize=9)
    _save(figure, file)


class Tuning(Protocol):
    """What a tuning found; each outcome is of one policy, judged on the nights after ``middle``."""

    @property
    def family(self) -> ModelFamily: ...
    @property
    def middle(self) -> datetime: ...
    @property
    def outcomes(self) -> Sequence[Tuned]: ...
    @property
    def recommended(self) -> str: ...


class Tuned(Outcome, Protocol):
    """What one policy came to on the second half, and what kind it is."""

    @property
    def kind(self) -> str: ...


def plot_tuning(report: Tuning, file: Path) -> None:
    """What each policy came to against what it cost, and the metric by night of those that matter.

    Left the second half, a point for each policy; right a week's running mean by night.
    """
    figure = _blank(13, 5)
    costs, nights = figure.subplots(1, 2, width_ratios=(2, 3))
    named = {report.recommended: ORANGE, "as-configured": BLUE}
    gauge = report.family.performance.gauge()
    for outcome in report.outcomes:
        yardstick = outcome.kind == "yardstick"
        colour = named.get(outcome.policy, DARK if yardstick else GREY)
        worth = gauge.shown(outcome.value)
        costs.plot(outcome.fits, worth, "D" if yardstick else "o", color=colour)
        if yardstick or outcome.policy in named:
            costs.annotate(f" {outcome.policy}", (outcome.fits, worth), fontsize=8, color=colour)
        if outcome.policy in named or yardstick:
            smooth = _weekly(outcome, gauge)
            line = "--" if yardstick else "-"
            nights.plot(
                smooth.index,
                smooth,
                line,
                color=named.get(outcome.policy),
                linewidth=1.2,
                label=f"{outcome.policy}: {gauge.figure(outcome.value)}",
            )
    nights.axvline(report.middle, color="black", linewidth=0.8, linestyle=":")
    costs.set_xlabel("fits in the second half")
    costs.set_ylabel(f"{gauge.name} over the second half")
    nights.set_ylabel(f"{gauge.name}, mean of 7 nights")
    nights.set_title(f"{report.family.family}: chosen left of the line, judged right of it")
    nights.legend(fontsize=8)
    _save(figure, file)


def _weekly(outcome: Outcome, gauge: Gauge) -> pd.Series:
    """The metric by night as people read it, a week's running mean."""
    values = outcome.nights.set_index("as_of")["value"].map(gauge.shown)
    return values.rolling(7, min_periods=1).mean()


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = _blank(width, height)
    return figure, figure.subplots()


def _blank(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Figure, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
