"""The models of a family: made at their first mention, retired when their rows stay away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from nightshift.data import Transaction
from nightshift.errors import RegistryError
from nightshift.family import ModelFamily
from nightshift.records import Model


def ensure_model(tx: Transaction, family: str, name: str, *, now: datetime) -> Model:
    """The model of this name, made at its first mention."""
    tx.run("registry.ensure_model", family=family, name=name, created_at=now)
    row = tx.one("registry.find_model", family=family, name=name)
    return Model(row.model_id, row.family, row.name)


def known_model(tx: Transaction, family: str, name: str) -> Model:
    """The model of this name, which must be there already."""
    row = tx.maybe("registry.find_model", family=family, name=name)
    if row is None:
        raise RegistryError(
            f"{family} has no model {name!r}; `nightshift status {family}` lists its models"
        )
    return Model(row.model_id, row.family, row.name)


def model_of(tx: Transaction, model_id: int) -> Model:
    """The model of this id."""
    row = tx.one("registry.get_model", model_id=model_id)
    return Model(row.model_id, row.family, row.name)


def families(tx: Transaction) -> list[str]:
    """Every family that has, or has had, a model or a night."""
    return [row.family for row in tx.rows("registry.families")]


def enroll(
    tx: Transaction,
    family: ModelFamily,
    groups: Mapping[str, str | None],
    as_of: datetime,
    *,
    now: datetime,
) -> dict[str, Model]:
    """The models of the members seen in a snapshot, new ones made, by name.

    Parameters
    ----------
    seen
        Member to what ``models.group_by`` tells of it (None where it is not told).
    as_of
        The moment of the snapshot. A member that was retired is active again from here on.
    """
    factory = family.models
    own_groups = {
        name: factory.group_of(name, group) if factory and not family.is_whole(name) else None
        for name, group in groups.items()
        if factory is None or family.is_whole(name) or factory.includes(name)
    }
    before = {
        row.name: row for row in tx.rows("registry.members", family=family.family, as_of=as_of)
    }
    models = {}
    for name, group in own_groups.items():
        row = before.get(name)
        if row is None or (row.state, row.group_name) != ("active", group):
            new_model = ensure_model(tx, family.family, name, now=now)
            _member(tx, new_model.model_id, as_of, "active", group)
            models[name] = replace(new_model, group=group)
        else:
            models[name] = Model(row.model_id, family.family, name, group)
    return models


def members(tx: Transaction, family: str, as_of: datetime, *, retired: bool = False) -> list[Model]:
    """The active members of a family at a moment, by name; with ``retired`` those as well."""
    return [
        Model(row.model_id, family, row.name, row.group_name)
        for row in tx.rows("registry.members", family=family, as_of=as_of)
        if retired or row.state == "active"
    ]


def retire(tx: Transaction, family: ModelFamily, as_of: datetime) -> list[str]:
    """Retire members without a row in any batch for ``models.retire_after``; their names."""
    if family.models is None:
        return []
    since = as_of - family.models.retire_after
    whole = family.family if family.is_whole(family.family) else None
    rows = tx.rows(
        "registry.absent_members", family=family.family, whole=whole, since=since, as_of=as_of
    )
    for row in rows:
        _member(tx, row.model_id, as_of, "retired", row.group_name)
    return [row.name for row in rows]


def _member(tx: Transaction, model_id: int, as_of: datetime, state: str, group: str | None) -> None:
    tx.run(
        "registry.append_membership",
        model_id=model_id,
        as_of=as_of,
        state=state,
        group_name=group,
    )
