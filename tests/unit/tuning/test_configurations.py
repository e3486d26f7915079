"""Configurations to live through: changes of model.yaml, and how they are written."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.world import MODEL

from nightshift.errors import ConfigError
from nightshift.family import ModelFamily
from nightshift.tuning import configurations
from nightshift.tuning.configurations import Configuration, changed

DAY = timedelta(days=1)


def family(**sections: Any) -> ModelFamily:
    written = copy.deepcopy(MODEL)
    for name, section in sections.items():
        written[name] = {**written.get(name, {}), **section}
    return ModelFamily.model_validate(written, context={"folder": Path("loads")})


def test_a_change_keeps_what_it_does_not_name() -> None:
    own = Configuration("own", family())
    other = changed(own, "longer", {"retrain.training": {"window": "P9D"}, "retrain.when": None})
    assert other.family.retrain.training.window == 9 * DAY
    assert other.family.retrain.when is None
    assert other.family.retrain.cooldown == own.family.retrain.cooldown
    assert other.family.folder == own.family.folder
    assert own.family.retrain.training.window == 5 * DAY


def test_changes_add_up_and_are_written_a_line_a_key() -> None:
    own = Configuration("own", family())
    often = changed(changed(own, "a", {"schedule.retrain": "0 6 * * 1"}), "b", {})
    drop = changed(
        often,
        "c",
        {"performance.threshold": None, "performance.max_drop": {"fraction": 0.05}},
    )
    assert configurations.yaml_lines(drop.changes) == [
        'schedule.retrain: "0 6 * * 1"',
        "performance.threshold: null",
        "performance.max_drop: {fraction: 0.05}",
    ]
    assert drop.family.schedule.retrain == "0 6 * * 1"


@pytest.mark.parametrize(
    ("days", "proposed"),
    [
        (200, ["P5D", "P10D", "P20D"]),
        (21, ["PT60H", "P5D", "P10D"]),  # P20D would be most of the history
        (6, ["PT30H", "PT60H", "P5D"]),
    ],
)
def test_windows_are_proposed_from_the_length_of_the_history(
    days: int, proposed: list[str]
) -> None:
    assert configurations.windows(family(), days * DAY) == proposed


def test_data_is_named_as_windows_and_mixes() -> None:
    found = dict(configurations.data_changes(family(), ["P9D"], ["P5D,P20D,0.3"]))
    mix = {"policy": "mix", "window": "P5D", "past": "P20D", "share": 0.3}
    assert found == {
        "P9D": {"retrain.training": {"window": "P9D"}},
        "P5D and 30% of P20D": {"retrain.training": mix},
    }


def test_several_windows_are_tried_as_rivals_as_well() -> None:
    *_, (name, changes) = configurations.data_changes(family(), ["P9D", "P20D"], [])
    assert name == "P9D or P20D"
    rivals = changed(Configuration("own", family()), name, changes)
    assert [rule.window for rule in rivals.trainings] == [9 * DAY, 20 * DAY]
    assert configurations.yaml_lines(changes) == [
        "retrain.training: [{window: P9D}, {window: P20D}]"
    ]


def test_a_window_is_tried_without_the_mix_that_is_configured() -> None:
    mixed = family(
        retrain={"training": {"policy": "mix", "window": "P5D", "past": "P20D", "share": 0.3}}
    )
    [(_, changes)] = configurations.data_changes(mixed, ["P9D"], [])
    plain = changed(Configuration("own", mixed), "plain", changes).family.retrain.training
    assert (plain.policy, plain.window, plain.past) == ("window", 9 * DAY, None)


@pytest.mark.parametrize("text", ["60 days", "P0D", "-P3D", "three"])
def test_what_is_no_duration_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--window: .* write P60D"):
        configurations.duration(text, "window")


@pytest.mark.parametrize("text", ["P5D", "P5D,P20D", "P5D,P20D,much", "P5D,P20D,1.5"])
def test_what_is_no_mix_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ConfigError, match="is no mix: write window, past"):
        list(configurations.data_changes(family(), [], [text]))


def test_calendars_follow_the_hour_of_monitoring() -> None:
    thursday = datetime(2026, 1, 1, tzinfo=UTC)
    found = dict(configurations.often_changes(family(), thursday))
    assert found["each week"] == {"schedule.retrain": "0 6 * * 4"}
    weekly = family(schedule={"monitor": "0 7 * * 2"})
    found = dict(configurations.often_changes(weekly, thursday))
    assert found["each week"] == {"schedule.retrain": "0 7 * * 2"}


def test_thresholds_are_proposed_in_the_kind_that_is_configured() -> None:
    absolute = list(configurations.threshold_changes(family(), -2.0, 0.0))
    assert absolute[0] == ("threshold -2.1", {"performance.threshold": -2.1})
    relative = family(performance={"threshold": None, "max_drop": {"fraction": 0.1}})
    drops = [change for _, change in configurations.threshold_changes(relative, -2.0, 0.0)]
    assert {"performance.max_drop": {"fraction": 0.05}} in drops
    assert {"performance.max_drop": {"fraction": 0.1}} not in drops
