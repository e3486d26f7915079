"""What champions are made of that is not so any more: code in the folder, libraries under them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nightshift import artifacts
from nightshift.data import Transaction
from nightshift.errors import ConfigError


def outdated(tx: Transaction, models: Path, family: str | None = None) -> dict[str, list[str]]:
    """What differs between the champions of each family and what is there now, by family.

    Parameters
    ----------
    models
        The folder that holds the families' folders.
    """
    by_family: dict[str, list[str]] = {}
    for row in tx.rows("reports.ingredients", family=family, model_id=None):
        by_family.setdefault(row.family, []).extend(_sentences(row, models / row.family))
    return {name: sorted(set(sentences)) for name, sentences in by_family.items() if sentences}


def outdated_champion(tx: Transaction, models: Path, model_id: int) -> list[str]:
    """The same for the champion of one model."""
    rows = tx.rows("reports.ingredients", family=None, model_id=model_id)
    return [sentence for row in rows for sentence in _sentences(row, models / row.family)]


def _sentences(row: Any, folder: Path) -> Iterator[str]:
    manifest = {"code": {"files": row.files}, "libraries": row.libraries, "python": row.python}
    try:
        changed = artifacts.code_changes(folder, manifest)
    except ConfigError as error:
        changed = str(error)
    if changed:
        yield f"{changed}, and waits for a training: what serves runs the code it was trained with"
    for library in artifacts.differences(manifest, artifacts.rules_of(folder)):
        verdict = (
            "so it is not opened: train it anew" if library.refused else "which the file allows"
        )
        yield f"a champion was trained with {library}, {verdict} (libraries)"
