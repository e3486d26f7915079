"""The DAG ``score``: a night is frozen, judged, scored, published, and watched."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from nightshift import fleet, monitoring, registry, sources
from nightshift.data import ROW_GROUP, connect
from nightshift.errors import (
    SnapshotRejected,
)
from nightshift.family import ModelFamily
from nightshift.night import Answer, Record, answer, begin, get, split, table, write_part
from nightshift.night import contract as night_contract
from nightshift.night import cut as night_cut
from nightshift.night import freeze as night_freeze
from nightshift.night import lacking as night_lacking
from nightshift.night import publish as night_publish
from nightshift.night import score as night_score
from nightshift.night import seen as night_seen
from nightshift.night import validate as night_validate
from nightshift.site import Site
from nightshift.steps.frame import UNSEEN_GRACE, _audited, _registry, _source, _store


def freeze(
    site: Site, family_name: str, as_of: datetime, *, now: datetime, renew: bool = False
) -> int:
    """Freeze the rows of a night; the snapshot's id."""
    family = site.family(family_name)
    with _audited(site, family_name, as_of, now) as database:
        source = _source(site, family)
        snapshot = night_freeze(
            database, _store(site), source, family, as_of,
            names=sources.names_of(database, family, site.keys, now=now),
            now=now, chunk_rows=site.settings.chunk_rows, renew=renew,
        )  # fmt: skip
        return snapshot.snapshot_id


def validate(site: Site, snapshot_id: int, *, now: datetime) -> int:
    """Judge a snapshot; the validation's id. Raises SnapshotRejected."""
    database = connect(site.database_url)
    with database.transaction() as tx:
        snapshot = get(tx, snapshot_id)
    with _audited(site, snapshot.family, snapshot.as_of, now):
        family = site.family(snapshot.family)
        return night_validate(
            database, _store(site), family, snapshot,
            now=now, chunk_rows=site.settings.chunk_rows,
        )  # fmt: skip


def score(site: Site, snapshot_id: int, *, now: datetime) -> int:
    """Score a snapshot with the champions of its ``as_of``; the id of a batch nobody sees yet.

    Members that are seen for the first time become models of the family.
    """
    database = connect(site.database_url)
    with database.transaction() as tx:
        snapshot = get(tx, snapshot_id)
    with _audited(site, snapshot.family, snapshot.as_of, now):
        family = site.family(snapshot.family)
        found = night_seen(_store(site), family, snapshot)
        with database.transaction() as tx:
            serving = fleet.serving(tx, family, snapshot.as_of, found, now=now)
            if found and not any(serving.of(member) for member in found):
                raise registry.no_champion(tx, family, snapshot.as_of)
        return night_score(
            database, _store(site), family, snapshot, found, serving, _registry(site).load,
            now=now, chunk_rows=site.settings.chunk_rows,
        )  # fmt: skip


