"""The two families on the real flights: what they may know, and that they can learn it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from nightshift import tables, training
from nightshift.data import Bulk, Database, connect
from nightshift.demo import LoadReport, shift
from nightshift.family import ModelFamily, load_family
from nightshift.site import Site, models_folder
from nightshift.steps import night as night_steps

NAMES = ("air_time", "late_arrival")
HOUR_OF_AS_OF = time(2, tzinfo=UTC)


class Undo(Exception):
    """Ends a transaction that must leave nothing behind."""


@contextmanager
def undone(database: Database) -> Iterator[Bulk]:
    """A transaction of which nothing is kept."""
    with suppress(Undo), database.bulk() as bulk:
        yield bulk
        raise Undo


def as_of(service_date: date) -> datetime:
    """When the flights of a service date are scored: the evening before in New York."""
    return datetime.combine(service_date, HOUR_OF_AS_OF)


def in_2013(month: int, day: int, today: date) -> date:
    """Where a day of 2013 fell when the calendar moved."""
    return date(2013, month, day) + shift(today)


@pytest.fixture(params=NAMES)
def family(request: pytest.FixtureRequest, site: Site) -> ModelFamily:
    return load_family(models_folder(site.home) / request.param)


@pytest.fixture
def flights(flights_url: str) -> Iterator[Database]:
    """The flights, as the superuser."""
    database = Database(flights_url, role=None)
    yield database
    database.close()


@pytest.fixture
def night(today: date) -> datetime:
    return as_of(in_2013(6, 12, today))


def rows_of(bulk: Bulk, family: ModelFamily, moment: datetime) -> pa.Table:
    return bulk.read(family.features_sql, {"as_of": moment}).sort_by("entity_id")


def labels_of(bulk: Bulk, family: ModelFamily, since: datetime, moment: datetime) -> pa.Table:
    return bulk.read(family.labels_sql, {"since": since, "as_of": moment})


def test_a_night_scores_every_flight_of_the_next_service_date(
    flights: Database, family: ModelFamily, night: datetime
) -> None:
    with flights.bulk() as bulk:
        rows = rows_of(bulk, family, night)
        scheduled = bulk.read(
            "select flight_id from schedule where service_date = :day order by flight_id",
            {"day": night.date()},
        )
        departures = bulk.read(
            "select min(sched_departure) as first from schedule where service_date = :day",
            {"day": night.date()},
        )
    assert tables.shape_problems(rows.schema, family.features) == []
    assert rows["entity_id"].to_pylist() == scheduled["flight_id"].to_pylist()
    assert departures["first"][0].as_py() > night


def test_every_night_asks_for_its_own_service_date_also_where_clocks_change(
    flights: Database, site: Site, flights_load: LoadReport, today: date
) -> None:
    family = load_family(models_folder(site.home) / "air_time")
    days = [
        flights_load.first_service_date + timedelta(days=n)
        for n in range((today - flights_load.first_service_date).days)
    ]
    assert len(days) > 350
    with flights.bulk() as bulk:
        for day in days:
            keys = rows_of(bulk, family, as_of(day))["entity_id"].to_pylist()
            assert {key[:10] for key in keys} == {str(day)}


def test_features_are_the_same_without_all_that_became_known_later(
    flights: Database, family: ModelFamily, night: datetime
) -> None:
    with undone(flights) as bulk:
        before = rows_of(bulk, family, night)
        for table in ("actuals", "weather"):
            bulk.run(
                f"delete from replay.{table} where known_at > cast(:night as timestamptz)",
                {"night": night},
            )
        assert rows_of(bulk, family, night).equals(before)


def test_labels_are_those_that_became_known_in_the_interval(
    flights: Database, family: ModelFamily, night: datetime
) -> None:
    week, days = timedelta(days=7), [night + timedelta(days=n) for n in range(8)]
    with flights.bulk() as bulk:
        found = labels_of(bulk, family, night, night + week)
        pieces = [labels_of(bulk, family, *pair) for pair in pairwise(days)]
    assert found.column_names == ["entity_id", "value", "event_at", "known_at"]
    assert 5_500 < found.num_rows < 7_500
    known = pc.min_max(found["known_at"]).as_py()
    assert night < known["min"] <= known["max"] <= night + week
    apart = [key for piece in pieces for key in piece["entity_id"].to_pylist()]
    assert sorted(apart) == sorted(found["entity_id"].to_pylist())


def test_two_days_later_a_nights_labels_are_complete(
    flights: Database, family: ModelFamily, night: datetime
) -> None:
    later = as_of(night.date() + timedelta(days=2)) + timedelta(hours=4)
    with flights.bulk() as bulk:
        asked = set(rows_of(bulk, family, night)["entity_id"].to_pylist())
        by_then = set(labels_of(bulk, family, night, later)["entity_id"].to_pylist())
        ever = set(
            labels_of(bulk, family, night, later + timedelta(days=30))["entity_id"].to_pylist()
        )
    assert asked & by_then == asked & ever
    assert len(asked & ever) > 0.9 * len(asked)


def test_queries_find_their_rows_by_index(
    flights_url: str, family: ModelFamily, night: datetime
) -> None:
    engine = create_engine(flights_url, poolclass=NullPool)
    with engine.connect() as connection:
        for sql in (family.features_sql, family.labels_sql):
            moments = {"as_of": night, "since": night - timedelta(days=7)}
            wanted = {name: moments[name] for name in moments if f":{name}" in sql}
            plan = [row[0] for row in connection.execute(text(f"explain {sql}"), wanted)]
            assert not [line for line in plan if "Seq Scan" in line]


def test_the_pipeline_learns_and_predicts_also_what_it_has_never_seen(
    flights: Database, family: ModelFamily, night: datetime
) -> None:
    with flights.bulk() as bulk:
        table = pa.concat_tables(
            rows_of(bulk, family, night - timedelta(days=days)) for days in range(3, 10)
        )
        labels = labels_of(bulk, family, night - timedelta(days=10), night).to_pandas()
        asked = rows_of(bulk, family, night)
    rows = tables.frame(table, family.features)
    known = pd.Series(table["entity_id"].to_pylist()).map(labels.set_index("entity_id")["value"])
    learned = known.notna()
    first, second = (training.build(family).fit(rows[learned], known[learned]) for _ in range(2))

    tonight = tables.frame(asked, family.features)
    tonight.loc[0, family.features.categorical] = "ZZZ"
    tonight.loc[1, family.features.categorical] = None
    tonight.loc[2, family.features.numeric] = np.nan
    scores = first.predict(tonight)
    assert len(scores) == asked.num_rows
    assert np.isfinite(scores).all()
    assert (scores == second.predict(tonight)).all()


def test_air_time_beats_the_mean_by_far(flights: Database, site: Site, night: datetime) -> None:
    family = load_family(models_folder(site.home) / "air_time")
    with flights.bulk() as bulk:
        train = pa.concat_tables(
            rows_of(bulk, family, night - timedelta(days=days)) for days in range(3, 10)
        )
        asked = rows_of(bulk, family, night)
        values = labels_of(
            bulk, family, night - timedelta(days=10), night + timedelta(days=2)
        ).to_pandas()
    truth = values.set_index("entity_id")["value"]
    known = pd.Series(train["entity_id"].to_pylist()).map(truth)
    model = training.build(family).fit(
        tables.frame(train, family.features)[known.notna()], known.dropna()
    )
    tonight = pd.Series(asked["entity_id"].to_pylist()).map(truth)
    error = (model.predict(tables.frame(asked, family.features)) - tonight).abs().mean()
    assert error < 0.2 * (tonight - known.mean()).abs().mean()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_expected_holds_also_on_odd_nights(
    site: Site, flights_url: str, flights_load: LoadReport, today: date, name: str
) -> None:
    """The first night on record, the blizzard of February, the change of clocks, Thanksgiving."""
    odd = [
        flights_load.first_service_date,
        in_2013(2, 9, today),
        in_2013(3, 10, today),
        in_2013(11, 28, today),
    ]
    flown = replace(site, sources={"warehouse": flights_url})
    now = datetime.now(UTC)
    for service_date in odd:
        snapshot_id = night_steps.freeze(flown, name, as_of(service_date), now=now)
        validation_id = night_steps.validate(flown, snapshot_id, now=now)
        with connect(flown.database_url).transaction() as tx:
            judged = tx.one("validation.latest", snapshot_id=snapshot_id)
        assert (judged.validation_id, judged.verdict) == (validation_id, "passed")
