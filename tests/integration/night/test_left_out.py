"""One bad row in many: left out, counted by reason and told, as far as model.yaml allows it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.families import MEMBERS
from tests.hosts import Reader, served
from tests.world import FAMILY, World

from nightshift import reports
from nightshift.data import connect
from nightshift.errors import SnapshotRejected, SourceError
from nightshift.family import load_family
from nightshift.site import Settings
from nightshift.steps import monitor, night

LEFT_OUT = "select left_out from nights where as_of = '2026-01-11 02:00+00'"
NIGHT_10 = "night = '2026-01-11 02:00+00'"
MISSING_MEMBER = f"update items set kind = null where {NIGHT_10} and size = 7"


def judge(world: World, number: int) -> None:
    snapshot_id = world.freeze(number)
    night.validate(world.site, snapshot_id, now=world.night(number))


def scored(world: World, number: int) -> int:
    assert world.score(number)
    as_of = world.night(number).isoformat()
    return int(world.rows(f"select count(*) from predictions where as_of = '{as_of}'")[0][0])


def alerts(world: World, number: int) -> list[reports.Alert]:
    as_of = world.night(number)
    run = reports.Run("score", as_of, as_of)
    return monitor.alerts(world.site, FAMILY, run, now=as_of + timedelta(hours=1))


# What is done to the night, which reason it is, how many rows remain of 30, an example.
DAMAGE: list[tuple[str, str, int, str]] = [
    (
        f"update items set entity_id = null where {NIGHT_10} and size = 3",
        "missing_key",
        29,
        "size=3, kind=k0",
    ),
    (
        f"update items set entity_id = '20260111-4' where {NIGHT_10} and size = 3",
        "repeated_key",
        28,
        "20260111-4",
    ),
    (
        f"insert into items select * from items where {NIGHT_10} and size = 3",
        "repeated_key",
        30,
        "20260111-3",
    ),
    (
        f"update items set size = 'infinity' where {NIGHT_10} and size = 3",
        "not_finite",
        29,
        "20260111-3; size=inf",
    ),
    (
        f"update items set size = 'NaN' where {NIGHT_10} and size in (3, 5)",
        "not_finite",
        28,
        "20260111-3; size=nan",
    ),
]


@pytest.mark.parametrize(("damage", "reason", "left", "example"), DAMAGE)
def test_a_bad_row_is_left_out_where_the_file_allows_it(
    world: World, damage: str, reason: str, left: int, example: str
) -> None:
    world.configure(rows={"leave_out": 0.1, "alert": 0})
    world.train(9)
    world.source(damage)
    assert scored(world, 10) == left
    [sentence] = reports.status(connect(world.site.database_url), FAMILY).sentences
    assert f"{left} rows and " in sentence
    [shown] = world.rows(LEFT_OUT)
    [(told, count)] = shown.left_out.items()
    assert told == reason
    [kept] = world.rows(
        "select left_out from nightshift.snapshots where as_of = '2026-01-11 02:00+00'"
    )
    assert kept.left_out[reason]["rows"] == count
    assert example in kept.left_out[reason]["examples"]
    assert "rows_left_out" in world.codes()
    [alert] = alerts(world, 10)
    assert alert.cause == "left_out"
    assert reason.replace("_", " ") in alert.message
    assert example in alert.message


def test_one_row_without_a_member_does_not_reject_the_night(world: World) -> None:
    world.configure(**MEMBERS)
    world.source(MISSING_MEMBER)
    with pytest.raises(SnapshotRejected, match="not_null on kind: 1 nulls"):
        judge(world, 10)
    world.configure(rows={"leave_out": 1})
    judge(world, 10)
    [taken] = world.rows(
        "select row_count, left_out from nightshift.snapshots order by revision desc limit 1"
    )
    assert taken.row_count == 29
    example = "20260111-7; kind=null"
    assert taken.left_out == {
        "missing_member": {"rows": 1, "examples": [example], "columns": ["kind"]}
    }
    assert shown_by_the_api(world, 10) == [
        {"reason": "missing_member", "rows": 1, "examples": [example]}
    ]
    world.configure(models=None, performance={"threshold": -1.0}, features={"sensitive": ["kind"]})
    assert shown_by_the_api(world, 10) == [
        {"reason": "missing_member", "rows": 1, "examples": []}  # which told kind, sensitive by now
    ]
    (world.folder / "model.yaml").unlink()
    [unknown] = shown_by_the_api(world, 10)
    assert unknown["examples"] == []


def shown_by_the_api(world: World, number: int) -> list[dict[str, Any]]:
    client = TestClient(served(Reader(world.site)))
    night = client.get(f"/nightshift/api/v1/nights/{FAMILY}/{world.night(number).isoformat()}")
    assert night.status_code == 200, night.text
    left_out: list[dict[str, Any]] = night.json()["left_out"]
    return left_out


def test_a_number_among_text_may_be_none(world: World) -> None:
    features = (world.folder / "features.sql").read_text()
    world.write(
        "features.sql",
        features.replace(
            "size, kind", "case when size = 3 then 'n/a' else ' ' || size || ' ' end as size, kind"
        ),
    )
    with pytest.raises(SourceError, match="column 'size' is string, not a number"):
        judge(world, 10)
    world.configure(rows={"leave_out": 0.05})
    world.train(9)
    assert scored(world, 10) == 29
    [shown] = world.rows(LEFT_OUT)
    assert shown.left_out == {"not_a_number": 1}


def test_more_than_may_be_left_out_rejects_the_night(world: World) -> None:
    world.source(f"update items set size = 'infinity' where {NIGHT_10} and size < 4")
    for rows in ({"leave_out": 2}, {"leave_out": 0.09}):
        world.configure(rows=rows)
        with pytest.raises(SnapshotRejected, match="3 of 30 rows left out: 3 not finite") as told:
            judge(world, 10)
        assert f"rows.leave_out allows {rows['leave_out']}" in str(told.value)
    world.configure(rows={"leave_out": 3})
    judge(world, 10)


def test_a_reason_that_is_refused_is_never_left_out(world: World) -> None:
    world.configure(rows={"leave_out": 20, "refuse": ["repeated_key"]})
    world.source(f"update items set entity_id = '20260111-4' where {NIGHT_10} and size = 3")
    with pytest.raises(SnapshotRejected, match="unique on entity_id: 1 rows repeat"):
        judge(world, 10)


def test_nobody_is_told_below_the_share_of_the_file(world: World) -> None:
    world.configure(rows={"leave_out": 0.2, "alert": 0.05})
    world.train(9)
    world.source(f"update items set size = 'NaN' where {NIGHT_10} and size = 3")
    world.source("update items set size = 'NaN' where night = '2026-01-12 02:00+00' and size < 4")
    for number, causes in ((10, []), (11, ["left_out"])):
        scored(world, number)
        assert [alert.cause for alert in alerts(world, number)] == causes


def test_what_is_left_out_does_not_depend_on_how_rows_are_cut(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.configure(rows={"leave_out": 20})
    world.source(f"update items set entity_id = '20260111-2' where {NIGHT_10} and size < 6")
    taken = set()
    for chunk_rows in (1, 2, 3, 7, 100):
        settings = Settings().model_copy(update={"chunk_rows": chunk_rows})
        monkeypatch.setattr("nightshift.site.load_settings", lambda _, s=settings: s)
        with connect(world.site.database_url, role=None).administration() as connection:
            connection.exec_driver_sql("truncate nightshift.snapshots cascade")
        judge(world, 10)
        [row] = world.rows("select content_hash, row_count, left_out from nightshift.snapshots")
        assert (row.row_count, row.left_out["repeated_key"]["rows"]) == (25, 5)
        taken.add(row.content_hash)
    assert len(taken) == 1


def test_values_of_sensitive_columns_are_no_examples(world: World) -> None:
    world.configure(rows={"leave_out": 5}, features={"sensitive": ["size"]})
    world.source(f"update items set size = 'NaN' where {NIGHT_10} and size = 3")
    world.source(f"update items set entity_id = null where {NIGHT_10} and size = 29")
    judge(world, 10)
    [taken] = world.rows("select left_out from nightshift.snapshots")
    assert {f: left["examples"] for f, left in taken.left_out.items()} == {
        "missing_key": ["kind=k2"],
        "not_finite": ["20260111-3"],
    }


@pytest.mark.parametrize("wrong", [-1, 1.5, "some"])
def test_how_many_rows_is_a_number_or_a_share(world: World, wrong: Any) -> None:
    world.configure(rows={"leave_out": wrong})
    with pytest.raises(Exception, match=r"rows\.leave_out: .*whole number"):
        load_family(world.folder)


# Optional columns ---------------------------------------------------------------------------------


def test_an_optional_column_may_be_empty_for_a_night(world: World) -> None:
    world.train(9)
    world.source(f"update items set kind = null where {NIGHT_10}")
    world.configure(
        expectations=[
            {"type": "expect_column_values_to_match_regex", "column": "kind", "regex": "^k"},
            {
                "type": "expect_column_unique_value_count_to_be_between",
                "column": "kind",
                "min_value": 1,
            },
        ]
    )
    with pytest.raises(SnapshotRejected, match="some_values on kind: 30 of 30 null"):
        judge(world, 10)
    world.configure(features={"optional": ["kind"]})
    assert scored(world, 10) == 30


def test_an_optional_number_may_be_empty_too_and_nulls_can_still_be_expected(world: World) -> None:
    world.configure(features={"optional": ["size"]})
    world.source(f"update items set size = null where {NIGHT_10}")
    judge(world, 10)
    world.configure(
        expectations=[{"type": "expect_column_values_to_not_be_null", "column": "size"}]
    )
    with pytest.raises(SnapshotRejected, match="30 of 30 rows unexpected"):
        judge(world, 10)


def test_an_optional_column_is_a_feature(world: World) -> None:
    world.configure(features={"optional": ["agent"]})
    with pytest.raises(Exception, match="optional: agent is no feature"):
        load_family(world.folder)
