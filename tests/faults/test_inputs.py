"""Cases 21 to 37: what sources, labels, files and people may bring, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.families import FACTORY
from tests.world import FAMILY, World

from nightshift import simulation
from nightshift.data import Store
from nightshift.errors import (
    ArtifactRefused,
    ConfigError,
    NightshiftError,
    ScoringError,
    SnapshotRejected,
    SourceError,
)
from nightshift.family import load_families
from nightshift.local import session
from nightshift.reports import Run
from nightshift.steps import monitor, night, retrain

NIGHT = "from items where night = cast(:as_of as timestamptz)"
SHOWN = "select entity_id, score, flags from predictions where as_of = '{}' order by entity_id"


def refused(world: World, error: type[NightshiftError], number: int, *said: str) -> None:
    """A night is refused in these words, on record, and the night before is still served."""
    before = world.rows("select * from predictions order by entity_id")
    with pytest.raises(error) as caught:
        score(world, number)
    for words in (FAMILY, *said):
        assert words in str(caught.value)
    assert world.codes()[-1] == error.code
    assert world.rows("select * from predictions order by entity_id") == before


def score(world: World, number: int) -> None:
    """Like ``world.score``, but a rejected snapshot is an error."""
    now = world.night(number) + timedelta(minutes=5)
    snapshot_id = world.freeze(number)
    night.validate(world.site, snapshot_id, now=now)
    night.publish(world.site, night.score(world.site, snapshot_id, now=now), now=now)


def shown(world: World, number: int) -> dict[str, tuple[float, list[str]]]:
    """Score and flags of a night, by key."""
    rows = world.rows(SHOWN.format(world.night(number).isoformat()))
    return {row.entity_id: (row.score, row.flags) for row in rows}


# Columns ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("entity_id, size, kind, 1 as extra", "column 'extra' is not declared"),
        ("entity_id, kind", "column 'size' is missing"),
        ("entity_id, size as sizes, kind", "(the query returns 'sizes': renamed?)"),
        ("entity_id, size::text, kind", "column 'size' is string, not a number"),
        ("entity_id, to_jsonb(size) as size, kind", "column 'size' is"),
        ("entity_id, size, array[kind] as kind", "column 'kind' is list"),
        ("entity_id, size, kind, kind", "column 'kind'"),
        ("entity_id, size, now() as kind", "column 'kind' is timestamp"),
        ("entity_id, array[size] as size, kind", "column 'size' is list"),
    ],
    ids=[
        "new",
        "missing",
        "renamed",
        "to_text",
        "to_json",
        "to_texts",
        "twice",
        "to_time",
        "to_array",
    ],
)
def test_case_21_a_column_that_is_not_as_declared_is_named(
    served: World, columns: str, said: str
) -> None:
    assert served.score(10)
    served.write("features.sql", f"select {columns} {NIGHT}")
    refused(served, SourceError, 11, "features.sql", said)


def test_case_22_columns_are_taken_by_name(served: World) -> None:
    served.write("features.sql", f"select kind, size, entity_id {NIGHT}")
    assert served.score(10)
    found, flags = shown(served, 10)["20260111-7"]
    assert found == pytest.approx(10)
    assert flags == []


# Rows ---------------------------------------------------------------------------------------------


def test_case_23_an_empty_night_is_refused_unless_the_family_allows_it(served: World) -> None:
    assert served.score(10)
    served.source("delete from items where night > '2026-01-12'")
    refused(served, SnapshotRejected, 12, "row_count: 0 rows", "The previous batch is still served")
    served.configure(allow_empty=True)
    assert served.score(12)
    assert shown(served, 12) == {}
    [empty] = served.rows(
        "select row_count from nightshift.published join nightshift.batches"
        " using (batch_id) where published.as_of > '2026-01-12'"
    )
    assert empty.row_count == 0
    assert served.monitor(12) == []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("size = null", "some_values on size: 30 of 30 null"),
        ("kind = null", "some_values on kind: 30 of 30 null"),
        ("size = 'NaN' where size = 3", "finite on size: 1 values"),
        ("size = 'infinity' where size = 3", "finite on size: 1 values"),
        ("size = '-infinity' where size = 3", "finite on size: 1 values"),
        ("entity_id = 'same' where size < 3", "unique on entity_id: 1 rows repeat"),
        ("entity_id = null where size = 3", "not_null on entity_id: 1 nulls"),
        ("entity_id = null where size < 4", "not_null on entity_id: 3 nulls"),
    ],
)
def test_case_24_and_25_rows_that_cannot_be_meant_are_never_published(
    served: World, damage: str, said: str
) -> None:
    assert served.score(10)
    served.source(f"update items set {damage}")
    refused(served, SnapshotRejected, 11, said)
    with pytest.raises(ScoringError, match="is rejected"):
        night.score(served.site, served.freeze(11), now=served.night(11))


def test_case_26_what_training_never_saw_is_flagged_by_row_and_counted(served: World) -> None:
    served.configure(watch={"min_rows": 10})
    served.source(
        "update items set kind = 'new' where size < 4;update items set size = 99 where size = 30"
    )
    assert served.score(10)
    flagged = {key: flags for key, (_, flags) in shown(served, 10).items() if flags}
    assert flagged == {
        **{f"20260111-{size}": ["unseen_category"] for size in (1, 2, 3)},
        "20260111-30": ["out_of_range"],
    }
    counted = served.rows(
        "select signal, value from signals where feature in ('kind', 'size')"
        " and signal in ('unseen', 'out_of_range') order by 1"
    )
    assert [tuple(row) for row in counted] == [
        ("out_of_range", pytest.approx(1 / 30)),
        ("unseen", pytest.approx(0.1)),
    ]


def test_case_26_a_family_may_refuse_what_training_never_saw(served: World) -> None:
    expected = "expect_column_values_to_be_in_set"
    served.configure(
        expectations=[{"type": expected, "column": "kind", "value_set": ["k0", "k1", "k2"]}]
    )
    assert served.score(10)
    served.source("update items set kind = 'new' where size < 4")
    refused(served, SnapshotRejected, 11, f"{expected} on kind: 3 of 30 rows unexpected")


def test_case_27_rows_known_after_as_of_are_left_out_and_counted(served: World) -> None:
    served.write(
        "features.sql",
        "select entity_id, size, kind, case when size > 25 then night + interval '1 minute'"
        f" else night end as known_at {NIGHT}",
    )
    assert served.score(10)
    assert len(shown(served, 10)) == 25
    [row] = served.rows(
        "select row_count, dropped_rows from nightshift.snapshots where as_of > '2026-01-11'"
    )
    assert tuple(row) == (25, 5)


# Measuring and training ---------------------------------------------------------------------------


def test_case_30_a_window_with_three_labels_is_no_breach(served: World) -> None:
    for number in (10, 11, 12):
        served.score(number)
    served.source(
        "update truths set value = 1e6;"
        "delete from truths where night > '2026-01-10 03:00+00'"
        " and entity_id !~ '-[12]$'"
    )
    assert served.monitor(13) == []
    assert set(served.rows("select state, value from performance")) == {("immature", None)}


def test_case_30_a_window_with_one_class_is_undefined_and_no_breach(world: World) -> None:
    world.configure(
        task="binary_classification",
        performance={"metric": "roc_auc", "threshold": 0.9, "window": "P2D"},
        promotion={"holdout": "P2D", "min_rows": 20},
    )
    world.write(
        "estimator.py",
        (world.folder / "estimator.py")
        .read_text()
        .replace("LinearRegression", "LogisticRegression"),
    )
    world.source("update truths set value = (value > 18)::int")
    world.train(9)
    for number in (10, 11, 12):
        world.score(number)
    world.source("update truths set value = 0")
    assert world.monitor(13) == []
    assert set(world.rows("select state, value from performance where decisive")) == {
        ("undefined", None)
    }


CONSTANT = """
from sklearn.dummy import DummyRegressor
from sklearn.pipeline import Pipeline

