"""Telling how far work has come: while it is done, and of long work with what remains of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

from nightshift.wording import count, day

LINES = 10
"""So many lines tell of a part where there is no terminal."""


class Progress:
    """Tells what is being done while it is done, and how long it took."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def __call__(self, subject: str, doing: str, done: str) -> Iterator[None]:
        began = time.monotonic()
        with self._console.status(f"{subject}: {doing}"):
            yield
        seconds = time.monotonic() - began
        took = f"[dim]{seconds:.1f} s[/dim]" if seconds >= 0.1 else ""
        self._console.print(f"[bold]{subject:<9}[/bold] {done} {took}", highlight=False)


class Bars:
    """A bar for each part of what lives through nights, with an estimate of what remains.

    Where there is no terminal, :data:`LINES` plain lines tell of each part.
    """

    def __init__(self, console: Console, parts: Iterable[str]) -> None:
        self._console = console
        self._bars = RichProgress(
            TextColumn("{task.description:<36}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]left[/dim]"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks = {part: self._bars.add_task(part, total=None) for part in parts}
        self._done = dict.fromkeys(self._tasks, 0)
        self._began: dict[str, float] = {}
        self._said: dict[str, str] = {}

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def __call__(self, part: str, night: datetime, of: int) -> None:
        """One more night of a part, which has so many."""
        task = self._tasks[part]
        self._bars.update(task, advance=1, total=of, description=f"{part} {day(night)}")
        before = self._done[part]
        self._done[part] = done = before + 1
        self._began.setdefault(part, time.monotonic())
        if not self._console.is_terminal and done * LINES // of > before * LINES // of:
            self._console.print(f"{part}: {self.sentence(part, of)}", highlight=False)

    def say(self, part: str, what: str) -> None:
        """What becomes of a part beside its nights, unless that was just said."""
        if self._said.get(part) == what:
            return
        self._said[part] = what
        self._bars.update(self._tasks[part], description=f"{part} {what}")
        if not self._console.is_terminal:
            self._console.print(f"{part}: {what}", highlight=False)

    def sentence(self, part: str, of: int) -> str:
        """How far a part has come, and about how long the rest takes at the same pace."""
        done = self._done[part]
        so_far = f"{done:,} of {count(of, 'night')}"
        if done >= of:
            return so_far
        left = (time.monotonic() - self._began[part]) * (of - done) / max(done - 1, 1)
        return f"{so_far}, about {_duration(left)} left"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{round(seconds / 60)} min"
