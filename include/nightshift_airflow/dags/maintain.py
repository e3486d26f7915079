"""`maintain`: the Airflow DAG that clears away what no published night needs any more."""

from __future__ import annotations

from airflow.sdk import DAG, CronTriggerTimetable

from nightshift_airflow.runtime import now, site
from nightshift_airflow.wiring import DEFAULTS, runbook, step


def define() -> None:
    """Define the DAG ``maintain``, which all families share."""
    with DAG(
        "maintain",
        description="Purge abandoned and superseded rows, for all families",
        # At noon, when nights have been published and measured in most time zones; it waits for
        # nobody.
        schedule=CronTriggerTimetable("0 12 * * *", timezone="UTC"),
        catchup=False,
        max_active_runs=1,  # two purges at once would only wait for each other's locks
        default_args={**DEFAULTS, "owner": "nightshift"},
        tags={"nightshift", "maintain"},
        doc_md=runbook("maintain"),
    ):

        @step()
        def maintain() -> dict[str, int]:
            from nightshift.steps import upkeep

            return upkeep.maintain(site(), now=now())

        maintain()
