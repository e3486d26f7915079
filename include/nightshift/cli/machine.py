"""One installation: its databases, Airflow, and whether all is in order."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from nightshift import local
from nightshift.cli.base import app, console


@app.command()
def up(
    airflow: Annotated[bool, typer.Option(help="Start Airflow as well as the databases.")] = True,
) -> None:
    """Start the embedded Postgres and Airflow; what runs already is left alone."""
    local.up(local.site(), airflow=airflow, console=console)


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
def check() -> None:
    """List every problem of every family."""
    from nightshift.steps import upkeep

    problems = upkeep.check(local.site())
    for problem in problems:
        console.print(str(problem), highlight=False, soft_wrap=True, markup=False)
    if problems:
        raise typer.Exit(1)
    console.print("every family is in order")
