"""The demonstration: a past that really happened, then one cycle by Airflow's own scheduler.

Two families of one model live through 190 nights as their ``model.yaml`` says, and a factory of one
model for each destination through 42. For the last seven weeks of the 190 retraining is held, as by
somebody who waits for a release; the measurements go on and begin to breach. Then Airflow takes
over, and its first monitoring finds the breach and retrains.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from queue import Empty
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from nightshift import local, simulation
from nightshift.data import connect
from nightshift.demo import flights
from nightshift.errors import NightshiftError, SetupError
from nightshift.family import ModelFamily, previous_tick
from nightshift.site import Site
from nightshift.wording import day, listed

PAST = {
    "air_time": timedelta(days=190),
    "late_arrival": timedelta(days=190),
    "air_time_by_destination": timedelta(days=42),
}
FAMILIES = tuple(PAST)
HELD = timedelta(weeks=7)
PATIENCE = timedelta(minutes=6)
"""How long one cycle of all families may take on a small machine before it counts as stuck."""

_OVER = ("success", "failed")


def run(site: Site, *, now: datetime, console: Console) -> None:
    """Load, live through the past, start Airflow, and let its scheduler run one whole cycle.

    What was done by an earlier run is found, not done again; no published row changes.

    Raises
    ------
    SetupError
        A server does not start, a run does not end in time, or a run fails; the message says which.
    """
    local.up(site, airflow=False, console=console)
    with console.status("Flights"):
        report = flights.load(local.warehouse_url(site), today=now.date())
    console.print(f"[bold]Flights[/bold]   {report}", highlight=False)
    _live_through_the_past(site, now, console)
    local.up(site, console=console)
    before = _champions(site)
    _one_cycle(site, now, console)
    _print_outcome(site, before, console)


def _live_through_the_past(site: Site, now: datetime, console: Console) -> None:
    unlived = {name: _unlived(site, site.family(name), now) for name in FAMILIES}
    nights = {name: len(list(site.family(name).ticks(*span))) for name, span in unlived.items()}
    if not any(nights.values()):
        console.print("[bold]Past[/bold]      is written already", highlight=False)
        return
    context = multiprocessing.get_context("spawn")
    with (
        local.Bars(console, FAMILIES) as bars,
        context.Manager() as manager,
        ProcessPoolExecutor(len(nights), context, simulation.one_thread) as pool,
    ):
        queue: Any = manager.Queue()
        running = [
            pool.submit(_live, site, name, *span, queue)
            for name, span in unlived.items()
            if nights[name]
        ]
        for lived in _lived_nights(queue, running):
            bars(*lived)
        for future in running:
            future.result()


def _unlived(site: Site, family: ModelFamily, now: datetime) -> tuple[datetime, datetime]:
    """From the last published night to just before the ticks that Airflow will run."""
    monitor = previous_tick(family.schedule.monitor, family.schedule.timezone, now)
    end = min(family.previous_tick(now), monitor) - timedelta(seconds=1)
    with connect(site.database_url).transaction() as tx:
        latest: datetime | None = tx.one("demo.latest_night", family=family.family).as_of
    return latest or end - PAST[family.family], end


def _live(site: Site, name: str, start: datetime, end: datetime, queue: Any) -> None:
    """Live through (start, end] as configured, the last weeks with retraining held.

    Where an earlier demonstration has published nights nothing is held, and they stay as they are.
    """

    rest = nights = 0

    def put_night(_: str, night: datetime, of: int) -> None:
        nonlocal nights
        nights = max(nights, of + rest)
        queue.put((name, night, nights))

    with connect(site.database_url).transaction() as tx:
        fresh = tx.one("demo.latest_night", family=name).as_of is None
    hold = max(start, end - HELD) if fresh and PAST[name] > HELD else end
    first = start + timedelta(seconds=1)
    rest = len(list(site.family(name).ticks(hold, end)))
    simulation.live_through(site, name, first, hold, progress=put_night)
    if hold < end:
        models = simulation.models_for(site, name, "never", site.state / "demo")
        held = replace(site, models=models)
        simulation.live_through(held, name, hold + timedelta(seconds=1), end, progress=put_night)


def _lived_nights(queue: Any, running: list[Future[None]]) -> Iterator[tuple[str, datetime, int]]:
    while not all(future.done() for future in running):
        try:
            yield queue.get(timeout=0.5)
        except Empty:
            continue
    while not queue.empty():
        yield queue.get()


@dataclass(frozen=True)
class Run:
    """A run of a DAG, as Airflow tells it."""

    dag_id: str
    run_id: str
    state: str
    run_after: datetime


class Airflow:
    """Airflow's REST API, as the user ``admin`` of this installation."""

    def __init__(self, site: Site) -> None:
        url = local.ui_url(site)
        # Loopback needs no proxy, whatever the environment says.
        self._http = httpx.Client(base_url=url, trust_env=False, timeout=30)
        login = {"username": "admin", "password": local.logins(site)["admin"]}
        token = self._call("POST", "/auth/token", json=login)["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def is_parsed(self, dag_id: str) -> bool:
        """Whether the DAG processor has brought this DAG in."""
        return self._http.get(f"/api/v2/dags/{dag_id}").status_code == httpx.codes.OK

    def unpause(self, dag_id: str) -> None:
        """Let a DAG's schedule run."""
        self._call("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": False})

    def trigger(self, dag_id: str, run_id: str, conf: dict[str, Any]) -> None:
        """Start a run; a run of that id that is there already is left as it is."""
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
        answer = self._http.post(f"/api/v2/dags/{dag_id}/dagRuns", json=body)
        if answer.status_code != httpx.codes.CONFLICT:
            _require_ok(answer)

    def runs(self, dag_id: str) -> list[Run]:
        """The latest runs of a DAG."""
        query = {"limit": 100, "order_by": "-run_after"}
        reply = self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns", params=query)
        return [
            Run(dag_id, run["dag_run_id"], run["state"], datetime.fromisoformat(run["run_after"]))
            for run in reply["dag_runs"]
        ]

    def _call(self, method: str, path: str, **options: Any) -> Any:
        return _require_ok(self._http.request(method, path, **options)).json()


