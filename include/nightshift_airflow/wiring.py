"""What DAG files share: schedules, defaults with their reasons, pools, names, runbooks.

Airflow parses DAG files every few seconds, so nothing here opens a connection or imports a room.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

import attrs
from airflow.providers.standard.operators.python import PythonOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, Asset, CronPartitionTimetable, Param, get_current_context

from nightshift.family import ModelFamily, load_families
from nightshift_airflow import alerts, lineage, metrics, runtime
from nightshift_airflow.runtime import Kind, failing_once

if TYPE_CHECKING:
    from airflow.sdk import Context

RUNBOOKS = files("nightshift_airflow") / "runbooks"


class Pool(StrEnum):
    """Airflow pools; their sizes are in ``pools.json``. Tasks outside them cost next to nothing."""

    SOURCE = "nightshift_source"  # queries on other people's databases, which we must not crowd
    SCORING = "nightshift_scoring"  # holds rows in memory: as many as the workers' memory allows
    TRAINING = "nightshift_training"  # fits for hours: never takes the places that a night needs


DEFAULTS: Mapping[str, Any] = {
    # A source or Postgres that restarts is back within minutes; three tries wait about ten. Errors
    # that waiting cannot mend are not retried at all (see runtime.failing_once).
    "retries": 3,
    "retry_delay": timedelta(minutes=1),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=15),
    # A task that hangs must turn red before people come to work. Tasks whose work grows with the
    # data set a longer limit of their own.
    "execution_timeout": timedelta(minutes=30),
}

RETRAIN_RUNS = 16
"""How many retrain runs one monitoring starts at most; each carries out several decisions."""

MAX_ACTIVE_RUNS: Mapping[Kind, int] = {
    # Nights of a family go one after the other: a backfill then leaves room for other families, and
    # an older night is never published beside a newer one.
    "score": 1,
    # Rules count the last measurements ("2 of the last 3"), so they are taken in order.
    "monitor": 1,
    # Decisions are independent and a promotion is compare-and-set: one slow training must not hold
    # up the others, nor must runs of a month of nights that wait for somebody's approval. The
    # training pool bounds what runs at the same time.
    "retrain": 32 * RETRAIN_RUNS,
    # Two at once would only race for the same promotion.
    "rollback": 1,
}


def families() -> list[ModelFamily]:
    """The families whose folders load. ``dags/check.py`` shows the others as one import error."""
    loaded, _ = load_families(runtime.models())
    return loaded


@contextmanager
def family_dag(family: ModelFamily, kind: Kind, params: Mapping[str, Param]) -> Iterator[DAG]:
    """The DAG ``<family>.<kind>``, open for its tasks.

    It starts paused, unless ``[core] dags_are_paused_at_creation`` says otherwise: a new family is
    looked at before it serves.
    """
    with DAG(
        f"{family.family}.{kind}",
        description=family.description,
        schedule=timetable(family, kind),
        catchup=False,  # the past is filled on purpose, with `airflow backfill create`
        max_active_runs=MAX_ACTIVE_RUNS[kind],
        default_args={**DEFAULTS, "owner": family.owner},
        tags={"nightshift", family.family, kind},
        doc_md=runbook(kind, family=family.family, description=family.description),
    ) as dag:
        yield dag
    # Given before, Airflow would copy them for every task, several times: a third of a parse. They
    # are the same for every family, so one test checks them instead of every parse.
    with attrs.validators.disabled():
        dag.params = params


def timetable(family: ModelFamily, kind: Kind) -> CronPartitionTimetable | None:
    """When `<family>.<kind>` runs; every tick is a partition, and its key says the moment."""
    schedule = family.schedule
    crons: dict[Kind, str | None] = {
        "score": schedule.score,
        "monitor": schedule.monitor,
        "retrain": schedule.retrain,
    }
    cron = crons.get(kind)  # a rollback has none
    return _timetable(cron, schedule.timezone) if cron else None


@cache
def _timetable(cron: str, timezone: str) -> CronPartitionTimetable:
    return CronPartitionTimetable(
        cron,
        timezone=timezone,
        key_format=_key_format(timezone),
        # A new family starts with its next tick, and never at once: its first champion may still be
        # missing. (By default Airflow runs the latest tick too if that is not long ago.)
        run_immediately=timedelta(0),
    )


def _key_format(timezone: str) -> str:
    # The offset tells the two 02:30 of an autumn night apart. Airflow reads keys typed by hand only
    # without %z, so UTC, which is what most families use, is spelt as a plain letter.
    return "%Y-%m-%dT%H:%M:%SZ" if timezone == "UTC" else "%Y-%m-%dT%H:%M:%S%z"


def partition_key(family: ModelFamily, as_of: datetime) -> str:
    """The partition key of the aware moment ``as_of``, as the family's schedule writes it."""
    timezone = family.schedule.timezone
    return as_of.astimezone(ZoneInfo(timezone)).strftime(_key_format(timezone))


