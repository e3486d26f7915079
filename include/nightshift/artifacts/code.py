"""The Python of a family's folder as a version keeps it: opened under a name of its own.

Two versions with different code live in one process, and no process uses code of before: a package
is named by the hash of its files. Inside it a module is imported as from a script that lies beside
it (``from helpers import Clip``), or relatively (``from .helpers import Clip``).
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from cloudpickle import register_pickle_by_value

from nightshift.errors import FOREIGN, ConfigError
from nightshift.wording import moment

PREFIX = "nightshift_family_"
"""How the names of modules begin that are made of a family's folder."""


@dataclass(frozen=True)
class Code:
    """The Python files of a family's folder, by their names below it, as they were at one moment.

    ``folder`` is where they were read from, or belong: modules tell it in ``__file__``.
    """

    folder: Path
    files: Mapping[str, bytes]

    @staticmethod
    def of(folder: Path) -> Code:
        """What is in a folder now; hidden files and caches are left out."""
        try:
            return Code(folder, {name: (folder / name).read_bytes() for name in _names(folder)})
        except OSError as error:
            raise ConfigError(f"{folder.name}: its code cannot be read: {error}") from error

    @staticmethod
    def stored(data: bytes, folder: Path) -> Code:
        """What :attr:`data` was made of."""
        files = json.loads(data)
        return Code(
            folder, {name: text.encode("utf-8", "surrogateescape") for name, text in files.items()}
        )

    @cached_property
    def data(self) -> bytes:
        """All of it as bytes: the same for the same files, wherever they lie."""
        texts = {name: data.decode("utf-8", "surrogateescape") for name, data in self.files.items()}
        return json.dumps(texts, sort_keys=True).encode()

    @cached_property
    def hash(self) -> str:
        """The SHA-256 of :attr:`data`, by which a store has it."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def record(self) -> dict[str, Any]:
        """What a manifest says of it: ``archive``, and the hash of each of ``files``."""
        hashes = {name: hashlib.sha256(self.files[name]).hexdigest() for name in sorted(self.files)}
        return {"archive": self.hash, "files": hashes}

    @property
    def package(self) -> str:
        """The name under which it is imported."""
        return f"{PREFIX}{re.sub(r'[^A-Za-z0-9_]', '_', self.folder.name)}_{self.hash[:16]}"

    def module(self, name: str) -> ModuleType:
        """One of its modules.

        Raises
        ------
        ConfigError
            There is no such file, or it cannot be imported.
        """
        self.enter()
        file = self.folder / f"{name}.py"
        if f"{name}.py" not in self.files:
            raise ConfigError(
                f"{self.folder.name}: {file} cannot be imported: there is no such file"
            )
        try:
            return importlib.import_module(f"{self.package}.{name}")
        except FOREIGN as error:  # importing runs whatever stands in the file
            cause = f"{type(error).__name__}: {error}".replace(f"{self.package}.", "")
            raise ConfigError(f"{self.folder.name}: {file} cannot be imported: {cause}") from error

    def enter(self) -> None:
        """Let its modules be found by their names, as an artifact names them."""
        if _FINDER not in sys.meta_path:
            sys.meta_path.append(_FINDER)
        entered = _FINDER.packages.get(self.package)
        if entered is None or entered.folder != self.folder:
            # The same files in another place are other modules: they tell it in __file__.
            _FINDER.packages[self.package] = self
            for name in [*sys.modules]:
                if name.partition(".")[0] == self.package:
                    del sys.modules[name]
            # joblib's processes do not find them by name: they are sent along.
            register_pickle_by_value(importlib.import_module(self.package))

    def file_of(self, inner: str) -> str | None:
        """The file of a module inside; None where it is a folder without ``__init__.py``.

        Raises
        ------
        KeyError
            There is no such module.
        """
        path = inner.replace(".", "/")
        for name in (f"{path}/__init__.py".lstrip("/"), f"{path}.py"):
            if name in self.files:
                return name
        if inner and not any(name.startswith(f"{path}/") for name in self.files):
            raise KeyError(inner)
        return None

    @cached_property
    def modules(self) -> frozenset[str]:
        """What can be imported from its top."""
        return frozenset(PurePosixPath(name).parts[0].removesuffix(".py") for name in self.files)

    @cached_property
    def builtins(self) -> dict[str, Any]:
        """What its modules have built in: an ``import`` that looks beside the file first."""

        def import_(
            name: str,
            namespace: Mapping[str, object] | None = None,
            local: Mapping[str, object] | None = None,
            fromlist: Sequence[str] | None = (),
            level: int = 0,
        ) -> ModuleType:
            top = name.partition(".")[0]
            if level or top not in self.modules:
                return builtins.__import__(name, namespace, local, fromlist or (), level)
            inside = f"{self.package}.{name}"
            if fromlist:
                return builtins.__import__(inside, namespace, local, fromlist, 0)
            importlib.import_module(inside)
            return sys.modules[f"{self.package}.{top}"]

        return {**vars(builtins), "__import__": import_}


@dataclass(frozen=True)
class LegacyCode:
    """A folder as it is now, under the names by which versions know it that carry no code."""

    folder: Path

    @property
    def record(self) -> dict[str, Any]:
        """What a manifest says of it: nothing, for it may be other files tomorrow."""
        return {}

    def module(self, name: str) -> ModuleType:
        """One of its modules, made anew.

        Raises
        ------
        ConfigError
            The file is missing, or cannot be imported.
        """
        file = self.folder / f"{name}.py"
        qualified = f"{PREFIX}{self.folder.name}_{name}"
        spec = importlib.util.spec_from_file_location(qualified, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[qualified] = module
        try:
            spec.loader.exec_module(module)
        except FOREIGN as error:  # importing runs whatever stands in the file
            cause = f"{type(error).__name__}: {error}"
            raise ConfigError(f"{self.folder.name}: {file} cannot be imported: {cause}") from error
        return module


def code_changes(folder: Path, manifest: Mapping[str, Any]) -> str | None:
    """How the Python of a folder differs from what a version carries, in a few words.

    Returns
    -------
    str or None
        Such as ``estimator.py changed on 2026-11-03 09:12Z, helpers.py is new``; None where nothing
        differs, where there is no such folder, or where the version carries no code.
    """
    before = manifest.get("code", {}).get("files")
    if before is None or not folder.is_dir():
        return None
    now = Code.of(folder).record["files"]
    changes = [
        f"{name} {'changed' if name in before else 'came'} on {_changed_at(folder / name)}"
        for name in now
        if now[name] != before.get(name)
    ]
    changes += [f"{name} is gone" for name in before if name not in now]
    return ", ".join(changes) or None


def _names(folder: Path) -> list[str]:
    relative = (file.relative_to(folder) for file in folder.rglob("*.py") if file.is_file())
    return sorted(
        name.as_posix()
        for name in relative
        if not any(part[0] == "." or part == "__pycache__" for part in name.parts)
    )


def _changed_at(file: Path) -> str:
    return moment(datetime.fromtimestamp(file.stat().st_mtime, UTC))


class _Loader(InspectLoader):
    def __init__(self, code: Code, name: str | None) -> None:
        self._code = code
        self._name = name

    def get_source(self, fullname: str) -> str:
        data = self._code.files[self._name] if self._name else b""
        return importlib.util.decode_source(data)

    def exec_module(self, module: ModuleType) -> None:
        namespace = vars(module)
        namespace["__builtins__"] = self._code.builtins
        if self._name is not None:
            source = self._code.files[self._name]
            exec(compile(source, self._file_name(source), "exec", dont_inherit=True), namespace)  # noqa: S102

    def _file_name(self, source: bytes) -> str:
        """The file that a traceback names; another name where the file says something else now."""
        file = self._code.folder / str(self._name)
        same = file.is_file() and file.read_bytes() == source
        return str(file) if same else f"<{self._name} of {self._code.package}>"


class _Finder(MetaPathFinder):
    """Finds the modules of every code that was entered in this process."""

    def __init__(self) -> None:
        self.packages: dict[str, Code] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, inner = fullname.partition(".")
        code = self.packages.get(package)
        if code is None:
            return None
        try:
            name = code.file_of(inner)
        except KeyError:
            return None
        is_package = name is None or PurePosixPath(name).name == "__init__.py"
        origin = str(code.folder / name) if name else None
        spec = ModuleSpec(fullname, _Loader(code, name), origin=origin, is_package=is_package)
        spec.has_location = origin is not None
        return spec


_FINDER = _Finder()
