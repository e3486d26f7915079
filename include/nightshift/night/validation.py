"""The verdict on a snapshot. The only room that imports Great Expectations.

Great Expectations passes some things that must not pass: no rows, a column of nulls, an infinity
under a one-sided bound. So a guard battery always runs before the expectations of the family.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from nightshift import tables
from nightshift.data import Database, Store, as_json
from nightshift.errors import SnapshotRejected
from nightshift.family import Expectation, ModelFamily, Problem
from nightshift.records import Check, Snapshot, Verdict
from nightshift.wording import moment

ROW_BY_ROW = frozenset(
    f"expect_{name}"
    for name in (
        "column_pair_values_a_to_be_greater_than_b",
        "column_pair_values_to_be_equal",
        "column_pair_values_to_be_in_set",
        "column_value_lengths_to_be_between",
        "column_value_lengths_to_equal",
        "column_values_to_be_between",
        "column_values_to_be_dateutil_parseable",
        "column_values_to_be_in_set",
        "column_values_to_be_json_parseable",
        "column_values_to_be_null",
        "column_values_to_match_json_schema",
        "column_values_to_match_like_pattern",
        "column_values_to_match_like_pattern_list",
        "column_values_to_match_regex",
        "column_values_to_match_regex_list",
        "column_values_to_match_strftime_format",
        "column_values_to_not_be_in_set",
        "column_values_to_not_be_null",
        "column_values_to_not_match_like_pattern",
        "column_values_to_not_match_like_pattern_list",
        "column_values_to_not_match_regex",
        "column_values_to_not_match_regex_list",
        "multicolumn_sum_to_equal",
        "multicolumn_values_to_be_equal",
        "multicolumn_values_to_be_unique",
        "select_column_values_to_be_unique_within_record",
    )
)
"""Expectations about each row by itself: what they count in some rows and in others adds up."""

ROW_COUNT = frozenset(f"expect_table_row_count_to_{how}" for how in ("be_between", "equal"))
"""Expectations for which the number of rows is enough."""

_POSITION = "position"

EXAMPLES = 10
"""How many unexpected values a check keeps."""


def validate(
    database: Database,
    store: Store,
    family: ModelFamily,
    snapshot: Snapshot,
    *,
    now: datetime,
    chunk_rows: int,
) -> int:
    """Judge a snapshot and store the verdict, check by check; the validation's id.

    A snapshot that was accepted by the same rules is not judged again: its bytes cannot change.

    Parameters
    ----------
    chunk_rows
        About how many rows are held in memory at once. The verdict does not depend on it. What is
        asked about a column as a whole needs that column at once, and no other.

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
    checks = _checks(store, family, snapshot, chunk_rows)
    verdict = _verdict(checks)
    failed = [check.sentence() for check in checks if not check.success]
    with database.transaction() as tx:
        validation_id: int = tx.one(
            "validation.store",
            snapshot_id=snapshot.snapshot_id,
            rules_hash=rules,
            verdict=verdict,
            checks=as_json([asdict(check) for check in checks]),
            validated_at=now,
        ).validation_id
        if verdict == "warned":
            tx.record(
                "snapshot_warned", now=now, family=family.family, as_of=snapshot.as_of,
                failed=failed,
            )  # fmt: skip
    if verdict == "rejected":
        raise SnapshotRejected(
            f"{family.family}: the snapshot of {moment(snapshot.as_of)}"
            f" ({snapshot.row_count} rows) was rejected: {'; '.join(failed)}."
            " The previous batch is still served. Mend the source and run this night again"
        )
    return validation_id


def expectation_problems(family: ModelFamily) -> Iterator[Problem]:
    """Expectations that Great Expectations does not know, or whose arguments it refuses."""
    if not family.expectations:
        return
    gx = _great_expectations()
    for position, expectation in enumerate(family.expectations):
        try:
            _configuration(expectation).to_domain_obj()
        except (gx.exceptions.GreatExpectationsError, ValueError, TypeError) as error:
            message = " ".join(str(error).split())
            key = f"expectations.{position}"
            yield Problem(family.folder / "model.yaml", key, f"{expectation.type}: {message}")


