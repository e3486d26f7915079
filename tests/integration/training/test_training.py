"""What a challenger learns from, by policy; what never enters; and what a kill leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from tests.world import FAMILY, World

from nightshift import artifacts, monitoring, promotion, registry, training
from nightshift.data import Store, connect
from nightshift.errors import TrainingError
from nightshift.family import Training
from nightshift.records import Version
from nightshift.registry import Registry
from nightshift.registry.members import ensure_model
from nightshift.steps import monitor, people, versions
from nightshift.steps import night as night_steps
from nightshift.steps import retrain as retrain_steps

GRADIENT = '''
"""A line that can go on learning."""
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import SGDRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

def build(numeric, categorical, seed):
    columns = ColumnTransformer(
        [
            ("c", OneHotEncoder(handle_unknown="ignore"), categorical),
            ("n", StandardScaler(), numeric),
        ]
    )
    return Pipeline([("columns", columns), ("line", SGDRegressor(random_state=seed))])
'''
YEAR_BEFORE = """
insert into items
select night - interval '364 days', 'past-' || entity_id, size, kind from items;
insert into truths
select 'past-' || entity_id, night - interval '364 days', known_at - interval '364 days', value
from truths;
"""


def learn(world: World, **policy: Any) -> None:
    world.configure(retrain={"training": policy})


def version(world: World, number: int = 1) -> Version:
    with connect(world.site.database_url).transaction() as tx:
        of = ensure_model(tx, FAMILY, FAMILY, now=world.night(0))
        found = tx.one("training.numbered", model_id=of.model_id, number=number)
        return registry.version(tx, found.version_id)


def fit(world: World, number: int, reason: str = "test") -> Version:
    """Train a version as of a night; it is not compared."""
    now = world.night(number)
    asked = retrain_steps.request_retrain(
        world.site, FAMILY, now, reason=reason, by="test", now=now
    )
    [version_id] = retrain_steps.fit(world.site, asked, now=now)
    with connect(world.site.database_url).transaction() as tx:
        return registry.version(tx, version_id)


def loaded(world: World, found: Version) -> artifacts.LoadedVersion:
    return Registry(Store(world.site.store), world.site.keys, world.site.models).load(found)


def numbers(world: World, found: Version) -> list[int]:
    """The nights of a version, by their numbers."""
    return [
        (datetime.fromisoformat(night) - world.night(0)).days for night in found.manifest["nights"]
    ]


def exclude(world: World, entity: str, state: training.Exclusion, number: int) -> int:
    return people.exclude(
        world.site, FAMILY, entity, state, reason="asked", by="test", now=world.night(number)
    )


# Policies ---------------------------------------------------------------------------------------


def test_a_window_is_learnt_from(world: World) -> None:
    found = fit(world, 9)
    assert numbers(world, found) == [2, 3, 4, 5, 6]
    assert found.manifest["rows"] == 150
    assert found.manifest["base"] is None


def test_mix_adds_a_sample_that_makes_up_its_share(world: World) -> None:
    learn(world, policy="mix", window="P2D", past="P4D", share=0.25)
    found = fit(world, 9)
    assert numbers(world, found) == [1, 2, 3, 4, 5, 6]
    assert found.manifest["rows"] == 60 + 20
    assert [span[1] for span in found.manifest["spans"]] == [
        world.night(4).isoformat(),
        world.night(6).isoformat(),
    ]
    assert versions.reproduce(world.site, found.model.model_id).same
    world.configure(estimator={"seed": 1})
    other = fit(world, 9, "another seed")
    assert other.manifest["rows"] == found.manifest["rows"]
    assert other.artifact_hash != found.artifact_hash


def test_mix_takes_all_of_a_past_that_is_shorter(world: World) -> None:
    learn(world, policy="mix", window="P2D", past="P4D", share=0.9)
    assert fit(world, 9).manifest["rows"] == 60 + 4 * 30


def test_same_season_adds_the_matching_weeks_and_what_followed_them(world: World) -> None:
    world.source(YEAR_BEFORE)
    learn(world, policy="same_season", window="P5D", years=1)
    found = fit(world, 9)
    year = [number - 364 for number in range(2, 12)]
    assert numbers(world, found) == [*year, 2, 3, 4, 5, 6]
    assert found.manifest["rows"] == 15 * 30


def test_seasons_keep_the_weekday_and_never_overlap(world: World) -> None:
    family = world.site.family(FAMILY)
    retrain = family.retrain.model_copy(
        update={"training": Training(policy="same_season", window=timedelta(300), years=3)}
    )
    family = family.model_copy(update={"retrain": retrain})
    cutoff = datetime(2026, 11, 3, 2, tzinfo=UTC)
    spans = training.plan(family, cutoff, now=cutoff).learn
    assert len(spans) == 4
    for before, after in pairwise(spans):
        assert before.start < before.end <= after.start
        assert before.start.weekday() == after.start.weekday()
    assert abs((spans[-1].start - spans[0].start).days - 3 * 365.25) < 4


def test_incremental_goes_on_from_the_champion_with_later_nights(world: World) -> None:
    world.write("estimator.py", GRADIENT)
    learn(world, policy="incremental", window="P5D")
    world.train(9)
    first, second = version(world), fit(world, 13)
    assert numbers(world, first) == [2, 3, 4, 5, 6]
    assert numbers(world, second) == [7, 8, 9, 10]
    assert second.manifest["base"] == {
        "version_id": first.version_id,
        "number": 1,
        "artifact_hash": first.artifact_hash,
    }
    before, after = (loaded(world, one).pipeline for one in (first, second))
    assert after[-1].t_ == before[-1].t_ + 4 * 30
    scalers = [pipeline[0].named_transformers_["n"] for pipeline in (before, after)]
    assert scalers[0].mean_ == scalers[1].mean_
    assert scalers[0].n_samples_seen_ == scalers[1].n_samples_seen_ == 150
    assert versions.reproduce(world.site, first.model.model_id, 2).same
    # Nobody's loaded champion learnt along.
    assert versions.reproduce(world.site, first.model.model_id, 1).same


def test_incremental_reaches_back_to_where_the_champion_stopped(world: World) -> None:
    world.write("estimator.py", GRADIENT)
    learn(world, policy="incremental", window="P2D")
    world.train(9)
    assert numbers(world, fit(world, 19)) == list(range(7, 17))


def test_incremental_without_new_nights_or_partial_fit_is_refused(world: World) -> None:
    learn(world, policy="incremental", window="P5D")
    world.train(9)
    with pytest.raises(TrainingError, match=r"LinearRegression, .* has no partial_fit; choose"):
        fit(world, 13)
    with pytest.raises(TrainingError, match=r"0 labelled rows .* wait for labels of later ones"):
        fit(world, 9, "again")
    assert [row.model_version for row in world.rows("select model_version from champions")] == [1]


def test_an_incremental_champion_that_learnt_from_an_excluded_entity_is_not_gone_on_from(
    world: World,
) -> None:
    world.write("estimator.py", GRADIENT)
    learn(world, policy="incremental", window="P5D")
    world.train(9)
    exclude(world, "20260105-7", "erased", 12)
    fresh = fit(world, 13)
    assert fresh.manifest["base"] is None
    assert numbers(world, fresh) == [6, 7, 8, 9, 10]


def test_a_factory_samples_the_past_of_each_member(world: World) -> None:
    world.configure(
        models={"by": "kind", "thresholds": {"*": -1.0}},
        performance={"threshold": None},
        retrain={"training": {"policy": "mix", "window": "P3D", "past": "P3D", "share": 0.5}},
        features={"categorical": []},
    )
    now = world.night(9)
    world.write(
        "estimator.py",
        GRADIENT.replace('("c", OneHotEncoder(handle_unknown="ignore"), categorical),', ""),
    )
    asked = retrain_steps.request_retrain(
        world.site, FAMILY, now, reason="test", by="test", now=now
    )
    ids = retrain_steps.fit(world.site, asked, now=now)
    with connect(world.site.database_url).transaction() as tx:
        trained = [registry.version(tx, version_id) for version_id in ids]
    assert [one.manifest["rows"] for one in trained] == [60, 60, 60]


# Search -----------------------------------------------------------------------------------------


def test_a_search_is_in_the_manifest_and_the_winner_is_what_serves(world: World) -> None:
    world.write(
        "estimator.py",
        GRADIENT.replace("seed):", "seed, alpha, fit_intercept=True):").replace(
            "random_state=seed", "random_state=seed, alpha=alpha, fit_intercept=fit_intercept"
        ),
    )
    world.configure(
        estimator={
            "params": {"fit_intercept": True},
            "search": {"space": {"alpha": [1e-4, 10.0]}, "folds": 3},
        }
    )
    found = fit(world, 9)
    told = found.manifest["search"]
    assert told["won"] == {"alpha": 1e-4}
    assert [trial["state"] for trial in told["tried"]] == ["tried", "tried"]
    assert told["folds"] == 3
    assert found.manifest["estimator"]["params"] == {"fit_intercept": True, "alpha": 1e-4}
    assert loaded(world, found).pipeline[-1].alpha == 1e-4
    assert type(loaded(world, found).pipeline).__name__ == "Pipeline"


# Manifest ---------------------------------------------------------------------------------------


def test_the_manifest_tells_what_the_version_is_made_of(world: World) -> None:
    for number in (2, 3):
        snapshot_id = world.freeze(number)
        night_steps.validate(world.site, snapshot_id, now=world.night(number))
    told = fit(world, 9).manifest
    assert told["dtypes"] == [["size", "float64"], ["kind", "text"]]
    assert told["profile"]["ranges"] == {"size": [1.0, 30.0]}
    assert told["profile"]["categories"] == {"kind": ["k0", "k1", "k2"]}
    assert told["threads"] == 1
    assert len(told["snapshots"]) == len(told["nights"]) == 5
    assert told["bootstrapped"] == [world.night(number).isoformat() for number in (4, 5, 6)]
    assert set(told["libraries"]) >= {"scikit-learn", "numpy", "scipy", "pandas"}
    assert len(told["code"]["family"]) == 64
    columns, line = told["pipeline"]["parts"]
    assert [part["name"] for part in columns["parts"]] == ["c", "n"]
    assert columns["parts"][0]["columns"] == "['kind']"
    assert columns["parts"][0]["params"]["handle_unknown"] == "ignore"
    assert line["class"] == "sklearn.linear_model._base.LinearRegression"


def test_the_code_of_a_family_is_all_its_files(world: World) -> None:
    first = fit(world, 9).manifest["code"]["family"]
    world.write("notes.md", "another file")
    assert fit(world, 9, "again").manifest["code"]["family"] != first


def test_a_manifest_of_before_still_loads_predicts_and_is_reproduced(world: World) -> None:
    found = fit(world, 9)
    old = {
        name: found.manifest[name]
        for name in (
            "family",
            "model",
            "task",
            "features",
            "threads",
            "cutoff",
            "training",
            "holdout",
            "snapshots",
            "rows",
            "profile",
            "python",
            "libraries",
            "nightshift",
        )
    } | {"estimator": {**found.manifest["estimator"], "search": None}}
    now, keeper = (
        world.night(10),
        Registry(Store(world.site.store), world.site.keys, world.site.models),
    )
    asked = retrain_steps.request_retrain(world.site, FAMILY, now, reason="old", by="test", now=now)
    with connect(world.site.database_url).transaction() as tx:
        pipeline = keeper.load(found).pipeline
        version_id = keeper.save(tx, found.model, pipeline, old, decision_id=asked[0], now=now)
    people.promote(world.site, version_id, reason="old", by="test", now=now)
    assert world.score(11)
    assert versions.reproduce(world.site, found.model.model_id, 2).same
    world.train(20)
    assert world.rows("select count(*) as n from nightshift.comparisons")[0].n == 1


def test_numbers_that_postgres_spells_otherwise_do_not_break_the_signature(world: World) -> None:
    world.source("update items set size = -0.0 where entity_id ~ '-1$'")
    world.source("update items set size = 1e17 where entity_id ~ '-30$'")
    found = fit(world, 9)
    assert found.manifest["profile"]["ranges"]["size"] == [0.0, 1e17]
    assert loaded(world, found)


# Exclusions -------------------------------------------------------------------------------------


def test_excluded_entities_enter_neither_training_nor_comparison(world: World) -> None:
    world.train(9)
    assert exclude(world, "20260105-7", "quarantined", 11) == 1
    assert exclude(world, "20260109-7", "erased", 11) == 1
    assert exclude(world, "nobody", "quarantined", 11) == 0
    world.train(12)  # learns from nights 5 to 9, compares on 10 and 11; then on 11 and 12
    assert version(world, 2).manifest["rows"] == 149
    exclude(world, "20260112-7", "quarantined", 11)
    world.train(13)
    counts = world.rows("select row_count from nightshift.comparisons order by comparison_id")
    assert [row.row_count for row in counts] == [60, 60, 59]


def test_a_release_counts_from_then_on_and_erased_is_for_good(world: World) -> None:
    entity = "20260105-7"
    with pytest.raises(TrainingError, match="not quarantined; there is nothing to undo"):
        exclude(world, entity, "released", 9)
    exclude(world, entity, "quarantined", 9)
    exclude(world, entity, "quarantined", 9)
    assert fit(world, 9).manifest["rows"] == 149
    exclude(world, entity, "released", 10)
    assert fit(world, 10).manifest["rows"] == 150
    # What was trained while it was in quarantine is made again without it.
    assert versions.reproduce(world.site, version(world).model.model_id, 1).same
    exclude(world, entity, "erased", 12)
    for state in ("quarantined", "released"):
        with pytest.raises(TrainingError, match=r"was erased at .*, which is for good"):
            exclude(world, entity, state, 13)
    assert fit(world, 10, "again").manifest["rows"] == 149
    stored = world.rows("select state from nightshift.exclusions order by exclusion_id")
    assert [row.state for row in stored] == ["quarantined", "released", "erased"]
    assert [code for code in world.codes() if code in ("quarantined", "released", "erased")] == [
        "quarantined",
        "released",
        "erased",
    ]


def test_what_was_trained_with_an_erased_entity_says_so_when_it_is_reproduced(
    world: World,
) -> None:
    found = fit(world, 9)
    exclude(world, "20260105-7", "erased", 12)
    again = versions.reproduce(world.site, found.model.model_id)
    assert not again.same
    assert "149 of 150 rows are left" in again.sentence


# Killed at any step -----------------------------------------------------------------------------

STEPS = {
    "nights were frozen": (monitoring, "complete"),
    "the decision": (registry, "decide"),
    "the artifact": (Store, "write_bytes"),
    "the version": (Registry, "save"),
    "loading": (Registry, "load"),
    "the comparison": (promotion, "register"),
    "the promotion": (Registry, "promote"),
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("killed", STEPS, ids=lambda name: name.replace(" ", "-"))
def test_a_retrain_killed_at_any_step_leaves_the_champion_and_no_dangling_row(
    world: World, monkeypatch: pytest.MonkeyPatch, killed: str, after: bool
) -> None:
    world.train(9)
    place, name = STEPS[killed]
    real: Callable[..., Any] = getattr(place, name)

    def dies(*arguments: Any, **named: Any) -> None:
        if after:
            real(*arguments, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(place, name, dies)
        with pytest.raises(KeyboardInterrupt):
            world.train(25)
    assert [row.model_version for row in world.rows("select model_version from champions")] == [1]
    nothing_dangles(world)
    assert world.score(26)
    concluded = world.train(25)
    said = world.rows(f"select kind from decisions where decision_id = {concluded}")[0]
    assert said.kind == "promote"
    assert world.rows("select count(*) as n from nightshift.versions")[0].n == 2
    nothing_dangles(world)


def nothing_dangles(world: World) -> None:
    """Every row names a file that is whole, and no version or comparison is half there."""
    store = Store(world.site.store)
    for row in world.rows("select content_hash from nightshift.snapshots"):
        assert store.read_table(row.content_hash).num_rows == 30
    for row in world.rows("select artifact_hash from nightshift.versions"):
        assert store.read_bytes(row.artifact_hash, "joblib")
    promoted = world.rows(
        "select p.version_id from nightshift.promotions p"
        " left join nightshift.decisions d using (decision_id)"
        " left join nightshift.versions v using (version_id)"
        " where d.kind is distinct from 'promote' or v.version_id is null"
    )
    assert promoted == []


def test_the_same_decision_carried_out_twice_trains_once(world: World) -> None:
    now = world.night(9)
    asked = retrain_steps.request_retrain(
        world.site, FAMILY, now, reason="test", by="test", now=now
    )
    first = retrain_steps.fit(world.site, asked, now=now)
    later = now + timedelta(hours=1)
    assert retrain_steps.fit(world.site, asked, now=later) == first
    assert retrain_steps.fit(world.site, [*asked, *asked], now=later) == [*first, *first]
    compared = retrain_steps.compare(world.site, first, now=now)
    assert retrain_steps.compare(world.site, first, now=later) == compared
    concluded = retrain_steps.conclude(world.site, compared, now=now)
    assert retrain_steps.conclude(world.site, compared, now=later) == concluded
    counts = world.rows(
        "select (select count(*) from nightshift.versions) v,"
        " (select count(*) from nightshift.comparisons) c,"
        " (select count(*) from nightshift.promotions) p"
    )[0]
    assert tuple(counts) == (1, 1, 1)


def test_labels_of_the_nights_are_joined_as_known_at_the_cutoff(world: World) -> None:
    found = fit(world, 9)
    world.source(
        "update truths set value = 0, known_at = '2026-01-20' where known_at < '2026-01-09'"
    )
    monitor.collect_labels(world.site, FAMILY, world.night(25), now=world.night(25))
    assert versions.reproduce(world.site, found.model.model_id).same
    assert np.isclose(loaded(world, found).pipeline[-1].coef_[-1], 1.0)
