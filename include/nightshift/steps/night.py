"""The DAG ``score``: a night is frozen, judged, scored, published, and watched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from nightshift import exports, fleet, monitoring, night, registry
from nightshift.data import ROW_GROUP, Transaction, connect
from nightshift.errors import ConfigError, SnapshotRejected
from nightshift.records import Snapshot
from nightshift.site import Site
from nightshift.steps.frame import UNSEEN_GRACE, Frame, audited, registry_of, store_of

STRETCH = 28
"""How many nights are frozen before they are judged together."""


def freeze(
    site: Site, family_name: str, as_of: datetime, *, now: datetime, renew: bool = False
) -> int:
    """Freeze the rows of a night; the snapshot's id."""
    with audited(site, family_name, as_of, now) as frame:
        return _frozen(frame, renew=renew).snapshot_id


def _frozen(frame: Frame, *, renew: bool) -> Snapshot:
    return night.freeze(
        frame.database,
        frame.store,
        night.Origin(frame.source, frame.names),
        frame.family,
        frame.as_of,
        now=frame.now,
        renew=renew,
    )


def validate(site: Site, snapshot_id: int, *, now: datetime) -> int:
    """Judge a snapshot; the validation's id. Raises SnapshotRejected."""
    with _about_snapshot(site, snapshot_id, now) as (frame, snapshot):
        return night.validate(frame.database, frame.store, frame.family, snapshot, now=now)


def score(site: Site, snapshot_id: int, *, now: datetime) -> int:
    """Score a snapshot with the champions of its ``as_of``; the id of a batch nobody sees yet.

    Members that are seen for the first time become models of the family.
    """
    with _about_snapshot(site, snapshot_id, now) as (frame, snapshot):
        members = night.members_in(frame.store, frame.family, snapshot)
        with frame.database.transaction() as tx:
            roster = _roster(tx, frame, snapshot, members)
            if members and not roster.served:
                raise registry.no_champion(tx, frame.family, snapshot.as_of)
        return night.score(
            frame.database, frame.store, frame.family, roster, frame.registry.load, now=now
        )


