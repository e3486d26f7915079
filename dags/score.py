"""`<family>.score`: the Airflow DAGs that freeze, validate, score, publish and watch a night."""

from __future__ import annotations

from datetime import timedelta

from nightshift.family import ModelFamily
from nightshift_airflow import runtime, wiring
from nightshift_airflow.runtime import now, site
from nightshift_airflow.wiring import Pool, step


def score_dag(family: ModelFamily) -> None:
    with wiring.family_dag(family, "score", wiring.as_of_param()):

        @step(pool=Pool.SOURCE, execution_timeout=timedelta(hours=1))
        def freeze() -> int:
            from nightshift import steps

            as_of = runtime.as_of(family, "score")
            return steps.freeze(site(family), family.family, as_of, now=now())

        @step(pool=Pool.SCORING)
        def validate(snapshot_id: int) -> int:
            from nightshift import steps

            return steps.validate(site(family), snapshot_id, now=now())

        @step(pool=Pool.SCORING, execution_timeout=timedelta(hours=2))
        def score(snapshot_id: int) -> int:
            from nightshift import steps

            return steps.score(site(family), snapshot_id, now=now())

        @step(outlets=[wiring.predictions_asset(family)])
        def publish(batch_id: int) -> int:
            from nightshift import steps

            return wiring.announce(family, steps.publish(site(family), batch_id, now=now()))

        @step(pool=Pool.SCORING)
        def watch(batch_id: int) -> int:
            from nightshift import steps

            return steps.watch(site(family), batch_id, now=now())

        snapshot_id = freeze()
        batch_id = score(snapshot_id)
        validate(snapshot_id) >> batch_id
        wiring.alert_after(family, "score", watch(publish(batch_id)))


for loaded in wiring.families():
    score_dag(loaded)
