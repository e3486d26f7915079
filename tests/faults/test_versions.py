"""Cases 13 to 18 and 38: what happens to artifacts, to races for the champion, to one of many."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import joblib
import pyarrow.parquet as pq
import pytest
from tests.families import FACTORY
from tests.faults.harness import (
    Process,
    Reader,
    Refused,
    outcome,
    store_files,
    together,
    until_it_waits,
)
from tests.world import FAMILY, World

from nightshift import registry, reports, simulation
from nightshift.data import Store, connect
from nightshift.documents import Inputs
from nightshift.errors import ArtifactRefused, NightshiftError, SnapshotError
from nightshift.local import session
from nightshift.records import About, Decision
from nightshift.registry.members import ensure_model
from nightshift.registry.versions import _verified_pipeline
from nightshift.site import Site
from nightshift.steps import monitor, night, people, retrain, upkeep
from nightshift.steps.frame import Frame, registry_of
from nightshift.steps.retrain import _training_rows
from nightshift.steps.rollback import rollback

PROMOTIONS = "select seq, version_id from nightshift.promotions order by seq"


def challengers(world: World, *numbers: int) -> list[int]:
    """Versions of the family's model trained at these nights, none of them promoted."""
    ids = []
    for number in numbers:
        now = world.night(number)
        asked = retrain.request_retrain(world.site, FAMILY, now, reason="r", by="test", now=now)
        ids += retrain.fit(world.site, asked, now=now)
    return ids


def artifact(world: World, number: int) -> Path:
    """The file of a version, by its number."""
    [row] = world.rows(f"select artifact_hash from nightshift.versions where number = {number}")
    return Path(Store(world.site.store).address(row.artifact_hash, "joblib"))


def edited(world: World, sql: str) -> None:
    """As somebody with all rights on the database could."""
    with session(world.site.database_url) as connection:
        connection.exec_driver_sql(sql)


def refused(world: World, error: type[NightshiftError], number: int, said: str) -> None:
    """A night is refused with these words, on record, and what was published is still served."""
    before = world.rows("select * from predictions order by entity_id")
    with pytest.raises(error, match=said):
        world.score(number)
    last = world.rows("select family, code from nightshift.events order by event_id desc limit 1")
    assert tuple(last[0]) == (FAMILY, error.code)
    assert world.rows("select * from predictions order by entity_id") == before


# Case 13 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["storage.written", "storage.renamed", "registry.stored"])
def test_case_13_a_training_that_was_killed_is_done_again(world: World, place: str) -> None:
    now = world.night(9)
    asked = retrain.request_retrain(world.site, FAMILY, now, reason="r", by="test", now=now)
    _training_rows(Frame(world.site, FAMILY, now, now), None)  # snapshots
    fit = partial(retrain.fit, world.site, asked, now=now)
    Process(fit, place).reached(place).kill()
    assert world.rows("select * from nightshift.versions") == []
    assert len(Process(fit).outcome()) == 1
    compared = retrain.compare(world.site, retrain.fit(world.site, asked, now=now), now=now)
    retrain.conclude(world.site, compared, now=now)
    assert world.score(10)


def test_case_13_an_artifact_without_a_version_goes_after_its_grace(world: World) -> None:
    now = world.night(9)
    asked = retrain.request_retrain(world.site, FAMILY, now, reason="r", by="test", now=now)
    fit = partial(retrain.fit, world.site, asked, now=now)
    Process(fit, "registry.stored").reached("registry.stored").kill()
    orphans = {name for name in store_files(world.site.store) if name.endswith(".joblib")}
    assert len(orphans) == 1
    real = datetime.now(UTC)  # files carry the time of the disk
    for days, left in ((6, 1), (8, 0)):
        upkeep.maintain(world.site, now=real + timedelta(days=days))
        assert len(orphans & store_files(world.site.store)) == left


def test_case_13_a_version_without_its_artifact_is_refused(
    served: World, forget: Callable[[int], None]
) -> None:
    assert served.score(10)
    forget(1)
    refused(served, ArtifactRefused, 11, "registered but not in the store")


# Case 14 ------------------------------------------------------------------------------------------


def _promote(site: Site, version_id: int, instead_of: int, now: datetime) -> int:
    """The room's own promotion, without a step's decision around it."""
    with connect(site.database_url).transaction() as tx:
        version = registry.version(tx, version_id)
        registry_of(site).promote(
            tx,
            version,
            instead_of=instead_of,
            decision_id=version.decision_id,
            effective_from=now,
            now=now,
        )
    return version_id


