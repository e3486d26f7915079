"""Placeholder by the lead: the helper who owns this file overwrites it whole."""

from collections.abc import Sequence

from nightshift.records import Night, Reference, Shift


def shift(
    nights: Sequence[Night],
    threshold: float,
    reference: Reference | None,
    *,
    false_alarms: float,
    nights_per_year: float = 365.0,
) -> Shift:
    return Shift(0.0, 9.0, None)
