"""Files named by the SHA-256 of their content: written whole or not at all, verified when read."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.failpoints import reach
from nightshift.records import ArtifactRefused, NightshiftError, SnapshotError, StorageError

Kind = Literal["parquet", "joblib"]

ROW_GROUP = 65_536
"""Rows in one Parquet row group: the unit in which a snapshot is streamed."""

_REFUSAL: dict[Kind, type[NightshiftError]] = {"parquet": SnapshotError, "joblib": ArtifactRefused}


@dataclass(frozen=True)
class Store:
    """A folder of immutable files, ``<root>/<first two digits>/<hash>.<kind>``."""

    root: Path

    def path(self, content_hash: str, kind: Kind) -> Path:
        """Where the file of this hash is, or would be."""
        return self.root / content_hash[:2] / f"{content_hash}.{kind}"

    def write_table(self, table: pa.Table) -> str:
        """Store a table as Parquet; the hash of its bytes."""
        return self._write("parquet", lambda file: _write_parquet(table, file))

    def write_bytes(self, data: bytes, kind: Kind) -> str:
        """Store bytes; their hash."""
        return self._write(kind, lambda file: _write_all(data, file))

    def read_table(self, content_hash: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A stored table, or some columns of it, after its bytes were verified."""
        with self._verified(content_hash, "parquet") as file:
            return pq.read_table(pa.PythonFile(file), columns=columns)

    def stream_table(self, content_hash: str) -> Iterator[pa.RecordBatch]:
        """A stored table row group by row group, after its bytes were verified."""
        with self._verified(content_hash, "parquet") as file:
            yield from pq.ParquetFile(pa.PythonFile(file)).iter_batches(batch_size=ROW_GROUP)

    def read_bytes(self, content_hash: str, kind: Kind) -> bytes:
        """Stored bytes. They are read once: what was verified is what is returned."""
        with self._open(content_hash, kind) as file:
            data = file.read()
        self._refuse_other(content_hash, kind, hashlib.sha256(data).hexdigest())
        return data

    def files(self, kind: Kind) -> dict[str, datetime]:
        """When each file of a kind was written (UTC), by its hash."""
        return {
            path.stem: datetime.fromtimestamp(path.stat().st_mtime, UTC)
            for path in self.root.glob(f"??/*.{kind}")
        }

    def delete(self, content_hash: str, kind: Kind) -> None:
        """Delete a file; one that is gone already is no error."""
        self.path(content_hash, kind).unlink(missing_ok=True)

    def _write(self, kind: Kind, write: Callable[[BinaryIO], None]) -> str:
        try:
            return self._write_whole(kind, write)
        except OSError as error:
            raise StorageError(
                f"{self.root} could not be written: {error.strerror or error}. Make room there or"
                " mend the disk, and run this step again"
            ) from error

    def _write_whole(self, kind: Kind, write: Callable[[BinaryIO], None]) -> str:
        self.root.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self.root, prefix=".writing-")
        unfinished = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            reach("storage.written")
            content_hash = _digest(unfinished)
            target = self.path(content_hash, kind)
            target.parent.mkdir(exist_ok=True)
            unfinished.replace(target)
            reach("storage.renamed")
        finally:
            unfinished.unlink(missing_ok=True)
        _fsync_folder(target.parent)
        _fsync_folder(self.root)
        return content_hash

    def _verified(self, content_hash: str, kind: Kind) -> BufferedReader:
        file = self._open(content_hash, kind)
        self._refuse_other(content_hash, kind, hashlib.file_digest(file, "sha256").hexdigest())
        file.seek(0)
        return file

    def _open(self, content_hash: str, kind: Kind) -> BufferedReader:
        path = self.path(content_hash, kind)
        try:
            return path.open("rb")
        except FileNotFoundError:
            raise _REFUSAL[kind](
                f"{path} is registered but not in the store; restore it from a backup"
            ) from None

    def _refuse_other(self, content_hash: str, kind: Kind, found: str) -> None:
        if found != content_hash:
            raise _REFUSAL[kind](
                f"{self.path(content_hash, kind)} was changed after it was written"
                f" (its content hashes to {found[:12]}…); restore it from a backup"
            )


def _write_parquet(table: pa.Table, file: BinaryIO) -> None:
    pq.write_table(table, file, row_group_size=ROW_GROUP, compression="zstd")


def _write_all(data: bytes, file: BinaryIO) -> None:
    file.write(data)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
