"""Many configurations of a family held against each other, and the lines that follow.

Nights are halved. What is recommended was chosen on the first half alone; what it is worth is told
by the second half, which nothing was chosen on.
"""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nightshift import monitoring, simulation, stats
from nightshift.data import Store, connect
from nightshift.errors import TrainingError
from nightshift.family import ModelFamily, Training
from nightshift.site import Site
from nightshift.steps.frame import Frame
from nightshift.tuning import configurations, history, yardsticks
from nightshift.tuning.careers import Lived
from nightshift.tuning.configurations import Configuration
from nightshift.tuning.history import History, Places
from nightshift.tuning.laboratory import Laboratory, grid_of
from nightshift.tuning.living import Life
from nightshift.workers import begin_worker, workers

INSTANT = timedelta(microseconds=1)
CONFIDENCE = 0.95
FEWEST_BLOCKS = 5
WORTH_IT = 0.01
"""A change must win this share of what the metric falls short of perfection, or it is none."""

FEWEST_NIGHTS = 14
"""With fewer nights in a half nothing is chosen, and nothing judged."""

Progress = Callable[[str, int, int], None]
"""What is being done, how many of them are, and of how many."""


@dataclass(frozen=True)
class Outcome:
    """What a policy came to.

    ``chosen_on`` and ``value`` are the metric over every labelled row of the first half and of the
    second, NaN where there is none; the counts are of the second. ``nights`` has the columns
    ``as_of`` and ``value``, of all of them.
    """

    policy: str
    chosen_on: float
    value: float
    fits: int
    promotions: int
    below: int
    nights: pd.DataFrame
    kind: str = "configuration"


@dataclass(frozen=True)
class Line:
    """A change of ``model.yaml``, chosen on the first half, and what it gains on the second.

    The gain is in units of the metric, greater is better, with a 95% interval over ``blocks`` of
    ``block_nights`` nights; None where there are too few.
    """

    question: str
    changes: Mapping[str, Any]
    gain: float
    low: float | None
    high: float | None
    blocks: int
    block_nights: int

    @property
    def lines(self) -> list[str]:
        """What to write."""
        return configurations.yaml_lines(self.changes)


@dataclass(frozen=True)
class Report:
    """All that was found; ``perfect`` is the best that the metric can be."""

    family: ModelFamily
    start: datetime
    middle: datetime
    end: datetime
    outcomes: Sequence[Outcome]
    lines: Sequence[Line]
    recommended: str
    perfect: float

    def of(self, policy: str) -> Outcome:
        """What a policy came to."""
        return next(outcome for outcome in self.outcomes if outcome.policy == policy)


@dataclass(frozen=True)
class Question:
    """What is asked for: between which nights, which data, how fine, beside which configurations.

    ``windows`` and ``mixes`` are as they were written; without any they are proposed. ``always``
    has the configured training fitted every night as well, to be held against.
    """

    start: datetime
    end: datetime
    windows: Sequence[str] = ()
    mixes: Sequence[str] = ()
    every: timedelta = timedelta(days=7)
    always: bool = False
    beside: Sequence[Configuration] = ()


def tune(
    site: Site,
    family_name: str,
    question: Question,
    *,
    folder: Path,
    make_database: Callable[[str, str | None], str],
    drop_database: Callable[[str], None],
    progress: Progress,
    processes: int = 2,
) -> Report:
    """Live through the nights under many configurations, and tell which lines to write.

    Parameters
    ----------
    folder
        Where versions are kept meanwhile; it is gone afterwards.
    make_database, drop_database
        As of :func:`nightshift.simulation.simulate`.

    Raises
    ------
    ConfigError
        A window, a mix or a configuration cannot be; the family's trainings go on from champions.
    TrainingError
        There are too few nights, or too few labels.
    """
    family = site.family(family_name)
    _refuse(family)
    own = Configuration("as-configured", family)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        past = _history(
            site, family, question, folder, make_database, drop_database, progress, processes
        )
        search = _Search(site, past, question, folder / "versions", own, processes, progress)
        return search.report()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse(family: ModelFamily) -> None:
    if family.retrain.training.policy == "incremental":
        raise TrainingError(
            f"{family.family}: retrain.training.policy is incremental, so each version depends on"
            " all before it and none can be fitted apart; tune a copy of the family with a window"
        )


# The rows ---------------------------------------------------------------------------------------


