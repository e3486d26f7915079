"""What a night asks of tables that grow for years is found, not looked for: plans, not seconds.

Seven months of nights are there. Postgres plans with statistics, and without: a database that was
just restored, or whose first nights are not analysed yet, has none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, text

from nightshift.data import query_text
from nightshift.local import Postgres, session

FIRST = datetime(2026, 1, 1, 2, tzinfo=UTC)
NIGHT = datetime(2026, 7, 10, 2, tzinfo=UTC)
MONITOR = NIGHT + timedelta(hours=4)

GROWING = ("labels", "measurements", "decisions", "events", "signals", "batch_models")
"""Tables with many rows of every night. Of prediction_rows, a month may be read whole."""

HISTORY = """
insert into nightshift.models (family, name, created_at)
select 'fleet', 'm' || i, :first from generate_series(1, 20) i;
insert into nightshift.memberships (model_id, as_of, state)
select model_id, cast(:first as timestamptz), 'active' from nightshift.models;
create temporary table nights as
select row_number() over (order by night)::int as number, night
from generate_series(cast(:first as timestamptz), cast(:last as timestamptz), '1 day') night;
select nightshift.open_month(night)
from (select distinct date_trunc('month', night) as night from nights) months;
insert into nightshift.snapshots
    (family, as_of, revision, content_hash, row_count, dropped_rows, query_hash, taken_at)
select 'fleet', night, 1, encode(sha256(night::text::bytea), 'hex'), 400, 0, '', night
from nights order by number;
insert into nightshift.decisions
    (model_id, kind, rule, reason, as_of, inputs, about, subject, decided_at)
select model_id, case when mod(number + model_id, 60) = 0 then 'retrain' else 'keep' end,
       'breaches', 'told', night, '{}', 'monitor', 'monitor ' || number, night
from nights, nightshift.models order by number, model_id;
insert into nightshift.versions
    (model_id, number, artifact_hash, signature, manifest, decision_id, trained_at)
select model_id, 1, encode(sha256(name::bytea), 'hex'), '', '{}', d.decision_id, :first
from nightshift.models join nightshift.decisions d using (model_id)
where d.subject = 'monitor 1' order by model_id;
insert into nightshift.promotions
    (model_id, seq, version_id, decision_id, effective_from, promoted_at)
select model_id, 1, version_id, decision_id, :first, :first from nightshift.versions;
insert into nightshift.batches
    (family, as_of, snapshot_id, version_ids, row_count, state, started_at, written_at)
select 'fleet', as_of, snapshot_id, '{1}', 400, 'written', as_of, as_of
from nightshift.snapshots order by snapshot_id;
insert into nightshift.published select family, as_of, batch_id, as_of from nightshift.batches;
insert into nightshift.batch_models
select batch_id, model_id, model_id, 20 from nightshift.batches, nightshift.models;
insert into nightshift.prediction_rows
    (as_of, score, batch_id, version_id, model_id, flags, entity_id)
select as_of, i, batch_id, mod(i, 20) + 1, mod(i, 20) + 1, 0,
       to_char(as_of, 'YYYYMMDD') || '-' || i
from nightshift.batches, generate_series(1, 400) i;
insert into nightshift.labels
    (family, entity_id, value, event_at, known_at, stated_at, collected_at)
select 'fleet', entity_id, score, as_of, as_of + interval '1 hour', as_of + interval '1 hour',
       as_of
from nightshift.prediction_rows;
insert into nightshift.label_collections
    (family, since, as_of, found, added, duplicates, corrections, contradictions, late,
     collected_at)
select 'fleet', night - interval '2 days', night + interval '4 hours', 0, 0, 0, 0, 0, 0, night
from nights;
insert into nightshift.measurements
    (model_id, metric, as_of, window_start, window_end, state, value, low, high, predictions,
     labels, version_id, measured_at)
select model_id, 'neg_mean_absolute_error', night + interval '4 hours', night, night, 'measured',
       1, 1, 1, 20, 20, version_id, night
from nights, nightshift.models join nightshift.versions using (model_id);
insert into nightshift.signals
    (batch_id, model_id, version_id, signal, feature, value, level, row_count, watched_at)
select batch_id, model_id, model_id, 'drift', 'f' || i, 0, 'ok', 20, :first
from nightshift.batch_models, generate_series(1, 3) i;
insert into nightshift.events (happened_at, code, family, as_of, detail)
select night, 'promoted', 'fleet', night, '{}' from nights, generate_series(1, 20);
insert into nightshift.alerts (family, cause, subject, title, message, as_of, raised_at)
select 'fleet', 'breach', night::text || i, '', '', night, night
from nights, generate_series(1, 10) i
"""
INCOMING = """
create temporary table incoming_labels as
select entity_id, answers, value, event_at, stated_at from nightshift.labels
where known_at > cast(:night as timestamptz) - interval '2 days'
  and known_at <= cast(:night as timestamptz)
"""

LABELS = """
insert into nightshift.labels
    (family, entity_id, value, event_at, known_at, stated_at, collected_at)
