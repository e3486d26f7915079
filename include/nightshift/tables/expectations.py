"""What Great Expectations finds in a frame, in our nouns. The only module that imports it.

An expectation that cannot run is a fault of who wrote it, not of the rows: its :class:`Finding`
has the reason, and whatever else was asked is answered all the same.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pandas as pd

from nightshift.family import Expectation
from nightshift.wording import listed, nearest

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

EXAMPLES = 10
"""How many unexpected values are kept."""

_POSITION = "position"
_COLUMN_KEYS = ("column", "column_A", "column_B")
_OF_TEXT = ("_regex", "_like_pattern", "_lengths_", "_strftime_", "_json_", "_dateutil_")


@dataclass
class Finding:
    """What an expectation found in some rows; ``fault`` says why it could not look."""

    success: bool
    elements: int = 0
    missing: int = 0
    unexpected: int = 0
    counted: bool = False
    examples: list[Any] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    observed: Any = None
    fault: str | None = None

    def sentence(self) -> str:
        """What was found, in a few words."""
        if self.fault is not None:
            return f"cannot run: {self.fault}"
        if self.counted:
            return f"{self.unexpected} of {self.elements} rows unexpected"
        return f"observed {self.observed}"


@dataclass
class Findings:
    """What an expectation found in some rows after others, as if it had seen them at once."""

    expectation: Expectation
    findings: int = 0
    total: Finding = field(default_factory=lambda: Finding(True))

    def add(self, finding: Finding) -> None:
        """Add what was found in the next rows; a fault stays."""
        before = self.total
        self.findings += 1
        if self.findings == 1 or finding.fault is not None:
            self.total = finding
        elif before.fault is None:
            self.total = Finding(
                success=True,
                elements=before.elements + finding.elements,
                missing=before.missing + finding.missing,
                unexpected=before.unexpected + finding.unexpected,
                counted=True,
                examples=[*before.examples, *finding.examples][:EXAMPLES],
            )

    def finding(self) -> Finding:
        """The finding over all rows."""
        if self.findings > 1 and self.total.fault is None:
            self.total.success = self._success()
        return self.total

    def _success(self) -> bool:
        """As Great Expectations decides: ``mostly`` is a share of the rows that are not null."""
        considered = self.total.elements - self.total.missing
        mostly: float = self.expectation.arguments.get("mostly", 1)
        return not considered or (considered - self.total.unexpected) / considered >= mostly


def expect(
    frame: pd.DataFrame, expectations: Sequence[Expectation], *, places: bool = False
) -> list[Finding]:
    """What is found in a frame, expectation by expectation.

    Parameters
    ----------
    places
        Whether the positions of unexpected rows are asked for as well.
    """
    findings: dict[int, Finding] = {}
    configured = {}
    for position, expectation in enumerate(expectations):
        try:
            configured[position] = _configuration(expectation, position)
            configured[position].to_domain_obj()
        except Exception as error:  # whatever a third party's class says of its arguments
            findings[position] = Finding(False, fault=_one_line(error))
            configured.pop(position, None)
    findings |= _findings(frame, configured, places)
    return [findings[position] for position in range(len(expectations))]


def expect_each(
    frames: Sequence[pd.DataFrame], expectations: Sequence[Expectation]
) -> list[list[Finding]]:
    """What is found in each of several frames, as :func:`expect` finds it, in fewer passes.

    Great Expectations needs longer to prepare a pass than to look at thousands of rows. So what is
    about each row by itself is asked of all frames at once: where no row is unexpected, none is in
    any of them, and nothing else is said of them. Whatever remains is asked frame by frame.
    """
    alone = list(range(len(expectations)))
    each: list[dict[int, Finding]] = [{} for _ in frames]
    together = [n for n in alone if is_of_rows(expectations[n])]
    if together and len(frames) > 1 and all(_alike(frames[0], frame) for frame in frames):
        whole = pd.concat(frames, ignore_index=True)
        found = expect(whole, [expectations[number] for number in together])
        for number, finding in zip(together, found, strict=True):
            parts = _parts(finding, frames, expectations[number])
            if parts is not None:
                alone.remove(number)
                for findings, part in zip(each, parts, strict=True):
                    findings[number] = part
    if alone:
        asked = [expectations[number] for number in alone]
        for findings, frame in zip(each, frames, strict=True):
            findings.update(zip(alone, expect(frame, asked), strict=True))
    return [[findings[number] for number in range(len(expectations))] for findings in each]


def is_of_rows(expectation: Expectation) -> bool:
    """Whether an expectation is about each row by itself. A condition may ask about others."""
    return expectation.type in ROW_BY_ROW and "row_condition" not in expectation.arguments


def _alike(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    return list(one.columns) == list(other.columns) and list(one.dtypes) == list(other.dtypes)


def _parts(
    finding: Finding, frames: Sequence[pd.DataFrame], expectation: Expectation
) -> list[Finding] | None:
    """What is found in each frame where all of them together are as expected, if that tells it."""
    rows = [len(frame) for frame in frames]
    told = finding.fault is None and finding.success and finding.counted
    if not told or finding.unexpected or finding.elements != sum(rows) or not all(rows):
        return None
    missing = [0] * len(frames)
    if finding.missing:
        column = expectation.arguments.get("column")
        missing = [int(frame[column].isna().sum()) if column in frame else 0 for frame in frames]
        if sum(missing) != finding.missing:
            return None
    return [
        Finding(True, elements=count, missing=without, counted=True)
        for count, without in zip(rows, missing, strict=True)
    ]


def columns_of(expectation: Expectation) -> list[str]:
    """The columns that an expectation names."""
    arguments = expectation.arguments
    named = [arguments[key] for key in _COLUMN_KEYS if isinstance(arguments.get(key), str)]
    listed = arguments.get("column_list")
    return named + [name for name in listed if isinstance(name, str)] if listed else named


def misfit(
    expectation: Expectation, columns: Collection[str], numeric: Collection[str]
) -> str | None:
    """What is wrong with the columns or patterns that an expectation names; None where nothing is.

    ``numeric`` are those of ``columns`` that are numbers.
    """
    for name in columns_of(expectation):
        if name not in columns:
            return (
                f"there is no column {name!r}{nearest(name, columns)}; there are {listed(columns)}"
            )
        if name in numeric and any(word in expectation.type for word in _OF_TEXT):
            return f"column {name!r} is a number, and this is about text"
    several = expectation.arguments.get("regex_list")
    patterns = [expectation.arguments.get("regex"), *(several if isinstance(several, list) else [])]
    for pattern in (pattern for pattern in patterns if isinstance(pattern, str)):
        try:
            re.compile(pattern)
        except re.error as error:
            return f"{pattern!r} is no regular expression: {error}"
    return None


def refusals(
    expectations: Sequence[Expectation], columns: Collection[str], numeric: Collection[str]
) -> Iterator[tuple[int, str]]:
    """What will never run: its place in the list, and why."""
    for position, expectation in enumerate(expectations):
        try:
            _configuration(expectation).to_domain_obj()
        except Exception as error:  # whatever a third party's class says of its arguments
            yield position, f"{expectation.type}: {_one_line(error)}"
            continue
        wrong = misfit(expectation, columns, numeric)
        if wrong is not None:
            yield position, f"{expectation.type}: {wrong}"


def _findings(frame: pd.DataFrame, configured: dict[int, Any], places: bool) -> dict[int, Finding]:
    if not configured:
        return {}
    batch = _frames().get_batch({"dataframe": frame})
    suite = _great_expectations().ExpectationSuite(
        name="rows", expectations=list(configured.values())
    )
    how = "COMPLETE" if places else "BASIC"
    try:
        results = batch.validate(suite, result_format=how).results  # in an order of its own
    except Exception as error:  # one of them took all others with it: each is asked alone
        if len(configured) > 1:
            return {
                position: finding
                for place, expectation in configured.items()
                for position, finding in _findings(frame, {place: expectation}, places).items()
            }
        return {position: Finding(False, fault=_one_line(error)) for position in configured}
    return {r.expectation_config.meta[_POSITION]: _finding(r) for r in results}


def _finding(result: Any) -> Finding:
    fault = _raised(result.exception_info)
    figures = result.result or {}
    if fault is not None:
        return Finding(False, fault=" ".join(fault.split()))
    return Finding(
        success=bool(result.success),
        elements=figures.get("element_count", 0),
        missing=figures.get("missing_count", 0),
        unexpected=figures.get("unexpected_count", 0),
        counted="unexpected_count" in figures and "element_count" in figures,
        examples=list(figures.get("partial_unexpected_list", []))[:EXAMPLES],
        places=[int(place) for place in figures.get("unexpected_index_list") or []],
        observed=figures.get("observed_value"),
    )


def _raised(info: dict[str, Any] | None) -> str | None:
    """The message of an exception inside an expectation; one, or one for each metric."""
    entries = [info or {}, *(value for value in (info or {}).values() if isinstance(value, dict))]
    return next((e["exception_message"] for e in entries if e.get("raised_exception")), None)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


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