def _rules_hash(family: ModelFamily) -> str:
    rules = family.model_dump(include={"features", "expectations", "allow_empty"}, mode="json")
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
    checks = [columns, *guards.checks()]
    if guards.rows and all(check.success for check in checks):
        checks += expected.checks(store, snapshot)
    return checks


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

    def checks(self) -> Iterator[Check]:
        """What was found, once all rows have passed."""
        family, rows = self.family, self.rows
        yield _guard("row_count", None, rows > 0 or family.allow_empty, f"{rows} rows")
        for name in ["entity_id", *([family.models.by] if family.models else [])]:
            yield _guard("not_null", name, not self.nulls[name], f"{self.nulls[name]} nulls")
        told = f"{self.doubled} rows repeat an entity_id"
        if self.disordered:
            told = f"{self.disordered} rows come before one that sorts lower, so it is not known"
        yield _guard("unique", "entity_id", not self.doubled and not self.disordered, told)
        for name in family.features.names:
            missing = self.nulls[name]
            told = f"{missing} of {rows} null"
            yield _guard("some_values", name, missing < rows or not rows, told)
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
        now = [n for n, one in enumerate(self.family.expectations) if self._passes(one)]
        if not now:
            return
        asked = [self.family.expectations[n] for n in now]
        columns = None if self.whole else _named(asked)
        for number, result in zip(
            now, _held(_frame(chunk, self.family, columns), asked), strict=True
        ):
            self.sums.setdefault(number, _Sum()).add(result)

    def checks(self, store: Store, snapshot: Snapshot) -> list[Check]:
        """What was found once all rows have passed, in the order of model.yaml."""
        found = (
            self.sums[number].check()
            if number in self.sums
            else self._at_once(one, store, snapshot)
            for number, one in enumerate(self.family.expectations)
        )
        return [check.discreet(self.family.features.sensitive) for check in found]

    def _passes(self, expectation: Expectation) -> bool:
        # A condition may compare a row with its column's mean.
        alone = expectation.type in ROW_BY_ROW and "row_condition" not in expectation.arguments
        return self.whole or alone

    def _at_once(self, expectation: Expectation, store: Store, snapshot: Snapshot) -> Check:
        if expectation.type in ROW_COUNT:
            frame = pd.DataFrame(index=pd.RangeIndex(self.rows))
        else:
            columns = _named([expectation]) or self.family.columns
            groups = store.stream_table(
                snapshot.content_hash, columns=columns, encoded=self.family.features.categorical
            )
            frame = _frame(pa.concat_tables(groups), self.family, columns)
        [result] = _held(frame, [expectation])
        return _check(result)


@dataclass
class _Sum:
    """What an expectation found in some rows after others, as if it had seen them at once."""

    results: int = 0
    elements: int = 0
    missing: int = 0
    unexpected: int = 0
    examples: list[Any] = field(default_factory=list)
    last: Any = None

    def add(self, result: Any) -> None:
        """Add what was found in the next rows; what raised stays."""
        if self.last is not None and _raised(self.last.exception_info):
            return
        found = result.result or {}
        self.last = result
        self.results += 1
        self.elements += found.get("element_count", 0)
        self.missing += found.get("missing_count", 0)
        self.unexpected += found.get("unexpected_count", 0)
        self.examples += found.get("partial_unexpected_list", [])[: EXAMPLES - len(self.examples)]

    def check(self) -> Check:
        """The check over all rows."""
        if self.results > 1 and not _raised(self.last.exception_info):
            self.last.success = self._success()
            self.last.result = {
                "element_count": self.elements,
                "unexpected_count": self.unexpected,
                "partial_unexpected_list": self.examples,
            }
        return _check(self.last)

    def _success(self) -> bool:
        """As Great Expectations decides: ``mostly`` is a share of the rows that are not null."""
        considered = self.elements - self.missing
        mostly = self.last.expectation_config.kwargs.get("mostly", 1)
        return not considered or (considered - self.unexpected) / considered >= mostly