def share_out(site: Site, snapshot_id: int, *, now: datetime) -> list[dict[str, int]]:
    """Cut a night into what each task scores; the arguments of :func:`score_share`, task by task.

    A night that one task can score is left to it whole. Of others the batch begins here; where one
    was begun before and not ended, it is gone on with.
    """
    whole = [{"snapshot_id": snapshot_id}]
    with _about_snapshot(site, snapshot_id, now) as (frame, snapshot):
        family, members = frame.family, night.members_in(frame.store, frame.family, snapshot)
        cut = night.cut(
            {member: own.rows for member, own in members.items()},
            row_groups=-(-snapshot.row_count // ROW_GROUP),
            max_tasks=family.scoring.max_tasks,
            rows_per_task=family.scoring.rows_per_task,
        )
        if len(cut) == 1:
            return whole
        with frame.database.transaction() as tx:
            roster = _roster(tx, frame, snapshot, members)
        if not roster.served:
            return whole
        since = now - UNSEEN_GRACE / 2
        begun = night.begin(frame.database, family, roster, cut, since=since, now=now)
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
    with _about_snapshot(site, snapshot_id, now) as (frame, snapshot):
        book = night.PartBook(frame.database, frame.family, snapshot, batch_id, part)
        night.write_part(book, frame.store, frame.registry.load, now=now)
    return batch_id


def score_rows(
    site: Site, family_name: str, records: Sequence[night.Record], *, by: str, now: datetime
) -> list[night.Answer]:
    """Score rows that somebody posts with the champions of ``now``, in the order of the rows.

    Who asks, for how many rows, and which versions answered is in the audit trail before the
    answer leaves; the rows themselves are not.

    Raises
    ------
    RowsRefused
        The rows are not what the family scores; nothing is recorded.
    NoChampion
        Nobody serves any of the rows.
    """
    posted = night.table(records, site.family(family_name))
    with audited(site, family_name, now, now) as frame:
        family = frame.family
        # Named as in a snapshot, they come in its order, by which some estimators' last bits go.
        rows = frame.names.in_column(posted)
        with frame.database.transaction() as tx:
            members = night.split(rows, family)
            serving = fleet.posted_serving(tx, family, members, now)
            if not any(serving.of(member) for member in members):
                raise registry.no_champion(tx, family, now)
        answers = night.answer(rows, family, serving, frame.registry.load)
        scorers = [answer.scorer for answer in answers if answer.scorer is not None]
        entities = posted["entity_id"].to_pylist()
        answers = [replace(a, entity_id=e) for a, e in zip(answers, entities, strict=True)]
        with frame.database.transaction() as tx:
            tx.record(
                "scored_on_demand",
                now=now,
                family=family_name,
                by=by,
                rows=len(answers),
                skipped_rows=len(answers) - len(scorers),
                versions={scorer.model.name: scorer.number for scorer in scorers},
            )
    return answers


def publish(site: Site, batch_id: int, *, now: datetime) -> dict[str, Any]:
    """Show a batch to readers.

    Returns
    -------
    dict
        ``batch_id`` (of the batch that readers see now), ``family``, ``as_of`` (ISO 8601),
        ``rows``, ``versions`` (numbers), ``contract`` (the version of what readers rely on).
    """
    with _about_batch(site, batch_id, now) as frame:
        batch = night.publish(frame.database, batch_id, now=now)
        with frame.database.transaction() as tx:
            return {
                "batch_id": batch.batch_id,
                "family": batch.family,
                "as_of": batch.as_of.isoformat(),
                "rows": batch.row_count,
                "versions": night.version_numbers(tx, batch.batch_id),
                "contract": night.contract(tx),
            }


def export(site: Site, family_name: str, as_of: datetime, *, now: datetime) -> int:
    """Write the published night of a family into the lake that the settings name; how many rows.

    Raises ConfigError where they name none for this family.
    """
    with audited(site, family_name, as_of, now) as frame:
        lake = frame.settings.lake_of(family_name)
        if lake is None:
            raise ConfigError(
                f"{family_name}: {site.home / 'include' / 'nightshift.yaml'} names no lake for this"
                " family; write lake.url there"
            )
        return exports.export(frame.database, lake, frame.family, as_of, now=now)


def published(site: Site, family_name: str, since: datetime, until: datetime) -> list[datetime]:
    """The nights of a family in [since, until] that readers see, oldest first."""
    site.require(family_name)
    with connect(site.database_url).transaction() as tx:
        return exports.nights(tx, family_name, since, until)


def replay(site: Site, family_name: str, as_of: datetime) -> night.Replay:
    """Score a published night again and hold it against what readers see; nothing is stored.

    Raises
    ------
    ScoringError
        Nothing was published of that night.
    """
    family, database = site.family(family_name), connect(site.database_url)
    with database.transaction() as tx:
        published_batch = night.batch_shown(tx, family_name, as_of)
    load = registry_of(site).load
    return night.replay(database, store_of(site), family, published_batch, load)


def watch(site: Site, batch_id: int, *, now: datetime) -> int:
    """Hold a published night against what training saw; how many signals were stored."""
    with _about_batch(site, batch_id, now) as frame:
        family, as_of = frame.family, frame.as_of
        with frame.database.transaction() as tx:
            models = fleet.models(tx, family, as_of, now=now)
            champions = registry.champions(tx, family.family, as_of)
        return monitoring.watch(
            frame.database, frame.store, family, models, champions, batch_id, as_of, now=now
        )


def judge_again(frame: Frame, start: datetime, end: datetime) -> None:
    """Judge the rejected snapshots in (start, end] again: the rules may have been mended."""
    with frame.database.transaction() as tx:
        nights = night.frozen_nights(tx, frame.store, frame.family, start, end)
    for frozen in nights:
        if frozen.rejected:
            with suppress(SnapshotRejected):
                validate(frame.site, frozen.snapshot_id, now=frame.now)


def prepare_nights(
    site: Site,
    family_name: str,
    nights: Sequence[tuple[datetime, datetime]],
    *,
    progress: Callable[[datetime], None] = lambda night: None,
) -> list[datetime]:
    """Freeze and validate nights, each with the moment at which it is done; those rejected.

    What validation rejects is in the audit trail, and no reason to stop. A night whose snapshot
    lacks a column that the family declares now is frozen again.
    """
    rejected = []
    for start in range(0, len(nights), STRETCH):
        some = nights[start : start + STRETCH]
        frozen = []
        for as_of, now in some:
            with audited(site, family_name, as_of, now) as frame:
                frozen.append((_frozen(frame, renew=True), now))
        with audited(site, family_name, *some[-1]) as frame:
            judged = night.validate_each(frame.database, frame.store, frame.family, frozen)
        moments = dict(some)
        for each in judged:
            if each.refusal is not None:
                as_of = each.snapshot.as_of
                rejected.append(as_of)
                with (
                    suppress(SnapshotRejected),
                    audited(site, family_name, as_of, moments[as_of]),
                ):
                    raise SnapshotRejected(each.refusal)
        for as_of in moments:
            progress(as_of)
    return rejected


@contextmanager
def _about_snapshot(
    site: Site, snapshot_id: int, now: datetime
) -> Iterator[tuple[Frame, Snapshot]]:
    """The frame of a step about a snapshot."""
    with connect(site.database_url).transaction() as tx:
        snapshot = night.snapshot(tx, snapshot_id)
    with audited(site, snapshot.family, snapshot.as_of, now) as frame:
        yield frame, snapshot


@contextmanager
def _about_batch(site: Site, batch_id: int, now: datetime) -> Iterator[Frame]:
    """The frame of a step about a batch."""
    with connect(site.database_url).transaction() as tx:
        family_name, as_of = night.batch_night(tx, batch_id)
    with audited(site, family_name, as_of, now) as frame:
        yield frame


def _roster(
    tx: Transaction,
    frame: Frame,
    snapshot: Snapshot,
    members: Mapping[str | None, night.MemberRows],
) -> night.Roster:
    """The members of a snapshot and who scores whom; new ones become models of the family."""
    serving = fleet.serving(tx, frame.family, snapshot.as_of, members, now=frame.now)
    return night.Roster(snapshot, members, serving)
