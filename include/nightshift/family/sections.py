"""What ``model.yaml`` may say: one pydantic class for each section, :class:`ModelFamily` over all.

Parsing DAGs imports this module, so it opens no connection and imports nothing heavy.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import croniter
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

FAMILY_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""Family names are folder names, DAG ids and parts of SQL names: short, lower case, plain."""

RESERVED = frozenset({"entity_id", "known_at"})
"""Columns of features.sql that have a meaning of their own."""

_NAME = f"^{FAMILY_NAME.pattern}$"
_COLUMN = r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"
_FUNCTION = r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$"
_CLASS = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$"
_EXPECTATION = r"^expect_[a-z0-9_]+$"

PATTERNS = {
    _NAME: "write a-z, 0-9 and _, at most 40 characters that begin with a letter",
    _COLUMN: "write a column name: letters, digits and _, at most 63 characters",
    _FUNCTION: "write <module>.<function> in lower case, such as estimator.build",
    _CLASS: "write the whole path of a class, such as my_package.alerts.PagerNotifier",
    _EXPECTATION: "write the name of a Great Expectations expectation, such as"
    " expect_column_values_to_not_be_null",
}
"""What is said of text that does not match."""


def _iso_duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or not value.startswith("P"):
        raise ValueError("write an ISO 8601 duration such as P7D or PT6H")
    return value


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
        raise ValueError(f"name a column of features.sql other than {', '.join(sorted(RESERVED))}")
    return value


def _free_name(value: str) -> str:
    if value == "latest":
        raise ValueError("choose another name: the view predictions_latest is of all families")
    return value


def _time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("write an IANA time zone such as UTC or America/New_York") from None
    return value


