"""Bad input, room by room: one clear error, a line in the audit trail, and nothing published."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import joblib
import pytest
from tests.world import FAMILY, World

from nightshift import artifacts, registry, reports
from nightshift.data import Store, connect
from nightshift.errors import (
    ArtifactRefused,
    ConfigError,
    LabelsError,
    NightshiftError,
    NoChampion,
    PromotionLost,
    ScoringError,
    SnapshotError,
    SnapshotRejected,
    SourceError,
    TrainingError,
)
from nightshift.registry.versions import _verified_pipeline
from nightshift.steps import night, retrain, upkeep


def refused(
    world: World, error: type[NightshiftError], call: Callable[[], object], *said: str
) -> None:
    """The call is refused with these words, the refusal is on record, and nothing is published."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    for words in (FAMILY, *said):
        assert words in message
    assert world.codes()[-1] == error.code
    assert world.rows("select * from predictions") == []


# Snapshots ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (
            "selec entity_id from items where night = :as_of",
            ["features.sql failed", "syntax error"],
        ),
        (
            "select size, kind from items where night = cast(:as_of as timestamptz)",
            ["column 'entity_id' is missing"],
        ),
        (
            "select entity_id, size as sizes, kind from items"
            " where night = cast(:as_of as timestamptz)",
            ["column 'size' is missing (the query returns 'sizes': renamed?)", "not declared"],
        ),
        (
            "select entity_id, size::text as size, kind from items"
            " where night = cast(:as_of as timestamptz)",
            ["column 'size' is", "not a number or boolean; write cast("],
        ),
        (
            "delete from items where night = cast(:as_of as timestamptz)"
            " returning entity_id, size, kind",
            ["read-only"],
        ),
        (
            "select entity_id, size, kind, timestamptz 'infinity' as known_at from items"
            " where night = cast(:as_of as timestamptz)",
            ["column 'known_at' has moments outside of the years 1 to 9999", "write null"],
        ),
    ],
    ids=["broken", "no_entity_id", "renamed", "retyped", "writes", "never_known"],
)
def test_a_features_query_that_breaks_its_contract(world: World, sql: str, said: list[str]) -> None:
    world.write("features.sql", sql)
    refused(world, SourceError, lambda: world.freeze(10), "features.sql", *said)
    assert world.rows("select * from nightshift.snapshots") == []


def test_a_whole_number_too_large_for_a_float_is_rounded_as_estimators_see_it(
    world: World,
) -> None:
    world.train(9)
    world.write(
        "features.sql",
        """
        select entity_id, kind, case size when 3 then 9007199254740993 else size::bigint end as size
        from items where night = cast(:as_of as timestamptz)
    """,
    )
    assert world.score(10)
    [scored] = world.rows("select score, flags from predictions where entity_id = '20260111-3'")
    assert scored.flags == ["out_of_range"]
    assert scored.score > 1e15


def test_a_mutable_source_is_not_asked_about_the_past(world: World) -> None:
    world.configure(source={"history": "mutable"})
    late = world.night(11) + timedelta(minutes=5)
    refused(
        world,
        SnapshotError,
        lambda: night.freeze(world.site, FAMILY, world.night(10), now=late),
        "source.history is mutable",
        "append_only",
    )


def test_an_unknown_connection_is_named(world: World) -> None:
    world.configure(source={"connection": "lake"})
    refused(world, ConfigError, lambda: world.freeze(10), "'lake'", "known: warehouse")


# Validation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("delete from items", "row_count: 0 rows"),
        ("update items set entity_id = 'same'", "unique on entity_id: 29 rows repeat"),
        ("update items set entity_id = null where size = 3", "not_null on entity_id: 1 nulls"),
        ("update items set kind = null", "some_values on kind: 30 of 30 null"),
        ("update items set size = 'infinity' where size = 3", "finite on size: 1 values"),
        ("update items set size = -1 where size = 3", "1 of 30 rows unexpected"),
    ],
)
def test_a_night_that_must_not_pass_is_rejected(world: World, damage: str, said: str) -> None:
    between = "expect_column_values_to_be_between"
    world.configure(
        expectations=[{"type": between, "column": "size", "min_value": 0, "max_value": 99}]
    )
    world.train(9)
    world.source(damage)
    snapshot_id = world.freeze(10)
    refused(
        world,
        SnapshotRejected,
        lambda: night.validate(world.site, snapshot_id, now=world.night(10)),
        said,
        "The previous batch is still served",
    )
    refused(
        world,
        ScoringError,
        lambda: night.score(world.site, snapshot_id, now=world.night(10)),
        "is rejected",
    )


