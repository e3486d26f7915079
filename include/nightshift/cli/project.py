"""A project: begun in an empty folder, renewed after an upgrade."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nightshift import project
from nightshift.cli.base import app, say

_NEXT = """\
{files} files. Next:{enter}
  nightshift up --no-airflow
  nightshift check
  nightshift train late_delivery
  nightshift score late_delivery"""


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where; the current folder by default.")] = Path(),
    renew: Annotated[
        bool, typer.Option("--renew", help="After an upgrade: renew what you did not change.")
    ] = False,
) -> None:
    """Begin a project in an empty folder, with one small family that runs as it is."""
    if renew:
        show_renewal(project.renew(folder))
        return
    paths = project.begin(folder)
    enter = "" if folder.resolve() == Path.cwd() else f"\n  cd {folder}"
    sentence = (
        f"{folder.resolve().name} is a project of {_NEXT.format(files=len(paths), enter=enter)}"
    )
    say(sentence)


def show_renewal(renewal: project.Renewal) -> None:
    """Say what was renewed, and what was left to its owner."""
    for path in renewal.renewed:
        say(f"renewed     {path}")
    for path in renewal.left_alone:
        line = f"left alone  {path}: yours differs from what was written, and so does the new one"
        say(line)
    if not renewal.renewed:
        say(f"nothing to renew; the project is of {renewal.installed}")
