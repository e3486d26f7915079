"""What one reads when model.yaml is wrong, and when ticks fall."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from nightshift.errors import ConfigError
from nightshift.family import AtLeast, ModelFamily, Models, load_families, load_family
from nightshift.site import Settings, load_settings

GOOD: dict[str, Any] = {
    "family": "horns",
    "description": "Horns",
    "task": "regression",
    "owner": "band",
    "source": {"connection": "warehouse", "history": "append_only"},
    "features": {"numeric": ["size"], "categorical": ["kind"]},
    "schedule": {"score": "0 2 * * *", "monitor": "0 6 * * *"},
    "labels": {"maturity": "P2D"},
    "performance": {"metric": "r2", "window": "P7D", "threshold": 0.5},
    "retrain": {"training": {"window": "P30D"}},
    "promotion": {"holdout": "P7D"},
}
MEASURED = {"metric": "r2", "window": "P7D"}


def performance(**changes: Any) -> dict[str, Any]:
    return {"performance": {**MEASURED, "threshold": 0.5, **changes}}


def schedule(**changes: Any) -> dict[str, Any]:
    return {"schedule": {**GOOD["schedule"], **changes}}


def when(**rules: Any) -> dict[str, Any]:
    return {"retrain": {"when": rules, "training": {"window": "P30D"}}}


def factory(**changes: Any) -> dict[str, Any]:
    return {"performance": MEASURED, "models": {"by": "kind_of_horn", **changes}}


def group(**changes: Any) -> dict[str, Any]:
    return factory(groups={"brass": {"thresholds": {"horn": 0.5}, **changes}})


def alert(**changes: Any) -> dict[str, Any]:
    return {"alerts": [{"notifier": "band.alerts.Trumpet", **changes}]}


def write(place: Path, name: str = "horns", **changes: Any) -> Path:
    folder = place / name
    folder.mkdir(parents=True)
    (folder / "features.sql").write_text("select 1 where :as_of is not null")
    (folder / "labels.sql").write_text("select 1 where :as_of is not null")
    (folder / "estimator.py").write_text("")
    model = {**GOOD, "family": name, **changes}
    (folder / "model.yaml").write_text(yaml.safe_dump(model))
    return folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"performence": {}},
            "performence: unknown key (did you mean 'performance'?); accepted: family,",
        ),
        (
            {"labels": {"maturity": "P2D", "min_covrage": 0.9}},
            "labels.min_covrage: unknown key (did you mean 'min_coverage'?);"
            " accepted: per, maturity, min_coverage",
        ),
        ({"labels": {}}, "labels.maturity: is missing"),
        ({"labels": {"maturity": 2}}, "labels.maturity: found 2: write an ISO 8601 duration"),
        (
            {"labels": {"maturity": "P2D", "min_coverage": 90}},
            "labels.min_coverage: found 90: must be less than or equal to 1; write 0.9 for 90",
        ),
        (
            {"schedule": {"score": "2 o'clock", "monitor": "0 6 * * *"}},
            'schedule.score: found "2 o\'clock": write five cron fields',
        ),
        (
            {"schedule": {"score": "0 2 * * *", "monitor": "0 6 * * *", "timezone": "Mars"}},
            "schedule.timezone: found 'Mars': write an IANA time zone",
        ),
        ({"task": "clustering"}, "task: found 'clustering': must be 'regression',"),
        ({"features": {}}, "list at least one column under numeric or categorical"),
        (
            {"features": {"numeric": ["size", "size"]}},
            "listed twice: size",
        ),
        (
            {"features": {"numeric": ["size", "entity_id"]}},
            "features: entity_id is not a feature",
        ),
        (
            {"estimator": {"build": "recipe.build"}},
            "estimator.build: names recipe.py, which is not",
        ),
    ],
)
def test_a_problem_is_told_with_file_key_and_what_is_accepted(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    folder = write(tmp_path, **changes)
    with pytest.raises(ConfigError) as caught:
        load_family(folder)
    assert str(folder / "model.yaml") in str(caught.value)
    assert said in str(caught.value)


DURATION = "write an ISO 8601 duration such as P7D or PT6H"
LEVELS = {"warn": 0.1, "alert": 0.3}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        # labels, schedule
        (
            {"labels": {"maturity": "P2D", "silence": "3 days"}},
            f"labels.silence: found '3 days': {DURATION}",
        ),
        (
            {"labels": {"maturity": "P2D", "silence": "PT0S"}},
            "labels.silence: found 'PT0S': must be longer than zero",
        ),
        ({"labels": {"maturity": "P2X"}}, f"labels.maturity: found 'P2X': {DURATION}"),
        (
            {"labels": {"maturity": "P2D", "per": "row"}},
            "labels.per: found 'row': must be 'entity' or 'entity_and_as_of'",
        ),
        (schedule(deadline="4h"), f"schedule.deadline: found '4h': {DURATION}"),
        (schedule(deadline="PT0S"), "schedule.deadline: found 'PT0S': must be longer than zero"),
        (
            schedule(retrain="weekly"),
            "schedule.retrain: found 'weekly': write five cron fields such as"
            ' "0 2 * * *" (minute hour day month weekday)',
        ),
        # performance
        ({"performance": MEASURED}, "performance: give threshold (a level) or max_drop"),
        (
            performance(max_drop=0.1),
            "performance: give threshold (a level) or max_drop (below the reference), not both",
        ),
        (
            performance(max_drop="10%"),
            "performance.max_drop: found '10%': write a number;"
            " or write keys and values (accepted: fraction)",
        ),
        (
            performance(max_drop=[0.1]),
            "performance.max_drop: found [0.1]: write a number;"
            " or write keys and values (accepted: fraction)",
        ),
        (
            performance(max_drop=-1),
            "performance.max_drop: found -1: must be greater than 0;"
            " or write keys and values (accepted: fraction)",
        ),
        (
            performance(max_drop={"fraction": 20}),
            "performance.max_drop.fraction: found 20: must be less than or equal to 1;"
            " write 0.2 for 20 percent",
        ),
        (performance(max_drop={}), "performance.max_drop.fraction: is missing"),
        (performance(threshold="high"), "performance.threshold: found 'high': write a number"),
        (
            performance(threshold=float("nan")),
            "performance.threshold: found nan: must be a finite number",
        ),
        (
            performance(also="max_error"),
            "performance.also: found 'max_error': write a list, even of one: [a]",
        ),
        (
            performance(also=["max_error", "r2"]),
            "performance: metric and also name a metric twice; list each once",
        ),
        (
            performance(slices=["kind", "kind"]),
            "performance: slices names a column twice; list each once",
        ),
        (
            performance(slices=["kind of horn"]),
            "performance.slices.0: found 'kind of horn': write a column name: letters, digits and"
            " _, at most 63 characters",
        ),
        (
            performance(slices=["entity_id"]),
            "performance.slices.0: found 'entity_id': name a column of features.sql other than"
            " entity_id and known_at",
        ),
        (
            performance(min_labels=1),
            "performance.min_labels: found 1: must be greater than or equal to 2",
        ),
        # watch
        (
            {"watch": None},
            "watch: found nothing: write keys and values (accepted: window, min_rows, missing,"
            " unseen, out_of_range, drift, score_drift and estimated)",
        ),
        (
            {"watch": {"drfit": LEVELS}},
            "watch.drfit: unknown key (did you mean 'drift'?); accepted: window, min_rows, missing,"
            " unseen, out_of_range, drift, score_drift and estimated",
        ),
        (
            {"watch": {"drift": 0.3}},
            "watch.drift: found 0.3: write keys and values (accepted: warn and alert)",
        ),
        ({"watch": {"drift": {"warn": 0.1}}}, "watch.drift.alert: is missing"),
        (
            {"watch": {"drift": {"warn": 0.3, "alert": 0.1}}},
            "watch.drift: alert (0.1) lies below warn (0.3)",
        ),
        (
            {"watch": {"missing": {"warn": 0.05, "alert": 20}}},
            "watch.missing.alert: found 20: must be less than or equal to 1;"
            " write 0.2 for 20 percent",
        ),
        ({"watch": {"min_rows": 0}}, "watch.min_rows: found 0: must be greater than or equal to 1"),
        (
            {"watch": {"estimated": LEVELS}},
            "watch.estimated: only binary_classification can be estimated, not regression",
        ),
        # retrain
        (
            {"retrain": {"when": "never", "training": {"window": "P30D"}}},
            "retrain.when: found 'never': write keys and values"
            " (accepted: shift, breaches, of_last and signals)",
        ),
        (
            when(),
            "retrain.when: holds no rule: give shift, breaches and of_last, or signals;"
            " or write when: null, which only alerts",
        ),
        (
            when(shift=True),
            "retrain.when.shift: found true: write keys and values (accepted: false_alarms)",
        ),
        (
            when(shift={"false_alarm": 0.1}),
            "retrain.when.shift.false_alarm: unknown key (did you mean 'false_alarms'?);"
            " accepted: false_alarms",
        ),
        (
            when(shift={"false_alarms": 5}),
            "retrain.when.shift.false_alarms: found 5: must be less than 1;"
            " write 0.05 for 5 percent",
        ),
        (
            when(breaches=2),
            "retrain.when: breaches and of_last belong together: give both, or neither",
        ),
        (when(breaches=4, of_last=3), "retrain.when: breaches (4) cannot exceed of_last (3)"),
        (when(breaches=1.5, of_last=3), "retrain.when.breaches: found 1.5: write a whole number"),
        (
            when(signals={"drfit": {"nights": 1, "of_last": 2}}),
            "retrain.when.signals.drfit: found 'drfit': must be 'missing', 'unseen',"
            " 'out_of_range', 'drift', 'score_drift' or 'estimated'",
        ),
        (
            when(signals={"drift": 3}),
            "retrain.when.signals.drift: found 3: write keys and values (accepted: nights and"
            " of_last)",
        ),
        (
            when(signals={"drift": {"nights": 3, "of_last": 2}}),
            "retrain.when.signals.drift: nights (3) cannot exceed of_last (2)",
        ),
        (
            {**when(signals={"drift": {"nights": 1, "of_last": 2}}), "watch": {"drift": None}},
            "retrain.when.signals.drift: never at alert, for watch.drift is null;"
            " give it levels, such as {warn: 0.1, alert: 0.3}",
        ),
        (
            {"retrain": {"training": {"window": "P30D", "min_rows": 1}}},
            "retrain.training.min_rows: found 1: must be greater than or equal to 2",
        ),
        (
            {"retrain": {"cooldown": 14, "training": {"window": "P30D"}}},
            f"retrain.cooldown: found 14: {DURATION}",
        ),
        # models
        (factory(), 'models: give thresholds, such as {"*": 0.75}, or performance.max_drop'),
        (
            {"models": "kind_of_horn", "performance": MEASURED},
            "models: found 'kind_of_horn': write keys and values (accepted: by, group_by, groups,"
            " thresholds, retrain_if, retrains, fallback and retire_after)",
        ),
        (
            {"models": {"by": "kind", "thresholds": {"*": 0.5}}},
            "performance.threshold: a factory's thresholds are under models",
        ),
        ({"models": {"thresholds": {"*": 0.5}}, "performance": MEASURED}, "models.by: is missing"),
        (
            {"models": {"by": "entity_id", "thresholds": {"*": 0.5}}, "performance": MEASURED},
            "models.by: found 'entity_id': name a column of features.sql other than"
            " entity_id and known_at",
        ),
        (
            factory(thresholds={"*": 0.5}, group_by="size"),
            "models.group_by: 'size' is a numeric feature; name a column of text",
        ),
        (
            factory(thresholds={"horn": "high"}),
            "models.thresholds.horn: found 'high': write a number",
        ),
        (
            factory(thresholds={94: 0.5}),
            "models.thresholds.94: found 94: write text;"
            " a number that is meant as text stands in quotes",
        ),
        (
            factory(thresholds={"*": 0.5}, retrain_if="most"),
            "models.retrain_if: found 'most': must be 'any' or 'all';"
            " or write keys and values (accepted: at_least)",
        ),
        (
            factory(thresholds={"*": 0.5}, retrain_if={"at_least": 0}),
            "models.retrain_if.at_least: found 0: must be greater than or equal to 1",
        ),
        (
            factory(thresholds={"*": 0.5}, retrains="some"),
            "models.retrains: found 'some': must be 'all' or 'failing'",
        ),
        (
            factory(thresholds={"*": 0.5}, fallback="perhaps"),
            "models.fallback: found 'perhaps': write true or false",
        ),
        (
            factory(thresholds={"*": 0.5}, retire_after="P0D"),
            "models.retire_after: found 'P0D': must be longer than zero",
        ),
        (group(thresholds={}), "models.groups.brass: thresholds lists no model"),
        (
            group(retrain_if={"at_least": 2}),
            "models.groups.brass: at_least 2 is never reached: thresholds lists only 1",
        ),
        (
            group(retrain_iff="all"),
            "models.groups.brass.retrain_iff: unknown key (did you mean 'retrain_if'?);"
            " accepted: thresholds and retrain_if",
        ),
        (
            factory(groups={name: {"thresholds": {"horn": 0.5}} for name in ("brass", "wind")}),
            "models: in two groups: horn; a member belongs to one",
        ),
        (
            factory(groups={"brass": {"thresholds": {"horn": 0.5}}}, thresholds={"*": 0.5}),
            "models: list groups, or discover members with thresholds and group_by, not both",
        ),
        # alerts
        ({"alerts": {"notifier": "band.alerts.Trumpet"}}, "alerts: write a list, even of one: [a]"),
        ({"alerts": [{"on": ["failed"]}]}, "alerts.0.notifier: is missing"),
        (
            alert(notifier="Trumpet"),
            "alerts.0.notifier: found 'Trumpet': write the whole path of a class, such as"
            " my_package.alerts.PagerNotifier",
        ),
        (
            alert(argument={}),
            "alerts.0.argument: unknown key (did you mean 'arguments'?);"
            " accepted: notifier, arguments and on",
        ),
        (alert(on="failed"), "alerts.0.on: found 'failed': write a list, even of one: [a]"),
        (
            alert(on=["failed", "breech"]),
            "alerts.0.on.1: found 'breech': must be 'breach', 'drift', 'rejected_snapshot',"
            " 'missing_labels', 'missed_night', 'left_out', 'repeated_entities', 'retrain_started',"
            " 'approval', 'promoted', 'rejected', 'rolled_back' or 'failed'",
        ),
        # the rest of what is matched by a pattern
        (
            {"estimator": {"build": "build"}},
            "estimator.build: found 'build': write <module>.<function> in lower case, such as"
            " estimator.build",
        ),
        (
            {"expectations": [{"type": "not_null"}]},
            "expectations.0.type: found 'not_null': write the name of a Great Expectations"
            " expectation, such as expect_column_values_to_not_be_null",
        ),
        (
            {"family": "Horns"},
            "family: found 'Horns': write a-z, 0-9 and _, at most 40 characters that begin with a"
            " letter",
        ),
    ],
)
def test_one_line_says_what_is_wrong_in_a_section(
    tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    folder = write(tmp_path, **{"family": "horns", **changes})
    with pytest.raises(ConfigError) as caught:
        load_family(folder)
    assert str(caught.value) == f"{folder / 'model.yaml'}: {line}"


def test_what_is_missing_and_what_stands_in_its_place_are_told_together(tmp_path: Path) -> None:
    folder = write(tmp_path, **performance(threshold=None, max_drop={"fractoin": 0.2}))
    with pytest.raises(ConfigError) as caught:
        load_family(folder)
    assert str(caught.value).splitlines() == [
        f"{folder}/model.yaml: performance.max_drop.fraction: is missing",
        f"{folder}/model.yaml: performance.max_drop.fractoin: unknown key"
        " (did you mean 'fraction'?); accepted: fraction",
    ]


def test_all_problems_of_all_families_are_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, "good")
    write(tmp_path, "two", owner=7, task="magic")
    (write(tmp_path, "torn") / "labels.sql").unlink()
    (write(tmp_path, "scrawl") / "model.yaml").write_text("a: [1")
    (write(tmp_path, "list") / "model.yaml").write_text("- 1")
    (write(tmp_path, "blank") / "model.yaml").write_text("# later")
    (write(tmp_path, "latin") / "model.yaml").write_bytes(b"owner: Andr\xe9")
    (write(tmp_path, "date") / "model.yaml").write_text("description: 2026-10-29")
    write(tmp_path, "moved", family="elsewhere")
    (tmp_path / "empty").mkdir()
    families, problems = load_families(tmp_path)
    assert [family.family for family in families] == ["good"]
    told = {(problem.file.parent.name, problem.key or problem.file.name) for problem in problems}
    assert {
        ("two", "owner"),
        ("two", "task"),
        ("torn", "labels.sql"),
        ("scrawl", "model.yaml"),
        ("list", "model.yaml"),
        ("blank", "family"),
        ("latin", "model.yaml"),
        ("date", "task"),  # what looks like a date is text: it is the description
        ("moved", "family"),
        ("empty", "model.yaml"),
    } <= told


def test_a_query_that_ignores_as_of_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "features.sql").write_text("select * from everything")
    with pytest.raises(ConfigError, match="never uses :as_of"):
        load_family(folder)


def fragments() -> list[str]:
    page = Path(__file__).resolve().parents[3] / "docs" / "models.md"
    return re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("fragment", fragments())
def test_the_documented_examples_load(tmp_path: Path, fragment: str) -> None:
    sections = yaml.safe_load(fragment)
    classifier = sections["performance"]["metric"] == "roc_auc"
    task = "binary_classification" if classifier else "regression"
    family = load_family(write(tmp_path, **{"task": task, **sections}))
    assert (family.models is None) == classifier


def test_there_are_three_documented_examples() -> None:
    assert len(fragments()) == 3


def test_a_key_that_is_written_twice_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path)
    with (folder / "model.yaml").open("a") as file:
        file.write("models:\n  by: kind\n  thresholds: {horn: 0.5, harp: 0.6, horn: 0.7}\n")
    with pytest.raises(
        ConfigError, match=r"the key 'horn' is written twice at line \d+, column 38"
    ):
        load_family(folder)


def loaded(tmp_path: Path, text: str) -> ModelFamily:
    """The family of the folder that ``write`` makes, with these lines at the end of its file."""
    folder = write(tmp_path)
    with (folder / "model.yaml").open("a") as file:
        file.write(text + "\n")
    return load_family(folder)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100_000.0),
        ("1e+2", 100.0),
        ("-2.5E-1", -0.25),
        ("1_000", 1000),
        ("1_000.5", 1000.5),
        (".5", 0.5),
        ("+.5", 0.5),
        ("5.", 5.0),
        ("+3", 3),
        ("-0", 0),
        ("1e3", 1000.0),
        ("0", 0),
        ("00.5", 0.5),
    ],
)
def test_numbers_are_read_as_people_write_them(tmp_path: Path, text: str, value: float) -> None:
    family = loaded(
        tmp_path,
        f"estimator: {{params: {{alpha: {text}}}, search: {{space: {{alpha: [{text}, 77]}}}}}}",
    )
    alpha = family.estimator.params["alpha"]
    assert (alpha, type(alpha)) == (value, type(value))
    assert family.estimator.search is not None
    assert family.estimator.search.space["alpha"] == [value, 77]


@pytest.mark.parametrize(
    "text",
    [
        "12:30:00",
        "1:30",
        "0x1F",
        "0o17",
        "0b11",
        "007",
        "1__0",
        "_1",
        "1_",
        "e3",
        "1e",
        "1.2.3",
        "2026-10-29",
        "2026-10-29 02:00:00",
        "2026-13-01",
        "=",
        "1,000",
        "85%",
        "--3",
    ],
)
def test_what_is_no_number_stays_text(tmp_path: Path, text: str) -> None:
    family = loaded(tmp_path, f"estimator:\n  params:\n    alpha: {text}")
    assert family.estimator.params["alpha"] == text


def test_text_in_quotes_stays_text(tmp_path: Path) -> None:
    family = loaded(tmp_path, "estimator: {params: {a: '1e-3', b: \"7\", c: '.5'}}")
    assert family.estimator.params == {"a": "1e-3", "b": "7", "c": ".5"}


def test_a_whole_number_may_be_written_with_an_exponent(tmp_path: Path) -> None:
    family = loaded(tmp_path, "watch: {min_rows: 1e3, drift: {warn: 1e-1, alert: 1}}")
    assert (family.watch.min_rows, type(family.watch.min_rows)) == (1000, int)
    assert family.watch.drift is not None
    assert (family.watch.drift.warn, family.watch.drift.alert) == (0.1, 1.0)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("watch: {unseen: {warn: 1, alert: 5}}", "found 5: must be less than or equal to 1; write"),
        (
            "watch: {unseen: {warn: 0.5, alert: 2.5}}",
            "unseen.alert: found 2.5: must be less than or equal to 1; write 0.025 for 2.5 percent",
        ),
        ("watch: {min_rows: 0x1F}", "watch.min_rows: found '0x1F': write a whole number"),
        ("watch: {min_rows: 010}", "watch.min_rows: found '010': write a whole number"),
        ("watch: {min_rows: 1.5}", "watch.min_rows: found 1.5: write a whole number"),
        ("watch: {min_rows: true}", "watch.min_rows: found true: write a whole number"),
        ("watch: {min_rows: '500'}", "found '500': write a whole number, without quotes"),
        ("watch: {drift: {warn: 0.1, alert: 0:30}}", "found '0:30': write a number"),
        ("watch: {drift: {warn: .nan, alert: 1}}", "found nan: must be a finite number"),
        ("watch: {estimated: {warn: 1, alert: .inf}}", "found inf: must be a finite number"),
        ("watch: {estimated: {warn: 1, alert: 1e400}}", "found inf: must be a finite number"),
        ("allow_empty: 0x1", "allow_empty: found '0x1': write true or false"),
        ("estimator: {params: {a: .nan}}", "estimator.params.a: found nan: nan is not a finite"),
        ("estimator: {params: {a: {1: b}}}", "estimator.params.a: the key 1 is no text"),
        ("expectations: [{type: expect_a, max_value: -.inf}]", "-inf is not a finite number"),
    ],
)
def test_where_a_number_is_asked_nothing_else_passes(
    tmp_path: Path, line: str, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        loaded(tmp_path, line)


def test_numbers_of_nightshift_yaml_are_read_alike(tmp_path: Path) -> None:
    (tmp_path / "include").mkdir()
    file = tmp_path / "include" / "nightshift.yaml"
    file.write_text("chunk_rows: 1_000\nretrains_per_night: 1e2\n")
    settings = load_settings(tmp_path)
    assert (settings.chunk_rows, settings.retrains_per_night) == (1000, 100)
    file.write_text("chunk_rows: 0x1000\n")
    with pytest.raises(ConfigError, match="chunk_rows: found '0x1000': write a whole number"):
        load_settings(tmp_path)


def test_on_and_no_are_words_where_words_are_meant(tmp_path: Path) -> None:
    folder = write(tmp_path, performance=MEASURED)
    with (folder / "model.yaml").open("a") as file:
        file.write(
            "models: {by: country, thresholds: {NO: 0.5, on: 0.6, y: 0.7}, fallback: true}\n"
            "alerts: [{notifier: band.alerts.Trumpet, on: [failed]}]\n"
            "allow_empty: no\n"
        )
    family = load_family(folder)
    assert family.models is not None
    assert family.models.thresholds == {"NO": 0.5, "on": 0.6, "y": 0.7}
    assert family.models.fallback
    assert family.alerts[0].on == ["failed"]
    assert family.allow_empty is False


def test_what_is_left_out_has_the_documented_default() -> None:
    family = ModelFamily.model_validate({**GOOD, **alert()})
    assert family.labels.silent_after == timedelta(days=3)  # a day more than the maturity
    assert family.schedule.deadline == timedelta(hours=4)
    assert family.retrain.when is not None
    assert family.retrain.when.shift is not None
    assert family.retrain.when.shift.false_alarms == 0.05
    assert len(family.alerts[0].on) == 13
    assert family.watch.levels("drift") is not None
    assert family.watch.levels("estimated") is None


def test_members_slices_and_groups_are_frozen_beside_the_features() -> None:
    changes = factory(group_by="section", thresholds={"*": 0.5})
    changes["performance"] = {**MEASURED, "slices": ["kind", "hall"]}
    family = ModelFamily.model_validate({**GOOD, **changes})
    assert family.keys == ["kind_of_horn", "section", "hall"]  # kind is a feature already
    assert family.columns == ["entity_id", "kind_of_horn", "section", "hall", "size", "kind"]


LISTED = Models.model_validate(
    {
        "by": "product",
        "groups": {
            "music": {"thresholds": {"horn": 0.75, "harp": 0.85}, "retrain_if": {"at_least": 2}},
            "others": {"thresholds": {"*": 0.5, "vase": 0.6}, "retrain_if": "all"},
        },
    }
)
CLOSED = Models.model_validate(
    {"by": "product", "groups": {"music": {"thresholds": {"horn": 0.75}}}}
)
DISCOVERED = Models.model_validate(
    {
        "by": "dest",
        "group_by": "region",
        "thresholds": {"*": -8.0, "HNL": -20.0},
        "retrain_if": "all",
    }
)


@pytest.mark.parametrize(
    ("models", "member", "tag", "group", "threshold", "included"),
    [
        (LISTED, "horn", None, "music", 0.75, True),
        (LISTED, "vase", None, "others", 0.6, True),
        (LISTED, "never seen before", None, "others", 0.5, True),
        (CLOSED, "horn", None, "music", 0.75, True),
        (CLOSED, "never seen before", None, None, None, False),
        (DISCOVERED, "HNL", "overseas", "overseas", -20.0, True),
        (DISCOVERED, "BOS", "east", "east", -8.0, True),
        (DISCOVERED, "BOS", None, None, -8.0, True),
    ],
)
def test_who_is_a_member_of_which_group_with_which_threshold(
    models: Models,
    member: str,
    tag: str | None,
    group: str | None,
    threshold: float | None,
    included: bool,
) -> None:
    assert models.group_of(member, tag) == group
    assert models.threshold_of(member) == threshold
    assert models.includes(member) == included


def test_a_group_that_is_not_listed_has_the_rule_of_the_factory() -> None:
    assert LISTED.rule_of("music") == AtLeast(at_least=2)
    assert LISTED.rule_of("others") == "all"
    assert CLOSED.rule_of("music") == "any"
    assert DISCOVERED.rule_of("overseas") == "all"


def test_a_family_of_one_model_has_the_threshold_of_performance() -> None:
    assert ModelFamily.model_validate(GOOD).level_of("horns") == 0.5
    relative = {**MEASURED, "max_drop": {"fraction": 0.2}}
    assert ModelFamily.model_validate({**GOOD, "performance": relative}).level_of("horns") is None


def settings_of(home: Path, text: str) -> Settings:
    (home / "include").mkdir()
    (home / "include" / "nightshift.yaml").write_text(text)
    return load_settings(home)


def test_settings_hold_for_all_families(tmp_path: Path) -> None:
    assert load_settings(tmp_path).retrains_per_night == 50
    assert settings_of(tmp_path, "retrains_per_night: 0").retrains_per_night == 0
    assert load_settings(tmp_path).keep_predictions is None


def test_a_family_is_not_named_as_a_view_of_all_families(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"family: found 'latest': choose another name"):
        load_family(write(tmp_path, family="latest"))


def test_a_file_of_comments_leaves_the_settings_at_their_defaults(tmp_path: Path) -> None:
    assert settings_of(tmp_path, "# retrains_per_night: 5\n") == Settings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "retrains_per_night: -1",
            "retrains_per_night: found -1: must be greater than or equal to 0",
        ),
        ("retrains_per_night: many", "retrains_per_night: found 'many': write a whole number"),
        ("retrains_per_night:", "retrains_per_night: found nothing: write a whole number"),
        (
            "retrain_per_night: 5",
            "retrain_per_night: unknown key (did you mean 'retrains_per_night'?);"
            " accepted: retrains_per_night",
        ),
        (
            "keep_predictions: 400",
            "keep_predictions: found 400: write an ISO 8601 duration such as P7D or PT6H",
        ),
        ("- 5", "holds a list or a single value, not keys and values"),
        ("a: [5", "is not readable YAML: "),
    ],
)
def test_wrong_settings_are_told_with_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_of(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'include' / 'nightshift.yaml'}: {said}")


@pytest.mark.parametrize(
    ("cron", "timezone", "moment", "previous", "following"),
    [
        ("0 2 * * *", "UTC", "2026-03-29T01:59", "2026-03-28T02:00", "2026-03-29T02:00"),
        ("0 2 * * *", "UTC", "2026-03-29T02:00", "2026-03-29T02:00", "2026-03-30T02:00"),
        ("0 * * * *", "UTC", "2026-03-29T01:30", "2026-03-29T01:00", "2026-03-29T02:00"),
        # New York goes to summer time on 8 March: 22:00 is 03:00Z before and 02:00Z after.
        (
            "0 22 * * *",
            "America/New_York",
            "2026-03-08T12:00",
            "2026-03-08T03:00",
            "2026-03-09T02:00",
        ),
    ],
)
def test_ticks_are_moments_in_utc(
    cron: str, timezone: str, moment: str, previous: str, following: str
) -> None:
    family = ModelFamily.model_validate({**GOOD, **schedule(score=cron, timezone=timezone)})
    at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert family.previous_tick(at) == datetime.fromisoformat(previous).replace(tzinfo=UTC)
    assert family.next_tick(at) == datetime.fromisoformat(following).replace(tzinfo=UTC)
