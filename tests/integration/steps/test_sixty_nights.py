"""Sixty nights of ordinary families, in the order of Airflow's tasks: none is red, none is lost.

Each night is what the tasks of ``score``, ``monitor`` and ``retrain`` do, one after the other, in a
process that is kept. Whatever a task would turn red with is raised here. ``make soak`` lives
through them in Airflow's own runs, and the demonstration's families besides.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.faults.harness import SOAK
from tests.hosts import HOME, Airflow
from tests.world import FAMILY, World

from nightshift import reports
from nightshift.family import ModelFamily, load_family
from nightshift.site import Site, models_folder
from nightshift.steps import monitor, night, people, replacing, retrain, upkeep
from nightshift_airflow.wiring import retrain_runs

FIRST, LAST = 13, 72

# As many nights as are lived through; a second number beside the size.
MORE_NIGHTS = """
insert into items
select n.night, to_char(n.night, 'YYYYMMDD') || '-' || i, i::double precision, 'k' || mod(i, 3)
from generate_series(timestamptz '2026-02-10 02:00+00', '2026-03-20 02:00+00', '1 day') n (night),
     generate_series(1, 30) i;
alter table items add column weight double precision;
update items set weight = mod(7 * size::int, 11);
delete from truths;
insert into truths
select entity_id, night, night + interval '12 hours',
       (case when night < '2026-01-20 02:00+00' then 1 else 2 end) * size + 3 * weight + 3
