"""A DAG of another team, which runs when a night of air_time has been published.

Copy it into that team's DAG folder. Nights are partitions of the asset, and only a partitioned
timetable is started by them: plain schedule=NIGHT would never run. The event's extra says what was
published: batch_id, family, as_of, rows, versions, contract.
"""

from __future__ import annotations

from airflow.sdk import Asset, PartitionedAssetTimetable, dag, task

NIGHT = Asset("air_time.predictions")


@dag(schedule=PartitionedAssetTimetable(assets=NIGHT), catchup=False)
def plan_gates():
    @task
    def plan(triggering_asset_events=None):
        published = triggering_asset_events[NIGHT][-1].extra
        if published["contract"].split(".")[0] != "2":
            raise ValueError(f"written for contract 2, and this is {published['contract']}")
        print(f"{published['rows']} predictions of {published['as_of']}")

    plan()


plan_gates()
