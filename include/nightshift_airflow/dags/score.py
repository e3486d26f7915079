"""`<family>.score`: the Airflow DAGs that freeze, validate, score, publish and watch a night."""

from __future__ import annotations

from datetime import timedelta

from nightshift.family import ModelFamily
from nightshift.site import Settings
from nightshift_airflow import lineage, metrics, runtime, wiring
from nightshift_airflow.runtime import now, site
from nightshift_airflow.wiring import Pool, step


def score_dag(family: ModelFamily, settings: Settings) -> None:
    with wiring.family_dag(family, "score", wiring.as_of_param()):

        @step(
            pool=Pool.SOURCE,
            execution_timeout=timedelta(hours=1),
            gather=lineage.of_freezing(family),
        )
        def freeze() -> int:
            from nightshift.steps import night

            as_of = runtime.as_of(family, "score")
            return night.freeze(site(family), family.family, as_of, now=now())

        # Two hours, for a night whose columns have changed is waited for by a training.
        @step(
            pool=Pool.SCORING,
            execution_timeout=timedelta(hours=2),
            gather=lineage.of_validating(family),
        )
        def validate(snapshot_id: int) -> list[dict[str, int]]:
            from nightshift.steps import night, replacing

            night.validate(site(family), snapshot_id, now=now())
            replacing.replace_outgrown(site(family), snapshot_id, now=now())
            return night.share_out(site(family), snapshot_id, now=now())

        @step(pool=Pool.SCORING, execution_timeout=timedelta(hours=2))
        def score(snapshot_id: int, batch_id: int | None = None, part: int | None = None) -> int:
            from nightshift.steps import night

            return night.score_share(site(family), snapshot_id, batch_id, part, now=now())

        @step(outlets=[wiring.predictions_asset(family)], gather=lineage.of_publishing(family))
        def publish(batch_ids: list[int]) -> int:
            from nightshift.steps import night

            [batch_id] = set(batch_ids)
            shown = wiring.announce(family, night.publish(site(family), batch_id, now=now()))
            metrics.tell(family)
            return shown

        @step(pool=Pool.SCORING)
        def watch(batch_id: int) -> int:
            from nightshift.steps import night

            return night.watch(site(family), batch_id, now=now())

        published = publish(score.for_each(validate(freeze())))
        ends = [watch(published)]
        if settings.lake_of(family.family):

            @step(pool=Pool.SOURCE, execution_timeout=timedelta(hours=1))
            def export(batch_id: int) -> int:
                from nightshift.steps import night

                as_of = runtime.as_of(family, "score")
                return night.export(site(family), family.family, as_of, now=now())

            ends.append(export(published))
        wiring.alert_after(family, "score", ends)


def define() -> None:
    """Define the DAG ``score`` of each family whose folder loads."""
    settings = runtime.settings()
    for family in wiring.families():
        score_dag(family, settings)
