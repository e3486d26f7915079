"""Labels and predictions that do not meet: told within two nights, matched where they mean one."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.world import FAMILY, World

from nightshift import reports
from nightshift.data import Store
from nightshift.steps import monitor, retrain

FEATURES = """
select {key} as entity_id, size, kind from items where night = cast(:as_of as timestamptz)
"""
LABELS = """
select {key} as entity_id, value, night as event_at, known_at from truths
where known_at > cast(:since as timestamptz) and known_at <= cast(:as_of as timestamptz)
"""
NUMBER = "replace(entity_id, '-', '')::bigint"
DAY = "(date '2026-01-01' + right(replace(entity_id, '-', '0'), 2)::int)"
CUSTOMERS = "update items set entity_id = 'c' || size where night > '2026-01-11'"


def keys(world: World, *, features: str = "entity_id", labels: str = "entity_id") -> None:
    world.write("features.sql", FEATURES.format(key=features))
    world.write("labels.sql", LABELS.format(key=labels))


def alerts(world: World, number: int, kind: reports.RunKind = "monitor") -> list[reports.Alert]:
    as_of = world.night(number) + (timedelta(hours=4) if kind == "monitor" else timedelta(0))
    run = reports.Run(kind, as_of, as_of)
    return monitor.alerts(world.site, FAMILY, run, now=as_of + timedelta(minutes=30))


def live(world: World, first: int, last: int) -> dict[int, str]:
    """Nights with their monitoring; the messages about missing labels, by night."""
    told = {}
    for number in range(first, last + 1):
        world.score(number)
        world.monitor(number)
        for alert in alerts(world, number):
            if alert.cause == "missing_labels" and alert.as_of > world.night(number):
                told[number] = alert.message
    return told


# One text for a key -------------------------------------------------------------------------------

# How features.sql and how labels.sql tell an entity, and how that of size 7 is kept.
ALIKE = [
    ("entity_id", "entity_id::char(20)", "20260112-7"),
    ("entity_id::char(20)", "entity_id", "20260112-7"),
    ("entity_id", "rpad(entity_id, 30)", "20260112-7"),
    (NUMBER, f"{NUMBER}::numeric(12, 2)", "202601127"),
    (f"({NUMBER})::text", f"{NUMBER}::float8", "202601127"),
    (f"{NUMBER} + 0.50", f"({NUMBER} + 0.5)::float8", "202601127.5"),
    ("md5(entity_id)::uuid", "md5(entity_id)::uuid::text", None),
    (DAY, f"{DAY}::text", "2026-01-08"),
]


@pytest.mark.parametrize(("features", "labels", "kept"), ALIKE)
def test_keys_that_mean_one_entity_meet(
    world: World, features: str, labels: str, kept: str | None
) -> None:
    keys(world, features=features, labels=labels)
    world.freeze(11)
    monitor.collect_labels(world.site, FAMILY, world.night(12), now=world.night(12))
    [taken] = world.rows("select content_hash from nightshift.snapshots")
    scored = Store(world.site.store).read_table(taken.content_hash)["entity_id"].to_pylist()
    labelled = {row.entity_id for row in world.rows("select entity_id from nightshift.labels")}
    assert len(scored) == 30
    assert scored == sorted(scored)
    assert set(scored) <= labelled
    assert kept is None or kept in scored


@pytest.mark.parametrize(
    "kind", ["kind::char(9)", "right(kind, 1)::int", "right(kind, 1)::numeric"]
)
def test_members_and_categories_are_one_text_too(world: World, kind: str) -> None:
    world.write("features.sql", FEATURES.format(key="entity_id").replace("kind", f"{kind} as kind"))
    world.configure(
        performance={"threshold": None}, models={"by": "kind", "thresholds": {"*": -1.0}}
    )
    world.freeze(11)
    [taken] = world.rows("select content_hash from nightshift.snapshots")
    kinds = set(Store(world.site.store).read_table(taken.content_hash)["kind"].to_pylist())
    assert kinds in ({"k0", "k1", "k2"}, {"0", "1", "2"})


# Labels that answer nobody ------------------------------------------------------------------------

REKEYED = [
    ("'x' || entity_id", "entity_id", "'x2026", "'2026"),
    ("upper('e' || entity_id)", "'e' || entity_id", "'E20260114-1'", "'e20260114-1'"),
    ("lpad(entity_id, 14, '0')", "entity_id", "'000020260114-1'", "'20260114-1'"),
    (f"({NUMBER})::text || '.0'", NUMBER, "'202601141.0'", "'202601141'"),
    ("' ' || entity_id", "entity_id", "' 20260114-1'", "'20260114-1'"),
]


@pytest.mark.parametrize(("labels", "features", "stranger", "scored"), REKEYED)
def test_labels_that_answer_nobody_are_told_the_next_night_with_two_examples(
    world: World, labels: str, features: str, stranger: str, scored: str
) -> None:
    keys(world, features=features, labels=features)
    world.train(9)
    assert live(world, 10, 13) == {}
    keys(world, features=features, labels=labels)
    world.source("delete from truths where night < '2026-01-14'")  # as if asked for the new only
    told = live(world, 14, 15)
    message = told[14]  # with the first night whose labels are told otherwise
    assert message.startswith("loads: labels answer nobody: loads: ")
    assert "labels came since" in message
    assert "none answers a prediction" in message
    assert f"labels.sql says {stranger}" in message
    assert f"features.sql {scored}" in message


def test_entities_are_not_shown_where_the_file_forbids_it(world: World) -> None:
    world.configure(features={"sensitive": ["size"]})
    world.train(9)
    keys(world, labels="'x' || entity_id")
    told = live(world, 10, 12)
    assert "examples are withheld" in told[12]
    assert "2026011" not in told[12].split("labels came since")[0]


def test_labels_of_before_the_first_night_are_no_strangers(world: World) -> None:
    world.train(9)
    world.source("update truths set known_at = night + interval '5 days'")
    assert all("answer nobody" not in message for message in live(world, 10, 14).values())


def test_labels_of_others_are_no_strangers_where_predictions_are_answered(world: World) -> None:
    world.train(9)
    world.source(
        "insert into truths select 'other-' || entity_id, night, known_at + interval '1 hour', 1"
        " from truths"
    )
    assert live(world, 10, 14) == {}


# Fewer labels than usual --------------------------------------------------------------------------


def test_labels_that_stop_for_a_part_are_told_within_two_nights(world: World) -> None:
    world.configure(performance={"slices": ["kind"]})
    world.train(9)
    world.source(
        "delete from truths using items where items.entity_id = truths.entity_id"
        " and kind = 'k1' and truths.night > '2026-01-16'"
    )
    told = live(world, 10, 17)
    assert list(told) == [17]  # when the second of two nights has matured: one may be late
    assert told[17].startswith(
        "loads: fewer labels than usual: loads: of the predictions that matured since"
        " 2026-01-16 06:00Z, 40 of 60 have a label (67%), usually 100%; kind=k1: 0 of 20 have a"
        " label (0%), usually 100%. Look at what "
    )
    assert "labels.sql reads from the source 'warehouse'" in told[17]


# The same entities every night --------------------------------------------------------------------


def test_the_same_entities_every_night_are_told_at_the_second(world: World) -> None:
    world.train(9)
    world.source(CUSTOMERS)
    told = {}
    for number in (10, 11, 12):
        world.score(number)
        told[number] = [a.message for a in alerts(world, number, "score") if "same" in a.message]
    assert told[10] == []
    [message] = told[11]
    assert "100% of these entities were scored 2026-01-11 02:00Z, too" in message
    assert "Write per: entity_and_as_of if" in message
    assert told[12] in ([], [message])  # the earlier one may still wait to be delivered
    assert world.codes().count("repeated_entities") == 1


@pytest.mark.parametrize("per", ["entity", "entity_and_as_of"])
def test_who_says_what_a_label_answers_is_not_told(world: World, per: str) -> None:
    world.train(9)
    world.configure(labels={"per": per})
    world.source(CUSTOMERS)
    for number in (10, 11):
        world.score(number)
        assert alerts(world, number, "score") == []


def test_other_entities_every_night_are_not_told(world: World) -> None:
    world.train(9)
    for number in (10, 11):
        world.score(number)
        assert alerts(world, number, "score") == []
    assert "repeated_entities" not in world.codes()


def test_monitoring_counts_what_training_learns_from(world: World) -> None:
    """A label that was there before the night is no truth about it, for either of them."""
    world.configure(labels={"per": "entity", "min_coverage": 0.0}, performance={"min_labels": 2})
    world.train(9)
    world.source(
        "update truths set known_at = night - interval '1 hour' where night > '2026-01-11'"
        " and entity_id ~ '[02468]$'"
    )
    live(world, 10, 14)
    measured = world.rows(
        "select predictions, labels from performance where as_of = '2026-01-15 06:00+00'"
        " and model_version is not null"
    )
    assert [tuple(row) for row in measured] == [(60, 30)]
    as_of = world.night(16)
    asked = retrain.request_retrain(world.site, FAMILY, as_of, reason="t", by="t", now=as_of)
    retrain.fit(world.site, asked, now=as_of)
    [learnt] = world.rows(
        "select manifest -> 'rows' as rows from nightshift.versions order by number desc limit 1"
    )
    # Nights 9 to 13: two of them whole (9, and 10 with labels after it), of three the odd ones.
    assert learnt.rows in (2 * 30 + 3 * 15, 30 + 4 * 15)
