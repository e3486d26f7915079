"""`<family>.rollback`: the Airflow DAGs in which a person lets an earlier champion serve again."""

from __future__ import annotations

from datetime import timedelta

from nightshift.family import ModelFamily
from nightshift_airflow import runtime, wiring
from nightshift_airflow.runtime import now, site
from nightshift_airflow.wiring import Pool, step


def rollback_dag(family: ModelFamily) -> None:
    with wiring.family_dag(family, "rollback", wiring.rollback_params()):

        @step()
        def rollback() -> list[int]:
            from nightshift.steps.rollback import rollback as rollback_rollback

            request = runtime.rollback_request()
            return [rollback_rollback(site(family), family.family, **request, now=now())]

        @step(pool=Pool.SCORING, execution_timeout=timedelta(hours=12))
        def rescore(decision_ids: list[int]) -> list[str]:
            from nightshift.steps.rollback import rescore as rollback_rescore

            nights = [
                rollback_rescore(site(family), decision_id, now=now())
                for decision_id in decision_ids
            ]
            return [night.isoformat() for of_decision in nights for night in of_decision]

        decision_ids = rollback()
        wiring.alert_after(family, "rollback", rescore(decision_ids), decision_ids)


def define() -> None:
    """Define the DAG ``rollback`` of each family whose folder loads."""
    for family in wiring.families():
        rollback_dag(family)
