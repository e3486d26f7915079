"""Stored bytes are whole, named by their content, and refused when they are not what they were."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from nightshift import tables
from nightshift.data import Store
from nightshift.errors import ArtifactRefused, SnapshotError
from nightshift.family import Features

DECLARED = Features(numeric=["size"], categorical=["kind"])
TABLE = pa.table({"entity_id": ["a", "b"], "size": [1, 2], "kind": ["x", None]})


def flip(data: bytes) -> bytes:
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


@pytest.mark.parametrize("damage", [flip, lambda data: data[:-1], lambda data: b""])
def test_damaged_files_are_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    store = Store(tmp_path)
    name = store.write_table(TABLE)
    assert store.read_table(name).equals(TABLE)
    file = Path(store.address(name, "parquet"))
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(SnapshotError, match="was changed after it was written"):
        store.read_table(name)
    with pytest.raises(SnapshotError, match="was changed after it was written"):
        list(store.stream_table(name))


def test_a_missing_artifact_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArtifactRefused, match="registered but not in the store"):
        Store(tmp_path).read_bytes("ab" * 32, "joblib")


def test_the_same_content_has_the_same_name_and_leaves_nothing_else(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.write_table(TABLE) == store.write_table(TABLE)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_what_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        Store(tmp_path).write_bytes("text", "joblib")  # type: ignore[arg-type]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_columns_are_taken_by_name(tmp_path: Path) -> None:
    turned = TABLE.select(["kind", "size", "entity_id"])
    assert tables.frame(turned, DECLARED).equals(tables.frame(TABLE, DECLARED))


def test_rows_outside_of_what_training_saw_are_flagged() -> None:
    seen = tables.profile(TABLE, DECLARED)
    night = pa.table(
        {"size": [1.5, 9.0, None, 0.0], "kind": ["x", "x", None, "new"]},
    )
    out, unseen = tables.OUT_OF_RANGE, tables.UNSEEN_CATEGORY
    assert tables.flags(night, seen).tolist() == [0, out, 0, out | unseen]


def test_files_are_listed_by_kind_and_deleted_one_by_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    before = datetime.now(UTC) - timedelta(seconds=2)
    table = store.write_table(TABLE)
    one, two = (store.write_bytes(data, "joblib") for data in (b"one", b"two"))
    found = store.files("joblib")
    assert set(found) == {one, two}
    assert min(found.values()) > before
    assert max(found.values()) < datetime.now(UTC) + timedelta(seconds=2)
    store.delete(one, "joblib")
    store.delete(one, "joblib")
    assert set(store.files("joblib")) == {two}
    assert set(store.files("parquet")) == {table}
    assert Store(tmp_path / "nowhere").files("joblib") == {}
