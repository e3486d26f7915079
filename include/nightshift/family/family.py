"""A folder in ``include/models``, whole: what its sections say together."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from nightshift.family.libraries import Libraries
from nightshift.family.rows import Rows
from nightshift.family.rules import Models, Promotion, Retrain, Training, Watch
from nightshift.family.sections import (
    Estimator,
    Expectation,
    Features,
    Labels,
    Notifier,
    Performance,
    Schedule,
    Scoring,
    Source,
)
from nightshift.family.ticks import next_tick, previous_tick
from nightshift.family.values import NAME, Section, YesNo, free_name

OVERLAP = timedelta(days=2)
"""How much further than anything looks labels are asked for: a source may be that late."""


class ModelFamily(Section):
    """A folder in ``include/models``: an estimator, a features query, a labels query."""

    family: Annotated[str, AfterValidator(free_name)] = Field(
        pattern=NAME,
        description="the folder's name: lower case, digits, `_`, at most 40 characters",
    )
    description: str = Field(description="what it predicts; shown in Airflow and on the pages")
    owner: str = Field(description="who answers for it; shown in Airflow")
    task: Literal["regression", "binary_classification", "multiclass_classification"] = Field(
        description="what is predicted: a number, yes or no, or one of several classes"
    )
    source: Source
    features: Features
    pseudonymise: Literal["hmac"] | None = Field(
        default=None,
        description="`hmac`: entities go by [pseudonym](#pseudonyms), from the family's first night"
        " on",
    )
    estimator: Estimator = Estimator()
    libraries: Libraries = Field(
        default={},
        description="by how much a library, or `python`, may differ from what a version was trained"
        " with, see [below](#libraries-under-a-version)",
    )
    schedule: Schedule
    expectations: list[Expectation] = Field(
        default=[],
        description="what a night must fulfil beside the guard battery, in Great Expectations",
    )
    rows: Rows = Rows()
    allow_empty: YesNo = Field(default=False, description="whether a night of no rows passes")
    labels: Labels
    performance: Performance
    watch: Watch = Watch()
    scoring: Scoring = Scoring()
    retrain: Retrain
    promotion: Promotion
    models: Models | None = Field(
        default=None, description="makes the family a factory; null: it has one model"
    )
    alerts: list[Notifier] = Field(
        default=[], description="[notifiers](alerts.md); without one nobody is told"
    )
    _folder: Path = PrivateAttr(default=Path())

    def model_post_init(self, context: Any) -> None:
        self._folder = (context or {}).get("folder", Path())

    @model_validator(mode="after")
    def _require_thresholds(self) -> ModelFamily:
        relative = self.performance.max_drop is not None
        if self.models is None:
            if self.performance.threshold is None and not relative:
                raise ValueError("performance: give threshold (a level) or max_drop")
            return self
        if self.performance.threshold is not None:
            raise ValueError("performance.threshold: a factory's thresholds are under models")
        listed = self.models.thresholds or self.models.groups
        if not listed and not relative:
            raise ValueError(
                'models: give thresholds, such as {"*": 0.75}, or performance.max_drop'
            )
        return self

    @model_validator(mode="after")
    def _members_are_text(self) -> ModelFamily:
        for key in ("by", "group_by") if self.models else ():
            if getattr(self.models, key) in self.features.numeric:
                raise ValueError(
                    f"models.{key}: {getattr(self.models, key)!r} is a numeric feature;"
                    " name a column of text"
                )
        return self

    @model_validator(mode="after")
    def _names_are_no_secrets(self) -> ModelFamily:
        factory = self.models
        named = [("performance.slices", name) for name in self.performance.slices]
        if factory is not None:
            named += [("models.by", factory.by), ("models.group_by", factory.group_by or "")]
        for key, name in named:
            if name in self.features.sensitive:
                raise ValueError(
                    f"{key}: {name!r} is listed under features.sensitive, and its values would be"
                    " names that everybody reads; choose another column"
                )
        return self

    @model_validator(mode="after")
    def _signals_are_watched(self) -> ModelFamily:
        if self.watch.estimated and self.task != "binary_classification":
            raise ValueError(
                f"watch.estimated: only binary_classification can be estimated, not {self.task}"
            )
        when = self.retrain.when
        for signal in when.signals if when else ():
            if self.watch.levels(signal) is None:
                raise ValueError(
                    f"retrain.when.signals.{signal}: never at alert, for watch.{signal} is null;"
                    " give it levels, such as {warn: 0.1, alert: 0.3}"
                )
        return self

    @property
    def trainings(self) -> tuple[Training, ...]:
        """The policies of training that compete, the one that leads first."""
        leading = self.retrain.training
        alone = leading.model_copy(update={"rivals": []})
        return alone, *(Training(**dict(rival)) for rival in leading.rivals)

    def learning_by(self, training: Training) -> ModelFamily:
        """The same family with one policy of training."""
        retrain = self.retrain.model_copy(update={"training": training})
        return self.model_copy(update={"retrain": retrain})

    @property
    def discreet(self) -> bool:
        """Whether messages must not repeat what the family's data say."""
        return bool(self.features.sensitive) or self.pseudonymise is not None

    @property
    def looks_back(self) -> timedelta:
        """How far back measurements, signals and trials read predictions, at most."""
        trial = max(self.promotion.shadow or timedelta(0), self.promotion.probation or timedelta(0))
        matured = max(self.performance.window, trial, self.labels.silent_after)
        return max(self.labels.maturity + matured, self.watch.window)

    @property
    def labels_reach(self) -> timedelta:
        """How far back each collection asks the source for labels."""
        return self.labels.look_back or self.looks_back + OVERLAP

    @property
    def keys(self) -> list[str]:
        """Columns of features.sql that are frozen as text and are no features."""
        models = [self.models.by, self.models.group_by] if self.models else []
        names = [name for name in [*models, *self.performance.slices] if name]
        return [name for name in dict.fromkeys(names) if name not in self.features.names]

    @property
    def columns(self) -> list[str]:
        """Every column of a snapshot, in order."""
        return ["entity_id", *self.keys, *self.features.names]

    def is_whole(self, model: str) -> bool:
        """Whether a model of this name learns from every row of the family.

        In a factory without a fallback there is none: whoever is called as the family is a member.
        """
        return model == self.family and (self.models is None or self.models.fallback)

    def level_of(self, member: str) -> float | None:
        """The absolute threshold of a model; None where it is relative."""
        if self.models is None:
            return self.performance.threshold
        return self.models.threshold_of(member)

    @property
    def folder(self) -> Path:
        """Where this family was read from."""
        return self._folder

    @property
    def features_sql(self) -> str:
        return (self.folder / "features.sql").read_text()

    @property
    def labels_sql(self) -> str:
        return (self.folder / "labels.sql").read_text()

    def previous_tick(self, moment: datetime) -> datetime:
        """The latest tick of ``schedule.score`` at or before ``moment``, in UTC."""
        return previous_tick(self.schedule.score, self.schedule.timezone, moment)

    def previous_monitoring(self, moment: datetime) -> datetime:
        """The latest tick of ``schedule.monitor`` before ``moment``, in UTC."""
        instant = timedelta(microseconds=1)
        return previous_tick(self.schedule.monitor, self.schedule.timezone, moment - instant)

    def next_tick(self, moment: datetime) -> datetime:
        """The first tick of ``schedule.score`` after ``moment``, in UTC."""
        return next_tick(self.schedule.score, self.schedule.timezone, moment)

    def ticks(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """The ticks of ``schedule.score`` in (start, end], in UTC."""
        tick = self.next_tick(start)
        while tick <= end:
            yield tick
            tick = self.next_tick(tick)
