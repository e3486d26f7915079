"""What a person does: answers, holds, excludes, names, promotes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

from nightshift import promotion, registry, sources, training
from nightshift.data import Keys, Rotation, connect
from nightshift.errors import (
    ConfigError,
    PromotionLost,
)
from nightshift.records import Hold
from nightshift.site import Site
from nightshift.steps.frame import audited, registry_of


def promote(site: Site, version_id: int, *, reason: str, by: str, now: datetime) -> int:
    """Make a version the champion on somebody's word, without proof; the decision's id."""
    with connect(site.database_url).transaction() as tx:
        return promotion.by_hand(tx, registry_of(site), version_id, reason, by, now=now)


def open_approvals(
    site: Site, decision_ids: Sequence[int], *, link: str | None = None
) -> list[dict[str, Any]]:
    """What people are asked about challengers, as long as nobody has answered.

    Parameters
    ----------
    decision_ids
        Those that :func:`conclude` or :func:`judge_trials` returned.
    link
        Where the run that asks can be looked at.

    Returns
    -------
    list of dict
        ``approval_id``, ``subject`` (one line) and ``body`` (the evidence, in Markdown).
    """
    with connect(site.database_url).transaction() as tx:
        return [
            {
                "approval_id": approval.approval_id,
                "subject": approval.subject,
                "body": approval.body(link),
            }
            for approval in promotion.open_approvals(tx, decision_ids)
        ]


def questions(site: Site, decision_ids: Sequence[int]) -> list[int]:
    """The decisions to retrain whose challengers people are asked about: their runs can ask."""
    with connect(site.database_url).transaction() as tx:
        return [a.decision_id for a in promotion.open_approvals(tx, decision_ids)]


def answer(
    site: Site,
    approval_id: int,
    verdict: promotion.Answer,
    by: str,
    *,
    now: datetime,
    reason: str = "",
) -> int:
    """Promote what a person approves, if the champion is still the one it was compared with.

    Everything else rejects: a refusal, silence, and a champion that has been replaced since.
    Answering twice is answering once; the id of the one decision.
    """
    with connect(site.database_url).transaction() as tx:
        approval = promotion.approval(tx, approval_id)
    with audited(site, approval.model.family, approval.as_of, now) as frame:
        recorded = partial(
            promotion.answer, versions=frame.registry, approval_id=approval_id, by=by
        )
        try:
            with frame.database.transaction() as tx:
                return recorded(tx, said=verdict, now=now, reason=reason)
        except PromotionLost:
            why = f"{by} {verdict} it after another version was promoted"
            with frame.database.transaction() as tx:
                return recorded(tx, said="superseded", now=now, reason=why)


def hold(site: Site, family_name: str, *, reason: str, by: str, now: datetime) -> Hold:
    """Let no model of a family be retrained or replaced by itself until it is released.

    Nights are scored, labels collected and models measured as before. Holding a family that is held
    changes nothing; the hold that counts.
    """
    with audited(site, family_name, now, now) as frame, frame.database.transaction() as tx:
        return registry.hold(tx, frame.family.family, reason=reason, by=by, now=now)


def release(site: Site, family_name: str, *, reason: str, by: str, now: datetime) -> Hold | None:
    """Let a family's rules count again; the hold that ends, None where there was none."""
    with audited(site, family_name, now, now) as frame, frame.database.transaction() as tx:
        return registry.release(tx, family_name, reason=reason, by=by, now=now)


def exclude(
    site: Site,
    family_name: str,
    entity_id: str,
    state: training.Exclusion,
    *,
    reason: str,
    by: str,
    now: datetime,
) -> int:
    """Say that nothing may learn from an entity, or that it may again; how many labels it has."""
    with audited(site, family_name, now, now) as frame:
        entity = frame.names.of(entity_id)
        with frame.database.transaction() as tx:
            return training.exclude(tx, family_name, entity, state, reason=reason, by=by, now=now)


def pseudonym(site: Site, family_name: str, entity_id: str) -> str:
    """What an entity is called in snapshots, labels and predictions of a family.

    Raises
    ------
    ConfigError
        The family tells its entities as the source names them.
    SetupError
        The key is not here.
    """
    family = site.family(family_name)
    with connect(site.database_url).transaction() as tx:
        names = sources.names_in(tx, family, site.keys)
    if names.key is None:
        raise ConfigError(
            f"{family_name} has told no entity by pseudonym: its predictions have the entity_id of"
            " features.sql. pseudonymise: hmac in model.yaml of a new family changes that"
        )
    return names.of(entity_id)


def rotate_keys(site: Site, *, by: str, now: datetime) -> Rotation:
    """Sign artifacts with a new key from now on; what was signed before still opens."""
    with connect(site.database_url).transaction() as tx:
        rotation = Keys(site.keys).rotate()
        tx.record("key_rotated", now=now, by=by, before=rotation.before, after=rotation.after)
    return rotation