select 'fleet', 'entity-' || i, i, :night, :night, :night, :night from generate_series(1, 240) i
"""

WINDOW = {"family": "fleet", "start": NIGHT - timedelta(days=7), "end": NIGHT}
MOMENT = {"family": "fleet", "as_of": MONITOR}
QUERIES: dict[str, dict[str, Any]] = {
    "monitoring.outcomes": WINDOW | {"known_by": MONITOR},
    "monitoring.scores": WINDOW,
    "monitoring.recent": MOMENT | {"metric": "neg_mean_absolute_error", "count": 3},
    "monitoring.find_measurements": {
        "metric": "neg_mean_absolute_error",
        "as_of": MONITOR,
        "model_ids": [1, 2, 3],
        "version_ids": [1, 2, 3],
    },
    "monitoring.signals": {"family": "fleet", "as_of": NIGHT, "nights": 3},
    "monitoring.measured_families": {"as_of": MONITOR},
    "labels.latest": MOMENT,
    "labels.unlabelled_predictions": WINDOW | {"as_of": MONITOR},
    "labels.append_incoming": MOMENT
    | {"since": MONITOR - timedelta(days=2), "collected_at": MONITOR},
    "registry.decided_models": {"model_ids": [1, 2, 3], "subject": "monitor 180"},
    "registry.last_retrains": {"family": "fleet", "before": MONITOR},
    "registry.retrains_called_for": {"since": NIGHT, "until": MONITOR},
    "registry.absent_members": MOMENT | {"since": NIGHT - timedelta(days=30), "whole": "fleet"},
    "alerting.monitor_decisions": {"family": "fleet", "as_of": NIGHT},
    "alerting.rejection": {"family": "fleet", "as_of": NIGHT},
    "alerting.failed_models": {"family": "fleet", "as_of": NIGHT},
    "alerting.refusals": {"family": "fleet", "moments": [NIGHT], "since": NIGHT},
    "alerting.alert_signals": {"family": "fleet", "as_of": NIGHT},
    "alerting.watched_models": {"family": "fleet", "as_of": NIGHT},
    "training.labels": {"family": "fleet", "start": WINDOW["start"], "known_by": MONITOR},
    "trials.rows": WINDOW | {"known_by": MONITOR, "versions": "1,2"},
}


@pytest.fixture(scope="module", params=["with statistics", "without statistics"])
def history(request: pytest.FixtureRequest, postgres: Postgres, template: str) -> Iterator[str]:
    """The URL of a database with seven months of nights."""
    name = f"plans_{request.param.replace(' ', '_')}"
    with session(postgres.url("postgres")) as connection:
        connection.exec_driver_sql(f"create database {name} template {template}")
    with session(postgres.url(name)) as connection:
        moments = {"first": FIRST, "last": NIGHT + timedelta(days=20)}
        for statement in HISTORY.split(";\n"):
            connection.execute(text(statement), moments)
        for table in connection.exec_driver_sql(
            "select oid::regclass::text from pg_class"
            " where relkind = 'r' and relnamespace = 'nightshift'::regnamespace"
        ).scalars():
            connection.exec_driver_sql(f"alter table {table} set (autovacuum_enabled = false)")
    if request.param == "with statistics":
        with session(postgres.url(name)) as connection:
            connection.exec_driver_sql("analyze")
    yield postgres.url(name)
    with session(postgres.url("postgres")) as connection:
        connection.exec_driver_sql(f"drop database {name} with (force)")


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_a_night_reads_no_growing_table_whole(history: str, name: str) -> None:
    with session(history) as connection:
        connection.execute(text(INCOMING), {"night": NIGHT})
        whole = [
            node["Relation Name"]
            for node in _nodes(_plan(connection, name))
            if node["Node Type"] == "Seq Scan" and node["Relation Name"] in GROWING
        ]
    assert whole == []


@pytest.mark.parametrize(
    "name", ["monitoring.outcomes", "monitoring.scores", "labels.unlabelled_predictions"]
)
def test_other_months_stay_unread(history: str, name: str) -> None:
    with session(history) as connection:
        read = {node.get("Relation Name", "") for node in _nodes(_plan(connection, name))}
    months = {relation for relation in read if relation.startswith("prediction_rows_")}
    assert months == {"prediction_rows_2026_07"}


def _plan(connection: Connection, name: str) -> dict[str, Any]:
    asked = text(f"explain (format json) {query_text(name)}")
    told = connection.execute(asked, QUERIES[name]).scalar_one()
    plan: dict[str, Any] = (told if isinstance(told, list) else json.loads(told))[0]["Plan"]
    return plan


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from _nodes(part)


def test_a_label_is_looked_up_by_its_entity_before_there_are_statistics(database_url: str) -> None:
    """The first nights: a few labels, many predictions, and a planner that knows of neither."""
    with session(database_url) as connection:
        connection.execute(text("select nightshift.open_month(:night)"), {"night": NIGHT})
        connection.execute(text(LABELS), {"night": NIGHT})
        for name in ("monitoring.outcomes", "labels.unlabelled_predictions", "trials.rows"):
            nodes = list(_nodes(_plan(connection, name)))
            used = {node["Index Name"] for node in nodes if "Index Name" in node}
            labels = {index for index in used if index.startswith("labels_")}
            assert labels == {"labels_family_entity_id_answers_stated_at_value_key"}, name