def test_a_warning_is_recorded_and_the_night_goes_on(world: World) -> None:
    between = "expect_column_values_to_be_between"
    world.configure(
        expectations=[{"type": between, "column": "size", "max_value": 9, "severity": "warning"}]
    )
    world.train(9)
    assert world.score(10)
    assert "snapshot_warned" in world.codes()
    [sentence] = reports.status(connect(world.site.database_url), FAMILY).sentences
    assert sentence.endswith("30 rows, with warnings")


def test_a_rejected_night_is_taken_again_when_the_source_is_mended(world: World) -> None:
    world.train(9)
    world.source("update items set kind = null")
    assert not world.score(10)
    world.source("update items set kind = 'k1'")
    assert world.score(10)
    taken = "select revision from nightshift.snapshots where as_of = '2026-01-11 02:00+00'"
    assert [row.revision for row in world.rows(taken)] == [1, 2]


def test_check_lists_what_great_expectations_and_scikit_learn_refuse(world: World) -> None:
    world.configure(
        expectations=[{"type": "expect_column_values_to_be_betwixt", "column": "size"}],
        performance={"metric": "neg_mean_absolut_error"},
    )
    world.write("estimator.py", "def build(numeric, categorical, seed):\n    return 7\n")
    problems = "\n".join(map(str, upkeep.check(world.site)))
    assert "returned int, not a sklearn.pipeline.Pipeline" in problems
    assert "did you mean 'neg_mean_absolute_error'" in problems
    assert "expectations.0: expect_column_values_to_be_betwixt" in problems


# Scoring ------------------------------------------------------------------------------------------


def test_no_champion_yet(world: World) -> None:
    snapshot_id = world.freeze(10)
    night.validate(world.site, snapshot_id, now=world.night(10))
    refused(
        world,
        NoChampion,
        lambda: night.score(world.site, snapshot_id, now=world.night(10)),
        "nightshift train loads",
    )


def test_a_score_that_is_not_a_number_is_never_published(world: World) -> None:
    world.write("estimator.py", ESTIMATOR_WITH_A_CEILING)
    world.train(9)
    world.source("update items set size = 5000 where size = 3")
    refused(world, ScoringError, lambda: world.score(10), "1 of 30 scores that are not finite")
    assert [row.state for row in world.rows("select state from nightshift.batches")] == [
        "abandoned"
    ]


ESTIMATOR_WITH_A_CEILING = """
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.pipeline import Pipeline

class Ceiling(RegressorMixin, BaseEstimator):
    def fit(self, X, y):
        self.top_ = y.max()
        return self

    def predict(self, X):
        size = X["size"].to_numpy()
        return np.where(size > 10 * self.top_, np.nan, size)

def build(numeric, categorical, seed):
    return Pipeline([("model", Ceiling())])
"""


def test_classes_of_the_familys_own_are_found_by_another_process(world: World) -> None:
    world.write("estimator.py", ESTIMATOR_WITH_A_CEILING)
    world.train(9)
    _verified_pipeline.cache_clear()
    for name in [n for n in sys.modules if n.startswith(f"{artifacts.PREFIX}{FAMILY}_")]:
        del sys.modules[name]
    assert world.score(10)


# Labels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "sql", "said"),
    [
        (
            SourceError,
            "select 1 as x where now() > cast(:as_of as timestamptz)",
            "must return entity_id",
        ),
        (
            SourceError,
            "select entity_id, value, night as event_at, night::text as known_at from truths"
            " where known_at <= cast(:as_of as timestamptz)",
            "known_at is string, not timestamptz",
        ),
        (
            LabelsError,
            "select entity_id, 'much' as value, night as event_at, known_at from truths"
            " where known_at <= cast(:as_of as timestamptz)",
            "value does not fit regression",
        ),
    ],
)
def test_a_labels_query_that_breaks_its_contract(
    world: World, error: type[NightshiftError], sql: str, said: str
) -> None:
    world.write("labels.sql", sql)
    refused(world, error, lambda: world.monitor(10), "labels.sql", said)
    assert world.rows("select * from nightshift.labels") == []


def test_labels_that_are_missing_never_call_for_a_retrain(world: World) -> None:
    world.train(9)
    for number in range(10, 14):
        world.score(number)
    world.source("delete from truths where night > '2026-01-10 03:00+00'")
    assert world.monitor(13) == []
    assert set(world.rows("select state, value from performance")) == {("immature", None)}


def test_the_latest_known_label_wins_and_the_earlier_stays_on_record(world: World) -> None:
    world.train(9)
    for number in range(10, 13):
        world.score(number)
    world.monitor(13)
    world.source("update truths set value = value + 100, known_at = known_at + interval '3 days'")
    world.monitor(16)
    kept = world.rows(
        "select value from nightshift.labels where entity_id = '20260111-7' order by known_at"
    )
    assert [row.value for row in kept] == ["10", "110"]
    world.monitor(13)
    first, _ = world.rows(
        "select value from performance where model_version is not null order by as_of"
    )
    assert first.value == pytest.approx(0, abs=1e-6)


