"""What a night's worth of decisions looks like to whoever reads about it."""

from __future__ import annotations

import csv
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from nightshift import local, wording
from nightshift.cli.base import (
    AsJson,
    AsOf,
    Family,
    Model,
    app,
    console,
    day_of,
    moment_of,
    print_json,
    reading,
    say,
)

if TYPE_CHECKING:
    from nightshift.reports import Line

audit_app = typer.Typer(help="The audit trail of decisions.", no_args_is_help=True)
app.add_typer(audit_app, name="audit")


@app.command()
def status(
    family: Annotated[str | None, typer.Argument(help="One family; all by default.")] = None,
    state: Annotated[str | None, typer.Option(help="Only models in this state.")] = None,
    rows: Annotated[int, typer.Option(help="How many models to show, the worst first.")] = 40,
    as_json: AsJson = False,
) -> None:
    """The fleet at a glance: each model, its champion, its last metric, its last decision."""
    from nightshift import reports

    if state is not None and state not in reports.HEALTHS:
        raise typer.BadParameter(f"--state: {state!r} is none of {wording.listed(reports.HEALTHS)}")
    report = reports.status(reading(), family, models=local.site().models)
    lines = [line for line in report.lines if state in (None, line.health)]
    if as_json:
        print_json(reports.as_data(replace(report, lines=tuple(lines))))
        return
    for sentence in report.sentences:
        say(sentence)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "state", "version", "figure", "limit", "last decision"):
        right = heading in ("version", "figure", "limit")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for line in lines[:rows]:
        table.add_row(*map(escape, _cells(line)))
    console.print(table)
    if len(lines) > rows:
        more = len(lines) - rows
        say(f"and {more:,} more; --rows {len(lines)} shows all")


@app.command()
def why(
    model: Model,
    on: Annotated[
        str | None, typer.Option(help="A day (2026-11-03) or a moment; now by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """How the last decision about a model came about, from labels to what followed."""
    from nightshift import reports

    report = reports.why(reading(), model, _until(on), models=local.site().models)
    if as_json:
        print_json(reports.as_data(report))
        return
    say(
        f"{report.family}/{report.model} at {wording.moment(report.as_of)}: {report.decision}",
        style="bold",
    )
    for sentence in report.sentences:
        say(f"- {sentence}")


@app.command()
def history(model: Model, as_json: AsJson = False) -> None:
    """Everything that was decided about a model since its beginning."""
    from nightshift import reports

    report = reports.history(reading(), model)
    if as_json:
        print_json(reports.as_data(report))
        return
    for event in report.events:
        say(f"{wording.moment(event.as_of)}  {event.kind:<8} {event.sentence}")


@app.command("labels")
def label_arrivals(
    family: Family,
    as_of: AsOf = None,
    on: Annotated[
        str | None, typer.Option(help="A day, 2026-11-03: what was known when it ended.")
    ] = None,
    entities: Annotated[
        Path | None,
        typer.Option(
            help="A CSV file: entity_id, and if you like as_of, of those who would be scored."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the plot goes.")] = Path("build/labels"),
    as_json: AsJson = False,
) -> None:
    """How fast labels arrive, and the maturity that follows; before the first night as well."""
    from nightshift import reports
    from nightshift.steps import monitor as monitor_steps

    site = local.site()
    day = None if on is None else day_of(on, "--on") + timedelta(days=1)
    moment = day or moment_of(as_of) or datetime.now(UTC)
    named_entities = [] if entities is None else _listed_entities(entities)
    report = monitor_steps.label_arrivals(site, family, moment, entities=named_entities)
    file = out / f"{family}.png"
    reports.plot_arrivals(site.family(family), report.curve, report.proposed, file)
    if as_json:
        print_json(reports.as_data(report))
        return
    subjects = {"nights": "predictions", "entities": "entities"}.get(report.basis, "labels")
    say(f"{family}: the share of {subjects} whose label is known")
    table = Table()
    for heading in ("days after", "known", "nights", subjects):
        table.add_column(heading, justify="right")
    for row in report.rows:
        share = "-" if row.share is None else f"{row.share:.1%}"
        table.add_row(str(row.days), share, str(row.nights), f"{row.predictions:,}")
    console.print(table)
    say(report.sentence)
    say(f"plot: {file}")


def _listed_entities(file: Path) -> list[tuple[str, datetime | None]]:
    """The entities of a CSV file, each with its as_of where there is such a column."""
    try:
        rows = list(csv.reader(file.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise typer.BadParameter(f"--entities: {file} cannot be read: {error}") from None
    rows = [[cell.strip() for cell in row] for row in rows if any(row)]
    header = rows.pop(0) if rows and rows[0][0] == "entity_id" else ["entity_id", "as_of"]
    if not rows or header not in (["entity_id"], ["entity_id", "as_of"]):
        raise typer.BadParameter(
            f"--entities: {file} must have a line for each entity, below a first line entity_id, or"
            " entity_id,as_of"
        )
    return [(row[0], moment_of(row[1]) if len(row) > 1 and row[1] else None) for row in rows]


@audit_app.command()
def verify(
    head: Annotated[
        str | None, typer.Option(help="A hash that this command printed before.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Recompute the chain of decisions: nothing was changed, left out or cut off."""
    from nightshift import reports

    report = reports.audit(reading(), head)
    if as_json:
        print_json(reports.as_data(report))
    else:
        for fault in report.faults:
            say(fault)
        verdict = "the chain is broken" if report.faults else "the chain is whole"
        say(
            f"{wording.count(report.decisions, 'decision')}: {verdict};"
            f" its head is {report.head or 'empty'}"
        )
    if report.faults:
        raise typer.Exit(1)


def _cells(line: Line) -> tuple[str, ...]:
    name = line.family if line.model == line.family else f"{line.family}/{line.model}"
    reading = line.reading
    value = "-" if reading is None else reading.amount
    if reading is not None and reading.span:
        value += f" ({reading.span})"
    decided = (
        f"{line.decided_as_of:%m-%d} {line.decision}: {line.rule}" if line.decided_as_of else "-"
    )
    return (
        name,
        line.health,
        _versions(line),
        value,
        line.limit or "-",
        decided,
    )


def _versions(line: Line) -> str:
    serving = "-" if line.version is None else str(line.version)
    return f"{serving}, {line.shadow} in shadow" if line.shadow else serving


def _until(on: str | None) -> datetime:
    """The end of a day, or a moment; now where nothing is said."""
    if on is None:
        return datetime.now(UTC)
    if len(on) == len("2026-11-03"):
        return day_of(on, "--on") + timedelta(days=1) - timedelta(microseconds=1)
    moment = moment_of(on)
    assert moment is not None
    return moment