def build(numeric, categorical, seed):
    return Pipeline([("same", DummyRegressor(strategy="constant", constant=18.0))])
"""


def test_case_31_a_challenger_that_says_the_same_of_all_is_not_promoted(served: World) -> None:
    served.write("estimator.py", CONSTANT)
    served.train(13)
    kinds = [row.kind for row in served.rows("select kind from decisions order by decision_id")]
    assert kinds == ["retrain", "promote", "retrain", "reject"]
    assert [row.model_version for row in served.rows("select model_version from champions")] == [1]


def test_case_31_a_challenger_equal_to_the_champion_is_not_promoted(served: World) -> None:
    served.train(10)
    [last] = served.rows("select kind, reason from decisions order by decision_id desc limit 1")
    assert last.kind == "reject"


def test_case_32_a_fit_that_raises_whatever_it_likes_is_recorded(served: World) -> None:
    served.write(
        "estimator.py",
        "from sklearn.base import BaseEstimator, RegressorMixin\n"
        "from sklearn.pipeline import Pipeline\n"
        "class Broken(RegressorMixin, BaseEstimator):\n"
        "    def fit(self, X, y):\n"
        "        raise RuntimeError('no license')\n"
        "def build(numeric, categorical, seed):\n"
        "    return Pipeline([('model', Broken())])\n",
    )
    with pytest.raises(NightshiftError, match=r"could not be fitted on 150 rows.*no license"):
        served.train(13)
    assert served.codes()[-1] == "training"
    assert served.rows("select kind from decisions order by decision_id")[-1].kind == "failed"
    assert [row.model_version for row in served.rows("select model_version from champions")] == [1]


# Files and names ----------------------------------------------------------------------------------


def test_case_33_one_message_names_everything_that_is_wrong_in_a_file(world: World) -> None:
    (world.folder / "labels.sql").unlink()
    world.configure(
        colour="red",
        description=["a", "list"],
        schedule={"score": "61 2 * * *"},
        features={"numeric": ["size", "size"]},
    )
    with pytest.raises(ConfigError) as caught:
        world.score(10)
    told = str(caught.value)
    for words in (
        "labels.sql: is missing",
        "colour: unknown key; accepted: family,",
        "description: found ['a', 'list']: write text",
        "schedule.score: found '61 2 * * *': write five cron fields",
        "features: listed twice: size",
    ):
        assert words in told
    assert told.count("\n") == 4


def test_case_33_a_family_copied_under_its_old_name_is_refused(world: World) -> None:
    copy = world.folder.with_name("copied")
    copy.mkdir()
    for file in world.folder.iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ConfigError, match="is 'loads', but the folder is named 'copied'"):
        world.site.family("copied")
    assert world.train(9)


NASTY = [
    'x"; drop table nightshift.events; --',
    "%s %(as_of)s",
    "{}{0.__class__}",
    "O'Brien",
    "\\x00 \\",
    ":as_of",
    "名前 ✂️",
    "$1",
    " ",
    "../../etc",
    "a\nb\tc",
    "<script>",
]


def test_case_34_metacharacters_in_values_are_only_characters(world: World) -> None:
    world.configure(
        performance={"threshold": None, "min_labels": 10},
        models=FACTORY,
        retrain={"training": {"window": "P5D", "min_rows": 30}},
        promotion={"holdout": "P2D", "min_rows": 10},
    )
    with session(world.site.sources["warehouse"]) as connection:
        cursor: Any = connection.connection.cursor()
        # Of every name ten rows a night, with keys as nasty as the names.
        cursor.execute("delete from items; delete from truths")
        cursor.execute(
            "insert into items select n, to_char(n, 'YYYYMMDD') || '-' || i || name, i, name"
            " from generate_series(timestamptz '2026-01-01 02:00+00', '2026-01-20', '1 day') n,"
            " generate_series(1, 10) i, unnest(%s) name",
            (NASTY,),
        )
        cursor.execute(
            "insert into truths select entity_id, night, night + interval '12 hours', size + 3"
            " from items"
        )
    as_of = world.night(12)
    asked = retrain.request_retrain(world.site, FAMILY, as_of, reason="%s {} '", by='x"', now=as_of)
    assert len(simulation.retrain(world.site, asked, now=as_of)) == len(NASTY) + 1
    assert world.score(13)
    world.monitor(15)
    rows = world.rows("select model, count(*) as rows from predictions group by 1")
    names = [name.rstrip(" ") for name in NASTY]  # blanks at the end do not count
    assert {row.model: row.rows for row in rows} == dict.fromkeys(names, 10)
    run = Run("monitor", world.night(13), world.night(13))
    told = monitor.alerts(world.site, FAMILY, run, now=world.night(16))
    assert all(isinstance(one.message, str) for one in told)


@pytest.mark.parametrize("name", ['x"; drop', "%s", "{}", "größe", "a" * 64, "a b", "", "1a"])
def test_case_34_and_35_column_names_that_sql_would_misread_are_refused(
    world: World, name: str
) -> None:
    world.configure(features={"numeric": [name]})
    with pytest.raises(ConfigError, match=r"features\.numeric\.0: found .*: write a column"):
        world.score(10)


@pytest.mark.parametrize(
    "name",
    [
        "a" * 41,
        "a" * 64,
        "größe",
        "Loads",
        "x;y",
        "%s",
        "..",
        "../loads",
        "/etc",
        "loads/../loads",
        ".",
        "",
    ],
)
def test_case_35_and_36_family_names_that_are_too_long_or_lead_elsewhere_are_refused(
    world: World, name: str
) -> None:
    with pytest.raises(ConfigError, match="there is no family"):
        world.site.family(name)
    world.configure(family=name)
    with pytest.raises(ConfigError, match=r"family: (found|is) .*"):
        world.site.family(FAMILY)


@pytest.mark.parametrize("build", ["../outside.build", "estimator.py", "os.system()", "a.b.c", ""])
def test_case_36_a_build_function_is_looked_for_in_the_familys_folder_only(
    world: World, build: str
) -> None:
    (world.folder.parent / "outside.py").write_text("raise SystemExit('outside')")
    world.configure(estimator={"build": build})
    with pytest.raises(ConfigError, match=r"estimator\.build"):
        world.train(9)


def test_case_36_an_artifact_is_named_by_a_hash_and_by_nothing_else(served: World) -> None:
    with session(served.site.database_url) as connection:
        for uri in ("../../etc/passwd", "a" * 63, "A" * 64):
            with pytest.raises(Exception, match="versions_artifact_hash_check"):
                connection.exec_driver_sql(
                    "update nightshift.versions set artifact_hash = %s", (uri,)
                )


def test_case_36_a_link_in_place_of_an_artifact_leads_nowhere(
    served: World, tmp_path: Path, opened_anew: Callable[[], None]
) -> None:
    assert served.score(10)
    (tmp_path / "elsewhere").write_bytes(b"something else")
    [row] = served.rows("select artifact_hash from nightshift.versions")
    file = Path(Store(served.site.store).address(row.artifact_hash, "joblib"))
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    opened_anew()
    refused(served, ArtifactRefused, 11, "was changed after it was written")


@pytest.mark.parametrize("damage", ["family: [", "- a\n- list", "\x00", "family: broken"])
def test_case_37_a_broken_folder_harms_no_other_family(world: World, damage: str) -> None:
    broken = world.folder.with_name("broken")
    broken.mkdir()
    (broken / "model.yaml").write_text(damage)
    families, problems = load_families(world.site.models)
    assert [one.family for one in families] == [FAMILY]
    assert {problem.file.parent.name for problem in problems} == {"broken"}
    world.train(9)
    assert world.score(10)
