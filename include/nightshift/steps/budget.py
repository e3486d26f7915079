"""The retrains of a night, as many as all families together may have."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from nightshift import policy, registry
from nightshift.records import About, Decision
from nightshift.steps.frame import Frame

BUDGET_NIGHT = timedelta(days=1)
"""How far back retrains count against the budget of a night."""


def within_budget(frame: Frame, about: About, proposals: Sequence[Decision]) -> list[int]:
    """Record what is wanted and was not decided yet, as far as the budget of the night reaches.

    Returns the ids of the family's decisions to retrain about this, old and new.
    """
    with frame.database.transaction() as tx:
        spent = registry.retrains_spent(tx, frame.as_of - BUDGET_NIGHT, frame.as_of)
        before = registry.models_decided(tx, [decision.model_id for decision in proposals], about)
        fresh = [decision for decision in proposals if decision.model_id not in before]
        decisions = policy.within_budget(fresh, frame.settings.retrains_per_night, spent)
        registry.decide_all(tx, decisions, about=about, now=frame.now)
        return registry.retrains_of(tx, frame.family_name, about)
