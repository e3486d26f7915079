"""Which data, how often, what threshold: many configurations of a family side by side."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from nightshift import local, wording
from nightshift.cli.base import Family, app, console, day_of, say, stop, whole_days

if TYPE_CHECKING:
    from nightshift.tuning import Line, Report
    from nightshift.tuning import Progress as Shown

PARTS = 10
"""Without a terminal so many lines tell how far each stage has come."""


@app.command()
def tune(
    family: Family,
    start: Annotated[
        str, typer.Option("--from", help="The first night, 2026-03-14, or how long before --to.")
    ],
    end: Annotated[
        str | None, typer.Option("--to", help="The last night; last night if left out.")
    ] = None,
    window: Annotated[
        list[str] | None,
        typer.Option(help="Nights to learn from, P60D; more than one. Proposed if left out."),
    ] = None,
    mix: Annotated[
        list[str] | None,
        typer.Option(help="A window, the past before it, and its share of rows: P30D,P180D,0.3."),
    ] = None,
    every: Annotated[str, typer.Option(help="How long after a version the next one ends.")] = "P7D",
    always: Annotated[
        bool, typer.Option("--always", help="Fit every night as well, to be held against; slow.")
    ] = False,
    compare: Annotated[
        list[Path] | None, typer.Option(help="Another model.yaml to be set beside.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the CSV and the plot go.")] = Path("build/tune"),
) -> None:
    """Which data to train on, how often, and what threshold: lines for model.yaml, and their gain.

    Many configurations live through past nights on versions that are fitted once. What is
    recommended is chosen on the first half of the nights and judged on the second.
    """
    from nightshift import tuning

    site = local.site()
    own = site.family(family)
    last = day_of(end, "--to") if end else own.previous_tick(datetime.now(UTC))
    before = tuning.duration(start, "from") if start.startswith("P") else None
    first = last - before if before else day_of(start, "--from")
    if first >= last:
        raise typer.BadParameter(f"--from: {start} is not before {wording.day(last)} (--to)")
    question = tuning.Question(
        *whole_days(first, last),
        windows=window or (),
        mixes=mix or (),
        every=tuning.duration(every, "every"),
        always=always,
        beside=[tuning.read(file, own) for file in compare or ()],
    )
    # Whoever stops the command stops its workers, too, and leaves no database behind.
    signal.signal(signal.SIGTERM, stop)
    with _progress() as show:
        report = tuning.tune(
            site,
            family,
            question,
            folder=site.state / "tuning" / family,
            make_database=lambda name, template: local.fresh_database(site, name, template),
            drop_database=lambda name: local.drop_database(site, name),
            progress=show,
        )
    _print(report, out)


@contextmanager
def _progress() -> Iterator[Shown]:
    if not console.is_terminal:
        yield _show_line
        return
    columns = (
        TextColumn("{task.description:<16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield show


def _show_line(what: str, done: int, total: int) -> None:
    step = max(total // PARTS, 1)
    if done % step == 0 or done == total:
        typer.echo(f"{what}: {done} of {total}")


def _print(report: Report, out: Path) -> None:
    import pandas as pd

    from nightshift import reports

    family, name = report.family, report.family.family
    halves = (
        f"{wording.day(report.start)} to {wording.day(report.middle)}",
        f"{wording.day(report.middle)} to {wording.day(report.end)}",
    )
    title = f"{name}: {family.performance.metric}, greater is better"
    table = Table(title=f"{title}\nchosen on {halves[0]}, judged on {halves[1]}")
    for heading in ("policy", "first half", "second half", "fits", "promotions", "below"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    kinds = ("yardstick", "configuration")
    for outcome in sorted(report.outcomes, key=lambda o: (kinds.index(o.kind), -o.value)):
        chosen = outcome.policy == report.recommended
        figures = (outcome.chosen_on, outcome.value)
        cells = [outcome.policy, *(f"{value:.4g}" for value in figures)]
        counts = [outcome.fits, outcome.promotions, outcome.below]
        cells += [str(count) for count in counts]
        table.add_row(*cells, style="bold" if chosen else None)
    console.print(table)
    if not report.lines:
        say(f"Keep {family.folder / 'model.yaml'} as it is: no change won enough on the first half")
    for line in report.lines:
        _print_line(line, family.performance.metric)
    out.mkdir(parents=True, exist_ok=True)
    frame = pd.concat([o.nights.assign(policy=o.policy) for o in report.outcomes])
    frame.to_csv(out / f"{name}.csv", index=False)
    reports.plot_tuning(report, out / f"{name}.png")
    say(f"by night: {out / f'{name}.csv'}, {out / f'{name}.png'}")


def _print_line(line: Line, metric: str) -> None:
    sentence = f"{line.question}: {metric} {line.gain:+.3g} on the second half"
    if line.low is None or line.high is None:
        sentence += f"; too few nights for an interval ({wording.count(line.blocks, 'block')})"
    else:
        sentence += (
            f" ({line.low:+.3g} to {line.high:+.3g}, 95% over {line.blocks} blocks of"
            f" {line.block_nights} nights)"
        )
        if line.low <= 0:
            sentence += "; that may be chance"
    say(sentence)
    for written in line.lines:
        say(f"  {written}")