# Training -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "error", "said"),
    [
        ("def build(:", ConfigError, "cannot be imported"),
        ("x = 1", ConfigError, "build is not there"),
        ("def build(numeric, categorical, seed):\n    return 7", ConfigError, "returned int"),
        (
            "from sklearn.pipeline import Pipeline\n"
            "from sklearn.linear_model import LinearRegression\n"
            "def build(numeric, categorical, seed):\n"
            "    return Pipeline([('line', LinearRegression())])",
            TrainingError,
            "could not be fitted on 150 rows",
        ),
    ],
    ids=["syntax", "absent", "no_pipeline", "cannot_fit"],
)
def test_an_estimator_that_cannot_be_trained(
    world: World, estimator: str, error: type[NightshiftError], said: str
) -> None:
    world.write("estimator.py", estimator)
    refused(world, error, lambda: world.train(9), said)
    assert world.rows("select * from champions") == []


def test_too_few_labels_leave_the_champion_serving(world: World) -> None:
    world.train(9)
    world.source("delete from truths where night > '2026-01-05'")
    refused(world, TrainingError, lambda: world.train(17), "0 labelled rows", "min_labels")
    assert [row.model_version for row in world.rows("select model_version from champions")] == [1]


def test_one_class_is_not_trained_on(world: World) -> None:
    world.configure(task="binary_classification", performance={"metric": "roc_auc"})
    world.source("update truths set value = 1")
    refused(world, TrainingError, lambda: world.train(9), "at least two classes")


def test_a_label_known_after_the_cutoff_is_not_trained_on(world: World) -> None:
    world.source("update truths set known_at = '2026-03-01' where entity_id ~ '-30$'")
    world.train(9)
    [row] = world.rows("select manifest -> 'rows' as rows from nightshift.versions")
    assert row.rows == 5 * 29


def test_a_challenger_that_is_no_better_is_rejected(world: World) -> None:
    world.train(9)
    world.train(12)
    kinds = [row.kind for row in world.rows("select kind from decisions order by decision_id")]
    assert kinds == ["retrain", "promote", "retrain", "reject"]


# Registry -----------------------------------------------------------------------------------------


class Hostile:
    """Pickled, it touches a file when it is loaded."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.witness),)


def artifact(world: World) -> Path:
    [row] = world.rows("select artifact_hash from nightshift.versions")
    return Path(Store(world.site.store).address(row.artifact_hash, "joblib"))


def test_a_hostile_artifact_runs_nothing(world: World, tmp_path: Path) -> None:
    world.train(9)
    joblib.dump(Hostile(tmp_path / "witness"), artifact(world))
    _verified_pipeline.cache_clear()
    refused(world, ArtifactRefused, lambda: world.score(10), "was changed after it was written")
    assert not (tmp_path / "witness").exists()


def test_a_manifest_that_was_edited_is_refused(world: World) -> None:
    world.train(9)
    with connect(world.site.database_url, role=None).administration() as connection:
        connection.exec_driver_sql(
            "update nightshift.versions set manifest = jsonb_set(manifest, '{rows}', '1')"
        )
    refused(world, ArtifactRefused, lambda: world.score(10), "not signed by")


def test_a_snapshot_that_was_edited_after_validation_is_refused(world: World) -> None:
    world.train(9)
    snapshot_id = world.freeze(10)
    night.validate(world.site, snapshot_id, now=world.night(10))
    [row] = world.rows(
        f"select content_hash from nightshift.snapshots where snapshot_id = {snapshot_id}"
    )
    file = Path(Store(world.site.store).address(row.content_hash, "parquet"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(SnapshotError, match="was changed after it was written"):
        night.score(world.site, snapshot_id, now=world.night(10))


def test_of_two_promotions_over_one_champion_one_wins(world: World) -> None:
    world.train(9)
    now = world.night(12)
    ids = []
    for reason in ("one", "two"):
        asked = retrain.request_retrain(world.site, FAMILY, now, reason=reason, by="test", now=now)
        ids += retrain.fit(world.site, asked, now=now)
    database = connect(world.site.database_url)
    keeper = registry.Registry(Store(world.site.store), world.site.keys, world.site.models)
    with database.transaction() as tx:
        versions = [registry.version(tx, version_id) for version_id in ids]
        champion = registry.champion(tx, versions[0].model.model_id, now)
    assert champion is not None

    def promote(version_number: int) -> None:
        version = versions[version_number]
        with database.transaction() as tx:
            keeper.promote(
                tx,
                version,
                instead_of=champion.version_id,
                decision_id=version.decision_id,
                effective_from=now,
                now=now,
            )

    promote(0)
    with pytest.raises(PromotionLost, match="replaced since; compare it again"):
        promote(1)
    assert [row.model_version for row in world.rows("select model_version from champions")] == [2]
