"""The flights of 2013 as a source: moved by whole weeks, complete, and silent about the future."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.pool import NullPool

from nightshift import demo
from nightshift.demo import LAST_RECORDED, LoadReport, flights, shift
from nightshift.errors import SetupError
from nightshift.local import session

RECORDED_FLIGHTS = 336_776
CANCELLED_OR_DIVERTED = 9_430
FIRST_RECORDED = date(2013, 1, 1)

CONTENTS = """
select (select row(count(*), sum(hashtextextended(cast(s as text), 0))) from schedule s),
       (select row(count(*), sum(hashtextextended(cast(a as text), 0))) from replay.actuals a),
       (select row(count(*), sum(hashtextextended(cast(w as text), 0))) from replay.weather w),
       (select row(count(*), sum(hashtextextended(cast(p as text), 0))) from planes p),
       (select row(count(*), sum(hashtextextended(cast(p as text), 0))) from airports p),
       (select row(shift_days, loaded_on) from replay.anchor)
"""


def ask(url: str, sql: str, **parameters: Any) -> Any:
    """The only row of a query: its value, or its values where there are several."""
    with session(url) as connection:
        row = connection.execute(text(sql), parameters).one()
    return row[0] if len(row) == 1 else tuple(row)


@pytest.mark.parametrize("days", range(7))
def test_whole_weeks_bring_the_last_recorded_day_to_yesterday_or_the_days_after(days: int) -> None:
    today = date(2026, 11, 16) + timedelta(days=days)
    moved = LAST_RECORDED + shift(today)
    assert shift(today).days % 7 == 0
    assert timedelta(0) <= moved - (today - timedelta(days=1)) < timedelta(days=7)


def test_a_load_says_what_it_wrote(flights_load: LoadReport, today: date) -> None:
    # The first day of the history has no evening before it on record.
    assert flights_load.first_service_date == FIRST_RECORDED + shift(today) + timedelta(days=1)
    assert flights_load.last_history_date == today - timedelta(days=1)
    assert flights_load.scheduled_until == today + timedelta(weeks=53)
    assert flights_load.added > 2 * RECORDED_FLIGHTS
    assert str(flights_load).startswith(f"{flights_load.added:,} flights loaded: history ")


def test_every_recorded_flight_is_there(flights_url: str, today: date) -> None:
    until = LAST_RECORDED + shift(today)
    flights, landed = ask(
        flights_url,
        "select count(*), count(a.flight_id) from schedule left join replay.actuals a"
        " using (flight_id) where service_date <= :until",
        until=until,
    )
    assert (flights, flights - landed) == (RECORDED_FLIGHTS, CANCELLED_OR_DIVERTED)


def test_a_flight_keeps_what_was_recorded(flights_url: str, today: date) -> None:
    """UA 1545 of 1 January 2013: 5:15 to 8:19 in Houston, 2 minutes late off, 11 late in."""
    day = FIRST_RECORDED + shift(today)
    flight = f"{day}/UA1545/EWR/0515"
    found = ask(
        flights_url,
        "select service_date, carrier, flight, origin, dest, distance, air_time, arrival_delay,"
        " tail_number, sched_arrival - sched_departure, departed_at - sched_departure"
        " from schedule join replay.actuals using (flight_id) where flight_id = :flight",
        flight=flight,
    )
    block, off = timedelta(hours=4, minutes=4), timedelta(minutes=2)
    assert found == (day, "UA", 1545, "EWR", "IAH", 1400, 227, 11, "N14228", block, off)


def test_departures_keep_new_yorks_wall_clock_on_both_sides_of_daylight_saving(
    flights_url: str,
) -> None:
    moved, offsets = ask(
        flights_url,
        """
        select count(*) filter (
                   where to_char(local, 'YYYY-MM-DD/HH24MI')
                         <> to_char(service_date, 'YYYY-MM-DD/') || right(flight_id, 4)),
               array_agg(distinct extract(hour from sched_departure at time zone 'UTC' - local))
        from schedule
        cross join lateral (select sched_departure at time zone 'America/New_York' as local) clock
        """,
    )
    assert moved == 0
    assert {int(hours) for hours in offsets} == {4, 5}


def test_weekdays_stay(flights_url: str, today: date) -> None:
    """Saturdays had the fewest flights in 2013, by far; they still have."""
    quietest = ask(
        flights_url,
        "select extract(isodow from service_date) from schedule"
        " group by 1 order by count(*) limit 1",
    )
    assert quietest == 6


def test_no_flight_is_longer_or_shorter_than_it_was(flights_url: str) -> None:
    """Nor does daylight saving, which differs between the years and the places, bend one."""
    assert ask(
        flights_url,
        """
        select count(*) filter (where known_at <> landed_at),
               count(*) filter (where landed_at <= departed_at),
               count(*) filter (where landed_at - departed_at < make_interval(mins => air_time)),
               count(*) filter (
                   where landed_at - sched_arrival <> make_interval(mins => arrival_delay))
        from schedule join replay.actuals using (flight_id)
        """,
    ) == (0, 0, 0, 0)
    shortest, longest = ask(
        flights_url,
        "select min(sched_arrival - sched_departure), max(sched_arrival - sched_departure)"
        " from schedule",
    )
    assert (shortest, longest) == (timedelta(minutes=50), timedelta(minutes=700))


def test_the_schedule_goes_on_as_it_was_52_weeks_before(flights_url: str, today: date) -> None:
    recorded_until = LAST_RECORDED + shift(today)
    assert (
        ask(
            flights_url,
            """
            select count(*)
            from (select substr(flight_id, 11) as flight, service_date, dest from schedule
                  where service_date between :start and :until) late
            full join (select substr(flight_id, 11) as flight, service_date + 364 as service_date,
                              dest
                       from schedule
                       where service_date + 364 between :start and :until) early
                using (flight, service_date)
            where early.dest is distinct from late.dest
            """,
            start=recorded_until + timedelta(days=1),
            until=recorded_until + timedelta(days=14),
        )
        == 0
    )


def test_what_has_not_happened_is_not_to_be_seen(flights_url: str, today: date) -> None:
    for view in ("actuals", "weather"):
        seen, written, unseen = ask(
            flights_url,
            f"select (select count(*) from {view}), (select count(*) from replay.{view}),"
            f" (select count(*) from {view} where known_at > now())",
        )
        assert unseen == 0
        assert 0 < seen < written
    tomorrow = today + timedelta(days=1)
    flights = "select count(*) from schedule where service_date = :day"
    assert ask(flights_url, flights, day=tomorrow) > 600


def test_a_reader_cannot_look_behind_the_views(flights_url: str) -> None:
    engine = create_engine(flights_url, poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("create role passer_by"))
        connection.execute(text("set local role passer_by"))
        for table in ("schedule", "actuals", "weather", "planes", "airports"):
            connection.execute(text(f"select 1 from {table} limit 1")).one()
        with pytest.raises(ProgrammingError, match="permission denied for schema replay"):
            connection.execute(text("select 1 from replay.actuals"))


def test_every_destination_is_an_airport(flights_url: str) -> None:
    unknown = "select count(*) from schedule where dest not in (select airport from airports)"
    assert ask(flights_url, unknown) == 0


def test_a_second_load_changes_nothing_and_says_so(
    flights_load: LoadReport, new_database: Callable[..., str], today: date
) -> None:
    url = new_database("flights")
    before = ask(url, CONTENTS)
    again = demo.load(url, today=today + timedelta(days=3))
    assert again.added == 0
    assert str(again).startswith("already loaded, nothing changed: history ")
    assert again.scheduled_until == flights_load.scheduled_until
    assert ask(url, CONTENTS) == before


def test_a_load_with_less_than_half_a_year_ahead_extends_the_schedule(
    flights_load: LoadReport, new_database: Callable[..., str], today: date
) -> None:
    url = new_database("flights")
    anchor = ask(url, "select shift_days, loaded_on from replay.anchor")
    later = today + timedelta(weeks=28)
    again = demo.load(url, today=later)
    assert again.added > 0
    assert again.scheduled_until == later + timedelta(weeks=53)
    assert ask(url, "select shift_days, loaded_on from replay.anchor") == anchor
    assert ask(url, "select max(known_at) from replay.weather") > datetime(
        later.year, later.month, later.day, tzinfo=UTC
    ) + timedelta(weeks=52)


def test_without_the_package_nothing_is_loaded(
    warehouse_url: str, today: date, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flights, "PACKAGE", "nycflights1913")
    with pytest.raises(SetupError, match="the package nycflights1913, which is not installed"):
        demo.load(warehouse_url, today=today)
    assert ask(warehouse_url, "select to_regclass('replay.anchor')") is None


def test_an_incomplete_package_is_named(
    warehouse_url: str, today: date, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flights, "RECORDS", ("trains.csv",))
    with pytest.raises(SetupError, match=r"trains\.csv is missing; `pip install"):
        demo.load(warehouse_url, today=today)
