"""Snapshot and champion in, prediction rows out: a batch that nobody sees yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nightshift import registry
from nightshift.artifacts import LoadedVersion
from nightshift.data import Database, Store
from nightshift.failpoints import reach
from nightshift.family import ModelFamily
from nightshift.night import parts
from nightshift.night.plans import Plan, Share
from nightshift.night.scoring import ROWS, PartScorer
from nightshift.night.serving import MemberRows, Serving
from nightshift.records import READERS, SHADOW, Snapshot, Version


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
