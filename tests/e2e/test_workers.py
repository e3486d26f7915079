"""A night of a factory over two Celery workers, of which one is killed in the middle of it."""

from __future__ import annotations

import pytest

from .conftest import REDIS, WORKERS, Installation
from .families import FLEET, ROWS

pytestmark = [
    pytest.mark.timeout(600),  # on a busy machine; a quiet one needs a quarter
    pytest.mark.skipif(not REDIS, reason="redis-server is not installed"),
]


def test_a_night_survives_the_death_of_a_worker_and_is_published_once(
    running: Installation, orphaned: str
) -> None:
    dag_id = f"{FLEET}.score"
    running.airflow.succeed(dag_id, orphaned)
    assert not running.workers[WORKERS[0]].is_running()

    path = f"dags/{dag_id}/dagRuns/{orphaned}/taskInstances"
    tries = [
        (task["map_index"], task["try_number"])
        for task in running.airflow.get(path, task_id="score")["task_instances"]
        if task["task_id"] == "score"
    ]
    assert sorted(number for _, number in tries) == [1, 2]  # only what was lost was done again
    published = (
        "select count(*), count(distinct entity_id), count(distinct batch_id)"
        " from predictions where family = %(family)s"
    )
    assert running.rows(published, family=FLEET) == [(ROWS, ROWS, 1)]
    written = (
        "select count(*), count(distinct batch_id)"
        " from nightshift.prediction_rows join nightshift.batches using (batch_id)"
        " where family = %(family)s"
    )
    assert running.rows(written, family=FLEET) == [(ROWS, 1)]
    pointers = "select count(*) from nightshift.published where family = %(family)s"
    assert running.rows(pointers, family=FLEET) == [(1,)]
