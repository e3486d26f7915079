"""House rules over every DAG, parsed in a process that can reach no database."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nightshift.family import family_folders, load_families

HOME = Path(__file__).resolve().parents[2]
FAMILIES = [folder.name for folder in family_folders(HOME / "include" / "models")]
KINDS = ["score", "monitor", "retrain", "rollback"]
HEAVY = {"pandas", "sklearn", "great_expectations", "pyarrow", "matplotlib", "scipy"}

Parsed = dict[str, Any]


def test_there_are_families() -> None:
    assert {"air_time", "late_arrival"} <= set(FAMILIES)


def test_the_bag_holds_exactly_four_dags_a_family_and_maintain(parsed: Parsed) -> None:
    expected = {f"{family}.{kind}" for family in FAMILIES for kind in KINDS}
    assert set(parsed["dags"]) == expected | {"maintain"}
    assert parsed["import_errors"] == {}


def test_parsing_imports_no_room_and_nothing_heavy(parsed: Parsed) -> None:
    loaded = set(parsed["modules"])
    assert not loaded & HEAVY
    rooms = {name.split(".")[1] for name in loaded if name.startswith("nightshift.")}
    assert rooms == {"errors", "family", "site", "wording"}


def test_two_hundred_families_parse_in_seconds(
    write_family: Callable[..., Path], parse_dags: Callable[[], Parsed]
) -> None:
    for number in range(200):
        write_family(f"family_{number:03}")
    parsed = parse_dags()
    assert len(parsed["dags"]) == 4 * 200 + 1
    assert not set(parsed["modules"]) & HEAVY
    # `make bench-parse` has the figure; others may use the same cores while this runs.
    assert parsed["cpu_seconds"] < 6


def test_every_dag_is_tagged_with_its_family_and_kind(parsed: Parsed) -> None:
    for dag_id, dag in parsed["dags"].items():
        assert set(dag["tags"]) == {"nightshift", *dag_id.split(".")}


def test_every_task_has_an_owner_retries_a_limit_and_a_pool_that_exists(parsed: Parsed) -> None:
    pools = {"default_pool", *json.loads(pools_file().read_text())}
    for dag_id, dag in parsed["dags"].items():
        for name, task in dag["tasks"].items():
            where = f"{dag_id}.{name}"
            assert task["owner"] not in ("", "airflow"), where
            assert 0 < task["retries"] <= 3, where
            assert task["timeout"], where
            assert task["pool"] in pools, where


def test_every_dag_says_how_to_triage_each_of_its_tasks(parsed: Parsed) -> None:
    for dag_id, dag in parsed["dags"].items():
        _, heading, triage = dag["doc_md"].partition("## Triage\n")
        assert heading, dag_id
        for task in dag["tasks"]:
            assert f"| `{task}` |" in triage, f"{dag_id} does not say what a red {task} means"
        assert "{family}" not in dag["doc_md"]


def test_the_past_is_never_filled_by_itself(parsed: Parsed) -> None:
    assert not any(dag["catchup"] for dag in parsed["dags"].values())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_night_is_published_only_after_it_was_validated(parsed: Parsed, family: str) -> None:
    tasks = parsed["dags"][f"{family}.score"]["tasks"]
    assert tasks["validate"]["upstream"] == ["freeze"]
    assert tasks["score"]["upstream"] == ["validate"]
    assert tasks["publish"]["upstream"] == ["score"]
    assert tasks["publish"]["outlets"] == [f"{family}.predictions"]
    assert tasks["watch"]["upstream"] == ["publish"]


@pytest.mark.parametrize("family", FAMILIES)
def test_runs_by_hand_can_say_which_moment_they_are_about(parsed: Parsed, family: str) -> None:
    for kind in ("score", "monitor", "retrain"):
        assert "as_of" in parsed["dags"][f"{family}.{kind}"]["params"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_rollback_is_started_by_hand_only_and_says_what_it_is_about(
    parsed: Parsed, family: str
) -> None:
    rollback = parsed["dags"][f"{family}.rollback"]
    assert rollback["timetable"] == "NullTimetable"
    assert rollback["params"] == ["model", "reason", "rescore", "version"]
    assert rollback["tasks"]["rescore"]["upstream"] == ["rollback"]


@pytest.mark.parametrize("family", FAMILIES)
def test_trials_are_judged_before_anything_is_decided(parsed: Parsed, family: str) -> None:
    tasks = parsed["dags"][f"{family}.monitor"]["tasks"]
    assert tasks["judge_trials"]["upstream"] == ["measure"]
    assert tasks["decide"]["upstream"] == ["judge_trials"]


NOTIFIER = {"notifier": "airflow.providers.smtp.notifications.smtp.SmtpNotifier"}


def test_where_people_are_told_it_is_the_last_thing_a_run_does_and_never_decides_it(
    write_family: Callable[..., Path], parse_dags: Callable[[], Parsed]
) -> None:
    write_family("told", alerts=[NOTIFIER])
    write_family("untold")
    dags = parse_dags()["dags"]
    for kind in KINDS:
        tasks = dags[f"told.{kind}"]["tasks"]
        before = set().union(*(_before(name, tasks) for name in tasks["alert"]["upstream"]))
        assert before | {"alert"} == set(tasks)
        assert tasks["alert"]["teardown"] == {"fails_run": False}
        assert "| `alert` |" in dags[f"told.{kind}"]["doc_md"]
        assert "alert" not in dags[f"untold.{kind}"]["tasks"]


def _before(name: str, tasks: dict[str, Any]) -> set[str]:
    """A task and all that come before it."""
    return {name}.union(*(_before(upstream, tasks) for upstream in tasks[name]["upstream"]))


def test_parsing_imports_no_notifier(
    write_family: Callable[..., Path], parse_dags: Callable[[], Parsed]
) -> None:
    write_family("told", alerts=[NOTIFIER])
    assert NOTIFIER["notifier"].rpartition(".")[0] not in parse_dags()["modules"]


def test_pools_are_in_the_format_that_airflow_imports() -> None:
    for name, pool in json.loads(pools_file().read_text()).items():
        assert name.startswith("nightshift_")
        assert pool["slots"] > 0
        assert pool["description"]


@pytest.mark.parametrize("file", sorted((HOME / "dags").glob("*.py")), ids=lambda file: file.name)
def test_a_dag_file_is_wiring_only(file: Path) -> None:
    assert len(file.read_text().splitlines()) < 60


def test_a_folder_that_does_not_load_is_one_import_error_and_harms_no_other(
    write_family: Callable[..., Path], parse_dags: Callable[[], Parsed]
) -> None:
    models = write_family("sound").parent
    write_family("yearly", schedule={"score": "yearly", "monitor": "0 6 * * *"})
    (models / "hollow").mkdir()
    (models / "garbled").mkdir()
    (models / "garbled" / "model.yaml").write_text("family: [")

    found = parse_dags()

    assert set(found["dags"]) == {*(f"sound.{kind}" for kind in KINDS), "maintain"}
    assert list(found["import_errors"]) == ["check.py"]
    _, problems = load_families(models)
    assert {problem.file.parent.name for problem in problems} == {"yearly", "hollow", "garbled"}
    for problem in problems:
        assert str(problem) in found["import_errors"]["check.py"]


def pools_file() -> Path:
    return HOME / "include" / "nightshift_airflow" / "pools.json"
