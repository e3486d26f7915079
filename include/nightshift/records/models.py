"""Models, their versions and their nights: what was frozen, checked, scored and measured."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from nightshift.documents import Manifest, Shift, Worth
from nightshift.records.decisions import DecisionKind
from nightshift.wording import Gauge, day, share

State = Literal["measured", "breached", "immature", "undefined"]
Verdict = Literal["passed", "warned", "rejected"]
Health = Literal[
    "failed",
    "awaiting",
    "retraining",
    "breached",
    "warning",
    "untrained",
    "undefined",
    "immature",
    "healthy",
]
MadeAs = Literal["challenger", "since_break", "refit"]
"""What a decision trains: from the window, from the nights since a break, what serves on proof."""

Vote = Literal["pass", "fail", "unknown"]
Level = Literal["ok", "warn", "alert"]


READERS, SHADOW = 0, 1
"""The role of prediction rows: what readers see; what a challenger tells beside the champion."""

WITHHELD_VALUES = "withheld (features.sensitive)"
"""Shown instead of values of sensitive columns."""


@dataclass(frozen=True)
class Snapshot:
    """Rows frozen at ``as_of``: a Parquet file named by its content.

    ``left_out`` has the rows that could not be scored: reason to their number and some examples.
    """

    snapshot_id: int
    family: str
    as_of: datetime
    content_hash: str
    row_count: int
    dropped_rows: int
    query_hash: str
    revision: int
    taken_at: datetime
    left_out: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, compare=False)

    @property
    def left_out_rows(self) -> int:
        """How many rows were left out, whatever was wrong with them."""
        return sum(fault["rows"] for fault in self.left_out.values())


@dataclass(frozen=True)
class Check:
    """One line of a validation: what was expected, whether it held, what was found."""

    expectation: str
    column: str | None
    success: bool
    severity: Literal["critical", "warning", "info"]
    observed: str
    detail: dict[str, Any] = field(default_factory=dict)

    def sentence(self) -> str:
        where = f" on {self.column}" if self.column else ""
        return f"{self.expectation}{where}: {self.observed}"

    def discreet(self, sensitive: Collection[str] | None) -> Check:
        """The check without values that it met, where they may be those of a sensitive column.

        What it was asked about is in its arguments; of some checks it is in the text of a
        condition. How many rows were unexpected is told all the same.

        Parameters
        ----------
        sensitive
            Names of columns; None where they are not known, so that any may be.
        """
        arguments = self.detail.get("arguments")
        if arguments is None:  # the guard battery counts, and tells no value
            return self
        text = json.dumps(arguments, ensure_ascii=False, default=str)
        if sensitive is not None and not any(name in text for name in sensitive):
            return self
        counted = re.fullmatch(r"\d+ of \d+ rows unexpected", self.observed)
        unexpected = [WITHHELD_VALUES] * bool(self.detail.get("unexpected"))
        withheld = f"cannot run: {WITHHELD_VALUES}" if self.detail.get("fault") else WITHHELD_VALUES
        return replace(
            self,
            observed=self.observed if counted else withheld,
            detail={**self.detail, "unexpected": unexpected},
        )


@dataclass(frozen=True)
class Batch:
    """One family's predictions for one ``as_of``."""

    batch_id: int
    family: str
    as_of: datetime
    snapshot_id: int
    row_count: int | None
    state: Literal["writing", "written", "abandoned"]


@dataclass(frozen=True)
class Model:
    """One member of a family; ``group`` shares a retrain rule."""

    model_id: int
    family: str
    name: str
    group: str | None = None


@dataclass(frozen=True)
class Version:
    """A trained, signed artifact of a model, with the manifest that can make it again.

    ``collected_at`` is when its file was deleted, because nothing needed it any more.
    """

    version_id: int
    model: Model
    number: int
    artifact_hash: str
    signature: bytes
    manifest: Manifest
    decision_id: int
    trained_at: datetime
    collected_at: datetime | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"version {self.number} of {self.model.name}"


@dataclass(frozen=True)
class Promotion:
    """A version became the champion: by a ``promote``, or by a ``rollback`` to where it had been.

    ``number`` is the version's, ``reference`` what it was worth on rows it was not trained on.
    """

    seq: int
    version_id: int
    number: int
    kind: DecisionKind
    effective_from: datetime
    promoted_at: datetime
    reference: Worth | None


