"""``make bench-history``: what a night costs after a month of nights, and after a year of them.

A factory of 20 models with 50 rows each lives through a year of nights, with the same steps that
Airflow runs. Then nights that follow the first month, in a copy of the database as it was then, and
nights that follow the year take turns.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from nightshift import simulation
from nightshift.local import Postgres
from nightshift.reports import Run
from nightshift.site import Site
from nightshift.steps import monitor as monitor_steps
from nightshift.steps import retrain

from . import grounds
from .figures import Figure, figure, tell
from .grounds import seconds

MODELS, ROWS = 20, 50
EARLY, LATE = 30, 365
ROUNDS = 7
FIRST = datetime(2025, 1, 6, 2, tzinfo=UTC)
AFTER = timedelta(hours=4)  # from a night to its monitoring


def main() -> None:
    with grounds.site(MODELS, ROWS) as (site, server):
        figures = _nights(site, server)
    tell(f"{LATE} nights, medians of {ROUNDS} rounds", figures, "history")


# Nights -------------------------------------------------------------------------------------------


def _nights(site: Site, server: Postgres) -> list[Figure]:
    grounds.family("family", site.models / "family", performance={"window": "P7D"})
    decision_ids = retrain.request_retrain(
        site, "family", FIRST, reason="first", by="bench", now=FIRST
    )
    simulation.retrain(site, decision_ids, now=FIRST)
    _live(site, 0, EARLY)
    early = replace(site, database_url=grounds.fresh_database(server, "early", "nightshift"))
    _live(site, EARLY, LATE)
    rounds = []
    for number in range(ROUNDS + 1):
        before = _night(early, FIRST + timedelta(days=EARLY + number))
        after = _night(site, FIRST + timedelta(days=LATE + number))
        rounds.append({name: (before[name], after[name]) for name in before})
    return list(_growth(rounds[1:]))


def _live(site: Site, first: int, last: int) -> None:
    for number in range(first, last):
        _night(site, FIRST + timedelta(days=number))


def _night(site: Site, night: datetime) -> dict[str, float]:
    """Seconds that a night's parts take: scored and published, and measured and decided."""
    monitor = night + AFTER
    now = monitor + simulation.RUN_TIME
    return {
        "scoring": seconds(
            lambda: simulation.score_night(site, "family", night, now=night + simulation.RUN_TIME)
        ),
        "collecting labels": seconds(
            lambda: monitor_steps.collect_labels(site, "family", monitor, now=now)
        ),
        "measuring": seconds(lambda: monitor_steps.measure(site, "family", monitor, now=now)),
        "deciding and alerting": seconds(lambda: _decide(site, monitor, now)),
    }


def _decide(site: Site, monitor: datetime, now: datetime) -> None:
    monitor_steps.judge_trials(site, "family", monitor, now=now)
    assert monitor_steps.decide(site, "family", monitor, now=now) == []
    monitor_steps.alerts(site, "family", Run("monitor", monitor, monitor), now=now)


def _growth(rounds: list[dict[str, tuple[float, float]]]) -> Iterator[Figure]:
    parts = {name: [times[name] for times in rounds] for name in rounds[0]}
    measuring = [pairs for name, pairs in parts.items() if name != "scoring"]
    whole = [
        (sum(early for early, _ in of_round), sum(late for _, late in of_round))
        for of_round in zip(*measuring, strict=True)
    ]
    name = f"night {LATE} in times of night {EARLY}"
    yield _ratio(f"measuring, from labels to decisions: {name}", whole, bar=1.3)
    for part, pairs in parts.items():
        yield _ratio(f"{part}: {name}", pairs)
    yield figure(f"measuring night {LATE}", [1000 * late for _, late in whole], "ms")


def _ratio(name: str, pairs: list[tuple[float, float]], *, bar: float | None = None) -> Figure:
    # Of the medians: a slow moment of the machine touches one side of one pair.
    early, late = (statistics.median(side) for side in zip(*pairs, strict=True))
    return figure(name, [b / a for a, b in pairs], "ratio", at_most=bar, value=late / early)


if __name__ == "__main__":
    main()
