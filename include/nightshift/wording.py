"""How things are said: moments, counts, lists, near matches; each in one way, in one place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
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
