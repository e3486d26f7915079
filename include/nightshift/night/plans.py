"""What a batch is made of: which rows each version scores, in which part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

from nightshift.data import as_json
from nightshift.night.packing import Share
from nightshift.night.serving import Seen, Serving
from nightshift.records import READERS, SHADOW


@dataclass(frozen=True)
class Work:
    """What becomes of a member's rows, by ids.

    ``model_id`` is None where it is no model of the family, ``version_id`` where nobody scores it.
    """

    member: str | None
    rows: int
    model_id: int | None
    version_id: int | None
    shadow_id: int | None

    def scorer(self, role: int) -> int | None:
        """Which version scores it in a role."""
        return self.version_id if role == READERS else self.shadow_id


@dataclass(frozen=True)
class Plan:
    """What a part scores, and by whom; kept as it was when the batch began."""

    work: tuple[Work, ...]
    piece: int
    pieces: int

    @staticmethod
    def of(share: Share, found: Mapping[str | None, Seen], serving: Serving) -> Plan:
        """The plan of a share."""

        def about(member: str | None) -> Work:
            model, _ = serving.members.get(member, (None, None))
            scorer, beside = serving.of(member), serving.beside(member)
            return Work(
                member,
                found[member].rows,
                model.model_id if model else None,
                scorer.version_id if scorer else None,
                beside.version_id if beside else None,
            )

        return Plan(tuple(map(about, share.members)), share.piece, share.pieces)

    @staticmethod
    def kept(plan: Mapping[str, Any]) -> Plan:
        """A plan that was kept."""
        return Plan(tuple(Work(*about) for about in plan["work"]), plan["piece"], plan["pieces"])

    def as_json(self) -> str:
        """The plan as it is kept; there may be ten thousand members in it."""
        work = [astuple(member) for member in self.work]
        return as_json({"work": work, "piece": self.piece, "pieces": self.pieces})

    def scored(self, role: int) -> dict[str | None, Work]:
        """The members that somebody scores in a role."""
        return {work.member: work for work in self.work if work.scorer(role) is not None}

    @property
    def version_ids(self) -> set[int]:
        """Of everybody who scores here."""
        ids = {work.scorer(role) for role in (READERS, SHADOW) for work in self.work}
        return {version_id for version_id in ids if version_id is not None}
