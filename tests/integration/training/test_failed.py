"""A training that dies ends its decision: why is told, nothing dangles, the next night may ask."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.faults.harness import Process
from tests.hosts import Airflow
from tests.world import ESTIMATOR, FAMILY, World

from nightshift import reports
from nightshift.data import connect
from nightshift.errors import NightshiftError, TrainingError
from nightshift.steps import retrain, upkeep

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
    "leaves": (
        """
class Leaving(RegressorMixin, BaseEstimator):
    def fit(self, X, y):
        raise SystemExit("nothing to learn from")
""",
        "Leaving()",
        "could not be fitted on 150 rows: SystemExit: nothing to learn from",
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


# Killed -------------------------------------------------------------------------------------------


def killed(work: partial[Any], place: str) -> None:
    """Let a process of its own begin some work, and kill it with SIGKILL, as the kernel does."""
    Process(work, place).reached(place).kill()


def health(world: World) -> tuple[str, str | None]:
    [line] = reports.status(connect(world.site.database_url)).lines
    return line.health, line.failure


def test_a_training_that_the_kernel_kills_is_ended_by_its_run_with_the_reason(
    world: World,
) -> None:
    asked, now = ask(world, 9)
    killed(partial(retrain.fit, world.site, asked, now=now), "registry.stored")
    assert health(world)[0] == "retraining"
    run = partial(upkeep.settle, world.site, FAMILY, asked, since=now, now=now)
    assert run([]) == []  # its other tasks go on: nothing has failed yet
    assert run(["fit"]) == asked
    assert run(["fit"]) == []
    state, failure = health(world)
    assert state == "failed"
    assert failure is not None
    assert failure.startswith("loads: the training of its challenger came to no end: the task fit")
    assert "killed since memory is short" in failure
    assert world.monitor(10)  # the next night may ask again
    compared = retrain.compare(world.site, retrain.fit(world.site, asked, now=now), now=now)
    retrain.conclude(world.site, compared, now=now)
    assert health(world)[0] != "failed"


def test_a_killed_conclusion_is_ended_as_well_and_can_be_carried_out_later(world: World) -> None:
    world.configure(promotion={"refit": True})
    asked, now = ask(world, 9)
    compared = retrain.compare(world.site, retrain.fit(world.site, asked, now=now), now=now)
    conclude = partial(retrain.conclude, world.site, compared, now=now)
    killed(conclude, "registry.stored")  # while it fits the winner once more
    assert upkeep.settle(world.site, FAMILY, asked, ["conclude"], since=now, now=now) == asked
    [ended] = world.rows("select rule, reason from nightshift.decisions where kind = 'failed'")
    assert ended.rule == "conclusion"
    assert "the task conclude failed" in ended.reason
    assert len(conclude()) == 1
    assert world.score(10)


def test_what_no_run_ends_is_ended_by_the_upkeep_two_days_later(world: World) -> None:
    real = datetime.now(UTC)
    asked = retrain.request_retrain(
        world.site, FAMILY, world.night(9), reason="test", by="test", now=real
    )
    killed(partial(retrain.fit, world.site, asked, now=real), "storage.written")
    ended = [
        upkeep.maintain(world.site, now=real + timedelta(days=days))["ended_retrains"]
        for days in (1, 3, 4)
    ]
    assert ended == [0, 1, 0]
    state, failure = health(world)
    assert state == "failed"
    assert failure is not None
    assert "for 2 days nobody has carried it out" in failure


@pytest.fixture
def airflow(world: World, runner: tuple[Any, Path], tmp_path: Path) -> Airflow:
    return Airflow(*runner, world, tmp_path)


def test_in_airflow_a_task_that_fails_without_an_end_is_settled_and_told(airflow: Airflow) -> None:
    world = airflow.world
    world.configure(alerts=[airflow.lines(on=["failed"])])
    asked, _ = ask(world, 9)
    away = dict(world.site.sources, warehouse="postgresql+psycopg2://u@127.0.0.1:9/x")
    world.rows("delete from nightshift.label_collections returning 1")  # so fit asks the source
    object.__setattr__(world.site, "sources", away)
    run = airflow.run("retrain", 9, decision_ids=asked)
    assert run["state"] == "failed"
    assert run["tasks"]["fit"] == "failed"
    assert (run["tasks"]["settle"], run["tasks"]["alert"]) == ("success", "success")
    state, failure = health(world)
    assert state == "failed"
    assert failure is not None
    assert "the task fit failed; " in failure
    assert airflow.titles() == [f"{FAMILY}: retrain failed in fit"]