Duration = Annotated[timedelta, BeforeValidator(_iso_duration), AfterValidator(_positive)]
WaitingTime = Annotated[timedelta, BeforeValidator(_iso_duration)]
Cron = Annotated[str, AfterValidator(_cron)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Column = Annotated[str, Field(pattern=_COLUMN)]
Key = Annotated[Column, AfterValidator(_own_column)]


class Section(BaseModel):
    """A part of a configuration file: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Source(Section):
    """Where features.sql and labels.sql run: an Airflow connection, and if it keeps history."""

    connection: str
    history: Literal["append_only", "mutable"]


class Features(Section):
    """The columns an estimator sees, in this order: numeric first, then categorical.

    Values of ``sensitive`` columns are shown nowhere: not in logs, verdicts, errors or pages.
    ``optional`` ones may be empty for a whole night.
    """

    numeric: list[Column] = []
    categorical: list[Column] = []
    sensitive: list[Column] = []
    optional: list[Column] = []

    @property
    def names(self) -> list[str]:
        return [*self.numeric, *self.categorical]

    @model_validator(mode="after")
    def _some_and_distinct(self) -> Features:
        if not self.names:
            raise ValueError("list at least one column under numeric or categorical")
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ValueError(f"listed twice: {', '.join(twice)}")
        reserved = RESERVED & set(self.names)
        if reserved:
            raise ValueError(f"{', '.join(sorted(reserved))} is not a feature")
        for key, listed in (("sensitive", self.sensitive), ("optional", self.optional)):
            unknown = [name for name in listed if name not in self.names]
            if unknown:
                raise ValueError(
                    f"{key}: {', '.join(unknown)} is no feature; name columns that are listed under"
                    " numeric or categorical"
                )
        return self


class Search(Section):
    """scikit-learn's own search over the parameters of ``build``, which may choose anything.

    ``space`` lists the values of each parameter. ``tries`` bounds a random search. Folds are
    ordered by time; what is not tried within ``budget`` is left untried.
    """

    method: Literal["grid", "random", "halving"] = "grid"
    space: dict[str, Annotated[list[Any], Field(min_length=1)]]
    tries: Annotated[int, Field(ge=1)] = 20
    folds: Annotated[int, Field(ge=2)] = 4
    budget: Duration = timedelta(minutes=30)

    @model_validator(mode="after")
    def _something_to_choose(self) -> Search:
        if all(len(values) < 2 for values in self.space.values()):
            raise ValueError("space leaves nothing to choose; list two values of a parameter")
        return self


class Estimator(Section):
    """``build`` is ``<module>.<function>`` in the family's folder and returns a Pipeline."""

    build: Annotated[str, Field(pattern=_FUNCTION)] = "estimator.build"
    params: dict[str, Any] = {}
    seed: int = 0
    search: Search | None = None


class Schedule(Section):
    """Cron expressions in ``timezone``; ``retrain: null`` leaves retraining to measurements.

    A night that is not published ``deadline`` after its tick counts as missed.
    """

    score: Cron
    monitor: Cron
    retrain: Cron | None = None
    deadline: Duration = timedelta(hours=4)
    timezone: Annotated[str, AfterValidator(_time_zone)] = "UTC"


class Expectation(BaseModel):
    """One Great Expectations expectation, by its own name and with its own arguments."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: Annotated[str, Field(pattern=_EXPECTATION)]
    severity: Literal["critical", "warning", "info"] = "critical"

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Labels(Section):
    """When the truth about a batch is complete enough to judge it.

    ``silence``: an alarm when no label has become known for so long; by default a day more than
    the maturity. Each collection asks the source again for the labels of the last ``look_back``;
    by default as far as measurements and trials reach. A label that one of ``expectations`` does
    not hold of is set aside until a later one corrects it.
    """

    per: Literal["entity", "entity_and_as_of"] = "entity"
    maturity: WaitingTime
    min_coverage: Fraction = 0.9
    silence: Duration | None = None
    look_back: Duration | None = None
    expectations: list[Expectation] = []

    @model_validator(mode="after")
    def _each_label_by_itself(self) -> Labels:
        for place, expectation in enumerate(self.expectations):
            idle = {"column", "mostly", "row_condition"} & set(expectation.arguments)
            if expectation.severity != "critical":
                idle.add("severity")
            if idle:
                raise ValueError(
                    f"expectations.{place}: {', '.join(sorted(idle))} means nothing to labels, each"
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


class Fall(Section):
    """A drop from the reference as a fraction of it, of its absolute value."""

    fraction: Annotated[float, Field(gt=0, le=1)]


class Performance(Section):
    """What is measured: a scikit-learn scorer over matured nights. Greater is better.

    ``metric`` decides; ``also`` is measured beside it. The threshold is a level, or with
    ``max_drop`` lies that much below what the champion was worth when it was promoted. ``slices``
    are columns of features.sql: each value of one is measured for itself.
    """

    metric: str
    also: list[str] = []
    window: Duration
    min_labels: Annotated[int, Field(ge=2)] = 500
    threshold: float | None = None
    max_drop: Annotated[float, Field(gt=0)] | Fall | None = None
    slices: list[Key] = []

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


class Levels(Section):
    """From where on a signal is worth a warning, and from where on an alert."""

    warn: Annotated[float, Field(ge=0)]
    alert: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _ordered(self) -> Levels:
        if self.alert < self.warn:
            raise ValueError(f"alert ({self.alert:g}) lies below warn ({self.warn:g})")
        return self


class Shares(Levels):
    """The same for a signal that is a fraction, 0 to 1."""

    warn: Fraction
    alert: Fraction


Signal = Literal["missing", "unseen", "out_of_range", "drift", "score_drift", "estimated"]
SIGNALS: tuple[Signal, ...] = get_args(Signal)


class Watch(Section):
    """What is watched the same night, before any label, over the nights of ``window``.

    ``missing``, ``unseen`` and ``out_of_range`` are shares of rows, the first one above that of
    training; ``drift`` and ``score_drift`` are distances from training, 0 (same) to 1 (nothing in
    common); ``estimated`` is how far the metric, estimated without labels, lies below the
    reference. Models with fewer than ``min_rows`` rows in the window are not judged.
    """

    window: Duration = timedelta(days=7)
    min_rows: Annotated[int, Field(ge=1)] = 500
    missing: Shares | None = Shares(warn=0.05, alert=0.2)
    unseen: Shares | None = Shares(warn=0.01, alert=0.1)
    out_of_range: Shares | None = Shares(warn=0.01, alert=0.1)
    drift: Shares | None = Shares(warn=0.1, alert=0.3)
    score_drift: Shares | None = Shares(warn=0.1, alert=0.3)
    estimated: Levels | None = None

    def levels(self, signal: Signal) -> Levels | None:
        """The levels of a signal; None where the family does not judge it."""
        found: Levels | None = getattr(self, signal)
        return found


class ShiftRule(Section):
    """The sequential detector, and how many false alarms a model-year may bring."""

    false_alarms: Annotated[float, Field(gt=0, lt=1)] = 0.05


class Alerts(Section):
    """So many nights with a signal at ``alert`` among the last so many."""

    nights: Annotated[int, Field(ge=1)]
    of_last: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _possible(self) -> Alerts:
        if self.nights > self.of_last:
            raise ValueError(f"nights ({self.nights}) cannot exceed of_last ({self.of_last})")
        return self


class When(Section):
    """What calls for a retrain: any one of the rules that are given.

    ``shift`` is the sequential detector; ``breaches`` so many breaches among the last ``of_last``
    measurements, the latest among them; ``signals`` names signals of ``watch``.
    """

    shift: ShiftRule | None = None
    breaches: Annotated[int, Field(ge=1)] | None = None
    of_last: Annotated[int, Field(ge=1)] | None = None
    signals: dict[Signal, Alerts] = {}

    @model_validator(mode="after")
    def _possible(self) -> When:
        if (self.breaches is None) != (self.of_last is None):
            raise ValueError("breaches and of_last belong together: give both, or neither")
        if self.breaches and self.of_last and self.breaches > self.of_last:
            raise ValueError(f"breaches ({self.breaches}) cannot exceed of_last ({self.of_last})")
        if self.shift is None and self.breaches is None and not self.signals:
            raise ValueError(
                "holds no rule: give shift, breaches and of_last, or signals;"
                " or write when: null, which only alerts"
            )
        return self


class Training(Section):
    """Which nights a challenger learns from: ``window`` before the holdout, and by ``policy`` more.

    ``mix`` adds a seeded sample of the nights of ``past`` before the window, so that it makes up
    ``share`` of the rows. ``same_season`` adds the matching weeks of ``years`` earlier years: the
    window itself and as long again after it. ``incremental`` goes on from the champion with
    ``partial_fit`` on the nights it has not learnt from. With fewer labelled rows than ``min_rows``
    nothing is trained; by default as many as ``performance.min_labels``.
    """

    policy: Literal["window", "mix", "same_season", "incremental"] = "window"
    window: Duration
    past: Duration | None = None
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    years: Annotated[int, Field(ge=1)] | None = None
    min_rows: Annotated[int, Field(ge=2)] | None = None

    @model_validator(mode="after")
    def _what_the_policy_needs(self) -> Training:
        needs = {"mix": ("past", "share"), "same_season": ("years",)}.get(self.policy, ())
        given = [name for name in ("past", "share", "years") if getattr(self, name) is not None]
        missing = [name for name in needs if name not in given]
        if missing:
            raise ValueError(f"policy {self.policy} needs {' and '.join(missing)}")
        idle = [name for name in given if name not in needs]
        if idle:
            raise ValueError(f"{', '.join(idle)} means nothing to the policy {self.policy}")
        return self


class Retrain(Section):
    """When a retrain is called for (``when: null``: never, breaches only alert), and how."""

    when: When | None = When(shift=ShiftRule())
    cooldown: WaitingTime = timedelta(0)
    training: Training


class AtLeast(Section):
    """A group retrains when so many of its models are below their thresholds."""

    at_least: Annotated[int, Field(ge=1)]


GroupRule = Literal["any", "all"] | AtLeast


class Group(Section):
    """Models that share a retrain rule; ``"*"`` gives every other member a threshold."""

    thresholds: dict[str, float]
    retrain_if: GroupRule = "any"

    @model_validator(mode="after")
    def _possible(self) -> Group:
        if not self.thresholds:
            raise ValueError("thresholds lists no model")
        if isinstance(self.retrain_if, AtLeast) and "*" not in self.thresholds:
            count = len(self.thresholds)
            if self.retrain_if.at_least > count:
                raise ValueError(
                    f"at_least {self.retrain_if.at_least} is never reached: thresholds lists"
                    f" only {count}"
                )
        return self


class Models(Section):
    """A factory: one model for each value of the column ``by`` of features.sql.

    Members are listed under ``groups``, or discovered: ``thresholds`` of the factory names models,
    ``"*"`` all others, and ``group_by`` names the column that tells the group. ``retrains`` says
    who is retrained when a group's rule fires: its models below their thresholds, or all of them.
    With ``fallback`` a model of the whole family scores members that have none yet. A member
    without rows for ``retire_after`` is retired.
    """

    by: Key
    group_by: Key | None = None
    groups: dict[str, Group] = {}
    thresholds: dict[str, float] = {}
    retrain_if: GroupRule = "any"
    retrains: Literal["all", "failing"] = "all"
    fallback: bool = False
    retire_after: Duration = timedelta(days=30)

    @model_validator(mode="after")
    def _one_group_each(self) -> Models:
        listed = [name for group in self.groups.values() for name in group.thresholds]
        twice = sorted({name for name in listed if listed.count(name) > 1})
        if twice:
            raise ValueError(f"in two groups: {', '.join(twice)}; a member belongs to one")
        if self.groups and (self.group_by or self.thresholds):
            raise ValueError(
                "list groups, or discover members with thresholds and group_by, not both"
            )
        return self

    def group_of(self, member: str, told: str | None = None) -> str | None:
        """The group of a member: listed, the one with ``"*"``, or what ``group_by`` told."""
        for name, group in self.groups.items():
            if member in group.thresholds:
                return name
        for name, group in self.groups.items():
            if "*" in group.thresholds:
                return name
        return told

    def rule_of(self, group: str) -> GroupRule:
        """The retrain rule of a group."""
        return self.groups[group].retrain_if if group in self.groups else self.retrain_if

    def threshold_of(self, member: str) -> float | None:
        """A member's own threshold, or that of ``"*"``; None where neither is given."""
        tables = [self.thresholds, *(group.thresholds for group in self.groups.values())]
        for key in (member, "*"):
            for table in tables:
                if key in table:
                    return table[key]
        return None

    def wanted(self, member: str) -> bool:
        """Whether a value of ``by`` is a member: any is where members are discovered."""
        return not self.groups or self.group_of(member) is not None


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
    """An Airflow notifier by its class path, and its arguments (Airflow templates work in them)."""

    notifier: Annotated[str, Field(pattern=_CLASS)]
    arguments: dict[str, Any] = {}
    on: list[Cause] = list(CAUSES)


class Promotion(Section):
    """The proof a challenger owes: a paired test on nights neither model was trained on.

    The lower bound of the difference, at ``confidence``, must lie above ``margin``, on at least
    ``min_rows`` rows, with no slice significantly worse by more than ``max_slice_drop``. Winning
    more than the share ``too_good`` of what the champion at its best falls short of perfection is
    held for a person: it looks like a leak. With ``shadow`` the challenger then scores beside the
    champion for so long, with ``approval: human`` a person answers within ``response_timeout``. For
    the time of ``probation`` a new champion that proves worse than its predecessor is rolled back.
    The last ``keep_versions`` champions of a model stay loadable.
    """

    holdout: Duration
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    margin: Annotated[float, Field(ge=0)] = 0.0
    min_rows: Annotated[int, Field(ge=2)] = 500
    max_slice_drop: Annotated[float, Field(ge=0)] | None = None
    too_good: Annotated[float, Field(gt=0, le=1)] | None = 0.5
    shadow: Duration | None = None
    approval: Literal["automatic", "human"] = "automatic"
    response_timeout: Duration = timedelta(days=1)
    probation: Duration | None = timedelta(days=14)
    keep_versions: Annotated[int, Field(ge=1)] = 10


class Scoring(Section):
    """Into how many tasks a night is cut: each scores about ``rows_per_task`` rows.

    Models count as rows: each as many as loading and calling it costs. A night within one task's
    share stays in one task; none is cut into more than ``max_tasks``.
    """

    max_tasks: Annotated[int, Field(ge=1, le=1024)] = 64
    rows_per_task: Annotated[int, Field(ge=1)] = 1_000_000
