"""The verdict on a snapshot.

Great Expectations passes some things that must not pass: no rows, a column of nulls, an infinity
under a one-sided bound. So a guard battery always runs before the expectations of the family.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from nightshift import tables
from nightshift.data import Database, Store, as_json
from nightshift.errors import SnapshotRejected
from nightshift.family import Expectation, ModelFamily, Problem
from nightshift.records import Check, Snapshot, Verdict
from nightshift.wording import listed, moment

ROW_COUNT = frozenset(f"expect_table_row_count_to_{how}" for how in ("be_between", "equal"))
"""Expectations for which the number of rows is enough."""


TOGETHER = 65_536
"""So many rows of several nights are judged together, at most."""


@dataclass(frozen=True)
class Judged:
    """What came out of judging a snapshot; ``refusal`` says why it was rejected, if it was."""

    snapshot: Snapshot
    validation_id: int
    refusal: str | None = None


def validate(
    database: Database,
    store: Store,
    family: ModelFamily,
    snapshot: Snapshot,
    *,
    now: datetime,
) -> int:
    """Judge a snapshot and store the verdict, check by check; the validation's id.

    A snapshot that was accepted by the same rules is not judged again: its bytes cannot change.

    What is asked about a column as a whole needs that column in memory at once, and no other.

    Raises
    ------
    SnapshotRejected
        A critical check failed. The verdict is stored before it is raised.
    """
    [judged] = validate_each(database, store, family, [(snapshot, now)])
    if judged.refusal is not None:
        raise SnapshotRejected(judged.refusal)
    return judged.validation_id


def validate_each(
    database: Database,
    store: Store,
    family: ModelFamily,
    nights: Sequence[tuple[Snapshot, datetime]],
) -> list[Judged]:
    """Judge snapshots as :func:`validate` judges each, in fewer passes of Great Expectations.

    Parameters
    ----------
    nights
        Snapshots of the family, each with the moment at which it is judged.
    """
    rules = _rules_hash(family)
    with database.transaction() as tx:
        before = {
            snapshot.snapshot_id: tx.maybe("validation.latest", snapshot_id=snapshot.snapshot_id)
            for snapshot, _ in nights
        }
    done = {
        snapshot_id: row.validation_id
        for snapshot_id, row in before.items()
        if row is not None and row.rules_hash == rules and row.verdict != "rejected"
    }
    judged = [Judged(s, done[s.snapshot_id]) for s, _ in nights if s.snapshot_id in done]
    fresh = [(s, now) for s, now in nights if s.snapshot_id not in done]
    for some in _together(fresh):
        checked = checks_of(store, family, [snapshot for snapshot, _ in some])
        for (snapshot, now), checks in zip(some, checked, strict=True):
            judged.append(_stored(database, family, snapshot, rules, checks, now))
    return judged


def _together(
    nights: Sequence[tuple[Snapshot, datetime]],
) -> Iterator[list[tuple[Snapshot, datetime]]]:
    """Nights that are judged together, each lot of no more rows than :data:`TOGETHER`."""
    held: list[tuple[Snapshot, datetime]] = []
    rows = 0
    for snapshot, now in nights:
        if held and rows + snapshot.row_count > TOGETHER:
            yield held
            held, rows = [], 0
        held.append((snapshot, now))
        rows += snapshot.row_count
    if held:
        yield held


def _stored(
    database: Database,
    family: ModelFamily,
    snapshot: Snapshot,
    rules: str,
    checks: list[Check],
    now: datetime,
) -> Judged:
    """A snapshot whose verdict has been stored."""
    verdict = _verdict(checks)
    failed = [check_sentence(family, check) for check in checks if not check.success]
    with database.transaction() as tx:
        validation_id: int = tx.one(
            "validation.store",
            snapshot_id=snapshot.snapshot_id,
            rules_hash=rules,
            verdict=verdict,
            checks=as_json([asdict(check) for check in checks]),
            validated_at=now,
        ).validation_id
        of, as_of = family.family, snapshot.as_of
        if verdict == "warned":
            tx.record("snapshot_warned", now=now, family=of, as_of=as_of, failed=failed)
        if verdict != "rejected" and snapshot.left_out:
            reasons = {fault: faulty["rows"] for fault, faulty in snapshot.left_out.items()}
            tx.record("rows_left_out", now=now, family=of, as_of=as_of, rows=reasons)
    refusal = _rejection(family, snapshot, checks) if verdict == "rejected" else None
    return Judged(snapshot, validation_id, refusal)


def expectation_problems(family: ModelFamily) -> Iterator[Problem]:
    """Expectations that can never run: of unknown names, arguments or columns."""
    file = family.folder / "model.yaml"
    text = family.task == "multiclass_classification"
    lists: tuple[tuple[str, Sequence[Expectation], Sequence[str], Sequence[str]], ...] = (
        ("expectations", family.expectations, family.columns, family.features.numeric),
        ("labels.expectations", family.labels.of_value, ["value"], [] if text else ["value"]),
    )
    for key, expectations, columns, numeric in lists:
        if expectations:  # Great Expectations takes seconds to import
            for position, message in tables.refusals(expectations, columns, numeric):
                yield Problem(file, f"{key}.{position}", message)
    for position, expectation in enumerate(family.labels.expectations):
        if expectation.type not in tables.ROW_BY_ROW:
            key = f"labels.expectations.{position}"
            message = (
                f"{expectation.type} is about a column as a whole or unknown, and each label is"
                " judged by itself; write one such as expect_column_values_to_be_between"
            )
            yield Problem(file, key, message)


def _rejection(family: ModelFamily, snapshot: Snapshot, checks: Sequence[Check]) -> str:
    """Why a night was rejected, and what to mend: the source, model.yaml, or both."""
    failed = [c for c in checks if not c.success and c.severity == "critical"]
    faults = [c for c in failed if c.detail.get("fault")]
    of_rows = [check_sentence(family, c) for c in failed if not c.detail.get("fault")]
    rejected = (
        f"{family.family}: the snapshot of {moment(snapshot.as_of)}"
        f" ({snapshot.row_count} rows) was rejected"
    )
    mend = "run this night again"
    if not faults:
        return (
            f"{rejected}: {'; '.join(of_rows)}. The previous batch is still served."
            f" Mend the source and {mend}"
        )
    wrong = "; ".join(check_sentence(family, c) for c in faults)
    also = f". Of its rows: {'; '.join(of_rows)}. Mend the source as well" if of_rows else ""
    return (
        f"{rejected}, for an expectation of model.yaml cannot run: {wrong}{also}."
        f" The previous batch is still served. Mend model.yaml and {mend}"
    )


def check_sentence(family: ModelFamily, check: Check) -> str:
    """A check that failed, with its place in model.yaml where that is what must be mended."""
    if not check.detail.get("fault"):
        return check.sentence()
    return f"{family.folder / 'model.yaml'}: {check.detail['key']}: {check.sentence()}"


def _rules_hash(family: ModelFamily) -> str:
    judged_by = {"features", "expectations", "allow_empty", "rows"}
    rules = family.model_dump(include=judged_by, mode="json")
    if family.keys:
        rules["keys"] = family.keys
    return hashlib.sha256(as_json(rules).encode()).hexdigest()


def checks_of(
    store: Store, family: ModelFamily, snapshots: Sequence[Snapshot]
) -> list[list[Check]]:
    """What is found out about snapshots while the rows of each pass once."""
    passed = [_Passed.of(store, family, snapshot) for snapshot in snapshots]
    _expect_together([each.expected for each in passed if each.sound])
    return [each.checks(store) for each in passed]


@dataclass
class _Passed:
    """A snapshot whose rows have passed once."""

    snapshot: Snapshot
    guards: list[Check]
    expected: _Expected
    empty: frozenset[str] = frozenset()
    rows: int = 0

    @classmethod
    def of(cls, store: Store, family: ModelFamily, snapshot: Snapshot) -> _Passed:
        """Let the rows of a snapshot pass."""
        schema = store.schema(snapshot.content_hash)
        problems = tables.shape_problems(schema, family.features, family.keys, exact=False)
        columns = _guard("columns", None, not problems, "; ".join(problems) or "as declared")
        expected = _Expected(family, whole=snapshot.row_count <= store.chunk_rows)
        if problems:
            return cls(snapshot, [columns], expected)
        guards = _Guards(family)
        groups = store.stream_table(
            snapshot.content_hash, columns=family.columns, encoded=family.features.categorical
        )
        for chunk in tables.chunked(tables.ahead(groups), store.chunk_rows):
            guards.add(chunk)
            expected.add(chunk)
        checks = [columns, *guards.checks(), *_left_out(family, snapshot)]
        return cls(snapshot, checks, expected, guards.empty, guards.rows)

    @property
    def sound(self) -> bool:
        """Whether it has rows and no guard objects, so that expectations are asked about them."""
        return self.rows > 0 and all(check.success for check in self.guards)

    def checks(self, store: Store) -> list[Check]:
        """What the guards have found, and the expectations of a snapshot that is sound."""
        if not self.sound:
            return self.guards
        return [*self.guards, *self.expected.checks(store, self.snapshot, self.empty)]


def _left_out(family: ModelFamily, snapshot: Snapshot) -> Iterator[Check]:
    """Whether no more rows were left out than model.yaml allows; nothing where none was."""
    count = snapshot.left_out_rows
    if not count:
        return
    rows = snapshot.row_count + count
    reasons = ", ".join(
        f"{faulty['rows']} {fault.replace('_', ' ')} ({', '.join(faulty['examples'])})"
        for fault, faulty in snapshot.left_out.items()
    )
    allowed = not family.rows.too_many(count, rows)
    observed = f"{count} of {rows} rows left out: {reasons}"
    if not allowed:
        observed += f"; rows.leave_out allows {family.rows.leave_out:g}"
    yield _guard("left_out", None, allowed, observed)


@dataclass
class _Guards:
    """What must hold of every snapshot, whatever the family writes: counted as rows pass.

    Rows are ordered by entity_id, so those that repeat one are neighbours.
    """

    family: ModelFamily
    rows: int = 0
    doubled: int = 0
    disordered: int = 0
    nulls: Counter[str] = field(default_factory=Counter)
    infinite: Counter[str] = field(default_factory=Counter)
    last: pa.Table | None = None

    def add(self, chunk: pa.Table) -> None:
        """Count the next rows."""
        self.rows += chunk.num_rows
        for name in self.family.columns:
            self.nulls[name] += chunk[name].null_count
        for name in self.family.features.numeric:
            values = tables.numbers(chunk[name]).drop_null()
            self.infinite[name] += values.length() - (pc.sum(pc.is_finite(values)).as_py() or 0)
        keys = chunk.select(["entity_id"])
        joined = keys if self.last is None else pa.concat_tables([self.last, keys])
        self._compare(joined["entity_id"].combine_chunks().drop_null())
        self.last = keys.slice(keys.num_rows - 1)

    def _compare(self, keys: pa.Array) -> None:
        before, after = keys[:-1], keys[1:]
        self.doubled += pc.sum(pc.equal(before, after)).as_py() or 0
        self.disordered += pc.sum(pc.greater(before, after)).as_py() or 0

    @property
    def empty(self) -> frozenset[str]:
        """Optional columns without any value."""
        return frozenset(n for n in self.family.features.optional if self.nulls[n] == self.rows)

    def checks(self) -> Iterator[Check]:
        """What was found, once all rows have passed."""
        family, rows = self.family, self.rows
        yield _guard("row_count", None, rows > 0 or family.allow_empty, f"{rows} rows")
        for name in ["entity_id", *([family.models.by] if family.models else [])]:
            yield _guard("not_null", name, not self.nulls[name], f"{self.nulls[name]} nulls")
        order = f"{self.doubled} rows repeat an entity_id"
        if self.disordered:
            order = f"{self.disordered} rows come before one that sorts lower, so it is not known"
        yield _guard("unique", "entity_id", not self.doubled and not self.disordered, order)
        for name in family.features.names:
            missing = self.nulls[name]
            some = missing < rows or not rows or name in family.features.optional
            yield _guard("some_values", name, some, f"{missing} of {rows} null")
        for name in family.features.numeric:
            infinite = self.infinite[name]
            yield _guard("finite", name, not infinite, f"{infinite} values are NaN or infinite")


def _guard(name: str, column: str | None, success: bool, observed: str) -> Check:
    return Check(name, column, success, "critical", observed)


@dataclass
class _Expected:
    """The family's expectations, held against rows as they pass where that is exact.

    ``whole``: all rows come at once, are kept, and everything is held against them together with
    those of other nights.
    """

    family: ModelFamily
    whole: bool
    sums: dict[int, tables.Findings] = field(default_factory=dict)
    rows: int = 0
    frame: pd.DataFrame | None = None

    def add(self, chunk: pa.Table) -> None:
        """Hold the next rows against what each row must fulfil by itself; keep a whole night."""
        self.rows += chunk.num_rows
        passing = self.passing
        if not passing:
            return
        if self.whole:
            self.frame = _frame(chunk, self.family, None)
            return
        expectations = list(passing.values())
        frame = _frame(chunk, self.family, _named(expectations))
        self.note(tables.expect(frame, expectations))

    @property
    def passing(self) -> dict[int, Expectation]:
        """What is asked about rows as they pass, by its place in model.yaml."""
        return {n: e for n, e in enumerate(self.family.expectations) if self._passes(e)}

    def note(self, findings: Iterable[tables.Finding]) -> None:
        """Add what was found in the next rows, expectation by expectation that passes."""
        for (number, expectation), finding in zip(self.passing.items(), findings, strict=True):
            self.sums.setdefault(number, tables.Findings(expectation)).add(finding)

    def checks(self, store: Store, snapshot: Snapshot, empty: frozenset[str]) -> Iterator[Check]:
        """What was found once all rows have passed, in the order of model.yaml.

        ``empty`` are columns without a value, which may be so: only nulls can be expected of them.
        """
        for number, expectation in enumerate(self.family.expectations):
            wrong = self._misfit(expectation)
            of_empty = empty.intersection(tables.columns_of(expectation))
            if wrong is not None:
                finding = tables.Finding(False, fault=wrong)
            elif of_empty and not expectation.type.endswith("_null"):
                finding = tables.Finding(True, observed=f"no value of {listed(of_empty)}")
            elif number in self.sums:
                finding = self.sums[number].finding()
            else:
                finding = self._at_once(expectation, store, snapshot)
            yield self._check(number, expectation, finding, ours=wrong is not None)

    def _misfit(self, expectation: Expectation) -> str | None:
        return tables.misfit(expectation, self.family.columns, self.family.features.numeric)

    def _passes(self, expectation: Expectation) -> bool:
        if self._misfit(expectation) is not None:
            return False
        return self.whole or tables.is_of_rows(expectation)

    def _at_once(
        self, expectation: Expectation, store: Store, snapshot: Snapshot
    ) -> tables.Finding:
        if expectation.type in ROW_COUNT:
            frame = pd.DataFrame(index=pd.RangeIndex(self.rows))
        else:
            columns = _named([expectation]) or self.family.columns
            groups = store.stream_table(
                snapshot.content_hash, columns=columns, encoded=self.family.features.categorical
            )
            frame = _frame(pa.concat_tables(groups), self.family, columns)
        [finding] = tables.expect(frame, [expectation])
        return finding

    def _check(
        self, number: int, expectation: Expectation, finding: tables.Finding, *, ours: bool
    ) -> Check:
        """A finding as it is kept, without values of sensitive columns."""
        detail: dict[str, Any] = {
            "arguments": expectation.arguments,
            "unexpected": [str(value) for value in finding.examples],
        }
        if finding.fault is not None:
            detail |= {"fault": True, "key": f"expectations.{number}"}
        check = Check(
            expectation=expectation.type,
            column=expectation.arguments.get("column"),
            success=finding.success,
            severity=expectation.severity,
            observed=finding.sentence(),
            detail=detail,
        )
        return check if ours else check.discreet(self.family.features.sensitive)


def _expect_together(nights: Sequence[_Expected]) -> None:
    """Hold the nights that are kept whole against everything, together."""
    kept = [(night, night.frame) for night in nights if night.frame is not None]
    if not kept:
        return
    expectations = list(kept[0][0].passing.values())
    found = tables.expect_each([frame for _, frame in kept], expectations)
    for (night, _), findings in zip(kept, found, strict=True):
        night.note(findings)
        night.frame = None


def _named(expectations: Sequence[Expectation]) -> list[str] | None:
    """The columns that expectations are about; None where one does not say it plainly."""
    names: list[str] = []
    for expectation in expectations:
        columns = tables.columns_of(expectation)
        if not columns or "row_condition" in expectation.arguments:
            return None
        names += columns
    return list(dict.fromkeys(names))


def _frame(table: pa.Table, family: ModelFamily, columns: Sequence[str] | None) -> pd.DataFrame:
    """What expectations are held against: the features as an estimator sees them, and the keys."""
    chosen = columns or family.columns
    keys = {name: table[name].to_pandas() for name in ["entity_id", *family.keys] if name in chosen}
    own = family.features.model_copy(
        update={
            "numeric": [name for name in family.features.numeric if name in chosen],
            "categorical": [name for name in family.features.categorical if name in chosen],
        }
    )
    frame = tables.frame(table, own).assign(**keys)
    return frame[[name for name in family.columns if name in chosen]]


def _verdict(checks: list[Check]) -> Verdict:
    failed = {check.severity for check in checks if not check.success}
    if "critical" in failed:
        return "rejected"
    return "warned" if failed else "passed"
