"""Parquet files under names that say what is in them, for those who do not read Postgres."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.data.places import Use, drafted, full, place_at
from nightshift.tables import chunked

LAKE = Use("the lake", "lake.url in include/nightshift.yaml")

ROW_GROUP = 1_048_576
"""Rows in one row group: as engines that scan whole columns like them."""


@dataclass(frozen=True)
class Lake:
    """Files below a folder or ``s3://bucket/prefix``, each replaced as a whole.

    Raises
    ------
    StorageError
        From every method, where the bucket or the disk refuses.
    StorageUnavailable
        From every method, where object storage cannot be reached: worth another try.
    """

    root: str

    @contextmanager
    def replaced(
        self,
        name: str,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
        about: Mapping[str, str],
    ) -> Iterator[Path]:
        """Write rows as the file of this name, which readers see whole once the block has ended.

        Where the block raises, they see the one before.

        Parameters
        ----------
        about
            What the file says of itself, in Parquet's own metadata.

        Yields
        ------
        Path
            The draft on this machine, for who reads it once more; gone after the block.
        """
        place = place_at(self.root, LAKE)
        described = schema.with_metadata({**(schema.metadata or {}), **about})

        def write(file: BinaryIO) -> None:
            tables = (pa.Table.from_batches([batch], schema) for batch in batches)
            with pq.ParquetWriter(file, described, compression="zstd") as writer:
                for group in chunked(tables, ROW_GROUP):
                    writer.write_table(group.cast(described), row_group_size=ROW_GROUP)

        try:
            with drafted(place, write) as draft:
                yield draft
                place.keep(draft, name)
        except OSError as error:
            raise full(self.root, error) from error
