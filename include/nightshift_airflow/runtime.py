"""What a task knows while it runs: where this installation is, and the run's ``as_of``."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar
from urllib.parse import quote

from airflow.sdk import Connection, conf, get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

from nightshift.errors import ConfigError, InternalError, NightshiftError, SetupError
from nightshift.family import ModelFamily, previous_tick
from nightshift.site import (
    Settings,
    Site,
    default_home,
    load_settings,
    models_folder,
    shared_places,
)
from nightshift.wording import listed, moment
from nightshift_airflow import connections

if TYPE_CHECKING:
    from airflow.sdk import Context

Kind = Literal["score", "monitor", "retrain", "rollback"]
P = ParamSpec("P")
R = TypeVar("R")

DATABASE = "nightshift"
_POSTGRES = ("postgres", "postgresql", "postgresql+psycopg2")  # of any of these is a Postgres


def now() -> datetime:
    """The clock, in UTC. Steps take it as an argument, so that only tasks and commands read it."""
    return datetime.now(UTC)


def home() -> Path:
    """The project, which Airflow's DAGs are in, unless ``NIGHTSHIFT_HOME`` names it."""
    return default_home(Path(conf.get("core", "dags_folder")))


def models() -> Path:
    """The folder of families."""
    return models_folder(home())


def settings() -> Settings:
    """What ``include/nightshift.yaml`` says; where it is wrong, which ``check`` tells, defaults."""
    try:
        return load_settings(home())
    except ConfigError:
        return Settings()


def site(*families: ModelFamily) -> Site:
    """This installation, as Airflow knows it, with the sources that ``families`` read.

    Databases come from the Airflow connections ``nightshift`` and ``source.connection`` of each
    family; folders from ``NIGHTSHIFT_HOME``, ``NIGHTSHIFT_STATE`` and ``NIGHTSHIFT_MODELS``, which
    default to the project, its ``.nightshift`` and its ``include/models``; what several machines
    share from ``NIGHTSHIFT_STORE`` and ``NIGHTSHIFT_KEYS``.

    Raises
    ------
    SetupError
        When a connection is missing, or leads to no kind of source.
    """
    return Site(
        home=home(),
        state=Path(os.environ.get("NIGHTSHIFT_STATE") or home() / ".nightshift"),
        models=models(),
        database_url=_database_url(DATABASE, "where predictions and decisions are kept"),
        sources={
            family.source.connection: _database_url(
                family.source.connection, f"the source of {family.family}"
            )
            for family in families
        },
        find=partial(_database_url, purpose="a source"),
        **shared_places(),
    )


def as_of(family: ModelFamily, kind: Kind, context: Context | None = None) -> datetime:
    """The moment, in UTC, that the current run is about.

    A scheduled run, a backfill, and a run triggered for a partition say it with their partition
    key. A run by hand may say it with the parameter ``as_of``; left empty, it means the latest tick
    of the schedule when the run was asked for, so clearing the run repeats the same moment. A
    retrain by hand means the latest night, whatever its own schedule, and a rollback the moment at
    which it was asked for.

    Raises
    ------
    AirflowFailException
        When the moment has no UTC offset, cannot be read, lies in the future, or is given twice and
        differently. Trying again cannot help, so the task is not retried.
    """
    context = context or get_current_context()
    run = context["dag_run"]
    if kind == "rollback":
        run_after: datetime = run.run_after
        return run_after
    moments = {
        _moment(name, text)
        for name, text in (
            ("the partition key", run.partition_key),
            ("the parameter as_of", context["params"].get("as_of")),
        )
        if text
    }
    if len(moments) > 1:
        named = listed(moment(at, seconds=True) for at in sorted(moments))
        raise AirflowFailException(
            f"The partition key and the parameter as_of name two moments: {named}. Give one."
        )
    if moments:
        return moments.pop()
    cron = family.schedule.monitor if kind == "monitor" else family.schedule.score
    return previous_tick(cron, family.schedule.timezone, run.run_after)


def _moment(name: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise AirflowFailException(
            f"{name} is {text!r}, which is no moment. Write it as 2026-11-03T02:00:00+00:00."
        ) from None
    if moment.tzinfo is None:
        raise AirflowFailException(
            f"{name} is {text!r}, which could be any time zone's."
            f" Add the UTC offset: {moment.isoformat()}+00:00 if you mean UTC."
        )
    if moment > now():
        raise AirflowFailException(
            f"{name} is {text!r}, which has not come yet. A batch holds what was known at its"
            " as_of: give a moment in the past, or wait."
        )
    return moment.astimezone(UTC)


def decisions_of_run(context: Context | None = None) -> list[int] | None:
    """The decisions that a retrain run carries out, or None when the run itself is the request."""
    decision_ids: list[int] | None = (context or get_current_context())["params"]["decision_ids"]
    return decision_ids


def retrain_request(context: Context | None = None) -> dict[str, Any]:
    """What a run asks for that no measurement called for: who asks, why, and of which models."""
    context = context or get_current_context()
    run, params = context["dag_run"], context["params"]
    return {
        "reason": params["reason"] or f"run {run.run_id} of {run.dag_id}",
        "by": run.triggering_user_name or ("schedule" if by_calendar(context) else "airflow"),
        "members": params["members"],
    }


def by_calendar(context: Context | None = None) -> bool:
    """Whether a schedule has started the run, and no person."""
    return bool((context or get_current_context())["dag_run"].partition_key)


def rollback_request(context: Context | None = None) -> dict[str, Any]:
    """What a run by hand asks to roll back, and who asks when; clearing it asks the same."""
    context = context or get_current_context()
    run, params = context["dag_run"], context["params"]
    from nightshift.steps.rollback import Undo

    return {
        "undo": Undo(params["model"], params["version"], rescore=params["rescore"]),
        "reason": params["reason"],
        "by": run.triggering_user_name or "airflow",
        "as_of": run.run_after,
    }


def link(context: Context | None = None) -> str | None:
    """The page of the current run; None where ``[api] base_url`` says nothing."""
    run = (context or get_current_context())["dag_run"]
    base = conf.get("api", "base_url", fallback=None)
    if not base:
        return None
    return f"{base.rstrip('/')}/dags/{run.dag_id}/runs/{quote(run.run_id, safe='')}"


def failing_once(function: Callable[P, R]) -> Callable[P, R]:
    """Let Airflow retry what another try may mend: transient errors, and the unforeseen."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except NightshiftError as error:
            if error.transient or isinstance(error, InternalError):
                raise
            raise AirflowFailException(f"{error} [{error.code}]") from error

    return run


def _database_url(name: str, purpose: str) -> str:
    from nightshift import sources

    connection = None
    for spelling in sources.spellings(name):
        with suppress(AirflowNotFoundException):
            connection = Connection.get(spelling)
            break
    if connection is None:
        raise sources.missing_connection(name, purpose, connections.places(name))
    if name == DATABASE and connection.conn_type not in _POSTGRES:
        raise SetupError(
            f"the Airflow connection {name!r} ({purpose}) is of type {connection.conn_type!r};"
            f" accepted: {listed(_POSTGRES)}"
        )
    return connections.source_url(connection)
