"""A version is made again from its manifest: by another process, to the last byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from tests.world import FAMILY, World
from threadpoolctl import threadpool_limits
from typer.testing import CliRunner

from nightshift import artifacts, registry, training
from nightshift.cli import app
from nightshift.data import Store, connect
from nightshift.documents import Inputs
from nightshift.errors import RegistryError
from nightshift.local import session
from nightshift.records import About, Decision
from nightshift.registry.members import ensure_model
from nightshift.site import Site
from nightshift.steps import retrain, versions
from nightshift.training import estimators
from nightshift.training.estimators import fit

REGRESSORS = {
    "ridge": "linear_model.Ridge()",
    "line": "linear_model.LinearRegression()",
    "net": "linear_model.ElasticNet(random_state=seed)",
    "gradient": "linear_model.SGDRegressor(random_state=seed)",
    "boosted": "ensemble.GradientBoostingRegressor(n_estimators=20, random_state=seed)",
    "histograms": "ensemble.HistGradientBoostingRegressor(max_iter=20, random_state=seed)",
    "forest": "ensemble.RandomForestRegressor(20, random_state=seed, n_jobs=2)",
    "bagged": "ensemble.BaggingRegressor(n_estimators=5, random_state=seed)",
    "neighbours": "neighbors.KNeighborsRegressor()",
    "vectors": "svm.SVR()",
    "tree": "tree.DecisionTreeRegressor(random_state=seed)",
}
CLASSIFIERS = {
    "logistic": "linear_model.LogisticRegression()",
    "histograms_of_classes": "ensemble.HistGradientBoostingClassifier(random_state=seed)",
    "forest_of_classes": "ensemble.RandomForestClassifier(20, random_state=seed, n_jobs=2)",
    "extra": "ensemble.ExtraTreesClassifier(20, random_state=seed)",
    "machine": "calibration.CalibratedClassifierCV(svm.SVC(random_state=seed), cv=3)",
    "layers": "neural_network.MLPClassifier(max_iter=30, random_state=seed)",
    "bayes": "naive_bayes.GaussianNB()",
    "modified": "linear_model.SGDClassifier(loss='modified_huber', random_state=seed)",
}
FORESTS = {"forest", "forest_of_classes", "extra", "bagged"}
ESTIMATOR = '''
"""Any of many estimators, over the same columns."""
import warnings
from sklearn import (
    calibration, ensemble, linear_model, naive_bayes, neighbors, neural_network, svm, tree,
)
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

warnings.simplefilter("ignore", ConvergenceWarning)

def build(numeric, categorical, seed, which):
    columns = ColumnTransformer(
        [
            ("c", OneHotEncoder(handle_unknown="ignore", sparse_output=False), categorical),
            ("n", StandardScaler(), numeric),
        ]
    )
    return Pipeline([("columns", columns), ("last", eval(which))])
'''
AGAIN = """
import json, sys
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, time
from pathlib import Path
from nightshift.site import Site
from nightshift.steps import versions

told = json.loads(sys.argv[1])
site = Site(**{name: Path(told[name]) for name in ("home", "state", "models")},
            database_url=told["database_url"], sources=told["sources"])
print(json.dumps([asdict(versions.reproduce(site, told["model"], n)) for n in told["numbers"]]))
"""


def again(site: Site, model_id: int, numbers: list[int]) -> list[dict[str, Any]]:
    """What another process makes of versions, with strings hashed in another way."""
    told = asdict(site) | {"model": model_id, "numbers": numbers}
    environment = {**os.environ, "PYTHONHASHSEED": "4711"}
    done = subprocess.run(
        [sys.executable, "-c", AGAIN, json.dumps(told, default=str)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def train(world: World, **estimator: Any) -> int:
    """Fit a version with these keys of ``estimator``; the model's id."""
    world.configure(estimator={"seed": 3, **estimator})
    now, why = world.night(9), json.dumps(estimator)
    asked = retrain.request_retrain(world.site, FAMILY, now, reason=why, by="test", now=now)
    [version_id] = retrain.fit(world.site, asked, now=now)
    with connect(world.site.database_url).transaction() as tx:
        return registry.version(tx, version_id).model.model_id


