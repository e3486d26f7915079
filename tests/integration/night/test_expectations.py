"""Expectations about columns that are there, and about some that are not."""

from __future__ import annotations

from typing import Any

import pytest
from tests.families import MEMBERS
from tests.world import FAMILY, World

from nightshift.errors import SnapshotRejected
from nightshift.site import Settings
from nightshift.steps import night, upkeep

REGEX = "expect_column_values_to_match_regex"
BETWEEN = "expect_column_values_to_be_between"


def judged(world: World, *expectations: dict[str, Any]) -> list[Any]:
    """The checks of the family's own expectations about a night that is not rejected."""
    world.configure(expectations=list(expectations))
    snapshot_id = world.freeze(10)
    night.validate(world.site, snapshot_id, now=world.night(10))
    return own_checks(world)[-len(expectations) :]


def own_checks(world: World) -> list[Any]:
    [row] = world.rows(
        "select checks from nightshift.validations order by validation_id desc limit 1"
    )
    return list(row.checks)


def verdict(world: World) -> str:
    rows = world.rows("select verdict from nightshift.validations order by validation_id desc")
    return str(rows[0].verdict)


@pytest.mark.parametrize("chunk_rows", [7, 1000])
def test_the_key_the_members_column_and_slices_can_be_expected_about(
    world: World, chunk_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings().model_copy(update={"chunk_rows": chunk_rows})
    monkeypatch.setattr("nightshift.site.load_settings", lambda _, s=settings: s)
    world.configure(**MEMBERS)
    world.configure(performance={"slices": ["side"]})
    world.write(
        "features.sql",
        """
        select entity_id, size, kind, case when size > 9 then 'l' else 'r' end as side
        from items where night = cast(:as_of as timestamptz)
    """,
    )
    checks = judged(
        world,
        {"type": REGEX, "column": "entity_id", "regex": "^2026", "severity": "warning"},
        {"type": "expect_column_values_to_be_in_set", "column": "side", "value_set": ["l", "r"]},
        {
            "type": "expect_column_distinct_values_to_equal_set",
            "column": "kind",
            "value_set": ["k0", "k1", "k2"],
        },
        {"type": "expect_column_values_to_be_unique", "column": "entity_id"},
        {"type": REGEX, "column": "entity_id", "regex": "-7$", "severity": "warning"},
    )
    assert [check["success"] for check in checks] == [True, True, True, True, False]
    assert checks[-1]["severity"] == "warning"
    assert checks[-1]["observed"] == "29 of 30 rows unexpected"
    assert verdict(world) == "warned"


# What cannot run, and what is said of it.
FAULTS: list[tuple[dict[str, Any], str]] = [
    (
        {"type": BETWEEN, "column": "sise", "min_value": 0},
        "there is no column 'sise' (did you mean 'size'?)",
    ),
    (
        {"type": "expect_column_pair_values_to_be_equal", "column_A": "size", "column_B": "king"},
        "there is no column 'king' (did you mean 'kind'?)",
    ),
    ({"type": "expect_column_mean_to_be_between", "column": "kind", "min_value": 0}, "cannot run"),
    ({"type": REGEX, "column": "size", "regex": "^k"}, "is a number, and this is about text"),
    ({"type": REGEX, "column": "kind", "regex": "("}, "cannot run"),
    ({"type": BETWEEN, "column": "size", "minimum": 0}, "cannot run"),
    ({"type": "expect_column_values_to_be_betwixt", "column": "size"}, "cannot run"),
    ({"type": BETWEEN, "column": "size", "min_value": 9, "max_value": "x"}, "cannot run"),
]


@pytest.mark.parametrize(("expectation", "said"), FAULTS)
def test_what_cannot_run_is_a_fault_of_model_yaml(
    world: World, expectation: dict[str, Any], said: str
) -> None:
    fine = {"type": BETWEEN, "column": "size", "min_value": 0}
    for severity in ("info", "warning"):
        checks = judged(world, fine, {**expectation, "severity": severity})
        assert [check["success"] for check in checks] == [True, False]
        assert checks[1]["severity"] == severity
        assert said in checks[1]["observed"]
        assert verdict(world) == "warned"
    [*_, event] = world.rows(
        "select detail from nightshift.events where code = 'snapshot_warned' order by event_id"
    )
    assert f"{world.folder / 'model.yaml'}: expectations.1: " in str(event.detail)
    with pytest.raises(SnapshotRejected) as told:
        judged(world, fine, expectation)
    message = str(told.value)
    assert f"{world.folder / 'model.yaml'}: expectations.1: {expectation['type']}" in message
    assert said in message
    assert message.endswith("Mend model.yaml and run this night again")
    assert "Mend the source" not in message


def test_a_fault_of_the_file_does_not_hide_one_of_the_rows(world: World) -> None:
    with pytest.raises(SnapshotRejected) as told:
        judged(
            world,
            {"type": BETWEEN, "column": "sise", "min_value": 0},
            {"type": BETWEEN, "column": "size", "min_value": 9},
        )
    for words in ("expectations.0", "did you mean 'size'", "8 of 30 rows", "source as well"):
        assert words in str(told.value)


def test_an_info_that_fails_leaves_its_line_and_a_trace(world: World) -> None:
    [check] = judged(world, {"type": BETWEEN, "column": "size", "max_value": 9, "severity": "info"})
    assert (check["success"], check["severity"]) == (False, "info")
    assert verdict(world) == "warned"
    assert world.codes()[-1] == "snapshot_warned"


def test_check_knows_the_columns(world: World) -> None:
    world.configure(
        expectations=[
            {"type": BETWEEN, "column": "entity_id", "min_value": "2"},
            {"type": BETWEEN, "column": "sise", "min_value": 2, "severity": "info"},
            {
                "type": "expect_multicolumn_sum_to_equal",
                "column_list": ["size", "kinds"],
                "sum_total": 3,
            },
            {"type": BETWEEN, "column": "size", "minimum": 3},
        ],
        labels={"expectations": [{"type": "expect_column_mean_to_be_between", "max_value": 3}]},
    )
    problems = "\n".join(map(str, upkeep.check(world.site)))
    assert "expectations.0" not in problems.replace("labels.expectations.0", "")
    assert (
        "expectations.1: expect_column_values_to_be_between: there is no column 'sise' (did"
        " you mean 'size'?)" in problems
    )
    assert "expectations.2: " in problems
    assert "(did you mean 'kind'?)" in problems
    assert "expectations.3: " in problems
    assert (
        "labels.expectations.0: expect_column_mean_to_be_between is about a column as a"
        " whole" in problems
    )
    assert FAMILY in problems
