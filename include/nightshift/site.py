"""Where one installation keeps its things: databases, store, keys, families, and its settings.

Read from the environment and from ``include/nightshift.yaml``, once, at the edge.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from nightshift.errors import ConfigError, SetupError
from nightshift.family import (
    FAMILY_NAME,
    Duration,
    ModelFamily,
    Problem,
    Section,
    family_folders,
    load_family,
    problems_of,
    read_yaml,
)
from nightshift.wording import listed, nearest

CHUNK_ROWS = 262_144
"""About how many rows of a night are held in memory at once, where nothing else is said."""


@dataclass(frozen=True)
class Site:
    """Where one installation keeps its things.

    Parameters
    ----------
    home
        The project: ``include/models``, ``include/nightshift.yaml`` and ``dags`` are below it.
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
    find
        The URL of a connection that is not among ``sources``, wherever Airflow keeps it; raises
        SetupError, which says where was looked.
    """

    home: Path
    state: Path
    models: Path
    database_url: str
    sources: Mapping[str, str]
    store_at: str | None = None
    keys_at: Path | None = None
    find: Callable[[str], str] | None = field(default=None, compare=False, repr=False)

    @property
    def store(self) -> str:
        """Where snapshots and artifacts are: a folder, or ``s3://bucket/prefix``."""
        return self.store_at or str(self.state / "store")

    @property
    def keys(self) -> Path:
        """The folder of the key that signs artifacts."""
        return self.keys_at or self.state / "keys"

    def source(self, name: str) -> str:
        """The URL of the source that a connection leads to, in any case of letters.

        Raises
        ------
        SetupError
            There is no such connection, or it leads to no kind of source.
        """
        for spelling in (name, name.lower()):
            if spelling in self.sources:
                return self.sources[spelling]
        if self.find is None:
            names = listed(sorted(self.sources))
            raise SetupError(f"there is no connection {name!r} (known: {names})")
        return self.find(name)

    @property
    def settings(self) -> Settings:
        """What holds for all families: ``include/nightshift.yaml``, or its defaults."""
        return load_settings(self.home)

    def family(self, name: str) -> ModelFamily:
        """The family of this name, or a ConfigError that says which there are."""
        self.require(name)
        return load_family(self.models / name)

    def require(self, name: str) -> None:
        """Raise a ConfigError, which says which there are, where no family has this name."""
        if not FAMILY_NAME.fullmatch(name) or not (self.models / name).is_dir():
            names = [folder.name for folder in family_folders(self.models)]
            raise ConfigError(
                f"there is no family {name!r} in {self.models}{nearest(name, names)};"
                f" families: {listed(names)}"
            )


class LakeSettings(Section):
    """``lake``: where published nights are written as files too."""

    url: str = Field(
        description="a folder, or `s3://bucket/prefix`, below which each published night is one"
        " Parquet file; it is replaced when the night is published anew"
    )
    families: list[str] | None = Field(
        default=None, description="only these families; null means every one"
    )
    iceberg: str | None = Field(
        default=None,
        description="the name of a catalog of pyiceberg, in which each family is a table"
        " `nightshift.predictions_<family>` as well; null writes files only",
    )


class Settings(Section):
    """``include/nightshift.yaml``: what holds for all families together."""

    retrains_per_night: int = Field(
        default=50,
        ge=0,
        description="how many retrains measurements, calendars and first models of all families"
        " may bring in 24 hours; the worst go first, the others are deferred. `0` brings none. Who"
        " asks by name is not counted",
    )
    keep_predictions: Duration | None = Field(
        default=None,
        description="months of predictions that ended so long ago are dropped, of all families at"
        " once, as far as no family still needs them; null keeps them for ever",
    )
    chunk_rows: int = Field(
        default=CHUNK_ROWS,
        ge=1_000,
        description="about how many rows of a night a task holds in memory at once. Neither a"
        " snapshot nor a verdict depends on it",
    )
    lake: LakeSettings | None = Field(
        default=None, description="where published nights are written as files too; null nowhere"
    )

    def lake_of(self, family: str) -> LakeSettings | None:
        """Where the nights of a family are written as files, if anywhere."""
        lake = self.lake
        wanted = lake is not None and (lake.families is None or family in lake.families)
        return lake if wanted else None


def load_settings(home: Path) -> Settings:
    """The settings of a project; without the file, the defaults.

    Raises
    ------
    ConfigError
        With every problem of the file, one a line.
    """
    file = home / "include" / "nightshift.yaml"
    if not file.is_file():
        return Settings()
    raw = read_yaml(file)
    if isinstance(raw, Problem):
        raise ConfigError(str(raw))
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        raise ConfigError("\n".join(map(str, problems_of(file, Settings, raw, error)))) from error


def models_folder(home: Path) -> Path:
    """Where families live: ``NIGHTSHIFT_MODELS``, or ``include/models`` in the project."""
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
    path = os.environ.get(variable)
    if path and "://" not in path and not Path(path).is_absolute():
        raise SetupError(f"{variable} is {path!r}; write a path from the root: /srv/{path}")
    return path or None


def default_home(*nearby: Path) -> Path:
    """The project: ``NIGHTSHIFT_HOME``, or the nearest folder upward that has ``include/models``.

    Parameters
    ----------
    nearby
        Where to begin looking; last from the current folder.

    Raises
    ------
    SetupError
        There is none.
    """
    if home := os.environ.get("NIGHTSHIFT_HOME"):
        return Path(home)
    for start in (*nearby, Path.cwd()):
        for folder in (start, *start.parents):
            if (folder / "include" / "models").is_dir():
                return folder
    raise SetupError(
        f"no project is here: neither {Path.cwd()} nor a folder above it has include/models."
        " Go to one, name it (NIGHTSHIFT_HOME), or begin one: nightshift init shop"
    )
