"""The DAG ``rollback``: an earlier champion serves again, and its nights may be scored again."""

from __future__ import annotations

from datetime import datetime

from nightshift import promotion, registry
from nightshift.data import connect
from nightshift.records import About, Decision
from nightshift.site import Site
from nightshift.steps.frame import _audited, _registry
from nightshift.steps.night import publish, score, watch


def rollback(
    site: Site,
    family_name: str,
    *,
    reason: str,
    by: str,
    as_of: datetime,
    now: datetime,
    model: str | None = None,
    to: int | None = None,
    rescore: bool = False,
) -> int:
    """Let an earlier champion serve again, without training; the decision's id.

    Parameters
    ----------
    by
        Who says so: a name.
    as_of
        When it was said. Saying the same of a model twice at the same moment is saying it once.
    model
        A member of a factory; by default the model that is named as the family.
    to
        The number of a version that was champion once; by default the champion before this one.
    rescore
        It serves from when the bad version began, not from ``now``: :func:`rescore` then scores
        those nights again.

    Raises
    ------
    RegistryError
        There is no such champion, it serves already, its artifact was collected, or another
        promotion came first.
    """
    with (
        _audited(site, family_name, as_of, now) as database,
        database.transaction() as tx,
    ):
        found = registry.known_model(tx, family_name, model or family_name)
        about = About.rollback(as_of, by, reason)
        done = registry.decided(tx, found.model_id, about)
        if done is not None:
            return done
        served = registry.promotions(tx, found.model_id)
        way = registry.way_back(found, served, to, again=rescore)
        bad, good = way
        told = f"{by}: from version {bad.number} back to version {good.number}: {reason}"
        inputs = {
            "by": by, "older": good.version_id, "newer": bad.version_id,
            "since": bad.effective_from, "rescore": rescore,
        }  # fmt: skip
        order = Decision(found.model_id, "rollback", "by_hand", told, as_of, inputs)
        serving = served[-1].version_id
        return promotion.roll_back(
            tx, _registry(site), order, about, way, instead_of=serving, now=now
        )


def rescore(site: Site, decision_id: int, *, now: datetime) -> list[datetime]:
    """Score and publish the nights anew that a rollback takes from the bad version; which nights.

    Without ``rescore`` in the rollback there are none. The old batches stay; readers see the new
    ones night by night, oldest first. In a factory a night is scored anew for all its models.
    """
    database = connect(site.database_url)
    with database.transaction() as tx:
        said = registry.decision(tx, decision_id)
        if not said.inputs["rescore"]:
            return []
        nights = tx.rows(
            "scoring.scored_by",
            family=registry.model_of(tx, said.model_id).family,
            version_id=said.inputs["newer"],
            since=datetime.fromisoformat(said.inputs["since"]),
        )
    for night in nights:
        shown = publish(site, score(site, night.snapshot_id, now=now), now=now)
        watch(site, shown["batch_id"], now=now)
    return [night.as_of for night in nights]
