"""What the API takes and gives, typed.

Moments are RFC 3339 in UTC. A figure that is not finite is null: JSON has no word for it.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Generic, Literal, TypeVar
from urllib.parse import unquote

from fastapi import Path
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    WithJsonSchema,
)

from nightshift.family import FAMILY_NAME, Fault
from nightshift.records import DecisionKind, Health, State, Verdict

LARGEST_ID = 2**31 - 1
MOST_ROWS = 10_000
TEXT = r"^[^\u0000]+$"
"""Anything but the character that Postgres does not store."""

PART = r"^[^\u0000\n]+$"
"""The same in a path, in which a line break ends it for Starlette."""

_MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", flags=re.ASCII
)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _moment(text: Any) -> Any:
    """RFC 3339 only: pydantic would read a bare number as seconds since 1970."""
    if isinstance(text, str) and not _MOMENT.fullmatch(text):
        raise ValueError("write a moment such as 2026-11-03T02:00:00Z")
    return text


def _day_or_moment(text: Any) -> Any:
    """The last moment of a day in UTC, or the moment itself."""
    if not isinstance(text, str):
        return text
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text, flags=re.ASCII):
        return datetime.combine(date.fromisoformat(text), time.max, UTC)
    if not _MOMENT.fullmatch(text):
        raise ValueError("write a day such as 2026-11-03, or a moment: 2026-11-03T02:00:00Z")
    return text


def _in_utc(moment: datetime) -> datetime:
    """In UTC, since Postgres knows no offset of more than 16 hours."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("lies outside the years 1 to 9999 in UTC") from None


def _decoded(text: str) -> str:
    """A part of a path: a slash of its own is written %2F, so parts are decoded one by one."""
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("is not percent-encoded UTF-8") from None


Number = Annotated[float | None, BeforeValidator(_finite)]
Text = Annotated[str, Field(pattern=TEXT, max_length=1000)]
Moment = Annotated[AwareDatetime, BeforeValidator(_moment), AfterValidator(_in_utc)]
DayOrMoment = Annotated[
    AwareDatetime,
    BeforeValidator(_day_or_moment),
    AfterValidator(_in_utc),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}]}
    ),
]
Family = Annotated[str, Field(pattern=f"^{FAMILY_NAME.pattern}$")]
FamilyPath = Annotated[
    str,
    BeforeValidator(_decoded),
    Path(pattern=f"^{FAMILY_NAME.pattern}$", description="A family", examples=["air_time"]),
]
ModelPath = Annotated[
    str,
    BeforeValidator(_decoded),
    Path(
        pattern=PART,
        max_length=1000,
        description="A model of the family, percent-encoded; without members it is named as the"
        " family",
        examples=["air_time"],
    ),
]
EntityPath = Annotated[
    str,
    BeforeValidator(_decoded),
    Path(
        pattern=PART,
        max_length=1000,
        description="As features.sql names it, percent-encoded",
        examples=["2026-11-03/B6725/JFK/0905"],
    ),
]
MomentPath = Annotated[
    Moment,
    BeforeValidator(_decoded),
    Path(description="The as_of of a night", examples=["2026-11-03T02:00:00Z"]),
]
DecisionPath = Annotated[int, Path(ge=1, le=LARGEST_ID, examples=[1])]

T = TypeVar("T")


class Answer(BaseModel):
    """What the API gives; read from rows and records by name."""

    model_config = ConfigDict(from_attributes=True, protected_namespaces=())


class Page(Answer, Generic[T]):
    """Some of the items, and where the next ones are."""

    items: list[T]
    next: str | None = Field(
        description="The path of the next page; null on the last one", examples=[None]
    )


class Night(Answer):
    """The last night of a family that readers see."""

    as_of: Moment
    rows: int
    published_at: Moment


class FleetLine(Answer):
    """A family at a glance."""

    family: str
    models: int = Field(description="Active models")
    health: dict[Health, int] = Field(description="Models by their state")
    last_night: Night | None
    sentence: str


class Model(Answer):
    """A model at a glance: who serves, what was measured last, what was decided last.

    The figures are those of the last decisive measurement; greater is better, and low and high
    bound 95%.
    """

    family: str
    model: str
    group: str | None
    health: Health
    version: int | None = Field(description="The champion's number")
    since: Moment | None = Field(description="From when the champion serves")
    shadow: int | None = Field(description="The challenger that scores beside it, unseen")
    metric: str | None
    measured: State | None
    value: Number
    low: Number
    high: Number
    threshold: Number
    reference: Number = Field(description="What the champion was worth when it was promoted")
    labels: int | None
    predictions: int | None
    measured_as_of: Moment | None
    alerts: int = Field(description="Signals at alert in the last night")
    decision: DecisionKind | None
    rule: str | None
    reason: str | None
    decided_as_of: Moment | None


class Promotion(Answer):
    """When a version became the champion, and by which decision."""

    version: int
    kind: DecisionKind
    reason: str
    decision_id: int
    artifact: str = Field(description="SHA-256 of the artifact")
    effective_from: Moment
    promoted_at: Moment


class ModelDetail(Model):
    """A model, and its champions, the latest first."""

    promotions: list[Promotion]