def without_code(world: World, number: int) -> None:
    """Register a version once more, as they were before versions carried their code."""
    with connect(world.site.database_url).transaction() as tx:
        [row] = world.rows(f"select version_id from nightshift.versions where number = {number}")
        found = registry.version(tx, row.version_id)
        keeper = registry.Registry(Store(world.site.store), world.site.keys, world.site.models)
        code = {"code": {"family": found.manifest["code"]["family"], "commit": None}}
        order = Decision(
            found.model.model_id, "retrain", "test", "again", world.night(9), Inputs({})
        )
        decision_id = registry.decide(
            tx, order, about=About.request(world.night(9), "test", "again"), now=world.night(9)
        )
        keeper.save(
            tx,
            found.model,
            keeper.load(found).pipeline,
            {**found.manifest, **code},
            decision_id=decision_id,
            now=world.night(9),
        )


@pytest.fixture
def noisy(world: World) -> World:
    """The small world, with a truth that no estimator finds at once."""
    world.write("estimator.py", ESTIMATOR)
    world.source("update truths set value = value + 5 * sin(hashtext(entity_id))")
    return world


@pytest.mark.parametrize("task", ["regression", "binary_classification"])
def test_another_process_makes_the_same_bytes(noisy: World, task: str) -> None:
    choices = REGRESSORS if task == "regression" else CLASSIFIERS
    if task == "binary_classification":
        noisy.configure(task=task, performance={"metric": "roc_auc"})
        noisy.source("update truths set value = case when value > 18 then 1 else 0 end")
    model_ids = {train(noisy, params={"which": which}) for which in choices.values()}
    numbers = list(range(1, len(choices) + 1))
    found = again(noisy.site, model_ids.pop(), numbers)
    differ = [name for name, one in zip(choices, found, strict=True) if not one["same"]]
    assert differ == []
    assert max(one["difference"] for one in found) < 1e-12  # a forest adds up as its threads end
    assert {one["rows"] for one in found} == {150}


@pytest.mark.parametrize("family", ["air_time", "late_arrival"])
def test_a_version_on_real_flights_is_made_again(
    site: Site, flights_url: str, today: date, family: str
) -> None:
    flights = replace(site, sources={"warehouse": flights_url})
    now = datetime.combine(today, time(2, tzinfo=UTC))
    asked = retrain.request_retrain(flights, family, now, reason="test", by="test", now=now)
    retrain.fit(flights, asked, now=now)
    with connect(site.database_url).transaction() as tx:
        model = ensure_model(tx, family, family, now=now)
    [found] = again(flights, model.model_id, [1])
    assert found["same"], found["sentence"]
    assert found["rows"] > 10_000


def test_a_large_fit_has_a_number_of_threads_of_its_own(
    noisy: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimators, "SMALL_FIT", 100)
    model_id = train(noisy, params={"which": REGRESSORS["histograms"]})
    [told] = noisy.rows("select manifest -> 'threads' as threads from nightshift.versions")
    assert told.threads == training.THREADS > 1
    assert again(noisy.site, model_id, [1])[0]["same"]


@pytest.mark.parametrize("name", [*REGRESSORS, *CLASSIFIERS])
def test_predictions_do_not_depend_on_the_number_of_threads(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"size": rng.normal(size=600), "kind": rng.choice(list("abc"), 600)})
    truth = frame["size"].to_numpy() + rng.normal(size=600)
    task = "regression" if name in REGRESSORS else "binary_classification"
    known = truth if name in REGRESSORS else (truth > 0).astype(np.int64)
    (tmp_path / "estimator.py").write_text(ESTIMATOR)
    build = artifacts.Code.of(tmp_path).module("estimator").build
    scores = []
    for threads in (1, 2, 3):
        pipeline = build(["size"], ["kind"], 3, {**REGRESSORS, **CLASSIFIERS}[name])
        fit(pipeline, frame, known, threads)
        with threadpool_limits(limits=threads):
            scores.append(artifacts.predict(pipeline, frame, task)[0])
    for other in scores[1:]:
        if name in FORESTS:
            np.testing.assert_allclose(other, scores[0], rtol=0, atol=1e-12)
        else:
            np.testing.assert_array_equal(other, scores[0])


