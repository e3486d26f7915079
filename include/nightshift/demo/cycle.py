"""The demonstration: a past that really happened, then one cycle by Airflow's own scheduler.

Two families of one model live through half a year as their ``model.yaml`` says, and a factory of
one model for each destination through six weeks. In the last eight weeks of the half year
retraining is held, as by somebody who waits for a release; the measurements go on and begin to
breach. Then Airflow takes over, and its first monitoring finds the breach and retrains.

Airflow starts while the families live through their past, so its pages show them as they come. The
past begins, and is held, so many weeks before the last flight on record: whatever day of the week
it is, the models have learnt from the same flights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import (
    CancelledError,
    Future,
    ThreadPoolExecutor,
    as_completed,
)
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from io import StringIO
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
from nightshift.wording import Gauge, day, listed
from nightshift.workers import workers

PAST = {
    "air_time": timedelta(weeks=28),
    "late_arrival": timedelta(weeks=28),
    "air_time_by_destination": timedelta(weeks=7),
}
"""How long before the last flight on record, at most six days ahead, a family's past begins."""

FAMILIES = tuple(PAST)
HELD = timedelta(weeks=8)
"""So long that the champion is of summer: in every one of the last nights it is surely too bad."""
PATIENCE = timedelta(minutes=6)
"""How long one cycle of a family may take on a small machine before it counts as stuck."""

TRIES = 5
"""How often Airflow is asked before it counts as gone."""

_OVER = ("success", "failed")
_KINDS = ("score", "monitor", "retrain")
_NEXT = timedelta(seconds=1)


@dataclass(frozen=True)
class Past:
    """The nights in (start, end] that a family has not lived through; from ``held`` on it is held.

    ``held`` is ``end`` where nothing is: after an earlier demonstration, or a short past.
    """

    start: datetime
    held: datetime
    end: datetime

    def nights(self, family: ModelFamily) -> int:
        """How many they are."""
        return len(list(family.ticks(self.start, self.end)))


def run(site: Site, *, now: datetime, console: Console) -> None:
    """Load, live through the past, start Airflow, and let its scheduler run one whole cycle.

    What was done by an earlier run is found, not done again; no published row changes.

    Raises
    ------
    SetupError
        A server does not start, a run does not end in time, or a run fails; the message says which.
    """
    local.up(site, airflow=False, console=console)
    with ThreadPoolExecutor(len(FAMILIES) + 2) as threads:
        starting = threads.submit(_start_airflow, site, console)
        with console.status("Flights"):
            report = flights.load(local.warehouse_url(site), today=now.date())
        console.print(f"[bold]Flights[/bold]   {report}", soft_wrap=True, highlight=False)
        pasts = {name: past_of(site, site.family(name), now) for name in FAMILIES}
        with local.Bars(console, FAMILIES) as bars, _lived_through(site, pasts, bars) as lived:
            for name in FAMILIES:
                if pasts[name].nights(site.family(name)):
                    bars.say(name, "first models")
            stories = {
                name: threads.submit(_story, site, name, now, (lived[name], starting), bars)
                for name in FAMILIES
            }
            upkeep = threads.submit(_upkeep, site, now, [*lived.values(), starting])
            work: list[Future[Any]] = [*stories.values(), upkeep]
            for ended in as_completed(work):
                ended.result()
            before = {name: story.result() for name, story in stories.items()}
    console.print("[bold]Airflow[/bold]   ran one whole cycle of every family", highlight=False)
    _print_outcome(site, before, console)


def _start_airflow(site: Site, console: Console) -> None:
    """Start Airflow while others talk, with its schedules paused: the past comes first."""
    local.up(site, console=Console(file=StringIO()))
    airflow = Airflow(site)
    for dag_id in ("maintain", *(f"{name}.{kind}" for name in FAMILIES for kind in _KINDS)):
        _wait(partial(airflow.is_parsed, dag_id), f"{dag_id} to appear")
        airflow.pause(dag_id, paused=True)
    console.print(
        f"[bold]Airflow[/bold]   shows the fleet at {local.ui_url(site)}, user admin, password"
        f" {local.logins(site)['admin']}",
        soft_wrap=True,
        highlight=False,
    )


def _story(
    site: Site, name: str, now: datetime, first: Iterable[Future[None]], bars: local.Bars
) -> dict[str, int]:
    """One cycle of a family, after its past; who served before the cycle, see :func:`_champions`.

    Parameters
    ----------
    first
        What must be over before the cycle.
    """
    for future in as_completed(first):
        future.result()
    before = _champions(site, name)
    _cycle(Airflow(site), site.family(name), now, partial(bars.say, name))
    return before


def _upkeep(site: Site, now: datetime, first: Iterable[Future[None]]) -> None:
    """Run ``maintain`` once, when no past is being written any more."""
    for future in as_completed(first):
        future.result()
    airflow = Airflow(site)
    airflow.pause("maintain", paused=False)
    airflow.trigger("maintain", f"demo-{day(now)}", {})
    _watch(airflow, ["maintain"], now, lambda _: None)


def past_of(site: Site, family: ModelFamily, now: datetime) -> Past:
    """From the last published night to just before the ticks that Airflow will run."""
    monitor = previous_tick(family.schedule.monitor, family.schedule.timezone, now)
    end = min(family.previous_tick(now), monitor) - timedelta(seconds=1)
    with connect(site.database_url).transaction() as tx:
        latest: datetime | None = tx.one("demo.latest_night", family=family.family).as_of
    if latest is not None:
        return Past(latest, end, end)
    moved = flights.LAST_RECORDED + flights.shift(now.date())
    last = datetime.combine(moved, datetime.min.time(), now.tzinfo)
    lasts = PAST[family.family]
    return Past(last - lasts, last - HELD if lasts > HELD else end, end)


