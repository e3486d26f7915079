"""What those see who watch platforms: numbers over OTLP, and lineage as OpenLineage's events."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from tests.receivers import Receiver
from tests.waiting import until

from nightshift import doctor, local

from .conftest import Installation
from .families import FLIGHTS

pytestmark = pytest.mark.timeout(600)  # on a busy machine; a quiet one needs a tenth

STEPS = {"freeze", "validate", "score", "publish", "watch"}


@pytest.fixture(scope="module")
def night(running: Installation) -> str:
    """A run of the night of FLIGHTS that ended well; its id."""
    dag_id = f"{FLIGHTS}.score"
    run_id = running.airflow.trigger(dag_id, as_of=running.as_of.isoformat())
    running.airflow.succeed(dag_id, run_id)
    return run_id


def gauges(received: Receiver) -> dict[tuple[str, str], float]:
    """The last value of each of our gauges of FLIGHTS, by name and step."""
    found = {}
    for post in received.posts:
        request = ExportMetricsServiceRequest.FromString(post.body)
        for resource in request.resource_metrics:
            metrics = [metric for scope in resource.scope_metrics for metric in scope.metrics]
            for metric in metrics:
                if not metric.name.startswith("airflow.nightshift."):
                    continue  # pools of ours have the word in their names
                for point in metric.gauge.data_points:
                    tags = {tag.key: tag.value.string_value for tag in point.attributes}
                    if tags["family"] == FLIGHTS and tags.get("state") in (None, "success"):
                        value = point.as_double or float(point.as_int)
                        found[metric.name, tags.get("step", "")] = value
    return found


def completed(received: Receiver) -> dict[str, dict[str, Any]]:
    """The last event of each task of the score DAG of FLIGHTS that ended well."""
    events = [json.loads(post.body) for post in received.posts]
    return {
        event["job"]["name"].removeprefix(f"{FLIGHTS}.score."): event
        for event in events
        if event["eventType"] == "COMPLETE" and event["job"]["name"].startswith(f"{FLIGHTS}.score.")
    }


def test_a_night_tells_its_numbers_by_family(running: Installation, night: str) -> None:
    names = {("airflow.nightshift.freshness", ""), ("airflow.nightshift.rows", "")}
    names |= {("airflow.nightshift.seconds", step) for step in STEPS}
    until(lambda: names <= set(gauges(running.metrics)), report=lambda: gauges(running.metrics))
    told = gauges(running.metrics)
    [(rows,)] = running.seen(
        "select count(*) from predictions where family = %(family)s and as_of = %(as_of)s",
        family=FLIGHTS,
        as_of=running.as_of,
    )
    assert told["airflow.nightshift.rows", ""] == rows
    assert 0 < told["airflow.nightshift.freshness", ""] < 2 * 86_400
    assert all(0 < told["airflow.nightshift.seconds", step] < 600 for step in STEPS)
    assert {post.path for post in running.metrics.posts} == {"/v1/metrics"}


def test_a_catalogue_can_draw_a_night_from_its_source_to_its_readers(
    running: Installation, night: str
) -> None:
    until(lambda: set(completed(running.lineage)) >= STEPS, report=lambda: list(_names(running)))
    events = completed(running.lineage)
    [written] = events["freeze"]["outputs"]
    assert written["name"] == f"nightshift.nightshift.snapshots.{FLIGHTS}"
    [(rows, content_hash)] = running.rows(
        "select row_count, content_hash from nightshift.snapshots"
        " where family = %(family)s and as_of = %(as_of)s order by revision desc limit 1",
        family=FLIGHTS,
        as_of=running.as_of,
    )
    assert written["outputFacets"]["outputStatistics"]["rowCount"] == rows
    assert written["facets"]["version"]["datasetVersion"] == content_hash
    sources = {dataset["name"] for dataset in events["freeze"]["inputs"]}
    assert "warehouse.public.schedule" in sources

    [judged] = events["validate"]["inputs"]
    assert (judged["namespace"], judged["name"]) == (written["namespace"], written["name"])
    assertions = judged["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert len(assertions) > 5
    assert all(assertion["success"] for assertion in assertions)
    assert {"error"} <= {assertion["severity"] for assertion in assertions} <= {"error", "warn"}

    [read], [shown] = events["publish"]["inputs"], events["publish"]["outputs"]
    assert read["name"] == written["name"]
    assert read["facets"]["version"]["datasetVersion"] == content_hash
    assert shown["name"] == f"nightshift.public.predictions_{FLIGHTS}"
    assert shown["outputFacets"]["outputStatistics"]["rowCount"] == rows


def test_an_installation_that_runs_is_in_order(running: Installation, night: str) -> None:
    found = doctor.examine(running.site, local.metadata_url(running.site), now=datetime.now(UTC))
    assert found.findings == ()
    assert set(found.examined) == set(doctor.CHECKS)


def _names(running: Installation) -> set[tuple[str, str]]:
    events = [json.loads(post.body) for post in running.lineage.posts]
    return {(event["eventType"], event["job"]["name"]) for event in events}
