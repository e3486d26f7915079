"""What downstream sees: the latest prediction, typed views, notifications, months that go."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extensions
import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import ProgrammingError
from tests.world import FAMILY, World

from nightshift import data
from nightshift.data import positional, query_text
from nightshift.errors import RowsRetired
from nightshift.local import session
from nightshift.steps import monitor, upkeep
from nightshift.steps import night as night_steps

HOME = Path(__file__).resolve().parents[3]


@pytest.fixture
def listener(world: World) -> Iterator[psycopg2.extensions.connection]:
    """A reader that listens for published nights."""
    connection = psycopg2.connect(_as_reader(world.site.database_url))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("listen nightshift_published")
    yield connection
    connection.close()


def _as_reader(url: str) -> str:
    reader = make_url(url).set(drivername="postgresql", username="nightshift_reader")
    return reader.render_as_string(hide_password=False)


def _told(listener: psycopg2.extensions.connection) -> list[dict[str, Any]]:
    listener.poll()
    told = [json.loads(one.payload) for one in listener.notifies]
    listener.notifies.clear()
    return told


def test_publishing_a_night_tells_those_who_listen_once(
    world: World, listener: psycopg2.extensions.connection
) -> None:
    world.train(9)
    world.score(10)
    [night] = world.rows("select batch_id from nights")
    assert _told(listener) == [
        {
            "family": FAMILY,
            "as_of": world.night(10).isoformat(),
            "batch_id": night.batch_id,
            "rows": 30,
            "versions": [1],
            "contract": json.loads((HOME / "sql" / "contract.json").read_text())["version"],
        }
    ]
    world.score(10)  # again
    assert _told(listener) == []


def test_a_thousand_versions_do_not_break_the_notification(
    world: World, listener: psycopg2.extensions.connection
) -> None:
    world.train(9)
    snapshot_id = world.freeze(10)
    night_steps.validate(world.site, snapshot_id, now=world.night(10))
    batch_id = night_steps.score(world.site, snapshot_id, now=world.night(10))
    # As if 1501 models had made the night.
    world.rows(
        "with d as (insert into nightshift.decisions (model_id, kind, rule, reason, as_of, inputs,"
        " about, subject, decided_at) select model_id, 'retrain', 'test', 'test', now(), '{}',"
        " 'request', 'many ' || n, now()"
        " from nightshift.models, generate_series(1000, 2500) n returning *)"
        " select count(*) from d"
    )
    world.rows(
        "with v as (insert into nightshift.versions (model_id, number, artifact_hash, signature,"
        " manifest, decision_id, trained_at) select model_id, 1000000 + decision_id,"
        " repeat('a', 64), '', '{}', decision_id, now() from nightshift.decisions"
        " where subject like 'many %%' returning version_id)"
        " update nightshift.batches set version_ids = (select array_agg(version_id) from v)"
        " returning batch_id"
    )
    published = night_steps.publish(world.site, batch_id, now=world.night(10))
    assert len(published["versions"]) == 1501
    [told] = _told(listener)
    assert (told["rows"], told["versions"]) == (30, None)


def test_the_latest_prediction_of_an_entity_is_that_of_its_last_night(world: World) -> None:
    world.source(
        "update items set entity_id = 'always-' || size where night >= '2026-01-11'"
        " and (size <= 2 or (size = 3 and night < '2026-01-13'))"
    )
    world.train(9)
    for number in (10, 11, 12, 13):
        world.score(number)
    latest = world.rows(
        "select entity_id, as_of, batch_id from predictions_latest"
        f" where family = '{FAMILY}' and entity_id in ('always-1', 'always-3', '20260111-9')"
        " order by entity_id"
    )
    assert [(row.entity_id, row.as_of) for row in latest] == [
        ("20260111-9", world.night(10)),
        ("always-1", world.night(13)),
        ("always-3", world.night(11)),
    ]
    same = world.rows(
        "select count(*) as rows from predictions_latest l join predictions p"
        " using (entity_id, family, model, as_of, score, flags, model_version, snapshot, batch_id)"
        " where l.label is not distinct from p.label and l.published_at = p.published_at"
    )
    every = world.rows("select count(distinct entity_id) as rows from predictions")
    assert same == every


def test_what_is_not_published_is_not_the_latest(world: World) -> None:
    world.train(9)
    world.score(10)
    snapshot_id = world.freeze(11)
    night_steps.validate(world.site, snapshot_id, now=world.night(11))
    night_steps.score(world.site, snapshot_id, now=world.night(11))
    assert world.rows("select distinct as_of from predictions_latest") == [(world.night(10),)]
    assert [row.as_of for row in world.rows("select as_of from nights")] == [world.night(10)]


def test_a_family_has_a_view_with_typed_columns(world: World) -> None:
    world.train(9)
    world.score(10)
    with session(world.site.database_url) as connection:
        connection.exec_driver_sql("set role nightshift_reader")
        row = connection.exec_driver_sql(
            f"select * from predictions_{FAMILY} where entity_id = '20260111-7'"
        ).one()
    assert row.value == pytest.approx(10.0)
    assert (row.model, row.model_version, row.as_of) == (FAMILY, 1, world.night(10))


@pytest.mark.parametrize("family", ["x'; drop table t; --", 'A "quoted" one', "ü" * 20])
def test_a_family_of_any_name_gets_its_own_view(database_url: str, family: str) -> None:
    with session(database_url) as connection:
        connection.exec_driver_sql("set role nightshift_writer")
        for task in ("regression", "binary_classification"):  # the task has changed
            connection.execute(_show(), {"family": family, "task": task})
        quoted = 'public."predictions_' + family.replace('"', '""') + '"'
        columns = connection.exec_driver_sql(f"select * from {quoted}").keys()
    assert {"probability", "label"} <= set(columns)


@pytest.mark.parametrize(
    ("family", "message"), [("latest", "something else of that name"), ("f" * 52, "63 bytes")]
)
def test_a_view_that_cannot_be_made_is_refused(
    database_url: str, family: str, message: str
) -> None:
    with session(database_url) as connection:
        connection.exec_driver_sql("set role nightshift_writer")
        with pytest.raises(Exception, match=message):
            connection.execute(_show(), {"family": family, "task": "regression"})


def _show() -> Any:
    return data.named_query("scoring.show_family")


def test_readers_make_no_views_and_drop_no_months(database_url: str) -> None:
    data.migrate(database_url)  # a clone has its template's tables, but rights of its own
    with session(database_url) as connection:
        connection.exec_driver_sql("set role nightshift_reader")
        for call in ("show_family('a', 'b')", "open_month(now())", "retire_month(now(), now())"):
            with pytest.raises(ProgrammingError, match="permission denied"):
                connection.exec_driver_sql(f"select nightshift.{call}")


# Months that go -----------------------------------------------------------------------------------


@pytest.fixture
def january(world: World) -> World:
    """Nights of January and February; January is to be kept for 40 days after it ended."""
    world.train(9)
    for number in (10, 29, 30, 31, 32):
        world.score(number)
    settings = world.site.home / "include" / "nightshift.yaml"
    settings.write_text("keep_predictions: P95D\n")
    return world


MAY = datetime(2026, 5, 20, tzinfo=UTC)


def test_months_go_when_their_time_has_passed(january: World) -> None:
    kept = "select as_of from nights where not retired order by 1"
    assert upkeep.maintain(january.site, now=MAY - timedelta(days=10))["retired_months"] == 0
    assert len(january.rows(kept)) == 5
    assert upkeep.maintain(january.site, now=MAY)["retired_months"] == 1
    assert january.rows("select distinct as_of from predictions order by 1") == january.rows(kept)
    assert [row.as_of for row in january.rows(kept)] == [january.night(31), january.night(32)]
    assert len(january.rows("select from nights")) == 5
    assert january.codes().count("retired_rows") == 1
    assert upkeep.maintain(january.site, now=MAY)["retired_months"] == 0


def test_figures_over_retired_nights_are_refused(january: World) -> None:
    upkeep.maintain(january.site, now=MAY)
    with pytest.raises(RowsRetired, match=r"of 2 published nights .* were retired"):
        monitor.measure(january.site, FAMILY, january.night(31), now=MAY)
    assert january.codes()[-1] == "rows_retired"
    snapshot_id = january.freeze(10)
    with pytest.raises(RowsRetired, match="January 2026"):
        night_steps.score(january.site, snapshot_id, now=MAY)
    monitor.measure(january.site, FAMILY, january.night(35), now=MAY)


def test_a_month_that_somebody_reads_is_left_to_another_day(january: World) -> None:
    with session(january.site.database_url) as reader:
        reader.execution_options(isolation_level="READ COMMITTED")
        with reader.begin():
            reader.exec_driver_sql("select * from predictions limit 1")
            assert upkeep.maintain(january.site, now=MAY)["retired_months"] == 0
    assert upkeep.maintain(january.site, now=MAY)["retired_months"] == 1


BEFORE = [
    "insert into nightshift.models (family, name, created_at)"
    " values ('f', 'f', now()), ('f', 'new', now())",
    "insert into nightshift.decisions (model_id, kind, rule, reason, as_of, inputs, subject,"
    " decided_at) values (1, 'retrain', 'first', 'first', now(), '{}', 'first', now())",
    "insert into nightshift.versions (model_id, number, artifact_hash, signature, manifest,"
    " decision_id, trained_at) values (1, 1, repeat('a', 64), '', '{}', 1, now())",
    "insert into nightshift.snapshots (family, as_of, revision, content_hash, row_count,"
    " dropped_rows, query_hash, taken_at) select 'f', night, 1, repeat('b', 64), 2, 0, '', night"
    " from (values (timestamptz '2026-01-31 23:00+00'), ('2026-02-01 00:00+00')) n (night)",
    "insert into nightshift.batches (family, as_of, snapshot_id, version_ids, row_count, state,"
    " started_at, written_at) select 'f', as_of, snapshot_id, '{1}', 2, 'written', as_of, as_of"
    " from nightshift.snapshots order by as_of",
    "insert into nightshift.published select family, as_of, batch_id, as_of"
    " from nightshift.batches",
    "insert into nightshift.prediction_rows (batch_id, version_id, entity_id, score, flags,"
    " model_id, role) select batch_id, 1, e.*, 0 from nightshift.batches,"
    " (values ('old', 1.5, 1, null), ('new', 2.5, 0, 2)) e (id, score, flags, model)",
]


def test_predictions_from_before_the_months_stay_the_same(new_database: Any) -> None:
    url = new_database()
    data.migrate(url, to="0003")
    every = "select * from predictions order by as_of, entity_id"
    with session(url) as connection:
        for statement in BEFORE:
            connection.exec_driver_sql(statement)
        before = connection.exec_driver_sql(every).all()
        data.migrate(url)
        assert connection.exec_driver_sql(every).all() == before
        months = connection.exec_driver_sql(
            "select tableoid::regclass::text, count(*) from nightshift.prediction_rows"
            " group by 1 order by 1"
        ).all()
    assert [(row.model, row.flags) for row in before[:2]] == [
        ("new", ["fallback"]),
        ("f", ["unseen_category"]),
    ]
    assert months == [
        ("nightshift.prediction_rows_2026_01", 2),
        ("nightshift.prediction_rows_2026_02", 2),
    ]


# Plans --------------------------------------------------------------------------------------------

ENTITIES = 1500
HISTORY = f"""
insert into nightshift.models (family, name, created_at) values ('f', 'f', now());
insert into nightshift.decisions
    (model_id, kind, rule, reason, as_of, inputs, about, subject, decided_at)
