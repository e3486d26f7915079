"""The book of a batch: which of its parts are written, which versions failed, when it is whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nightshift import artifacts, registry
from nightshift.data import Database, Transaction, as_json
from nightshift.errors import RowsRetired, ScoringError
from nightshift.family import ModelFamily
from nightshift.night.plans import Plan
from nightshift.records import READERS, SHADOW, Snapshot
from nightshift.wording import moment


class Superseded(Exception):
    """Another task has written the same part, or the batch was given up: this try is undone."""


def prepare(tx: Transaction, family: ModelFamily, snapshot: Snapshot) -> None:
    """Refuse what must not be scored; have a place for its rows, and a view for their readers."""
    refuse_unvalidated(tx, family, snapshot)
    if not tx.one("scoring.open_month", as_of=snapshot.as_of).open:
        raise RowsRetired(
            f"{family.family}: predictions of {snapshot.as_of:%B %Y} were retired, because"
            " keep_predictions in include/nightshift.yaml has passed; a night of that month is not"
            " scored again"
        )
    tx.rows("scoring.show_family", family=family.family, task=family.task)


def refuse_unvalidated(tx: Transaction, family: ModelFamily, snapshot: Snapshot) -> None:
    judged = tx.maybe("validation.latest", snapshot_id=snapshot.snapshot_id)
    verdict = judged.verdict if judged else None
    if verdict not in ("passed", "warned"):
        raise ScoringError(
            f"{family.family}: the snapshot of {moment(snapshot.as_of)} is"
            f" {verdict or 'not validated'}; only one that passed is scored"
        )


def refuse_abandoned(family: ModelFamily, snapshot: Snapshot, batch_id: int, batch: Any) -> None:
    if batch.state == "abandoned" or batch.purged_at is not None:
        raise ScoringError(
            f"{family.family}: batch {batch_id} of {moment(snapshot.as_of)} was given up;"
            " clear the task before this one, which begins another"
        )


def start(tx: Transaction, night: Mapping[str, Any], plans: Iterable[Plan], now: datetime) -> int:
    """Write a new batch and its parts into the book; its id."""
    batch_id: int = tx.one("scoring.start", **night, started_at=now).batch_id
    for part, plan in enumerate(plans):
        tx.run("scoring.add_part", batch_id=batch_id, part=part, plan=plan.as_json())
    return batch_id


@dataclass(frozen=True)
class PartBook:
    """What is written down about one part of a batch."""

    database: Database
    family: ModelFamily
    snapshot: Snapshot
    batch_id: int
    part: int

    def finish(self, errors: Mapping[int, Exception], now: datetime) -> None:
        """End the batch if this was its last part; give it up if every version has failed.

        Parameters
        ----------
        errors
            Of the versions that have failed in this part just now, the first of them first.
        """
        with self.database.transaction() as tx:
            batch = tx.one("scoring.lock", batch_id=self.batch_id)
            parts = tx.rows("scoring.parts", batch_id=self.batch_id)
            failed = {int(number): why for row in parts for number, why in row.failed.items()}
            hopeless = bool(failed) and set(failed) >= set(batch.version_ids)
            if hopeless:
                tx.run("scoring.abandon", batch_id=self.batch_id)
            elif batch.state == "writing" and all(row.written_at for row in parts):
                self._end(tx, sum(row.row_count for row in parts), failed, now)
        if hopeless and errors:
            raise next(iter(errors.values()))
        if hopeless:
            raise ScoringError(f"{self.family.family}: no version could score: {failed}")
        refuse_abandoned(self.family, self.snapshot, self.batch_id, batch)

    def finish_shadows(self, errors: Mapping[int, Exception], now: datetime) -> None:
        """Leave no row of a challenger that has failed in any part that is written by now."""
        with self.database.transaction() as tx:
            parts = tx.rows("scoring.parts", batch_id=self.batch_id)
            self._delete(
                tx, {int(number) for row in parts for number in row.failed_shadows}, SHADOW
            )
            self._record(tx, "shadow_failed", _reasons(errors), now)

    def _end(self, tx: Transaction, written: int, failed: Mapping[int, str], now: datetime) -> None:
        plans = [Plan.parse(row.plan) for row in tx.rows("scoring.plans", batch_id=self.batch_id)]
        # Of a member that is cut into pieces, the first tells.
        work = [work for plan in plans if plan.piece == 0 for work in plan.work]
        models = [member for member in work if member.model_id is not None]
        tx.run(
            "scoring.record_models",
            batch_id=self.batch_id,
            model_ids=[member.model_id for member in models],
            version_ids=[
                None if member.version_id in failed else member.version_id for member in models
            ],
            row_counts=[member.rows for member in models],
        )
        self._record(tx, "model_failed", failed, now)
        scorers = {member.version_id for member in work if member.version_id is not None}
        self._record_differing_libraries(tx, scorers - failed.keys(), now)
        tx.run(
            "scoring.finish",
            batch_id=self.batch_id,
            row_count=written - self._delete(tx, failed, READERS),
            skipped_rows=sum(member.rows for member in work if member.version_id is None),
            failed_rows=sum(member.rows for member in work if member.version_id in failed),
            written_at=now,
        )

    def _record_differing_libraries(
        self, tx: Transaction, scorers: set[int], now: datetime
    ) -> None:
        """Say what the versions that score were trained with, where something else is there now."""
        versions = registry.versions(tx, scorers).values()
        differs = Counter(
            str(library)
            for version in versions
            for library in artifacts.differences(version.manifest, self.family.libraries)
        )
        if differs:
            parts = [
                f"{count} of {len(versions)} with {difference}"
                for difference, count in differs.items()
            ]
            tx.record(
                "other_libraries",
                now=now,
                family=self.family.family,
                as_of=self.snapshot.as_of,
                batch_id=self.batch_id,
                reason=f"versions that score were trained {', '.join(sorted(parts))}",
            )

    def _record(self, tx: Transaction, code: str, failed: Mapping[int, str], now: datetime) -> None:
        versions = registry.versions(tx, failed)
        for version_id, reason in failed.items():
            tx.record(
                code,
                now=now,
                family=self.family.family,
                as_of=self.snapshot.as_of,
                model=versions[version_id].model.name,
                version=versions[version_id].number,
                batch_id=self.batch_id,
                reason=reason,
            )

    def _delete(self, tx: Transaction, version_ids: Collection[int], role: int) -> int:
        if not version_ids:
            return 0
        return tx.run(
            "scoring.delete_failed",
            batch_id=self.batch_id,
            as_of=self.snapshot.as_of,
            version_ids=list(version_ids),
            role=role,
        )

    def claim(
        self,
        tx: Transaction,
        role: int,
        written: int,
        failed: Mapping[int, Exception],
        now: datetime,
    ) -> None:
        """Note that the part is written in a role; raises Superseded where somebody else has."""
        claimed = tx.run(
            "scoring.claim_part" if role == READERS else "scoring.claim_shadows",
            batch_id=self.batch_id,
            part=self.part,
            moment=now,
            row_count=written,
            failed=as_json(_reasons(failed)),
        )
        if not claimed:
            raise Superseded


def _reasons(errors: Mapping[int, Exception]) -> dict[int, str]:
    return {number: f"{type(error).__name__}: {error}" for number, error in errors.items()}
