"""``model.yaml`` read into a :class:`ModelFamily`, and where an installation keeps its things.

Parsing DAGs imports this module, so it opens no connection and imports nothing heavy.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from croniter import croniter
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from nightshift.records import ConfigError

# libyaml where it is there: it reads the same, ten times as fast.
_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

FAMILY_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""Family names are folder names, DAG ids and parts of SQL names: short, lower case, plain."""


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
Column = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Section):
    """Where features.sql and labels.sql run: an Airflow connection, and if it keeps history."""

    connection: str
    history: Literal["append_only", "mutable"]


class Features(_Section):
    """The columns an estimator sees, in this order: numeric first, then categorical."""

    numeric: list[Column] = []
    categorical: list[Column] = []

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
        reserved = {"entity_id", "known_at"} & set(self.names)
        if reserved:
            raise ValueError(f"{', '.join(sorted(reserved))} is not a feature")
        return self


class Estimator(_Section):
    """``build`` is ``<module>.<function>`` in the family's folder and returns a Pipeline."""

    build: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$")] = (
        "estimator.build"
    )
    params: dict[str, Any] = {}
    seed: int = 0


class Schedule(_Section):
    """Cron expressions in ``timezone``; ``retrain: null`` leaves retraining to measurements."""

    score: Cron
    monitor: Cron
    retrain: Cron | None = None
    timezone: Annotated[str, AfterValidator(_time_zone)] = "UTC"


class Expectation(BaseModel):
    """One Great Expectations expectation, by its own name and with its own arguments."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: Annotated[str, Field(pattern=r"^expect_[a-z0-9_]+$")]
    severity: Literal["critical", "warning", "info"] = "critical"

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Labels(_Section):
    """When the truth about a batch is complete enough to judge it."""

    per: Literal["entity", "entity_and_as_of"] = "entity"
    maturity: WaitingTime
    min_coverage: Fraction = 0.9


class Performance(_Section):
    """What is measured: a scikit-learn scorer over matured nights. Greater is better."""

    metric: str
    window: Duration
    min_labels: Annotated[int, Field(ge=2)] = 500
    threshold: float


class Breaches(_Section):
    """So many breaches among the last so many measurements, the latest among them."""

    breaches: Annotated[int, Field(ge=1)]
    of_last: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _possible(self) -> Breaches:
        if self.breaches > self.of_last:
            raise ValueError("breaches cannot exceed of_last")
        return self


class Training(_Section):
    """Which nights a challenger learns from: ``window`` before the holdout."""

    window: Duration


class Retrain(_Section):
    """When breaches become a retrain (``when: null``: they only alert), and how it is trained."""

    when: Breaches | None = None
    cooldown: WaitingTime = timedelta(0)
    training: Training


class Promotion(_Section):
    """The proof a challenger owes: a paired test on nights neither model was trained on."""

    holdout: Duration
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    margin: float = 0.0
    min_rows: Annotated[int, Field(ge=2)] = 500
    approval: Literal["automatic"] = "automatic"


class ModelFamily(_Section):
    """A folder in ``include/models``: an estimator, a features query, a labels query."""

    family: Annotated[str, Field(pattern=f"^{FAMILY_NAME.pattern}$")]
    description: str
    task: Literal["regression", "binary_classification", "multiclass_classification"]
    owner: str
    source: Source
    features: Features
    estimator: Estimator = Estimator()
    schedule: Schedule
    expectations: list[Expectation] = []
    allow_empty: bool = False
    labels: Labels
    performance: Performance
    retrain: Retrain
    promotion: Promotion
    _folder: Path = PrivateAttr(default=Path())

    def model_post_init(self, context: Any) -> None:
        self._folder = (context or {}).get("folder", Path())

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

    def next_tick(self, moment: datetime) -> datetime:
        """The first tick of ``schedule.score`` after ``moment``, in UTC."""
        return next_tick(self.schedule.score, self.schedule.timezone, moment)

    def ticks(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """The ticks of ``schedule.score`` in (start, end], in UTC."""
        tick = self.next_tick(start)
        while tick <= end:
            yield tick
            tick = self.next_tick(tick)


def previous_tick(cron: str, timezone: str, moment: datetime) -> datetime:
    """The latest tick of ``cron`` in ``timezone`` at or before the aware ``moment``, in UTC."""
    zone = ZoneInfo(timezone)
    # No clock is put back by more than two hours, so this tick is surely past: go on from there.
    wall = moment.astimezone(zone).replace(tzinfo=None) - timedelta(hours=2)
    tick = _in_utc(croniter(cron, wall).get_prev(datetime), zone)
    while (following := next_tick(cron, timezone, tick)) <= moment:
        tick = following
    return tick


def next_tick(cron: str, timezone: str, moment: datetime) -> datetime:
    """The first tick of ``cron`` in ``timezone`` after the aware ``moment``, in UTC.

    When clocks change, ticks are Airflow's: a schedule that runs every hour goes on by elapsed
    time; another one takes the second of two equal wall times, and moves a skipped one past the
    gap.
    """
    zone = ZoneInfo(timezone)
    wall = moment.astimezone(zone).replace(tzinfo=None)
    iterator = croniter(cron, wall)
    tick: datetime = iterator.get_next(datetime)
    if iterator.expanded[1] == ["*"]:
        return moment.astimezone(UTC) + (tick - wall)
    return _in_utc(tick, zone)


def _in_utc(wall: datetime, zone: ZoneInfo) -> datetime:
    return max(wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in one file, as ``nightshift check`` prints it."""

    file: Path
    key: str
    message: str

    def __str__(self) -> str:
        return (
            f"{self.file}: {self.key}: {self.message}"
            if self.key
            else f"{self.file}: {self.message}"
        )


