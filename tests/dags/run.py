"""Runs DAGs with dag.test(), one for each line of JSON on stdin; answers in lines on stdout.

A line has ``dag_id``, ``conf`` and ``environment``; its answer has the ``state`` of the run and of
its ``tasks``. Logs go to stderr. Most of what a first run takes is spent on starting.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # before Airflow is imported, which logs to stdout

from airflow.dag_processing.dagbag import DagBag  # noqa: E402

HOME = Path(__file__).resolve().parents[2]


def run(dag_id: str, conf: dict[str, Any]) -> dict[str, Any]:
    dag = DagBag(dag_folder=str(HOME / "dags")).dags[dag_id]
    for task in dag.tasks:
        task.retries = 0  # dag.test() would wait for them
    ended = dag.test(logical_date=None, run_conf=conf)
    tasks = {
        f"{ti.task_id}{'' if ti.map_index < 0 else f'_{ti.map_index}'}": ti.state
        for ti in ended.get_task_instances()
    }
    return {"state": ended.state, "tasks": tasks}


for line in sys.stdin:
    asked = json.loads(line)
    os.environ.update(asked["environment"])
    print(json.dumps(run(asked["dag_id"], asked["conf"])), file=answers, flush=True)
