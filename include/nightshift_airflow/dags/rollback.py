"""`<family>.rollback`: the Airflow DAGs in which a person lets an earlier champion serve again."""

from __future__ import annotations

from datetime import datetime, timedelta

from nightshift.family import ModelFamily
from nightshift.site import Settings
from nightshift_airflow import runtime, wiring
from nightshift_airflow.runtime import now, site
from nightshift_airflow.wiring import Pool, step


def rollback_dag(family: ModelFamily, settings: Settings) -> None:
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
        last = rescore(decision_ids)
        if settings.lake_of(family.family):

            @step(pool=Pool.SOURCE, execution_timeout=timedelta(hours=12))
            def export(nights: list[str]) -> int:
                from nightshift.steps import night

                return sum(
                    night.export(
                        site(family), family.family, datetime.fromisoformat(as_of), now=now()
                    )
                    for as_of in nights
                )

            last = export(last)
        wiring.alert_after(family, "rollback", last, decision_ids)


def define() -> None:
    """Define the DAG ``rollback`` of each family whose folder loads."""
    settings = runtime.settings()
    for family in wiring.families():
        rollback_dag(family, settings)