def _history(
    site: Site,
    family: ModelFamily,
    question: Question,
    folder: Path,
    make_database: Callable[[str, str | None], str],
    drop_database: Callable[[str], None],
    progress: Progress,
    processes: int,
) -> History:
    """The nights that there are to learn from and to judge, frozen anew where the source can."""
    reach = max(
        (configurations.duration(window, "window") for window in question.windows),
        default=family.retrain.training.window * 2,
    )
    since = question.start - family.labels.maturity - family.promotion.holdout - reach
    if family.source.history != "append_only":
        return history.read(
            connect(site.database_url), Store(site.store), family, since, question.end
        )
    name = f"tune_{family.family}"
    base = replace(site, state=folder, database_url=make_database(name, None))
    try:
        nights = list(family.ticks(since, question.end))
        connect(base.database_url).close()
        with workers(processes) as (pool, queue, stop):
            parts = [nights[part::processes] for part in range(processes)]
            running = [
                pool.submit(simulation.prepare, base, family.family, part, len(nights), queue, stop)
                for part in parts
            ]
            done = iter(range(1, len(nights) + 1))
            simulation.relay(
                queue, running, stop, lambda *_: progress("nights", next(done), len(nights))
            )
        moment = question.end + family.labels.maturity
        frame = Frame(base, family.family, moment, moment)
        monitoring.complete(
            frame.database,
            frame.source,
            family,
            moment,
            names=frame.names,
            since=since,
            now=moment,
        )
        past = history.read(frame.database, frame.store, family, since, question.end)
        frame.database.close()
        return past
    finally:
        drop_database(name)


# The search -------------------------------------------------------------------------------------


