"""A published night becomes one Parquet file, and rows of an Iceberg table where one is named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from nightshift.data import Database, Lake, Transaction
from nightshift.errors import NightshiftError
from nightshift.exports import iceberg
from nightshift.failpoints import reach
from nightshift.family import ModelFamily
from nightshift.site import LakeSettings
from nightshift.wording import moment

# The view's name is checked by the family's own rules, and a moment is ours: no parameter is sent,
# for with one Postgres would send all rows at once.
_ROWS = (
    "select * from public.predictions_{family} where as_of = '{as_of}' order by entity_id, model"
)


def export(
    database: Database,
    settings: LakeSettings,
    family: ModelFamily,
    as_of: datetime,
    *,
    now: datetime,
) -> int:
    """Write the night of a family that readers see into the lake; how many rows.

    The file holds the columns of ``predictions_<family>``, in the order of entities. Where the
    night is published anew meanwhile, it is written anew: when this returns, the lake has what
    readers of Postgres see. Done again, it writes the same.

    Raises
    ------
    NightshiftError
        Nothing was published for this night.
    RowsRetired
        Its rows were dropped.
    """
    shown = _shown(database, family, as_of)
    while True:
        rows = _write(database, settings, family, shown)
        reach("exports.written")
        written, shown = shown, _shown(database, family, as_of)
        if shown.batch_id == written.batch_id:
            break
    with database.transaction() as tx:
        tx.record(
            "exported",
            now=now,
            family=family.family,
            as_of=as_of,
            batch_id=shown.batch_id,
            rows=rows,
            file=f"{settings.url.rstrip('/')}/{_file(family.family, as_of)}",
        )
    return rows


def nights(tx: Transaction, family: str, since: datetime, until: datetime) -> list[datetime]:
    """The published nights of a family in [since, until] whose rows are there, oldest first."""
    return [row.as_of for row in tx.rows("exports.nights", family=family, since=since, until=until)]


def _shown(database: Database, family: ModelFamily, as_of: datetime) -> Any:
    """The batch that readers see of a night."""
    with database.transaction() as tx:
        tx.require_rows(family.family, as_of - timedelta(microseconds=1), as_of)
        row = tx.maybe("exports.shown", family=family.family, as_of=as_of)
    if row is None:
        raise NightshiftError(
            f"{family.family}: nothing is published of {moment(as_of)}, so nothing was written into"
            f" the lake. Score that night first: nightshift score {family.family} --as-of"
            f" {as_of.isoformat()}"
        )
    return row


def _write(database: Database, settings: LakeSettings, family: ModelFamily, shown: Any) -> int:
    about = {
        "nightshift.family": family.family,
        "nightshift.as_of": shown.as_of.isoformat(),
        "nightshift.batch_id": str(shown.batch_id),
        "nightshift.contract": shown.contract,
    }
    statement = _ROWS.format(family=family.family, as_of=shown.as_of.isoformat())
    file = _file(family.family, shown.as_of)
    with (
        database.bulk() as bulk,
        bulk.stream(statement) as (schema, batches),
        Lake(settings.url.rstrip("/")).replaced(file, schema, batches, about) as draft,
    ):
        if settings.iceberg is not None:
            iceberg.commit(settings.iceberg, family.family, shown.as_of, draft, about)
    rows: int = shown.rows
    return rows


def _file(family: str, as_of: datetime) -> str:
    """Where a night is below the lake, in the manner of Hive: engines see family and as_of."""
    night = as_of.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"predictions/family={family}/night={night}/predictions.parquet"
