"""`<family>.score`: the Airflow DAGs that freeze, validate, score and publish a night."""

from __future__ import annotations

from datetime import timedelta

from nightshift.family import ModelFamily
from nightshift_airflow import (
    Pool,
    announce,
    as_of,
    as_of_param,
    families,
    family_dag,
    now,
    predictions_asset,
    site,
    step,
)


def score_dag(family: ModelFamily) -> None:
    with family_dag(family, "score", as_of_param()):

        @step(pool=Pool.SOURCE, execution_timeout=timedelta(hours=1))
        def freeze() -> int:
            from nightshift import steps

            return steps.freeze(site(family), family.family, as_of(family, "score"), now=now())

        @step(pool=Pool.SCORING)
        def validate(snapshot_id: int) -> int:
            from nightshift import steps

            return steps.validate(site(family), snapshot_id, now=now())

        @step(pool=Pool.SCORING, execution_timeout=timedelta(hours=2))
        def score(snapshot_id: int) -> int:
            from nightshift import steps

            return steps.score(site(family), snapshot_id, now=now())

        @step(outlets=[predictions_asset(family)])
        def publish(batch_id: int) -> int:
            from nightshift import steps

            announce(family, steps.publish(site(family), batch_id, now=now()))
            return batch_id

        snapshot_id = freeze()
        batch_id = score(snapshot_id)
        validate(snapshot_id) >> batch_id
        publish(batch_id)


for loaded in families():
    score_dag(loaded)
