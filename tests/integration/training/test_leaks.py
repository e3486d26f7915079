"""Leaks that people plant without knowing it: each is kept out, or held for a person with a reason.

The world is noisy here: whoever predicts it all but perfectly has seen the truth.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.world import FAMILY, World

from nightshift import training
from nightshift.data import Store, connect
from nightshift.errors import ConfigError, SnapshotError, TrainingError
from nightshift.family import load_family
from nightshift.records import Decision
from nightshift.registry import decision as decision_of
from nightshift.registry import version as version_of
from nightshift.steps import monitor
from nightshift.steps import night as night_steps
from nightshift.steps.frame import registry_of

NOISE = """
update truths set value = case when truths.night < '2026-01-20 02:00+00' then size else 2 * size end
    + 12 * mod(abs(hashtext(truths.entity_id)), 1000) / 1000.0
from items where items.entity_id = truths.entity_id;
create view told as select i.*, t.value from items i join truths t using (entity_id, night);
"""
JOINED = """
select entity_id, size, kind, {clue} as clue from told where night = cast(:as_of as timestamptz)
window upto as (order by entity_id rows unbounded preceding)
"""
BINARY_LABELS = """
select entity_id, (value > 22)::int as value, night as event_at, known_at from truths
where known_at > cast(:since as timestamptz) and known_at <= cast(:as_of as timestamptz)
"""
CLASSIFIER = '''
"""A boundary through the sizes."""
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

def build(numeric, categorical, seed):
    columns = ColumnTransformer([("n", StandardScaler(), numeric)])
    return Pipeline([("columns", columns), ("odds", LogisticRegression(C=1e4, max_iter=1000))])
'''


@pytest.fixture
def noisy(world: World) -> World:
    world.source(NOISE)
    world.configure(promotion={"too_good": 0.5}, performance={"threshold": -100.0})
    return world


def with_clue(world: World, clue: str) -> None:
    """One more feature, computed from what only the truth can tell."""
    world.configure(features={"numeric": ["size", "clue"], "categorical": ["kind"]})
    world.write("features.sql", JOINED.format(clue=clue))


def verdict(world: World, number: int) -> Decision:
    """What becomes of a version trained as of a night."""
    concluded = world.train(number)
    with connect(world.site.database_url).transaction() as tx:
        return decision_of(tx, concluded)


def test_an_honest_model_of_the_noisy_world_is_promoted(noisy: World) -> None:
    said = verdict(noisy, 12)
    assert (said.kind, said.rule) == ("promote", "unopposed")


LEAKS = {
    "the label": "value",
    "the label in other units": "value * 60 + 7",
    "the label, rounded": "round(value::numeric, 1)::double precision",
    "what is left of a total": "1000 - value",
    "the label less another feature": "value - size",
    "a target encoding over all rows": "avg(value) over (partition by night, kind, size)",
    "a running total less the one before": "sum(value) over upto - sum(value) over upto + value",
    "a later state of the row": "(select max(t.value) from truths t"
    " where t.entity_id = told.entity_id)",
    "a forecast error booked afterwards": "value - size - 3",
}


@pytest.mark.parametrize("clue", LEAKS.values(), ids=LEAKS.keys())
def test_a_feature_that_knows_the_truth_is_held(noisy: World, clue: str) -> None:
    with_clue(noisy, clue)
    said = verdict(noisy, 12)
    assert (said.kind, said.rule) == ("ask", "too_good")
    assert "look for a leak" in said.reason
    assert noisy.rows("select 1 from champions") == []


@pytest.mark.parametrize(
    "clue",
    ["case when value > 22 then 1 else 0 end", "case when value > 22 then size end"],
    ids=["a flag set when it happens", "a column that is filled when it happens"],
)
def test_a_trace_that_the_event_leaves_is_held(noisy: World, clue: str) -> None:
    filled = f"(coalesce({clue}, -100))::double precision"
    noisy.configure(
        task="binary_classification",
        performance={"metric": "roc_auc", "threshold": 0.1},
        features={"numeric": ["size", "clue"], "categorical": ["kind"]},
    )
    noisy.write("labels.sql", BINARY_LABELS)
    noisy.write("estimator.py", CLASSIFIER)
    noisy.write("features.sql", JOINED.format(clue=filled))
    said = verdict(noisy, 12)
    assert (said.kind, said.rule) == ("ask", "too_good")


def test_a_column_that_begins_to_tell_the_truth_is_held_against_an_honest_champion(
    noisy: World,
) -> None:
    with_clue(noisy, "case when night > '2026-01-14' then value else 0 end")
    assert verdict(noisy, 12).rule == "unopposed"
    said = verdict(noisy, 28)
    assert (said.kind, said.rule) == ("ask", "too_good")
    assert "of what the champion falls short of perfection" in said.reason


def test_a_column_filled_in_afterwards_is_as_it_was_in_the_night(noisy: World) -> None:
    noisy.source("alter table items add column clue double precision default 0")
    noisy.configure(features={"numeric": ["size", "clue"], "categorical": ["kind"]})
    noisy.write(
        "features.sql",
        "select entity_id, size, kind, clue from items where night = cast(:as_of as timestamptz)",
    )
    for number in range(2, 13):
        night_steps.validate(noisy.site, noisy.freeze(number), now=noisy.night(number))
    noisy.source(
        "update items set clue = value from truths where truths.entity_id = items.entity_id"
    )
    assert verdict(noisy, 12).rule == "unopposed"


def test_a_source_that_fills_in_the_past_and_calls_itself_append_only_is_held(noisy: World) -> None:
    noisy.source("alter table items add column clue double precision default 0")
    noisy.source(
        "update items set clue = value from truths where truths.entity_id = items.entity_id"
    )
    noisy.configure(features={"numeric": ["size", "clue"], "categorical": ["kind"]})
    noisy.write(
        "features.sql",
        "select entity_id, size, kind, clue from items where night = cast(:as_of as timestamptz)",
    )
    assert verdict(noisy, 12).rule == "too_good"


# Kept out --------------------------------------------------------------------------------------


def test_rows_known_after_the_night_are_dropped_and_counted(noisy: World) -> None:
    noisy.write(
        "features.sql",
        "select entity_id, size, kind, case when size > 25 then night + interval '1 hour'"
        " else night end as known_at from items where night = cast(:as_of as timestamptz)",
    )
    noisy.freeze(12)
    [kept] = noisy.rows("select row_count, dropped_rows from nightshift.snapshots")
    assert tuple(kept) == (25, 5)


@pytest.mark.parametrize("name", ["entity_id", "known_at"])
def test_what_names_the_row_or_its_moment_is_no_feature(noisy: World, name: str) -> None:
    noisy.configure(features={"numeric": ["size", name], "categorical": ["kind"]})
    with pytest.raises(ConfigError, match=f"{name} is not a feature"):
        load_family(noisy.folder)


def test_a_query_that_looks_at_the_present_instead_of_the_night_is_refused(noisy: World) -> None:
    noisy.write("features.sql", "select entity_id, size, kind from items where night < now()")
    with pytest.raises(ConfigError, match="never uses :as_of"):
        load_family(noisy.folder)


def learnt(world: World, number: int) -> tuple[int, list[str]]:
    """How many rows a version trained as of a night has learnt from, and its nights."""
    world.train(number)
    with connect(world.site.database_url).transaction() as tx:
        [row] = tx.rows("reports.names")
        found = tx.one("training.numbered", model_id=1, number=None)
        manifest = version_of(tx, found.version_id).manifest
    assert row.model == FAMILY
    return manifest["rows"], manifest["nights"]


def test_a_truth_that_was_stated_by_the_night_is_no_prediction(noisy: World) -> None:
    noisy.source(
        "update truths set known_at = night - interval '1 hour' where night < '2026-01-08'"
    )
    rows, nights = learnt(noisy, 12)
    told_before = [night for night in nights if night < "2026-01-08"]
    assert len(told_before) > 0
    assert rows == 30 * (len(nights) - len(told_before))


def test_labels_that_become_known_after_the_cutoff_do_not_enter(noisy: World) -> None:
    noisy.source("update truths set known_at = '2026-02-01Z' where night > '2026-01-07 03:00Z'")
    rows, nights = learnt(noisy, 12)
    assert rows == 30 * len([night for night in nights if night < "2026-01-07T03"])


def test_nights_that_have_not_matured_enter_neither_training_nor_holdout(noisy: World) -> None:
    noisy.source("update truths set known_at = night")
    noisy.source("update truths set known_at = night + interval '1 minute'")
    learnt(noisy, 12)
    [compared] = noisy.rows("select holdout_end, row_count from nightshift.comparisons")
    assert compared.holdout_end == noisy.night(11)
    assert compared.row_count == 60


def test_a_correction_after_the_cutoff_changes_nothing_that_is_learnt(noisy: World) -> None:
    noisy.train(12)
    noisy.source("update truths set value = 0, known_at = '2026-02-01Z'")
    site, cutoff = noisy.site, noisy.night(12)
    monitor.collect_labels(site, FAMILY, noisy.night(35), now=noisy.night(35))
    family = site.family(FAMILY)
    plan = training.plan(family, cutoff, now=cutoff)
    rows = training.labelled_rows(
        connect(site.database_url), Store(site.store), family, plan.learn, cutoff, now=cutoff
    )
    assert "0" not in set(rows.value)
    assert "0.0" not in set(rows.value)


def test_a_label_backdated_after_it_was_asked_about_does_not_enter_an_earlier_cutoff(
    noisy: World,
) -> None:
    noisy.source("delete from truths where night = '2026-01-08 02:00Z'")
    rows, _ = learnt(noisy, 12)
    noisy.source(
        "insert into truths select entity_id, night, night + interval '12 hours', 5 from items"
        " where night = '2026-01-08 02:00Z'"
    )
    monitor.collect_labels(noisy.site, FAMILY, noisy.night(13), now=noisy.night(13))
    family = noisy.site.family(FAMILY)
    plan = training.plan(family, noisy.night(12), now=noisy.night(13))
    again = training.labelled_rows(
        connect(noisy.site.database_url),
        Store(noisy.site.store),
        family,
        plan.learn,
        noisy.night(12),
        now=noisy.night(13),
    )
    assert len(again) == rows


def test_an_entity_met_in_training_is_no_row_of_the_comparison(noisy: World) -> None:
    noisy.source(
        "update items set entity_id = 'again-' || size where size <= 10;"
        "delete from truths;"
        "insert into truths select distinct on (entity_id) entity_id, night,"
        " timestamptz '2026-01-11 14:00Z', size from items where size <= 10"
        " order by entity_id, night;"
        "insert into truths select entity_id, night, night + interval '12 hours', size"
        " from items where size > 10"
    )
    noisy.configure(promotion={"too_good": None})
    noisy.train(12)
    [compared] = noisy.rows("select row_count from nightshift.comparisons")
    assert compared.row_count == 2 * 20


def test_rows_that_the_champion_has_learnt_are_not_compared_on(noisy: World) -> None:
    noisy.train(14)
    noisy.train(15)
    first, second = noisy.rows(
        "select holdout_start, row_count from nightshift.comparisons order by comparison_id"
    )
    assert first.row_count == second.row_count == 60
    assert second.holdout_start > first.holdout_start


def test_an_entity_twice_in_a_night_is_rejected(noisy: World) -> None:
    noisy.write(
        "features.sql",
        "select entity_id, size, kind from items cross join (values (1), (2)) twice (n)"
        " where night = cast(:as_of as timestamptz)",
    )
    assert not noisy.score(12)


def test_a_snapshot_that_was_rewritten_is_refused(noisy: World) -> None:
    night_steps.validate(noisy.site, noisy.freeze(8), now=noisy.night(8))
    [frozen] = noisy.rows("select content_hash from nightshift.snapshots")
    file = Path(Store(noisy.site.store).address(frozen.content_hash, "parquet"))
    table = pq.read_table(file)
    file.chmod(0o644)
    pq.write_table(table.set_column(1, "size", pa.array([0.0] * table.num_rows)), file)
    with pytest.raises((SnapshotError, TrainingError), match=frozen.content_hash[:12]):
        noisy.train(12)


def test_what_the_pipeline_learns_of_its_inputs_it_learns_from_training_rows_only(
    noisy: World,
) -> None:
    noisy.write(
        "estimator.py",
        (noisy.folder / "estimator.py")
        .read_text()
        .replace('("n", "passthrough", numeric)', '("n", StandardScaler(), numeric)')
        .replace("import OneHotEncoder", "import OneHotEncoder, StandardScaler"),
    )
    rows, _ = learnt(noisy, 12)
    with connect(noisy.site.database_url).transaction() as tx:
        found = version_of(tx, tx.one("training.numbered", model_id=1, number=None).version_id)
    pipeline = registry_of(noisy.site).load(found).pipeline
    seen = pipeline.named_steps["columns"].named_transformers_["n"].n_samples_seen_
    assert seen == rows == found.manifest["rows"]
    assert rows == 30 * len(found.manifest["nights"])