class _Search:
    """One question, answered by lives in one laboratory."""

    def __init__(
        self,
        site: Site,
        past: History,
        question: Question,
        folder: Path,
        own: Configuration,
        processes: int,
        progress: Progress,
    ) -> None:
        self.budget = site.settings.retrains_per_night
        self.past, self.question, self.own = past, question, own
        self.family, self.start, self.end = past.family, question.start, question.end
        self.progress, self.processes = progress, processes
        folder.mkdir()
        grid = list(grid_of(self.family, self.start, self.end, question.every))
        self.laboratory = Laboratory(past, folder, grid)
        judged = [night for night in past.nights if night >= self.start]
        if len(judged) < 2 * FEWEST_NIGHTS:
            raise TrainingError(
                f"{self.family.family}: {len(judged)} accepted nights are too few to choose on one"
                f" half and judge on the other: {2 * FEWEST_NIGHTS} are needed; choose an earlier"
                " --from"
            )
        self.middle = judged[len(judged) // 2 - 1]
        self.first = past.between(self.start - INSTANT, self.middle)
        self.second = past.between(self.middle, self.end)
        self.lives: dict[str, tuple[Configuration | None, Lived]] = {}

    def report(self) -> Report:
        """Live through everything, choose on the first half, judge on the second."""
        context = multiprocessing.get_context("spawn")
        state = (self.laboratory, self.budget, self.start, self.end)
        pool = ProcessPoolExecutor(self.processes, context, _begin, state)
        try:
            return self._report(pool)
        except BaseException:  # a life may take a minute, and nobody waits for it any more
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _report(self, pool: ProcessPoolExecutor) -> Report:
        data = [
            configurations.changed(self.own, name, change)
            for name, change in configurations.data_changes(
                self.family, self._windows(), self.question.mixes
            )
        ]
        data = [one for one in data if one.trainings != self.own.trainings]
        rules: list[Training] = []
        for one in (self.own, *data, *self.question.beside):
            rules += [rule for rule in one.trainings if rule not in rules]
        self._fit(pool, rules)
        never = configurations.changed(self.own, "never", _NEVER)
        often = {
            configurations.changed(one, _joined(one, name), change): one
            for one in (self.own, *data)
            for name, change in configurations.often_changes(self.family, self.start)
        }
        self._live(pool, [self.own, never, *data, *often, *self.question.beside])
        best = self._best([self.own, *data, *often])
        learnt = often.get(best, best)
        chosen = self._best([best, *self._thresholds(pool, best)])
        path = (("which data", self.own, learnt), ("how often", learnt, best))
        steps = [
            (question, before, after)
            for question, before, after in (*path, ("threshold", best, chosen))
            if before is not after
        ]
        self._yardsticks(pool, rules)
        outcomes = [self._outcome(name) for name in self.lives]
        return Report(
            self.family,
            self.start,
            self.middle,
            self.end,
            outcomes,
            [self._line(*step) for step in steps],
            chosen.name,
            self._perfect,
        )

    def _windows(self) -> Sequence[str]:
        if self.question.windows or self.question.mixes:
            return self.question.windows
        return configurations.windows(self.family, self.end - self.past.nights[0])

    def _fit(self, pool: ProcessPoolExecutor, rules: Sequence[Training]) -> None:
        """Fit every generation; what is fitted is in the laboratory's folder."""
        nights = self.laboratory.grid
        jobs = [pool.submit(_generation, rule, night) for night in nights for rule in rules]
        self._gather("versions", jobs)

    def _live(self, pool: ProcessPoolExecutor, wanted: Sequence[Configuration]) -> None:
        jobs = {pool.submit(_life, one.family): one for one in wanted}
        self._gather("configurations", list(jobs))
        for job, one in jobs.items():
            self.lives[one.name] = one, job.result()

    def _gather(self, what: str, jobs: Sequence[Future[Any]]) -> None:
        for done, job in enumerate(as_completed(jobs), start=1):
            job.result()
            self.progress(what, done, len(jobs))

    def _thresholds(
        self, pool: ProcessPoolExecutor, chosen: Configuration
    ) -> Sequence[Configuration]:
        perfect = self._perfect
        changes = configurations.threshold_changes(
            self.family, self._value(chosen.name, self.first), perfect
        )
        tried = [
            configurations.changed(chosen, _joined(chosen, name), change)
            for name, change in changes
        ]
        self._live(pool, tried)
        return tried

    def _best(self, wanted: Sequence[Configuration]) -> Configuration:
        """The best on the first half; the one that there is, where no other wins enough."""
        now, *others = wanted
        value = self._value(now.name, self.first)
        enough = WORTH_IT * abs(self._perfect - value)
        best = max(others, key=lambda one: self._value(one.name, self.first), default=now)
        return best if self._value(best.name, self.first) > value + enough else now

    def _value(self, name: str, places: Places) -> float:
        value = yardsticks.realized(self.laboratory, self.lives[name][1], places)
        return float("nan") if value is None else value

    @property
    def _perfect(self) -> float:
        best = stats.perfect(self.family.performance.metric)
        return 1.0 if best is None else best

    def _yardsticks(self, pool: ProcessPoolExecutor, rules: Sequence[Training]) -> None:
        own, lab = self.own.trainings[0], self.laboratory
        week = timedelta(weeks=1)
        self.lives["weekly"] = None, yardsticks.by_rote(lab, own, self.start, self.end, week)
        if self.question.always:
            nights = list(grid_of(self.family, self.start, self.end, timedelta(days=1)))
            self._gather("always", [pool.submit(_generation, own, night) for night in nights])
            nightly = Laboratory(self.past, lab.folder, nights)
            never_late = timedelta(0)
            always = yardsticks.by_rote(nightly, own, self.start, self.end, never_late)
            self.lives["always"] = None, always
        naive = yardsticks.naive(lab, self.family, own, self.start, self.end)
        self.lives["naive"] = None, naive
        best, night = yardsticks.best_single(lab, rules, self.middle, self.end)
        self.lives[f"hindsight: {night}"] = None, best
        self.progress("yardsticks", 1, 1)

    def _outcome(self, name: str) -> Outcome:
        configuration, lived = self.lives[name]
        nights = []
        for unit, as_of in enumerate(self.past.nights):
            if as_of >= self.start:
                places = np.arange(*self.past.borders[unit : unit + 2])
                value = yardsticks.realized(self.laboratory, lived, places)
                nights.append({"as_of": as_of, "value": float("nan") if value is None else value})
        return Outcome(
            policy=name,
            chosen_on=self._value(name, self.first),
            value=self._value(name, self.second),
            fits=sum(moment > self.middle for moment in lived.fits),
            promotions=sum(moment > self.middle for moment in lived.promotions),
            below=sum(moment > self.middle for moment in lived.breaches),
            nights=pd.DataFrame(nights),
            kind="yardstick" if configuration is None or name == "never" else "configuration",
        )

    def _line(self, question: str, before: Configuration, after: Configuration) -> Line:
        changes = {k: v for k, v in after.changes.items() if before.changes.get(k, _NEW) != v}
        sides = [self.lives[one.name][1] for one in (before, after)]
        scored = np.all([~np.isnan(side.score[self.second]) for side in sides], axis=0)
        known = pd.notna(self.past.truth[self.second])
        places = self.second[scored & known]
        nights = len(np.unique(self.past.unit[places]))
        length = max(7, -(-nights // 26))
        block = (self.past.unit[places] - self.past.unit[places[0]]) // length
        outcomes = [
            self.past.outcomes(
                places, side.score[places], None if side.label is None else side.label[places]
            )
            for side in sides
        ]
        paired = stats.paired_difference(
            self.family.performance.metric,
            self.family.task,
            *outcomes,
            confidence=(1 + CONFIDENCE) / 2,
            nights=block,
        )
        blocks = len(np.unique(block))
        gain = self._value(after.name, self.second) - self._value(before.name, self.second)
        if isinstance(paired, stats.Undefined) or blocks < FEWEST_BLOCKS:
            return Line(question, changes, gain, None, None, blocks, length)
        return Line(question, changes, paired.value, paired.low, paired.high, blocks, length)


_NEW = object()
_NEVER: Mapping[str, Any] = {
    "retrain.when": None,
    "schedule.retrain": None,
    "promotion.probation": None,
}


def _joined(configuration: Configuration, name: str) -> str:
    own = configuration.name
    return name if own == "as-configured" else f"{own}, {name}"


# What the processes do --------------------------------------------------------------------------

_here: dict[str, Any] = {}


def _begin(laboratory: Laboratory, budget: int, start: datetime, end: datetime) -> None:
    begin_worker()
    _here.update(laboratory=laboratory, budget=budget, start=start, end=end)


def _generation(rule: Training, night: datetime) -> str:
    name: str = _here["laboratory"].generation(rule, night)
    return name


def _life(family: ModelFamily) -> Lived:
    life = Life(family, _here["laboratory"], budget=_here["budget"])
    return life.through(_here["start"], _here["end"])
