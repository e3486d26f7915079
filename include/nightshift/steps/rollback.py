"""The DAG ``rollback``: an earlier champion serves again, and its nights may be scored again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from nightshift import night, promotion, registry
from nightshift.data import connect
from nightshift.documents import Inputs
from nightshift.records import About, Decision
from nightshift.site import Site
from nightshift.steps.frame import audited
from nightshift.steps.night import publish, score, watch


@dataclass(frozen=True)
class Undo:
    """Which promotion is undone.

    Parameters
    ----------
    model
        A member of a factory; by default the model that is named as the family.
    to
        The number of a version that was champion once; by default the champion before this one.
    rescore
        It serves from when the bad version began, not from the present: :func:`rescore` then scores
        those nights again.
    """

    model: str | None = None
    to: int | None = None
    rescore: bool = False


def rollback(
    site: Site,
    family_name: str,
    *,
    reason: str,
    by: str,
    as_of: datetime,
    now: datetime,
    undo: Undo = Undo(),
) -> int:
    """Let an earlier champion serve again, without training; the decision's id.

    Parameters
    ----------
    by
        Who says so: a name.
    as_of
        When it was said. Saying the same of a model twice at the same moment is saying it once.

    Raises
    ------
    RegistryError
        There is no such champion, it serves already, its artifact was collected, or another
        promotion came first.
    """
    with (
        audited(site, family_name, as_of, now) as frame,
        frame.database.transaction() as tx,
    ):
        model = registry.known_model(tx, family_name, undo.model or family_name)
        about = About.rollback(as_of, by, reason)
        decision_id = registry.decision_about(tx, model.model_id, about)
        if decision_id is not None:
            return decision_id
        served = registry.promotions(tx, model.model_id)
        way = bad, good = registry.way_back(model, served, undo.to, again=undo.rescore)
        sentence = f"{by}: from version {bad.number} back to version {good.number}: {reason}"
        inputs = {
            "by": by,
            "older": good.version_id,
            "newer": bad.version_id,
            "since": bad.effective_from,
            "rescore": undo.rescore,
        }
        order = Decision(model.model_id, "rollback", "by_hand", sentence, as_of, Inputs(inputs))
        serving = served[-1].version_id
        return promotion.roll_back(
            tx, frame.registry, order, about, way, instead_of=serving, now=now
        )


def rescore(site: Site, decision_id: int, *, now: datetime) -> list[datetime]:
    """Score and publish the nights anew that a rollback takes from the bad version; which nights.

    Without ``rescore`` in the rollback there are none. The old batches stay; readers see the new
    ones night by night, oldest first. In a factory a night is scored anew for all its models.
    """
    with connect(site.database_url).transaction() as tx:
        order = registry.decision(tx, decision_id)
        if not order.inputs.rescore:
            return []
        nights = night.nights_scored_by(
            tx,
            registry.model_of(tx, order.model_id).family,
            order.inputs.newer,
            order.inputs.since,
        )
    for snapshot_id in nights.values():
        shown = publish(site, score(site, snapshot_id, now=now), now=now)
        watch(site, shown["batch_id"], now=now)
    return list(nights)
