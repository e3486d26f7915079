"""What ``model.yaml`` says of a model and its nights: one pydantic class for each section.

What is decided about it is in ``rules``. Each key has one ``Field(description=...)``: ``make
reference`` makes the tables of ``docs/models.md`` and the JSON schema of them.
Parsing DAGs imports this module, so it opens no connection and imports nothing heavy.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from nightshift.family.values import (
    CLASS,
    EXPECTATION,
    FUNCTION,
    RESERVED,
    WORDS,
    Column,
    Cron,
    Duration,
    Fraction,
    Inline,
    Key,
    Section,
    Storable,
    WaitingTime,
    time_zone,
)
from nightshift.wording import Gauge, listed


class Source(Section):
    """Where features.sql and labels.sql run."""

    connection: str = Field(
        description="an Airflow connection to a [source](operations.md#sources), in any case of"
        " letters"
    )
    history: Literal["append_only", "mutable"] = Field(
        description="`append_only`: the source can say what was known at a past moment; `mutable`:"
        " it cannot"
    )


class Features(Section):
    """The columns an estimator sees, in this order: numeric first, then categorical."""

    numeric: list[Column] = Field(
        default=[], description="columns of numbers that the estimator sees"
    )
    categorical: list[Column] = Field(
        default=[], description="columns of text that it sees; at least one column of either kind"
    )
    sensitive: list[Column] = Field(
        default=[],
        description="columns among them whose values are [shown nowhere](#what-is-protected): not"
        " in logs, verdicts, errors or pages",
    )
    optional: list[Column] = Field(
        default=[], description="columns among them that may be empty for a whole night"
    )

    @property
    def names(self) -> list[str]:
        return [*self.numeric, *self.categorical]

    @model_validator(mode="after")
    def _some_and_distinct(self) -> Features:
        if not self.names:
            raise ValueError("list at least one column under numeric or categorical")
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ValueError(f"listed twice: {listed(twice)}")
        reserved = RESERVED & set(self.names)
        if reserved:
            raise ValueError(f"{listed(sorted(reserved))} is not a feature")
        for key, names in (("sensitive", self.sensitive), ("optional", self.optional)):
            unknown = [name for name in names if name not in self.names]
            if unknown:
                raise ValueError(
                    f"{key}: {listed(unknown)} is no feature; name columns that are listed under"
                    " numeric or categorical"
                )
        return self


class Search(Section):
    """scikit-learn's own search over the parameters of ``build``, which may choose anything.

    Folds are ordered by time.
    """

    method: Literal["grid", "random", "halving"] = Field(
        default="grid", description="scikit-learn's search of that name"
    )
    space: dict[str, Annotated[list[Storable], Field(min_length=1)]] = Field(
        description="parameter to the list of its values"
    )
    tries: int = Field(default=20, ge=1, description="how many candidates a random search draws")
    folds: int = Field(
        default=4, ge=2, description="how often later nights judge what was learnt on earlier ones"
    )
    budget: Duration = Field(
        default=timedelta(minutes=30), description="what is not tried by then is left untried"
    )

    @model_validator(mode="after")
    def _something_to_choose(self) -> Search:
        if all(len(values) < 2 for values in self.space.values()):
            raise ValueError("space leaves nothing to choose; list two values of a parameter")
        return self


class Estimator(Section):
    """What is fitted."""

    build: str = Field(
        default="estimator.build",
        pattern=FUNCTION,
        description="`<module>.<function>` in the family's folder; it returns a Pipeline",
    )
    params: dict[str, Storable] = Field(default={}, description="the function's keyword arguments")
    seed: int = Field(default=0, description="the function's seed")
    search: Search | None = Field(
        default=None,
        description="scikit-learn's [search](training.md#which-parameters) over parameters of the"
        " function; null keeps `params`",
    )


class Schedule(Section):
    """When things run: cron expressions of five fields."""

    score: Cron = Field(description="when a night is frozen, validated and scored")
    monitor: Cron = Field(description="when labels are collected and nights are measured")
    retrain: Cron | None = Field(
        default=None, description="retrains by the calendar; null leaves it to measurements"
    )
    deadline: Duration = Field(
        default=timedelta(hours=4),
        description="a night that is not published so long after its tick counts as missed",
    )
    timezone: Annotated[str, AfterValidator(time_zone)] = Field(
        default="UTC", description="an IANA name; the three are wall clock times in it"
    )


class Expectation(BaseModel):
    """One Great Expectations expectation, by its own name and with its own arguments."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Storable]

    type: str = Field(
        pattern=EXPECTATION,
        description="Great Expectations' own name; its own arguments stand beside it",
    )
    severity: Literal["critical", "warning", "info"] = Field(
        default="critical",
        description="`critical` rejects the night, `warning` and `info` only warn",
    )

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Labels(Section):
    """When the truth about a batch is complete enough to judge it."""

    per: Literal["entity", "entity_and_as_of"] = Field(
        default="entity",
        description="`entity_and_as_of` where an entity is scored night after night",
    )
    maturity: WaitingTime = Field(description="how long after its as_of a night can be judged")
    min_coverage: Fraction = Field(
        default=0.9,
        description="which share of a window's predictions must have labels; with less it is"
        " `immature`, and a night with less is neither learnt from nor compared on",
    )
    silence: Duration | None = Field(
        default=None,
        description="`missing_labels` is told when no label has become known for so long; null: a"
        " day more than `maturity`",
    )
    look_back: Duration | None = Field(
        default=None,
        description="how far back each collection asks the source again for labels; null: as far as"
        " measurements and trials reach",
    )
    expectations: list[Expectation] = Field(
        default=[],
        description="what a label must fulfil; others are set aside, counted and shown, until a"
        " later label corrects them",
    )

    @model_validator(mode="after")
    def _refuse_idle_arguments(self) -> Labels:
        for place, expectation in enumerate(self.expectations):
            idle = {"column", "mostly", "row_condition"} & set(expectation.arguments)
            if expectation.severity != "critical":
                idle.add("severity")
            if idle:
                raise ValueError(
                    f"expectations.{place}: {listed(sorted(idle))} means nothing to labels, each"
                    " of which is as expected or set aside; leave it out"
                )
        return self

    @property
    def of_value(self) -> list[Expectation]:
        """What is expected of labels, about their column ``value``."""
        return [
            Expectation.model_validate({**expectation.model_dump(), "column": "value"})
            for expectation in self.expectations
        ]

    @property
    def silent_after(self) -> timedelta:
        return self.silence or self.maturity + timedelta(days=1)


