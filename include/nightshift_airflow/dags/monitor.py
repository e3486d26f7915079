"""`<family>.monitor`: the Airflow DAGs that measure matured nights and decide what follows."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from functools import partial
from typing import Any

from nightshift.family import ModelFamily
from nightshift_airflow import lineage, metrics, runtime, wiring
from nightshift_airflow.runtime import now, site
from nightshift_airflow.wiring import Pool, step


def monitor_dag(family: ModelFamily) -> None:
    as_of = partial(runtime.as_of, family, "monitor")
    with wiring.family_dag(family, "monitor", wiring.as_of_param()):

        @step(
            pool=Pool.SOURCE,
            execution_timeout=timedelta(hours=1),
            gather=lineage.of_labelling(family),
        )
        def collect_labels() -> dict[str, int]:
            from nightshift.steps import monitor

            return asdict(monitor.collect_labels(site(family), family.family, as_of(), now=now()))

        @step(pool=Pool.SCORING)
        def measure() -> list[int]:
            from nightshift.steps import monitor

            return monitor.measure(site(family), family.family, as_of(), now=now())

        @step(pool=Pool.SCORING, execution_timeout=timedelta(hours=1))
        def judge_trials() -> list[int]:
            from nightshift.steps import monitor

            return monitor.judge_trials(site(family), family.family, as_of(), now=now())

        @step()
        def decide(judged: list[int]) -> list[dict[str, Any]]:
            from nightshift.steps import monitor, people

            questions = people.questions(site(family), judged)
            decided = monitor.decide(site(family), family.family, as_of(), now=now())
            metrics.tell(family)
            return wiring.retrain_runs(decided) + wiring.retrain_runs(questions, "approval")

        judged = judge_trials()
        collect_labels() >> measure() >> judged
        wiring.alert_after(family, "monitor", wiring.start_retrains(family, decide(judged)))


def define() -> None:
    """Define the DAG ``monitor`` of each family whose folder loads."""
    for family in wiring.families():
        monitor_dag(family)