@contextmanager
def _lived_through(
    site: Site, pasts: Mapping[str, Past], bars: local.Bars
) -> Iterator[dict[str, Future[None]]]:
    """Every family's past, lived through by a process of its own; whoever leaves early stops it."""
    with workers(len(pasts)) as (pool, queue, stop), ThreadPoolExecutor(1) as teller:
        teller.submit(_tell, queue, bars)
        try:
            yield {name: pool.submit(_live, site, name, pasts[name], queue, stop) for name in pasts}
        except BaseException:
            stop.set()
            raise
        finally:
            queue.put(None)


def _tell(queue: Any, bars: local.Bars) -> None:
    while (lived := queue.get()) is not None:
        bars(*lived)


def live(site: Site, name: str, past: Past, progress: simulation.Progress) -> None:
    """Live through a past as configured, and from its moment on with retraining held."""
    family = site.family(name)
    if not past.nights(family):
        return
    nights = past.nights(family)

    def tell(_: str, night: datetime, of: int) -> None:
        progress(name, night, nights)

    simulation.live_through(site, name, past.start + _NEXT, past.held, progress=tell)
    if past.held < past.end:
        models = simulation.models_for(site, name, "never", site.state / "demo")
        held = replace(site, models=models)
        simulation.live_through(held, name, past.held + _NEXT, past.end, progress=tell)


def _live(site: Site, name: str, past: Past, queue: Any, stop: Any) -> None:
    def progress(*lived: Any) -> None:
        if stop.is_set():
            raise CancelledError
        queue.put(lived)

    live(site, name, past, progress)


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
        self._http = httpx.Client(base_url=url, trust_env=False, timeout=60)
        login = {"username": "admin", "password": local.logins(site)["admin"]}
        token = self._call("POST", "/auth/token", json=login)["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def is_parsed(self, dag_id: str) -> bool:
        """Whether the DAG processor has brought this DAG in."""
        return self._answer("GET", f"/api/v2/dags/{dag_id}").status_code == httpx.codes.OK

    def pause(self, dag_id: str, *, paused: bool) -> None:
        """Keep a DAG from running, or let it."""
        self._call("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": paused})

    def trigger(self, dag_id: str, run_id: str, conf: dict[str, Any]) -> None:
        """Start a run; a run of that id that is there already is left as it is."""
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
        answer = self._answer("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)
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
        return _require_ok(self._answer(method, path, **options)).json()

    def _answer(self, method: str, path: str, **options: Any) -> httpx.Response:
        """What Airflow answers. On a busy machine it may take long, and every question may be put
        again: a run has its id, and a DAG is paused or is not."""
        for _ in range(TRIES - 1):
            with suppress(httpx.TransportError):
                return self._http.request(method, path, **options)
        try:
            return self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise SetupError(
                f"Airflow did not answer {method} {path} in {TRIES} tries: {error}. The past stays"
                " as it was lived through: `make demo` again goes on from there"
            ) from error


def _require_ok(answer: httpx.Response) -> httpx.Response:
    if answer.is_error:
        raise SetupError(
            f"Airflow answered {answer.status_code} to {answer.request.method}"
            f" {answer.request.url.path}: {answer.text[:300]}"
        )
    return answer


def _cycle(
    airflow: Airflow, family: ModelFamily, now: datetime, progress: Callable[[str], None]
) -> None:
    """Let Airflow's scheduler run every DAG of a family once."""
    dags = [f"{family.family}.{kind}" for kind in _KINDS]
    for dag_id in dags:
        airflow.pause(dag_id, paused=False)
    _trigger_last_ticks(airflow, family, now)
    _watch(airflow, dags, now, progress)
    _retrain_once(airflow, family, now)
    _watch(airflow, dags, now, progress)
    progress("ran one whole cycle")


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
    airflow: Airflow, dags: Sequence[str], since: datetime, progress: Callable[[str], None]
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
        if going:
            progress(f"in Airflow: {listed(dag_id.rpartition('.')[2] for dag_id in going)}")
        return not going

    _wait(over, "Airflow's runs to end")


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while not condition():
        if time.monotonic() > deadline:
            raise SetupError(f"waited {PATIENCE.seconds // 60} minutes in vain for {what}")
        time.sleep(1)


def _champions(site: Site, family: str) -> dict[str, int]:
    """The version number that serves, by model of a family."""
    with connect(site.database_url).transaction() as tx:
        rows = tx.rows("demo.champions")
    return {row.model: row.number for row in rows if row.family == family}


def _print_outcome(site: Site, before: dict[str, dict[str, int]], console: Console) -> None:
    table = Table(title="What happened", show_lines=True)
    for heading in ("", *FAMILIES):
        table.add_column(heading, overflow="fold")
    columns = [_figures(site, name, before[name], _champions(site, name)) for name in FAMILIES]
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
        judged = tx.maybe("demo.last_measurement", family=name)
        proof = tx.maybe("demo.last_comparison", family=name)
    performance = site.family(name).performance
    gauge = Gauge(performance.metric, performance.say_as)
    measured = compared = "none"
    if judged is not None:
        value = "-" if judged.value is None else gauge.reading(judged.value, judged.threshold)
        days = f"{day(judged.window_start)} to {day(judged.window_end)}"
        measured = f"{judged.model}, {days}: {value}, {judged.state}"
    if proof is not None:
        figures = gauge.instead(proof.challenger_value, proof.champion_value)
        compared = f"{proof.model}: {figures} on {proof.row_count:,} later rows: {proof.kind}"
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
        "metric": gauge.name,
        "last measurement": measured,
        "last comparison, before and after": compared,
    }
