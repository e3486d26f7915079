"""Entities whose rows are not learnt from: quarantined, released, or erased."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from nightshift.artifacts import code_changes
from nightshift.data import Transaction
from nightshift.errors import TrainingError
from nightshift.family import Features, ModelFamily
from nightshift.records import Version
from nightshift.wording import moment

Exclusion = Literal["quarantined", "erased", "released"]


def goes_on_from(
    tx: Transaction, family: ModelFamily, champion: Version | None, *, now: datetime
) -> Version | None:
    """The version that a retrain goes on from; None where it makes a fresh start.

    That is where the policy is not ``incremental``, where nobody serves, where the family has other
    code or features than the champion, and where an entity was excluded since the champion was
    trained: it may have learnt from that entity.
    """
    if family.retrain.training.policy != "incremental" or champion is None:
        return None
    manifest = champion.manifest
    features = Features.model_validate(manifest.features)
    if features.names != family.features.names or code_changes(family.folder, manifest):
        return None
    since = {"since": manifest.excluded_by(champion.trained_at), "stated_by": now}
    fresh = tx.one("training.excluded_since", family=family.family, **since).entities
    return None if fresh else champion


def excluded_entities(tx: Transaction, family: str, stated_by: datetime) -> list[str]:
    """The entities that nothing may learn from, as far as was said by a moment.

    An erased one is left out whenever that was said.
    """
    rows = tx.rows("training.excluded_entities", family=family, stated_by=stated_by)
    return [row.entity_id for row in rows]


def exclude(
    tx: Transaction,
    family: str,
    entity_id: str,
    state: Exclusion,
    *,
    reason: str,
    by: str,
    now: datetime,
) -> int:
    """Leave an entity out of training and comparisons from now on, or release it.

    Returns
    -------
    int
        How many labels of the entity are known. Saying the same again changes nothing.

    Raises
    ------
    TrainingError
        It was erased, which is for good, or there is nothing to release.
    """
    entity = {"family": family, "entity_id": entity_id}
    before = tx.maybe("training.exclusion", **entity)
    earlier = before.state if before else "released"
    if before is not None and earlier == "erased" != state:
        raise TrainingError(
            f"{family}: {entity_id!r} was erased at {moment(before.as_of)}, which is for good"
        )
    if state == "released" and earlier == "released":
        raise TrainingError(f"{family}: {entity_id!r} is not quarantined; there is nothing to undo")
    if earlier != state:
        tx.run(
            "training.append_exclusion", **entity, state=state, reason=reason, said_by=by, as_of=now
        )
        tx.record(state, now=now, family=family, as_of=now, reason=reason, by=by)
    labels: int = tx.one("training.known_labels", **entity).labels
    return labels
