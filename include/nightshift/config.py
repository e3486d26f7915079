"""Families read from their folders, and where an installation keeps its things.

Parsing DAGs imports this module, so it opens no connection and imports nothing heavy.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError

from nightshift.family import FAMILY_NAME, PATTERNS, Duration, ModelFamily, Section
from nightshift.records import ConfigError, SetupError


class _Yaml(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """libyaml where it is there. Only true and false are booleans: ``on`` is a key, NO a name.

    A key that is written twice is refused: YAML would let the last one win.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is written twice", key.start_mark
                )
            seen.add(key.value)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


_BOOLEAN = "tag:yaml.org,2002:bool"
_Yaml.yaml_implicit_resolvers = {
    first: [resolver for resolver in resolvers if resolver[0] != _BOOLEAN]
    for first, resolvers in _Yaml.yaml_implicit_resolvers.items()
}
_Yaml.add_implicit_resolver(
    _BOOLEAN, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in one file, as ``nightshift check`` prints it."""

    file: Path
    key: str
    message: str

    def __str__(self) -> str:
        return (
            f"{self.file}: {self.key}: {self.message}"
            if self.key
            else f"{self.file}: {self.message}"
        )


@dataclass(frozen=True)
class Site:
    """Where one installation keeps its things.

    Parameters
    ----------
    home
        The checkout: ``include/models``, ``sql`` and ``dags`` are below it.
    state
        What this installation writes: the store, the keys, the logs.
    models
        The folder of families.
    database_url
        The ``nightshift`` database, as a SQLAlchemy URL for psycopg2.
    sources
        Connection name to SQLAlchemy URL, one for each source that families read.
    store_at, keys_at
        Where several machines share them: see ``store`` and ``keys``.
    """

    home: Path
    state: Path
    models: Path
    database_url: str
    sources: Mapping[str, str]
    store_at: str | None = None
    keys_at: Path | None = None

    @property
    def store(self) -> str:
        """Where snapshots and artifacts are: a folder, or ``s3://bucket/prefix``."""
        return self.store_at or str(self.state / "store")

    @property
    def keys(self) -> Path:
        """The folder of the key that signs artifacts."""
        return self.keys_at or self.state / "keys"

    @property
    def settings(self) -> Settings:
        """What holds for all families: ``include/nightshift.yaml``, or its defaults."""
        return load_settings(self.home)

    def family(self, name: str) -> ModelFamily:
        """The family of this name, or a ConfigError that says which there are."""
        if not FAMILY_NAME.fullmatch(name) or not (self.models / name).is_dir():
            known = [folder.name for folder in family_folders(self.models)]
            raise ConfigError(
                f"there is no family {name!r} in {self.models}{nearest(name, known)};"
                f" families: {', '.join(known) or 'none'}"
            )
        return load_family(self.models / name)


class Settings(Section):
    """``include/nightshift.yaml``: what holds for all families together.

    ``retrains_per_night``: at most so many retrains are called for in 24 hours by measurements and
    calendars of all families; the worst models first, the others are deferred to the next night.

    ``keep_predictions``: months of predictions that ended so long ago are dropped, of all families
    at once, as far as no family still needs them; by default they are kept for ever.

    ``chunk_rows``: about so many rows of a night are held in memory at once, however many it has.
    """

    retrains_per_night: Annotated[int, Field(ge=0)] = 50
    keep_predictions: Duration | None = None
    chunk_rows: Annotated[int, Field(ge=1_000)] = 262_144


def load_settings(home: Path) -> Settings:
    """The settings of a checkout; without the file, the defaults.

    Raises
    ------
    ConfigError
        With every problem of the file, one a line.
    """
    file = home / "include" / "nightshift.yaml"
    if not file.is_file():
        return Settings()
    raw = _read_yaml(file)
    if isinstance(raw, Problem):
        raise ConfigError(str(raw))
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        raise ConfigError("\n".join(map(str, _problems(file, Settings, raw, error)))) from error


def models_folder(home: Path) -> Path:
    """Where families live: ``NIGHTSHIFT_MODELS``, or ``include/models`` in the checkout."""
    return Path(os.environ.get("NIGHTSHIFT_MODELS") or home / "include" / "models")


def shared_places() -> dict[str, Any]:
    """``NIGHTSHIFT_STORE`` and ``NIGHTSHIFT_KEYS``, as arguments of :class:`Site`.

    Raises
    ------
    SetupError
        One is a relative path, which would be another folder for every process.
    """
    keys = _whole_path("NIGHTSHIFT_KEYS")
    return {"store_at": _whole_path("NIGHTSHIFT_STORE"), "keys_at": Path(keys) if keys else None}


def _whole_path(variable: str) -> str | None:
    given = os.environ.get(variable)
    if given and "://" not in given and not Path(given).is_absolute():
        raise SetupError(f"{variable} is {given!r}; write a path from the root: /srv/{given}")
    return given or None


def default_home() -> Path:
    """The checkout: ``NIGHTSHIFT_HOME``, or the folder this package was installed from."""
    return Path(os.environ.get("NIGHTSHIFT_HOME") or Path(__file__).resolve().parents[2])


def family_folders(models: Path) -> list[Path]:
    """Every folder that should hold a family, in alphabetical order."""
    if not models.is_dir():
        return []
    return sorted(
        entry for entry in models.iterdir() if entry.is_dir() and entry.name[0] not in "._"
    )


def load_family(folder: Path) -> ModelFamily:
    """Read one family; a folder that did not change is read once.

    Raises
    ------
    ConfigError
        With every problem of the folder, one a line.
    """
    found = _unchanged_family(folder, _files_of(folder))
    if isinstance(found, ModelFamily):
        return found
    raise ConfigError("\n".join(map(str, found)))


def load_families(models: Path) -> tuple[list[ModelFamily], list[Problem]]:
    """Read every family below ``models``; a broken folder is a problem, never an exception.

    Airflow may parse several files in one process: a folder that did not change is read once.
    """
    families, problems = [], []
    for folder in family_folders(models):
        found = _unchanged_family(folder, _files_of(folder))
        if isinstance(found, ModelFamily):
            families.append(found)
        else:
            problems.extend(found)
    return families, problems


def _files_of(folder: Path) -> frozenset[tuple[str, int, int]]:
    """Each file's name, size and time of change: what differs when somebody has edited one."""
    if not folder.is_dir():
        return frozenset()
    stats = ((entry.name, entry.stat()) for entry in os.scandir(folder))
    return frozenset((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


@lru_cache(maxsize=4096)
def _unchanged_family(
    folder: Path, files: frozenset[tuple[str, int, int]]
) -> ModelFamily | list[Problem]:
    return _read_family(folder)


def _read_family(folder: Path) -> ModelFamily | list[Problem]:
    file = folder / "model.yaml"
    missing = [
        Problem(
            folder / name, "", "is missing; every family has model.yaml, features.sql, labels.sql"
        )
        for name in ("model.yaml", "features.sql", "labels.sql")
        if not (folder / name).is_file()
    ]
    if not file.is_file():
        return missing
    raw = _read_yaml(file)
    if isinstance(raw, Problem):
        return [*missing, raw]
    try:
        family = ModelFamily.model_validate(raw, context={"folder": folder})
    except ValidationError as error:
        return [*missing, *_problems(file, ModelFamily, raw, error)]
    problems = [*missing, *_folder_problems(family, file)]
    return problems or family


def _folder_problems(family: ModelFamily, file: Path) -> Iterable[Problem]:
    folder = family.folder
    if folder.name != family.family:
        yield Problem(
            file, "family", f"is {family.family!r}, but the folder is named {folder.name!r}"
        )
    module = family.estimator.build.split(".")[0]
    if not (folder / f"{module}.py").is_file():
        yield Problem(file, "estimator.build", f"names {module}.py, which is not in {folder}")
    for query in (folder / "features.sql", folder / "labels.sql"):
        if query.is_file() and b":as_of" not in query.read_bytes():
            yield Problem(
                query, "", "never uses :as_of: a query must know the moment it is asked about"
            )


def _read_yaml(file: Path) -> dict[str, Any] | Problem:
    """What a file says; an empty one, or one of comments only, says nothing."""
    try:
        raw = yaml.load(file.read_text(), _Yaml)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2026-13-01, no UTF-8
        return Problem(file, "", f"is not readable YAML: {_one_line(error)}")
    if not isinstance(raw, dict | None):
        return Problem(file, "", "holds a list or a single value, not keys and values")
    return raw or {}


def _problems(
    file: Path, section: type[BaseModel], raw: dict[str, Any], error: ValidationError
) -> list[Problem]:
    """One problem for each place.

    Where a value may have several forms, pydantic tells why it is none of them: of keys and values
    what is wrong inside is told, of another value what each form asks for, joined.
    """
    told: dict[tuple[int | str, ...], list[Any]] = {}
    for item in error.errors():
        told.setdefault(_place(raw, item), []).append(item)
    return [
        Problem(file, ".".join(map(str, place)), _told(section, place, items))
        for place, items in told.items()
        if not any(other[: len(place)] == place for other in told if len(other) > len(place))
    ]


def _place(raw: Any, error: Any) -> tuple[int | str, ...]:
    """Where in the file an error is; pydantic also names the forms that a value may have."""
    place: list[int | str] = []
    for part in error["loc"]:
        if isinstance(raw, dict):
            inside = part in raw
        else:
            inside = isinstance(raw, list) and isinstance(part, int)
        if inside:
            raw = raw[part]
            place.append(part)
    if error["type"] == "missing":
        place.append(error["loc"][-1])
    return tuple(place)


def _told(section: type[BaseModel], place: tuple[int | str, ...], errors: list[Any]) -> str:
    said = "; or ".join(dict.fromkeys(_message(section, place, error) for error in errors))
    found, kind = errors[0]["input"], errors[0]["type"]
    if not place or kind in ("missing", "extra_forbidden") or isinstance(found, dict):
        return said
    return f"found {_found(found)}: {said}"


def _message(section: type[BaseModel], place: tuple[int | str, ...], error: Any) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        accepted = _accepted_keys(section, place[:-1])
        return f"unknown key{nearest(str(place[-1]), accepted)}; accepted: {', '.join(accepted)}"
    if kind == "model_type":
        return f"write keys and values (accepted: {', '.join(_accepted_keys(section, place))})"
    if kind == "string_pattern_mismatch":
        return PATTERNS[error["ctx"]["pattern"]]
    message: str = _WORDS.get(kind) or error["msg"].removeprefix("Value error, ")
    return message.replace("Input should be", "must be")


_WORDS = {
    "missing": "is missing",
    "model_attributes_type": "write keys and values",
    "dict_type": "write keys and values",
    "list_type": "write a list, even of one: [a]",
    "float_type": "write a number",
    "float_parsing": "write a number",
    "int_type": "write a whole number",
    "int_parsing": "write a whole number",
    "int_from_float": "write a whole number",
    "bool_type": "write true or false",
    "bool_parsing": "write true or false",
    "string_type": "write text; a number that is meant as text stands in quotes",
    "time_delta_parsing": "write an ISO 8601 duration such as P7D or PT6H",
}
"""pydantic's errors in the words of a file's author."""


def _accepted_keys(section: type[BaseModel], place: Iterable[int | str]) -> list[str]:
    for part in place:
        field = section.model_fields.get(str(part))
        if field is None:  # a key of the user's own, such as the name of a group
            continue
        choices = [field.annotation, *get_args(field.annotation)]
        found = [c for c in choices if isinstance(c, type) and issubclass(c, BaseModel)]
        section = found[0] if found else section
    return list(section.model_fields)


def _found(value: object) -> str:
    """A value as its author wrote it."""
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def nearest(name: str, accepted: Iterable[str]) -> str:
    """A hint at what was meant by an unknown name; empty where nothing is near."""
    close = difflib.get_close_matches(name, list(accepted), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).replace(' in "<unicode string>",', " at").split())
