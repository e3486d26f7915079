"""What a platform watches of a family: a few numbers, as they stand when somebody asks."""

from __future__ import annotations

from datetime import datetime

from nightshift.data import Database


def figures_of(database: Database, family: str, *, now: datetime) -> dict[str, float]:
    """The numbers of a family by name, without those that nobody knows yet.

    Returns
    -------
    dict
        ``freshness`` (seconds since the as_of of the night that readers see), ``rows`` (of that
        night), and of the last monitoring: ``coverage`` (labels known, of the predictions that were
        measured, 0 to 1), ``breaches`` and ``retrains`` (models).
    """
    with database.transaction() as tx:
        row = tx.one("reports.figures", family=family)
    numbers = {
        "freshness": None if row.as_of is None else (now - row.as_of).total_seconds(),
        "rows": row.rows,
        "coverage": row.labels / row.predictions if row.predictions else None,
        "breaches": row.breaches,
        "retrains": row.retrains,
    }
    return {name: float(number) for name, number in numbers.items() if number is not None}