def test_bytes_do_not_tell_what_the_memory_held_before(noisy: World) -> None:
    """Equal strings that are several objects, gaps between fields, the order of sets."""
    for name in ("forest", "boosted", "histograms", "ridge"):
        train(noisy, params={"which": REGRESSORS[name]})
    for file in sorted(Path(noisy.site.store).rglob("*.joblib")):
        pipeline = joblib.load(file)  # noqa: TID251 - made by this test
        assert artifacts.to_bytes(pipeline) == file.read_bytes()
    words = [{"one", "two", "three"}, {"three", "two", "one"}]
    assert artifacts.to_bytes(words[0]) == artifacts.to_bytes(words[1])
    twice = ["".join(["si", "ze"]), "".join(["s", "ize"])]
    assert artifacts.to_bytes([*twice]) == artifacts.to_bytes([twice[0]] * 2)


def test_what_a_search_chose_is_made_again_without_searching(
    noisy: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {"which": [REGRESSORS["tree"], REGRESSORS["ridge"]]}
    model_id = train(noisy, search={"space": space, "folds": 2})
    monkeypatch.setattr("nightshift.training.search.best", None)
    assert versions.reproduce(noisy.site, model_id).same


def test_ensembles_tell_how_many_and_how_deep(noisy: World) -> None:
    for name in ("forest", "boosted", "histograms", "tree"):
        train(noisy, params={"which": REGRESSORS[name]})
    told = noisy.rows(
        "select manifest #> '{pipeline,parts,1}' as last from nightshift.versions order by number"
    )
    forest, boosted, histograms, tree = (row.last for row in told)
    assert forest["members"] == 20
    assert forest["depths"][0] > 3
    assert (boosted["members"], boosted["depths"]) == (20, [3, 3])
    assert histograms["members"] == 20
    assert histograms["depths"][1] >= 2
    assert "members" not in tree


def test_a_version_is_made_again_by_its_own_code(noisy: World) -> None:
    model_id = train(noisy, params={"which": REGRESSORS["ridge"]})
    noisy.write("estimator.py", ESTIMATOR.replace("StandardScaler()", "'passthrough'"))
    found = versions.reproduce(noisy.site, model_id)
    assert (found.same, found.changed) == (True, ())
    with pytest.raises(RegistryError, match="there is no version 7 of loads"):
        versions.reproduce(noisy.site, model_id, 7)


def test_a_version_without_code_is_made_again_by_other_code_and_says_so(noisy: World) -> None:
    model_id = train(noisy, params={"which": REGRESSORS["ridge"]})
    without_code(noisy, 1)
    noisy.write("estimator.py", ESTIMATOR.replace("StandardScaler()", "'passthrough'"))
    found = versions.reproduce(noisy.site, model_id, 2)
    assert not found.same
    assert found.difference is not None
    assert 0 < found.difference < 100
    assert "scores differ by up to" in found.sentence
    assert f"the files in {noisy.folder} were changed" in found.sentence


def test_the_command_tells_a_sentence_and_an_exit_code(
    noisy: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nightshift.local.site", lambda: noisy.site)
    monkeypatch.setattr("nightshift.cli.console.width", 200)
    train(noisy, params={"which": REGRESSORS["ridge"]})
    run: Callable[..., Any] = CliRunner().invoke
    told = run(app, ["reproduce", FAMILY])
    assert told.exit_code == 0
    assert told.output == (
        "version 1 of loads was trained again on 150 rows of 5 snapshots: the same bytes, so the"
        " same predictions.\n"
    )
    without_code(noisy, 1)
    noisy.write("estimator.py", ESTIMATOR.replace("StandardScaler()", "'passthrough'"))
    told = run(app, ["reproduce", FAMILY, "--version", "2", "--json"])
    assert told.exit_code == 1
    assert json.loads(told.output)["same"] is False
    excluded = run(app, ["exclude", FAMILY, "20260105-7", "--reason", "asked to", "--erase"])
    assert excluded.output == "loads: 20260105-7 is erased; 1 labels of it are known\n"
    both = run(app, ["exclude", FAMILY, "x", "--reason", "r", "--erase", "--release"])
    assert both.exit_code == 2
    with session(noisy.site.database_url) as connection:
        said = connection.exec_driver_sql("select state, reason from nightshift.exclusions").all()
    assert [tuple(row) for row in said] == [("erased", "asked to")]


def test_an_artifact_that_was_collected_is_made_again_and_put_back(
    world: World, forget: Callable[[int], None]
) -> None:
    world.train(12)
    forget(1)
    again = versions.reproduce(world.site, 1)
    assert (again.same, again.difference) == (True, None)
    assert again.sentence.endswith("the same bytes, which are in the store again.")
    assert world.score(13)
