"""`<family>.monitor`: the Airflow DAGs that measure matured nights and decide what follows."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator

from nightshift.family import ModelFamily
from nightshift_airflow import runtime, wiring
from nightshift_airflow.runtime import now, site
from nightshift_airflow.wiring import Pool, step


def monitor_dag(family: ModelFamily) -> None:
    with wiring.family_dag(family, "monitor", wiring.as_of_param()):

        @step(pool=Pool.SOURCE, execution_timeout=timedelta(hours=1))
        def collect_labels() -> dict[str, int]:
            from nightshift import steps

            as_of = runtime.as_of(family, "monitor")
            return asdict(steps.collect_labels(site(family), family.family, as_of, now=now()))

        @step(pool=Pool.SCORING)
        def measure() -> list[int]:
            from nightshift import steps

            as_of = runtime.as_of(family, "monitor")
            return steps.measure(site(family), family.family, as_of, now=now())

        @step()
        def decide() -> list[dict[str, Any]]:
            from nightshift import steps

            as_of = runtime.as_of(family, "monitor")
            decision_ids = steps.decide(site(family), family.family, as_of, now=now())
            return wiring.retrain_runs(decision_ids)

        runs = decide()
        collect_labels() >> measure() >> runs
        retrain = TriggerDagRunOperator.partial(
            task_id="retrain",
            trigger_dag_id=f"{family.family}.retrain",
            logical_date=None,  # of dates there can be one run each; of decisions, several a night
            skip_when_already_exists=True,
        ).expand_kwargs(runs)
        wiring.alert_after(family, "monitor", retrain)


for loaded in wiring.families():
    monitor_dag(loaded)
