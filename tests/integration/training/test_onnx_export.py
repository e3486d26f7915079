"""A version as ONNX: the same scores on its holdout, or a reason why there is no file."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.world import FAMILY, World
from typer.testing import CliRunner

from nightshift.cli import app
from nightshift.errors import SetupError, TrainingError
from nightshift.steps import retrain, versions

CLASSES = """
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

def build(numeric, categorical, seed):
    columns = ColumnTransformer(
        [("c", OneHotEncoder(handle_unknown="ignore"), categorical),
         ("n", StandardScaler(), numeric)]
    )
    return Pipeline([("columns", columns), ("line", LogisticRegression())])
"""


def export(world: World, file: Path) -> Any:
    now = world.night(9)
    asked = retrain.request_retrain(world.site, FAMILY, now, reason="test", by="test", now=now)
    retrain.fit(world.site, asked, now=now)
    [model] = world.rows("select model_id from nightshift.models")
    return versions.export_onnx(world.site, model.model_id, file, now=now + timedelta(1))


def test_without_the_extra_one_is_told_what_to_install(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    with pytest.raises(SetupError, match=r"pip install 'nightshift\[onnx\]'"):
        export(world, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_the_file_scores_the_holdout_as_the_pipeline_does(world: World, tmp_path: Path) -> None:
    world.source("update items set kind = null where entity_id ~ '-7$'")
    found = export(world, tmp_path / "deep" / "model.onnx")
    assert found.agrees
    assert (found.rows, found.left_out) == (2 * 29, 2)
    assert found.difference < 1e-12
    assert (tmp_path / "deep" / "model.onnx").stat().st_size > 100


@pytest.mark.parametrize("task", ["binary_classification", "multiclass_classification"])
def test_probabilities_and_labels_agree(world: World, tmp_path: Path, task: str) -> None:
    world.configure(task=task, performance={"metric": "accuracy"})
    world.source("alter table truths alter value type text using (value > 18)::int::text")
    world.write("estimator.py", CLASSES)
    found = export(world, tmp_path / "model.onnx")
    assert found.agrees
    assert (found.labels, found.rows) == (0, 60)


def test_what_cannot_be_converted_leaves_no_file(world: World, tmp_path: Path) -> None:
    world.write(
        "estimator.py",
        "from sklearn.dummy import DummyRegressor\nfrom sklearn.pipeline import Pipeline\n"
        "def build(numeric, categorical, seed):\n"
        "    return Pipeline([('mean', DummyRegressor())])\n",
    )
    with pytest.raises(TrainingError, match="version 1 of loads: skl2onnx cannot convert it"):
        export(world, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_the_command_tells_how_far_they_agree(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    export(world, tmp_path / "first.onnx")
    monkeypatch.setattr("nightshift.local.site", lambda: world.site)
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(app, ["export", FAMILY, "--onnx", "model.onnx"])
    assert told.exit_code == 0
    assert "version 1 of loads is in model.onnx: on 60 rows of its holdout" in told.output
