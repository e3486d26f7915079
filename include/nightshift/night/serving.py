"""Who is in a snapshot, and which version serves whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nightshift.data import Store
from nightshift.family import ModelFamily
from nightshift.records import Model, Snapshot, Version


@dataclass(frozen=True)
class MemberRows:
    """A member in a snapshot: its rows, and the group that ``models.group_by`` tells."""

    rows: int
    group: str | None = None


def members_in(
    store: Store, family: ModelFamily, snapshot: Snapshot
) -> dict[str | None, MemberRows]:
    """The members in a snapshot, by name; in a family of one model all rows are under None."""
    if family.models is None:
        return {None: MemberRows(snapshot.row_count)}
    columns = [name for name in (family.models.by, family.models.group_by) if name]
    table = store.read_table(snapshot.content_hash, columns).select(columns)
    grouped = table.group_by(columns[0]).aggregate([([], "count_all"), (columns[-1], "max")])
    names, counts = grouped[columns[0]].to_pylist(), grouped["count_all"].to_pylist()
    groups = grouped[f"{columns[-1]}_max"].to_pylist() if len(columns) > 1 else [None] * len(names)
    return {name: MemberRows(*of) for name, *of in zip(names, counts, groups, strict=True)}


@dataclass(frozen=True)
class Serving:
    """Which version scores the rows of which model; None where nobody can.

    ``members`` are by the value of ``models.by``, or one under None in a family of one model.
    ``fallback`` scores the rows of every other value, and those of members without a version.
    ``shadows`` are challengers by the id of the version beside which they score, unseen by readers.
    """

    members: Mapping[str | None, tuple[Model, Version | None]]
    fallback: Version | None = None
    shadows: Mapping[int, Version] = field(default_factory=dict)

    def of(self, member: str | None) -> Version | None:
        """The version that scores a member's rows."""
        _, version = self.members.get(member, (None, None))
        return version or self.fallback

    def owner(self, member: str | None, scorer: Version) -> Model:
        """The model that a member's rows belong to; a fallback scores the rows of others."""
        model, _ = self.members.get(member, (None, None))
        return model or scorer.model

    def beside(self, member: str | None) -> Version | None:
        """The challenger in shadow that scores a member's rows as well."""
        version = self.of(member)
        return self.shadows.get(version.version_id) if version else None