values (1, 'retrain', 'first', 'first', now(), '{{}}', 'request', 'first', now());
insert into nightshift.versions
    (model_id, number, artifact_hash, signature, manifest, decision_id, trained_at)
values (1, 1, repeat('a', 64), '', '{{}}', 1, now());
insert into nightshift.snapshots
    (family, as_of, revision, content_hash, row_count, dropped_rows, query_hash, taken_at)
select 'f', night, 1, repeat('b', 64), {ENTITIES}, 0, '', night
from generate_series(timestamptz '2026-01-01 02:00+00', '2026-02-28 02:00+00', '1 day') night;
select nightshift.open_month(as_of) from nightshift.snapshots;
insert into nightshift.batches
    (family, as_of, snapshot_id, version_ids, row_count, state, started_at, written_at)
select 'f', as_of, snapshot_id, '{{1}}', {ENTITIES}, 'written', as_of, as_of
from nightshift.snapshots order by as_of;
insert into nightshift.published select family, as_of, batch_id, as_of from nightshift.batches;
insert into nightshift.prediction_rows
    (as_of, score, batch_id, version_id, model_id, flags, entity_id)
select as_of, 0.5, batch_id, 1, 1, 0, 'e' || e
from nightshift.batches, generate_series(1, {ENTITIES}) e order by as_of;
vacuum analyze;
"""
NIGHT = {"family": "f", "as_of": datetime(2026, 2, 10, 2, tzinfo=UTC)}
WINDOW = {
    "family": "f",
    "start": datetime(2026, 2, 6, 2, tzinfo=UTC),
    "end": datetime(2026, 2, 10, 2, tzinfo=UTC),
    "known_by": datetime(2026, 2, 12, tzinfo=UTC),
}
IMPORTANT = {
    "one entity": ("select * from predictions_latest where entity_id = 'e7'", {}),
    "one entity of a model": (
        "select * from predictions_latest where family = 'f' and model = 'f' and entity_id = 'e7'",
        {},
    ),
    "a night": ("select * from predictions where family = :family and as_of = :as_of", NIGHT),
    "the last night": (
        "select * from predictions where family = 'f'"
        " and as_of = (select max(as_of) from nights where family = 'f')",
        {},
    ),
    "measuring": (query_text("monitoring.outcomes"), WINDOW),
    "trials": (query_text("trials.rows"), WINDOW | {"versions": "1"}),
    "purging": (
        query_text("scoring.delete_rows"),
        {"batch_ids": [40], "nights": [NIGHT["as_of"]]},
    ),
}


@pytest.fixture(scope="module")
def history(postgres: Any, template: str) -> Iterator[str]:
    """A database with the nights in two months."""
    with session(postgres.url("postgres")) as connection:
        connection.exec_driver_sql(f"create database history template {template}")
    url: str = postgres.url("history")
    with session(url) as connection:
        for statement in HISTORY.split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
    yield url
    with session(postgres.url("postgres")) as connection:
        connection.exec_driver_sql("drop database history with (force)")


@pytest.mark.parametrize("name", IMPORTANT)
def test_important_queries_read_no_month_whole(history: str, name: str) -> None:
    sql, parameters = IMPORTANT[name]
    scans = _scans(history, sql, parameters)
    assert scans
    assert [node["Relation Name"] for node in scans if node["Node Type"] == "Seq Scan"] == []


@pytest.mark.parametrize("name", ["a night", "the last night", "measuring", "trials", "purging"])
def test_what_is_about_some_nights_opens_their_month_only(history: str, name: str) -> None:
    sql, parameters = IMPORTANT[name]
    opened = {scan["Relation Name"] for scan in _scans(history, sql, parameters)}
    assert opened == {"prediction_rows_2026_02"}


def _scans(url: str, sql: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The scans of prediction rows that a query really makes; what it deletes is kept."""
    statement, values = positional(sql, parameters)
    given = f"({', '.join(['%s'] * len(values))})" if values else ""
    explain = "explain (analyze, format json, timing off) execute it"
    with psycopg2.connect(make_url(url).set(drivername="postgresql").render_as_string()) as asked:
        with asked.cursor() as cursor:
            cursor.execute(f"prepare it as {statement}")
            cursor.execute(explain + given, values)
            [[plan]] = cursor.fetchone() or ()
        asked.rollback()
    return [node for node in _nodes(plan["Plan"]) if _of_rows(node) and _ran(node)]


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)


def _of_rows(node: dict[str, Any]) -> bool:
    return str(node.get("Relation Name", "")).startswith("prediction_rows")


def _ran(node: dict[str, Any]) -> bool:
    return bool(node.get("Actual Loops")) and node["Node Type"] != "ModifyTable"
