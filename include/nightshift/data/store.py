"""Files named by the SHA-256 of their content: written whole or not at all, verified when read.

They are in a folder, or below a prefix of object storage: ``s3://bucket/prefix``, by way of fsspec
and s3fs (``pip install 'nightshift[s3]'``), on whatever speaks S3. Its endpoint and its login come
from the environment, as every S3 client reads them: ``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_PROFILE``, or the role of the machine.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.errors import (
    ArtifactRefused,
    NightshiftError,
    SetupError,
    SnapshotError,
    StorageError,
    StorageUnavailable,
    extra_missing,
)
from nightshift.failpoints import reach
from nightshift.site import CHUNK_ROWS
from nightshift.tables import chunked

Kind = Literal["parquet", "joblib", "code"]

ROW_GROUP = 65_536
"""Rows in one Parquet row group: the unit in which a snapshot is streamed."""

DRAFT = ".writing-"
"""How the names of files begin that are not whole yet."""

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
            raise self._full(error) from error

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
    def _place(self) -> _Place:
        root = str(self.root)
        return _Bucket(root) if "://" in root else _Folder(Path(root))

    def _write(self, kind: Kind, write: Callable[[BinaryIO], None]) -> str:
        try:
            return self._write_whole(kind, write)
        except OSError as error:
            raise self._full(error) from error

    def _full(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self.root} could not be written: {error.strerror or error}. Make room there or"
            " mend the disk, and run this step again"
        )

    def _write_whole(self, kind: Kind, write: Callable[[BinaryIO], None]) -> str:
        descriptor, name = tempfile.mkstemp(dir=self._place.drafts(), prefix=DRAFT)
        unfinished = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            reach("storage.written")
            content_hash = _digest(unfinished)
            self._place.keep(unfinished, _name(content_hash, kind))
        finally:
            unfinished.unlink(missing_ok=True)
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


class _Place(Protocol):
    """Where files are kept under names."""

    def drafts(self) -> Path:
        """The folder in which a file is written before it is kept."""

    def keep(self, draft: Path, name: str) -> None:
        """Give a draft its name, at once and for good: a reader sees all of it or nothing."""

    def open(self, name: str) -> BufferedReader:
        """A file's bytes, which nobody changes any more. Raises FileNotFoundError."""

    def has(self, name: str) -> bool: ...

    def files(self, kind: Kind) -> Iterator[tuple[str, datetime]]:
        """The hash of every file of a kind, with the moment at which it was kept."""

    def delete(self, name: str) -> None: ...


@dataclass(frozen=True)
class _Folder:
    root: Path

    def drafts(self) -> Path:
        self.root.mkdir(parents=True, exist_ok=True)
        return self.root

    def keep(self, draft: Path, name: str) -> None:
        target = self.root / name
        target.parent.mkdir(exist_ok=True)
        draft.replace(target)
        reach("storage.renamed")
        _fsync_folder(target.parent)
        _fsync_folder(self.root)

    def open(self, name: str) -> BufferedReader:
        return (self.root / name).open("rb")

    def has(self, name: str) -> bool:
        return (self.root / name).exists()

    def files(self, kind: Kind) -> Iterator[tuple[str, datetime]]:
        for path in self.root.glob(f"??/*.{kind}"):
            yield path.stem, datetime.fromtimestamp(path.stat().st_mtime, UTC)

    def delete(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)


class _Bucket:
    """A prefix in S3. A put is atomic there, and is checked by a checksum that goes with it.

    What is there already is put again: the same bytes, with a new date, by which the artifacts that
    nothing needs are found.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc:
            raise SetupError(
                f"the store {_without_login(url)} is neither a folder nor in S3;"
                " accepted in NIGHTSHIFT_STORE: /a/folder, s3://bucket/prefix"
            )
        if "@" in parts.netloc:
            raise SetupError(
                f"the store {_without_login(url)} was given with a login, which would end in logs;"
                " set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead"
            )
        self._url = url
        self._bucket = parts.netloc
        self._root = f"{parts.netloc}{parts.path}".rstrip("/")

    def drafts(self) -> Path:
        folder = Path(tempfile.gettempdir()) / f"nightshift-drafts-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise SetupError(
                f"{folder} belongs to somebody else, who could change what is written there;"
                " delete it, or set TMPDIR to a folder of your own"
            )
        return folder

    def keep(self, draft: Path, name: str) -> None:
        with self._nouns():
            self._s3().put_file(str(draft), f"{self._root}/{name}")

    def open(self, name: str) -> BufferedReader:
        with tempfile.TemporaryDirectory(dir=self.drafts(), prefix=DRAFT) as folder:
            copy = Path(folder) / "copy"
            with self._nouns():
                try:
                    self._s3().get_file(f"{self._root}/{name}", str(copy))
                except FileNotFoundError:
                    if self._s3().exists(self._bucket):
                        raise _Missing from None
                    raise
            return copy.open("rb")  # it can be read although its name is gone

    def has(self, name: str) -> bool:
        with self._nouns():
            return bool(self._s3().exists(f"{self._root}/{name}"))

    def files(self, kind: Kind) -> Iterator[tuple[str, datetime]]:
        with self._nouns():
            objects = self._s3().find(self._root, detail=True)
        for name, about in objects.items():
            if name.endswith(f".{kind}"):
                yield Path(name).stem, about["LastModified"].astimezone(UTC)

    def delete(self, name: str) -> None:
        with self._nouns():
            self._s3().rm_file(f"{self._root}/{name}")

    def _s3(self) -> Any:
        """fsspec keeps one for each process and thread: a fork makes its own."""
        try:
            import fsspec

            # What other machines write must show at once.
            return fsspec.filesystem("s3", use_listings_cache=False)
        except ImportError as error:
            raise extra_missing(f"the store {self._url}", error.name, "s3") from error

    @contextmanager
    def _nouns(self) -> Iterator[None]:
        """Errors of s3fs, and of the libraries under it, as ours."""
        self._s3()
        from aiohttp import ClientError as ConnectionBroke
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
        from botocore.exceptions import ConnectionError as NoConnection

        try:
            yield
        except _Missing:
            raise
        except (HTTPClientError, NoConnection, ConnectionBroke) as error:
            raise self._unavailable(error) from error
        except FileNotFoundError as error:
            raise StorageError(
                f"the store {self._url}: there is no bucket {self._bucket!r};"
                " make it, or correct NIGHTSHIFT_STORE"
            ) from error
        except (PermissionError, BotoCoreError, ClientError) as error:
            raise StorageError(
                f"the store {self._url} refused: {error}. The login is read from the environment"
                " (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the machine's"
                " role); it must be allowed to list, read, write and delete below that prefix"
            ) from error
        except OSError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> StorageUnavailable:
        return StorageUnavailable(
            f"the store {self._url} cannot be used now: {error}. Check that its endpoint"
            " (AWS_ENDPOINT_URL) can be reached from this machine, and run the step again"
        )


class _Missing(FileNotFoundError):
    """An object is not there, although its bucket is."""


def _name(content_hash: str, kind: Kind) -> str:
    return f"{content_hash[:2]}/{content_hash}.{kind}"


def _without_login(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _write_parquet(tables: Iterable[pa.Table], schema: pa.Schema, file: BinaryIO) -> None:
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for group in chunked(tables, ROW_GROUP):
            writer.write_table(group, row_group_size=ROW_GROUP)


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
