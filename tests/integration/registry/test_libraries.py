"""Libraries under a champion: what may differ is scored and told, what may not is not opened."""

from __future__ import annotations

import warnings
from importlib.metadata import version as installed_version

import pytest
import sklearn.base
from tests.world import FAMILY, World

from nightshift import reports
from nightshift.data import connect
from nightshift.errors import LibrariesDiffer
from nightshift.registry.versions import _verified_pipeline

NOW = installed_version("scikit-learn")


@pytest.fixture
def upgraded(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A champion that scikit-learn 1.8.0 has written, under the scikit-learn of today."""
    older = {"scikit-learn": "1.8.0"}
    with monkeypatch.context() as then:
        then.setattr(sklearn.base, "__version__", "1.8.0")
        then.setattr(
            "nightshift.training.manifest.installed_version",
            lambda name: older.get(name) or installed_version(name),
        )
        then.setattr(
            "nightshift.artifacts.libraries._version",
            lambda name: older.get(name) or installed_version(name),
        )
        world.train(9)
    _verified_pipeline.cache_clear()
    return world


def status(world: World) -> str:
    database = connect(world.site.database_url)
    return "\n".join(reports.status(database, models=world.site.models).sentences)


def test_another_minor_release_is_refused_by_default_and_says_how_to_mend_it(
    upgraded: World,
) -> None:
    with pytest.raises(LibrariesDiffer) as caught:
        upgraded.score(10)
    told = str(caught.value)
    assert (
        f"version 1 of loads was not opened: it was trained with scikit-learn 1.8.0, and {NOW}"
        in told
    )
    assert "nightshift train loads" in told
    assert "libraries: {scikit-learn: minor}" in told
    assert upgraded.codes()[-1] == "libraries_differ"
    assert (
        f"trained with scikit-learn 1.8.0, and {NOW} is installed, so it is not opened"
        in status(upgraded)
    )
    [line] = reports.status(connect(upgraded.site.database_url)).lines
    assert line.health == "failed"


@pytest.mark.parametrize("level", ["minor", "any"])
def test_what_may_differ_is_scored_with_an_event_and_a_mark(upgraded: World, level: str) -> None:
    upgraded.configure(libraries={"scikit-learn": level})
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert upgraded.score(10)
    assert [one for one in warned if "unpickle" in str(one.message)] == []
    [event] = upgraded.rows("select detail from nightshift.events where code = 'other_libraries'")
    assert event.detail["reason"] == (
        f"versions that score were trained 1 of 1 with scikit-learn 1.8.0, and {NOW} is installed"
    )
    assert f"scikit-learn 1.8.0, and {NOW} is installed, which the file allows" in status(upgraded)


def test_a_refused_champion_is_replaced_without_a_person(upgraded: World) -> None:
    upgraded.train(12)
    [last] = upgraded.rows(
        "select kind, rule from nightshift.decisions order by decision_id desc limit 1"
    )
    assert (last.kind, last.rule) == ("promote", "unscorable")
    assert upgraded.score(13)
    assert "scikit-learn 1.8.0" not in status(upgraded)


def test_python_and_other_libraries_can_be_held_to_what_they_were(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.configure(libraries={"numpy": "exact", "python": "minor"})
    world.train(9)
    assert world.score(10)
    monkeypatch.setattr("nightshift.artifacts.libraries._version", lambda _: "9.9.9")
    monkeypatch.setattr("platform.python_version", lambda: "3.99.1")
    with pytest.raises(LibrariesDiffer, match=r"scikit-learn"):
        world.score(11)
    world.configure(libraries={"scikit-learn": "any", "numpy": "exact", "python": "minor"})
    with pytest.raises(LibrariesDiffer, match=rf"{FAMILY}.*numpy.*numpy: exact"):
        world.score(11)
    world.configure(libraries={"scikit-learn": "any", "numpy": "any", "python": "patch"})
    with pytest.raises(LibrariesDiffer, match=r"python: patch.*libraries: \{python: minor\}"):
        world.score(11)
