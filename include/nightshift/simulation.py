"""The nightly loop over past nights, with the clock that the scheduler would have shown.

``live_through`` writes history into a site; ``simulate`` lives through the same nights once for
each policy, every policy in a database of its own, and holds the results side by side.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from queue import Empty
from typing import Any, Literal

import pandas as pd
import yaml

from nightshift import monitoring, registry, stats, training
from nightshift.data import Store, connect
from nightshift.errors import ConfigError, SnapshotRejected, TrainingError
from nightshift.family import ModelFamily, next_tick
from nightshift.night import missing_nights
from nightshift.site import Site
from nightshift.steps import monitor, people, replacing
from nightshift.steps import night as night_steps
from nightshift.steps import retrain as retrain_steps
from nightshift.workers import workers

Policy = Literal["never", "as-configured", "weekly", "always"]
POLICIES: tuple[Policy, ...] = ("never", "as-configured", "weekly", "always")

REFITS: Mapping[Policy, timedelta] = {"weekly": timedelta(weeks=1), "always": timedelta(0)}
"""How long after a refit of everything the next one comes, at the first monitoring then."""

RUN_TIME = timedelta(minutes=5)
"""How long after its tick a run of the simulated scheduler does its work."""

Progress = Callable[[str, datetime, int], None]
"""Told which part of the work has come through which night, and how many nights the part has."""


@dataclass(frozen=True)
class Outcome:
    """What a policy came to.

    ``value`` is the family's metric over every labelled prediction, as a scikit-learn scorer gives
    it (greater is better); ``nights`` has one row for each night: ``as_of``, ``value`` (NaN where
    undefined), ``predictions``, ``labels``, ``versions`` (the ids of those that scored it).
    ``rejected`` are the nights that validation has refused: readers kept the night before.
    """

    policy: Policy
    value: float
    fits: int
    breaches: int
    promotions: int
    nights: pd.DataFrame
    rejected: int = 0


def simulate(
    site: Site,
    family_name: str,
    start: datetime,
    end: datetime,
    policies: Sequence[Policy],
    *,
    folder: Path,
    make_database: Callable[[str, str | None], str],
    drop_database: Callable[[str], None] = lambda name: None,
    progress: Progress,
    processes: int = 2,
) -> list[Outcome]:
    """Live through the nights in [start, end] under each policy.

    Parameters
    ----------
    folder
        Where the simulations keep their stores and changed copies of ``model.yaml``.
    make_database
        Given a name, and the name of a database to copy or None, makes a fresh, migrated database
        and returns its URL.
    drop_database
        Given a name, drops that database; whatever was made is dropped at the end.
    progress
        Told what is being lived through, ``snapshots`` or a policy.
    """
    family = site.family(family_name)
    shutil.rmtree(folder, ignore_errors=True)
    base_name = f"simulate_{family_name}"
    _refuse_mutable(family)
    names = [base_name]
    with ExitStack() as resources:
        resources.callback(_drop, names, drop_database)
        base = replace(site, state=folder, database_url=make_database(base_name, None))
        needed = _nights_needed(base, family, start, end)
        # One policy needs no copy, so it begins when its first models can learn, and the nights
        # that it scores are frozen while it lives through those before them.
        alone = len(policies) == 1
        at_once = [night for night in needed if night <= start or not alone]
        meanwhile = needed[len(at_once) :]
        connect(base.database_url).close()
        with workers(processes) as (pool, queue, stop):
            talk = queue, stop
            preparing = [
                pool.submit(
                    prepare, base, family_name, at_once[part::processes], len(needed), *talk
                )
                for part in range(processes)
            ]
            relay(queue, preparing, stop, progress)
            sites = {}
            for policy in policies:
                url = base.database_url
                if not alone:
                    names.append(f"{base_name}_{policy.replace('-', '_')}")
                    url = make_database(names[-1], base_name)
                changed = models_for(base, family_name, policy, folder)
                sites[policy] = replace(base, models=changed, database_url=url)
            # The longest first: they refit the most.
            ordered = sorted(policies, key=POLICIES.index, reverse=True)
            running = {
                policy: pool.submit(_live, sites[policy], family_name, start, end, policy, *talk)
                for policy in ordered
            }
            ahead = pool.submit(prepare, base, family_name, meanwhile, len(needed), *talk)
            relay(queue, [*running.values(), ahead], stop, progress)
            return [running[policy].result() for policy in policies]


def _drop(names: Sequence[str], drop_database: Callable[[str], None]) -> None:
    for name in names:
        drop_database(name)


def live_through(
    site: Site,
    family_name: str,
    start: datetime,
    end: datetime,
    *,
    progress: Progress = lambda part, night, of: None,
    refit_every: timedelta | None = None,
    stretch: int = night_steps.STRETCH,
) -> None:
    """Score, monitor and retrain at every tick in [start, end], in order.

    A family without champions gets its first ones at ``start``. With ``refit_every`` new versions
    are trained on all that is known and promoted unopposed, at the first monitoring so long after
    the last time.

    Parameters
    ----------
    progress
        Told each night that is lived through, under the family's name.
    stretch
        How many nights are frozen and validated together before the first of them is scored.
    """
    family = site.family(family_name)
    nights = list(family.ticks(start - timedelta(seconds=1), end))
    _first_champions(site, family, start, unopposed=refit_every is not None)
    refitted = start
    rejected: list[datetime] = []
    for tick, kind in ticks(family, start, end):
        now = tick + RUN_TIME
        if kind == "score":
            place = nights.index(tick)
            if place % stretch == 0 and stretch > 1:
                some = nights[place : place + stretch]
                moments = [(night, night + RUN_TIME) for night in some]
                rejected = night_steps.prepare_nights(site, family_name, moments)
            if tick not in rejected:
                score_night(site, family_name, tick, now=now)
            progress(family_name, tick, len(nights))
            continue
        if kind == "retrain":
            decision_ids = retrain_steps.calendar_retrain(
                site, family_name, tick, reason="schedule.retrain", by="schedule", now=now
            )
            _retrain_if(site, decision_ids, now=now)
            continue
        _retrain_if(site, monitor_night(site, family_name, tick, now=now), now=now)
        if refit_every is not None and tick - refitted >= refit_every:
            _refit(site, family_name, tick, "refitted by the calendar", now=now)
            refitted = tick


def _retrain_if(site: Site, decisions: Sequence[int], *, now: datetime) -> None:
    """Retrain what was decided; what fails is in the audit trail, and does not end the nights."""
    if decisions:
        with suppress(TrainingError):
            retrain(site, decisions, now=now)


def score_night(site: Site, family_name: str, as_of: datetime, *, now: datetime) -> bool:
    """Freeze, validate, score and publish one night; False where validation rejected it."""
    snapshot_id = night_steps.freeze(site, family_name, as_of, now=now)
    try:
        night_steps.validate(site, snapshot_id, now=now)
    except SnapshotRejected:
        return False
    replacing.replace_outgrown(site, snapshot_id, now=now)
    shown = night_steps.publish(site, night_steps.score(site, snapshot_id, now=now), now=now)
    night_steps.watch(site, shown["batch_id"], now=now)
    return True


def monitor_night(site: Site, family_name: str, as_of: datetime, *, now: datetime) -> list[int]:
    """Collect labels, measure, judge trials and decide; the ids of the decisions to retrain."""
    monitor.collect_labels(site, family_name, as_of, now=now)
    monitor.measure(site, family_name, as_of, now=now)
    monitor.judge_trials(site, family_name, as_of, now=now)
    return monitor.decide(site, family_name, as_of, now=now)


def retrain(site: Site, decision_ids: Sequence[int], *, now: datetime) -> list[int]:
    """Fit, compare and conclude what decisions call for; the concluding decisions' ids."""
    version_ids = retrain_steps.fit(site, decision_ids, now=now)
    return retrain_steps.conclude(site, retrain_steps.compare(site, version_ids, now=now), now=now)


