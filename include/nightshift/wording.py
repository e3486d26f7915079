"""How things are said: each in one way, in one place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, accepted: Iterable[str]) -> str:
    """A hint at what was meant by an unknown name; empty where nothing is near."""
    close = difflib.get_close_matches(name, list(accepted), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
