"""What serves after a proof, what a break teaches, and what is better but not proven."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.families import MEMBERS, live, train_all
from tests.world import FAMILY, World

from nightshift import monitoring, registry, reports
from nightshift.data import connect
from nightshift.records import Version
from nightshift.steps import versions

MADE = """
select v.number, v.made_as, c.model_version is not null as serves
from nightshift.versions v join nightshift.models m using (model_id)
left join champions c on c.family = m.family and c.model = m.name and c.model_version = v.number
order by v.version_id
"""
DECIDED = """
select d.kind, d.rule, d.reason, d.as_of from nightshift.decisions d
where d.kind in ('retrain', 'promote', 'reject', 'shadow', 'ask') order by d.decision_id
"""
# Five nights are 150 rows; with the two of the holdout there are 210.
SOON_TIRED = '''
"""A line through at most 150 sizes."""
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline

class Line(LinearRegression):
    def fit(self, X, y):
        if len(X) > 150:
            raise ValueError("too many rows for me")
        return super().fit(X, y)

def build(numeric, categorical, seed):
    columns = ColumnTransformer([("n", "passthrough", numeric)])
    return Pipeline([("columns", columns), ("line", Line())])
'''

# Rows of the new world are scattered by as much as they are large: nights differ by luck.
NOISE = """
update truths set value = value + {size} * sin(hashtext(entity_id)::double precision)
where night >= '2026-01-20'
"""


@pytest.fixture
def refitting(world: World) -> World:
    world.configure(promotion={"refit": True})
    return world


def version(world: World, number: int) -> Version:
    with connect(world.site.database_url).transaction() as tx:
        [model] = registry.members(tx, FAMILY, world.night(39))
        return registry.numbered_version(tx, model.model_id, number)


def made(world: World) -> list[tuple[int, str, bool]]:
    return [(row.number, row.made_as, row.serves) for row in world.rows(MADE)]


def test_what_serves_has_learnt_the_nights_that_it_was_proven_on(refitting: World) -> None:
    refitting.train(9)
    assert made(refitting) == [(1, "challenger", False), (2, "refit", True)]
    proven, serving = version(refitting, 1), version(refitting, 2)
    assert proven.manifest.training[1] == proven.manifest.holdout[0]
    assert serving.manifest.training == (proven.manifest.training[0], proven.manifest.holdout[1])
    assert serving.manifest["proven"] == {
        "version_id": proven.version_id,
        "number": 1,
        "artifact_hash": proven.artifact_hash,
        "holdout": [moment.isoformat() for moment in proven.manifest.holdout],
    }
    for number in (1, 2):
        assert versions.reproduce(refitting.site, proven.model.model_id, number).same


def test_why_tells_the_proven_version_and_the_refit_that_serves(refitting: World) -> None:
    refitting.train(9)
    told = reports.why(connect(refitting.site.database_url), FAMILY, refitting.night(10))
    trained, compared = told.sentences[-2:]
    assert trained.startswith("Trained: version 1, at ")
    assert "Version 2, the same with the compared nights learnt along, serves from" in compared


def test_a_refit_that_fails_leaves_the_proven_version_serving_and_is_told(
    refitting: World,
) -> None:
    refitting.write("estimator.py", SOON_TIRED)
    refitting.train(9)
    assert made(refitting) == [(1, "challenger", True)]
    assert "refit_failed" in refitting.codes()


@pytest.mark.parametrize("size", [80, 140])
def test_a_challenger_that_is_better_but_unproven_goes_on_in_shadow(
    world: World, size: int
) -> None:
    world.source(NOISE.format(size=size))
    world.train(9)
    world.train(27)
    [*_, said] = world.rows(DECIDED)
    assert (said.kind, said.rule) == ("shadow", "unproven")
    [shadow] = world.rows("select carried from nightshift.shadows")
    gains = world.rows("select gains from nightshift.comparisons order by comparison_id")[-1].gains
    assert shadow.carried == gains
    assert len(gains) == 2


def test_members_that_one_night_has_trained_are_judged_together(world: World) -> None:
    world.configure(**MEMBERS)
    train_all(world, 12)
    train_all(world, 27)
    said = [row for row in world.rows(DECIDED) if row.as_of == world.night(27)]
    assert {row.kind for row in said} >= {"promote"}


def test_a_whole_window_surely_below_retrains_whatever_else_is_configured(world: World) -> None:
    world.configure(retrain={"when": {"breaches": 6, "of_last": 6}, "cooldown": "P1D"})
    world.train(15)
    live(world, 16, 22)
    [*_, asked] = [row for row in world.rows(DECIDED) if row.kind == "retrain"]
    assert asked.rule == "whole_window"
    assert ", limit 1: surely above it (" in asked.reason


def test_all_nights_that_a_version_has_not_learnt_are_looked_at(world: World) -> None:
    world.configure(retrain={"when": {"shift": {}}}, performance={"threshold": -40.0})
    world.train(12)
    live(world, 13, 19)
    as_of = world.night(19) + timedelta(hours=4)
    family = world.site.family(FAMILY)
    with connect(world.site.database_url).transaction() as tx:
        champions = registry.champions(tx, FAMILY, as_of)
        [nights] = monitoring.nights_judged(tx, family, champions, as_of).values()
    measured = world.rows(
        "select jsonb_array_length(nights) as nights from nightshift.measurements"
    )
    assert max(row.nights for row in measured) == 2  # the window
    assert [night.as_of for night in nights] == [
        world.night(n) for n in range(13, 13 + len(nights))
    ]
    assert len(nights) > 2
    assert all(night.guess is not None and night.guess < -1 for night in nights)
