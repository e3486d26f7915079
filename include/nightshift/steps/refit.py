"""A challenger that has won, fitted once more with its holdout: it is what serves."""

from __future__ import annotations

from dataclasses import replace

from nightshift import registry, training
from nightshift.errors import TrainingError
from nightshift.records import Version
from nightshift.steps.frame import Frame


def refitted(
    frame: Frame, version: Version, cache: dict[tuple[training.Span, ...], training.Rows]
) -> int:
    """A challenger that has won, fitted once more on all matured nights: the version that serves.

    Where it cannot be, the challenger itself serves, and the audit trail says why.

    Parameters
    ----------
    cache
        The rows of spans that were read already; filled here.
    """
    family = training.as_learnt(frame.family, version)
    if not family.promotion.refit:
        return version.version_id
    with frame.database.transaction() as tx:
        refit = registry.version_of_decision(tx, version.decision_id, "refit")
    if refit is not None:
        return refit.version_id
    won = training.planned(version)
    end = frame.as_of - family.labels.maturity
    plan = training.with_holdout(
        replace(
            won,
            cutoff=frame.as_of,
            later=training.Span(won.border, max(end, won.border)),
            stated_by=frame.now,
        )
    )
    try:
        if plan.learn not in cache:
            cache[plan.learn] = training.labelled_rows(
                frame.database, frame.store, family, plan.learn, frame.as_of, now=frame.now
            )
        goes_on = family.retrain.training.policy == "incremental"
        base = frame.registry.load(version) if goes_on else None
        artifact, manifest, code = training.fit(
            family, version.model, cache[plan.learn], plan, base=base, proven=version
        )
    except TrainingError as error:
        with frame.database.transaction() as tx:
            tx.record(
                "refit_failed",
                now=frame.now,
                family=frame.family_name,
                as_of=frame.as_of,
                model=version.model.name,
                version=version.number,
                reason=str(error),
            )
        return version.version_id
    with frame.database.transaction() as tx:
        return frame.registry.save(
            tx,
            version.model,
            artifact,
            manifest,
            decision_id=version.decision_id,
            now=frame.now,
            code=code,
            made_as="refit",
        )
