"""What models have been through while a configuration is lived through, in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nightshift import promotion, training
from nightshift.artifacts import Predictions
from nightshift.documents import Worth
from nightshift.family import Training
from nightshift.records import (
    Comparison,
    Measurement,
    Model,
    Version,
)
from nightshift.registry import Champion
from nightshift.training import Plan
from nightshift.tuning.laboratory import Fitted, Floats


@dataclass(frozen=True)
class Scored:
    """A version as rules know it, with what it tells of rows.

    ``rule`` is what it learnt by; None where it learnt from the nights since a break.
    """

    version: Version
    fitted: Fitted
    rule: Training | None = None

    def predict(self, table: pa.Table) -> Predictions:
        """What it tells of rows, by their ``place``."""
        score, label = self.fitted.of(table["place"].to_numpy())
        return Predictions(score, label, np.zeros(len(score), dtype=np.int16))

    @property
    def learnt_until(self) -> datetime:
        """The last moment that it has learnt from."""
        return training.learnt_until(self.version)


@dataclass
class Trial:
    """A challenger in shadow, or a champion on probation."""

    about: promotion.Shadow | promotion.Probation
    older: Scored
    newer: Scored
    compared: Comparison | None = None
    plan: Plan | None = None
    threshold: float | None = None


@dataclass
class Career:
    """What one model has been through."""

    model: Model
    served: list[tuple[datetime, Scored, Worth | None]] = field(default_factory=list)
    last_retrain: datetime | None = None
    since_promotion: datetime | None = None
    failures: int = 0
    shadow: Trial | None = None
    probations: list[Trial] = field(default_factory=list)
    recent: tuple[Measurement, ...] = ()
    remembered: dict[int, list[tuple[datetime, float]]] = field(default_factory=dict)
    seen: dict[int, datetime] = field(default_factory=dict)

    def serving(self, as_of: datetime) -> Scored | None:
        """Who serves at a moment."""
        latest = [scored for since, scored, _ in self.served if since <= as_of]
        return latest[-1] if latest else None

    def champion(self, as_of: datetime) -> Champion | None:
        """The same, as rules know it."""
        latest = [place for place in self.served if place[0] <= as_of]
        if not latest:
            return None
        since, scored, worth = latest[-1]
        return Champion(scored.version, since, worth)

    def earlier(self) -> list[Scored]:
        """The champions before the one that serves, the latest first."""
        distinct = {s.version.version_id: s for _, s, _ in reversed(self.served)}
        return list(distinct.values())[1:]

    def serve(self, since: datetime, scored: Scored, worth: Worth | None) -> None:
        """From a moment on a version serves, and what is remembered of others begins anew."""
        self.served.append((since, scored, worth))
        self.remembered, self.seen = {}, {}


@dataclass(frozen=True)
class Lived:
    """What a configuration came to.

    ``score`` and ``label`` are what readers got for each row; NaN and None where nothing.
    ``breaches`` has the moments at which a model was measured below its threshold, ``fits`` and
    ``promotions`` those of each.
    """

    score: Floats
    label: NDArray[np.object_] | None
    fits: tuple[datetime, ...] = ()
    promotions: tuple[datetime, ...] = ()
    breaches: tuple[datetime, ...] = ()