@pytest.mark.parametrize("processes", [2, 8])
def test_case_14_of_promotions_over_one_champion_one_wins(
    served: World, reader: Reader, processes: int
) -> None:
    [one, other] = challengers(served, 12, 13)
    champion = served.rows(PROMOTIONS)[-1].version_id
    work = [
        partial(_promote, served.site, (one, other)[number % 2], champion, served.night(14))
        for number in range(processes)
    ]
    ends = together(work, "registry.looked")
    won = [end for end in ends if not isinstance(end, Refused)]
    assert len(won) == 1
    assert {end.code for end in ends if isinstance(end, Refused)} == {"promotion_lost"}
    assert [tuple(row) for row in served.rows(PROMOTIONS)] == [(1, champion), (2, won[0])]
    assert served.score(14)


def test_case_14_a_rollback_that_a_promotion_overtakes_is_lost(
    served: World, reader: Reader
) -> None:
    first, second = challengers(served, 12, 13)
    now = served.night(14)
    people.promote(served.site, first, reason="r", by="test", now=now)
    promote = partial(people.promote, served.site, second, reason="r", by="test", now=now)
    back = partial(rollback, served.site, FAMILY, reason="r", by="t", as_of=now, now=now)
    holding = Process(promote, "registry.promoted").reached("registry.promoted")
    rolling = Process(back)
    until_it_waits(served, rolling)
    holding.go()
    holding.outcome()
    end = outcome(rolling)
    assert isinstance(end, Refused)
    assert end.code == "promotion_lost"
    assert served.rows(PROMOTIONS)[-1].version_id == second
    assert "promotion_lost" in served.codes()


def test_case_14_two_retrains_of_one_decision_make_one_version(world: World) -> None:
    now = world.night(9)
    asked = retrain.request_retrain(world.site, FAMILY, now, reason="r", by="test", now=now)
    _training_rows(Frame(world.site, FAMILY, now, now), None)
    [[one], [other]] = together(
        [partial(retrain.fit, world.site, asked, now=now)] * 2, "registry.stored"
    )
    assert one == other
    concluded = [partial(simulation.retrain, world.site, asked, now=now)] * 2
    ends = [outcome(Process(work)) for work in concluded]
    assert ends[0] == ends[1]
    assert len(world.rows(PROMOTIONS)) == 1


def test_case_14_two_retrains_of_one_model_get_numbers_of_their_own(world: World) -> None:
    now = world.night(9)
    asked = [
        retrain.request_retrain(world.site, FAMILY, now, reason=reason, by="test", now=now)
        for reason in ("one", "other")
    ]
    _training_rows(Frame(world.site, FAMILY, now, now), None)
    ends = together(
        [partial(retrain.fit, world.site, ids, now=now) for ids in asked], "registry.stored"
    )
    assert len({version_id for [version_id] in ends}) == 2
    numbers = world.rows("select number from nightshift.versions order by 1")
    assert [row.number for row in numbers] == [1, 2]


# Cases 15 to 18 -----------------------------------------------------------------------------------


