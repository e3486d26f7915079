"""What comes after the proof: shadows, approvals, probation, and the way back.

A challenger that was proven may have to score beside the champion for a while (a shadow), to be
approved by a person, and, once it serves, to hold what it promised (probation).
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from nightshift.database import Transaction, as_json
from nightshift.family import ModelFamily
from nightshift.records import Comparison


def begin_shadow(
    tx: Transaction,
    family: ModelFamily,
    compared: Comparison,
    model_id: int,
    decision_id: int,
    now: datetime,
) -> None:
    """From now on the challenger scores every night beside the champion, unseen by readers."""
    assert family.promotion.shadow is not None
    tx.run(
        "trials.begin_shadow",
        model_id=model_id,
        version_id=compared.challenger_version,
        instead_of=compared.champion_version,
        decision_id=decision_id,
        reference=None if compared.reference is None else as_json(compared.reference),
        starts=now,
        ends=now + family.promotion.shadow,
    )


def ask(tx: Transaction, comparison_id: int, evidence: str, *, now: datetime) -> None:
    """Keep what a person is asked to approve, with its hash; asking twice is asking once."""
    tx.run(
        "trials.ask",
        comparison_id=comparison_id,
        evidence=evidence,
        evidence_hash=hashlib.sha256(evidence.encode()).hexdigest(),
        asked_at=now,
    )
