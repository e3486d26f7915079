"""Families beside the small one, and what befalls them."""

from __future__ import annotations

from typing import Any

from tests.world import FAMILY, World

from nightshift import simulation
from nightshift.steps import retrain

FACTORY: dict[str, Any] = {
    "by": "kind",
    "thresholds": {"*": -1.0},
    "fallback": True,
    "retrains": "failing",
    "retire_after": "P4D",
}

MEMBERS: dict[str, Any] = {
    "performance": {"threshold": None, "min_labels": 10},
    "models": FACTORY,
    "retrain": {"training": {"window": "P5D", "min_rows": 30}},
    "promotion": {"holdout": "P2D", "min_rows": 10},
}

# Members are learnt from ten rows a night. Sizes repeat, so that five nights are enough to fit on.
NEW_KIND = """
insert into items
select n.night, to_char(n.night, 'YYYYMMDD') || '-new-' || i, i::double precision, 'new'
from generate_series(timestamptz '2026-01-13 02:00+00', '2026-02-09 02:00+00', '1 day') n (night),
     generate_series(1, 10) i;
insert into truths
select entity_id, night, night + interval '12 hours', 7 * size from items where kind = 'new';
"""

K1_CHANGES = """
update truths set value = 5 * value
where entity_id in (select entity_id from items where kind = 'k1' and night > '2026-01-13')
"""


def train_all(world: World, number: int) -> list[int]:
    as_of = world.night(number)
    decision_ids = retrain.request_retrain(world.site, FAMILY, as_of, reason="t", by="t", now=as_of)
    return simulation.retrain(world.site, decision_ids, now=as_of)


# What the labels say until night 26 is a mistake of the source: afterwards they are as ever.
LIE = """
update truths set value = size + 3 from items
where items.entity_id = truths.entity_id and items.night > '2026-01-28'
"""


def live(world: World, first: int, last: int) -> None:
    for number in range(first, last + 1):
        world.score(number)
        world.monitor(number)
