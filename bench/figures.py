"""How a benchmark tells its figures: a table, and a file that a machine reads."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from scipy.stats import beta

OUT = Path("build/bench")


@dataclass(frozen=True)
class Figure:
    """A value between a low and a high one; ``bar`` is what it must keep to, if it must."""

    figure: str
    value: float
    low: float
    high: float
    unit: str
    bar: float | None = None
    holds: bool | None = None


def figure(
    name: str,
    values: Sequence[float],
    unit: str,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    value: float | None = None,
    low: float | None = None,
) -> Figure:
    """The median of some values between the least and the greatest, and if it keeps to its bar.

    Parameters
    ----------
    at_most, at_least
        The bar; one of them, or none.
    value, low
        Instead of the median, and of the least.
    """
    middle = statistics.median(values) if value is None else value
    holds = None
    if at_most is not None:
        holds = middle <= at_most
    elif at_least is not None:
        holds = middle >= at_least
    least = min(values) if low is None else low
    bar = at_least if at_most is None else at_most
    return Figure(name, middle, least, max(values), unit, bar, holds)


def share(
    name: str,
    hits: int,
    of: int,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Figure:
    """A share with its 95% interval of Clopper and Pearson."""
    low = float(beta.ppf(0.025, hits, of - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, of - hits)) if hits < of else 1.0
    return figure(
        name, [high], "share", at_most=at_most, at_least=at_least, value=hits / of, low=low
    )


def tell(
    title: str, figures: Sequence[Figure], target: str, *, before: Sequence[dict[str, Any]] = ()
) -> None:
    """Print the figures, and write them into ``build/bench/<target>.json``.

    ``before`` are those of another such file, to be printed beside.
    """
    earlier = {row["figure"]: row["value"] for row in before}
    table = Table(title=title)
    for heading in ("figure", "value", "low", "high", "unit", "bar", "holds"):
        table.add_column(heading, justify="left" if heading in ("figure", "unit") else "right")
    if before:
        table.add_column("before", justify="right")
    for row in figures:
        numbers = (f"{number:,.4g}" for number in (row.value, row.low, row.high))
        bar = "" if row.bar is None else f"{row.bar:,g}"
        last = [f"{earlier[row.figure]:,.4g}" if row.figure in earlier else ""] if before else []
        table.add_row(row.figure, *numbers, row.unit, bar, _WORDS[row.holds], *last)
    Console(width=130).print(table)
    OUT.mkdir(parents=True, exist_ok=True)
    values = [asdict(row) for row in figures]
    (OUT / f"{target}.json").write_text(json.dumps(values, indent=2) + "\n")


_WORDS = {None: "", True: "yes", False: "NO"}
