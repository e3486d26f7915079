"""Parses dags/ as Airflow's dag-processor does; writes what it found as JSON. Run by conftest."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization

HOME = Path(__file__).resolve().parents[2]


def describe(dag: Any) -> dict[str, Any]:
    DagSerialization.to_dict(dag)  # what the dag-processor stores: it must be possible
    return {
        "tags": sorted(dag.tags),
        "doc_md": dag.doc_md or "",
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "timetable": type(dag.timetable).__name__,
        "params": sorted(dag.params),
        "tasks": {task.task_id: describe_task(task) for task in dag.tasks},
    }


def describe_task(task: Any) -> dict[str, Any]:
    return {
        "owner": task.owner,
        "retries": task.retries,
        "timeout": task.execution_timeout.total_seconds() if task.execution_timeout else None,
        "pool": str(task.pool),
        "upstream": sorted(task.upstream_task_ids),
        "teardown": {"fails_run": task.on_failure_fail_dagrun} if task.is_teardown else None,
        "outlets": [asset.name for asset in task.outlets or ()],
    }


began = time.process_time()
bag = DagBag(dag_folder=str(HOME / "dags"))
cpu_seconds = time.process_time() - began
Path(sys.argv[1]).write_text(
    json.dumps(
        {
            "dags": {dag_id: describe(dag) for dag_id, dag in bag.dags.items()},
            "import_errors": {Path(file).name: text for file, text in bag.import_errors.items()},
            "modules": sorted(sys.modules),
            "cpu_seconds": cpu_seconds,
        }
    )
)