@dataclass(frozen=True)
class Night:
    """One matured night of one model, as a measurement saw it.

    ``value`` is the metric over the night's labelled rows, greater is better, and ``error`` its
    standard error by rows; both are None where the metric is undefined on them, and ``missing``
    says why. ``guess`` is what the night's own constant guess would be worth, how far its rows lie
    apart; None where that is not told.
    """

    as_of: datetime
    predictions: int
    labels: int
    value: float | None
    error: float | None
    missing: str | None = None
    guess: float | None = None


@dataclass(frozen=True)
class Measurement:
    """A metric over a window of published nights, as it was known at ``as_of``.

    ``value`` follows scikit-learn's scorers: greater is better. ``low`` and ``high`` bound a 95%
    interval, made by ``method``. In the states ``immature`` and ``undefined`` there is no value.
    ``remark`` says why a metric is undefined, or that a single row makes up most of its value.
    ``version_id`` is None where rows of every version count, ``slice`` is ``column=value`` or empty
    for all rows. ``basis`` is ``estimated`` where no label was used. ``threshold`` is None where
    nothing is asked of the value, ``reference`` is what the champion was worth when promoted.
    Decisions look at the ``decisive`` metric only. ``matured_predictions`` and ``matured_labels``
    count those of nights that matured since the monitoring before; None where it was not told yet.
    """

    model_id: int
    metric: str
    as_of: datetime
    window_start: datetime
    window_end: datetime
    state: State
    value: float | None
    low: float | None
    high: float | None
    predictions: int
    labels: int
    threshold: float | None
    version_id: int | None = None
    slice: str = ""
    basis: Literal["realized", "estimated"] = "realized"
    method: str = ""
    reference: float | None = None
    decisive: bool = True
    nights: tuple[Night, ...] = ()
    remark: str | None = None
    matured_predictions: int | None = None
    matured_labels: int | None = None

    @property
    def coverage(self) -> float:
        """The share of predictions in the window whose label is known, 0 to 1."""
        return self.labels / self.predictions if self.predictions else 0.0

    @property
    def nights_without(self) -> int:
        """How many labelled nights cannot have the metric for themselves."""
        return sum(night.labels > 0 and night.value is None for night in self.nights)

    def sentence(self, say_as: str | None = None) -> str:
        """Its figures, in one sentence, the metric in the family's own words."""
        gauge = Gauge(self.metric, say_as)
        window = f"the nights {day(self.window_start)} to {day(self.window_end)}"
        known = f"{self.labels:,} of {self.predictions:,} labels known, {share(self.coverage)}"
        if self.nights_without:
            known += f"; nights without the metric: {self.nights_without}"
        if self.state == "immature":
            return f"cannot be judged yet: {known}; {window}"
        if self.value is None or self.low is None or self.high is None:
            why = f": {self.remark}" if self.remark else ""
            return f"{gauge.name} is undefined on these labels{why} ({window}; {known})"
        remark = f"; {self.remark}" if self.remark else ""
        reading = gauge.reading(self.value, self.threshold, self.low, self.high)
        details = f"({reading.span} on {window}; {known}{remark})"
        if self.threshold is None:
            return f"{reading}, no {gauge.limit_word} yet {details}"
        sure = self.state == "breached" and self.high < self.threshold
        side = gauge.side(self.value, self.threshold, sure=sure)
        return f"{reading}: {side} {details}"


@dataclass(frozen=True)
class Standing:
    """Everything that a policy looks at for one model, at one moment.

    Parameters
    ----------
    say_as
        How the family says the figures of its metric; None where it leaves that to us.
    measurements
        The decisive metric of the serving champion, latest first; empty where nobody serves.
    shift
        What the sequential detector says; None where the family does not use it.
    whole_window
        Whether the champion's own nights reach over the whole window of the latest measurement.
    signals
        Signal to its levels, night by night, latest first.
    last_retrain
        When the model was last told to retrain, whatever came of it; None if never.
    failures
        How many challengers in a row did not serve since the last one that did.
    shadow_learnt_until
        The last night that a challenger in shadow has learnt from; None where there is none.
    fresh_labels
        Labels of nights that have matured since then; None where there was no retrain.
    trainable
        For a model without a champion: the labelled rows that a first version could learn from.
    """

    model_id: int
    name: str
    as_of: datetime
    group: str | None = None
    measurements: tuple[Measurement, ...] = ()
    shift: Shift | None = None
    whole_window: bool = False
    signals: Mapping[str, tuple[Level, ...]] = field(default_factory=dict)
    last_retrain: datetime | None = None
    failures: int = 0
    shadow_learnt_until: datetime | None = None
    fresh_labels: int | None = None
    has_champion: bool = True
    trainable: int = 0
    say_as: str | None = None
