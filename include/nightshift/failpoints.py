"""Named places at which a test may hold a process, or end it.

Nothing but Python code in the same process can set the hook: no variable, file or option is read,
so a running installation has no way to switch one on. Off, a place costs one comparison.
"""

from __future__ import annotations

from collections.abc import Callable

_hook: Callable[[str], None] | None = None


def reach(name: str) -> None:
    """Say that the place ``<room>.<what has just happened>`` is reached."""
    if _hook is not None:
        _hook(name)
