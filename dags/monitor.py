"""`<family>.monitor`: the Airflow DAGs that measure matured nights and decide what follows."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator

from nightshift.family import ModelFamily
from nightshift_airflow import (
    Pool,
    as_of,
    as_of_param,
    families,
    family_dag,
    now,
    retrain_run,
    site,
    step,
)


def monitor_dag(family: ModelFamily) -> None:
    with family_dag(family, "monitor", as_of_param()):

        @step(pool=Pool.SOURCE, execution_timeout=timedelta(hours=1))
        def collect_labels() -> int:
            from nightshift import steps

            return steps.collect_labels(
                site(family), family.family, as_of(family, "monitor"), now=now()
            )

        @step(pool=Pool.SCORING)
        def measure() -> list[int]:
            from nightshift import steps

            return steps.measure(site(family), family.family, as_of(family, "monitor"), now=now())

        @step()
        def decide() -> list[int]:
            from nightshift import steps

            return steps.decide(site(family), family.family, as_of(family, "monitor"), now=now())

        decisions = decide()
        collect_labels() >> measure() >> decisions
        TriggerDagRunOperator.partial(
            task_id="retrain",
            trigger_dag_id=f"{family.family}.retrain",
            logical_date=None,  # of dates there can be one run each; of decisions, several a night
            skip_when_already_exists=True,
        ).expand_kwargs(decisions.map(retrain_run))


for loaded in families():
    monitor_dag(loaded)
