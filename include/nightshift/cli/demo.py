"""The demonstration on real flights."""

from __future__ import annotations

from datetime import UTC, date, datetime

import typer

from nightshift import local
from nightshift.cli.base import app, console, say

demo_app = typer.Typer(help="Load the flights, live through half a year, run one cycle in Airflow.")
app.add_typer(demo_app, name="demo")


@demo_app.command("load")
def demo_load() -> None:
    """Fill the warehouse with the flights of 2013, moved to end last night."""
    from nightshift import demo

    site = local.site()
    with console.status("flights"):
        report = demo.load(local.warehouse_url(site), today=_today(), progress=console.print)
    say(report)


@demo_app.callback(invoke_without_command=True)
def demo_all(context: typer.Context) -> None:
    """Load the flights, live through half a year, start Airflow, run one cycle by its scheduler."""
    if context.invoked_subcommand is None:
        from nightshift import demo

        demo.run(local.site(), now=datetime.now(UTC), console=console)


def _today() -> date:
    return datetime.now(UTC).date()
