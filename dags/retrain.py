"""`<family>.retrain`: the Airflow DAGs that train a challenger and let it prove itself."""

from __future__ import annotations

from datetime import timedelta

from nightshift.family import ModelFamily
from nightshift_airflow import (
    Pool,
    as_of,
    as_of_param,
    asked_decision,
    asked_why,
    families,
    family_dag,
    now,
    retrain_params,
    site,
    step,
)


def retrain_dag(family: ModelFamily) -> None:
    with family_dag(family, "retrain", as_of_param() | retrain_params()):

        @step()
        def request() -> int:
            from nightshift import steps

            return asked_decision() or steps.request_retrain(
                site(family), family.family, as_of(family, "retrain"), **asked_why(), now=now()
            )

        @step(pool=Pool.TRAINING, execution_timeout=timedelta(hours=4))
        def fit(decision_id: int) -> int:
            from nightshift import steps

            return steps.fit(site(family), decision_id, now=now())

        @step(pool=Pool.TRAINING, execution_timeout=timedelta(hours=2))
        def compare(version_id: int) -> int:
            from nightshift import steps

            return steps.compare(site(family), version_id, now=now())

        @step()
        def conclude(comparison_id: int) -> int:
            from nightshift import steps

            return steps.conclude(site(family), comparison_id, now=now())

        conclude(compare(fit(request())))


for loaded in families():
    retrain_dag(loaded)
