"""Begins a project in an empty folder, and renews its files after an upgrade.

What was written stands in ``.nightshift-project.json``, each file by its hash: a file that still
has it was not changed by its owner, so a newer template may take its place.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

from nightshift.errors import ConfigError, SetupError

RECORD = ".nightshift-project.json"
_TOLERATED = {".git", ".venv"}
"""What may be in a folder before a project begins in it."""

_Standing = Literal["current", "renewable", "changed", "removed"]


@dataclass(frozen=True)
class Renewal:
    """What a newer version of the package makes of a project's files, by their paths.

    Parameters
    ----------
    made_by, installed
        The version that wrote the project, and the one that is installed.
    renewed
        Files as they were written, for which there is a newer template.
    left_alone
        Files that their owner changed or removed, for which there is one as well.
    """

    made_by: str
    installed: str
    renewed: tuple[str, ...]
    left_alone: tuple[str, ...]


@dataclass(frozen=True)
class _Record:
    """Who wrote a project, under which name, and the hash of each file as it was written."""

    made_by: str
    name: str
    files: dict[str, str]


def begin(folder: Path) -> list[str]:
    """Write a project into ``folder``, which is made or empty; the paths of its files.

    Raises
    ------
    SetupError
        The folder is not empty, or cannot be written. Nothing is left in it then.
    """
    folder = folder.absolute()
    _require_empty(folder)
    name = _name_of(folder)
    rendered = _rendered(name)
    record = _Record(_installed(), name, {path: _hash(text) for path, text in rendered.items()})
    written: list[Path] = []
    try:
        for path, text in (rendered | {RECORD: _as_json(record)}).items():
            written.append(folder / path)
            _write(folder / path, text)
    except OSError as error:
        for file in written:
            file.unlink(missing_ok=True)
        raise SetupError(
            f"{error.filename or folder} cannot be written: {error.strerror}; nothing was begun"
        ) from error
    return sorted(rendered)


def renew(folder: Path) -> Renewal:
    """Give each file that its owner did not change its newest form; say which were left alone.

    Raises
    ------
    ConfigError
        ``nightshift init`` did not make the project in this folder, or its record is broken.
    SetupError
        A file cannot be written. Those before it are renewed, and renewing again is safe.
    """
    record = _read(folder)
    rendered = _rendered(record.name)
    renewal = _renewal(folder, record, rendered)
    try:
        for path in renewal.renewed:
            _write(folder / path, rendered[path])
        current = {
            path: _hash(text) for path, text in rendered.items() if path not in renewal.left_alone
        }
        renewed_record = _Record(_installed(), record.name, record.files | current)
        _write(folder / RECORD, _as_json(renewed_record))
    except OSError as error:
        raise SetupError(f"{error.filename} cannot be written: {error.strerror}") from error
    return renewal


def outdated(folder: Path) -> Renewal | None:
    """What :func:`renew` would do; None for a project of this version, or of no ``init`` at all."""
    if not (folder / RECORD).is_file():
        return None
    record = _read(folder)
    renewal = _renewal(folder, record, _rendered(record.name))
    same = renewal.made_by == renewal.installed
    return None if same and not renewal.renewed else renewal


def _renewal(folder: Path, record: _Record, rendered: dict[str, str]) -> Renewal:
    standings = {
        path: _standing(folder / path, record.files.get(path), _hash(text))
        for path, text in rendered.items()
    }
    return Renewal(
        record.made_by,
        _installed(),
        tuple(sorted(path for path, how in standings.items() if how == "renewable")),
        tuple(sorted(path for path, how in standings.items() if how in ("changed", "removed"))),
    )


def _standing(file: Path, written: str | None, newest: str) -> _Standing:
    """How a file stands to the template that it came from."""
    if written == newest:  # whatever its owner made of it since, there is nothing newer
        return "current"
    if not file.exists():
        return "removed" if written else "renewable"
    present = hashlib.sha256(file.read_bytes()).hexdigest()
    if present == newest:
        return "current"
    return "renewable" if present == written else "changed"


# Templates ----------------------------------------------------------------------------------------


def _rendered(name: str) -> dict[str, str]:
    """Path in the project to text, of every file."""
    values = {"@NAME@": name, "@VERSION@": _installed()}
    rendered = {}
    for path, file in _templates(files("nightshift.project") / "template"):
        text = file.read_text("utf-8")
        for mark, value in values.items():
            text = text.replace(mark, value)
        rendered[path] = text
    return rendered


def _templates(folder: Traversable, below: str = "") -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            if entry.name != "__pycache__":
                yield from _templates(entry, f"{below}{entry.name}/")
        else:  # names that begin with a dot are left out of packages
            yield below + re.sub(r"^dot\.", ".", entry.name), entry


def _name_of(folder: Path) -> str:
    """The project's name, from its folder's: it names an image as well."""
    return re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-") or "nightshift"


def _installed() -> str:
    return version("nightshift")


# Files --------------------------------------------------------------------------------------------


def _require_empty(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise SetupError(f"{folder} is a file; name a folder for the project")
    try:
        inside = sorted(entry.name for entry in folder.iterdir() if entry.name not in _TOLERATED)
    except OSError as error:
        raise SetupError(f"{folder} cannot be read: {error.strerror}") from error
    if RECORD in inside:
        raise SetupError(
            f"{folder} holds a project already; after an upgrade, renew it:"
            f" nightshift init {folder} --renew"
        )
    if inside:
        raise SetupError(
            f"{folder} is not empty: {inside[0]} is in it"
            f"{f', and {len(inside) - 1} more' if len(inside) > 1 else ''};"
            " name a folder that is empty or not there"
        )


def _write(file: Path, text: str) -> None:
    """Whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(file)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _as_json(record: _Record) -> str:
    fields = {"nightshift": record.made_by, "name": record.name, "files": record.files}
    return json.dumps(fields, indent=2, sort_keys=True) + "\n"


def _read(folder: Path) -> _Record:
    file = folder / RECORD
    try:
        read: Any = json.loads(file.read_text("utf-8"))
        return _Record(str(read["nightshift"]), str(read["name"]), dict(read["files"]))
    except FileNotFoundError:
        raise ConfigError(
            f"{folder.absolute()} was not made by nightshift init: it has no {RECORD};"
            " nothing was touched"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{file} cannot be read ({error}); take it back from version control"
        ) from error
