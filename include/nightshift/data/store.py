"""Files named by the SHA-256 of their content: written whole or not at all, verified when read.

They are in a folder, or below a prefix of object storage: ``s3://bucket/prefix``, by way of fsspec
and s3fs (``pip install 'nightshift[s3]'``), on whatever speaks S3. Its endpoint and its login come
from the environment, as every S3 client reads them: ``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_PROFILE``, or the role of the machine.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.data.places import DRAFT, STORE, Place, drafted, full, place_at
from nightshift.errors import (
    ArtifactRefused,
    NightshiftError,
    SnapshotError,
)
from nightshift.site import CHUNK_ROWS
from nightshift.tables import chunked

Kind = Literal["parquet", "joblib", "code"]

ROW_GROUP = 65_536
"""Rows in one Parquet row group: the unit in which a snapshot is streamed."""

_REFUSAL: dict[Kind, type[NightshiftError]] = {
    "parquet": SnapshotError,
    "joblib": ArtifactRefused,
    "code": ArtifactRefused,
}


@dataclass(frozen=True)
class Store:
    """Immutable files, ``<root>/<first two digits>/<hash>.<kind>``.

    Parameters
    ----------
    root
        A folder, or ``s3://bucket/prefix``.
    chunk_rows
        About how many rows whoever streams a file holds in memory at once; no result depends on it.

    Raises
    ------
    StorageError
        From every method, where object storage refuses: there is no such bucket, or no right to it.
    StorageUnavailable
        From every method, where object storage cannot be reached: worth another try.
    """

    root: Path | str
    chunk_rows: int = CHUNK_ROWS

    def address(self, content_hash: str, kind: Kind) -> str:
        """Where the file of this hash is, or would be: a path or a URL."""
        return f"{self.root}/{_name(content_hash, kind)}"

    def has(self, content_hash: str, kind: Kind) -> bool:
        """Whether there is a file of this hash; what is in it shows when it is read."""
        return self._place.has(_name(content_hash, kind))

    def write_table(self, table: pa.Table) -> str:
        """Store a table as Parquet; the hash of its bytes."""
        return self.write_tables([table], table.schema)

    def write_tables(self, tables: Iterable[pa.Table], schema: pa.Schema) -> str:
        """Store the rows of tables as one, a row group at a time; the hash of its bytes.

        The hash depends on the rows and their order, not on how they are cut into tables.
        """
        return self._write("parquet", lambda file: _write_parquet(tables, schema, file))

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for files that do not outlive the block, where drafts are written."""
        try:
            with tempfile.TemporaryDirectory(dir=self._place.drafts(), prefix=".sorting-") as name:
                yield Path(name)
        except OSError as error:
            raise full(self.root, error) from error

    def write_bytes(self, data: bytes, kind: Kind) -> str:
        """Store bytes; their hash."""
        return self._write(kind, lambda file: _write_all(data, file))

    def read_table(self, content_hash: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A stored table, or those of some columns that it has, after its bytes were verified."""
        with self._verified(content_hash, "parquet") as file:
            return pq.ParquetFile(pa.PythonFile(file)).read(columns=columns)

    def schema(self, content_hash: str) -> pa.Schema:
        """The columns of a stored table, after its bytes were verified."""
        with self._verified(content_hash, "parquet") as file:
            return pq.ParquetFile(pa.PythonFile(file)).schema_arrow

    def stream_table(
        self,
        content_hash: str,
        piece: int = 0,
        pieces: int = 1,
        *,
        columns: Sequence[str] | None = None,
        encoded: Sequence[str] = (),
    ) -> Iterator[pa.Table]:
        """A stored table row group by row group, after its bytes were verified.

        Parameters
        ----------
        piece, pieces
            Of several pieces one has every so manieth row group, from number ``piece`` on.
        columns
            Only these.
        encoded
            Columns of text that come as codes into a dictionary, as far as they are there.
        """
        with self._verified(content_hash, "parquet") as file:
            schema = pq.read_schema(pa.PythonFile(file))
            texts = [name for name in encoded if name in schema.names]
            codes = [name for name in texts if pa.types.is_string(schema.field(name).type)]
            file.seek(0)
            parquet = pq.ParquetFile(pa.PythonFile(file), read_dictionary=codes)
            for number in range(piece, parquet.num_row_groups, pieces):
                yield parquet.read_row_group(number, columns=columns)

    def read_bytes(self, content_hash: str, kind: Kind) -> bytes:
        """Stored bytes. They are read once: what was verified is what is returned."""
        with self._open(content_hash, kind) as file:
            data = file.read()
        self._refuse_other(content_hash, kind, hashlib.sha256(data).hexdigest())
        return data

    def files(self, kind: Kind) -> dict[str, datetime]:
        """When each file of a kind was written (UTC), by its hash."""
        return dict(self._place.files(kind))

    def delete(self, content_hash: str, kind: Kind) -> None:
        """Delete a file; one that is gone already is no error."""
        self._place.delete(_name(content_hash, kind))

    def sweep(self, *, before: datetime) -> int:
        """Delete drafts that a process which died left behind before a moment; how many.

        Of a bucket, the drafts are on the machine that wrote them: it sweeps its own.
        """
        swept = 0
        for draft in self._place.drafts().glob(f"{DRAFT}*"):
            with suppress(FileNotFoundError):  # kept, or swept by somebody else, since
                if datetime.fromtimestamp(draft.stat().st_mtime, UTC) < before:
                    shutil.rmtree(draft) if draft.is_dir() else draft.unlink()
                    swept += 1
        return swept

    @cached_property
    def _place(self) -> Place:
        return place_at(self.root, STORE)

    def _write(self, kind: Kind, write: Callable[[BinaryIO], None]) -> str:
        try:
            return self._write_whole(kind, write)
        except OSError as error:
            raise full(self.root, error) from error

    def _write_whole(self, kind: Kind, write: Callable[[BinaryIO], None]) -> str:
        with drafted(self._place, write) as draft:
            content_hash = _digest(draft)
            self._place.keep(draft, _name(content_hash, kind))
        return content_hash

    @contextmanager
    def _verified(self, content_hash: str, kind: Kind) -> Iterator[BufferedReader]:
        with self._open(content_hash, kind) as file:
            self._refuse_other(content_hash, kind, hashlib.file_digest(file, "sha256").hexdigest())
            file.seek(0)
            yield file

    def _open(self, content_hash: str, kind: Kind) -> BufferedReader:
        try:
            return self._place.open(_name(content_hash, kind))
        except FileNotFoundError:
            raise _REFUSAL[kind](
                f"{self.address(content_hash, kind)} is registered but not in the store;"
                " restore it from a backup"
            ) from None

    def _refuse_other(self, content_hash: str, kind: Kind, actual_hash: str) -> None:
        if actual_hash != content_hash:
            raise _REFUSAL[kind](
                f"{self.address(content_hash, kind)} was changed after it was written"
                f" (its content hashes to {actual_hash[:12]}…); restore it from a backup"
            )


def _name(content_hash: str, kind: Kind) -> str:
    return f"{content_hash[:2]}/{content_hash}.{kind}"


def _write_parquet(tables: Iterable[pa.Table], schema: pa.Schema, file: BinaryIO) -> None:
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for group in chunked(tables, ROW_GROUP):
            writer.write_table(group, row_group_size=ROW_GROUP)


def _write_all(data: bytes, file: BinaryIO) -> None:
    file.write(data)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
