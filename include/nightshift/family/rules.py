"""What ``model.yaml`` says of decisions: what is watched, what retrains, and what proof is owed.

Each key has one ``Field(description=...)``: ``make reference`` makes the tables of
``docs/models.md`` and the JSON schema of them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from nightshift.family.values import Duration, Fraction, Inline, Key, Section, WaitingTime, YesNo
from nightshift.wording import listed


class Levels(Inline):
    """From where on a signal is worth a warning, and from where on an alert."""

    warn: float = Field(ge=0, description="from here on it is worth a look")
    alert: float = Field(ge=0, description="from here on it raises the alert `drift`")

    @model_validator(mode="after")
    def _ordered(self) -> Levels:
        if self.alert < self.warn:
            raise ValueError(f"alert ({self.alert:g}) lies below warn ({self.warn:g})")
        return self


class FractionLevels(Levels):
    """The same for a signal that is a fraction, 0 to 1."""

    warn: Fraction = Field(description="from here on it is worth a look")
    alert: Fraction = Field(description="from here on it raises the alert `drift`")


Signal = Literal["missing", "unseen", "out_of_range", "drift", "score_drift", "estimated"]
SIGNALS: tuple[Signal, ...] = get_args(Signal)


class Watch(Section):
    """What is watched the same night, before any label. A signal that is null is not judged."""

    window: Duration = Field(
        default=timedelta(days=7), description="the nights that are looked at together"
    )
    min_rows: int = Field(
        default=500, ge=1, description="models with fewer rows in them are not watched"
    )
    missing: FractionLevels | None = Field(
        default=FractionLevels(warn=0.05, alert=0.2),
        description="the share of nulls in a feature, above that of training",
    )
    unseen: FractionLevels | None = Field(
        default=FractionLevels(warn=0.01, alert=0.1),
        description="the share of rows with a category that training never saw",
    )
    out_of_range: FractionLevels | None = Field(
        default=FractionLevels(warn=0.01, alert=0.1),
        description="the share of rows with a number outside training's range",
    )
    drift: FractionLevels | None = Field(
        default=FractionLevels(warn=0.1, alert=0.3),
        description="how far a feature's distribution lies from training's, 0 (same) to 1 (apart)",
    )
    score_drift: FractionLevels | None = Field(
        default=FractionLevels(warn=0.1, alert=0.3),
        description="the same of scores, from those of the holdout",
    )
    estimated: Levels | None = Field(
        default=None,
        description="how far the metric, estimated from calibrated scores, lies below the"
        " reference, in its units; binary classification only",
    )

    def levels(self, signal: Signal) -> Levels | None:
        """The levels of a signal; None where the family does not judge it."""
        levels: Levels | None = getattr(self, signal)
        return levels


class ShiftRule(Section):
    """The sequential detector."""

    false_alarms: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="how many [false alarms](detection.md) a model-year may bring, between 0 and 1",
    )


class NightsAtAlert(Inline):
    """So many nights with a signal at ``alert`` among the last so many."""

    nights: int = Field(ge=1, description="so many nights at alert")
    of_last: int = Field(ge=1, description="among the last so many")

    @model_validator(mode="after")
    def _possible(self) -> NightsAtAlert:
        if self.nights > self.of_last:
            raise ValueError(f"nights ({self.nights}) cannot exceed of_last ({self.of_last})")
        return self


class When(Section):
    """What calls for a retrain: any one of the rules that are given."""

    shift: ShiftRule | None = None
    breaches: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="so many breaches among the last measurements, the latest among them",
    )
    of_last: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="among how many measurements `breaches` are counted"
    )
    signals: dict[Signal, NightsAtAlert] = Field(
        default={},
        description="a signal of `watch` to `{nights: n, of_last: m}`: at alert in n of m nights,"
        " the latest among them",
    )

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


class TrainingPolicy(Section):
    """Which nights a challenger learns from: those of ``window``, and by ``policy`` others."""

    policy: Literal["window", "mix", "same_season", "incremental"] = Field(
        default="window",
        description="[which other nights](training.md#which-nights): `mix` adds a seeded sample of"
        " earlier ones, `same_season` the matching weeks of earlier years, `incremental` goes on"
        " from the champion with the nights it has not learnt from",
    )
    window: Duration = Field(description="the nights to learn from, before the holdout")
    past: Duration | None = Field(
        default=None, description="with `mix`: the nights before the window that are sampled from"
    )
    share: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="with `mix`: the share of rows that comes from them"
    )
    years: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="with `same_season`: how many earlier years"
    )
    min_rows: Annotated[int, Field(ge=2)] | None = Field(
        default=None,
        description="with fewer labelled rows nothing is trained; null: `performance.min_labels`",
    )

    @model_validator(mode="after")
    def _require_keys_of_policy(self) -> TrainingPolicy:
        needs = {"mix": ("past", "share"), "same_season": ("years",)}.get(self.policy, ())
        written = [name for name in ("past", "share", "years") if getattr(self, name) is not None]
        missing = [name for name in needs if name not in written]
        if missing:
            raise ValueError(f"policy {self.policy} needs {listed(missing)}")
        idle = [name for name in written if name not in needs]
        if idle:
            raise ValueError(f"{listed(idle)} means nothing to the policy {self.policy}")
        return self


class Rival(TrainingPolicy, Inline):
    """A policy that competes with the one that leads."""


class Training(TrainingPolicy):
    """The policy that leads, and those that compete with it."""

    rivals: list[Rival] = Field(
        default=[],
        description="other policies that [compete](training.md#which-policy) with this one:"
        " `training: [{window: P60D}, {window: P360D}]` names the first and its rivals",
    )

    @model_validator(mode="after")
    def _may_compete(self) -> Training:
        if self.rivals and "incremental" in {self.policy, *(rival.policy for rival in self.rivals)}:
            raise ValueError(
                "incremental goes on from the champion, and competes with no other policy"
            )
        return self


def _leading(written: object) -> object:
    """A list of policies as the first one with its rivals."""
    if not isinstance(written, list):
        return written
    if not written:
        raise ValueError("name at least one policy, such as {window: P60D}")
    first, *rivals = written
    if not isinstance(first, dict):
        return first
    return {**first, "rivals": [*first.get("rivals", []), *rivals]}


class Retrain(Section):
    """When a retrain is called for, and how."""

    when: When | None = Field(
        default=When(shift=ShiftRule()),
        description="the rules; what is written replaces the default; null only alerts",
    )
    cooldown: WaitingTime = Field(
        default=timedelta(0), description="the least time between two decisions to retrain a model"
    )
    training: Annotated[
        Training, BeforeValidator(_leading, json_schema_input_type=Training | list[Training])
    ]


class AtLeast(Inline):
    """A group retrains when so many of its models are below their thresholds."""

    at_least: int = Field(ge=1, description="so many models below their thresholds")


GroupRule = Literal["any", "all"] | AtLeast


class Group(Section):
    """Models that share a retrain rule."""

    thresholds: dict[str, float] = Field(
        description='member to level; `"*"` is every member that no group names'
    )
    retrain_if: GroupRule = Field(
        default="any", description="which votes retrain the group: `any`, `all`, `{at_least: k}`"
    )

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
    """A factory: one model for each value of a column of features.sql.

    Members are listed under ``groups``, or discovered with ``thresholds`` and ``group_by``.
    """

    by: Key = Field(
        description="a text column of features.sql; each value of it is a member with a model of"
        " its own"
    )
    group_by: Key | None = Field(
        default=None,
        description="a text column that tells the group of a discovered member; without it each"
        " decides for itself",
    )
    groups: dict[str, Group] = Field(
        default={}, description="groups by name, where members are listed"
    )
    thresholds: dict[str, float] = Field(
        default={},
        description="member to level where members are discovered: each value of `by` that turns"
        ' up is one; `"*"` is every other member',
    )
    retrain_if: GroupRule = Field(
        default="any", description="the rule of the groups that `group_by` tells"
    )
    retrains: Literal["all", "failing"] = Field(
        default="all",
        description="who is retrained when a group's rule is fulfilled: `all` its models, or those"
        " `failing`",
    )
    fallback: YesNo = Field(
        default=False,
        description="whether a model of the whole family scores rows that no model of their own"
        " can",
    )
    retire_after: Duration = Field(
        default=timedelta(days=30),
        description="a member without rows for so long is retired; it is active again when rows"
        " return",
    )

    @model_validator(mode="after")
    def _refuse_shared_members(self) -> Models:
        members = [name for group in self.groups.values() for name in group.thresholds]
        twice = sorted({name for name in members if members.count(name) > 1})
        if twice:
            raise ValueError(f"in two groups: {listed(twice)}; a member belongs to one")
        if self.groups and (self.group_by or self.thresholds):
            raise ValueError(
                "list groups, or discover members with thresholds and group_by, not both"
            )
        return self

    def group_of(self, member: str, tag: str | None = None) -> str | None:
        """The group of a member: listed, the one with ``"*"``, or what ``group_by`` says."""
        for name, group in self.groups.items():
            if member in group.thresholds:
                return name
        for name, group in self.groups.items():
            if "*" in group.thresholds:
                return name
        return tag

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

    @property
    def named(self) -> dict[str, set[str]]:
        """The members that the file names, by the key that does."""
        keys = {"models.thresholds": self.thresholds} | {
            f"models.groups.{name}.thresholds": group.thresholds
            for name, group in self.groups.items()
        }
        return {key: set(levels) - {"*"} for key, levels in keys.items()}

    def includes(self, member: str) -> bool:
        """Whether a value of ``by`` is a member: any is where members are discovered."""
        return not self.groups or self.group_of(member) is not None


class Promotion(Section):
    """The proof a challenger owes: a paired test on nights neither model was trained on."""

    holdout: Duration = Field(
        description="the latest matured nights, kept from training for the comparison"
    )
    confidence: float = Field(
        default=0.95,
        gt=0.5,
        lt=1,
        description="of the one-sided lower bound of the paired difference; more than 0.5, less"
        " than 1",
    )
    margin: float = Field(
        default=0.0, ge=0, description="what that bound must exceed, in units of the metric"
    )
    min_rows: int = Field(
        default=500, ge=2, description="with fewer labelled rows in the holdout nothing is promoted"
    )
    tolerance: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.2,
        description="where the champion is surely below its threshold, a challenger that is better"
        " on average serves if it is surely not worse by this fraction of what the champion falls"
        " short of perfection",
    )
    refit: YesNo = Field(
        default=True,
        description="whether the challenger that won is [fitted once more](promotion.md#refit), on"
        " the holdout too, before it serves",
    )
    unproven: Duration | None = Field(
        default=timedelta(days=28),
        description="how long a challenger that is better, but not proven,"
        " [scores beside the champion](promotion.md#shadow), its evidence carried along; null"
        " rejects it at once",
    )
    max_slice_drop: Annotated[float, Field(ge=0)] | None = Field(
        default=None,
        description="no slice may be significantly worse by more than this, in units of the"
        " metric; null asks nothing of slices",
    )
    too_good: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=0.5,
        description="who wins more than this share of what the champion at its best falls short of"
        " perfection is held for a person, for it looks like a leak; null holds nobody",
    )
    shadow: Duration | None = Field(
        default=None,
        description="how long a challenger that passed"
        " [scores beside the champion](promotion.md#shadow) before it may serve",
    )
    approval: Literal["automatic", "human"] = Field(
        default="automatic",
        description="with `human` a person [answers](promotion.md#approval) before a challenger"
        " that passed may serve",
    )
    response_timeout: Duration = Field(
        default=timedelta(days=1),
        description="how long a person has to answer; then the champion serves on",
    )
    probation: Duration | None = Field(
        default=timedelta(days=14),
        description="how long a new champion is"
        " [rolled back](promotion.md#probation-and-rollback) if its predecessor proves better;"
        " null switches it off",
    )
    keep_versions: int = Field(
        default=10,
        ge=1,
        description="how many champions of a model"
        " [stay loadable](promotion.md#which-artifacts-are-kept), two at least",
    )
