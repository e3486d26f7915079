"""Who serves, who served, what each was worth when it was promoted, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nightshift.data import Keys, Transaction
from nightshift.documents import Reference, Worth
from nightshift.errors import NoChampion, RegistryError
from nightshift.family import ModelFamily
from nightshift.records import Model, Promotion, Version
from nightshift.registry.versions import _version, is_signed
from nightshift.wording import listed, moment


@dataclass(frozen=True)
class Champion:
    """The version that serves, since when, and what it was worth when it was promoted."""

    version: Version
    effective_from: datetime
    reference: Worth | None

    def worth(self, metric: str) -> Reference | None:
        """Its reference in a metric; None where none was stored."""
        return self.reference.of(metric) if self.reference else None


def champions(tx: Transaction, family: str, as_of: datetime) -> dict[int, Champion]:
    """Who served at ``as_of`` in a family, by model id; models without a champion are left out."""
    return {
        row.model_id: Champion(_version(row), row.effective_from, Worth.parse(row.reference))
        for row in tx.rows("registry.champions", family=family, as_of=as_of)
    }


def champion(tx: Transaction, model_id: int, as_of: datetime) -> Version | None:
    """The version of a model that served at ``as_of``; None before the first promotion."""
    row = tx.maybe("registry.champion", model_id=model_id, as_of=as_of)
    return _version(row) if row else None


def unsigned(tx: Transaction, family: str, keys: Path, as_of: datetime) -> list[Version]:
    """The champions of a family that are not opened, for no key in a folder has signed them."""
    trusted = Keys(keys)
    champions_there = (champion.version for champion in champions(tx, family, as_of).values())
    return [version for version in champions_there if not is_signed(version, trusted)]


def best_worth(tx: Transaction, model_id: int, metric: str) -> float | None:
    """The most that a champion of a model was ever worth in a metric; None where none is told."""
    worths = [
        worth.value
        for served in promotions(tx, model_id)
        if served.reference is not None and (worth := served.reference.of(metric)) is not None
    ]
    return max(worths, default=None)


def earlier_champions(tx: Transaction, model_id: int, count: int) -> list[Version]:
    """The last versions of a model that have been champions and can still be loaded."""
    rows = tx.rows("registry.earlier_champions", model_id=model_id, count=count)
    return [_version(row) for row in rows]


def promotions(tx: Transaction, model_id: int) -> list[Promotion]:
    """Every promotion of a model, oldest first."""
    rows = tx.rows("registry.promotions", model_id=model_id)
    return [Promotion(**{**row._mapping, "reference": Worth.parse(row.reference)}) for row in rows]


def way_back(
    model: Model, served: Sequence[Promotion], to: int | None, *, again: bool = False
) -> tuple[Promotion, Promotion]:
    """The promotion that a rollback undoes, and the last one of the version it returns to.

    Parameters
    ----------
    served
        Every promotion of the model, oldest first.
    to
        The number of a version that was champion once; by default the champion before this one,
        and after a rollback the one before that.
    again
        Whether the version may be serving since the last rollback: that one is then undone once
        more, from when the version that it replaced began.

    Raises
    ------
    RegistryError
        There is no such champion, or it serves already.
    """
    where = f"{model.family}: {model.name}"
    if not served:
        raise RegistryError(f"{where} has no champion; there is nothing to roll back")
    latest = served[-1]
    numbered = [promotion for promotion in served if promotion.number == to]
    target = _undone(served)[-2:-1] if to is None else numbered
    if not target:
        numbers = sorted({promotion.number for promotion in served})
        missing = (
            f"has no champion before version {latest.number}"
            if to is None
            else f"has had no champion with the version number {to}"
        )
        raise RegistryError(f"{where} {missing}; its champions so far: {listed(numbers)}")
    if target[-1].version_id != latest.version_id:
        return latest, target[-1]
    if again and latest.kind == "rollback":
        replaced = [past for past in served if past.version_id != latest.version_id]
        return replaced[-1], latest
    raise RegistryError(
        f"{where}: version {latest.number} serves already, since {moment(latest.effective_from)}"
    )


def _undone(served: Sequence[Promotion]) -> list[Promotion]:
    """The promotions that still stand: a rollback undoes those since the version last began."""
    standing: list[Promotion] = []
    for promotion in served:
        if promotion.kind == "rollback":
            while standing and standing[-1].version_id != promotion.version_id:
                standing.pop()
        if not standing or standing[-1].version_id != promotion.version_id:
            standing.append(promotion)
    return standing


def no_champion(tx: Transaction, family: ModelFamily, as_of: datetime) -> NoChampion:
    """The error that nobody serves at ``as_of``, with since when somebody does."""
    first = tx.one("registry.first_promotion", family=family.family).effective_from
    question = tx.one("registry.first_question", family=family.family).approval_id
    if first is None and question is not None:
        return NoChampion(
            f"{family.family} has no champion at {moment(as_of)}: its first version waits for"
            f" somebody's approval. Look at it with nightshift approvals, then: nightshift approve"
            f" {question}, or nightshift decline {question}"
        )
    since = f"its first champion serves from {moment(first)}" if first else "none was trained"
    return NoChampion(
        f"{family.family} has no champion at {moment(as_of)}: {since}."
        f" Train one with: nightshift train {family.family}"
    )
