"""The families of the one installation: one of the project's, those of people, and a factory.

``air_time`` is trained on a short history. Its threshold cannot be met, so the first measurement
calls for a retrain. People's families learn from a world that has changed since their first
champions; those who are asked have a day to answer, of one family a second. The factory's night
can be held in the middle.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from nightshift import simulation
from nightshift.family import ModelFamily, load_family
from nightshift.site import Site
from nightshift.steps import retrain

HOME = Path(__file__).resolve().parents[2]

FLIGHTS = "air_time"
NIGHTS = 3
"""Nights of FLIGHTS that are published before Airflow starts, all mature."""

PATIENT, HASTY, WALKED = "patient", "hasty", "walked"
TIMEOUTS = {PATIENT: "P1D", HASTY: "PT1S", WALKED: "P1D"}
BEFORE, CHANGED = datetime(2026, 1, 11, 2, tzinfo=UTC), datetime(2026, 1, 29, 2, tzinfo=UTC)
NIGHT = datetime(2026, 1, 12, 2, tzinfo=UTC)
"""A night after the first champions; of WALKED it was published."""

FLEET = "fleet"
ROWS = 120

MODEL: dict[str, Any] = {
    "description": "The load of a machine tomorrow",
    "task": "regression",
    "owner": "tests",
    "source": {"connection": "warehouse", "history": "append_only"},
    "features": {"numeric": ["size"]},
    "schedule": {"score": "0 2 * * *", "monitor": "0 6 * * *"},
    "labels": {"maturity": "P1D", "min_coverage": 0.8},
    "performance": {"metric": "neg_mean_absolute_error", "window": "P2D"},
    "retrain": {"when": None, "training": {"window": "P5D", "min_rows": 20}},
    # A line without noise: who has learnt the new one is perfect, which elsewhere is suspicious.
    "promotion": {"holdout": "P2D", "min_rows": 20, "too_good": None, "refit": False},
}
FEATURES = """
select to_char(cast(:as_of as timestamptz), 'YYYYMMDD') || '-' || i as entity_id,
       cast(i as double precision) as size{more}
from generate_series(1, {rows}) i
"""
# From the 20th on the same size means twice the load.
LABELS = """
select to_char(night, 'YYYYMMDD') || '-' || i as entity_id, night as event_at, known_at,
       cast(i * case when night < '2026-01-20 02:00+00' then 1 else 2 end as float) as value
from generate_series(timestamptz '2026-01-01 02:00+00', '2026-02-09 02:00+00', '1 day') n (night)
cross join generate_series(1, {rows}) i
cross join lateral (select night + interval '12 hours' as known_at) k
where known_at > cast(:since as timestamptz) and known_at <= cast(:as_of as timestamptz)
"""
LINE = """
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline

def build(numeric, categorical, seed):
    return Pipeline([("line", LinearRegression())])
"""
# While the file `hold` is there, whoever predicts says who he is and waits: the middle of a night.
HELD_LINE = '''
"""A line that can be held while it predicts."""
import os, time
from pathlib import Path
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline

HERE = Path(__file__).parent

class Line(LinearRegression):
    def predict(self, X):
        if (HERE / "hold").exists():
            (HERE / f"held-{os.getpid()}").touch()
        deadline = time.monotonic() + 120
        while (HERE / "hold").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        return super().predict(X)

def build(numeric, categorical, seed):
    return Pipeline([("line", Line())])
'''


def write_families(models: Path) -> ModelFamily:
    """Write all of them below ``models``; that of the flights."""
    write_fleet(models)
    for name in TIMEOUTS:
        write_asking(models, name)
    return write_flights(models)


def write_flights(models: Path) -> ModelFamily:
    """The project's family, trained on days instead of months, and never good enough."""
    folder = models / FLIGHTS
    shutil.copytree(HOME / "include" / "models" / FLIGHTS, folder)
    file = folder / "model.yaml"
    model = yaml.safe_load(file.read_text())
    # No tick while the tests run: a scheduled measurement would call for a retrain of its own.
    model["schedule"]["monitor"] = f"0 {(datetime.now(UTC).hour + 12) % 24} * * *"
    model["labels"] |= {"maturity": "P2D", "min_coverage": 0.5}
    model["performance"] |= {"window": "P4D", "min_labels": 100, "threshold": -0.001}
    model["retrain"] = {"when": {"breaches": 1, "of_last": 1}, "training": {"window": "P4D"}}
    model["promotion"] |= {"holdout": "P2D", "min_rows": 100}
    causes = ["breach", "retrain_started", "promoted", "rejected"]
    model["alerts"] = [{**_lines(folder), "on": causes}]
    file.write_text(yaml.safe_dump(model))
    return load_family(folder)


def write_asking(models: Path, name: str) -> None:
    """A family whose challengers serve once somebody has approved them."""
    asking = {"approval": "human", "response_timeout": TIMEOUTS[name]}
    changes = {
        "performance": {**MODEL["performance"], "threshold": -1.0},
        "promotion": {**MODEL["promotion"], **asking},
        "alerts": [_lines(models / name)],
    }
    _write(models / name, FEATURES.format(rows=30, more=""), LINE, rows=30, **changes)


def write_fleet(models: Path) -> None:
    """A factory whose night is two parts, for two workers."""
    features = FEATURES.format(rows=ROWS, more=", 'm' || mod(i, 4) as machine")
    _write(
        models / FLEET,
        features,
        HELD_LINE,
        rows=ROWS,
        # Ticks in the month of its nights: one while the tests run would be held with NIGHT.
        schedule=MODEL["schedule"] | {"score": f"0 2 * {NIGHT.month} *"},
        models={"by": "machine", "thresholds": {"*": -1.0}},
        scoring={"rows_per_task": 1, "max_tasks": 2},
    )


def _write(folder: Path, features: str, estimator: str, *, rows: int, **changes: Any) -> None:
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(yaml.safe_dump(MODEL | changes | {"family": folder.name}))
    (folder / "features.sql").write_text(features)
    (folder / "labels.sql").write_text(LABELS.format(rows=rows))
    (folder / "estimator.py").write_text(estimator)


def _lines(folder: Path) -> dict[str, Any]:
    arguments = {"file": str(folder / "told"), "text": "{{ alert.title }}"}
    return {"notifier": "notifiers.LinesNotifier", "arguments": arguments}


def train_first(site: Site, family: str, as_of: datetime) -> None:
    """Make the first champions of a family."""
    now = datetime.now(UTC)
    decision_ids = retrain.request_retrain(site, family, as_of, reason="first", by="test", now=now)
    retrain.conclude(
        site, retrain.compare(site, retrain.fit(site, decision_ids, now=now), now=now), now=now
    )


def publish(site: Site, family: str, night: datetime) -> None:
    assert simulation.score_night(site, family, night, now=datetime.now(UTC))


def write_history(site: Site, family: ModelFamily, last: datetime) -> None:
    """Train a first champion, and publish the nights before ``last`` that are mature by then."""
    mature = last - family.labels.maturity
    nights = list(family.ticks(mature - timedelta(days=NIGHTS), mature))
    train_first(site, family.family, nights[0])
    for night in nights:
        publish(site, family.family, night)
