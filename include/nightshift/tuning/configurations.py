"""Configurations to live through: a family's own, and changes of it, a few lines each."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter, ValidationError

from nightshift.errors import ConfigError
from nightshift.family import (
    Fall,
    ModelFamily,
    Problem,
    Training,
    next_tick,
    problems_of,
    read_yaml,
)
from nightshift.wording import listed

SAME = ("task", "features", "source", "labels", "models.by")
"""What two configurations of one laboratory must have in common."""

MOST_WINDOWS = 3


@dataclass(frozen=True, eq=False)
class Configuration:
    """A family as it would be with some keys of ``model.yaml`` changed.

    ``changes`` are keys, ``retrain.cooldown``, to what would be written there.
    """

    name: str
    family: ModelFamily
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trainings(self) -> tuple[Training, ...]:
        """Which nights its versions learn from; of several the first leads."""
        return self.family.trainings


def read(file: Path, family: ModelFamily) -> Configuration:
    """Another ``model.yaml`` of the same family.

    Raises
    ------
    ConfigError
        It cannot be read, has problems, or learns or predicts something else.
    """
    raw = read_yaml(file) if file.is_file() else Problem(file, "", "is not there")
    if isinstance(raw, Problem):
        raise ConfigError(f"--compare: {raw}")
    try:
        other = ModelFamily.model_validate(raw, context={"folder": family.folder})
    except ValidationError as error:
        problems = problems_of(file, ModelFamily, raw, error)
        raise ConfigError("\n".join(map(str, problems))) from error
    ours, theirs = family.model_dump(), other.model_dump()
    keys = ("task", "features", "source", "labels", "estimator", "models")
    unlike = [key for key in keys if _essence(key, ours[key]) != _essence(key, theirs[key])]
    if unlike:
        raise ConfigError(
            f"--compare: {file} has other {listed(unlike)} than {family.folder / 'model.yaml'}:"
            " tune compares what is decided (performance, retrain, promotion, schedule), not what"
            " is predicted"
        )
    return Configuration(file.name, other)


def _essence(key: str, section: Any) -> Any:
    """Of a factory only whose models there are must be the same."""
    if key == "models" and section is not None:
        return section["by"], section["fallback"]
    return section


def changed(configuration: Configuration, name: str, changes: Mapping[str, Any]) -> Configuration:
    """A configuration with more keys changed."""
    family = configuration.family
    written = family.model_dump(mode="json", exclude_unset=True)
    for key, value in changes.items():
        *sections, last = key.split(".")
        section = written
        for part in sections:
            section = section.setdefault(part, {})
        section[last] = copy.deepcopy(value)
    other = ModelFamily.model_validate(written, context={"folder": family.folder})
    return Configuration(name, other, {**configuration.changes, **changes})


def windows(family: ModelFamily, history: timedelta) -> list[str]:
    """Windows worth trying: the configured one, and its doubles and halves that fit the history."""
    own = family.retrain.training.window
    days = [own * 2**power for power in (0, 1, 2, -1, -2)]
    fitting = [one for one in days if one <= history / 2 or one == own]
    return [iso(one) for one in sorted(fitting[:MOST_WINDOWS])]


def data_changes(
    family: ModelFamily, names: Sequence[str], mixes: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Changes to which nights are learnt from: windows, and mixes as ``P30D,P180D,0.3``."""
    least = family.retrain.training.min_rows
    rows = {} if least is None else {"min_rows": least}
    told = [iso(duration(name, "window")) for name in names]
    for window in told:
        yield window, {"retrain.training": {"window": window, **rows}}
    for mix in mixes:
        window, past, share = _mix(mix)
        rule = {"policy": "mix", "window": window, "past": past, "share": share, **rows}
        yield f"{window} and {share:.0%} of {past}", {"retrain.training": rule}
    if len(told) > 1:
        rivals = [{"window": window, **rows} for window in told]
        yield " or ".join(told), {"retrain.training": rivals}


def _mix(text: str) -> tuple[str, str, float]:
    try:
        window, past, told = text.split(",")
        share = float(told)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise ConfigError(
            f"--mix {text!r} is no mix: write window, past and the share of rows that comes from"
            " it, P30D,P180D,0.3"
        )
    return iso(duration(window, "mix")), iso(duration(past, "mix")), share


def often_changes(family: ModelFamily, start: datetime) -> Iterator[tuple[str, dict[str, Any]]]:
    """Changes to how often versions change: by rules alone, by a calendar too, on less proof.

    Calendars are of the weekday and the hour of the first monitoring from ``start`` on.
    """
    minute, hour, *_, weekday = family.schedule.monitor.split()
    first = next_tick(family.schedule.monitor, family.schedule.timezone, start)
    local = first.astimezone(ZoneInfo(family.schedule.timezone))
    day = weekday if weekday != "*" else str(local.isoweekday() % 7)
    weekly = {"schedule.retrain": f"{minute} {hour} * * {day}"}
    if family.schedule.retrain is not None:
        yield "rules alone", {"schedule.retrain": None}
    if weekly["schedule.retrain"] != family.schedule.retrain:
        yield "each week", weekly
    if family.retrain.cooldown > timedelta(days=7):
        yield "cooldown P7D", {"retrain.cooldown": "P7D"}
    yield "each week on little proof", {**weekly, **_LITTLE_PROOF}


_LITTLE_PROOF: Mapping[str, Any] = {
    "retrain.cooldown": "P0D",
    "promotion.confidence": 0.6,
    "promotion.unproven": None,
}


def threshold_changes(
    family: ModelFamily, level: float | None, perfect: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Changes to what a champion is held to.

    Parameters
    ----------
    level
        What versions were worth before, to set absolute levels near; None where it is not told.
    perfect
        The metric's best value.
    """
    rule = family.performance
    if isinstance(rule.max_drop, Fall):
        for fraction in (0.05, 0.1, 0.2):
            if fraction != rule.max_drop.fraction:
                yield f"max_drop {fraction:.0%}", {"performance.max_drop": {"fraction": fraction}}
    elif rule.max_drop is not None:
        for factor in (0.5, 2.0):
            drop = float(f"{rule.max_drop * factor:.3g}")
            yield f"max_drop {drop:g}", {"performance.max_drop": drop}
    elif rule.threshold is not None and level is not None:
        for share in (0.05, 0.15):
            threshold = float(f"{level - share * abs(perfect - level):.3g}")
            yield f"threshold {threshold:g}", {"performance.threshold": threshold}


def yaml_lines(changes: Mapping[str, Any]) -> list[str]:
    """What to write into ``model.yaml``, a line a key."""
    return [f"{key}: {_inline(value)}" for key, value in changes.items()]


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_inline(own)}" for key, own in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    if value is None:
        return "null"
    return f'"{value}"' if isinstance(value, str) and " " in value else str(value)


def duration(text: str, option: str) -> timedelta:
    """An ISO 8601 duration of an option.

    Raises
    ------
    ConfigError
        It is none, or not above zero.
    """
    try:
        length: timedelta = TypeAdapter(timedelta).validate_python(text)
    except ValidationError:
        length = timedelta(0)
    if length <= timedelta(0) or not text.startswith("P"):
        raise ConfigError(f"--{option}: {text!r} is no ISO 8601 duration above zero; write P60D")
    return length


def iso(length: timedelta) -> str:
    """A duration as model.yaml has it, in days or hours."""
    hours = round(length / timedelta(hours=1))
    return f"P{hours // 24}D" if hours % 24 == 0 else f"PT{hours}H"
