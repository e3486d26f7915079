"""Waiting for what comes true in time: asked again and again, with an end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def until(
    condition: Callable[[], Value], seconds: float = 60, report: Callable[[], object] = str
) -> Value:
    """Wait until something is true; what it was. ``told`` says more when it never is."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, (condition, report())
        time.sleep(0.5)
    return value
