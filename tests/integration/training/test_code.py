"""Code belongs to a version: what it was trained with scores, whatever the folder says since."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.hosts import Reader
from tests.world import FAMILY, World
from typer.testing import CliRunner

from nightshift import registry, reports
from nightshift.cli import app
from nightshift.data import Store, connect
from nightshift.errors import ArtifactRefused
from nightshift.registry import Registry
from nightshift.registry.versions import _verified_pipeline
from nightshift.steps import people, versions
from nightshift.web.app import create

LATER = datetime(2027, 1, 1, tzinfo=UTC)

CLIPPED = '''
"""A line through the sizes, which are clipped first."""
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder
{imports}

def build(numeric, categorical, seed):
    columns = ColumnTransformer(
        [("c", OneHotEncoder(handle_unknown="ignore"), categorical), ("n", Clip(), numeric)]
    )
    return Pipeline([("columns", columns), ("line", LinearRegression())])
'''

CLIP = """
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

LIMIT = 100.0

class Clip(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self
    def transform(self, X):
        return np.minimum(np.asarray(X, dtype=float), LIMIT)
"""

SPREAD = {
    "inline": {"estimator.py": CLIPPED.format(imports=CLIP)},
    "absolute": {
        "estimator.py": CLIPPED.format(imports="from helpers import Clip"),
        "helpers.py": CLIP,
    },
    "relative": {
        "estimator.py": CLIPPED.format(imports="from .helpers import Clip"),
        "helpers.py": CLIP,
    },
    "module": {
        "estimator.py": CLIPPED.format(imports="import helpers as h\nClip = h.Clip"),
        "helpers.py": CLIP,
    },
    "package": {
        "estimator.py": CLIPPED.format(imports="from shaping.clipping import Clip"),
        "shaping/__init__.py": "",
        "shaping/clipping.py": CLIP.replace("LIMIT = 100.0", "from .limits import LIMIT"),
        "shaping/limits.py": "LIMIT = 100.0\n",
    },
    "folder_without_init": {
        "estimator.py": CLIPPED.format(
            imports="import shaping.clipping\nClip = shaping.clipping.Clip"
        ),
        "shaping/clipping.py": "from limits import LIMIT\n" + CLIP.replace("LIMIT = 100.0", ""),
        "limits.py": "LIMIT = 100.0\n",
    },
    "shadows_the_standard_library": {
        "estimator.py": CLIPPED.format(imports="from statistics import Clip"),
        "statistics.py": CLIP,
    },
}


def write(world: World, files: dict[str, str]) -> None:
    for name, text in files.items():
        (world.folder / name).parent.mkdir(exist_ok=True)
        world.write(name, text)


def lower_the_limit(world: World) -> str:
    """Clip at 1 from now on; the file that says so."""
    for file in world.folder.rglob("*.py"):
        if "LIMIT = 100.0" in file.read_text():
            file.write_text(file.read_text().replace("LIMIT = 100.0", "LIMIT = 1.0"))
            return file.relative_to(world.folder).as_posix()
    raise AssertionError("no file holds the limit")


def scores(world: World, number: int) -> list[float]:
    rows = world.rows(
        f"select score from predictions where as_of = '{world.night(number)}' order by entity_id"
    )
    return [row.score for row in rows]


@pytest.mark.parametrize("name", SPREAD)
def test_a_version_scores_by_the_code_it_was_trained_with(world: World, name: str) -> None:
    write(world, SPREAD[name])
    world.train(9)
    world.score(10)
    lower_the_limit(world)
    _verified_pipeline.cache_clear()
    world.score(11)
    assert len(set(scores(world, 10))) == 30
    assert [round(one, 6) for one in scores(world, 11)] == [
        round(one, 6) for one in scores(world, 10)
    ]
    assert versions.reproduce(world.site, 1).same


def test_two_versions_with_other_code_live_in_one_process(world: World) -> None:
    write(world, SPREAD["absolute"])
    world.train(9)
    world.score(10)
    lower_the_limit(world)
    world.train(12)  # in this process, which has the old code
    with connect(world.site.database_url).transaction() as tx:
        first, second = registry.versions(tx, [1, 2]).values()
    people.promote(world.site, second.version_id, reason="try", by="t", now=world.night(13))
    world.score(13)
    assert len(set(scores(world, 13))) <= 3  # every size is clipped to 1: kinds alone differ
    keeper = Registry(Store(world.site.store), world.site.keys, world.site.models)
    steps = [keeper.load(one).pipeline[0].named_transformers_["n"] for one in (first, second)]
    assert [step.transform([[7.0]]).item() for step in steps] == [7.0, 1.0]
    assert first.manifest["code"]["files"] != second.manifest["code"]["files"]
    assert "helpers" not in sys.modules


def test_another_process_opens_it_although_the_folder_is_gone(world: World) -> None:
    write(world, SPREAD["package"])
    world.train(9)
    for file in world.folder.rglob("*.py"):
        file.unlink()
    script = (
        "import sys; from pathlib import Path\n"
        "from nightshift import registry\nfrom nightshift.data import Store, connect\n"
        "store, keys, models, url = sys.argv[1:]\n"
        "with connect(url).transaction() as tx:\n    found = registry.version(tx, 1)\n"
        "keeper = registry.Registry(Store(Path(store)), Path(keys), Path(models))\n"
        "print(type(keeper.load(found).pipeline[0].named_transformers_['n']).__name__)\n"
    )
    site = world.site
    done = subprocess.run(
        [sys.executable, "-c", script, site.store, site.keys, site.models, site.database_url],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("Clip\n", "")


def test_a_change_that_waits_for_a_training_is_told_everywhere(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(world, SPREAD["package"])
    world.train(9)
    world.score(10)
    world.monitor(10)
    site, database = world.site, connect(world.site.database_url)

    def told() -> list[str]:
        status = reports.status(database, models=site.models).sentences
        why = reports.why(database, FAMILY, LATER, models=site.models).sentences
        page = TestClient(create(Reader(site))).get(f"/models/{FAMILY}/{FAMILY}").text
        page = re.sub("<[^>]+>", "", page)
        monkeypatch.setattr("nightshift.local.site", lambda: site)
        monkeypatch.setattr("nightshift.cli.console.width", 200)
        check = CliRunner().invoke(app, ["check"]).output
        return ["\n".join(status), "\n".join(why), page, check]

    assert all("waits for a training" not in text for text in told())
    changed = lower_the_limit(world)
    world.write("more.py", "")
    for text in told():
        assert f"{changed} changed on 20" in text
        assert "more.py came on 20" in text
        assert "waits for a training" in text
    (world.folder / "more.py").unlink()
    (world.folder / changed).unlink()
    (world.folder / changed).write_text("LIMIT = 100.0\n")
    assert all("waits for a training" not in text for text in told())
    (world.folder / "shaping" / "__init__.py").unlink()
    assert all("shaping/__init__.py is gone, and waits" in text for text in told())


def test_code_that_was_changed_in_the_store_is_not_run(world: World) -> None:
    world.train(9)
    [row] = world.rows("select manifest #>> '{code,archive}' as archive from nightshift.versions")
    store = Store(world.site.store)
    kept = Path(store.address(row.archive, "code"))
    kept.write_bytes(kept.read_bytes() + b" ")
    _verified_pipeline.cache_clear()
    keeper = Registry(store, world.site.keys, world.site.models)
    with connect(world.site.database_url).transaction() as tx:
        found = registry.version(tx, 1)
    with pytest.raises(
        ArtifactRefused, match="the code of loads: version 1 of loads was not opened"
    ):
        keeper.load(found)


def test_incremental_learning_starts_anew_with_other_code(world: World) -> None:
    gradient = CLIPPED.replace("LinearRegression", "SGDRegressor")
    write(world, {"estimator.py": gradient.format(imports=CLIP)})
    world.configure(retrain={"training": {"window": "P5D", "policy": "incremental"}})
    world.train(9)
    world.train(12)
    lower_the_limit(world)
    world.train(15)
    bases = world.rows("select manifest -> 'base' as base from nightshift.versions order by number")
    assert [row.base is None for row in bases] == [True, False, True]
