"""Nights as rows of Iceberg tables, each night one commit; pyiceberg is imported nowhere else."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.errors import SetupError, StorageError, StorageUnavailable, extra_missing

NAMESPACE = "nightshift"


def commit(
    catalog_name: str, family: str, as_of: datetime, file: Path, about: Mapping[str, str]
) -> None:
    """Replace the rows of a night in the table of a family by those of a Parquet file, at once.

    The catalog is one that pyiceberg's own settings name (``PYICEBERG_CATALOG__<NAME>__URI``, or
    ``.pyiceberg.yaml``). The table is made where there is none, and gets columns that it lacks.

    Raises
    ------
    SetupError
        pyiceberg is not installed, or knows no such catalog.
    StorageError
        The catalog refused; nothing of this night was changed.
    StorageUnavailable
        It cannot be reached, or somebody else has committed meanwhile: worth another try.
    """
    try:
        from pyiceberg.exceptions import CommitFailedException, ServiceUnavailableError
    except ImportError as error:
        raise extra_missing(
            "lake.iceberg in include/nightshift.yaml", error.name, "iceberg"
        ) from error
    table_name = f"{NAMESPACE}.predictions_{family}"
    what = f"the Iceberg table {table_name} in the catalog {catalog_name!r}"
    catalog = _catalog(catalog_name)
    try:
        parquet = pq.ParquetFile(file)
        schema = parquet.schema_arrow.remove_metadata()
        catalog.create_namespace_if_not_exists(NAMESPACE)
        table = catalog.create_table_if_not_exists(table_name, schema=schema)
        with warnings.catch_warnings(), table.transaction() as changes:
            warnings.simplefilter("ignore", UserWarning)  # that a new night replaces nothing
            with changes.update_schema() as columns:
                columns.union_by_name(schema)
            changes.overwrite(
                pa.RecordBatchReader.from_batches(
                    schema, (batch.replace_schema_metadata() for batch in parquet.iter_batches())
                ),
                overwrite_filter=f"as_of == '{as_of.isoformat()}'",
                snapshot_properties=dict(about),
            )
    except (CommitFailedException, ServiceUnavailableError, ConnectionError) as error:
        raise StorageUnavailable(
            f"{what} could not be committed to now: {error}. Run the step again"
        ) from error
    except Exception as error:  # a catalog is anybody's server
        raise StorageError(f"{what} refused: {type(error).__name__}: {error}") from error


def _catalog(name: str) -> Any:
    from pyiceberg.catalog import load_catalog

    try:
        return load_catalog(name)
    except Exception as error:  # its settings may be wrong in any way
        raise SetupError(
            f"lake.iceberg in include/nightshift.yaml names the catalog {name!r}, which pyiceberg"
            f" cannot open: {error}. Its settings are read from"
            f" PYICEBERG_CATALOG__{name.upper()}__URI and the like, or from .pyiceberg.yaml"
        ) from error
