"""`<family>.retrain`: the Airflow DAGs that train challengers and let them prove themselves."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import get_current_context

from nightshift.family import ModelFamily
from nightshift_airflow import approvals, runtime, wiring
from nightshift_airflow.alerts import failed_tasks
from nightshift_airflow.runtime import now, site
from nightshift_airflow.wiring import Pool, step


def retrain_dag(family: ModelFamily) -> None:
    with wiring.family_dag(family, "retrain", wiring.as_of_param() | wiring.retrain_params()):

        @step()
        def request() -> list[int]:
            from nightshift.steps import retrain

            decision_ids = runtime.decisions_of_run()
            if decision_ids:
                return decision_ids
            as_of, details = runtime.as_of(family, "retrain"), runtime.retrain_request()
            if runtime.by_calendar():
                del details["members"]  # a calendar means every model
                return retrain.calendar_retrain(
                    site(family), family.family, as_of, **details, now=now()
                )
            return retrain.request_retrain(site(family), family.family, as_of, **details, now=now())

        @step(pool=Pool.TRAINING, execution_timeout=timedelta(hours=4))
        def fit(decision_ids: list[int]) -> list[int]:
            from nightshift.steps import retrain

            return retrain.fit(site(family), decision_ids, now=now())

        @step(pool=Pool.TRAINING, execution_timeout=timedelta(hours=2))
        def compare(version_ids: list[int]) -> list[int]:
            from nightshift.steps import retrain

            return retrain.compare(site(family), version_ids, now=now())

        @step()
        def conclude(comparison_ids: list[int]) -> list[int]:
            from nightshift.steps import retrain

            return retrain.conclude(site(family), comparison_ids, now=now())

        @step()
        def settle(decision_ids: list[int] | None) -> list[int]:
            from nightshift.steps import upkeep

            context = get_current_context()
            return upkeep.settle(
                site(),
                family.family,
                decision_ids or (),
                failed_tasks(context),
                since=context["dag_run"].run_after,
                now=now(),
            )

        decision_ids = request()
        open_approvals = approvals.ask_after(family, conclude(compare(fit(decision_ids))))
        settled = settle(decision_ids).as_teardown()  # whatever happened, and the run stays red
        open_approvals >> settled
        alerts = wiring.alert_after(family, "retrain", settled, decision_ids, name="alert_asked")
        answered = approvals.answer_after(family, open_approvals)
        wiring.alert_after(family, "retrain", [answered, settled, *alerts], decision_ids)


def define() -> None:
    """Define the DAG ``retrain`` of each family whose folder loads."""
    for family in wiring.families():
        retrain_dag(family)
