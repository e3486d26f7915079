"""The libraries under a version: what was there when it was trained, and what is there now."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from nightshift.errors import ConfigError, LibrariesDiffer
from nightshift.family import LIBRARIES_MAY_DIFFER, MayDiffer, load_family
from nightshift.records import Version

_PLACES: Mapping[MayDiffer, int | None] = {"exact": None, "patch": 2, "minor": 1, "any": 0}
"""How many of a version's numbers must be as they were; None: all of it."""


@dataclass(frozen=True)
class Difference:
    """A library that is another than at a training; ``now`` is None where it is gone."""

    name: str
    then: str
    now: str | None
    may_differ: MayDiffer

    @property
    def refused(self) -> bool:
        """Whether the version must not be opened with it."""
        if self.may_differ == "any":
            return False
        if self.now is None:
            return True
        places = _PLACES[self.may_differ]
        return self.now.split(".")[:places] != self.then.split(".")[:places]

    def __str__(self) -> str:
        return f"{self.name} {self.then}, and {self.now or 'none'} is installed"


def differences(
    manifest: Mapping[str, Any], rules: Mapping[str, MayDiffer] = LIBRARIES_MAY_DIFFER
) -> tuple[Difference, ...]:
    """The libraries of ``rules`` that are others than a manifest names, in order.

    Parameters
    ----------
    rules
        By how much each may differ, see ``libraries`` in model.yaml.
    """
    then = {**manifest.get("libraries", {}), "python": manifest.get("python")}
    return tuple(_differences(then, rules))


def _differences(
    then: Mapping[str, str | None], rules: Mapping[str, MayDiffer]
) -> Iterator[Difference]:
    for name, may_differ in rules.items():
        before = then.get(name)
        if before is not None and _installed(name) != before:
            yield Difference(name, before, _installed(name), may_differ)


def refuse_differing_libraries(version: Version, folder: Path) -> None:
    """Refuse a version whose libraries differ by more than its family allows.

    A family whose folder does not load allows what is allowed by default.

    Raises
    ------
    LibrariesDiffer
        With how to mend it.
    """
    for differs in differences(version.manifest, rules_of(folder)):
        if differs.refused:
            family, name = version.model.family, version.model.name
            raise LibrariesDiffer(
                f"{family}: version {version.number} of {name} was not opened: it was trained with"
                f" {differs}; libraries in model.yaml says {differs.name}:"
                f" {differs.may_differ}. Train it anew (nightshift train {family}), install"
                f" {differs.name} {differs.then} again, or say how far it may differ: libraries:"
                f" {{{differs.name}: {_enough(differs)}}}"
            )


def rules_of(folder: Path) -> Mapping[str, MayDiffer]:
    """By how much each library may differ under versions of a family."""
    try:
        return load_family(folder).libraries
    except ConfigError:
        return LIBRARIES_MAY_DIFFER


def _enough(differs: Difference) -> MayDiffer:
    """The least that lets a library differ as it does."""
    for level in ("patch", "minor"):
        if not Difference(differs.name, differs.then, differs.now, level).refused:
            return level
    return "any"


def _installed(name: str) -> str | None:
    return platform.python_version() if name == "python" else _version(name)


@cache
def _version(name: str) -> str | None:
    try:
        return installed_version(name)
    except PackageNotFoundError:
        return None
