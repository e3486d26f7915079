"""What passes in pieces comes out as if it had been there at once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from nightshift import tables
from nightshift.data import Store
from nightshift.data import store as store_module
from nightshift.family import Features
from nightshift.tables import streams

NAMES = [None, "", "a", "a ", "b", "B", "ä", "z-9", "z-10", "\N{SNOWMAN}"]


def rows(count: int, seed: int = 7) -> pa.Table:
    chosen = random.Random(seed)
    names = [chosen.choice(NAMES) for _ in range(count)]
    kinds = pa.array([chosen.choice(["k", "l", None]) for _ in range(count)]).dictionary_encode()
    return pa.table({"name": names, "number": range(count), "kind": kinds})


def in_pieces(table: pa.Table, size: int) -> Iterator[pa.RecordBatch]:
    return iter(table.to_batches(max_chunksize=size))


@pytest.mark.parametrize("size", [1, 3, 50, 1000])
def test_chunks_hold_the_same_rows_in_order(size: int) -> None:
    table = rows(200)
    chunks = list(tables.chunked(in_pieces(table, 7), size))
    assert pa.concat_tables(chunks).equals(table)
    assert [chunk.num_rows for chunk in chunks[:-1]] == [size] * (len(chunks) - 1)


@pytest.mark.parametrize("size", [1, 3, 50, 1000])
def test_runs_that_are_merged_are_one_stable_sort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(streams, "BLOCK", 2)
    monkeypatch.setattr(streams, "FAN_IN", 3)
    table = rows(200)
    merged = list(tables.ordered(in_pieces(table, 7), "name", rows=size, folder=tmp_path))
    assert pa.concat_tables(merged).to_pylist() == table.sort_by("name").to_pylist()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_nothing_in_order(tmp_path: Path) -> None:
    assert list(tables.ordered([], "name", rows=5, folder=tmp_path)) == []


def test_a_merge_reads_no_run_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BLOCK", 2)
    merged = tables.ordered(in_pieces(rows(200), 7), "name", rows=20, folder=tmp_path)
    assert max(table.num_rows for table in merged) <= 2 * 10


@pytest.mark.parametrize("cut", [1, 3, 10, 100])
def test_a_snapshot_has_the_same_hash_however_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    monkeypatch.setattr(store_module, "ROW_GROUP", 10)
    table = rows(95)
    store = Store(tmp_path)
    pieces = (pa.Table.from_batches([piece]) for piece in in_pieces(table, cut))
    assert store.write_tables(pieces, table.schema) == store.write_table(table)
    nothing = table.slice(0, 0)
    assert store.write_tables([], table.schema) == store.write_table(nothing)
    assert store.read_table(store.write_table(nothing)).equals(nothing)


def test_encoded_text_is_seen_by_estimators_as_plain_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "ROW_GROUP", 10)
    declared = Features(numeric=["number"], categorical=["name"])
    table, store = rows(95).select(["name", "number"]), Store(tmp_path)
    name = store.write_table(table)
    groups = list(store.stream_table(name, encoded=["name", "gone"]))
    encoded = pa.concat_tables(groups)
    assert pa.types.is_dictionary(encoded.schema.field("name").type)
    for one in (encoded, encoded.combine_chunks(), encoded.slice(3, 40), encoded.slice(0, 0)):
        plain = table.slice(3, 40) if one.num_rows == 40 else table.slice(0, one.num_rows)
        assert tables.frame(one, declared).equals(tables.frame(plain, declared))
        seen = {"categories": {"name": ["a", "b"]}, "ranges": {"number": [5, 30]}}
        assert tables.flags(one, seen).tolist() == tables.flags(plain, seen).tolist()


def test_work_of_several_threads_comes_in_order() -> None:
    assert list(tables.mapped(lambda n: n * n, range(50), workers=3)) == [n * n for n in range(50)]
    assert list(tables.ahead(range(1, 50))) == list(range(1, 50))


def test_an_error_comes_where_its_item_would_have_come() -> None:
    def halves(number: int) -> float:
        return 1 / (number - 3)

    told = tables.mapped(halves, range(50), workers=2)
    assert [next(told) for _ in range(3)] == [1 / (number - 3) for number in range(3)]
    with pytest.raises(ZeroDivisionError):
        next(told)


def test_no_more_is_under_way_than_there_are_workers_and_one() -> None:
    begun = [0]

    def numbers() -> Iterator[int]:
        for number in range(50):
            begun[0] += 1
            yield number

    for taken_so_far, _ in enumerate(tables.mapped(lambda n: n, numbers(), workers=2), start=1):
        assert begun[0] <= taken_so_far + 2
