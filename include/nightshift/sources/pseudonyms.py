"""Entities by pseudonym, where ``pseudonymise`` says so: the same one wherever an entity is told.

A pseudonym is a keyed hash (HMAC-SHA256), so labels still meet predictions. Who has the key can
tell the pseudonym of an entity, and by trying every entity, the entity of a pseudonym; nobody else
can tell either.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from nightshift.data import Database, Keys, Transaction
from nightshift.errors import ConfigError, SetupError
from nightshift.family import ModelFamily

_PSEUDONYM = re.compile(r"p-[0-9a-f]{32}")


@dataclass(frozen=True)
class Names:
    """How the entities of a family are told: as the source names them, or by pseudonym."""

    family: str
    key: bytes | None = None

    def of(self, entity_id: str) -> str:
        """What an entity is called here; a pseudonym stays what it is."""
        if self.key is None or _PSEUDONYM.fullmatch(entity_id):
            return entity_id
        return _pseudonym(self._begun(self.key), entity_id)

    def in_column(self, table: pa.Table) -> pa.Table:
        """A table whose ``entity_id`` is what entities are called here; nulls stay null.

        Another order of rows follows: who needs them by ``entity_id`` sorts afterwards.
        """
        if self.key is None:
            return table
        place, begun = table.schema.get_field_index("entity_id"), self._begun(self.key)
        names = [
            None if entity_id is None else _pseudonym(begun, entity_id)
            for entity_id in table.column(place).to_pylist()
        ]
        return table.set_column(place, "entity_id", pa.array(names, pa.string()))

    def _begun(self, key: bytes) -> hmac.HMAC:
        """What the hashes of a family's entities have in common, computed once."""
        return hmac.new(key, f"{self.family}\0".encode(), "sha256")


def names_of(database: Database, family: ModelFamily, keys: Path, *, now: datetime) -> Names:
    """How the entities of a family are told from here on.

    The first time, it is recorded by which key. Then it is for good: otherwise labels of one name
    would never meet predictions of another.

    Raises
    ------
    ConfigError
        ``pseudonymise`` was added to, or taken out of, a family that has rows already.
    SetupError
        The key is missing, or another one than the family's pseudonyms were made with.
    """
    with database.transaction() as tx:
        row = tx.one("pseudonyms.key", family=family.family)
        if family.pseudonymise is not None and row.key_id is None:
            _refuse_rows(family, row.has_rows)
            key = Keys(keys).pseudonym_key(make=row.of_any is None)
            _refuse_other_key(family, keys, key, row.of_any or _key_id(key))
            tx.run(
                "pseudonyms.begin",
                family=family.family,
                method=family.pseudonymise,
                key_id=_key_id(key),
                now=now,
            )
        return names_in(tx, family, keys)


def names_in(tx: Transaction, family: ModelFamily, keys: Path) -> Names:
    """The same for who only reads: nothing is recorded, and no key is made."""
    row = tx.one("pseudonyms.key", family=family.family)
    if row.key_id is None:
        return Names(family.family)
    if family.pseudonymise is None:
        raise ConfigError(
            f"{family.family}: {family.folder / 'model.yaml'}: the family has told its entities by"
            f" pseudonym so far; write pseudonymise: {row.method} again, or make another family"
        )
    key = Keys(keys).pseudonym_key()
    _refuse_other_key(family, keys, key, row.key_id)
    return Names(family.family, key)


def _refuse_other_key(family: ModelFamily, keys: Path, key: bytes, recorded_id: str) -> None:
    if _key_id(key) != recorded_id:
        raise SetupError(
            f"{family.family}: the key in {keys} is {_key_id(key)}, and pseudonyms were made with"
            f" {recorded_id} so far; restore that one, or give its folder with NIGHTSHIFT_KEYS"
        )


def _refuse_rows(family: ModelFamily, has_rows: bool) -> None:
    if has_rows:
        raise ConfigError(
            f"{family.family}: {family.folder / 'model.yaml'}: pseudonymise cannot begin now: its"
            " nights and labels so far tell entities as the source names them. Make another family"
            " for it, whose first night begins with pseudonyms"
        )


def _pseudonym(begun: hmac.HMAC, entity_id: str) -> str:
    digest = begun.copy()
    digest.update(entity_id.encode())
    # Half of 256 bits will do: that two of a billion entities share one has odds of 1 to 10^20.
    return f"p-{digest.hexdigest()[:32]}"


def _key_id(key: bytes) -> str:
    return hashlib.sha256(b"nightshift pseudonyms\0" + key).hexdigest()[:16]
