"""Which nights a challenger learns from after a break, and which it is compared on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

LEAST_HOLDOUT = 5
"""Nights: fewer tell no spread between nights."""


def after_break(labels: Sequence[int], min_rows: int, holdout: int) -> tuple[int, int] | None:
    """How many of the nights since a break are learnt from, and how many are compared on.

    The first half is learnt from, the rest compared on, up to the whole ``holdout``; once that is
    proven all of them are learnt from (``promotion.refit``).

    Parameters
    ----------
    labels
        Of each matured night since the break, oldest first.
    min_rows
        As many rows are needed to learn from.

    Returns
    -------
    tuple or None
        Nights to learn from and nights to compare on; None where the rows do not suffice yet.
    """
    count = len(labels)
    compared = min(max(LEAST_HOLDOUT, (count - 1) // 2), holdout)
    learnt = count - compared
    if learnt < 1 or sum(labels[:learnt]) < min_rows:
        return None
    return learnt, compared


Moment = TypeVar("Moment", int, datetime)


def counts_as_failure(since: Moment | None, learnt_until: Moment) -> bool:
    """Whether a rejection lengthens the wait for the next try.

    It does not where the challenger had not learnt from any night since the fall: what it lacked
    comes with the nights.
    """
    return since is None or learnt_until >= since


def wait(cooldown: float, failures: int, factor: float = 2.0, most: float = 8.0) -> float:
    """The wait after a retrain, doubled with each challenger in a row that did not serve."""
    return cooldown * min(factor**failures, most)
