"""Nights that are judged together are judged as each by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.world import FAMILY, World

from nightshift import simulation
from nightshift.family import Expectation
from nightshift.steps import night as night_steps
from nightshift.tables import expect, expect_each

EXPECTATIONS: list[dict[str, Any]] = [
    {"type": "expect_column_values_to_be_between", "column": "size", "min_value": 0},
    {"type": "expect_column_values_to_be_between", "column": "size", "max_value": 5, "mostly": 0.5},
    {"type": "expect_column_values_to_be_in_set", "column": "kind", "value_set": ["a", "b"]},
    {"type": "expect_column_values_to_not_be_null", "column": "kind"},
    {"type": "expect_column_value_lengths_to_equal", "column": "kind", "value": 1},
    {
        "type": "expect_column_values_to_be_between",
        "column": "size",
        "max_value": 9,
        "row_condition": 'kind=="a"',
        "condition_parser": "pandas",
    },
    {
        "type": "expect_column_pair_values_a_to_be_greater_than_b",
        "column_A": "size",
        "column_B": "less",
    },
    {"type": "expect_multicolumn_sum_to_equal", "column_list": ["size", "less"], "sum_total": 7},
    {"type": "expect_table_row_count_to_be_between", "min_value": 3, "max_value": 30},
    {"type": "expect_column_unique_value_count_to_be_between", "column": "kind", "max_value": 2},
    {"type": "expect_column_mean_to_be_between", "column": "size", "min_value": 2},
    {"type": "expect_column_values_to_match_regex", "column": "kind", "regex": "["},
    {"type": "expect_column_values_to_be_fine", "column": "kind"},
]


def frame(rows: int, seed: int, **damage: Any) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    size = draw.uniform(0, 9, rows)
    own = pd.DataFrame({"size": size, "less": size - 1, "kind": draw.choice(["a", "b"], rows)})
    return own.assign(**damage)


@pytest.mark.filterwarnings("ignore:.*row_condition.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*condition_parser.*:DeprecationWarning")
@pytest.mark.parametrize(
    "frames",
    [
        [frame(20, 1), frame(25, 2), frame(3, 3)],
        [frame(20, 1), frame(25, 2, size=[-1.0, *[3.0] * 24])],
        [frame(20, 1, kind=[None, *["a"] * 19]), frame(25, 2)],
        [frame(4, 1, size=[np.nan, 1.0, np.nan, 2.0]), frame(4, 2, size=[np.nan] * 4)],
        [frame(20, 1), frame(20, 2, size=range(20))],  # of another type
        [frame(20, 1), frame(2, 2, kind=["a", "cc"])],
        [frame(20, 1)],
    ],
    ids=["clean", "unexpected", "null text", "null numbers", "types", "lengths", "alone"],
)
def test_what_is_found_in_several_frames_is_what_is_found_in_each(
    frames: list[pd.DataFrame],
) -> None:
    expectations = [Expectation.model_validate(stated) for stated in EXPECTATIONS]
    together = expect_each(frames, expectations)
    # As text, for a mean of nothing is NaN, which is not equal to itself.
    assert repr(together) == repr([expect(each, expectations) for each in frames])


def test_a_past_lived_through_in_stretches_is_the_same_past(
    world: World, new_database: Callable[..., str]
) -> None:
    world.configure(
        expectations=[
            {"type": "expect_column_values_to_be_between", "column": "size", "max_value": 30},
            {"type": "expect_table_row_count_to_be_between", "min_value": 30, "max_value": 30},
            {
                "type": "expect_column_values_to_be_in_set",
                "column": "kind",
                "value_set": ["k0", "k1"],
                "severity": "warning",
            },
        ],
        retrain={"training": {"window": "P5D"}},
    )
    # The 18th is rejected, the 21st warned of one row more than the others.
    world.source("delete from items where night = '2026-01-19 02:00Z' and size > 29")
    world.source("update items set kind = 'k9' where night = '2026-01-22 02:00Z' and size = 4")
    lived = {}
    for stretch in (1, 7):
        state = world.site.state / f"stretch-{stretch}"
        site = replace(world.site, state=state, database_url=new_database("template"))
        own = World(site, world.folder)
        nights: list[tuple[str, Any, int]] = []
        simulation.live_through(
            site,
            FAMILY,
            world.night(12),
            world.night(27),
            progress=lambda *told, nights=nights: nights.append(told),
            stretch=stretch,
        )
        assert len(nights) == nights[-1][-1] == 16
        lived[stretch] = {
            query: own.rows(query)
            for query in (
                "select entity_id, as_of, score, model_version, snapshot from predictions"
                " order by 1, 2",
                "select as_of, verdict, checks from nightshift.validations"
                " join nightshift.snapshots using (snapshot_id) order by as_of, validation_id",
                "select model, as_of, metric, value, low, high, state from performance order by 2",
                "select hash from nightshift.decisions order by decision_id",
                "select artifact_hash from nightshift.versions order by version_id",
                "select distinct code, as_of from nightshift.events order by 2, 1",
                "select as_of, signal, feature, value, level from signals order by 1, 2, 3",
            )
        }
    assert lived[1] == lived[7]
    assert lived[1]["select artifact_hash from nightshift.versions order by version_id"]
    rejected = [row for row in lived[7][list(lived[7])[1]] if row.verdict == "rejected"]
    assert {row.as_of for row in rejected} == {world.night(18)}


def test_a_rejected_night_does_not_hold_up_those_prepared_with_it(world: World) -> None:
    world.configure(
        expectations=[{"type": "expect_table_row_count_to_be_between", "min_value": 30}]
    )
    world.source("delete from items where night = '2026-01-03 02:00Z' and size > 29")
    seen: list[Any] = []
    night_steps.prepare_nights(
        world.site,
        FAMILY,
        [(world.night(n), world.night(n) + timedelta(minutes=5)) for n in range(5)],
        progress=seen.append,
    )
    assert seen == [world.night(n) for n in range(5)]
    verdicts = world.rows("select verdict from nightshift.validations order by validation_id")
    assert [row.verdict for row in verdicts] == ["passed", "passed", "rejected", *["passed"] * 2]
    [refusal] = world.rows(
        "select code, as_of from nightshift.events where code = 'snapshot_rejected'"
    )
    assert refusal.as_of == world.night(2)
