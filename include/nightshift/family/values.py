"""What a value of ``model.yaml`` may look like: durations, cron, columns, names; and a section.

Parsing DAGs imports this module, so it opens no connection and imports nothing heavy.
"""

from __future__ import annotations

import math
import re
from contextlib import suppress
from datetime import timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import croniter
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
)

from nightshift.wording import listed

FAMILY_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""Family names are folder names, DAG ids and parts of SQL names: short, lower case, plain."""

RESERVED = frozenset({"entity_id", "known_at"})
"""Columns of features.sql that have a meaning of their own."""

NAME = f"^{FAMILY_NAME.pattern}$"
COLUMN = r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"
FUNCTION = r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$"
CLASS = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$"
EXPECTATION = r"^expect_[a-z0-9_]+$"
WORDS = r"^[A-Za-z][^\r\n|`<>]{0,59}$"

PATTERNS = {
    NAME: "write a-z, 0-9 and _, at most 40 characters that begin with a letter",
    COLUMN: "write a column name: letters, digits and _, at most 63 characters",
    FUNCTION: "write <module>.<function> in lower case, such as estimator.build",
    CLASS: "write the whole path of a class, such as my_package.alerts.PagerNotifier",
    EXPECTATION: "write the name of a Great Expectations expectation, such as"
    " expect_column_values_to_not_be_null",
    WORDS: "write a few words that can follow a number, such as minutes of error",
}
"""What is said of text that does not match."""


_TIMEDELTA = TypeAdapter(timedelta)


def _iso_duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str) and value.startswith("P"):
        with suppress(ValidationError):
            return _TIMEDELTA.validate_python(value)
    raise ValueError("write an ISO 8601 duration such as P7D or PT6H")


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("must be longer than zero")
    return value


def _cron(value: str) -> str:
    if not croniter.is_valid(value) or len(value.split()) != 5:
        raise ValueError(
            'write five cron fields such as "0 2 * * *" (minute hour day month weekday)'
        )
    return value


def _own_column(value: str) -> str:
    if value in RESERVED:
        raise ValueError(f"name a column of features.sql other than {listed(sorted(RESERVED))}")
    return value


def free_name(value: str) -> str:
    if value == "latest":
        raise ValueError("choose another name: the view predictions_latest is of all families")
    return value


def time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("write an IANA time zone such as UTC or America/New_York") from None
    return value


def _storable(value: object) -> object:
    """What goes into manifests and verdicts, which are JSON."""
    if isinstance(value, dict):
        unquoted = [key for key in value if not isinstance(key, str)]
        if unquoted:
            raise ValueError(f"the key {unquoted[0]!r} is no text; write it in quotes")
        for part in value.values():
            _storable(part)
    elif isinstance(value, list):
        for part in value:
            _storable(part)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number, and only those can be stored")
    elif not isinstance(value, str | int | float | None):
        raise ValueError(f"{value!r} cannot be stored; write text, a number, true, false or null")
    return value


Duration = Annotated[timedelta, BeforeValidator(_iso_duration), AfterValidator(_positive)]
WaitingTime = Annotated[timedelta, BeforeValidator(_iso_duration)]
Cron = Annotated[str, AfterValidator(_cron)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Column = Annotated[str, Field(pattern=COLUMN)]
Key = Annotated[Column, AfterValidator(_own_column)]
YesNo = Annotated[bool, Field(strict=False)]
Storable = Annotated[Any, AfterValidator(_storable)]


class Section(BaseModel):
    """A part of a configuration file: unknown keys are refused, and text is never a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    @field_validator("*", mode="before")
    @classmethod
    def _whole_numbers(cls, value: object) -> object:
        """1e3 is as good a whole number as 1000."""
        return int(value) if isinstance(value, float) and value.is_integer() else value


class Inline(Section):
    """A small section that is written in one line, such as ``{warn: 0.1, alert: 0.3}``.

    Its keys are explained together with the key that holds it.
    """
