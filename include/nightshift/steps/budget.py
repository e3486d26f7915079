"""The retrains of a night, as many as all families together may have."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from nightshift import policy, registry
from nightshift.data import Database
from nightshift.records import About, Decision
from nightshift.site import Site

BUDGET_NIGHT = timedelta(days=1)
"""How far back retrains count against the budget of a night."""


def _within_budget(
    site: Site,
    database: Database,
    family_name: str,
    as_of: datetime,
    about: About,
    asked: Sequence[Decision],
    now: datetime,
) -> list[int]:
    """Record what is asked and was not decided yet, as far as the budget of the night reaches.

    Returns the ids of the family's decisions to retrain about this, old and new.
    """
    with database.transaction() as tx:
        tx.rows("registry.lock_budget")
        before = registry.models_decided(tx, [one.model_id for one in asked], about)
        fresh = [decision for decision in asked if decision.model_id not in before]
        spent = tx.one("registry.spent", since=as_of - BUDGET_NIGHT, as_of=as_of).retrains
        decided = policy.within_budget(fresh, site.settings.retrains_per_night, spent)
        registry.decide_all(tx, decided, about=about, now=now)
        return registry.retrains_of(tx, family_name, about)
