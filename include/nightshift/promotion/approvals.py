"""What a person is asked about a challenger, and what was answered."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from nightshift import registry
from nightshift.data import Transaction
from nightshift.documents import Inputs, Worth
from nightshift.errors import RegistryError
from nightshift.records import About, Decision, Model
from nightshift.wording import moment


def ask(tx: Transaction, comparison_id: int, evidence: str, *, now: datetime) -> None:
    """Keep what a person is asked to approve, with its hash; asking twice is asking once.

    An older approval of the same model is answered ``superseded``: it never stands in the way.
    """
    is_new = tx.run(
        "trials.append_approval",
        comparison_id=comparison_id,
        evidence=evidence,
        evidence_hash=_hash(evidence),
        asked_at=now,
    )
    if is_new:
        [asked] = _approvals(tx, comparison_id=comparison_id)
        supersede(
            tx,
            asked.model.model_id,
            f"version {asked.number} is asked about instead",
            now=now,
            spare=asked.approval_id,
        )


Answer = Literal["approved", "declined", "timed_out", "superseded"]

NOBODY = "nobody"
"""Who has answered an approval that timed out, or that a newer challenger has superseded."""


@dataclass(frozen=True)
class Approval:
    """A person is asked whether a version may serve instead of the champion it was compared with.

    ``number`` and ``champion_number`` are those of the versions; a first version has no champion
    against it. ``evidence`` is Markdown, ``decision_id`` the decision to retrain that led to it,
    and ``as_of`` its cutoff.
    """

    approval_id: int
    decision_id: int
    model: Model
    version_id: int
    number: int
    champion_version: int | None
    champion_number: int | None
    evidence: str
    asked_at: datetime
    as_of: datetime
    reference: Worth | None

    @property
    def evidence_hash(self) -> str:
        """What is stored with an answer, to tell what whoever gave it has seen."""
        return _hash(self.evidence)

    @property
    def headline(self) -> str:
        """The first line of the evidence, without its markup."""
        return self.evidence.partition("\n")[0].replace("**", "")

    @property
    def subject(self) -> str:
        """The question in one line."""
        return f"{self.name}: may version {self.number} serve {self._instead}?"

    @property
    def versions(self) -> str:
        """Which version wants to serve instead of which."""
        return f"version {self.number} {self._instead}"

    @property
    def name(self) -> str:
        """The model's name as reports take it."""
        family, model = self.model.family, self.model.name
        return family if model == family else f"{family}/{model}"

    @property
    def _instead(self) -> str:
        if self.champion_number is None:
            return "as the first"
        return f"instead of version {self.champion_number}"

    def body(self, link: str | None = None) -> str:
        """The evidence and where there is more, in Markdown; ``link`` is the run that asks."""
        run = f", or look at [the run]({link})" if link else ""
        return (
            f"{self.evidence}\n\n"
            f"More: `nightshift why {self.name}`{run}.\n\n"
            f"Approval {self.approval_id}; SHA-256 of the evidence: `{self.evidence_hash}`."
        )


def pending(tx: Transaction) -> list[Approval]:
    """The approvals that nobody has answered yet, the oldest first."""
    return _approvals(tx, pending=True)


def open_approvals(tx: Transaction, decision_ids: Sequence[int]) -> list[Approval]:
    """What nobody has answered yet about the comparisons, or shadows, that decisions are about."""
    return _approvals(tx, decision_ids=list(decision_ids), pending=True)


def approval(tx: Transaction, approval_id: int) -> Approval:
    """The approval of this id, answered or not.

    Raises
    ------
    RegistryError
        There is none.
    """
    found = _approvals(tx, approval_id=approval_id)
    if not found:
        raise RegistryError(
            f"there is no approval {approval_id}; `nightshift approvals` lists those that wait"
        )
    return found[0]


def supersede(
    tx: Transaction, model_id: int, why: str, *, now: datetime, spare: int | None = None
) -> None:
    """Answer the pending approvals of a model in nobody's name, but for the one to ``spare``."""
    for older in _approvals(tx, model_id=model_id, pending=True):
        if older.approval_id != spare:
            record(tx, older, "superseded", NOBODY, why, now)


def record(
    tx: Transaction, asked: Approval, said: Answer, by: str, reason: str, now: datetime
) -> int:
    """The decision that an answer amounts to, and who gave it on which evidence."""
    verdict = Decision(
        asked.model.model_id,
        "promote" if said == "approved" else "reject",
        said,
        f"{_told(asked, said, by)}{f': {reason}' if reason else ''}",
        now,
        Inputs({"approval_id": asked.approval_id, "by": by, "evidence_hash": asked.evidence_hash}),
    )
    about = About.approval(asked.approval_id)
    decision_id = registry.decide(tx, verdict, about=about, now=now)
    tx.run(
        "trials.append_answer",
        approval_id=asked.approval_id,
        answer=said,
        said_by=by,
        evidence_hash=asked.evidence_hash,
        decision_id=decision_id,
        answered_at=now,
    )
    return decision_id


def _told(asked: Approval, said: Answer, by: str) -> str:
    match said:
        case "approved":
            return f"{by} approved {asked.versions}"
        case "declined":
            return f"{by} declined {asked.versions}"
        case "timed_out":
            since = moment(asked.asked_at)
            return f"nobody answered since {since}, so {asked.versions} was not approved"
        case "superseded":
            return f"the question about {asked.versions} is superseded"


def _approvals(tx: Transaction, *, pending: bool = False, **only: Any) -> list[Approval]:
    every: dict[str, Any] = dict.fromkeys(
        ("approval_id", "comparison_id", "model_id", "decision_ids")
    )
    rows = tx.rows("trials.approvals", **every | only, pending=pending)
    return [_approval(**row._mapping) for row in rows]


def _approval(model_id: int, family: str, model: str, reference: Any, **row: Any) -> Approval:
    worth = Worth.parse(reference)
    return Approval(model=Model(model_id, family, model), reference=worth, **row)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
