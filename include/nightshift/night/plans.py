"""Who scores what: a night cut into shares of about the same cost, and what becomes of each row.

A model costs what its rows cost, and something for being loaded, verified and called at all.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Mapping
from dataclasses import astuple, dataclass
from typing import Any

from nightshift.data import as_json
from nightshift.night.serving import MemberRows, Serving
from nightshift.records import READERS, SHADOW

MODEL_COST = 5_000
"""What one more model costs, in rows: loading, verifying and calling it (`make bench-scale`)."""


@dataclass(frozen=True)
class Share:
    """The rows that one task scores: those of ``members``, in every ``pieces``-th row group.

    The member None stands for all rows, in a family of one model.
    """

    members: tuple[str | None, ...]
    piece: int = 0
    pieces: int = 1


def cut(
    rows: Mapping[str | None, int], *, row_groups: int, max_tasks: int, rows_per_task: int
) -> list[Share]:
    """Cut a night into at most ``max_tasks`` shares that cost about ``rows_per_task`` rows each.

    A member that costs more than an even share is cut by row groups; the others are packed, the
    costliest first, each into the share that costs least so far.

    Parameters
    ----------
    rows
        Rows of each member.
    row_groups
        Of the snapshot: no member is cut into more pieces.
    """
    cost = {member: count + MODEL_COST for member, count in rows.items()}
    total = sum(cost.values())
    tasks = min(max_tasks, math.ceil(total / rows_per_task))
    if tasks <= 1 or not rows:
        return [Share(tuple(rows))]
    pieces = {
        member: min(row_groups, tasks * member_cost // total)
        for member, member_cost in cost.items()
    }
    large = {member: count for member, count in pieces.items() if count > 1}
    small = {member: cost[member] for member in rows if member not in large}
    return [
        Share((member,), piece, count) for member, count in large.items() for piece in range(count)
    ] + _packed(small, max(1, tasks - sum(large.values())))


def _packed(cost: Mapping[str | None, int], bins: int) -> list[Share]:
    """The members in so many shares, or fewer; heaviest first, always onto the lightest."""
    packed: list[tuple[int, int, list[str | None]]] = [
        (0, number, []) for number in range(min(bins, len(cost)))
    ]
    for member in sorted(cost, key=lambda name: (-cost[name], str(name))):
        weight, number, members = heapq.heappop(packed)
        members.append(member)
        heapq.heappush(packed, (weight + cost[member], number, members))
    return [Share(tuple(members)) for _, _, members in sorted(packed, key=lambda share: share[1])]


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
    def of(share: Share, members: Mapping[str | None, MemberRows], serving: Serving) -> Plan:
        """The plan of a share."""

        def about(member: str | None) -> Work:
            model, _ = serving.members.get(member, (None, None))
            scorer, beside = serving.of(member), serving.beside(member)
            return Work(
                member,
                members[member].rows,
                model.model_id if model else None,
                scorer.version_id if scorer else None,
                beside.version_id if beside else None,
            )

        return Plan(tuple(map(about, share.members)), share.piece, share.pieces)

    @staticmethod
    def parse(plan: Mapping[str, Any]) -> Plan:
        """A plan as it was stored."""
        return Plan(tuple(Work(*about) for about in plan["work"]), plan["piece"], plan["pieces"])

    def as_json(self) -> str:
        """The plan as it is kept; there may be ten thousand members in it."""
        work = [astuple(member) for member in self.work]
        return as_json({"work": work, "piece": self.piece, "pieces": self.pieces})

    def scored(self, role: int) -> dict[str | None, Work]:
        """The members that somebody scores in a role."""
        return {work.member: work for work in self.work if work.scorer(role) is not None}

    def without(self, version_ids: Collection[int]) -> Plan:
        """The plan without the work of these versions."""
        kept = tuple(work for work in self.work if work.version_id not in version_ids)
        return Plan(kept, self.piece, self.pieces)

    @property
    def version_ids(self) -> set[int]:
        """Of everybody who scores here."""
        ids = {work.scorer(role) for role in (READERS, SHADOW) for work in self.work}
        return {version_id for version_id in ids if version_id is not None}
