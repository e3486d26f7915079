"""How a benchmark tells its figures: a table, and a file that a machine reads."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

OUT = Path("build/bench")

HEADINGS = ("figure", "value", "low", "high", "unit", "bar", "holds")


def figure(
    name: str,
    values: Sequence[float],
    unit: str,
    *,
    bar: float | None = None,
    value: float | None = None,
) -> dict[str, Any]:
    """The median of some values between the least and the greatest, and if it keeps to its bar.

    Parameters
    ----------
    bar
        What the value may be at most.
    value
        Instead of the median.
    """
    told = statistics.median(values) if value is None else value
    return {
        "figure": name, "value": told, "low": min(values), "high": max(values), "unit": unit,
        "bar": bar, "holds": None if bar is None else told <= bar,
    }  # fmt: skip


def tell(title: str, figures: Sequence[dict[str, Any]], target: str) -> None:
    """Print the figures, and write them into ``build/bench/<target>.json``."""
    table = Table(title=title)
    for heading in HEADINGS:
        table.add_column(heading)
    for one in figures:
        numbers = (f"{one[key]:,.4g}" for key in ("value", "low", "high"))
        bar = "" if one["bar"] is None else f"at most {one['bar']:g}"
        holds = "" if one["holds"] is None else ("yes" if one["holds"] else "no")
        table.add_row(one["figure"], *numbers, one["unit"], bar, holds)
    Console().print(table)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{target}.json").write_text(json.dumps(list(figures), indent=2) + "\n")
