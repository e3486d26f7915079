"""A night larger than memory: held in pieces, and judged as if it had been there at once."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.world import FAMILY, FIRST, World

from nightshift.data import Store, Transaction, connect, store
from nightshift.errors import DatabaseUnavailable, SourceError
from nightshift.family import ModelFamily
from nightshift.local import session
from nightshift.night import Origin, freeze
from nightshift.night.validation import checks_of
from nightshift.records import Check, Snapshot
from nightshift.site import Site
from nightshift.sources import Names
from nightshift.steps import night as night_steps
from nightshift.steps.frame import source_of

ROWS = 30


@pytest.fixture(autouse=True)
def _small_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "ROW_GROUP", 4)


# Freezing -----------------------------------------------------------------------------------------


def frozen(world: World, chunk_rows: int) -> Snapshot:
    """The night of number 10, taken as if for the first time."""
    with session(world.site.database_url) as connection:
        connection.exec_driver_sql("truncate nightshift.snapshots cascade")
    as_of = world.night(10)
    return freeze(
        connect(world.site.database_url),
        Store(world.site.store, chunk_rows),
        Origin(source_of(world.site, world.site.family(FAMILY)), Names(FAMILY)),
        world.site.family(FAMILY),
        as_of,
        now=as_of,
    )


def test_a_snapshot_does_not_depend_on_how_much_is_held(world: World) -> None:
    world.source("update items set entity_id = 'same' where size in (3, 17, 29)")
    world.source("update items set entity_id = null where size in (5, 23)")
    taken = {(s.content_hash, s.row_count) for s in (frozen(world, n) for n in (1, 4, 7, 1000))}
    assert len(taken) == 1
    [(content_hash, count)] = taken
    assert count == ROWS
    ids = Store(world.site.store).read_table(content_hash)["entity_id"].to_pylist()
    assert ids == [*sorted(name for name in ids if name), None, None]


def test_what_became_known_later_is_dropped_in_every_piece(world: World) -> None:
    world.write(
        "features.sql",
        "select entity_id, size, kind, cast(:as_of as timestamptz)"
        " + (mod(size::int, 3) - 1) * interval '1 hour' as known_at"
        " from items where night = cast(:as_of as timestamptz); -- the night's",
    )
    for chunk_rows in (4, 1000):
        snapshot = frozen(world, chunk_rows)
        assert (snapshot.row_count, snapshot.dropped_rows) == (20, 10)


def test_a_source_that_fails_midway_leaves_no_snapshot(world: World) -> None:
    world.write(
        "features.sql",
        "select entity_id, 1 / (size - 29) as size, kind from items"
        " where night = cast(:as_of as timestamptz)",
    )
    with pytest.raises(SourceError, match=r"features\.sql failed.*division by zero"):
        frozen(world, 4)
    assert world.rows("select * from nightshift.snapshots") == []
    assert [f for f in Path(world.site.store).rglob("*") if f.is_file() or f.name[0] == "."] == []


# Judging ------------------------------------------------------------------------------------------


def judged(tmp_path: Path, family: ModelFamily, table: pa.Table, chunk_rows: int) -> list[Check]:
    store = Store(tmp_path, chunk_rows)
    snapshot = Snapshot(
        snapshot_id=1,
        family=family.family,
        as_of=FIRST,
        revision=1,
        content_hash=store.write_table(table),
        row_count=table.num_rows,
        dropped_rows=0,
        query_hash="",
        taken_at=FIRST,
    )
    [checks] = checks_of(store, family, [snapshot])
    return checks


def rows(**columns: list[Any]) -> pa.Table:
    """Thirty ordered rows, of which some columns are given otherwise."""
    own: dict[str, Any] = {
        "entity_id": [f"e{n:02}" for n in range(ROWS)],
        "size": [float(n) for n in range(ROWS)],
        "kind": [f"k{n % 3}" for n in range(ROWS)],
    }
    told = own | columns
    return pa.table(
        {
            "entity_id": pa.array(told["entity_id"], pa.string()),
            "size": pa.array(told["size"], pa.float64()),
            "kind": pa.array(told["kind"], pa.string()),
        }
    )


IDS = rows()["entity_id"].to_pylist()
SIZES = rows()["size"].to_pylist()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"entity_id": [*IDS[:4], IDS[3], *IDS[5:]]}, "unique on entity_id: 1 rows repeat"),
        ({"entity_id": ["e"] * ROWS}, "unique on entity_id: 29 rows repeat"),
        ({"entity_id": [*IDS[:8], *IDS[4:8], *IDS[12:]]}, "unique on entity_id: 1 rows come"),
        ({"entity_id": [*IDS[:-5], *[None] * 5]}, "not_null on entity_id: 5 nulls"),
        ({"kind": [None] * ROWS}, "some_values on kind: 30 of 30 null"),
        (
            {"size": [*SIZES[:4], float("nan"), *SIZES[5:-1], float("inf")]},
            "finite on size: 2 values",
        ),
    ],
)
@pytest.mark.parametrize("chunk_rows", [1, 4, 7, 1000])
def test_guards_see_over_the_border_of_two_pieces(
    world: World, tmp_path: Path, damage: dict[str, list[Any]], said: str, chunk_rows: int
) -> None:
    family = world.site.family(FAMILY)
    failed = [
        check for check in judged(tmp_path, family, rows(**damage), chunk_rows) if not check.success
    ]
    assert [check.sentence()[: len(said)] for check in failed] == [said]


ASKED: list[dict[str, Any]] = [
    # Six of thirty are outside: 0.8 holds just, and a hair more does not.
    *(
        {
            "type": "expect_column_values_to_be_between",
            "column": "size",
            "min_value": 6,
            "mostly": m,
        }
        for m in (0.8, 0.8000001, 1)
    ),
    # Three are null and nine of the other 27 are outside: 2/3 of those that are not null.
    *(
        {
            "type": "expect_column_values_to_be_in_set",
            "column": "kind",
            "value_set": ["k0", "k2"],
            "mostly": m,
        }
        for m in (18 / 27, 0.667)
    ),
    *(
        {"type": "expect_column_values_to_not_be_null", "column": "kind", "mostly": m}
        for m in (0.9, 0.9000001)
    ),
    {"type": "expect_column_values_to_be_null", "column": "kind", "mostly": 0.1},
    {"type": "expect_column_values_to_match_regex", "column": "kind", "regex": "^k[01]$"},
    {"type": "expect_column_value_lengths_to_equal", "column": "kind", "value": 2},
    {"type": "expect_column_values_to_be_unique", "column": "size"},
    {"type": "expect_column_values_to_be_increasing", "column": "size"},
    {
        "type": "expect_column_value_z_scores_to_be_less_than",
        "column": "size",
        "threshold": 1.6,
        "double_sided": True,
        "mostly": 0.99,
    },
    {
        "type": "expect_column_mean_to_be_between",
        "column": "size",
        "min_value": 14.4,
        "max_value": 14.6,
    },
    {
        "type": "expect_column_quantile_values_to_be_between",
        "column": "size",
        "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[14, 15]]},
    },
    {
        "type": "expect_column_distinct_values_to_equal_set",
        "column": "kind",
        "value_set": ["k0", "k1", "k2"],
    },
    {"type": "expect_table_row_count_to_equal", "value": ROWS},
    {"type": "expect_table_column_count_to_equal", "value": 2},
    {"type": "expect_column_to_exist", "column": "size"},
    {
        "type": "expect_column_values_to_be_between",
        "column": "size",
        "min_value": 3,
        "row_condition": 'kind == "k0"',
        "condition_parser": "pandas",
    },
    {"type": "expect_column_values_to_be_between", "column": "kind", "min_value": 3},
    {
        "type": "expect_column_values_to_be_between",
        "column": "gone",
        "min_value": 3,
        "severity": "warning",
    },
]


@pytest.mark.filterwarnings("ignore:The condition_parser parameter:DeprecationWarning")
def test_expectations_find_in_pieces_what_they_find_at_once(world: World, tmp_path: Path) -> None:
    world.configure(expectations=ASKED)
    family = world.site.family(FAMILY)
    kinds = [f"k{n % 3}" if n % 10 else None for n in range(ROWS)]
    at_once = judged(tmp_path, family, rows(kind=kinds), 1000)
    for chunk_rows in (1, 4, 7):
        assert judged(tmp_path, family, rows(kind=kinds), chunk_rows) == at_once
    held = [check.success for check in at_once[-len(ASKED) :]]
    assert held[:7] == [True, False, False, True, False, True, False]


# The whole night ----------------------------------------------------------------------------------

LARGE = """
select 'e' || i as entity_id, i::double precision as size, 'k' || mod(i, 3) as kind
from generate_series(1, case when cast(:as_of as timestamptz) < '2026-01-12 02:00+00' then 200000
                        else 700000 end) i