@dataclass(frozen=True)
class Site:
    """Where one installation keeps its things.

    Parameters
    ----------
    home
        The checkout: ``include/models``, ``sql`` and ``dags`` are below it.
    state
        What this installation writes: the store, the keys, the logs.
    models
        The folder of families.
    database_url
        The ``nightshift`` database, as a SQLAlchemy URL for psycopg2.
    sources
        Connection name to SQLAlchemy URL, one for each source that families read.
    """

    home: Path
    state: Path
    models: Path
    database_url: str
    sources: Mapping[str, str]

    @property
    def store(self) -> Path:
        return self.state / "store"

    @property
    def keys(self) -> Path:
        return self.state / "keys"

    def family(self, name: str) -> ModelFamily:
        """The family of this name, or a ConfigError that says which there are."""
        if not FAMILY_NAME.fullmatch(name) or not (self.models / name).is_dir():
            known = [folder.name for folder in family_folders(self.models)]
            raise ConfigError(
                f"there is no family {name!r} in {self.models}{_nearest(name, known)};"
                f" families: {', '.join(known) or 'none'}"
            )
        return load_family(self.models / name)


def models_folder(home: Path) -> Path:
    """Where families live: ``NIGHTSHIFT_MODELS``, or ``include/models`` in the checkout."""
    return Path(os.environ.get("NIGHTSHIFT_MODELS") or home / "include" / "models")


def default_home() -> Path:
    """The checkout: ``NIGHTSHIFT_HOME``, or the folder this package was installed from."""
    return Path(os.environ.get("NIGHTSHIFT_HOME") or Path(__file__).resolve().parents[2])


def family_folders(models: Path) -> list[Path]:
    """Every folder that should hold a family, in alphabetical order."""
    if not models.is_dir():
        return []
    return sorted(
        entry for entry in models.iterdir() if entry.is_dir() and entry.name[0] not in "._"
    )


def load_family(folder: Path) -> ModelFamily:
    """Read one family.

    Raises
    ------
    ConfigError
        With every problem of the folder, one a line.
    """
    found = _read_family(folder)
    if isinstance(found, ModelFamily):
        return found
    raise ConfigError("\n".join(map(str, found)))


def load_families(models: Path) -> tuple[list[ModelFamily], list[Problem]]:
    """Read every family below ``models``; a broken folder is a problem, never an exception."""
    families, problems = [], []
    for folder in family_folders(models):
        found = _read_family(folder)
        if isinstance(found, ModelFamily):
            families.append(found)
        else:
            problems.extend(found)
    return families, problems


def _read_family(folder: Path) -> ModelFamily | list[Problem]:
    file = folder / "model.yaml"
    missing = [
        Problem(
            folder / name, "", "is missing; every family has model.yaml, features.sql, labels.sql"
        )
        for name in ("model.yaml", "features.sql", "labels.sql")
        if not (folder / name).is_file()
    ]
    if not file.is_file():
        return missing
    try:
        raw = yaml.load(file.read_text(), _YAML)  # noqa: S506 - both are safe loaders
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return [*missing, Problem(file, "", f"is not readable YAML: {_one_line(error)}")]
    if not isinstance(raw, dict):
        return [*missing, Problem(file, "", f"holds {type(raw).__name__}, not keys and values")]
    try:
        family = ModelFamily.model_validate(raw, context={"folder": folder})
    except ValidationError as error:
        return [*missing, *(_problem(file, item) for item in error.errors())]
    problems = [*missing, *_folder_problems(family, file)]
    return problems or family


def _folder_problems(family: ModelFamily, file: Path) -> Iterable[Problem]:
    folder = family.folder
    if folder.name != family.family:
        yield Problem(
            file, "family", f"is {family.family!r}, but the folder is named {folder.name!r}"
        )
    module = family.estimator.build.split(".")[0]
    if not (folder / f"{module}.py").is_file():
        yield Problem(file, "estimator.build", f"names {module}.py, which is not in {folder}")
    for name, parameter in (("features.sql", ":as_of"), ("labels.sql", ":as_of")):
        if (folder / name).is_file() and parameter not in (folder / name).read_text():
            yield Problem(
                folder / name,
                "",
                f"never uses {parameter}: a query must know the moment it is asked about",
            )


def _problem(file: Path, error: Any) -> Problem:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        accepted = _accepted_keys(error["loc"][:-1])
        name = str(error["loc"][-1])
        return Problem(
            file, key, f"unknown key{_nearest(name, accepted)}; accepted: {', '.join(accepted)}"
        )
    if error["type"] == "missing":
        return Problem(file, key, "is missing")
    message = error["msg"].removeprefix("Value error, ")
    if not key:
        return Problem(file, "", message)
    return Problem(file, key, f"found {error['input']!r}: {message}")


def _accepted_keys(path: tuple[int | str, ...]) -> list[str]:
    section: Any = ModelFamily
    for part in path:
        if isinstance(part, int):
            continue
        annotation = section.model_fields[part].annotation
        choices = [annotation, *get_args(annotation)]
        section = next(c for c in choices if isinstance(c, type) and issubclass(c, BaseModel))
    return list(section.model_fields)


def _nearest(name: str, accepted: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(accepted), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
