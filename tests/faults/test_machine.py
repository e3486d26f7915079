"""Operations in any order, with crashes in between, against a plain model in memory.

A crash is an exception that no code of ours catches, raised at a failpoint: transactions are undone
as the server undoes those of a process that died. ``make soak`` kills real processes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.faults.harness import thorough
from tests.world import FAMILY, FIRST, World

from nightshift import failpoints
from nightshift.data import connect
from nightshift.errors import RegistryError, ScoringError
from nightshift.local import session
from nightshift.site import Site
from nightshift.steps import frame, monitor, people, retrain, upkeep
from nightshift.steps import night as night_steps
from nightshift.steps.rollback import Undo, rollback
from nightshift.steps.rollback import rescore as rollback_rescore

NIGHTS = range(30, 34)
"""The numbers of the nights; three versions have been trained by the first of them."""

SIZES = range(1, 31)
NIGHT, SIZE, VALUE = st.sampled_from(NIGHTS), st.sampled_from(SIZES), st.integers(1, 99)
VERSION = st.sampled_from((1, 2, 3))
PLACES = st.sampled_from(
    [
        "snapshots.stored",
        "scoring.copying",
        "scoring.copied",
        "scoring.finished",
        "scoring.flipped",
        "scoring.published",
        "scoring.purged",
        "registry.looked",
        "registry.promoted",
        "labels.appended",
    ]
)


class Crash(BaseException):
    """The process dies here."""


@dataclass
class Batch:
    night: int
    version: int
    sizes: dict[int, float]
    started: datetime
    purged: bool = False


@dataclass
class Model:
    """What must be true, in plain words: no SQL, no files."""

    source: dict[int, dict[int, float]]
    now: datetime
    promotions: list[tuple[datetime, int]]
    frozen: dict[int, dict[int, float]] = field(default_factory=dict)
    batches: dict[int, Batch] = field(default_factory=dict)
    shown: dict[int, int] = field(default_factory=dict)
    labels: dict[str, float] = field(default_factory=dict)

    def champion(self, at: datetime) -> int:
        """Of the promotions in effect by then, the last one made."""
        return [version for since, version in self.promotions if since <= at][-1]

    def predictions(self) -> dict[tuple[int, int], float]:
        """Version n has learnt that the load is n times the size, and three."""
        return {
            (night, size): value * self.batches[batch].version + 3
            for night, batch in self.shown.items()
            for size, value in self.batches[batch].sizes.items()
        }

    def publish(self, batch: int) -> None:
        night = self.batches[batch].night
        self.shown[night] = max(batch, self.shown.get(night, 0))


@dataclass(frozen=True)
class Prepared:
    """A trained world, and the way back to it."""

    site: Site
    decisions: int
    labels: int
    collections: int

    def as_it_was(self) -> None:
        """Undo what an example has done, as nobody but the superuser can."""
        with session(self.site.database_url) as connection:
            connection.exec_driver_sql(
                "truncate nightshift.batches, nightshift.prediction_rows cascade;"
                "delete from nightshift.promotions where seq > 1;"
                f"delete from nightshift.decisions where decision_id > {self.decisions};"
                f"delete from nightshift.labels where label_id > {self.labels};"
                "delete from nightshift.label_collections"
                f" where collection_id > {self.collections};"
                "delete from nightshift.validations v using nightshift.snapshots s"
                f" where s.snapshot_id = v.snapshot_id and s.as_of >= '{moment(NIGHTS[0])}';"
                f"delete from nightshift.snapshots where as_of >= '{moment(NIGHTS[0])}'"
            )
        with session(self.site.sources["warehouse"]) as connection:
            connection.exec_driver_sql(
                "truncate items, truths; insert into items select * from items_before;"
                "insert into truths select * from truths_before"
            )


class Nights(RuleBasedStateMachine):
    """One example: the databases as they were prepared, and the model of them."""

    prepared: ClassVar[Prepared]

    def __init__(self) -> None:
        super().__init__()
        self.site = self.prepared.site
        self.place: str | None = None
        self.told = count(1)

    @initialize()
    def begin(self) -> None:
        self.prepared.as_it_was()
        self.model = Model(
            source={night: {size: float(size) for size in SIZES} for night in NIGHTS},
            now=moment(NIGHTS[0]),
            promotions=[(moment(9), 1)],
        )

    # The world outside ------------------------------------------------------------------------

    @rule(hours=st.integers(1, 40))
    def time_passes(self, hours: int) -> None:
        self.model.now += timedelta(hours=hours)

    @rule(night=NIGHT, size=SIZE, value=VALUE)
    def source_changes(self, night: int, size: int, value: int) -> None:
        self.model.source[night][size] = float(value)
        self._source(f"update items set size = {value} where entity_id = '{key(night, size)}'")

    @rule(place=PLACES)
    def the_next_operation_crashes_if_it_comes_by(self, place: str) -> None:
        self.place = place

    # The operations ---------------------------------------------------------------------------

    @rule(night=NIGHT)
    def freeze(self, night: int) -> None:
        if moment(night) > self.model.now:
            return
        if self._attempt(lambda: self._freeze(night)) is not None:
            self.model.frozen.setdefault(night, dict(self.model.source[night]))

    @precondition(lambda self: self.model.frozen)
    @rule(data=st.data())
    def score(self, data: Any) -> None:
        night = data.draw(st.sampled_from(sorted(self.model.frozen)))
        batch = self._attempt(lambda: self._score(night))
        if batch is not None:
            self._scored(night, batch)

    @precondition(lambda self: self.model.batches)
    @rule(data=st.data())
    def publish(self, data: Any) -> None:
        batch = data.draw(st.sampled_from(sorted(self.model.batches)))
        if self.model.batches[batch].purged:
            with pytest.raises(ScoringError, match="was purged"):
                night_steps.publish(self.site, batch, now=self.model.now)
            return
        committed = self.place == "scoring.published"
        told = self._attempt(lambda: night_steps.publish(self.site, batch, now=self.model.now))
        if told is not None or committed:
            self.model.publish(batch)
        if told is not None:
            assert told["batch_id"] == self.model.shown[self.model.batches[batch].night]

    @rule(night=NIGHT)
    def run_again(self, night: int) -> None:
        self.place = None
        self.freeze(night)
        if night in self.model.frozen:
            self._again(night)

    @rule()
    def purge(self) -> None:
        if self._attempt(lambda: upkeep.maintain(self.site, now=self.model.now)) is None:
            return
        before, seen = self.model.now - frame.UNSEEN_GRACE, set(self.model.shown.values())
        for number, batch in self.model.batches.items():
            batch.purged |= batch.started < before and number not in seen

    @rule(version=VERSION)
    def promote(self, version: int) -> None:
        reason, now = f"promotion {next(self.told)}", self.model.now
        done = self._attempt(
            lambda: people.promote(self.site, version, reason=reason, by="test", now=now)
        )
        if done is not None:
            self.model.promotions.append((now, version))

    @rule(to=VERSION, rescore=st.booleans())
    def roll_back(self, to: int, rescore: bool) -> None:
        now, (since, bad) = self.model.now, self.model.promotions[-1]
        said = {"reason": f"rollback {next(self.told)}", "by": "test", "as_of": now, "now": now}
        if to == bad:  # it serves already; undoing its last rollback once more is tested elsewhere
            rescore = False

        def act() -> int:
            undo = Undo(to=to, rescore=rescore)
            return rollback(self.site, FAMILY, undo=undo, **said)  # type: ignore[arg-type]

        if to == bad or to not in {version for _, version in self.model.promotions}:
            with pytest.raises(RegistryError):
                act()
            return
        decision = self._attempt(act)
        if decision is None:
            return
        self.model.promotions.append((since if rescore else now, to))
        anew = [
            night
            for night, batch in sorted(self.model.shown.items())
            if rescore and moment(night) >= since and self.model.batches[batch].version == bad
        ]
        assert rollback_rescore(self.site, decision, now=now) == [moment(night) for night in anew]
        for night in anew:
            [batch] = {row.batch_id for row in self._rows() if row.as_of == moment(night)}
            self._scored(night, batch)
            self.model.publish(batch)

    @rule(night=NIGHT, size=SIZE, value=VALUE)
    def correct_a_label(self, night: int, size: int, value: int) -> None:
        self.model.now += timedelta(seconds=1)  # of two at one moment the source keeps one only
        now, entity = self.model.now, key(night, size)
        self._source(
            f"update truths set value = {value}, known_at = '{now.isoformat()}'"
            f" where entity_id = '{entity}'"
        )
        if self._attempt(self._collect) is None:
            self._collect()  # the next morning finds it
        self.model.labels[entity] = float(value)

    # What must hold after each ----------------------------------------------------------------

    @invariant()
    def readers_see_what_the_model_says(self) -> None:
        rows = self._rows()
        found = {((row.as_of - FIRST).days, int(row.entity_id.split("-")[1])): row for row in rows}
        assert len(found) == len(rows)
        scores = {place: row.score for place, row in found.items()}
        assert scores == pytest.approx(self.model.predictions())
        assert {night: row.batch_id for (night, _), row in found.items()} == self.model.shown

    @invariant()
    def one_champion_serves(self) -> None:
        [row] = self._ask("select model_version from champions")
        assert row.model_version == self.model.promotions[-1][1]

    @invariant()
    def the_latest_label_wins(self) -> None:
        rows = self._ask(
            "select distinct on (entity_id) entity_id, value::float8 as value"
            " from nightshift.labels"
            ' order by entity_id, stated_at desc, known_at desc, value collate "C" desc'
        )
        latest = {row.entity_id: row.value for row in rows}
        assert {entity: latest[entity] for entity in self.model.labels} == self.model.labels

    # How --------------------------------------------------------------------------------------

    def _attempt(self, act: Callable[[], Any]) -> Any:
        """Do it, and perhaps crash on the way: then None."""
        place, self.place = self.place, None

        def hook(name: str) -> None:
            if name == place:
                raise Crash

        failpoints._hook = hook
        try:
            return act()
        except Crash:
            return None
        finally:
            failpoints._hook = None

    def _freeze(self, night: int) -> int:
        now = self.model.now
        snapshot_id = night_steps.freeze(self.site, FAMILY, moment(night), now=now)
        night_steps.validate(self.site, snapshot_id, now=now)
        return snapshot_id

    def _score(self, night: int) -> int:
        return night_steps.score(self.site, self._freeze(night), now=self.model.now)

    def _scored(self, night: int, batch: int) -> None:
        """It is the published batch where that would come out the same, and else a new one."""
        version, shown = self.model.champion(moment(night)), self.model.shown.get(night)
        same = shown is not None and self.model.batches[shown].version == version
        assert (batch == shown) == same
        if not same:
            assert batch > max(self.model.batches, default=0)
            sizes = self.model.frozen[night]
            self.model.batches[batch] = Batch(night, version, sizes, self.model.now)

    def _again(self, night: int) -> None:
        batch = self._score(night)
        self._scored(night, batch)
        night_steps.publish(self.site, batch, now=self.model.now)
        self.model.publish(batch)

    def _collect(self) -> Any:
        return monitor.collect_labels(self.site, FAMILY, self.model.now, now=self.model.now)

    def _rows(self) -> Any:
        return self._ask("select as_of, entity_id, score, batch_id from predictions")

    def _ask(self, sql: str) -> Any:
        with connect(self.site.database_url).administration() as connection:
            return connection.exec_driver_sql(sql).all()

    def _source(self, sql: str) -> None:
        with session(self.site.sources["warehouse"]) as connection:
            connection.exec_driver_sql(sql)


def moment(night: int) -> datetime:
    return FIRST + timedelta(days=night)


def key(night: int, size: int) -> str:
    return f"{moment(night):%Y%m%d}-{size}"


@pytest.fixture
def prepared(world: World) -> Prepared:
    """Three versions are trained, the first serves; nothing is published."""
    world.source(
        "update truths set value = case when items.night < '2026-01-10' then 1"
        " when items.night < '2026-01-18' then 2 else 3 end * size + 3"
        " from items where items.entity_id = truths.entity_id;"
        "create table items_before as select * from items;"
        "create table truths_before as select * from truths"
    )
    world.train(9)
    for number in (18, 27):
        now = world.night(number)
        asked = retrain.request_retrain(world.site, FAMILY, now, reason="r", by="test", now=now)
        retrain.fit(world.site, asked, now=now)
    [last] = world.rows(
        "select (select max(decision_id) from nightshift.decisions) as decisions,"
        " (select max(label_id) from nightshift.labels) as labels,"
        " (select max(collection_id) from nightshift.label_collections) as collections"
    )
    return Prepared(world.site, last.decisions, last.labels, last.collections)


@pytest.mark.timeout(7200)
def test_any_order_of_operations_ends_as_the_model_says(prepared: Prepared) -> None:
    Nights.prepared = prepared
    often = thorough(50, stateful_step_count=30)
    run_state_machine_as_test(Nights, settings=often)
