"""What a person sees who is asked whether a challenger may serve."""

from __future__ import annotations

from collections.abc import Sequence

from nightshift.records import Comparison, Decision
from nightshift.wording import Gauge, figure, moment, share


def evidence(comparison: Comparison, verdict: Decision, gauge: Gauge) -> str:
    """A comparison and the verdict on it, in Markdown, its figures as people think of them."""
    start, end = comparison.holdout_start, comparison.holdout_end
    before = ("the champion", _shown(gauge, comparison.champion_value), None, None)
    if comparison.guess is not None:
        before = ("guessing the same for all", _shown(gauge, comparison.guess), None, None)
    versions = [before] + [
        (f"version {c.number} ({c.kind})", _shown(gauge, c.value), c.difference, c.low)
        for c in comparison.candidates
    ]
    slices = [(s.slice, s.rows, s.difference, s.high) for s in comparison.slices]
    cases = comparison.border_cases
    sides = (cases.champion_value, cases.challenger_value) if cases else ()
    border = [(cases.rows, *(_shown(gauge, side) for side in sides))] if cases else []
    tables = (
        (("version", gauge.name, "better by", "at least"), versions),
        (("slice", "rows", "better by", "at most"), slices),
        (("border cases", "champion", "challenger"), border),
    )
    paragraphs = [
        f"**{verdict.rule}**: {verdict.reason}",
        f"Compared on {comparison.row_count:,} rows that nobody has learnt from: the nights after"
        f" {moment(start)} until {moment(end)}{_coverage(comparison)}.",
        *(_table(heading, rows) for heading, rows in tables if rows),
    ]
    return "\n\n".join(paragraphs)


def _coverage(comparison: Comparison) -> str:
    """How much of what could be known is known, of the nights compared on and learnt from."""
    if comparison.coverage is None:
        return ""
    learnt = comparison.learnt_coverage
    before = "" if learnt is None else f", and {share(learnt)} of what it has learnt from"
    return f"; {share(comparison.coverage)} of their rows have labels{before}"


def _shown(gauge: Gauge, value: float | None) -> float | None:
    return None if value is None else gauge.shown(value)


def _table(heading: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [heading, ["---"] * len(heading), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return figure(value)
    # A slice is what the data say.
    return "-" if value is None else " ".join(str(value).replace("|", "\\|").split())