def _held(frame: pd.DataFrame, expectations: Sequence[Expectation]) -> list[Any]:
    """What Great Expectations finds in a frame, expectation by expectation."""
    batch = _frames().get_batch({"dataframe": frame})
    suite = _great_expectations().ExpectationSuite(
        name="snapshot",
        expectations=[_configuration(e, position) for position, e in enumerate(expectations)],
    )
    results = batch.validate(suite, result_format="BASIC").results  # in an order of its own
    found = {result.expectation_config.meta[_POSITION]: result for result in results}
    return [found[position] for position in range(len(expectations))]


def _named(expectations: Sequence[Expectation]) -> list[str] | None:
    """The columns that expectations are about; None where one does not say it plainly."""
    names: list[str] = []
    for arguments in (expectation.arguments for expectation in expectations):
        told = [arguments[key] for key in ("column", "column_A", "column_B") if key in arguments]
        told += arguments.get("column_list", [])
        if not told or "row_condition" in arguments:
            return None
        names += told
    return list(dict.fromkeys(names))


def _frame(table: pa.Table, family: ModelFamily, columns: Sequence[str] | None) -> pd.DataFrame:
    """What expectations are held against: the features as an estimator sees them, and the keys."""
    wanted = set(columns or family.columns)
    keys = {name: table[name].to_pandas() for name in family.keys if name in wanted}
    own = family.features.model_copy(
        update={
            "numeric": [name for name in family.features.numeric if name in wanted],
            "categorical": [name for name in family.features.categorical if name in wanted],
        }
    )
    return tables.frame(table, own).assign(**keys)


def _check(result: Any) -> Check:
    """Great Expectations' result as ours; one that raised is critical, whatever it says."""
    configuration = result.expectation_config
    raised = _raised(result.exception_info)
    found = result.result or {}
    return Check(
        expectation=configuration.type,
        column=configuration.kwargs.get("column"),
        success=bool(result.success) and raised is None,
        severity="critical" if raised else configuration.severity.value,
        observed=raised or _observed(found),
        detail={
            "arguments": {k: v for k, v in configuration.kwargs.items() if k != "batch_id"},
            "unexpected": [
                str(value) for value in found.get("partial_unexpected_list", [])[:EXAMPLES]
            ],
        },
    )


def _observed(found: dict[str, Any]) -> str:
    if "unexpected_count" in found and "element_count" in found:
        return f"{found['unexpected_count']} of {found['element_count']} rows unexpected"
    return f"observed {found.get('observed_value')}"


def _raised(info: dict[str, Any] | None) -> str | None:
    """The message of an exception inside an expectation; one, or one for each metric."""
    entries = [info or {}, *(value for value in (info or {}).values() if isinstance(value, dict))]
    return next((e["exception_message"] for e in entries if e.get("raised_exception")), None)


def _verdict(checks: list[Check]) -> Verdict:
    failed = {check.severity for check in checks if not check.success}
    if "critical" in failed:
        return "rejected"
    return "warned" if "warning" in failed else "passed"


def _configuration(expectation: Expectation, position: int = 0) -> Any:
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.expectations.metadata_types import FailureSeverity

    return ExpectationConfiguration(
        type=expectation.type,
        kwargs=expectation.arguments,
        severity=FailureSeverity(expectation.severity),
        meta={_POSITION: position},
    )


@cache
def _frames() -> Any:
    """Where Great Expectations takes frames from: made once, since it is a quarter of a verdict."""
    context = _great_expectations().get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    asset = context.data_sources.add_pandas("snapshots").add_dataframe_asset("snapshot")
    return asset.add_batch_definition_whole_dataframe("rows")


def _great_expectations() -> Any:
    """Great Expectations, imported only where a family has expectations: it costs seconds."""
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    import great_expectations

    return great_expectations