class Measurement(Answer):
    """A metric over matured nights, as it was known at as_of. Greater is better."""

    measurement_id: int
    family: str
    model: str
    metric: str
    as_of: Moment
    window_start: Moment
    window_end: Moment
    state: State
    value: Number
    low: Number
    high: Number
    threshold: Number
    reference: Number
    predictions: int
    labels: int
    coverage: float = Field(description="The share of predictions with a known label, 0 to 1")
    basis: Literal["realized", "estimated"]
    version: int | None = Field(description="Only rows of this version; null: of every version")
    slice: str = Field(description="column=value, or empty for all rows")
    method: str = Field(description="How the interval was made")
    remark: str | None = Field(
        description="Why it is undefined, or that a single row makes up most of it"
    )
    decisive: bool = Field(description="Whether decisions look at it")
    measured_at: Moment


class Decision(Answer):
    """What a policy concluded about a model, by which rule, and why."""

    decision_id: int
    family: str
    model: str
    kind: DecisionKind
    rule: str
    reason: str
    as_of: Moment
    decided_at: Moment


class DecisionDetail(Decision):
    """A decision with what it was concluded from, and its place in the chain of hashes."""

    subject: str = Field(description="What was decided about")
    inputs: dict[str, JsonValue]
    seq: int
    prev_hash: str
    hash: str


class NightLine(Answer):
    """A night of a family: what was frozen, whether it was fit to score, what readers see."""

    family: str
    as_of: Moment
    state: Literal["published", "rejected", "unpublished"]
    snapshot: str = Field(description="SHA-256 of the latest snapshot")
    snapshot_rows: int
    dropped_rows: int = Field(description="Rows that were known only after as_of")
    taken_at: Moment
    verdict: Verdict | None
    batch_id: int | None
    rows: int | None = Field(description="Predictions that readers see")
    skipped_rows: int | None = Field(description="Rows that no champion could score")
    published_at: Moment | None


class Check(Answer):
    """One line of a validation."""

    expectation: str
    column: str | None
    success: bool
    severity: Literal["critical", "warning", "info"]
    observed: str


class NightModel(Answer):
    """What a model did in a published night."""

    model: str
    version: int | None = Field(description="Who scored its rows; null where nobody could")
    fallback: bool = Field(description="Whether that was the model of the whole family")
    rows: int


class LeftOut(Answer):
    """Rows that were left out of a night for one reason."""

    reason: Fault
    rows: int
    examples: list[str] = Field(
        description="Up to five of them; none where they would tell a sensitive column's values"
    )


class NightDetail(NightLine):
    """A night with the checks of its validation, what it left out, and the models in it."""

    checks: list[Check]
    left_out: list[LeftOut] = Field(description="Rows that model.yaml allows to leave out")
    models: list[NightModel]


class Prediction(Answer):
    """A published prediction, and where it comes from."""

    entity_id: str
    family: str
    model: str
    as_of: Moment = Field(description="The night it belongs to: nothing known later touched it")
    score: float = Field(description="The value; in classification a probability")
    label: str | None = Field(description="The predicted class; null in regression")
    flags: list[Literal["unseen_category", "out_of_range", "fallback"]]
    model_version: int
    snapshot: str = Field(description="SHA-256 of the features it was computed from")
    batch_id: int
    published_at: Moment


Cell = Annotated[
    Any,
    WithJsonSchema({"anyOf": [{"type": kind} for kind in ("number", "string", "boolean", "null")]}),
]


class Rows(BaseModel):
    """Rows to score: the columns of features.sql, by name; null where a value is not known."""

    model_config = ConfigDict(extra="forbid")

    rows: Annotated[list[dict[str, Cell]], Field(min_length=1, max_length=MOST_ROWS)]


class Scored(Answer):
    """What the champion says about a posted row, as a batch would say it."""

    entity_id: str
    model: str = Field(description="The model that the row belongs to")
    model_version: int | None = Field(description="Who scored it; null where nobody can")
    score: float | None = Field(description="Null where nobody can score the row")
    label: str | None
    flags: list[Literal["unseen_category", "out_of_range", "fallback"]]


class Scores(Answer):
    """One item for each posted row, in their order."""

    family: str
    scored_at: Moment
    items: list[Scored]


class Columns(Answer):
    """What a row of a family is made of."""

    text: list[str] = Field(description="Keys and categories; entity_id is never null")
    numbers: list[str]
    names_the_model: str | None = Field(description="The column that names a factory's model")


class FleetDetail(FleetLine):
    """A family, and the columns that scoring asks for."""

    owner: str
    description: str
    task: Literal["regression", "binary_classification", "multiclass_classification"]
    columns: Columns


class Filter(BaseModel):
    """How much to give, and from where on."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: Annotated[
        str | None, Field(max_length=3000, pattern=r"^[A-Za-z0-9_=-]+$", description="From next")
    ] = None


class FleetFilter(Filter):
    """Which families."""


class ModelFilter(Filter):
    """Which models."""

    family: Family | None = None
    group: Text | None = None
    health: Health | None = None


class Recorded(Filter):
    """Of which models, and from when; ``since`` and ``until`` are moments of as_of, both in."""

    family: Family | None = None
    since: Moment | None = None
    until: Moment | None = None


class MeasurementFilter(Recorded):
    """Which measurements."""

    model: Text | None = None
    metric: Text | None = None
    state: State | None = None
    basis: Literal["realized", "estimated"] | None = None


class DecisionFilter(Recorded):
    """Which decisions."""

    model: Text | None = None
    kind: DecisionKind | None = None
    rule: Text | None = None


class NightFilter(Recorded):
    """Which nights."""

    state: Literal["published", "rejected", "unpublished"] | None = None
