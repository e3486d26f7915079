"""What was concluded, about what, and who holds a family."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from nightshift.documents import Inputs
from nightshift.wording import moment

DecisionKind = Literal[
    "keep",
    "alert",
    "wait",
    "ask",
    "held",
    "defer",
    "retrain",
    "promote",
    "reject",
    "shadow",
    "rollback",
    "failed",
]
AboutKind = Literal[
    "monitor",
    "request",
    "rollback",
    "version",
    "comparison",
    "shadow",
    "probation",
    "approval",
    "training",
]


@dataclass(frozen=True)
class About:
    """What a decision is about: a thing by its kind and number, or what was asked for at a moment.

    ``number`` is None where there is none: a monitoring, a request and a rollback are told apart by
    their moment and by who asked for what. Deciding twice about one ``subject`` is deciding once.
    """

    kind: AboutKind
    number: int | None
    subject: str

    @classmethod
    def monitoring(cls, as_of: datetime) -> About:
        """What was measured at a moment."""
        return cls("monitor", None, f"monitor {as_of.isoformat()}")

    @classmethod
    def request(cls, as_of: datetime, by: str, reason: str) -> About:
        """A retrain that somebody, or a calendar, has asked for."""
        return cls("request", None, f"request {as_of.isoformat()} {by}: {reason}")

    @classmethod
    def rollback(cls, as_of: datetime, by: str, reason: str) -> About:
        """A way back that somebody has asked for."""
        return cls("rollback", None, f"rollback {as_of.isoformat()} {by}: {reason}")

    @classmethod
    def version(cls, version_id: int, reason: str) -> About:
        """A version that is to serve on somebody's word."""
        return cls("version", version_id, f"promote {version_id}: {reason}")

    @classmethod
    def comparison(cls, comparison_id: int) -> About:
        """A challenger that was compared with the champion."""
        return cls("comparison", comparison_id, f"comparison {comparison_id}")

    @classmethod
    def shadow(cls, shadow_id: int) -> About:
        """A challenger that has scored beside the champion."""
        return cls("shadow", shadow_id, f"shadow {shadow_id}")

    @classmethod
    def probation(cls, version_id: int, seq: int) -> About:
        """A champion on probation since the promotion ``seq`` of its model."""
        return cls("probation", seq, f"probation {version_id} of promotion {seq}")

    @classmethod
    def training(cls, decision_id: int) -> About:
        """A decision to retrain, as far as it has come."""
        return cls("training", decision_id, f"training {decision_id}")

    @classmethod
    def approval(cls, approval_id: int) -> About:
        """What a person was asked."""
        return cls("approval", approval_id, f"approval {approval_id}")


@dataclass(frozen=True)
class Decision:
    """What a policy concluded, by which rule, from which inputs, in a sentence.

    ``severity`` orders retrains where there are more than the budget allows: how many standard
    errors, or limits of the detector, the model lies below its threshold. ``alarming`` says that it
    lies below, or that a rule has fired; ``falling_since`` from which night on the detector says
    so, None where it does not.
    """

    model_id: int
    kind: DecisionKind
    rule: str
    reason: str
    as_of: datetime
    inputs: Inputs
    severity: float = 0.0
    alarming: bool = False
    falling_since: datetime | None = None


@dataclass(frozen=True)
class Hold:
    """Somebody has held a family: no model of it is retrained or replaced by itself."""

    family: str
    reason: str
    by: str
    since: datetime

    def __str__(self) -> str:
        return f"held by {self.by} since {moment(self.since)}: {self.reason}"
