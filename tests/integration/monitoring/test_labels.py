"""Labels have two times: what was known on a day stays known, whatever reaches the source later."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Row
from tests.world import FAMILY, Kept, World

from nightshift import monitoring, reports
from nightshift.data import Database, connect, query_text
from nightshift.errors import LabelsError, NightshiftError, SourceError
from nightshift.local import session
from nightshift.monitoring import Arrivals, Collected
from nightshift.sources import Names, open_source
from nightshift.steps import monitor

MONITORING = timedelta(hours=4)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NIGHTS = (10, 11, 12)  # those of the fixture `judged` that are published
MEASURED = """
select as_of, version_id, state, value, low, high, predictions, labels, nights
from nightshift.measurements order by as_of, version_id
"""
KEPT = """
select entity_id, value, event_at, known_at, stated_at from nightshift.labels
order by entity_id, known_at, stated_at, value collate "C"
"""
WAITING = """
select pid from pg_locks join pg_database on pg_database.oid = database
where locktype = 'advisory' and not granted and datname = current_database()
"""

# A label is (number of the entity, night, value, hours after the night at which it is stated).
Label = tuple[int, int, int, int]
Known = dict[str, str]


@pytest.fixture
def judged(world: World, kept: Kept) -> World:
    """Three published nights and not one label, neither collected nor in the source."""
    kept.world("judged", world, publish_nights)
    forget(world)
    return world


def publish_nights(world: World) -> None:
    world.train(9)
    for number in NIGHTS:
        assert world.score(number)


def forget(world: World) -> None:
    """Back to no label at all, between the examples of a property."""
    world.source("truncate truths")
    administer(
        world, "truncate nightshift.labels, nightshift.label_collections, nightshift.measurements"
    )


def administer(world: World, sql: str) -> None:
    with session(world.site.database_url) as connection:
        connection.exec_driver_sql(sql)


def entity(world: World, number: int, night: int) -> str:
    return f"{world.night(night):%Y%m%d}-{number}"


def state(world: World, stated: Iterable[Label]) -> None:
    """Labels reach the source, each with the moment at which the source says it was known."""
    rows = [
        f"('{entity(world, number, night)}', timestamptz '{world.night(night).isoformat()}',"
        f" timestamptz '{(world.night(night) + hours * HOUR).isoformat()}', {value})"
        for number, night, value, hours in stated
    ]
    if rows:
        world.source(
            "insert into truths (entity_id, night, known_at, value) values " + ", ".join(rows)
        )


def day(world: World, number: int) -> datetime:
    """When a day is asked about: with the monitoring after its night."""
    return world.night(number) + MONITORING


def collect(world: World, number: int) -> Collected:
    return monitor.collect_labels(world.site, FAMILY, day(world, number), now=day(world, number))


def known(world: World, number: int) -> Known:
    """The winning label of every published prediction, as known on a day."""
    start, end = world.night(NIGHTS[0] - 1), world.night(NIGHTS[-1])
    rows = monitoring.outcomes(
        nightshift(world), world.site.family(FAMILY), start, end, day(world, number)
    )
    told = rows[rows["value"].notna()]
    return dict(zip(told["entity_id"], told["value"], strict=True))


def nightshift(world: World) -> Database:
    return connect(world.site.database_url)


def measured_again(world: World, *numbers: int) -> list[Row[tuple[object, ...]]]:
    """Days measured anew, years later, as if they had not been."""
    administer(world, "truncate nightshift.measurements")
    for number in numbers:
        monitor.measure(world.site, FAMILY, day(world, number), now=world.night(999))
    return world.rows(MEASURED)


# What a collection counts -------------------------------------------------------------------------

FIRST: Label = (7, 10, 5, 12)
COUNTS: dict[str, tuple[list[Label], Collected]] = {
    "the same": ([], Collected(1, 0, 1, 0, 0, 0)),
    "there twice": ([FIRST], Collected(2, 0, 2, 0, 0, 0)),
    "stated again": ([(7, 10, 5, 30)], Collected(2, 1, 1, 0, 0, 0)),
    "corrected": ([(7, 10, 6, 30)], Collected(2, 1, 1, 1, 0, 0)),
    "corrected, there twice": ([(7, 10, 6, 30), (7, 10, 6, 30)], Collected(3, 1, 2, 1, 0, 0)),
    "corrected and back": ([(7, 10, 6, 30), (7, 10, 5, 31)], Collected(3, 2, 1, 2, 0, 0)),
    "contradicted": ([(7, 10, 6, 12)], Collected(2, 1, 1, 0, 1, 1)),
    "outdated, late": ([(7, 10, 6, 11)], Collected(2, 1, 1, 0, 0, 1)),
    "another one, late": ([(8, 10, 6, 12)], Collected(2, 1, 1, 0, 0, 1)),
    "two at odds": ([(7, 10, 6, 30), (7, 10, 8, 30)], Collected(3, 2, 1, 1, 2, 0)),
    "not known yet": ([(7, 10, 6, 300)], Collected(1, 0, 1, 0, 0, 0)),
}


def test_what_a_collection_counts(world: World) -> None:
    for name, (second, expected) in COUNTS.items():
        forget(world)
        state(world, [FIRST])
        assert collect(world, 11) == Collected(1, 1, 0, 0, 0, 0), name
        state(world, second)
        assert collect(world, 12) == expected, name
        on_record = world.rows(
            "select found, added, duplicates, corrections, contradictions, late, set_aside"
            " from nightshift.label_collections order by collection_id"
        )[-1]
        assert on_record._asdict() == asdict(expected), name
        assert len(world.rows(KEPT)) == 1 + expected.added, name


def test_two_collections_at_once_add_every_label_once(world: World) -> None:
    with ThreadPoolExecutor(2) as pool:
        with nightshift(world).bulk() as third:
            third.read(query_text("labels.lock"), {"family": FAMILY})
            begun = [pool.submit(collect, world, 12) for _ in range(2)]
            give_up = time.monotonic() + 20
            while len(world.rows(WAITING)) < 2:
                assert time.monotonic() < give_up, "a collection does not wait for another one"
        both = [collection.result() for collection in begun]
    assert sorted(found.added for found in both) == [0, both[0].found]
    assert len(world.rows(KEPT)) == both[0].found == both[1].found
    assert {found.late for found in both} == {0}


def test_labels_of_several_nights_of_an_entity_do_not_correct_each_other(world: World) -> None:
    world.configure(labels={"per": "entity_and_as_of"})
    world.write(
        "labels.sql",
        "select 'machine' as entity_id, value, night as event_at, known_at, night as as_of"
        " from truths where known_at > :since and known_at <= :as_of and entity_id ~ '-30$'",
    )
    world.source("update truths set value = value + extract(day from night)")
    found = collect(world, 12)
    assert (found.added, found.corrections, found.contradictions) == (12, 0, 0)


# Which label wins ---------------------------------------------------------------------------------


def test_the_latest_known_wins_and_then_the_greater_text_in_whatever_order_they_came(
    judged: World,
) -> None:
    later: list[Label] = [(7, 10, 5, 12), (7, 10, 6, 20)]
    at_odds: list[Label] = [(7, 10, 10, 12), (7, 10, 2, 12)]
    for stated, winner in ((later, "6"), (at_odds, "2")):
        for order in (stated, stated[::-1]):
            forget(judged)
            state(judged, order)
            collect(judged, 12)
            assert known(judged, 12) == {entity(judged, 7, 10): winner}, order


def test_of_two_that_reached_us_together_the_one_stated_last_wins(judged: World) -> None:
    late: list[Label] = [(7, 10, 9, 12), (7, 10, 6, 20)]
    for order in (late, late[::-1]):
        forget(judged)
        collect(judged, 12)
        state(judged, order)
        collect(judged, 13)
        assert {row.known_at for row in judged.rows(KEPT)} == {day(judged, 13)}, order
        assert known(judged, 13) == {entity(judged, 7, 10): "6"}, order


def test_a_late_label_never_outdoes_one_that_the_source_stated_after_it(judged: World) -> None:
    state(judged, [(7, 10, 6, 20)])
    collect(judged, 12)
    state(judged, [(7, 10, 9, 12)])
    collect(judged, 13)
    assert known(judged, 13) == {entity(judged, 7, 10): "6"}


# Late labels --------------------------------------------------------------------------------------


def test_a_late_label_is_known_from_its_collection_on(judged: World) -> None:
    state(judged, [(7, 10, 5, 12)])
    collect(judged, 12)
    state(judged, [(8, 10, 5, 13)])
    assert collect(judged, 13).late == 1
    on_time, late = judged.rows(KEPT)
    assert late.stated_at == judged.night(10) + 13 * HOUR
    assert late.known_at == day(judged, 13)
    assert known(judged, 12) == {on_time.entity_id: "5"}
    assert known(judged, 13) == {on_time.entity_id: "5", late.entity_id: "5"}


def test_asking_about_a_day_again_changes_nothing_that_was_known_on_any(judged: World) -> None:
    for again in (11, 13):
        forget(judged)
        collect(judged, 11)
        collect(judged, 13)
        state(judged, [(7, 10, 5, 12)])
        assert collect(judged, again).late == 1
        assert [known(judged, number) for number in (11, 12, 13)] == [{}, {}, {}]
        assert known(judged, 14) == {entity(judged, 7, 10): "5"}


def test_what_was_never_asked_about_is_known_since_the_source_says(judged: World) -> None:
    collect(judged, 30)
    state(judged, [(7, 10, 5, 12)])
    assert collect(judged, 12).late == 0
    assert [row.known_at for row in judged.rows(KEPT)] == [judged.night(10) + 12 * HOUR]


def test_a_day_measured_again_after_late_labels_and_corrections_gives_the_same(
    judged: World,
) -> None:
    everyone = range(1, 31)
    state(judged, [(number, 10, number + 3, 12) for number in everyone])
    state(judged, [(number, 11, number + 4, 12) for number in everyone if number % 5])
    judged.monitor(12)
    before = judged.rows(MEASURED)
    assert {(row.state, row.predictions, row.labels) for row in before} == {("measured", 60, 54)}

    state(judged, [(number, 11, 500, 13) for number in everyone])
    state(judged, [(number, 10, -500, 12) for number in everyone])
    state(judged, [(number, 12, number + 3, 12) for number in everyone])
    found = collect(judged, 13)
    assert (found.added, found.late, found.corrections) == (90, 60, 24)

    monitor.measure(judged.site, FAMILY, day(judged, 12), now=judged.night(20))
    assert judged.rows(MEASURED) == before
    assert measured_again(judged, 12) == before
    assert {row.value < -200 for row in measured_again(judged, 13)} == {True}


# Properties ---------------------------------------------------------------------------------------

PROPERTY = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
DAYS = st.integers(11, 15)
# Few moments, so that labels meet. None lies before the first that any collection asks about.
HOURS = st.sampled_from([5, 12, 29, 30, 60, 90])
LABEL = st.tuples(st.integers(1, 2), st.sampled_from(NIGHTS), st.sampled_from([2, 10, 11]), HOURS)
SOME = st.lists(LABEL, max_size=5)


def expected(world: World, stated: Sequence[Label], number: int) -> Known:
    """The rule in Python, where every label was in its source in time."""
    best: dict[str, tuple[datetime, str]] = {}
    for who, night, value, hours in stated:
        moment = world.night(night) + hours * HOUR
        if moment <= day(world, number):
            name = entity(world, who, night)
            best[name] = max(best.get(name, (moment, "")), (moment, str(value)))
    return {name: value for name, (_, value) in best.items()}


@PROPERTY
@given(waves=st.lists(st.tuples(SOME, DAYS), min_size=2, max_size=6))
def test_what_was_known_on_a_day_never_changes_after_its_collection(
    judged: World, waves: list[tuple[list[Label], int]]
) -> None:
    forget(judged)
    told: dict[int, Known] = {}
    for stated, number in waves:
        state(judged, stated)
        collect(judged, number)
        told.setdefault(number, known(judged, number))
        assert {asked: known(judged, asked) for asked in told} == told


@PROPERTY
@given(
    stated=st.lists(LABEL, min_size=1, max_size=10),
    days=st.sets(DAYS, min_size=1, max_size=4),
    data=st.data(),
)
def test_the_order_of_labels_and_how_often_they_are_collected_do_not_matter(
    judged: World, stated: list[Label], days: set[int], data: st.DataObject
) -> None:
    outcomes = []
    for order in (stated, data.draw(st.permutations(stated))):
        forget(judged)
        state(judged, order)
        counted = [collect(judged, number) for number in sorted(days)]
        assert [found.late for found in counted] == [0] * len(days)
        for number in range(NIGHTS[0], max(days) + 1):
            assert known(judged, number) == expected(judged, stated, number)
        outcomes.append((counted, judged.rows(KEPT)))
    assert outcomes[0] == outcomes[1]


# All labels of a night at once: (which third of the entities, or all; night; how wrong; hours).
WAVE = st.tuples(
    st.sampled_from([None, 0, 1, 2]),
    st.sampled_from(NIGHTS),
    st.integers(-9, 9),
    HOURS,
)
Wave = tuple[int | None, int, int, int]


def state_waves(world: World, waves: Iterable[Wave]) -> None:
    state(
        world,
        [
            (number, night, number + 3 + wrong, hours)
            for third, night, wrong, hours in waves
            for number in range(1, 31)
            if third is None or number % 3 == third
        ],
    )


@PROPERTY
@given(
    first=st.lists(WAVE, max_size=3),
    later=st.lists(st.tuples(st.lists(WAVE, min_size=1, max_size=2), DAYS), min_size=1, max_size=3),
    in_time=st.booleans(),
)
def test_no_later_label_undoes_a_measurement(
    judged: World, first: list[Wave], later: list[tuple[list[Wave], int]], in_time: bool
) -> None:
    forget(judged)
    if in_time:  # or hardly anything would ever be measured
        state_waves(judged, [(None, night, 1, 5) for night in NIGHTS])
    state_waves(judged, first)
    collect(judged, 13)
    monitor.measure(judged.site, FAMILY, day(judged, 13), now=day(judged, 13))
    before = judged.rows(MEASURED)
    assert not in_time or before[0].state in ("measured", "breached")
    for waves, number in later:
        state_waves(judged, waves)
        collect(judged, number)
        monitor.measure(judged.site, FAMILY, day(judged, 13), now=day(judged, 16))
        assert judged.rows(MEASURED) == before
    assert measured_again(judged, 13) == before


# Arrivals -----------------------------------------------------------------------------------------


def arrivals(world: World, number: int) -> Arrivals:
    return monitoring.arrivals(nightshift(world), world.site.family(FAMILY), day(world, number))


def arrive(world: World, number: int, *, hours_of: dict[int, int]) -> None:
    """The entities with each remainder of three get their labels so many hours after the night."""
    state(
        world,
        [
            (who, night, who % 3, hours_of[who % 3])
            for night in NIGHTS
            for who in range(1, 31)
            if who % 3 in hours_of
        ],
    )
    family = world.site.family(FAMILY)
    source = open_source("warehouse", world.site.sources["warehouse"])
    as_of = day(world, number)
    since = world.night(NIGHTS[0])
    names = Names(family.family)
    monitoring.collect(
        nightshift(world), source, family, as_of, names=names, now=as_of, since=since
    )


def shares(found: Arrivals) -> dict[int, float | None]:
    return {arrival.days: arrival.share for arrival in found.curve}


def drawn(found: Arrivals, world: World, folder: Path) -> bytes:
    file = folder / "reports" / "arrivals.png"
    reports.plot_arrivals(world.site.family(FAMILY), found.curve, found.proposed, file)
    return file.read_bytes()


PNG = b"\x89PNG\r\n\x1a\n"


def test_the_curve_tells_how_many_labels_came_after_how_many_days(
    judged: World, tmp_path: Path
) -> None:
    arrive(judged, 50, hours_of={0: 20, 1: 3 * 24, 2: 10 * 24 - 1})
    found = arrivals(judged, 50)
    assert [arrival.days for arrival in found.curve] == list(range(31))
    assert [arrival.days for arrival in found.rows] == [1, 2, 3, 7, 14, 30]
    assert {(arrival.nights, arrival.predictions) for arrival in found.curve} == {(3, 90)}
    told = shares(found)
    assert told[0] == 0
    assert told[1] == told[2] == pytest.approx(1 / 3)
    assert told[3] == told[9] == pytest.approx(2 / 3)
    assert told[10] == told[30] == found.ever == 1
    assert {tuple(arrival.by_class) for arrival in found.curve} == {()}
    assert drawn(found, judged, tmp_path).startswith(PNG)


def test_a_maturity_is_proposed_in_a_sentence(judged: World) -> None:
    arrive(judged, 50, hours_of={0: 20, 1: 10 * 24})
    for maturity, advice in {
        "P1D": "labels.maturity says 1, which is too early: write P10D",
        "P10D": "as labels.maturity says",
        "P21D": "labels.maturity says 21; P10D would do",
    }.items():
        judged.configure(labels={"maturity": maturity})
        found = arrivals(judged, 50)
        assert found.proposed == 10 * DAY
        assert found.sentence == (
            f"66.7% of predictions get a label, and 99% of those have it after 10 days: {advice}"
        )


def test_a_label_in_a_hundred_may_come_later_than_proposed(judged: World) -> None:
    prompt = [(who, night, who, 20) for night in NIGHTS for who in range(1, 31)]
    for stragglers, proposed in ((0, 1), (1, 20)):  # one of 90 is more than one in a hundred
        forget(judged)
        slow = [(who, night, value, 20 * 24) for who, night, value, _ in prompt[:stragglers]]
        state(judged, prompt[stragglers:] + slow)
        arrive(judged, 50, hours_of={})
        assert arrivals(judged, 50).proposed == proposed * DAY


def test_classes_that_come_at_different_speeds_are_told_apart(
    judged: World, tmp_path: Path
) -> None:
    judged.configure(task="multiclass_classification")
    arrive(judged, 50, hours_of={0: 24, 1: 5 * 24, 2: 20 * 24})
    found = arrivals(judged, 50)
    told = {arrival.days: arrival.by_class for arrival in found.rows}
    assert told[1] == told[3] == {"0": 1, "1": 0, "2": 0}
    assert told[7] == told[14] == {"0": 1, "1": 1, "2": 0}
    assert told[30] == {"0": 1, "1": 1, "2": 1}
    assert shares(found)[3] == pytest.approx(1 / 3)
    assert drawn(found, judged, tmp_path).startswith(PNG)


def test_a_corrected_label_arrived_when_its_first_one_did(judged: World) -> None:
    judged.configure(task="binary_classification")
    state(judged, [(who, night, 0, 24) for who in range(1, 31) for night in NIGHTS])
    state(judged, [(who, night, 1, 200) for who in range(1, 16) for night in NIGHTS])
    arrive(judged, 50, hours_of={})
    found = arrivals(judged, 50)
    assert shares(found)[1] == 1
    assert found.curve[1].by_class == {"0": 1, "1": 1}
    assert found.proposed == DAY


def test_a_night_counts_only_for_the_days_it_is_old(judged: World) -> None:
    arrive(judged, 14, hours_of={0: 20, 1: 20, 2: 20})
    found = arrivals(judged, 14)
    assert [arrival.nights for arrival in found.curve[:6]] == [3, 3, 3, 2, 1, 0]
    assert [arrival.share for arrival in found.curve[:6]] == [0, 1, 1, 1, 1, None]
    assert (found.ever, found.proposed) == (None, None)
    assert found.sentence == (
        "no published night is 30 days old yet, or none has labels, so no maturity can be proposed;"
        " labels.maturity is 1 day"
    )


def test_arrivals_are_told_as_known_on_a_day(judged: World) -> None:
    arrive(judged, 50, hours_of={0: 20, 1: 35 * 24, 2: 36 * 24})
    assert arrivals(judged, 43).ever == pytest.approx(1 / 3)
    assert arrivals(judged, 50).ever == 1


def test_nights_without_labels_give_a_sentence(judged: World, tmp_path: Path) -> None:
    for number in (14, 50):
        found = arrivals(judged, number)
        assert found.proposed is None
        assert shares(found)[1] == 0
        assert "no maturity can be proposed" in found.sentence
        assert drawn(found, judged, tmp_path).startswith(PNG)


def test_no_published_night_gives_a_sentence(world: World, tmp_path: Path) -> None:
    collect(world, 12)
    found = arrivals(world, 50)
    assert {(arrival.nights, arrival.share) for arrival in found.curve} == {(0, None)}
    assert (found.ever, found.proposed) == (None, None)
    assert "no maturity can be proposed" in found.sentence
    assert drawn(found, world, tmp_path).startswith(PNG)


# Silence ------------------------------------------------------------------------------------------


def silence(world: World, number: int) -> str | None:
    return monitoring.silence(nightshift(world), world.site.family(FAMILY), day(world, number))


def test_labels_that_stop_are_told_after_a_day_more_than_their_maturity(judged: World) -> None:
    state(judged, [(who, 10, who, 12) for who in range(1, 31)])
    for number in (11, 12):
        collect(judged, number)
        assert silence(judged, number) is None
    told = silence(judged, 13)
    assert told is not None
    assert told.startswith("loads: no label has become known since 2026-01-11 14:00Z; ")
    assert "labels.sql should have returned labels for 60 predictions that are older than" in told
    assert told.endswith("Look at the source 'warehouse'")


def test_labels_that_never_came_are_told_once_the_first_are_due(judged: World) -> None:
    assert silence(judged, 10) is None
    told = silence(judged, 11)
    assert told is not None
    assert "no label has become known ever" in told
    assert "for 30 predictions" in told


def test_labels_that_come_again_end_the_silence(judged: World) -> None:
    collect(judged, 13)
    assert silence(judged, 13) is not None
    state(judged, [(1, 12, 5, 30)])
    collect(judged, 14)
    assert silence(judged, 14) is None
    assert silence(judged, 13) is not None


def test_the_length_of_silence_is_the_familys_own(judged: World) -> None:
    state(judged, [(who, 10, who, 12) for who in range(1, 31)])
    collect(judged, 12)
    judged.configure(labels={"silence": "P1D"})
    assert silence(judged, 12) is not None
    judged.configure(labels={"silence": "P3D"})
    assert silence(judged, 13) is None
    assert silence(judged, 14) is not None


def test_no_label_is_missed_where_none_was_due(world: World) -> None:
    assert silence(world, 12) is None
    world.train(9)
    world.score(10)
    assert silence(world, 10) is None


def test_a_family_that_is_scored_seldom_is_not_silent_between_its_nights(judged: World) -> None:
    judged.configure(labels={"maturity": "P7D"})
    state(judged, [(who, night, who, 12) for who in range(1, 31) for night in NIGHTS])
    for number in range(11, 30):
        collect(judged, number)
        assert silence(judged, number) is None


# Bad input ----------------------------------------------------------------------------------------

SELECT = "select {columns} from truths where known_at > :since and known_at <= :as_of"
PLAIN = {"entity_id": "entity_id", "value": "value", "event_at": "night", "known_at": "known_at"}
REGRESSION, BINARY, MULTICLASS = "regression", "binary_classification", "multiclass_classification"
SHAPES = [
    ({"value": "value as load"}, "missing or repeated: value)"),
    ({"value": "value, 1 as value"}, "missing or repeated: value)"),
    ({"entity_id": "night"}, "entity_id is timestamp[us, tz=UTC], not text, a whole number"),
    ({"entity_id": "true"}, "entity_id is bool, not text, a whole number"),
    ({"known_at": "known_at::timestamp"}, "known_at is timestamp[us], not timestamptz; cast it"),
    ({"event_at": "night::timestamp"}, "event_at is timestamp[us], not timestamptz; cast it"),
    ({"event_at": "night::date"}, "event_at is date32[day], not timestamptz; cast it"),
]
GAPS = [
    ({"known_at": "nullif(known_at, '2026-01-10 14:00Z')"}, "30 labels have no known_at; leave"),
    ({"event_at": "nullif(night, '2026-01-10 02:00Z')"}, "30 labels have no event_at; leave"),
    ({"entity_id": "nullif(entity_id, '20260110-7')"}, "1 labels have no entity_id; leave"),
]
MISFITS = [
    (REGRESSION, "night", ""),
    (REGRESSION, "'NaN'::float", "labels are finite numbers, found nan"),
    (REGRESSION, "'-Infinity'::float", "labels are finite numbers, found -inf"),
    (BINARY, "2", "binary labels are 0 or 1, found 2"),
    (BINARY, "0.5::float", "0.5"),
    (BINARY, "'yes'", "'yes'"),
    (MULTICLASS, "array[1]", ""),
]
FITS = [
    (REGRESSION, "value::numeric", "5"),
    (REGRESSION, "'5.0'", "5"),
    (BINARY, "true", "1"),
    (BINARY, "1::float", "1"),
    (BINARY, "'0'", "0"),
    (BINARY, "'FALSE'", "0"),
    (BINARY, "' True '", "1"),
    (MULTICLASS, "'late'", "late"),
    (MULTICLASS, "5", "5"),
]


def ask(world: World, changed: dict[str, str], where: str = "true") -> None:
    """Write a labels.sql that returns some columns otherwise."""
    columns = [
        sql if " as " in sql else f"{sql} as {name}" for name, sql in (PLAIN | changed).items()
    ]
    world.write("labels.sql", f"{SELECT.format(columns=', '.join(columns))} and {where}")


def refused(world: World, error: type[NightshiftError], said: str) -> None:
    """A collection is refused with these words, is on record as such, and adds nothing."""
    administer(world, "truncate nightshift.events")
    with pytest.raises(error) as caught:
        collect(world, 10)
    assert str(caught.value).startswith(f"{FAMILY}: {world.folder / 'labels.sql'}")
    assert said in str(caught.value)
    assert world.codes() == [error.code]
    assert world.rows(KEPT) == world.rows("select * from nightshift.label_collections") == []


def test_columns_of_another_name_or_type_are_refused(world: World) -> None:
    for changed, said in SHAPES:
        ask(world, changed)
        refused(world, SourceError, said)


def test_labels_without_an_entity_or_a_moment_are_refused(world: World) -> None:
    for changed, said in GAPS:
        ask(world, changed)
        refused(world, LabelsError, said)


def test_values_that_do_not_fit_the_task_are_refused(world: World) -> None:
    for task, value, said in MISFITS:
        world.configure(task=task)
        ask(world, {"value": value})
        refused(world, LabelsError, f"value does not fit {task}: ")
        refused(world, LabelsError, said)


def test_a_value_may_be_of_any_type_that_fits(world: World) -> None:
    for task, value, kept in FITS:
        administer(world, "truncate nightshift.labels, nightshift.label_collections")
        world.configure(task=task)
        ask(world, {"value": value}, where="entity_id = '20260110-2'")
        collect(world, 10)
        assert [row.value for row in world.rows(KEPT)] == [kept], (task, value)


def test_a_label_of_one_night_of_an_entity_says_of_which(world: World) -> None:
    world.configure(labels={"per": "entity_and_as_of"})
    for as_of, error, said in (
        ("night as at", SourceError, "missing or repeated: as_of)"),
        ("night::date", SourceError, "as_of is date32[day], not timestamptz; cast it"),
        ("null::timestamptz", LabelsError, "300 labels have no as_of; leave"),
    ):
        ask(world, {"as_of": as_of})
        refused(world, error, said)


def test_a_label_without_a_value_is_not_known_yet(world: World) -> None:
    world.source("update truths set value = null where entity_id ~ '-7$'")
    found = collect(world, 10)
    assert found.found == found.added == 10 * 29
