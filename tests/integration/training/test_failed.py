"""A training that dies ends its decision: why is told, nothing dangles, the next night may ask."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.world import ESTIMATOR, FAMILY, World

from nightshift import reports
from nightshift.data import connect
from nightshift.errors import NightshiftError, TrainingError
from nightshift.steps import retrain

HEAD = """
import threading
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

class Numbers(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self
    def __sklearn_is_fitted__(self):
        return True
    def transform(self, X):
        return X[["size"]].to_numpy()
"""

DYING = {
    "raises_in_fit": (
        """
class Broken(RegressorMixin, BaseEstimator):
    def fit(self, X, y):
        raise KeyError("no such thing")
""",
        "Broken()",
        "could not be fitted on 150 rows: KeyError: 'no such thing'",
    ),
    "cannot_be_stored": (
        "",
        "FunctionTransformer(lambda X: X * 2)",
        "step 'before' (FunctionTransformer, its func is <lambda>) cannot be stored",
    ),
    "holds_a_lock": (
        """
class Locked(Numbers):
    def fit(self, X, y=None):
        self.lock_ = threading.Lock()
        return self
    def transform(self, X):
        return X
""",
        "Locked()",
        "step 'before' (Locked, its lock_ is of type lock) cannot be stored",
    ),
    "made_inside_a_function": (
        """
def inside():
    class Local(Numbers):
        def transform(self, X):
            return X
    return Local()
""",
        "inside()",
        "step 'before' (Local, a class that is made inside a function) cannot be stored",
    ),
    "cannot_predict": (
        """
class Mute(LinearRegression):
    def predict(self, X):
        raise AttributeError("predict is not there")
""",
        "Mute()",
        "cannot score the rows that it has learnt from: AttributeError: predict is not there",
    ),
    "gives_too_few_scores": (
        """
class Short(LinearRegression):
    def predict(self, X):
        return super().predict(X)[1:]
""",
        "Short()",
        "gave 149 scores for 150 rows",
    ),
}


def dying(world: World, name: str) -> str:
    """Let the family's estimator die so; what is then said."""
    code, step, said = DYING[name]
    last = "last" if "LinearRegression" in code or "RegressorMixin" in code else "before"
    steps = {
        "before": 'FunctionTransformer(feature_names_out="one-to-one")',
        "last": "LinearRegression()",
    }
    steps[last] = step
    made = ", ".join(f"({name!r}, {made})" for name, made in steps.items())
    world.write(
        "estimator.py",
        f"{HEAD}{code}\ndef build(numeric, categorical, seed):\n"
        f"    return Pipeline([('numbers', Numbers()), {made}])\n",
    )
    return said


def ask(world: World, number: int) -> tuple[list[int], datetime]:
    now = world.night(number)
    return (
        retrain.request_retrain(world.site, FAMILY, now, reason="test", by="test", now=now),
        now,
    )


@pytest.mark.parametrize("name", DYING)
def test_what_dies_ends_the_decision_with_its_reason(world: World, name: str) -> None:
    said = dying(world, name)
    asked, now = ask(world, 9)
    with pytest.raises(TrainingError) as caught:
        retrain.fit(world.site, asked, now=now)
    assert said in str(caught.value)
    [ended] = world.rows(
        "select kind, rule, reason from nightshift.decisions where kind = 'failed'"
    )
    assert (ended.kind, ended.rule) == ("failed", "training")
    assert said in ended.reason
    assert world.rows("select * from nightshift.versions") == []
    database = connect(world.site.database_url)
    [line] = reports.status(database).lines
    assert (line.health, line.decision) == ("failed", "failed")
    assert line.failure is not None
    assert said in line.failure
    *_, last = reports.why(database, FAMILY, now + timedelta(days=1)).sentences
    assert last.startswith("Failed: ")
    assert said in last


def test_once_mended_the_same_decision_can_be_carried_out(world: World) -> None:
    dying(world, "cannot_be_stored")
    asked, now = ask(world, 9)
    with pytest.raises(TrainingError):
        retrain.fit(world.site, asked, now=now)
    world.write("estimator.py", ESTIMATOR)
    compared = retrain.compare(world.site, retrain.fit(world.site, asked, now=now), now=now)
    retrain.conclude(world.site, compared, now=now)
    [line] = reports.status(connect(world.site.database_url)).lines
    assert (line.health, line.version) == ("immature", 1)
    assert world.score(10)


def test_a_cooldown_minds_no_retrain_that_failed(world: World) -> None:
    world.configure(retrain={"cooldown": "P5D"})
    world.train(15)
    retrains: dict[int, list[Any]] = {}
    dying(world, "raises_in_fit")
    for number in range(16, 27):
        world.score(number)
        asked = world.monitor(number)
        if asked:
            retrains[number] = asked
            with pytest.raises(TrainingError):
                retrain.fit(world.site, asked, now=world.night(number) + timedelta(hours=5))
    first = min(retrains)
    assert first + 1 in retrains  # within the cooldown of one that failed
    world.write("estimator.py", ESTIMATOR)
    world.score(27)
    [asked_again] = world.monitor(27)
    later = world.night(27) + timedelta(hours=5)
    assert retrain.fit(world.site, [asked_again], now=later)


@pytest.mark.parametrize("fault", [ValueError("a shape that is none"), RuntimeError("cut off")])
def test_whatever_else_a_training_or_comparison_dies_of_ends_it_as_well(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def fails(*args: object, **kwargs: object) -> None:
        raise fault

    def dies(step: Callable[..., object], ids: list[int], now: datetime) -> None:
        with pytest.raises((type(fault), NightshiftError)):
            step(world.site, ids, now=now)

    asked, now = ask(world, 9)
    with monkeypatch.context() as patched:
        patched.setattr("nightshift.training.manifest.tables.profile", fails)
        dies(retrain.fit, asked, now)
    asked, now = ask(world, 10)
    versions = retrain.fit(world.site, asked, now=now)
    monkeypatch.setattr("nightshift.promotion.compare", fails)
    dies(retrain.compare, versions, now)
    ended = world.rows(
        "select rule, reason from nightshift.decisions where kind = 'failed' order by decision_id"
    )
    assert [row.rule for row in ended] == ["training", "comparison"]
    assert all(str(fault) in row.reason for row in ended)
