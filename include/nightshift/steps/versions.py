"""What is done with a version that exists: made again, or exported."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from nightshift import registry, training
from nightshift.data import connect
from nightshift.site import Site
from nightshift.steps.frame import cutoff_of, registry_of, store_of


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
    database, store = connect(site.database_url), store_of(site)
    with database.transaction() as tx:
        version = registry.numbered_version(tx, model_id, number)
        went_on = version.manifest.base
        base = registry.version(tx, went_on.version_id) if went_on else None
    versions, family = registry_of(site), site.family(version.model.family)
    before = versions.load(base) if base else None
    in_store = store.has(version.artifact_hash, "joblib")
    loaded = versions.load(version) if in_store else None
    return training.reproduce(
        database, store, family, version, loaded, before, versions.code(version)
    )


def export_onnx(
    site: Site, model_id: int, file: Path, *, now: datetime, number: int | None = None
) -> training.Parity:
    """Write a version as ONNX, and compare it with the pipeline on its holdout."""
    database = connect(site.database_url)
    with database.transaction() as tx:
        version = registry.numbered_version(tx, model_id, number)
    family, loaded = site.family(version.model.family), registry_of(site).load(version)
    start, end = version.manifest.holdout
    rows = training.labelled_rows(
        database, store_of(site), family, [training.Span(start, end)], cutoff_of(version), now=now
    )
    return training.export(loaded, rows.of(family, version.model), file)
