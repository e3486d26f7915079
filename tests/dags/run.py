"""Runs one DAG with dag.test() and writes how it went as JSON: ``run.py DAG_ID CONF REPORT``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from airflow.dag_processing.dagbag import DagBag

HOME = Path(__file__).resolve().parents[2]
dag_id, conf, report = sys.argv[1:]

dag = DagBag(dag_folder=str(HOME / "dags")).dags[dag_id]
for task in dag.tasks:
    task.retries = 0  # dag.test() would wait for them
run = dag.test(logical_date=None, run_conf=json.loads(conf))
Path(report).write_text(
    json.dumps(
        {
            "state": run.state,
            "tasks": {
                f"{ti.task_id}{'' if ti.map_index < 0 else f'_{ti.map_index}'}": ti.state
                for ti in run.get_task_instances()
            },
        }
    )
)