def models_for(site: Site, family_name: str, policy: Policy, folder: Path) -> Path:
    """A models folder in which the family follows a policy: its own, or never to retrain."""
    if policy == "as-configured":
        return site.models
    models = folder / f"models-{policy}"
    shutil.copytree(site.models / family_name, models / family_name, dirs_exist_ok=True)
    file = models / family_name / "model.yaml"
    changed = yaml.safe_load(file.read_text())
    changed["retrain"]["when"] = None
    changed["schedule"].pop("retrain", None)
    changed["promotion"]["probation"] = None
    file.write_text(yaml.safe_dump(changed, sort_keys=False))
    return models


def default_policies(family: ModelFamily) -> list[Policy]:
    """What a family is simulated under if nobody says: a factory is not refitted every night."""
    return ["never", "as-configured", "always" if family.models is None else "weekly"]


def won_back(outcomes: Sequence[Outcome]) -> tuple[float, Policy] | None:
    """The share that ``as-configured`` wins of what refitting wins over ``never``, and which.

    Refitting is ``always`` where it was simulated, else ``weekly``; None without all three.
    """
    value = {outcome.policy: outcome.value for outcome in outcomes}
    refits: list[Policy] = [policy for policy in ("always", "weekly") if policy in value]
    if not refits or not {"never", "as-configured"} <= set(value):
        return None
    gain = value[refits[0]] - value["never"]
    return ((value["as-configured"] - value["never"]) / gain, refits[0]) if gain else None


