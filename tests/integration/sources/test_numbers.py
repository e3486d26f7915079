"""Numbers are numbers, however a source keeps them: as features, and as labels of each task."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.world import FAMILY, World

from nightshift.errors import LabelsError, SourceError
from nightshift.steps import monitor

TASKS: dict[str, dict[str, Any]] = {
    "regression": {},
    "binary_classification": {"metric": "roc_auc", "threshold": 0.6},
    "multiclass_classification": {"metric": "accuracy", "threshold": 0.6},
}


def labels(world: World, task: str, expression: str) -> set[str]:
    """What is kept of a night's labels whose value is an expression over ``n``, 0 or 1."""
    world.configure(task=task, performance=TASKS[task])
    world.write(
        "labels.sql",
        f"""
        select entity_id, {expression} as value, night as event_at, known_at
        from (select *, mod(value::int, 2) as n from truths) t
        where known_at > :since and known_at <= :as_of
    """,
    )
    as_of = world.night(11) + timedelta(hours=4)
    monitor.collect_labels(world.site, FAMILY, as_of, now=as_of)
    return {row.value for row in world.rows("select distinct value from nightshift.labels")}


@pytest.mark.parametrize(
    "expression",
    [
        "n",
        "n::bigint",
        "n::smallint",
        "n::real",
        "n::double precision",
        "n::numeric",
        "n::numeric(3, 2)",
        "n = 1",
        "n::text",
        "n::numeric(3, 1)::text",
        "(n = 1)::text",
        "' ' || n",
        "round(n * 1.0, 2)",
        "n::decimal(10, 0)",
    ],
)
def test_a_binary_label_is_zero_or_one_however_it_is_written(world: World, expression: str) -> None:
    assert labels(world, "binary_classification", expression) == {"0", "1"}


@pytest.mark.parametrize(
    ("expression", "found"), [("n * 0.5", "0.5"), ("n + 1", "2"), ("'yes'", "yes"), ("-n", "-1")]
)
def test_a_binary_label_that_is_neither_is_refused_with_the_cast(
    world: World, expression: str, found: str
) -> None:
    with pytest.raises(LabelsError, match=r"write cast\(\.\.\. as integer\)") as refused:
        labels(world, "binary_classification", expression)
    assert found in str(refused.value)


@pytest.mark.parametrize(
    "expression",
    ["n::numeric(5, 2)", "avg(n) over (partition by entity_id)", "n::bigint", "n::text", "n = 1"],
)
def test_a_label_of_a_regression_may_be_of_any_kind_of_number(
    world: World, expression: str
) -> None:
    assert {float(value) for value in labels(world, "regression", expression)} == {0.0, 1.0}


@pytest.mark.parametrize("expression", ["n", "n::numeric(3, 1)", "n::double precision", "n::text"])
def test_a_class_that_is_a_whole_number_has_one_name(world: World, expression: str) -> None:
    assert labels(world, "multiclass_classification", expression) == {"0", "1"}


@pytest.mark.parametrize(
    "expression",
    [
        "size::numeric(10, 2)",
        "avg(size::numeric) over (partition by entity_id)",
        "size::bigint",
        "round(size::numeric, 3)",
        "size::real",
        "sum(size::bigint) over (partition by entity_id)",
    ],
)
def test_a_feature_may_be_of_any_kind_of_number(world: World, expression: str) -> None:
    world.write(
        "features.sql",
        f"""
        select entity_id, {expression} as size, kind from items where night = :as_of
    """,
    )
    world.train(9)
    assert world.score(10)
    [scored] = world.rows("select score from predictions where entity_id = '20260111-3'")
    assert scored.score == pytest.approx(6.0)


@pytest.mark.parametrize(
    ("expression", "cast"),
    [
        ("size::text", "cast(size as double precision) as size"),
        ("cast(size::int as money)", "cast(cast(size as numeric) as double precision) as size"),
        ("to_jsonb(size)", "cast(size as double precision) as size"),
    ],
)
def test_a_feature_that_is_no_number_is_refused_with_its_cast(
    world: World, expression: str, cast: str
) -> None:
    world.write(
        "features.sql",
        f"""
        select entity_id, {expression} as size, kind from items where night = :as_of
    """,
    )
    with pytest.raises(SourceError) as refused:
        world.freeze(10)
    assert f"write {cast}" in str(refused.value)


@pytest.mark.parametrize(
    "condition",
    [
        "night::date = :as_of::date",
        "night > :as_of - interval '7 days' and night <= :as_of and night = :as_of",
        "date_trunc('day', night) = date_trunc('day', :as_of)",
        "extract(doy from night) = extract(doy from :as_of)",
        "night = :as_of and '{\"active\":true}'::jsonb @> '{\"active\":true}'",
        "night = :as_of -- since last load, see :since",
        "night = cast(:as_of as timestamptz)",
        "night = timestamptz :as_of and arr[1:2] = '{1,2}'",
    ],
)
def test_features_and_labels_take_what_psql_takes(world: World, condition: str) -> None:
    world.source("alter table items add arr int[] default '{1,2,3}'")
    world.source("alter table truths add arr int[] default '{1,2,3}'")
    world.write("features.sql", f"select entity_id, size, kind from items where {condition}\n;")
    world.write(
        "labels.sql",
        f"""
        with due as (select entity_id, value, night, known_at from truths where ({condition}
            ) is not null)
        select entity_id, value, night as event_at, known_at from due
        where known_at > :since and :since::date < :as_of::date and known_at <= :as_of;
    """,
    )
    world.freeze(10)
    [snapshot] = world.rows("select row_count from nightshift.snapshots")
    assert snapshot.row_count == 30
    assert monitor.collect_labels(world.site, FAMILY, world.night(12), now=world.night(12)).added
