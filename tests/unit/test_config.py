"""What one reads when model.yaml is wrong, and when ticks fall."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from nightshift.config import load_families, load_family
from nightshift.family import ModelFamily
from nightshift.records import ConfigError

GOOD: dict[str, Any] = {
    "family": "horns",
    "description": "Horns",
    "task": "regression",
    "owner": "band",
    "source": {"connection": "warehouse", "history": "append_only"},
    "features": {"numeric": ["size"], "categorical": ["kind"]},
    "schedule": {"score": "0 2 * * *", "monitor": "0 6 * * *"},
    "labels": {"maturity": "P2D"},
    "performance": {"metric": "r2", "window": "P7D", "threshold": 0.5},
    "retrain": {"training": {"window": "P30D"}},
    "promotion": {"holdout": "P7D"},
}


def write(models: Path, name: str = "horns", **changes: Any) -> Path:
    folder = models / name
    folder.mkdir(parents=True)
    (folder / "features.sql").write_text("select 1 where :as_of is not null")
    (folder / "labels.sql").write_text("select 1 where :as_of is not null")
    (folder / "estimator.py").write_text("")
    model = {**GOOD, "family": name, **changes}
    (folder / "model.yaml").write_text(yaml.safe_dump(model))
    return folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"performence": {}},
            "performence: unknown key (did you mean 'performance'?); accepted: family,",
        ),
        (
            {"labels": {"maturity": "P2D", "min_covrage": 0.9}},
            "labels.min_covrage: unknown key (did you mean 'min_coverage'?);"
            " accepted: per, maturity, min_coverage",
        ),
        ({"labels": {}}, "labels.maturity: is missing"),
        ({"labels": {"maturity": 2}}, "labels.maturity: found 2: write an ISO 8601 duration"),
        (
            {"labels": {"maturity": "P2D", "min_coverage": 90}},
            "labels.min_coverage: found 90: Input should be less than or equal to 1",
        ),
        (
            {"schedule": {"score": "2 o'clock", "monitor": "0 6 * * *"}},
            'schedule.score: found "2 o\'clock": write five cron fields',
        ),
        (
            {"schedule": {"score": "0 2 * * *", "monitor": "0 6 * * *", "timezone": "Mars"}},
            "schedule.timezone: found 'Mars': write an IANA time zone",
        ),
        ({"task": "clustering"}, "task: found 'clustering': Input should be 'regression',"),
        ({"features": {}}, "list at least one column under numeric or categorical"),
        (
            {"features": {"numeric": ["size", "size"]}},
            "listed twice: size",
        ),
        (
            {"retrain": {"when": {"breaches": 4, "of_last": 3}, "training": {"window": "P1D"}}},
            "breaches cannot exceed of_last",
        ),
        (
            {"estimator": {"build": "recipe.build"}},
            "estimator.build: names recipe.py, which is not",
        ),
    ],
)
def test_a_problem_is_told_with_file_key_and_what_is_accepted(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    folder = write(tmp_path, **changes)
    with pytest.raises(ConfigError) as caught:
        load_family(folder)
    assert str(folder / "model.yaml") in str(caught.value)
    assert said in str(caught.value)


def test_all_problems_of_all_families_are_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, "good")
    write(tmp_path, "two", owner=7, task="magic")
    (write(tmp_path, "torn") / "labels.sql").unlink()
    (write(tmp_path, "scrawl") / "model.yaml").write_text("a: [1")
    (write(tmp_path, "list") / "model.yaml").write_text("- 1")
    write(tmp_path, "moved", family="elsewhere")
    (tmp_path / "empty").mkdir()
    families, problems = load_families(tmp_path)
    assert [family.family for family in families] == ["good"]
    told = {(problem.file.parent.name, problem.key or problem.file.name) for problem in problems}
    assert {
        ("two", "owner"),
        ("two", "task"),
        ("torn", "labels.sql"),
        ("scrawl", "model.yaml"),
        ("list", "model.yaml"),
        ("moved", "family"),
        ("empty", "model.yaml"),
    } <= told


def test_a_query_that_ignores_as_of_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "features.sql").write_text("select * from everything")
    with pytest.raises(ConfigError, match="never uses :as_of"):
        load_family(folder)


@pytest.mark.parametrize(
    ("cron", "timezone", "moment", "previous", "following"),
    [
        ("0 2 * * *", "UTC", "2026-03-29T01:59", "2026-03-28T02:00", "2026-03-29T02:00"),
        ("0 2 * * *", "UTC", "2026-03-29T02:00", "2026-03-29T02:00", "2026-03-30T02:00"),
        ("0 * * * *", "UTC", "2026-03-29T01:30", "2026-03-29T01:00", "2026-03-29T02:00"),
        # New York goes to summer time on 8 March: 22:00 is 03:00Z before and 02:00Z after.
        (
            "0 22 * * *",
            "America/New_York",
            "2026-03-08T12:00",
            "2026-03-08T03:00",
            "2026-03-09T02:00",
        ),
    ],
)
def test_ticks_are_moments_in_utc(
    cron: str, timezone: str, moment: str, previous: str, following: str
) -> None:
    schedule = {"score": cron, "monitor": "0 6 * * *", "timezone": timezone}
    family = ModelFamily.model_validate({**GOOD, "schedule": schedule})
    at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert family.previous_tick(at) == datetime.fromisoformat(previous).replace(tzinfo=UTC)
    assert family.next_tick(at) == datetime.fromisoformat(following).replace(tzinfo=UTC)