"""


def peak(site: Site, night: datetime) -> int:
    """Megabytes that this process has held at most, once it has published a night."""
    now = night + timedelta(minutes=5)
    snapshot_id = night_steps.freeze(site, FAMILY, night, now=now)
    night_steps.validate(site, snapshot_id, now=now)
    night_steps.publish(site, night_steps.score(site, snapshot_id, now=now), now=now)
    [line] = [
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    ]
    return int(line.split()[1]) // 1024


def test_a_night_ten_times_larger_than_is_held_takes_no_more_memory(world: World) -> None:
    world.train(9)
    settings = world.site.home / "include" / "nightshift.yaml"
    settings.write_text("chunk_rows: 70000\n")
    between = "expect_column_values_to_be_between"
    world.configure(expectations=[{"type": between, "column": "size", "min_value": 1}])
    world.write("features.sql", LARGE)
    peaks = []
    for number in (10, 12):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as child:
            peaks.append(child.submit(peak, world.site, world.night(number)).result())
    counts = world.rows("select count(*) as n from predictions group by as_of order by as_of")
    assert [row.n for row in counts] == [200_000, 700_000]
    # Two hundred thousand rows fill every stage; from there on, memory does not grow.
    assert peaks[1] < peaks[0] * 1.3, peaks


def test_an_outage_in_the_middle_of_a_copy_ends_the_night(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces, copy = count(), Transaction.copy

    def gone(self: Transaction, *arguments: Any) -> int:
        if next(pieces) == 3:
            raise DatabaseUnavailable("the connection is gone")
        return copy(self, *arguments)

    world.train(9)
    with monkeypatch.context() as patched:
        patched.setattr(Transaction, "copy", gone)
        with pytest.raises(DatabaseUnavailable, match="the connection is gone"):
            world.score(10)
    assert world.rows("select from predictions") == []
    assert world.rows("select from nightshift.prediction_rows") == []
    assert world.score(10)
    assert len(world.rows("select from predictions")) == 30