def _live(
    site: Site,
    family_name: str,
    start: datetime,
    end: datetime,
    policy: Policy,
    queue: Any,
    stop: Any,
) -> Outcome:
    def progress(_: str, night: datetime, of: int) -> None:
        if stop.is_set():
            raise CancelledError
        queue.put((policy, night, of))

    live_through(
        site,
        family_name,
        start,
        end,
        progress=progress,
        refit_every=REFITS.get(policy),
        stretch=1,  # they are frozen, or are being so by another process
    )
    return _outcome(site, site.family(family_name), start, end, policy)


def relay(
    queue: Any,
    running: Sequence[Future[Any]],
    stop: Any,
    progress: Progress,
) -> None:
    """Pass progress on until all are through; the first failure stops the others."""
    try:
        while not all(future.done() for future in running):
            for future in running:
                if future.done():
                    future.result()
            with suppress(Empty):
                progress(*queue.get(timeout=0.5))
        for future in running:
            future.result()
    except BaseException:
        # A signal may have interrupted the call above: its answer is then read here first.
        with suppress(Empty):
            stop.set()
        raise


def _nights_needed(
    base: Site, family: ModelFamily, start: datetime, end: datetime
) -> list[datetime]:
    """The nights to freeze, for training as for scoring."""
    first = training.plan(family, start, now=start)
    learnt = training.spans(family, first)
    spans = [(span.start, min(span.end + (end - start), end)) for span in learnt]
    with connect(base.database_url).transaction() as tx:
        missing = {
            as_of
            for since, until in (*spans, (first.border, end))
            for as_of in missing_nights(tx, Store(base.store), family, since, until)
        }
    return sorted(missing)


def prepare(
    base: Site, family_name: str, nights: Sequence[datetime], of: int, queue: Any, stop: Any
) -> None:
    """Freeze nights once for all policies, which then find the snapshots."""

    def progress(night: datetime) -> None:
        if stop.is_set():
            raise CancelledError
        queue.put(("snapshots", night, of))

    moments = [(night, night + RUN_TIME) for night in nights]
    night_steps.prepare_nights(base, family_name, moments, progress=progress)
    connect(base.database_url).close()  # nobody may be connected to a database that is copied


