"""Snapshot and champion in, prediction rows out: a batch that nobody sees yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from nightshift import artifacts, registry, tables
from nightshift.artifacts import LoadedVersion
from nightshift.data import Database, Store, Transaction, query_text
from nightshift.errors import ScoringError
from nightshift.failpoints import reach
from nightshift.family import ModelFamily
from nightshift.night import parts, snapshots
from nightshift.night.plans import Plan, Share
from nightshift.night.scoring import ROWS, PartScorer
from nightshift.night.serving import MemberRows, Serving
from nightshift.records import READERS, SHADOW, Batch, Snapshot, Version
from nightshift.tables import Sameness
from nightshift.wording import count, listed, moment

NAMED = 3
"""How many versions a sentence names; the others are counted."""


@dataclass(frozen=True)
class Replay:
    """A published night that was scored again, beside what readers see of it.

    ``refused`` are the versions that could not score again, each with its reason; ``causes`` what
    is not as it was when versions were trained: libraries, by version.
    """

    family: str
    as_of: datetime
    batch_id: int
    snapshot: str
    same: bool
    sameness: Sameness
    refused: tuple[str, ...]
    causes: tuple[str, ...]
    sentence: str


@dataclass(frozen=True)
class Roster:
    """A frozen night, the members in it (see :func:`seen`), and who scores whom."""

    snapshot: Snapshot
    members: Mapping[str | None, MemberRows]
    serving: Serving

    @property
    def served(self) -> bool:
        """Whether anybody scores any of its rows."""
        return any(self.serving.of(member) for member in self.members)

    @property
    def identity(self) -> dict[str, Any]:
        """What tells whether a batch is the same as another."""
        scorers = map(self.serving.of, self.members)
        return {
            "family": self.snapshot.family,
            "as_of": self.snapshot.as_of,
            "snapshot_id": self.snapshot.snapshot_id,
            "version_ids": sorted({scorer.version_id for scorer in scorers if scorer}),
        }

    def plan(self, share: Share) -> Plan:
        """What becomes of the rows of a share."""
        return Plan.of(share, self.members, self.serving)


def score(
    database: Database,
    store: Store,
    family: ModelFamily,
    night: Roster,
    load: Callable[[Version], LoadedVersion],
    *,
    now: datetime,
) -> int:
    """Write a batch that nobody sees yet; its id.

    A night that is published already with this snapshot and these versions is not scored again:
    the published batch's id is returned. Otherwise it is one part, see :func:`write_part`.

    Parameters
    ----------
    load
        Opens a version, see :meth:`nightshift.registry.Registry.load`.
    """
    with database.transaction() as tx:
        parts.prepare(tx, family, night.snapshot)
        same = tx.maybe("scoring.same_published_batch", **night.identity)
        if same is not None:
            published: int = same.batch_id
            return published
        batch_id = parts.start(tx, night.identity, [night.plan(Share(tuple(night.members)))], now)
    write_part(parts.PartBook(database, family, night.snapshot, batch_id, 0), store, load, now=now)
    return batch_id


def begin(
    database: Database,
    family: ModelFamily,
    night: Roster,
    shares: Iterable[Share],
    *,
    since: datetime,
    now: datetime,
) -> tuple[int, list[int]] | None:
    """Begin a batch in several parts; its id and the numbers of its parts.

    Who scores what is fixed from here on. A batch of the same snapshot and versions that was begun
    after ``since`` and not ended is gone on with, so only what is missing of it is written; unless
    a version has failed in it, which is then tried again.

    Returns
    -------
    None
        Where the night is published already with this snapshot and these versions.
    """
    with database.transaction() as tx:
        parts.prepare(tx, family, night.snapshot)
        if tx.maybe("scoring.same_published_batch", **night.identity) is not None:
            return None
        begun = tx.maybe("scoring.same_begun_batch", **night.identity, since=since)
        if begun is not None:
            batch_id: int = begun.batch_id
        else:
            batch_id = parts.start(tx, night.identity, map(night.plan, shares), now)
        return batch_id, [row.part for row in tx.rows("scoring.parts", batch_id=batch_id)]


def write_part(
    book: parts.PartBook,
    store: Store,
    load: Callable[[Version], LoadedVersion],
    *,
    now: datetime,
) -> None:
    """Write one part of a batch, as far as it is not written; with the last one it is complete.

    The rows of a part and the note that it is written are one transaction: of two who write the
    same part one is undone. Rows that nobody can score are counted and left out.

    A version that cannot be opened or fails is recorded and counted, and none of its rows are kept
    in any part; the others are not held up, and scoring the night again tries it again. Where every
    one has failed, the batch is abandoned and the first error is raised. What fails whole leaves a
    batch that is never published and whose rows are purged later.

    Challengers in shadow score the same rows once those of the champions are written. One that
    fails is recorded, and none of its rows are kept. Whether a night is scored again does not
    depend on them.
    """
    with book.database.transaction() as tx:
        row = tx.one("scoring.part", batch_id=book.batch_id, part=book.part)
        parts.refuse_abandoned(book.family, book.snapshot, book.batch_id, row)
        plan = Plan.parse(row.plan)
        versions = registry.versions(tx, plan.version_ids)
    scorer = PartScorer(store, book.family, book.snapshot, load, book.batch_id, plan, versions)
    failed: Mapping[int, Exception] = {}
    if row.written_at is None:
        failed = _write(scorer, book, READERS, now)
        reach("scoring.copied")
    book.finish(failed, now)
    reach("scoring.finished")
    if plan.scored(SHADOW):
        failed = _write(scorer, book, SHADOW, now) if row.shadows_at is None else {}
        book.finish_shadows(failed, now)


def replay(
    database: Database,
    store: Store,
    family: ModelFamily,
    published: Batch,
    load: Callable[[Version], LoadedVersion],
) -> Replay:
    """Score a published night again as it was scored, and hold it against what readers see.

    The same snapshot, whose bytes are verified, the same versions with the code that they carry,
    the plan that was made then. Nothing is written down. Keys and scores of a night are in memory.

    Raises
    ------
    ScoringError
        The night was scored before plans were kept.
    RowsRetired
        Its rows were dropped.
    """
    with database.transaction() as tx:
        tx.require_rows(family.family, published.as_of - timedelta(microseconds=1), published.as_of)
        snapshot = snapshots.snapshot(tx, published.snapshot_id)
        plans = _plans_then(tx, published)
        versions = registry.versions(
            tx, {work.version_id for plan in plans for work in plan.work if work.version_id}
        )
    scorers = [
        PartScorer(
            store, family, snapshot, load, published.batch_id, plan, versions, form=_as_they_are
        )
        for plan in plans
    ]
    again, errors = _scored_again(scorers)
    question = {"batch_id": published.batch_id, "as_of": published.as_of}
    with database.bulk() as bulk:
        then = bulk.read(query_text("scoring.replayed_rows"), question)
    held, refused = tables.sameness(then, again), tuple(map(str, errors.values()))
    causes = _causes(versions.values(), family)
    return Replay(
        family=family.family,
        as_of=published.as_of,
        batch_id=published.batch_id,
        snapshot=snapshot.content_hash,
        same=held.whole and not refused,
        sameness=held,
        refused=refused,
        causes=causes,
        sentence=_said(f"{family.family} {moment(published.as_of)}", held, refused, causes),
    )


def _plans_then(tx: Transaction, published: Batch) -> list[Plan]:
    """Who scored what of a batch, without the versions that failed at it."""
    rows = tx.rows("scoring.replayed_parts", batch_id=published.batch_id)
    if not rows:
        raise ScoringError(
            f"{published.family}: batch {published.batch_id} was scored by a release that kept no"
            " plan of who scores what; it cannot be replayed"
        )
    failed = {int(number) for row in rows for number in row.failed}
    return [Plan.parse(row.plan).without(failed) for row in rows]


def _scored_again(scorers: Iterable[PartScorer]) -> tuple[pa.Table, dict[int, Exception]]:
    """The rows of versions that can score, and why the others cannot."""
    errors: dict[int, Exception] = {}
    again: list[pa.RecordBatch] = []
    for scorer in scorers:
        for scored_rows in scorer.scored(READERS):
            again += scored_rows.surviving(errors)
    kept = [rows for rows in again if rows["version_id"][0].as_py() not in errors]
    return pa.Table.from_batches(kept, ROWS), errors


def _causes(versions: Iterable[Version], family: ModelFamily) -> tuple[str, ...]:
    """What is not as it was when versions were trained, each once with those that it is about."""
    about: dict[str, list[str]] = {}
    for version in versions:
        for library in artifacts.differences(version.manifest, family.libraries):
            named = f"version {version.number} of {version.model.name}"
            about.setdefault(str(library), []).append(named)
    return tuple(f"{listed(of, NAMED)} was trained with {what}" for what, of in about.items())


def _said(night: str, held: Sameness, refused: Sequence[str], causes: Sequence[str]) -> str:
    """What differs, and why, as far as anybody can tell."""
    if held.whole and not refused:
        return f"{night}: {count(held.rows, 'row')} scored again, every bit as published"
    parts = [
        f"{number:,} {what}"
        for number, what in (
            (held.moved, f"with another score (by at most {held.largest:.3g})"),
            (held.labels, "with another label"),
            (held.others, "with other flags or of another version"),
            (held.missing, "were not scored again"),
            (held.extra, "were scored that were not published"),
        )
        if number
    ]
    differences = f"{night}: of {count(held.rows, 'row')}, {listed(parts)}" if parts else night
    reasons = [*refused, *causes] or [
        "snapshot, versions, code and libraries are those of then: either rows were changed after"
        " they were published, or this machine computes otherwise"
    ]
    return f"{differences}. {'. '.join(reasons)}"


def _as_they_are(rows: pa.RecordBatch) -> pa.RecordBatch:
    return rows


def _write(
    scorer: PartScorer, book: parts.PartBook, role: int, now: datetime
) -> dict[int, Exception]:
    """Write the rows of a role, unless somebody else has by then; which versions failed."""
    failed: dict[int, Exception] = {}
    written = 0
    with suppress(parts.Superseded), book.database.transaction() as tx:
        for scored_rows in scorer.scored(role):
            rows = scored_rows.surviving(failed)
            if rows:
                written += tx.copy("nightshift.prediction_rows", ROWS.names, rows)
                reach("scoring.copying")
        book.claim(tx, role, written, failed, now)
    return failed