def as_of_param() -> dict[str, Param]:
    """The parameter that says which moment a run by hand is about."""
    return {
        "as_of": Param(
            None,
            type=["null", "string"],
            format="date-time",
            title="as_of",
            description=(
                "The moment this run is about, with its UTC offset: 2026-11-03T02:00:00+00:00."
                " Leave it empty for the latest tick of the schedule."
            ),
        )
    }


def retrain_params() -> dict[str, Param]:
    """The parameters of a retrain: the decisions to carry out, or what a new one is about."""
    return {
        "decision_ids": Param(
            None,
            type=["null", "array"],
            items={"type": "integer"},
            minItems=1,
            title="decisions",
            description="The recorded decisions to carry out. Leave it empty to ask for one now.",
        ),
        "members": Param(
            None,
            type=["null", "array"],
            items={"type": "string"},
            minItems=1,
            title="models",
            description="Which models of the family you ask for. Leave it empty for all of them.",
        ),
        "reason": Param(
            None,
            type=["null", "string"],
            title="reason",
            description="Why you ask for this retrain. It is recorded with your name.",
        ),
    }


def rollback_params() -> dict[str, Param]:
    """The parameters of a rollback: of which model, to which version, why, and what of the past."""
    return {
        "model": Param(
            None,
            type=["null", "string"],
            title="model",
            description="Which model of a factory. Leave it empty for the family's own.",
        ),
        "version": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="version",
            description="The number of an earlier champion. Leave it empty for the one before.",
        ),
        "reason": Param(
            type="string",
            minLength=1,
            title="reason",
            description="Why you roll back. It is recorded with your name.",
        ),
        "rescore": Param(
            False,
            type="boolean",
            title="rescore",
            description="Score and publish the nights anew that the bad version has scored.",
        ),
    }


