"""What is done with a version that exists: made again, or exported."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from nightshift import registry, training
from nightshift.data import Transaction, connect
from nightshift.errors import (
    RegistryError,
)
from nightshift.records import Version
from nightshift.site import Site
from nightshift.steps.frame import _cutoff, _registry, _store


def reproduce(site: Site, model_id: int, number: int | None = None) -> training.Reproduction:
    """Train a version again from its manifest and hold it against what is stored.

    Parameters
    ----------
    number
        Of the version; the latest by default.

    Raises
    ------
    RegistryError
        There is no such version.
    """
    database = connect(site.database_url)
    with database.transaction() as tx:
        version = _numbered(tx, model_id, number)
        went_on = version.manifest.get("base")
        base = registry.version(tx, went_on["version_id"]) if went_on else None
    versions, family = _registry(site), site.family(version.model.family)
    before = versions.load(base) if base else None
    kept = _store(site).has(version.artifact_hash, "joblib")
    loaded = versions.load(version) if kept else None
    return training.reproduce(
        database, _store(site), family, version, loaded, before, versions.code(version)
    )


def export_onnx(
    site: Site, model_id: int, file: Path, *, now: datetime, number: int | None = None
) -> training.Parity:
    """Write a version as ONNX, and compare it with the pipeline on its holdout."""
    database = connect(site.database_url)
    with database.transaction() as tx:
        version = _numbered(tx, model_id, number)
    family, loaded = site.family(version.model.family), _registry(site).load(version)
    start, end = map(datetime.fromisoformat, version.manifest["holdout"])
    later = [training.Span(start, end)]
    rows = training.labelled_rows(database, _store(site), family, later, _cutoff(version), now=now)
    return training.export(loaded, rows.of(family, version.model), file)


def _numbered(tx: Transaction, model_id: int, number: int | None) -> Version:
    found = tx.maybe("training.numbered", model_id=model_id, number=number)
    if found is None:
        model = registry.model_of(tx, model_id)
        which = "version" if number is None else f"version {number}"
        raise RegistryError(f"{model.family}: there is no {which} of {model.name}")
    return registry.version(tx, found.version_id)
