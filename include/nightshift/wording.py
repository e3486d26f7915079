"""How things are said: moments, counts, figures, lists; each in one way, in one place."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime


def moment(value: datetime, *, seconds: bool = False) -> str:
    """A moment in UTC: ``2026-10-29 02:00Z``, with ``seconds`` ``2026-10-29 02:00:07Z``."""
    shape = "%Y-%m-%d %H:%M:%SZ" if seconds else "%Y-%m-%d %H:%MZ"
    return value.astimezone(UTC).strftime(shape)


def day(value: datetime) -> str:
    """The day of a moment, in UTC: ``2026-10-29``."""
    return value.astimezone(UTC).strftime("%Y-%m-%d")


def count(number: float, noun: str, plural: str | None = None) -> str:
    """So many of something: ``1 night``, ``1,200 rows``, ``2.5 days``, ``2 families``."""
    figure = f"{number:,}" if isinstance(number, int) else f"{number:,g}"
    return f"{figure} {noun if number == 1 else plural or noun + 's'}"


def listed(names: Iterable[object], most: int | None = None, *, last: str = "and") -> str:
    """Names in a sentence: ``a, b and c``; beyond ``most`` of them ``a, b and 3 more``.

    ``none`` where there are none.
    """
    words = [str(name) for name in names]
    if most is not None and len(words) > most:
        words = [*words[:most], f"{len(words) - most:,} more"]
    if len(words) < 2:
        return words[0] if words else "none"
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def near(name: str, accepted: Iterable[str], most: int = 1) -> list[str]:
    """What may have been meant by an unknown name, the nearest first."""
    return difflib.get_close_matches(name, sorted(accepted), n=most)


def nearest(name: str, accepted: Iterable[str], most: int = 1) -> str:
    """A hint at what was meant by an unknown name; empty where nothing is near."""
    close = near(name, accepted, most)
    return f" (did you mean {listed(map(repr, close), last='or')}?)" if close else ""


DIGITS = 3
"""Significant digits of a figure; more where fewer would not tell it from its limit."""

_MOST_DIGITS = 17

_NAMES = {
    "roc_auc": "ROC AUC",
    "roc_auc_ovr": "ROC AUC, one class against the rest",
    "r2": "R\N{SUPERSCRIPT TWO}",
    "f1": "F1",
    "matthews_corrcoef": "Matthews correlation",
}


def figure(value: float, digits: int = DIGITS) -> str:
    """A number as people read it: ``9.41``, ``0.605``, ``12,346``, ``-0.5``; never ``1.23e+04``.

    Whole numbers are written out; of others so many significant digits, without zeros at the end.
    """
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return str(value)
    if value and not 1e-6 <= abs(value) < 1e15:
        return f"{value:.{digits - 1}e}"
    place = math.floor(math.log10(abs(value))) if value else 0
    text = f"{value:,.{max(digits - 1 - place, 0)}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def figures(values: Sequence[float], limit: float | None = None) -> list[str]:
    """Numbers that stand beside each other, with as many digits as tell each from the limit.

    The limit itself comes last. What reads as ``8`` is not above ``8``: a figure lies on the side
    of the limit on which it reads.
    """
    beside = [*values] if limit is None else [*values, limit]
    for digits in range(DIGITS, _MOST_DIGITS + 1):
        texts = [figure(float(value), digits) for value in beside]
        if limit is None or all(
            (value == limit) == (text == texts[-1])
            for value, text in zip(values, texts, strict=False)
        ):
            break
    return texts


def share(value: float) -> str:
    """A fraction in percent: ``15%``, ``0.4%``; 0% and 100% only where it is nothing or all."""
    percent = abs(value) * 100
    if 99.9 < percent < 100:
        return "over 99.9%"
    if 99 < percent < 100:
        return f"{math.floor(percent * 10) / 10:g}%"
    return f"{figure(float(percent), 2 if percent >= 1 else 1)}%"


@dataclass(frozen=True)
class Reading:
    """A value as it is read: alone, with its unit, its limit, its interval; empty where untold."""

    figure: str
    amount: str
    limit: str
    span: str

    def __str__(self) -> str:
        """The value beside its limit: ``9.4 minutes of error, limit 8``."""
        return f"{self.amount}, {self.limit}" if self.limit else self.amount


@dataclass(frozen=True)
class Gauge:
    """How the figures of a metric are read aloud: their direction, their name, their unit.

    scikit-learn's scorers are greater where they are better, so they keep errors below zero. People
    think of an error of 9.4 minutes and of a limit of 8. Whatever is shown or said of a metric goes
    through here; what is stored, and what programs are given, are the scorer's own values.

    Parameters
    ----------
    metric
        The name of a scikit-learn scorer.
    say_as
        The family's own words for its figures, ``performance.say_as``: ``minutes of error``.
    """

    metric: str
    say_as: str | None = None

    @property
    def is_error(self) -> bool:
        """Whether less of it is better, as people read it."""
        return self.metric.startswith("neg_")

    @property
    def name(self) -> str:
        """What it is called: ``minutes of error``, ``mean absolute error``, ``ROC AUC``."""
        if self.say_as:
            return self.say_as
        name = self.metric.removeprefix("neg_")
        return _NAMES.get(name, name.replace("_", " "))

    @property
    def limit_word(self) -> str:
        """What its threshold is called: an error has a limit, a score a minimum."""
        return "limit" if self.is_error else "minimum"

    @property
    def direction(self) -> str:
        """Which way is better, in a sentence."""
        return "Less is better." if self.is_error else "More is better."

    def shown(self, value: float) -> float:
        """The value in the direction in which people think of it."""
        return 0.0 - value if self.is_error else value

    def figure(self, value: float) -> str:
        """The value alone, in the direction in which people think of it."""
        return figure(float(self.shown(value)))

    def amount(self, value: float) -> str:
        """The value with its unit: ``9.4 minutes of error``, ``ROC AUC 0.605``."""
        return self._named(self.figure(value))

    def limit(self, threshold: float) -> str:
        """The threshold: ``limit 8``, ``minimum 0.62``."""
        return f"{self.limit_word} {self.figure(threshold)}"

    def reading(
        self,
        value: float,
        threshold: float | None = None,
        low: float | None = None,
        high: float | None = None,
    ) -> Reading:
        """A value, its threshold and its interval: what stands side by side is read together."""
        ends = [] if low is None or high is None else sorted((self.shown(low), self.shown(high)))
        limit = None if threshold is None else float(self.shown(threshold))
        number, *texts = figures([float(self.shown(value)), *map(float, ends)], limit)
        return Reading(
            number,
            self._named(number),
            "" if limit is None else f"{self.limit_word} {texts.pop()}",
            " to ".join(texts),
        )

    def side(self, value: float, threshold: float, *, sure: bool) -> str:
        """On which side of its threshold a value lies: ``surely above it``, ``below it``."""
        if value == threshold:
            return "at it"
        side = "above it" if self.shown(value) > self.shown(threshold) else "below it"
        if value > threshold:
            return side
        return f"surely {side}" if sure else f"{side}, not surely"

    def span(self, low: float, high: float) -> str:
        """An interval, the smaller end first: ``8.9 to 9.9``."""
        return " to ".join(figures(sorted((float(self.shown(low)), float(self.shown(high))))))

    def change(self, difference: float, before: float) -> str:
        """What a difference of the metric amounts to: ``15% better``, ``0.032 worse``.

        Of an error it is a share of what it was before, in percent.
        """
        if not difference:
            return "no better"
        side = "better" if difference > 0 else "worse"
        if self.is_error and before < 0:
            return f"{share(difference / before)} {side}"
        return f"{figure(abs(float(difference)))} {side}"

    def instead(self, after: float, before: float) -> str:
        """A value and the one it replaces: ``7.6 instead of 8.8 minutes of error``."""
        now, then = figures([self.shown(after)], self.shown(before))
        return self._named(f"{now} instead of {then}")

    def by(self, difference: float) -> str:
        """A difference, whichever way: ``1.2 minutes of error``, ``0.03 in ROC AUC``."""
        text = figure(abs(float(difference)))
        return f"{text} {self.say_as}" if self.say_as else f"{text} in {self.name}"

    def _named(self, text: str) -> str:
        return f"{text} {self.say_as}" if self.say_as else f"{self.name} {text}"
