"""Airflow, by what its own database says: pools, import errors, processes that are silent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from importlib.resources import files

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from nightshift.doctor.findings import Finding, Patient
from nightshift.errors import SetupError
from nightshift.local import session
from nightshift.wording import moment

SILENT = timedelta(minutes=5)
"""How long a process of Airflow's that says it runs may give no sign of life."""

_NO_DATABASE = re.compile(r'database "[^"]+" does not exist')
_POOLS = "select pool, slots from slot_pool"
_IMPORT_ERRORS = "select filename, stacktrace from import_error order by filename"
_SILENT = """
select distinct on (job_type) job_type, state, latest_heartbeat from job
where job_type in ('SchedulerJob', 'DagProcessorJob', 'TriggererJob')
order by job_type, latest_heartbeat desc
"""


def airflow(patient: Patient) -> Iterator[Finding]:
    """Our pools are there, every DAG loads, and no process has gone silent.

    An installation without an Airflow has nothing to be examined: nights by hand need none.
    """
    try:
        with session(patient.metadata_url) as connection:
            if connection.dialect.has_table(connection, "slot_pool"):
                yield from _pools(connection)
                yield from _import_errors(connection)
                yield from _silence(connection, patient)
    except (DBAPIError, SetupError) as error:
        reason = str(error.orig if isinstance(error, DBAPIError) else error).splitlines()[0]
        if not _NO_DATABASE.search(reason):  # without one there is no Airflow
            yield Finding(
                "airflow",
                "database",
                f"Airflow's database cannot be asked: {reason}",
                "start it (nightshift up), or correct AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
            )


def _pools(connection: Connection) -> Iterator[Finding]:
    # Named, not imported: nothing here knows the package that knows Airflow.
    wanted = json.loads((files("nightshift_airflow") / "pools.json").read_text())
    there = {row.pool: row.slots for row in connection.exec_driver_sql(_POOLS)}
    for pool in wanted:
        if there.get(pool, 0) == 0:
            wrong = "has no slot" if pool in there else "is missing"
            yield Finding(
                "pools",
                pool,
                f"the pool {wrong}, so its tasks wait for ever",
                "nightshift prepare imports the pools; their sizes are under Admin, Pools",
            )


def _import_errors(connection: Connection) -> Iterator[Finding]:
    for row in connection.exec_driver_sql(_IMPORT_ERRORS):
        last = (row.stacktrace or "").strip().splitlines() or ["no reason is told"]
        yield Finding(
            "dags",
            row.filename,
            f"it does not load: {last[-1]}",
            "mend it; the whole message is on Airflow's page of DAGs, and in nightshift check",
        )


def _silence(connection: Connection, patient: Patient) -> Iterator[Finding]:
    for row in connection.exec_driver_sql(_SILENT):
        if row.state == "running" and row.latest_heartbeat < patient.now - SILENT:
            yield Finding(
                "airflow",
                row.job_type.removesuffix("Job"),
                f"it has given no sign of life since {moment(row.latest_heartbeat)}",
                "nightshift up starts what is down; logs are in .nightshift/logs",
            )
