"""A project is begun in an empty folder, and renewed without touching what is its owner's."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nightshift import cli, project
from nightshift.errors import ConfigError, SetupError
from nightshift.family import load_families
from nightshift.site import default_home, load_settings

RECORD = ".nightshift-project.json"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A project as it was begun."""
    project.begin(tmp_path / "shop")
    return tmp_path / "shop"


def record(shop: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((shop / RECORD).read_text())
    return read


def age(shop: Path, path: str, text: str, version: str = "0.0.9") -> None:
    """Make a project one that an older version wrote, in which a file had another text."""
    (shop / path).write_text(text)
    written = record(shop) | {"nightshift": version}
    written["files"][path] = hashlib.sha256(text.encode()).hexdigest()
    (shop / RECORD).write_text(json.dumps(written))


def test_a_project_has_the_layout_that_airflow_and_astro_know(shop: Path) -> None:
    paths = {str(file.relative_to(shop)) for file in shop.rglob("*") if file.is_file()}
    kinds = ("check", "maintain", "monitor", "retrain", "rollback", "score")
    assert {f"dags/{kind}.py" for kind in kinds} <= paths
    assert paths >= {
        ".env.example",
        ".gitignore",
        "README.md",
        "docker-compose.yaml",
        "include/models/late_delivery/model.yaml",
        "include/nightshift.yaml",
        "requirements.txt",
        "tests/test_families.py",
    }
    families, problems = load_families(shop / "include" / "models")
    assert ([family.family for family in families], problems) == (["late_delivery"], [])
    assert load_settings(shop).retrains_per_night == 50
    assert not [file for file in paths if "@NAME@" in (shop / file).read_text()]


@pytest.mark.parametrize("name", ["notes.txt", "src/a.py", ".env", "dags/score.py"])
def test_a_folder_that_is_not_empty_is_refused_and_left_as_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(
        SetupError, match=f"is not empty: {name.split('/', maxsplit=1)[0]} is in it"
    ):
        project.begin(tmp_path)
    assert [file.read_text() for file in tmp_path.rglob("*") if file.is_file()] == ["mine"]


@pytest.mark.parametrize("name", [".git", ".venv"])
def test_what_people_make_before_a_project_is_no_obstacle(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert "dags/score.py" in project.begin(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("")
    with pytest.raises(SetupError, match="shop is a file; name a folder"):
        project.begin(tmp_path / "shop")


def test_a_project_is_not_begun_over_one(shop: Path) -> None:
    with pytest.raises(SetupError, match=r"holds a project already.* init .*shop --renew"):
        project.begin(shop)


def test_a_new_project_has_nothing_to_renew(shop: Path) -> None:
    assert project.outdated(shop) is None
    assert project.renew(shop).renewed == ()


def test_a_file_that_its_owner_left_as_it_was_is_renewed(shop: Path) -> None:
    newest = (shop / "dags/score.py").read_text()
    age(shop, "dags/score.py", "from nightshift_airflow import score\n")
    stale = project.outdated(shop)
    assert stale is not None
    assert (stale.made_by, stale.renewed, stale.left_alone) == ("0.0.9", ("dags/score.py",), ())

    assert project.renew(shop).renewed == ("dags/score.py",)
    assert (shop / "dags/score.py").read_text() == newest
    assert project.outdated(shop) is None


def test_what_its_owner_changed_or_removed_is_left_alone_and_listed(shop: Path) -> None:
    age(shop, "docker-compose.yaml", "services: {}\n")
    (shop / "docker-compose.yaml").write_text("services: {mine: {}}\n")
    age(shop, "dags/rollback.py", "an older one\n")
    (shop / "dags/rollback.py").unlink()

    for _ in range(2):
        renewal = project.renew(shop)
        assert renewal.renewed == ()
        assert renewal.left_alone == ("dags/rollback.py", "docker-compose.yaml")
        assert (shop / "docker-compose.yaml").read_text() == "services: {mine: {}}\n"
        assert not (shop / "dags/rollback.py").exists()
    assert project.outdated(shop) is None


def test_a_change_of_a_file_that_has_no_newer_one_is_no_news(shop: Path) -> None:
    (shop / "README.md").write_text("our shop\n")
    (shop / "include/models/late_delivery/labels.sql").unlink()
    renewal = project.renew(shop)
    assert (renewal.renewed, renewal.left_alone) == ((), ())
    assert (shop / "README.md").read_text() == "our shop\n"


def test_a_file_that_a_newer_version_adds_is_written(shop: Path) -> None:
    written = record(shop)
    del written["files"]["dags/maintain.py"]
    (shop / RECORD).write_text(json.dumps(written))
    (shop / "dags/maintain.py").unlink()
    assert project.renew(shop).renewed == ("dags/maintain.py",)
    assert (shop / "dags/maintain.py").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"nightshift": "0.1.0"}'])
def test_a_broken_record_is_named(shop: Path, text: str) -> None:
    (shop / RECORD).write_text(text)
    for act in (project.renew, project.outdated):
        with pytest.raises(ConfigError, match=r"\.nightshift-project\.json cannot be read"):
            act(shop)


def test_a_folder_that_init_did_not_make_is_not_renewed(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ConfigError, match="was not made by nightshift init"):
        project.renew(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["README.md"]
    assert project.outdated(tmp_path) is None


def test_check_says_what_to_renew(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop)
    age(shop, "dags/score.py", "older\n")
    found = CliRunner().invoke(cli.app, ["check"])
    assert found.exit_code == 1
    assert "made by nightshift 0.0.9" in found.output
    assert "to renew dags/score.py: nightshift init --renew" in found.output

    assert "renewed     dags/score.py" in CliRunner().invoke(cli.app, ["init", "--renew"]).output
    assert CliRunner().invoke(cli.app, ["check"]).output == "every family is in order\n"


def test_home_is_the_nearest_folder_upward_with_families(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NIGHTSHIFT_HOME", raising=False)
    for inside in (shop, shop / "dags", shop / "include" / "models" / "late_delivery"):
        monkeypatch.chdir(inside)
        assert default_home() == shop
    monkeypatch.chdir(tmp_path)
    assert default_home(shop / "dags") == shop
    with pytest.raises(SetupError, match=r"no project is here.*nightshift init shop"):
        default_home()
    monkeypatch.setenv("NIGHTSHIFT_HOME", "/srv/ours")
    assert default_home(shop) == Path("/srv/ours")


@pytest.mark.parametrize("variable", ["NIGHTSHIFT_HOME", "NIGHTSHIFT_MODELS"])
def test_a_folder_of_families_that_is_not_there_is_no_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv("NIGHTSHIFT_HOME", str(tmp_path))
    monkeypatch.delenv("NIGHTSHIFT_MODELS", raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "mistyped"))
    found = CliRunner().invoke(cli.app, ["check"])
    assert isinstance(found.exception, ConfigError)
    assert f"there is no folder {tmp_path / 'mistyped'}" in str(found.exception)
    assert "mkdir -p" in str(found.exception)
