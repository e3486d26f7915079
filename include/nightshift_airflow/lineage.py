"""Where data comes from, for whoever gathers it with OpenLineage.

With Airflow's provider installed and configured (``[openlineage] transport``), its listener sends
an event for each task, and asks our operators which datasets the task has read and written. The
answer is gathered while the task runs. Values of rows are never in it.

A snapshot and a family's predictions are one dataset each, named as tables of the ``nightshift``
database; of which night they are, the version of the dataset says.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nightshift.family import ModelFamily
from nightshift_airflow import runtime

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import InputDataset, OutputDataset

    from nightshift.reports import Frozen

Gather = Callable[[Sequence[Any], Any], "OperatorLineage"]
"""What a task has read and written, by its arguments and what it returned (None if it failed)."""

_SEVERITIES = {"critical": "error", "warning": "warn"}
"""Ours as OpenLineage has them: an error blocks, a warning does not."""

log = logging.getLogger(__name__)


def gathered(
    gather: Gather | None, arguments: Sequence[Any], result: Any
) -> OperatorLineage | None:
    """What a task has read and written; None where nobody asks, or where it cannot be told.

    No lineage is worth a task: what goes wrong here is a warning in the task's log.
    """
    if gather is None:
        return None
    try:
        from airflow.providers.openlineage.api import is_openlineage_active
    except ImportError:
        return None
    try:
        return gather(arguments, result) if is_openlineage_active() else None
    except Exception as error:  # a catalogue that misses an arrow is no reason to miss a night
        log.warning("lineage was not told: %s: %s", type(error).__name__, error)
        return None


def of_freezing(family: ModelFamily) -> Gather:
    """From the tables of features.sql to the snapshot."""

    def gather(arguments: Sequence[Any], snapshot_id: Any) -> OperatorLineage:
        outputs = [] if snapshot_id is None else [_written(_frozen(snapshot_id))]
        return _lineage(_source_tables(family, family.features_sql), outputs)

    return gather


def of_validating(family: ModelFamily) -> Gather:
    """The snapshot, with every expectation that was checked; also where it was rejected."""

    def gather(arguments: Sequence[Any], result: Any) -> OperatorLineage:
        [snapshot_id] = arguments
        return _lineage([_read(_frozen(snapshot_id), judged=True)], [])

    return gather


def of_publishing(family: ModelFamily) -> Gather:
    """From the snapshot to the view that readers see."""

    def gather(arguments: Sequence[Any], batch_id: Any) -> OperatorLineage:
        if batch_id is None:
            return _lineage([], [])
        from nightshift.reports import shown

        batch = shown(_database(), batch_id)
        version = f"{batch.snapshot.as_of.isoformat()}/{batch.batch_id}"
        name = f"public.predictions_{family.family}"
        return _lineage([_read(batch.snapshot)], [_table(name, version, batch.rows)])

    return gather


def of_labelling(family: ModelFamily) -> Gather:
    """From the tables of labels.sql to the labels that are kept."""

    def gather(arguments: Sequence[Any], collected: Any) -> OperatorLineage:
        outputs = []
        if collected is not None:
            as_of = runtime.as_of(family, "monitor").isoformat()
            outputs = [_table(f"nightshift.labels.{family.family}", as_of, collected["added"])]
        return _lineage(_source_tables(family, family.labels_sql), outputs)

    return gather


def _frozen(snapshot_id: int) -> Frozen:
    from nightshift.reports import frozen

    return frozen(_database(), snapshot_id)


def _read(snapshot: Frozen, *, judged: bool = False) -> InputDataset:
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.facet_v2 import data_quality_assertions_dataset as assertions
    from openlineage.client.facet_v2 import data_quality_metrics_input_dataset as quality

    facets: dict[str, Any] = {
        "dataQualityMetrics": quality.DataQualityMetricsInputDatasetFacet(
            rowCount=snapshot.rows, columnMetrics={}
        )
    }
    if judged:
        facets["dataQualityAssertions"] = assertions.DataQualityAssertionsDatasetFacet(
            [
                assertions.Assertion(
                    assertion=check.expectation,
                    success=check.success,
                    column=check.column,
                    severity=_SEVERITIES.get(check.severity),
                )
                for check in snapshot.checks
            ]
        )
    namespace, database = _namespace(runtime.site().database_url)
    return InputDataset(
        namespace, f"{database}.{_name(snapshot)}", facets=_facts(snapshot), inputFacets=facets
    )


def _written(snapshot: Frozen) -> OutputDataset:
    written = _table(_name(snapshot), snapshot.content_hash, snapshot.rows)
    written.facets = _facts(snapshot)
    return written


def _facts(snapshot: Frozen) -> dict[str, Any]:
    """By which content a snapshot is known, and where its file is."""
    from openlineage.client.facet_v2 import dataset_version_dataset, symlinks_dataset

    from nightshift.steps.frame import store_of

    address = store_of(runtime.site()).address(snapshot.content_hash, "parquet")
    parts = urlsplit(address)
    bucket = f"{parts.scheme}://{parts.netloc}" if parts.netloc else "file"
    file = symlinks_dataset.Identifier(
        bucket, parts.path.lstrip("/") if parts.netloc else address, "FILE"
    )
    return {
        "version": dataset_version_dataset.DatasetVersionDatasetFacet(snapshot.content_hash),
        "symlinks": symlinks_dataset.SymlinksDatasetFacet([file]),
    }


def _name(snapshot: Frozen) -> str:
    return f"nightshift.snapshots.{snapshot.family}"


def _table(name: str, version: str, rows: int) -> OutputDataset:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import (
        dataset_version_dataset,
        output_statistics_output_dataset,
    )

    namespace, database = _namespace(runtime.site().database_url)
    return OutputDataset(
        namespace,
        f"{database}.{name}",
        facets={"version": dataset_version_dataset.DatasetVersionDatasetFacet(version)},
        outputFacets={
            "outputStatistics": output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
                rowCount=rows
            )
        },
    )


def _source_tables(family: ModelFamily, sql: str) -> list[InputDataset]:
    from openlineage.client.event_v2 import InputDataset

    from nightshift.sources import tables_of

    namespace, database = _namespace(runtime.site(family).source(family.source.connection))
    return [
        InputDataset(namespace, f"{database}.{name if '.' in name else f'public.{name}'}")
        for name in tables_of(sql)
    ]


def _namespace(url: str) -> tuple[str, str]:
    """A database as OpenLineage names it: ``postgres://host:port``, and its name."""
    from sqlalchemy import make_url

    parsed = make_url(url)
    host = parsed.host or parsed.query.get("host") or "localhost"
    port = parsed.port or parsed.query.get("port") or 5432
    return f"postgres://{host}:{port}", parsed.database or ""


def _lineage(inputs: list[InputDataset], outputs: list[OutputDataset]) -> OperatorLineage:
    from airflow.providers.openlineage.extractors import OperatorLineage

    return OperatorLineage(inputs=inputs, outputs=outputs)


def _database() -> Any:
    from nightshift.data import connect

    return connect(runtime.site().database_url)