class StepOperator(PythonOperator):
    """Calls one step, and lets those who watch the platform know: seconds, and lineage."""

    def __init__(self, *, gather: lineage.Gather | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.gather = gather
        self.gathered: Any = None

    def execute(self, context: Context) -> Any:
        """Call the step; what it returns."""
        result = None
        try:
            with metrics.timed(self.task_id):
                result = super().execute(context)
            return result
        finally:
            self.gathered = lineage.gathered(self.gather, self.op_args, result)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """What OpenLineage's listener asks for, also after a failure."""
        return self.gathered


class Step:
    """A task in the making that calls one step, and takes its name from the function that does.

    Called, it becomes a task of the open DAG, as a function under Airflow's ``@task`` would; those
    look into the function's signature several times for every task, at each parse.
    """

    def __init__(self, function: Callable[..., Any], settings: Mapping[str, Any]) -> None:
        self._operator = {
            "task_id": function.__name__,
            "python_callable": failing_once(function),
            **settings,
        }

    def __call__(self, *arguments: Any) -> Any:
        """One task; what it returns is an argument of others."""
        return StepOperator(op_args=arguments, **self._operator).output

    def for_each(self, arguments: Any) -> Any:
        """As many tasks as another one returns mappings of arguments by name."""
        return StepOperator.partial(**self._operator).expand(op_kwargs=arguments).output


def step(**settings: Any) -> Callable[[Callable[..., Any]], Step]:
    """Make a function that calls one step a task; ``settings`` are its operator's own."""
    return partial(Step, settings=settings)


def predictions_asset(family: ModelFamily) -> Asset:
    """``<family>.predictions``: one event a published night, for other teams' schedules."""
    return Asset(f"{family.family}.predictions", group="nightshift")


def announce(family: ModelFamily, published: Mapping[str, Any]) -> int:
    """Say on the asset which night was published; the id of the batch that readers see.

    What ``steps.publish`` returned is the event's extra. The event carries the night's partition
    key even when a run by hand has none of its own: those who schedule on the asset need it all the
    same.
    """
    event = get_current_context()["outlet_events"][predictions_asset(family)]
    event.extra = dict(published)
    event.add_partitions(partition_key(family, datetime.fromisoformat(published["as_of"])))
    batch_id: int = published["batch_id"]
    return batch_id


def start_retrains(family: ModelFamily, runs: Any) -> Any:
    """The task ``retrain``, which starts runs of `<family>.retrain`; none that is there already."""
    return TriggerDagRunOperator.partial(
        task_id="retrain",
        trigger_dag_id=f"{family.family}.retrain",
        logical_date=None,  # of dates there can be one run each; of decisions, several a night
        skip_when_already_exists=True,
    ).expand_kwargs(runs)


def retrain_runs(
    decision_ids: Sequence[int], about: Literal["decision", "approval"] = "decision"
) -> list[dict[str, Any]]:
    """The retrain runs that carry out decisions, with about as many decisions each.

    Runs about an ``approval`` find all of it done, and ask what a shadow has left to people. The
    same decisions always make the same runs: asked for twice, Airflow finds them and starts no
    second ones.
    """
    ordered = sorted(decision_ids)
    count = min(len(ordered), RETRAIN_RUNS)
    chunks = [
        ordered[len(ordered) * number // count : len(ordered) * (number + 1) // count]
        for number in range(count)
    ]
    return [{"trigger_run_id": _run_id(c, about), "conf": {"decision_ids": c}} for c in chunks]


def _run_id(decision_ids: Sequence[int], about: str = "decision") -> str:
    if len(decision_ids) == 1:
        return f"{about}-{decision_ids[0]}"
    listed = ",".join(map(str, decision_ids))
    digest = hashlib.sha256(listed.encode()).hexdigest()[:8]
    return f"{about}s-{decision_ids[0]}-to-{decision_ids[-1]}-{digest}"


def alert_after(
    family: ModelFamily, kind: Kind, last: Any, decision_ids: Any = None, *, name: str = "alert"
) -> list[Any]:
    """End a DAG with the task ``alert``, whatever happened before; without notifiers, with none.

    It is a teardown: Airflow runs it also when tasks before it failed, and leaves it to them to
    decide whether the run has succeeded.

    Parameters
    ----------
    last
        The task after which nothing is left to do.
    decision_ids
        In a retrain, or a rollback: the output of the task that says which decisions are carried
        out.
    name
        Of the task, where people are told before the end as well. Nothing is told twice.

    Returns
    -------
    list
        The task, if there is one.
    """
    if not family.alerts:
        return []

    @step(task_id=name, execution_timeout=timedelta(minutes=10))
    def alert(decision_ids: list[int] | None = None) -> int:
        return alerts.tell(family, kind, decision_ids or ())

    task = alert(decision_ids).as_teardown()
    last >> task
    return [task]


def runbook(kind: str, **values: str) -> str:
    """What a DAG does and how to triage it, in Markdown, with ``{name}`` filled from ``values``."""
    text = (RUNBOOKS / f"{kind}.md").read_text()
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text
