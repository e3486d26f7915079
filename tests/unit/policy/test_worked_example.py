"""Twelve models in three groups: docs/policy.md and the code say the same."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from nightshift import policy
from nightshift.family import ModelFamily
from nightshift.records import Decision, Measurement, Standing

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "policy.md").read_text()
NOW = datetime(2026, 11, 3, 6, tzinfo=UTC)
DAY = timedelta(days=1)
ROWS = re.findall(r"^\| (\w+) \| (\w+) \| ([\d.-]+) \| ([\d.]+) \| (\w+) \|$", PAGE, re.MULTILINE)


def family(**models: Any) -> ModelFamily:
    block = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0])
    return ModelFamily.model_validate(
        {
            "family": "sales",
            "description": "Will it sell",
            "task": "binary_classification",
            "owner": "tests",
            "source": {"connection": "warehouse", "history": "mutable"},
            "features": {"numeric": ["price"]},
            "schedule": {"score": "0 2 * * *", "monitor": "0 6 * * *"},
            "labels": {"maturity": "P2D"},
            "promotion": {"holdout": "P7D"},
            **block,
            "models": block["models"] | models,
        }
    )


def standing(family: ModelFamily, number: int, row: tuple[str, ...]) -> Standing:
    _, name, told, _, _ = row
    assert family.models is not None
    value = None if told == "-" else float(told)
    threshold = family.level_of(name)
    assert threshold is not None
    below = value is not None and value + 0.02 < threshold
    measured = Measurement(
        model_id=number,
        metric="accuracy",
        as_of=NOW,
        window_start=NOW - 9 * DAY,
        window_end=NOW - 2 * DAY,
        state="immature" if value is None else "breached" if below else "measured",
        value=value,
        low=None if value is None else value - 0.02,
        high=None if value is None else value + 0.02,
        predictions=500,
        labels=40 if value is None else 500,
        threshold=threshold,
    )
    group = family.models.group_of(name)
    return Standing(number, name, NOW, group=group, measurements=(measured,))


def decide(**models: Any) -> dict[str, Decision]:
    example = family(**models)
    standings = [standing(example, number, row) for number, row in enumerate(ROWS)]
    decided = policy.decide(example.retrain, standings, example.models)
    return {one.name: decision for one, decision in zip(standings, decided, strict=True)}


def test_the_page_shows_the_twelve_models_with_their_own_thresholds() -> None:
    example = family()
    assert example.models is not None
    assert len(ROWS) == 12
    for group, name, _, threshold, _ in ROWS:
        assert example.models.group_of(name) == group
        assert example.level_of(name) == float(threshold)


def test_each_model_votes_as_the_page_says() -> None:
    decided = decide()
    for group, name, _, _, vote in ROWS:
        assert decided[name].inputs["group"] == group
        assert decided[name].inputs["votes"][name] == vote


def test_each_group_decides_as_the_page_says() -> None:
    said = {name: decision.kind for name, decision in decide().items()}
    assert said == {
        "horn": "retrain",
        "trumpet": "retrain",
        "violin": "retrain",
        "harp": "retrain",
        "ring": "wait",
        "earrings": "wait",
        "necklace": "keep",
        "fridge": "keep",
        "washing_machine": "keep",
        "microwave": "keep",
        "stove": "keep",
        "vacuum_cleaner": "keep",
    }


def test_with_retrains_failing_the_three_that_fail_are_retrained() -> None:
    said = {name: decision.kind for name, decision in decide(retrains="failing").items()}
    assert [name for name, kind in said.items() if kind == "retrain"] == ["horn", "trumpet", "harp"]
    assert said["violin"] == "keep"


@pytest.mark.parametrize("group", ["music", "jewelry", "appliances"])
def test_the_sentences_are_those_of_the_page(group: str) -> None:
    [sentence] = re.findall(rf"^- `({group}: .*?)`", PAGE, re.MULTILINE)
    told = {
        d.reason.rpartition("; " + group)[2]
        for d in decide().values()
        if d.inputs["group"] == group
    }
    assert told == {sentence.removeprefix(group)}


def test_when_the_unknown_vote_turns_out_to_fail_the_group_is_retrained() -> None:
    example = family()
    rows = [(*row[:2], "0.70", *row[3:]) if row[1] == "necklace" else row for row in ROWS]
    standings = [standing(example, number, row) for number, row in enumerate(rows)]
    decided = policy.decide(example.retrain, standings, example.models)
    assert {d.kind for d in decided if d.inputs["group"] == "jewelry"} == {"retrain"}