class Hostile:
    """Pickled, it makes a folder when it is loaded."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.witness),)


def flip(data: bytes) -> bytes:
    return data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]


@pytest.mark.parametrize(
    "damage",
    [flip, lambda data: data[: len(data) // 2], lambda data: b""],
    ids=["one_bit", "truncated", "empty"],
)
def test_case_15_a_damaged_artifact_is_refused_before_it_is_opened(
    served: World, reader: Reader, opened_anew: Callable[[], None], damage: Callable[[bytes], bytes]
) -> None:
    assert served.score(10)
    file = artifact(served, 1)
    file.write_bytes(damage(file.read_bytes()))
    opened_anew()
    refused(served, ArtifactRefused, 11, "was changed after it was written")


def test_case_16_a_hostile_artifact_under_its_own_hash_runs_nothing(
    served: World, reader: Reader, tmp_path: Path, opened_anew: Callable[[], None]
) -> None:
    assert served.score(10)
    bytes_of_it = tmp_path / "hostile"
    joblib.dump(Hostile(tmp_path / "witness"), bytes_of_it)
    planted = Store(served.site.store).write_bytes(bytes_of_it.read_bytes(), "joblib")
    edited(served, f"update nightshift.versions set artifact_hash = '{planted}'")
    opened_anew()
    refused(served, ArtifactRefused, 11, "not signed by a key of this installation")
    assert not (tmp_path / "witness").exists()


@pytest.mark.parametrize("how", ["file", "row"])
def test_case_17_an_older_artifact_replayed_is_refused(
    served: World, opened_anew: Callable[[], None], how: str
) -> None:
    [newer] = challengers(served, 27)
    people.promote(served.site, newer, reason="r", by="test", now=served.night(27))
    assert served.score(28)
    if how == "file":
        artifact(served, 2).write_bytes(artifact(served, 1).read_bytes())
    else:
        edited(
            served,
            "update nightshift.versions v set artifact_hash = o.artifact_hash,"
            " signature = o.signature from nightshift.versions o"
            " where v.number = 2 and o.number = 1",
        )
    opened_anew()
    said = "was changed after it was written" if how == "file" else "not signed by"
    refused(served, ArtifactRefused, 29, said)


@pytest.mark.parametrize("work", ["validate", "score"])
def test_case_18_a_snapshot_that_was_edited_is_refused(
    served: World, reader: Reader, work: str
) -> None:
    assert served.score(10)
    snapshot_id, now = served.freeze(11), served.night(11)
    if work == "score":
        night.validate(served.site, snapshot_id, now=now)
    [row] = served.rows(
        f"select content_hash from nightshift.snapshots where snapshot_id = {snapshot_id}"
    )
    file = Path(Store(served.site.store).address(row.content_hash, "parquet"))
    table = pq.read_table(file)
    pq.write_table(table.slice(1), file)
    refused(served, SnapshotError, 11, "was changed after it was written")


# Case 38 ------------------------------------------------------------------------------------------

# Which member fails is asked of a file, so that it can fail today and work tomorrow.
MOODY = '''
"""A line through the sizes that raises while a file is there."""
from pathlib import Path

from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline

class Moody(RegressorMixin, BaseEstimator):
    def fit(self, X, y):
        self.line_ = LinearRegression().fit(X[["size"]], y)
        return self

    def predict(self, X):
        if X["kind"].iloc[0] == "k1" and Path({file!r}).exists():
            raise ZeroDivisionError("k1 is in a mood")
        return self.line_.predict(X[["size"]])

def build(numeric, categorical, seed):
    return Pipeline([("model", Moody())])
'''


@pytest.fixture
def factory(world: World) -> World:
    """A model for each of three kinds; that of k1 raises while there is a file ``mood``."""
    world.write("estimator.py", MOODY.replace("{file!r}", repr(str(world.folder / "mood"))))
    world.configure(
        performance={"threshold": None, "min_labels": 10},
        models={**FACTORY, "fallback": False},
        retrain={"training": {"window": "P5D", "min_rows": 30}},
        promotion={"holdout": "P2D", "min_rows": 10},
    )
    world.source(
        "update truths set value = value + 1 from items where kind = 'k2'"
        " and items.entity_id = truths.entity_id"
    )
    as_of = world.night(9)
    asked = retrain.request_retrain(world.site, FAMILY, as_of, reason="t", by="t", now=as_of)
    simulation.retrain(world.site, asked, now=as_of)
    return world


def scored(world: World, number: int) -> dict[str, int]:
    rows = world.rows(
        "select model, count(*) as rows from predictions"
        f" where as_of = '{world.night(number).isoformat()}' group by 1"
    )
    return {row.model: row.rows for row in rows}


def test_case_38_one_model_that_fails_to_predict_holds_up_no_other(factory: World) -> None:
    (factory.folder / "mood").touch()
    assert factory.score(10)
    assert scored(factory, 10) == {"k0": 10, "k2": 10}
    [batch] = factory.rows("select row_count, skipped_rows, failed_rows from nightshift.batches")
    assert tuple(batch) == (20, 0, 10)
    [event] = factory.rows("select detail from nightshift.events where code = 'model_failed'")
    assert (event.detail["model"], event.detail["version"]) == ("k1", 1)
    assert "ZeroDivisionError: k1 is in a mood" in event.detail["reason"]
    (factory.folder / "mood").unlink()
    assert factory.score(10)
    assert scored(factory, 10) == {"k0": 10, "k1": 10, "k2": 10}
    assert factory.score(10)
    assert len(factory.rows("select from nightshift.batches")) == 2  # whole, it is not done again


@pytest.fixture
def thousand(factory: World) -> World:
    """A thousand models. Those that are not trained are made from k0: training them takes long."""
    factory.source(
        "insert into items select n.night, to_char(n.night, 'YYYYMMDD') || '+' || i, i,"
        " 'k' || i from (values (timestamptz '2026-01-11 02:00+00')) n (night),"
        " generate_series(3, 999) i"
    )
    now = factory.night(9)
    _verified_pipeline.cache_clear()
    versions = registry.Registry(Store(factory.site.store), factory.site.keys, factory.site.models)
    with connect(factory.site.database_url).transaction() as tx:
        [first] = [v for v in registry.versions(tx, [1, 2, 3]).values() if v.model.name == "k0"]
        pipeline = versions.load(first).pipeline
        saved = []
        for number in range(3, 1000):
            made = ensure_model(tx, FAMILY, f"k{number}", now=now)
            told = Decision(made.model_id, "retrain", "first", "a thousand", now, Inputs({}))
            decision_id = registry.decide(tx, told, about=About.approval(number), now=now)
            pipeline[-1].made_for_ = made.name  # so that each has an artifact of its own
            manifest = {**first.manifest, "model": made.name}
            saved.append(
                versions.save(tx, made, pipeline, manifest, decision_id=decision_id, now=now)
            )
        for version in registry.versions(tx, saved).values():
            versions.promote(
                tx,
                version,
                instead_of=None,
                decision_id=version.decision_id,
                effective_from=now,
                now=now,
            )
    return factory


def test_case_38_of_a_thousand_models_one_fails_and_999_are_published(
    thousand: World, opened_anew: Callable[[], None]
) -> None:
    (thousand.folder / "mood").touch()
    opened_anew()
    assert thousand.score(10)
    assert set(scored(thousand, 10)) == {f"k{number}" for number in range(1000)} - {"k1"}
    [event] = thousand.rows("select detail from nightshift.events where code = 'model_failed'")
    assert event.detail["model"] == "k1"
    (thousand.folder / "mood").unlink()
    assert thousand.score(10)
    assert len(scored(thousand, 10)) == 1000


def test_case_38_one_model_that_fails_to_load_holds_up_no_other(
    factory: World, opened_anew: Callable[[], None]
) -> None:
    [row] = factory.rows(
        "select artifact_hash from nightshift.versions join nightshift.models"
        " using (model_id) where name = 'k2'"
    )
    file = Path(Store(factory.site.store).address(row.artifact_hash, "joblib"))
    whole = file.read_bytes()
    file.write_bytes(b"")
    opened_anew()
    assert factory.score(10)
    assert scored(factory, 10) == {"k0": 10, "k1": 10}
    file.write_bytes(whole)
    assert factory.score(10)
    assert scored(factory, 10) == {"k0": 10, "k1": 10, "k2": 10}


def test_case_38_people_are_told_which_model_failed(factory: World) -> None:
    (factory.folder / "mood").touch()
    assert factory.score(10)
    as_of = factory.night(10)
    told: list[reports.Alert] = monitor.alerts(
        factory.site, FAMILY, reports.Run("score", as_of, as_of), now=as_of + timedelta(hours=1)
    )
    [alert] = [one for one in told if one.cause == "failed"]
    assert alert.message.startswith(f"{FAMILY}: a model could not score: k1; ScoringError:")


def test_case_38_where_every_model_fails_nothing_is_published(
    served: World, opened_anew: Callable[[], None]
) -> None:
    served.write("estimator.py", served.folder.joinpath("estimator.py").read_text())
    assert served.score(10)
    edited(served, "update nightshift.versions set manifest = jsonb_set(manifest, '{rows}', '1')")
    opened_anew()
    refused(served, ArtifactRefused, 11, "not signed by")
    states = served.rows("select state from nightshift.batches order by batch_id")
    assert [row.state for row in states] == ["written", "abandoned"]


def test_a_version_whose_code_is_gone_says_which_and_what_to_do(
    world: World, opened_anew: Callable[[], None]
) -> None:
    world.write("estimator.py", MOODY.replace("{file!r}", "'/nowhere'"))
    world.train(9)
    renamed = (world.folder / "estimator.py").read_text().replace("Moody", "Cheerful")
    world.write("estimator.py", renamed)
    opened_anew()
    assert world.score(10)
    [row] = world.rows("select manifest #>> '{code,archive}' as archive from nightshift.versions")
    Store(world.site.store).delete(row.archive, "code")
    opened_anew()
    refused(world, ArtifactRefused, 11, "the code of loads: version 1 of loads was not opened")