class Fall(Inline):
    """A drop from the reference as a fraction of it, of its absolute value."""

    fraction: float = Field(gt=0, le=1, description="a fraction of the champion's worth")


class Performance(Section):
    """What is measured: scikit-learn scorers over matured nights. Greater is better."""

    metric: str = Field(description="the scikit-learn scorer that decides; greater is better")
    say_as: str | None = Field(
        default=None,
        pattern=WORDS,
        description="what its figures are called wherever people read them, after the number:"
        " `minutes of error`; null: scikit-learn's own name. Errors are shown above zero",
    )
    also: list[str] = Field(
        default=[], description="scorers that are measured beside it and decide nothing"
    )
    window: Duration = Field(description="the matured nights that are measured together")
    min_labels: int = Field(
        default=500, ge=2, description="with fewer labels in the window it is `immature`"
    )
    threshold: float | None = Field(default=None, description="a level of the metric")
    max_drop: Annotated[float, Field(gt=0)] | Fall | None = Field(
        default=None,
        description="instead: so far below what the champion was worth at its promotion, in units"
        " of the metric, or as a fraction of that worth: `{fraction: 0.2}`",
    )
    yardstick: Literal["constant"] | None = Field(
        default="constant",
        description="what `max_drop` allows grows and shrinks with how hard nights are: by what a"
        " [constant guess](detection.md#conditions) is worth on them, against what it was worth at"
        " the promotion; null holds every night to the same",
    )
    slices: list[Key] = Field(
        default=[],
        description="columns of features.sql; each value of one is measured for itself and decides"
        " nothing",
    )

    def gauge(self, metric: str | None = None) -> Gauge:
        """How figures of a metric are read aloud, by default of the one that decides."""
        decides = metric in (None, self.metric)
        return Gauge(metric or self.metric, self.say_as if decides else None)

    @property
    def metrics(self) -> list[str]:
        """Every metric, the decisive one first."""
        return [self.metric, *self.also]

    @model_validator(mode="after")
    def _distinct_metrics(self) -> Performance:
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError("metric and also name a metric twice; list each once")
        if len(set(self.slices)) < len(self.slices):
            raise ValueError("slices names a column twice; list each once")
        if self.threshold is not None and self.max_drop is not None:
            raise ValueError("give threshold (a level) or max_drop (below the reference), not both")
        return self


class Scoring(Section):
    """Into how many tasks a night is cut. A night within one task's share stays in one task."""

    max_tasks: int = Field(
        default=64, ge=1, le=1024, description="at most so many tasks score a night, side by side"
    )
    rows_per_task: int = Field(
        default=1_000_000,
        ge=1,
        description="how much one task scores; a model counts as 5,000 rows, besides its own",
    )


Cause = Literal[
    "breach",
    "drift",
    "rejected_snapshot",
    "missing_labels",
    "missed_night",
    "left_out",
    "repeated_entities",
    "retrain_started",
    "approval",
    "promoted",
    "rejected",
    "rolled_back",
    "failed",
]
CAUSES: tuple[Cause, ...] = get_args(Cause)


class Notifier(Section):
    """An Airflow notifier, and what it is told."""

    notifier: str = Field(pattern=CLASS, description="the path of an Airflow notifier's class")
    arguments: dict[str, Storable] = Field(
        default={}, description="its arguments; Airflow renders templates in them"
    )
    on: list[Cause] = Field(
        default=list(CAUSES), description="the causes that it is told of; by default every one"
    )