def _require_ok(answer: httpx.Response) -> httpx.Response:
    if answer.is_error:
        raise SetupError(
            f"Airflow answered {answer.status_code} to {answer.request.method}"
            f" {answer.request.url.path}: {answer.text[:300]}"
        )
    return answer


def _one_cycle(site: Site, now: datetime, console: Console) -> None:
    airflow = Airflow(site)
    families = [site.family(name) for name in FAMILIES]
    dags = [f"{name}.{kind}" for name in FAMILIES for kind in ("score", "monitor", "retrain")]
    with console.status("Airflow: reading the DAGs") as status:
        for dag_id in ("maintain", *dags):
            _wait(lambda dag_id=dag_id: airflow.is_parsed(dag_id), f"{dag_id} to appear")  # type: ignore[misc]
            airflow.unpause(dag_id)
        for family in families:
            _trigger_last_ticks(airflow, family, now)
        airflow.trigger("maintain", f"demo-{day(now)}", {})
        _watch(airflow, dags, now, status.update)
        for family in families:
            _retrain_once(airflow, family, now)
        _watch(airflow, ["maintain", *dags], now, status.update)
    console.print("[bold]Airflow[/bold]   ran one whole cycle of every family", highlight=False)


def _trigger_last_ticks(airflow: Airflow, family: ModelFamily, now: datetime) -> None:
    for kind, cron in (("score", family.schedule.score), ("monitor", family.schedule.monitor)):
        tick = previous_tick(cron, family.schedule.timezone, now).isoformat()
        airflow.trigger(f"{family.family}.{kind}", f"demo-{tick}", {"as_of": tick})


def _retrain_once(airflow: Airflow, family: ModelFamily, now: datetime) -> None:
    """A family whose measurements called for no retrain gets one on demand, to show the DAG."""
    dag_id = f"{family.family}.retrain"
    if not airflow.runs(dag_id):
        conf: dict[str, Any] = {"reason": "the demonstration shows a retrain on demand"}
        if family.models is not None:
            conf["members"] = [family.family]
        airflow.trigger(dag_id, f"demo-{day(now)}", conf)


def _watch(
    airflow: Airflow, dags: list[str], since: datetime, progress: Callable[[str], None]
) -> None:
    """Wait until every run of these DAGs is over; one that fails is an error that names it."""

    def over() -> bool:
        runs = [run for dag_id in dags for run in airflow.runs(dag_id)]
        failed = [
            f"{run.dag_id} {run.run_id}"
            for run in runs
            if run.state == "failed" and run.run_after >= since
        ]
        if failed:
            raise SetupError(f"failed in Airflow: {listed(failed)}; open the run and read its log")
        going = sorted({run.dag_id for run in runs if run.state not in _OVER})
        progress(f"Airflow: running {listed(going)}")
        return not going

    _wait(over, "Airflow's runs to end")


def _wait(condition: Callable[[], bool], event: str) -> None:
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while not condition():
        if time.monotonic() > deadline:
            raise SetupError(f"waited {PATIENCE.seconds // 60} minutes in vain for {event}")
        time.sleep(1)


def _champions(site: Site) -> dict[str, dict[str, int]]:
    """For each family its models, and the version number that serves each."""
    champions: dict[str, dict[str, int]] = {name: {} for name in FAMILIES}
    with connect(site.database_url).transaction() as tx:
        for row in tx.rows("demo.champions"):
            champions.setdefault(row.family, {})[row.model] = row.number
    return champions


def _print_outcome(site: Site, before: dict[str, dict[str, int]], console: Console) -> None:
    after = _champions(site)
    table = Table(title="What happened", show_lines=True)
    for heading in ("", *FAMILIES):
        table.add_column(heading, overflow="fold")
    columns = [_figures(site, name, before[name], after[name]) for name in FAMILIES]
    for heading in columns[0]:
        table.add_row(heading, *(column[heading] for column in columns))
    console.print(table)
    login = local.logins(site)["admin"]
    console.print(f"Airflow   {local.ui_url(site)}   user admin, password {login}", highlight=False)
    console.print(
        "Readers   " + local.psql_command(site, "nightshift_reader"),
        soft_wrap=True,
        highlight=False,
    )
    console.print("Stop      nightshift down (the data stays; make demo goes on from there)")


def _figures(
    site: Site, name: str, before: dict[str, int], after: dict[str, int]
) -> dict[str, str]:
    if not after:
        raise NightshiftError(f"{name} has no champion after the demonstration")
    with connect(site.database_url).transaction() as tx:
        row = tx.one("demo.figures", family=name)
        proof = tx.maybe("demo.last_comparison", family=name)
    replaced = sum(before.get(model) != number for model, number in after.items())
    served = (
        f"version {before.get(name)}, version {after[name]}"
        if set(after) == {name}
        else f"{len(after)} models, {replaced} with a new one"
    )
    return {
        "nights published": f"{row.nights}",
        "rows published": f"{row.rows:,}",
        "measurements, breaches": f"{row.measurements:,}, {row.breaches:,}",
        "retrains decided by measurements": f"{row.retrains}",
        "champions before, after this cycle": served,
        "metric": site.family(name).performance.metric,
        "last measurement": row.last_measurement,
        "last comparison, before and after": proof.sentence if proof else "none",
    }
