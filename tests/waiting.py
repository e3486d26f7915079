"""Waiting for what comes true in time: asked again and again, with an end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def until(
    condition: Callable[[], Found], seconds: float = 60, told: Callable[[], object] = str
) -> Found:
    """Wait until something is true; what it was. ``told`` says more when it never is."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, (condition, told())
        time.sleep(0.5)
    return found
