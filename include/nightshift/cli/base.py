"""What every command is written with: the application, its arguments, and how answers are shown."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, Protocol

import typer
from rich.console import Console
from rich.text import Text

from nightshift import local
from nightshift.errors import InternalError, NightshiftError

if TYPE_CHECKING:
    from nightshift.data import Database

app = typer.Typer(
    help="Scores every row, every night; measures when the truth arrives; replaces on proof.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()

Family = Annotated[str, typer.Argument(help="The family, as its folder is named.")]
Model = Annotated[str, typer.Argument(help="A model, or family/model.")]
AsOf = Annotated[
    str | None,
    typer.Option(help="A moment with its offset, 2026-11-03T02:00Z; the latest tick by default."),
]
AsJson = Annotated[bool, typer.Option("--json", help="The same as JSON, for programs.")]
Reason = Annotated[str, typer.Option(help="Why; it is recorded with your name.")]
By = Annotated[str | None, typer.Option(help="Who says so; you, as logged in, by default.")]


def main() -> None:
    """Run a command; every error ends as one message and exit code 1."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when scikit-learn is imported
    try:
        app()
    except InternalError as error:
        _end(f"[{error.code}] {error}. The full trace is in {_keep_trace(error)}")
    except NightshiftError as error:
        _end(f"[{error.code}] {error}")
    except Exception as error:  # whatever nobody foresaw leaves as one sentence, too
        _end(
            f"[internal] {type(error).__name__}: {error}. The full trace is in {_keep_trace(error)}"
        )


def _end(message: str) -> NoReturn:
    Console(stderr=True).print(Text.assemble(("error", "red"), f" {message}"), soft_wrap=True)
    sys.exit(1)


def _keep_trace(error: Exception) -> Path:
    """A new file with the trace of an error, for its owner's eyes only."""
    stem = f"nightshift-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-"
    handle, name = tempfile.mkstemp(prefix=stem, suffix=".trace.txt")
    with open(handle, "w", encoding="utf-8") as file:  # noqa: PTH123 - it is open already
        file.writelines(traceback.format_exception(error))
    return Path(name)


def reading() -> Database:
    """The database of this installation, which reports read."""
    from nightshift.data import connect

    return connect(local.site().database_url)


def say(sentence: object, *, style: str | None = None) -> None:
    """Print a sentence as it is: not broken into lines, no word of it taken for markup."""
    console.print(sentence, style=style, highlight=False, soft_wrap=True, markup=False)


def print_json(data: object) -> None:
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


class Reproduction(Protocol):
    """What a comparison of bytes or scores came to."""

    @property
    def sentence(self) -> str: ...


def conclude(report: Reproduction, *, holds: bool, as_json: bool) -> None:
    """Print what a comparison came to; exit code 1 where it does not hold."""
    from nightshift import reports

    if as_json:
        print_json(reports.as_data(report))
    else:
        say(report.sentence)
    if not holds:
        raise typer.Exit(1)


def moment_of(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no moment; write 2026-11-03T02:00Z") from None
    if moment.tzinfo is None:
        raise typer.BadParameter(f"{text!r} could be any time zone's; write 2026-11-03T02:00Z")
    return moment.astimezone(UTC)


def stop(number: int, _: object) -> NoReturn:
    """End the command on a signal, so that what it began is cleared away."""
    raise SystemExit(128 + number)


def day_of(text: str, option: str) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
    except ValueError:
        raise typer.BadParameter(f"{option}: {text!r} is no date; write 2026-03-14") from None


def whole_days(first: datetime, last: datetime) -> tuple[datetime, datetime]:
    """The first moment of a day and the last second of another, in UTC."""
    midnight, end = (
        moment.replace(hour=0, minute=0, second=0, microsecond=0) for moment in (first, last)
    )
    return midnight, end + timedelta(days=1) - timedelta(seconds=1)
