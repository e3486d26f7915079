"""A champion that a night has no columns for makes way before the night is lost."""

from __future__ import annotations

from datetime import datetime

from nightshift import fleet, night, registry
from nightshift.data import connect
from nightshift.errors import NightshiftError
from nightshift.site import Site
from nightshift.steps import retrain
from nightshift.steps.frame import audited
from nightshift.wording import listed


def replace_outgrown(site: Site, snapshot_id: int, *, now: datetime) -> list[int]:
    """Train anew the models whose champion needs a column that a night has no more.

    The columns of a family change when its author changes them, and a champion that needs one which
    is gone, or has another name, can score nothing. What is trained on the columns that there are
    serves from this night on, if approval is automatic and nobody holds the family; where it cannot
    be trained, scoring the night says what is missing.

    Returns
    -------
    list of int
        The decisions that were concluded; none where every champion knows its columns.
    """
    with connect(site.database_url).transaction() as tx:
        snapshot = night.snapshot(tx, snapshot_id)
        champions = registry.champions(tx, snapshot.family, snapshot.as_of)
    with audited(site, snapshot.family, snapshot.as_of, now) as frame:
        if not champions or frame.family.promotion.approval == "human":
            return []
        columns = set(frame.store.schema(snapshot.content_hash).names)
        lacking = {
            champion.version.model.name: champion.version.manifest.columns - columns
            for champion in champions.values()
            if not champion.version.manifest.columns <= columns
        }
        with frame.database.transaction() as tx:
            active = fleet.models(tx, frame.family, snapshot.as_of, now=now) if lacking else []
    outgrown = [model.name for model in active if model.name in lacking]
    if not outgrown:
        return []
    gone = sorted({column for name in outgrown for column in lacking[name]})
    reason = f"features.sql gives {listed(gone)} no more, which the champion needs"
    try:
        decision_ids = retrain.request_retrain(
            site,
            snapshot.family,
            snapshot.as_of,
            reason=reason,
            by="score",
            now=now,
            members=outgrown,
        )
        compared = retrain.compare(site, retrain.fit(site, decision_ids, now=now), now=now)
        return retrain.conclude(site, compared, now=now)
    except NightshiftError as error:
        if error.transient:
            raise
        return []  # it is in the audit trail, and scoring says what the night lacks