def _first_champions(site: Site, family: ModelFamily, start: datetime, *, unopposed: bool) -> None:
    with connect(site.database_url).transaction() as tx:
        if registry.champions(tx, family.family, start):
            return
    if unopposed:
        _refit(site, family.family, start, "the first models", now=start)
        return
    decision_ids = retrain_steps.request_retrain(
        site, family.family, start, reason="the first models", by="simulation", now=start
    )
    retrain(site, decision_ids, now=start)


def _refit(site: Site, family_name: str, tick: datetime, reason: str, *, now: datetime) -> None:
    decision_ids = retrain_steps.request_retrain(
        site, family_name, tick, reason=reason, by="simulation", now=now
    )
    for version_id in retrain_steps.fit(site, decision_ids, now=now, holdout=timedelta(0)):
        people.promote(site, version_id, reason=reason, by="simulation", now=now)


_ORDER = ("monitor", "retrain", "score")
"""What comes first of what is due at the same moment."""


def ticks(
    family: ModelFamily, start: datetime, end: datetime
) -> Iterator[tuple[datetime, Literal["score", "monitor", "retrain"]]]:
    """What the scheduler would have started in [start, end], in order."""
    scores = [(tick, "score") for tick in family.ticks(start - timedelta(seconds=1), end)]
    due = scores + [(tick, "monitor") for tick in _due(family, family.schedule.monitor, start, end)]
    if family.schedule.retrain is not None:
        due += [(tick, "retrain") for tick in _due(family, family.schedule.retrain, start, end)]
    yield from sorted(due, key=lambda tick: (tick[0], _ORDER.index(tick[1])))  # type: ignore[misc]


def _due(family: ModelFamily, cron: str, start: datetime, end: datetime) -> Iterator[datetime]:
    tick = start
    while (tick := next_tick(cron, family.schedule.timezone, tick)) <= end:
        yield tick


def _outcome(
    site: Site, family: ModelFamily, start: datetime, end: datetime, policy: Policy
) -> Outcome:
    """Judge a policy by every label that is known once the last night has matured."""
    database = connect(site.database_url)
    known_by = end + family.labels.maturity
    monitor.collect_labels(site, family.family, known_by, now=known_by)
    rows = monitoring.outcomes(database, family, start - timedelta(seconds=1), end, known_by)
    with database.transaction() as tx:
        counts = tx.one("simulation.counts", family=family.family, start=start)
        versions = {
            row.as_of: row.versions for row in tx.rows("simulation.versions", family=family.family)
        }
    nights = pd.DataFrame(
        [_night(family, as_of, night, versions) for as_of, night in rows.groupby("as_of")]
    )
    whole = _value(family, rows)
    return Outcome(
        policy=policy,
        value=float("nan") if whole is None else whole,
        fits=counts.fits,
        breaches=counts.breaches,
        promotions=counts.promotions,
        nights=nights,
        rejected=sum(1 for _ in family.ticks(start - timedelta(seconds=1), end)) - len(versions),
    )


def _night(
    family: ModelFamily, as_of: Any, rows: pd.DataFrame, versions: dict[datetime, str]
) -> dict[str, Any]:
    return {
        "as_of": as_of,
        "value": _value(family, rows),
        "predictions": len(rows),
        "labels": int(rows["value"].notna().sum()),
        "versions": versions[as_of.to_pydatetime()],
    }


def _value(family: ModelFamily, rows: pd.DataFrame) -> float | None:
    labelled = rows[rows["value"].notna()]
    if labelled.empty:
        return None
    return stats.value(
        family.performance.metric, family.task, stats.outcomes(labelled, family.task)
    )


def _refuse_mutable(family: ModelFamily) -> None:
    if family.source.history != "append_only":
        raise ConfigError(
            f"{family.family} cannot be simulated: source.history is {family.source.history},"
            " so its past nights cannot be frozen any more"
        )
