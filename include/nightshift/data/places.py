"""Where files are kept under names: a folder, or a prefix of a bucket in S3.

A file is written elsewhere and then given its name, at once: a reader sees all of it or nothing.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import urlsplit

from nightshift.errors import SetupError, StorageError, StorageUnavailable, extra_missing
from nightshift.failpoints import reach

DRAFT = ".writing-"
"""How the names of files begin that are not whole yet."""


@dataclass(frozen=True)
class Use:
    """What a place is for, as messages name it, and the setting that says where it is."""

    what: str
    setting: str


STORE = Use("the store", "NIGHTSHIFT_STORE")


def place_at(root: Path | str, use: Use) -> Place:
    """The place at a folder or ``s3://bucket/prefix``. Raises SetupError where it is neither."""
    text = str(root)
    return Bucket(text, use) if "://" in text else Folder(Path(text))


@contextmanager
def drafted(place: Place, write: Callable[[BinaryIO], None]) -> Iterator[Path]:
    """A draft that was written to its end and has reached the disk; after the block it is gone."""
    descriptor, name = tempfile.mkstemp(dir=place.drafts(), prefix=DRAFT)
    unfinished = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        reach("storage.written")
        yield unfinished
    finally:
        unfinished.unlink(missing_ok=True)


def full(root: Path | str, error: OSError) -> StorageError:
    """A place that takes no more, in a sentence."""
    return StorageError(
        f"{root} could not be written: {error.strerror or error}. Make room there or"
        " mend the disk, and run this step again"
    )


class Place(Protocol):
    """Where files are kept under names."""

    def drafts(self) -> Path:
        """The folder in which a file is written before it is kept."""

    def keep(self, draft: Path, name: str) -> None:
        """Give a draft its name, at once and for good: a reader sees all of it or nothing."""

    def open(self, name: str) -> BufferedReader:
        """A file's bytes, which nobody changes any more. Raises FileNotFoundError."""

    def has(self, name: str) -> bool: ...

    def files(self, kind: str) -> Iterator[tuple[str, datetime]]:
        """The hash of every file of a kind, with the moment at which it was kept."""

    def delete(self, name: str) -> None: ...


@dataclass(frozen=True)
class Folder:
    root: Path

    def drafts(self) -> Path:
        self.root.mkdir(parents=True, exist_ok=True)
        return self.root

    def keep(self, draft: Path, name: str) -> None:
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.replace(target)
        reach("storage.renamed")
        _fsync_folder(target.parent)
        _fsync_folder(self.root)

    def open(self, name: str) -> BufferedReader:
        return (self.root / name).open("rb")

    def has(self, name: str) -> bool:
        return (self.root / name).exists()

    def files(self, kind: str) -> Iterator[tuple[str, datetime]]:
        for path in self.root.glob(f"??/*.{kind}"):
            yield path.stem, datetime.fromtimestamp(path.stat().st_mtime, UTC)

    def delete(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)


class Bucket:
    """A prefix in S3. A put is atomic there, and is checked by a checksum that goes with it.

    What is there already is put again: the same bytes, with a new date, by which the artifacts that
    nothing needs are found.
    """

    def __init__(self, url: str, use: Use) -> None:
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc:
            raise SetupError(
                f"{use.what} {_without_login(url)} is neither a folder nor in S3;"
                f" accepted in {use.setting}: /a/folder, s3://bucket/prefix"
            )
        if "@" in parts.netloc:
            raise SetupError(
                f"{use.what} {_without_login(url)} was given with a login, which would end in logs;"
                " set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead"
            )
        self._name = f"{use.what} {url}"
        self._setting = use.setting
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

    def files(self, kind: str) -> Iterator[tuple[str, datetime]]:
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
            raise extra_missing(self._name, error.name, "s3") from error

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
                f"{self._name}: there is no bucket {self._bucket!r};"
                f" make it, or correct {self._setting}"
            ) from error
        except (PermissionError, BotoCoreError, ClientError) as error:
            raise StorageError(
                f"{self._name} refused: {error}. The login is read from the environment"
                " (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the machine's"
                " role); it must be allowed to list, read, write and delete below that prefix"
            ) from error
        except OSError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> StorageUnavailable:
        return StorageUnavailable(
            f"{self._name} cannot be used now: {error}. Check that its endpoint"
            " (AWS_ENDPOINT_URL) can be reached from this machine, and run the step again"
        )


class _Missing(FileNotFoundError):
    """An object is not there, although its bucket is."""


def _without_login(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
