"""The ticks of a schedule, in UTC, as Airflow has them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from croniter import croniter


def previous_tick(cron: str, timezone: str, moment: datetime) -> datetime:
    """The latest tick of ``cron`` in ``timezone`` at or before the aware ``moment``, in UTC."""
    zone = ZoneInfo(timezone)
    # No clock is put back by more than two hours, so this tick is surely past: go on from there.
    wall = moment.astimezone(zone).replace(tzinfo=None) - timedelta(hours=2)
    tick = _in_utc(croniter(cron, wall).get_prev(datetime), zone)
    while (following := next_tick(cron, timezone, tick)) <= moment:
        tick = following
    return tick


def next_tick(cron: str, timezone: str, moment: datetime) -> datetime:
    """The first tick of ``cron`` in ``timezone`` after the aware ``moment``, in UTC.

    When clocks change, ticks are Airflow's: a schedule that runs every hour goes on by elapsed
    time; another one takes the second of two equal wall times, and moves a skipped one past the
    gap.
    """
    zone = ZoneInfo(timezone)
    wall = moment.astimezone(zone).replace(tzinfo=None)
    iterator = croniter(cron, wall)
    tick: datetime = iterator.get_next(datetime)
    if iterator.expanded[1] == ["*"]:
        return moment.astimezone(UTC) + (tick - wall)
    return _in_utc(tick, zone)


@cache
def ticks_per_year(cron: str, timezone: str) -> float:
    """How often ``cron`` ticks in a year, from its next thousand ticks or its next year."""
    start = tick = datetime(2026, 1, 1, tzinfo=UTC)
    count, year = 0, timedelta(days=365)
    while count < 1000 and tick - start < year:
        tick, count = next_tick(cron, timezone, tick), count + 1
    return count * (year / (tick - start))


def _in_utc(wall: datetime, zone: ZoneInfo) -> datetime:
    return max(wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
