"""The verdict on a snapshot.

Great Expectations passes some things that must not pass: no rows, a column of nulls, an infinity
under a one-sided bound. So a guard battery always runs before the expectations of the family.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
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

ROW_COUNT = frozenset(f"expect_table_row_count_to_{how}" for how in ("be_between", "equal"))
"""Expectations for which the number of rows is enough."""


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
    rules = _rules_hash(family)
    with database.transaction() as tx:
        before = tx.maybe("validation.latest", snapshot_id=snapshot.snapshot_id)
    if before is not None and before.rules_hash == rules and before.verdict != "rejected":
        accepted: int = before.validation_id
        return accepted
    checks = _checks(store, family, snapshot, store.chunk_rows)
    verdict = _verdict(checks)
    failed = [_sentence(family, check) for check in checks if not check.success]
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
    if verdict == "rejected":
        raise SnapshotRejected(_rejection(family, snapshot, checks))
    return validation_id


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
    of_rows = [_sentence(family, c) for c in failed if not c.detail.get("fault")]
    rejected = (
        f"{family.family}: the snapshot of {snapshot.as_of.isoformat()}"
        f" ({snapshot.row_count} rows) was rejected"
    )
    mend = "run this night again"
    if not faults:
        return (
            f"{rejected}: {'; '.join(of_rows)}. The previous batch is still served."
            f" Mend the source and {mend}"
        )
    wrong = "; ".join(_sentence(family, c) for c in faults)
    also = f". Of its rows: {'; '.join(of_rows)}. Mend the source as well" if of_rows else ""
    return (
        f"{rejected}, for an expectation of model.yaml cannot run: {wrong}{also}."
        f" The previous batch is still served. Mend model.yaml and {mend}"
    )


def _sentence(family: ModelFamily, check: Check) -> str:
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


def _checks(store: Store, family: ModelFamily, snapshot: Snapshot, chunk_rows: int) -> list[Check]:
    """What is found out about a snapshot while its rows pass once."""
    schema = store.schema(snapshot.content_hash)
    problems = tables.shape_problems(schema, family.features, family.keys, exact=False)
    columns = _guard("columns", None, not problems, "; ".join(problems) or "as declared")
    if problems:
        return [columns]
    guards = _Guards(family)
    expected = _Expected(family, whole=snapshot.row_count <= chunk_rows)
    groups = store.stream_table(
        snapshot.content_hash, columns=family.columns, encoded=family.features.categorical
    )
    for chunk in tables.chunked(tables.ahead(groups), chunk_rows):
        guards.add(chunk)
        expected.add(chunk)
    checks = [columns, *guards.checks(), *_left_out(family, snapshot)]
    if guards.rows and all(check.success for check in checks):
        checks += expected.checks(store, snapshot, guards.empty)
    return checks


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

    ``whole``: all rows come at once, and everything is held against them.
    """

    family: ModelFamily
    whole: bool
    sums: dict[int, _Sum] = field(default_factory=dict)
    rows: int = 0

    def add(self, chunk: pa.Table) -> None:
        """Hold the next rows against what each row must fulfil by itself."""
        self.rows += chunk.num_rows
        passing = {n: e for n, e in enumerate(self.family.expectations) if self._passes(e)}
        if not passing:
            return
        expectations = list(passing.values())
        columns = None if self.whole else _named(expectations)
        findings = tables.expect(_frame(chunk, self.family, columns), expectations)
        for number, finding in zip(passing, findings, strict=True):
            self.sums.setdefault(number, _Sum(passing[number])).add(finding)

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
                finding = tables.Finding(True, observed=f"no value of {', '.join(of_empty)}")
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
        # A condition may compare a row with its column's mean.
        alone = (
            expectation.type in tables.ROW_BY_ROW and "row_condition" not in expectation.arguments
        )
        return self.whole or alone

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


@dataclass
class _Sum:
    """What an expectation found in some rows after others, as if it had seen them at once."""

    expectation: Expectation
    findings: int = 0
    total: tables.Finding = field(default_factory=lambda: tables.Finding(True))

    def add(self, finding: tables.Finding) -> None:
        """Add what was found in the next rows; a fault stays."""
        before = self.total
        self.findings += 1
        if self.findings == 1 or finding.fault is not None:
            self.total = finding
        elif before.fault is None:
            self.total = tables.Finding(
                success=True,
                elements=before.elements + finding.elements,
                missing=before.missing + finding.missing,
                unexpected=before.unexpected + finding.unexpected,
                counted=True,
                examples=[*before.examples, *finding.examples][: tables.EXAMPLES],
            )

    def finding(self) -> tables.Finding:
        """The finding over all rows."""
        if self.findings > 1 and self.total.fault is None:
            self.total.success = self._success()
        return self.total

    def _success(self) -> bool:
        """As Great Expectations decides: ``mostly`` is a share of the rows that are not null."""
        considered = self.total.elements - self.total.missing
        mostly: float = self.expectation.arguments.get("mostly", 1)
        return not considered or (considered - self.total.unexpected) / considered >= mostly


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
