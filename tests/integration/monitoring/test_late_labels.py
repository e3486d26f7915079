"""A part of the labels is late: found whenever it comes, and known from its arrival on."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.world import FAMILY, World

from nightshift.family import load_family
from nightshift.steps import monitor, retrain

DAY = timedelta(days=1)
MEASURED = """
select state, predictions, labels from performance
where as_of = '{as_of}' and model_version is not null
"""


def live(world: World, first: int, last: int) -> None:
    for number in range(first, last + 1):
        world.score(number)
        world.monitor(number)


def silent(world: World, which: str, since: int, until: int) -> None:
    """A part of the labels of some nights does not reach the source yet."""
    world.source(f"""
        create table late as select * from truths
        where {which} and night between '{world.night(since)}' and '{world.night(until)}';
        delete from truths t using late l where t.entity_id = l.entity_id
    """)


def load(world: World) -> None:
    """They reach it at last, with the moments at which they were true."""
    world.source("insert into truths select * from late; drop table late")


def measured(world: World, number: int) -> tuple[object, ...]:
    as_of = (world.night(number) + 4 * DAY / 24).isoformat()
    [row] = world.rows(MEASURED.format(as_of=as_of))
    return tuple(row)


# Which labels are silent, and from which night on.
PARTS = [("entity_id ~ '[02468]$'", 10), ("entity_id ~ '[02468]$'", 13), ("entity_id !~ '-7$'", 11)]


@pytest.mark.parametrize(("which", "since"), PARTS)
def test_labels_that_are_late_are_found_when_they_come(
    world: World, which: str, since: int
) -> None:
    world.configure(performance={"window": "P6D"}, retrain={"when": None})
    world.train(9)
    silent(world, which, since, 15)
    live(world, 10, 16)
    state, predictions, labels = measured(world, 16)
    assert (state, predictions) == ("immature", 180)
    assert isinstance(labels, int)
    assert labels < 180
    load(world)
    live(world, 17, 17)
    assert measured(world, 17)[1:] == (180, 180)
    assert measured(world, 16) == (state, predictions, labels)
    monitor.measure(world.site, FAMILY, world.night(16) + 4 * DAY / 24, now=world.night(18))
    assert measured(world, 16) == (state, predictions, labels)
    [late] = world.rows("select max(late) as late from nightshift.label_collections")
    assert late.late == 180 - labels


def test_how_far_back_is_the_familys_own(world: World) -> None:
    world.configure(labels={"look_back": "P3D"})
    assert load_family(world.folder).labels_reach == 3 * DAY
    world.train(9)
    silent(world, "entity_id ~ '-7$'", 10, 15)
    live(world, 10, 16)
    load(world)
    live(world, 17, 17)
    found = world.rows(
        "select entity_id from nightshift.labels where entity_id ~ '-7$'"
        " and entity_id > '2026011' and entity_id < '20260117' order by entity_id"
    )
    assert [row.entity_id for row in found][:2] == ["20260110-7", "20260115-7"]


def test_a_training_asks_for_all_its_nights_again(world: World) -> None:
    world.configure(labels={"look_back": "P2D"})
    world.train(9)
    silent(world, "entity_id ~ '-7$'", 10, 12)
    live(world, 10, 16)
    load(world)
    as_of = world.night(17)
    asked = retrain.request_retrain(world.site, FAMILY, as_of, reason="t", by="t", now=as_of)
    retrain.fit(world.site, asked, now=as_of)
    rows = world.rows("select manifest -> 'rows' as rows from nightshift.versions order by number")
    assert [row.rows for row in rows][1:] == [5 * 30]
