"""Label streams as sources send them: late, padded, doubled, partial, re-keyed. None is misread."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.faults.harness import thorough
from tests.world import FAMILY, World

from nightshift import monitoring
from nightshift.data import connect
from nightshift.local import session
from nightshift.steps import monitor

NIGHTS = (10, 11)
EXPECTED = {"type": "expect_column_values_to_be_between", "min_value": 0, "max_value": 50}
HOUR = timedelta(hours=1)

# How the source tells an entity, and whether that means the one that was scored.
KEYS = {"{}": True, "{}    ": True, " {}": False, "x{}": False, "0{}": False, "{}.0": False}

# A label: entity, night, value, hours after the night at which it is stated, key, how often.
LABEL = st.tuples(
    st.integers(1, 3),
    st.sampled_from(NIGHTS),
    st.sampled_from([1, 2, 10, 70, -4]),
    st.sampled_from([-3, 5, 12, 29, 53]),
    st.sampled_from(["{}", "{}", "{}", *KEYS]),
    st.sampled_from([1, 1, 2]),
)
Label = tuple[int, int, int, int, str, int]
# Some labels reach the source, and then a day is asked about.
WAVES = st.lists(
    st.tuples(st.lists(LABEL, max_size=5), st.integers(11, 15)), min_size=1, max_size=4
)


def entity(world: World, number: int, night: int) -> str:
    return f"{world.night(night):%Y%m%d}-{number}"


def monitoring_of(world: World, number: int) -> datetime:
    return world.night(number) + 4 * HOUR


def reach_the_source(world: World, labels: list[Label]) -> None:
    rows = [
        f"('{key.format(entity(world, number, night))}',"
        f" timestamptz '{world.night(night).isoformat()}',"
        f" timestamptz '{(world.night(night) + hours * HOUR).isoformat()}', {value})"
        for number, night, value, hours, key, times in labels
        for _ in range(times)
    ]
    if rows:
        world.source(
            f"insert into truths (entity_id, night, known_at, value) values {','.join(rows)}"
        )


def known(world: World, number: int) -> dict[str, str]:
    rows = monitoring.outcomes(
        connect(world.site.database_url),
        world.site.family(FAMILY),
        world.night(9),
        world.night(11),
        monitoring_of(world, number),
    )
    rows = rows[rows["value"].notna()]
    return dict(zip(rows["entity_id"], rows["value"], strict=True))


class Model:
    """The rule in Python: what arrived when, and what of it is the truth on a day."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.source: list[Label] = []
        self.collected: dict[tuple[str, datetime, str], datetime] = {}
        self.nights = {
            entity(world, n, night): world.night(night) for n in (1, 2, 3) for night in NIGHTS
        }
        self.asked: list[datetime] = []

    def collect(self, number: int) -> None:
        day = monitoring_of(self.world, number)
        reached = day - self.world.site.family(FAMILY).labels_reach
        for who, night, value, hours, key, _ in self.source:
            name = key.format(entity(self.world, who, night)).rstrip()
            stated = self.world.night(night) + hours * HOUR
            if not reached < stated <= day or not 0 <= value <= 50:
                continue
            arrived = stated
            if self.asked and stated <= max(self.asked):
                arrived = max(day, max(self.asked) + timedelta(microseconds=1))
            self.collected.setdefault((name, stated, str(value)), arrived)
        self.asked.append(day)

    def known(self, number: int) -> dict[str, str]:
        day, best = monitoring_of(self.world, number), {}
        for name, night in self.nights.items():
            labels = [
                (stated, arrived, value)
                for (of, stated, value), arrived in self.collected.items()
                if of == name and arrived <= day
            ]
            if labels and min(labels)[0] > night:
                best[name] = max(labels)[2]
        return best


@pytest.mark.timeout(7200)
def test_any_stream_of_labels_is_read_as_the_rule_says(served: World) -> None:
    served.configure(labels={"expectations": [EXPECTED]})
    for number in NIGHTS:
        assert served.score(number)

    @thorough(500)
    @given(waves=WAVES)
    def try_it(waves: list[tuple[list[Label], int]]) -> None:
        served.source("truncate truths")
        with session(served.site.database_url) as connection:
            connection.exec_driver_sql(
                "truncate nightshift.labels, nightshift.labels_set_aside,"
                " nightshift.label_collections"
            )
        model = Model(served)
        told: dict[int, dict[str, str]] = {}
        for labels, number in waves:
            reach_the_source(served, labels)
            model.source += labels
            day = monitoring_of(served, number)
            found = monitor.collect_labels(served.site, FAMILY, day, now=day)
            model.collect(number)
            assert found.found == found.added + found.duplicates + found.set_aside
            assert known(served, number) == model.known(number)
            told.setdefault(number, known(served, number))
            assert {day: known(served, day) for day in told} == told
        database, family = connect(served.site.database_url), served.site.family(FAMILY)
        last = max(told)
        sentence = monitoring.strangers(database, family, monitoring_of(served, last))
        strangers = [label for label in model.source if not KEYS[label[4]]]
        assert sentence is None or strangers
        assert sentence is None or not any(
            served.night(last - 1) < arrived <= monitoring_of(served, last)
            for (name, _, _), arrived in model.collected.items()
            if name in model.nights
        )

    try_it()