from items;
"""

# From a night on: the numbers of model.yaml, and what features.sql returns for them.
LISTS = {
    FIRST: (["size"], "size"),
    24: (["size", "weight"], "size, weight"),  # grows
    37: (["size", "mass"], "size, weight as mass"),  # renames a column
    50: (["mass"], "weight as mass"),  # shrinks
    61: (["length", "mass"], "size as length, weight as mass"),  # grows by an old one, renamed
}


@dataclass
class Nights:
    """The tasks of a family's DAGs, called as Airflow's are; ``red`` lists what was told."""

    site: Site
    family: str
    red: list[str] = field(default_factory=list)

    def score(self, as_of: datetime) -> None:
        now = as_of + timedelta(minutes=5)
        snapshot_id = night.freeze(self.site, self.family, as_of, now=now)
        night.validate(self.site, snapshot_id, now=now)
        replacing.replace_outgrown(self.site, snapshot_id, now=now)
        shares: Sequence[Any] = night.share_out(self.site, snapshot_id, now=now)
        [batch_id] = {night.score_share(self.site, **share, now=now) for share in shares}
        published = night.publish(self.site, batch_id, now=now)
        night.watch(self.site, published["batch_id"], now=now)
        self._tell(reports.Run("score", as_of, as_of), now)

    def monitor(self, as_of: datetime) -> None:
        now = as_of + timedelta(minutes=5)
        monitor.collect_labels(self.site, self.family, as_of, now=now)
        monitor.measure(self.site, self.family, as_of, now=now)
        judged = monitor.judge_trials(self.site, self.family, as_of, now=now)
        asked = people.questions(self.site, judged)
        decided = monitor.decide(self.site, self.family, as_of, now=now)
        assert asked == []
        self._tell(reports.Run("monitor", as_of, as_of), now)
        for run in retrain_runs(decided):
            self._retrain(run["conf"]["decision_ids"], as_of, now)

    def _retrain(self, decision_ids: list[int], as_of: datetime, now: datetime) -> None:
        version_ids = retrain.fit(self.site, decision_ids, now=now)
        compared = retrain.compare(self.site, version_ids, now=now)
        concluded = retrain.conclude(self.site, compared, now=now)
        assert people.open_approvals(self.site, concluded) == []
        assert upkeep.settle(self.site, self.family, decision_ids, [], since=as_of, now=now) == []
        self._tell(reports.Run("retrain", as_of, as_of, decision_ids=decision_ids), now)

    def _tell(self, run: reports.Run, now: datetime) -> None:
        alerts = monitor.alerts(self.site, self.family, run, now=now)
        self.red += [a.message for a in alerts if a.cause in ("failed", "missed_night", "approval")]


def declare(world: World, number: int) -> None:
    """Let the author change the list of features before a night."""
    if number in LISTS:
        numeric, shown = LISTS[number]
        world.configure(features={"numeric": numeric, "categorical": ["kind"]})
        world.write(
            "features.sql", f"select entity_id, {shown}, kind from items where night = :as_of"
        )


@pytest.fixture
def growing(world: World) -> World:
    """A family whose first version was trained by a person, and whom nobody attends to since."""
    world.source(MORE_NIGHTS)
    world.configure(performance={"threshold": -12.0})
    declare(world, FIRST)
    world.train(12)
    return world


def assert_lived(world: World) -> None:
    """Every night was published whole, and whoever serves knows the columns of today."""
    nights = world.rows(
        "select as_of, count(*) as rows from predictions group by as_of order by as_of"
    )
    assert [row.as_of for row in nights] == [world.night(n) for n in range(FIRST, LAST + 1)]
    assert {row.rows for row in nights} == {30}
    assert world.rows("select * from nightshift.approvals") == []
    versions = world.rows(
        "select distinct model_version from predictions where as_of > '2026-03-13'"
    )
    [serving] = world.rows(
        "select manifest -> 'features' -> 'numeric' as numeric from nightshift.versions"
        f" where number = {versions[-1].model_version}"
    )
    assert set(serving.numeric) <= {"length", "mass"}
    failed = world.rows("select reason from nightshift.decisions where kind = 'failed'")
    assert failed == []


@pytest.mark.timeout(1200)
def test_a_family_whose_columns_change_lives_without_a_red_task_or_a_person(
    growing: World,
) -> None:
    nights = Nights(growing.site, FAMILY)
    for number in range(FIRST, LAST + 1):
        declare(growing, number)
        nights.score(growing.night(number))
        nights.monitor(growing.night(number) + timedelta(hours=4))
    assert nights.red == []
    assert_lived(growing)


@pytest.mark.skipif(not SOAK, reason="half an hour of Airflow's runs; make soak has them")
@pytest.mark.timeout(7200)
def test_in_airflows_own_runs_as_well(
    growing: World, runner: tuple[Any, Path], tmp_path: Path
) -> None:
    airflow = Airflow(*runner, growing, tmp_path)
    growing.configure(alerts=[airflow.lines(on=["failed", "missed_night", "approval"])])
    for number in range(FIRST, LAST + 1):
        declare(growing, number)
        assert airflow.run("score", number)["state"] == "success"
        assert airflow.run("monitor", number)["state"] == "success"
        decided = growing.rows(
            "select decision_id from nightshift.decisions d where kind = 'retrain' and about ="
            f" 'monitor' and as_of = '{growing.night(number) + timedelta(hours=4)}'"
        )
        for row in decided:
            run = airflow.run("retrain", number, decision_ids=[row.decision_id])
            assert run["state"] == "success"
    assert airflow.titles() == []
    assert_lived(growing)


@pytest.mark.skipif(not SOAK, reason="three families on the real flights; make soak has them")
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", ["air_time", "late_arrival", "air_time_by_destination"])
def test_the_families_of_the_demonstration_do_too(
    world: World, flights_url: str, today: Any, name: str
) -> None:
    shutil.copytree(models_folder(HOME) / name, world.site.models / name)
    object.__setattr__(world.site, "sources", {"warehouse": flights_url})
    family = load_family(world.site.models / name)
    end = datetime(today.year, today.month, today.day, tzinfo=UTC)
    start = end - timedelta(days=60)
    first = family.previous_tick(start)
    asked = retrain.request_retrain(
        world.site, name, first, reason="the first", by="a person", now=first
    )
    nights = Nights(world.site, name)
    nights._retrain(asked, first, first)
    for kind, as_of in ticks(family, start, end):
        nights.score(as_of) if kind == "score" else nights.monitor(as_of)
    assert nights.red == []
    lived = world.rows("select distinct as_of from predictions")
    assert len(lived) == sum(kind == "score" for kind, _ in ticks(family, start, end))


def ticks(family: ModelFamily, start: datetime, end: datetime) -> Iterator[tuple[str, datetime]]:
    """Nights and monitorings in (start, end], in order."""
    for as_of in family.ticks(start, end):
        yield "score", as_of
        yield "monitor", as_of + timedelta(hours=4)
