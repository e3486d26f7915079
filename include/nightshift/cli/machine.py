"""One installation: its databases, Airflow, and whether all is in order."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from nightshift import local, project
from nightshift.cli.base import AsJson, app, console, print_json, say
from nightshift.site import Site
from nightshift.wording import count, listed

if TYPE_CHECKING:
    from nightshift.steps.checking import Finding


@app.command()
def up(
    airflow: Annotated[bool, typer.Option(help="Start Airflow as well as the databases.")] = True,
) -> None:
    """Start the embedded Postgres and Airflow; what runs already is left alone."""
    site = local.site()
    local.up(site, airflow=airflow, console=console)
    console.print(f"Readers   {local.psql_command(site)}", highlight=False, soft_wrap=True)


@app.command()
def down() -> None:
    """Stop what `up` started, and nothing else. The data stays."""
    local.down(local.site(), console=console)


@app.command()
def prepare() -> None:
    """Migrate both databases and import the pools, for a deployment that runs Airflow itself."""
    local.prepare(local.site(), console=console)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def airflow(context: typer.Context) -> None:
    """Airflow's own command line, in this installation: nightshift airflow dags list."""
    sys.exit(local.airflow(local.site(), context.args))


@app.command()
def check(
    families: Annotated[
        list[str] | None, typer.Argument(help="Whose source is asked; of every family by default.")
    ] = None,
    source: Annotated[
        bool, typer.Option("--source", help="Ask the sources too: columns, rows, keys, labels.")
    ] = False,
) -> None:
    """List every problem of every family, and what of the project to renew after an upgrade."""
    from nightshift.family import family_folders
    from nightshift.steps import checking, upkeep

    if families and not source:
        raise typer.BadParameter("families are named for --source only; without it all are checked")
    site = local.site()
    problems = [str(problem) for problem in upkeep.check(site)]
    stale = project.outdated(site.home)
    if stale is not None:
        problems += [_stale(site, stale)]
    for problem in problems:
        say(problem)
    findings: list[Finding] = []
    if source:
        names = families or checking.loadable(site)
        findings = checking.check_source(site, names, now=datetime.now(UTC))
        _print_findings(findings)
    for sentence in [*upkeep.waiting(site), *upkeep.blind_spots(site, now=datetime.now(UTC))]:
        say(sentence)
    if problems or any(finding.problem for finding in findings):
        raise typer.Exit(1)
    there = len(family_folders(site.models))
    order = "every family is in order" if there else f"there is no family in {site.models} yet"
    say(order)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Examine this installation: what is wrong, and what to do; exit code 1 where something is."""
    from nightshift import doctor as doctors

    site = local.site()
    examination = doctors.examine(site, local.metadata_url(site), now=datetime.now(UTC))
    if as_json:
        print_json(
            {
                "at": examination.at.isoformat(),
                "examined": list(examination.examined),
                "findings": [asdict(finding) for finding in examination.findings],
            }
        )
    else:
        for finding in examination.findings:
            console.print(Text.assemble((finding.check, "red"), f" {finding.subject}"))
            say(f"  {finding.sentence}")
            say(f"  -> {finding.remedy}")
        number = len(examination.findings)
        verdict = f"{count(number, 'thing')} to mend" if number else "nothing to mend"
        checks = ", ".join(examination.examined)
        say(f"{verdict}; examined: {checks}")
    if examination.findings:
        raise typer.Exit(1)


def _print_findings(findings: Sequence[Finding]) -> None:
    table = Table("", "family", "about", "what the source says")
    for finding in findings:
        mark = Text("mend", "red") if finding.problem else Text("ok", "green")
        table.add_row(mark, *map(Text, (finding.family, finding.subject, finding.sentence)))
    console.print(table)


def _stale(site: Site, renewal: project.Renewal) -> str:
    which = f" {listed(renewal.renewed)}" if renewal.renewed else " the note of its version"
    return (
        f"{site.home}: made by nightshift {renewal.made_by}, and {renewal.installed} is installed;"
        f" to renew{which}: nightshift init --renew {site.home}"
    )
