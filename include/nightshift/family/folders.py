"""Families read from their folders, and where an installation keeps its things.

Parsing DAGs imports this module, so it opens no connection and imports nothing heavy.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from nightshift.errors import ConfigError
from nightshift.family.family import ModelFamily
from nightshift.family.wording import Problem, problems_of, read_yaml


def family_folders(models: Path) -> list[Path]:
    """Every folder that should hold a family, in alphabetical order.

    Raises
    ------
    ConfigError
        There is no such folder: an address that is wrong is no project without families.
    """
    if not models.is_dir():
        raise ConfigError(
            f"there is no folder {models}, where families should be. Make it: mkdir -p {models};"
            " or name another with NIGHTSHIFT_HOME or NIGHTSHIFT_MODELS; or begin a project:"
            " nightshift init shop"
        )
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
    family_or_problems = _unchanged_family(folder, _files_of(folder))
    if isinstance(family_or_problems, ModelFamily):
        return family_or_problems
    raise ConfigError("\n".join(map(str, family_or_problems)))


def load_families(models: Path) -> tuple[list[ModelFamily], list[Problem]]:
    """Read every family below ``models``; a broken folder is a problem, never an exception.

    Airflow may parse several files in one process: a folder that did not change is read once.
    """
    families, problems = [], []
    for folder in family_folders(models):
        family_or_problems = _unchanged_family(folder, _files_of(folder))
        if isinstance(family_or_problems, ModelFamily):
            families.append(family_or_problems)
        else:
            problems.extend(family_or_problems)
    return families, problems


def words_of(models: Path) -> dict[str, str]:
    """How families say the figures of their metrics, where they say and can be read."""
    try:
        families, _ = load_families(models)
    except ConfigError:
        return {}
    own = {family.family: family.performance.say_as for family in families}
    return {name: say_as for name, say_as in own.items() if say_as}


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
    raw = read_yaml(file)
    if isinstance(raw, Problem):
        return [*missing, raw]
    try:
        family = ModelFamily.model_validate(raw, context={"folder": folder})
    except ValidationError as error:
        return [*missing, *problems_of(file, ModelFamily, raw, error)]
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
