"""The verdict on a snapshot. The only room that imports Great Expectations.

Great Expectations passes some things that must not pass: no rows, a column of nulls, an infinity
under a one-sided bound. So a guard battery always runs before the expectations of the family.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from nightshift import features
from nightshift.config import Problem
from nightshift.database import Database, as_json
from nightshift.family import Expectation, ModelFamily
from nightshift.records import (
    WITHHELD_VALUES,
    Check,
    Snapshot,
    SnapshotRejected,
    Verdict,
)
from nightshift.storage import Store


def validate(
    database: Database, store: Store, family: ModelFamily, snapshot: Snapshot, *, now: datetime
) -> int:
    """Judge a snapshot and store the verdict, check by check; the validation's id.

    A snapshot that was accepted by the same rules is not judged again: its bytes cannot change.

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
    table = store.read_table(snapshot.content_hash)
    checks = list(_guards(table, family))
    if all(check.success for check in checks):
        checks += _expectations(table, family)
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
            f"{family.family}: the snapshot of {snapshot.as_of.isoformat()}"
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


def _guards(table: pa.Table, family: ModelFamily) -> Iterator[Check]:
    """What must hold of every snapshot, whatever the family writes."""
    problems = features.shape_problems(table.schema, family.features, family.keys, exact=False)
    yield _guard("columns", None, not problems, "; ".join(problems) or "as declared")
    if problems:
        return
    rows = table.num_rows
    yield _guard("row_count", None, rows > 0 or family.allow_empty, f"{rows} rows")
    for name in ["entity_id", *([family.models.by] if family.models else [])]:
        nulls = table[name].null_count
        yield _guard("not_null", name, nulls == 0, f"{nulls} nulls")
    nulls = table["entity_id"].null_count
    doubled = rows - nulls - pc.count_distinct(table["entity_id"]).as_py()
    yield _guard("unique", "entity_id", doubled == 0, f"{doubled} rows repeat an entity_id")
    for name in family.features.names:
        missing = table[name].null_count
        yield _guard("some_values", name, missing < rows or not rows, f"{missing} of {rows} null")
    for name in family.features.numeric:
        values = table[name].cast(pa.float64()).drop_null()
        infinite = values.length() - (pc.sum(pc.is_finite(values)).as_py() or 0)
        yield _guard("finite", name, infinite == 0, f"{infinite} values are NaN or infinite")


def _guard(name: str, column: str | None, success: bool, observed: str) -> Check:
    return Check(name, column, success, "critical", observed)


def _expectations(table: pa.Table, family: ModelFamily) -> list[Check]:
    if not family.expectations or not table.num_rows:
        return []
    gx = _great_expectations()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    asset = context.data_sources.add_pandas("snapshots").add_dataframe_asset("snapshot")
    batch = asset.add_batch_definition_whole_dataframe("rows").get_batch(
        {"dataframe": _frame(table, family)}
    )
    suite = gx.ExpectationSuite(
        name=family.family, expectations=[_configuration(e) for e in family.expectations]
    )
    results = batch.validate(suite, result_format="SUMMARY").results
    return [_discreet(_check(result), family.features.sensitive) for result in results]


def _frame(table: pa.Table, family: ModelFamily) -> pd.DataFrame:
    """What expectations are held against: the features as an estimator sees them, and the keys."""
    keys = {name: table[name].to_pandas() for name in family.keys}
    return features.frame(table, family.features).assign(**keys)


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
            "unexpected": [str(value) for value in found.get("partial_unexpected_list", [])[:10]],
        },
    )


def _discreet(check: Check, sensitive: list[str]) -> Check:
    """A check without the values that it met, where it may have met those of a sensitive column.

    What it was told of columns is in its arguments; of some it is in the text of a condition.
    """
    arguments = as_json(check.detail["arguments"])
    counted = re.fullmatch(r"\d+ of \d+ rows unexpected", check.observed)
    shown = check.detail | {"unexpected": [WITHHELD_VALUES] * bool(check.detail["unexpected"])}
    if not any(name in arguments for name in sensitive):
        return check
    return replace(check, observed=check.observed if counted else WITHHELD_VALUES, detail=shown)


def _observed(found: dict[str, Any]) -> str:
    if {"unexpected_count", "element_count"} <= found.keys():
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


def _configuration(expectation: Expectation) -> Any:
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.expectations.metadata_types import FailureSeverity

    return ExpectationConfiguration(
        type=expectation.type,
        kwargs=expectation.arguments,
        severity=FailureSeverity(expectation.severity),
    )


def _great_expectations() -> Any:
    """Great Expectations, imported only where a family has expectations: it costs seconds."""
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    import great_expectations

    return great_expectations
