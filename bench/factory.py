"""``make bench-factory``: a night of 1,000 models with 200 rows each, through Airflow itself.

The installation is the one of ``nightshift up``: the embedded Postgres and Airflow's four processes
under LocalExecutor, in a folder of their own. 1,000 champions are trained first, without Airflow.
Then the scheduler runs `factory.score` from snapshot to published, and `factory.monitor` from
labels to decisions, night after night.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from nightshift import demo, local, simulation
from nightshift.local import session
from nightshift.site import Site
from nightshift.steps import retrain

from . import grounds
from .figures import Figure, figure, tell

MODELS, ROWS = 1_000, 200
NIGHTS = 1  # each takes minutes
FAMILY = "factory"
PATIENCE = 1800.0  # seconds for one run, six times what it may take


def main() -> None:
    with grounds.folder() as folder:
        grounds.family("family", folder / "models" / FAMILY)
        os.environ |= {
            "NIGHTSHIFT_STATE": str(folder / "state"),
            "NIGHTSHIFT_MODELS": str(folder / "models"),
            "NIGHTSHIFT_PG_PORT": str(grounds.free_port()),
            "NIGHTSHIFT_UI_PORT": str(grounds.free_port()),
        }
        site = local.site()
        try:
            rounds = _lived(site)
        finally:
            local.down(site)
    title = f"{MODELS:,} models with {ROWS} rows each, in Airflow"
    tell(title, _figures(rounds), "factory")


def _lived(site: Site) -> list[dict[str, float]]:
    """What each night took of an installation whose champions were trained before."""
    local.up(site, airflow=False)
    with session(local.admin_url(site, "warehouse")) as connection:
        connection.exec_driver_sql(grounds.source(MODELS, ROWS))
    first = site.family(FAMILY).previous_tick(datetime.now(UTC) - timedelta(days=NIGHTS + 1))
    _train(site, first)
    local.up(site)
    return _rounds(site, [first + timedelta(days=day) for day in range(1, NIGHTS + 1)])


def _train(site: Site, first: datetime) -> None:
    began = time.monotonic()
    decision_ids = retrain.request_retrain(
        site, FAMILY, first, reason="first", by="bench", now=first
    )
    served = simulation.retrain(site, decision_ids, now=first)
    assert len(served) >= MODELS, f"{len(served)} of {MODELS} models have a champion"
    print(f"{len(served)} champions trained in {time.monotonic() - began:.0f} s", flush=True)


def _rounds(site: Site, nights: list[datetime]) -> list[dict[str, float]]:
    airflow = demo.Airflow(site)
    family = site.family(FAMILY)
    for kind in ("score", "monitor"):
        _until(lambda kind=kind: airflow.is_parsed(f"{FAMILY}.{kind}"), f"{kind} to be parsed")  # type: ignore[misc]
        airflow.pause(f"{FAMILY}.{kind}", paused=False)
    rounds = []
    for night in nights:
        scored, tasks = _run(site, airflow, "score", night)
        monitor = night + timedelta(hours=4)
        decided, _ = _run(site, airflow, "monitor", monitor)
        _refuse_unfinished(site, night, monitor)
        rounds.append({"score": scored, "monitor": decided, "tasks": tasks})
        print(f"{family.family} {night:%Y-%m-%d}: {rounds[-1]}", flush=True)
    return rounds


def _run(site: Site, airflow: demo.Airflow, kind: str, as_of: datetime) -> tuple[float, float]:
    """Seconds from the trigger to the end of a run, and how many mapped tasks it had at most."""
    dag_id, run_id = f"{FAMILY}.{kind}", f"bench-{as_of.isoformat()}"
    began = time.monotonic()
    airflow.trigger(dag_id, run_id, {"as_of": as_of.isoformat()})

    def state() -> str:
        return next(run.state for run in airflow.runs(dag_id) if run.run_id == run_id)

    _until(lambda: state() in ("success", "failed"), f"{dag_id} to end")
    took = time.monotonic() - began
    assert state() == "success", f"{dag_id} failed; its logs are in {site.state}"
    with session(local.metadata_url(site)) as connection:
        rows = connection.exec_driver_sql(
            "select task_id, count(*), extract(epoch from max(end_date) - min(start_date))"
            " from task_instance where dag_id = %s and run_id = %s"
            " group by task_id order by min(start_date)",
            (dag_id, run_id),
        ).all()
    for task, count, seconds in rows:
        print(f"  {dag_id} {task:<16} {count:>3} x, {seconds or 0:.1f} s", flush=True)
    return took, float(max(count for task, count, _ in rows))


def _refuse_unfinished(site: Site, night: datetime, monitor: datetime) -> None:
    """A run that was quick because it did nothing does not count."""
    with session(site.database_url) as connection:
        published, measured, decided = connection.exec_driver_sql(
            "select (select sum(b.row_count) from nightshift.published p"
            "        join nightshift.batches b using (batch_id) where p.as_of = %s),"
            " (select count(*) from nightshift.measurements"
            "  where as_of = %s and decisive and state = 'measured' and version_id is not null),"
            " (select count(*) from nightshift.decisions where subject = %s)",
            (night, monitor, f"monitor {monitor.isoformat()}"),
        ).one()
    assert published == MODELS * ROWS, f"{published} rows were published"
    assert measured >= MODELS, f"{measured} models were measured"
    assert decided >= MODELS, f"{decided} models were decided on"


def _until(condition: Callable[[], bool], event: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE:.0f} s in vain for {event}")
        time.sleep(0.5)


def _figures(rounds: list[dict[str, float]]) -> list[Figure]:
    def timing(name: str, key: str, unit: str, bar: float) -> Figure:
        return figure(name, [times[key] for times in rounds], unit, at_most=bar)

    return [
        timing("a night, snapshot to published and watched", "score", "s", 300),
        timing("measured and decided", "monitor", "s", 300),
        timing("mapped tasks of a night", "tasks", "tasks", 64),
    ]


if __name__ == "__main__":
    main()
