"""A small world: one family, thirty rows a night for forty nights, in a real source database."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import Row, make_url
from tests.conftest import leave

from nightshift import data, simulation
from nightshift.local import Postgres, session
from nightshift.site import Site
from nightshift.steps import night as night_steps
from nightshift.steps import retrain

FIRST = datetime(2026, 1, 1, 2, tzinfo=UTC)

FAMILY = "loads"

MODEL: dict[str, Any] = {
    "family": FAMILY,
    "description": "The load of a machine tomorrow",
    "task": "regression",
    "owner": "tests",
    "source": {"connection": "warehouse", "history": "append_only"},
    "features": {"numeric": ["size"], "categorical": ["kind"]},
    "schedule": {"score": "0 2 * * *", "monitor": "0 6 * * *"},
    "labels": {"maturity": "P1D", "min_coverage": 0.8},
    "performance": {
        "metric": "neg_mean_absolute_error",
        "window": "P2D",
        "min_labels": 20,
        "threshold": -1.0,
    },
    "retrain": {
        "when": {"breaches": 1, "of_last": 1},
        "cooldown": "P3D",
        "training": {"window": "P5D"},
    },
    # A line without noise: who has learnt the new one is perfect, which elsewhere is suspicious.
    "promotion": {"holdout": "P2D", "min_rows": 20, "too_good": None, "refit": False},
}

FEATURES = """
select entity_id, size, kind from items where night = cast(:as_of as timestamptz)
"""

LABELS = """
select entity_id, value, night as event_at, known_at from truths
where known_at > cast(:since as timestamptz) and known_at <= cast(:as_of as timestamptz)
"""

ESTIMATOR = '''
"""A line through the sizes."""
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

def build(numeric, categorical, seed):
    columns = ColumnTransformer(
        [("c", OneHotEncoder(handle_unknown="ignore"), categorical), ("n", "passthrough", numeric)]
    )
    return Pipeline([("columns", columns), ("line", LinearRegression())])
'''

# From night 20 on the same size means twice the load: a world that has changed.
SOURCE = """
create table items as
select n.night, to_char(n.night, 'YYYYMMDD') || '-' || i as entity_id,
       i::double precision as size, 'k' || mod(i, 3) as kind
from generate_series(timestamptz '2026-01-01 02:00+00', '2026-02-09 02:00+00', '1 day') n (night),
     generate_series(1, 30) i;
create table truths as
select entity_id, night, night + interval '12 hours' as known_at,
       (case when night < '2026-01-20 02:00+00' then 1 else 2 end) * size + 3 as value
from items;
"""


@dataclass
class World:
    """A site with the one family, and the means to change what it reads."""

    site: Site
    folder: Path

    def night(self, number: int) -> datetime:
        return FIRST + timedelta(days=number)

    def configure(self, **sections: Any) -> None:
        """Change sections of model.yaml; dictionaries are merged."""
        file = self.folder / "model.yaml"
        model = yaml.safe_load(file.read_text())
        for key, value in sections.items():
            merged = isinstance(value, dict) and isinstance(model.get(key), dict)
            model[key] = {**model[key], **value} if merged else value
        file.write_text(yaml.safe_dump(model))

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def source(self, sql: str) -> None:
        warehouse = data.connect(self.site.sources["warehouse"], role=None)
        with warehouse.administration() as connection:
            connection.exec_driver_sql(sql)

    def rows(self, sql: str) -> list[Row[Any]]:
        with data.connect(self.site.database_url, role=None).administration() as connection:
            return list(connection.exec_driver_sql(sql).all())

    def codes(self) -> list[str]:
        """The audit trail's codes, oldest first."""
        return [
            row.code for row in self.rows("select code from nightshift.events order by event_id")
        ]

    def train(self, number: int) -> int:
        """Train a version as of a night and let it prove itself; the concluding decision."""
        as_of = self.night(number)
        decisions = retrain.request_retrain(
            self.site, FAMILY, as_of, reason="test", by="test", now=as_of
        )
        [concluded] = simulation.retrain(self.site, decisions, now=as_of)
        return concluded

    def score(self, number: int) -> bool:
        as_of = self.night(number)
        return simulation.score_night(self.site, FAMILY, as_of, now=as_of + timedelta(minutes=5))

    def freeze(self, number: int) -> int:
        as_of = self.night(number)
        return night_steps.freeze(self.site, FAMILY, as_of, now=as_of + timedelta(minutes=5))

    def monitor(self, number: int) -> list[int]:
        """Collect, measure, judge, decide at 06:00 after a night; the decisions to retrain."""
        as_of = self.night(number) + timedelta(hours=4)
        return simulation.monitor_night(self.site, FAMILY, as_of, now=as_of)


@dataclass
class Kept:
    """Worlds as they were once lived through, by name: the next test that asks gets a copy."""

    postgres: Postgres
    folder: Path
    new_database: Callable[..., str]

    def world(self, name: str, world: World, live: Callable[[World], object]) -> World:
        """The world as ``live`` leaves it."""
        kept, database_name = self.folder / name, f"kept_{name}"
        if not kept.exists():
            live(world)
            self._keep(world, database_name)
            shutil.copytree(world.site.state, kept / "state")
            shutil.copytree(world.folder, kept / "family")
        else:
            world.site = replace(world.site, database_url=self.new_database(database_name))
            shutil.copytree(kept / "state", world.site.state, dirs_exist_ok=True)
            shutil.copytree(kept / "family", world.folder, dirs_exist_ok=True)
        return world

    def _keep(self, world: World, database_name: str) -> None:
        leave(world.site.database_url)
        lived = make_url(world.site.database_url).database
        with session(self.postgres.url("postgres")) as connection:
            connection.exec_driver_sql(f"create database {database_name} template {lived}")


def live_through_the_change(world: World) -> None:
    world.configure(performance={"threshold": -1.0})
    world.train(15)
    for number in range(16, 24):
        world.score(number)
        decisions = world.monitor(number)
        if decisions:
            now = world.night(number) + timedelta(hours=5)
            for version_id in retrain.fit(world.site, decisions, now=now):
                retrain.conclude(
                    world.site, retrain.compare(world.site, [version_id], now=now), now=now
                )