def share_out(site: Site, snapshot_id: int, *, now: datetime) -> list[dict[str, int]]:
    """Cut a night into what each task scores; the arguments of :func:`score_share`, task by task.

    A night that one task can score is left to it whole. Of others the batch begins here; where one
    was begun before and not ended, it is gone on with.
    """
    database = connect(site.database_url)
    with database.transaction() as tx:
        snapshot = get(tx, snapshot_id)
    whole = [{"snapshot_id": snapshot_id}]
    with _audited(site, snapshot.family, snapshot.as_of, now):
        family = site.family(snapshot.family)
        found = night_seen(_store(site), family, snapshot)
        cut = night_cut(
            {member: seen.rows for member, seen in found.items()},
            row_groups=-(-snapshot.row_count // ROW_GROUP),
            max_tasks=family.scoring.max_tasks,
            rows_per_task=family.scoring.rows_per_task,
        )
        if len(cut) == 1:
            return whole
        with database.transaction() as tx:
            serving = fleet.serving(tx, family, snapshot.as_of, found, now=now)
        if not any(serving.of(member) for member in found):
            return whole
        begun = begin(
            database, family, snapshot, found, serving, cut, since=now - UNSEEN_GRACE / 2, now=now
        )
    if begun is None:
        return whole
    batch_id, parts = begun
    return [{"snapshot_id": snapshot_id, "batch_id": batch_id, "part": part} for part in parts]


def score_share(
    site: Site,
    snapshot_id: int,
    batch_id: int | None = None,
    part: int | None = None,
    *,
    now: datetime,
) -> int:
    """Score what :func:`share_out` gave to one task; the id of the batch that it belongs to."""
    if batch_id is None or part is None:
        return score(site, snapshot_id, now=now)
    database = connect(site.database_url)
    with database.transaction() as tx:
        snapshot = get(tx, snapshot_id)
    with _audited(site, snapshot.family, snapshot.as_of, now):
        family, load = site.family(snapshot.family), _registry(site).load
        write_part(
            database, _store(site), family, snapshot, batch_id, part, load,
            now=now, chunk_rows=site.settings.chunk_rows,
        )  # fmt: skip
    return batch_id


def score_rows(
    site: Site, family_name: str, records: Sequence[Record], *, by: str, now: datetime
) -> list[Answer]:
    """Score rows that somebody posts with the champions of ``now``, in the order of the rows.

    Who asked, for how many rows, and which versions answered is in the audit trail before the
    answer leaves; the rows themselves are not.

    Raises
    ------
    RowsRefused
        The rows are not what the family scores; nothing is recorded.
    NoChampion
        Nobody serves any of the rows.
    """
    family = site.family(family_name)
    given = table(records, family)
    with _audited(site, family_name, now, now) as database:
        # Named as in a snapshot, they come in its order, by which some estimators' last bits go.
        rows = sources.names_of(database, family, site.keys, now=now).in_column(given)
        with database.transaction() as tx:
            found = split(rows, family)
            serving = fleet.asked(tx, family, found, now)
            if not any(serving.of(member) for member in found):
                raise registry.no_champion(tx, family, now)
        answers = answer(rows, family, serving, _registry(site).load)
        versions = {one.scorer.model.name: one.scorer.number for one in answers if one.scorer}
        entities = given["entity_id"].to_pylist()
        answers = [replace(a, entity_id=e) for a, e in zip(answers, entities, strict=True)]
        with database.transaction() as tx:
            tx.record(
                "scored_on_demand", now=now, family=family_name, by=by, rows=len(answers),
                skipped_rows=sum(one.scorer is None for one in answers),
                versions=versions,
            )  # fmt: skip
    return answers


def publish(site: Site, batch_id: int, *, now: datetime) -> dict[str, Any]:
    """Show a batch to readers.

    Returns
    -------
    dict
        ``batch_id`` (of the batch that readers see now), ``family``, ``as_of`` (ISO 8601),
        ``rows``, ``versions`` (numbers), ``contract`` (the version of what readers rely on).
    """
    database = connect(site.database_url)
    with database.transaction() as tx:
        night = tx.one("scoring.get", batch_id=batch_id)
    with _audited(site, night.family, night.as_of, now):
        shown = night_publish(database, batch_id, now=now)
        with database.transaction() as tx:
            numbers = [row.number for row in tx.rows("scoring.versions", batch_id=shown.batch_id)]
            contract = night_contract(tx)
    return {
        "batch_id": shown.batch_id,
        "family": shown.family,
        "as_of": shown.as_of.isoformat(),
        "rows": shown.row_count,
        "versions": numbers,
        "contract": contract,
    }


def watch(site: Site, batch_id: int, *, now: datetime) -> int:
    """Hold a published night against what training saw; how many signals were stored."""
    database = connect(site.database_url)
    with database.transaction() as tx:
        night = tx.one("scoring.get", batch_id=batch_id)
    with _audited(site, night.family, night.as_of, now):
        family = site.family(night.family)
        with database.transaction() as tx:
            models = fleet.models(tx, family, night.as_of, now=now)
            champions = registry.champions(tx, family.family, night.as_of)
        return monitoring.watch(
            database, _store(site), family, models, champions, batch_id, night.as_of, now=now
        )


def missing_nights(
    site: Site, family: ModelFamily, start: datetime, end: datetime
) -> list[datetime]:
    """The ticks of ``schedule.score`` in (start, end] whose rows a training cannot use yet.

    No snapshot was taken there, or validation rejected it, or it lacks a column that the family
    declares now.
    """
    with connect(site.database_url).transaction() as tx:
        rows = tx.rows("snapshots.nights", family=family.family, start=start, end=end)
    store = _store(site)
    usable = {
        row.as_of
        for row in rows
        if row.verdict != "rejected"
        and not night_lacking(store, family, row.content_hash, row.query_hash)
    }
    return [night for night in family.ticks(start, end) if night not in usable]


def judge_again(
    site: Site, family: ModelFamily, start: datetime, end: datetime, *, now: datetime
) -> None:
    """Judge the rejected snapshots in (start, end] again: the rules may have been mended."""
    with connect(site.database_url).transaction() as tx:
        rows = tx.rows("snapshots.nights", family=family.family, start=start, end=end)
    for row in rows:
        if row.verdict == "rejected":
            with suppress(SnapshotRejected):
                validate(site, row.snapshot_id, now=now)


def prepare_night(site: Site, family_name: str, night: datetime, *, now: datetime) -> bool:
    """Freeze and validate one night for a training; False where validation rejected it.

    A night whose snapshot lacks a column that the family declares now is frozen again.
    """
    snapshot_id = freeze(site, family_name, night, now=now, renew=True)
    try:
        validate(site, snapshot_id, now=now)
    except SnapshotRejected:
        return False
    return True
