"""Sensitive columns are shown nowhere; entities go by pseudonym where the family says so."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.hosts import Door, served
from tests.world import FAMILY, World
from typer.testing import CliRunner

from nightshift import cli, local
from nightshift.data import Keys, Store
from nightshift.errors import ConfigError, NightshiftError, SetupError
from nightshift.registry.versions import _verified_pipeline
from nightshift.steps import night as night_steps
from nightshift.steps import people
from nightshift.steps import versions as versions_steps

KIND = "planted-diagnosis"
SIZE = 987654.25
"""Values of the two sensitive columns that are in the source and nowhere else."""

PLANTED = re.compile(rf"{KIND}|987654|9\.87654")
ROOT = "/nightshift"


def pages_of(world: World) -> Iterator[str]:
    """Every page, file and answer of the API that a small world has, as text."""
    door = Door(world.site, {"ada": (FAMILY,)}, ("ada",))
    app = served(door)
    night = world.night(12).isoformat().replace("+00:00", "Z")
    versions = f"/models/{FAMILY}/{FAMILY}/versions"
    api = "/api/v1"
    paths = [
        "/",
        f"/models/{FAMILY}/{FAMILY}",
        f"{versions}/1",
        f"{versions}/1.json",
        f"{versions}/2?against=1",
        f"/nights/{FAMILY}/{night}",
        f"/nights/{FAMILY}/{night}/checks.csv",
        f"/families/{FAMILY}",
        f"{api}/fleet",
        f"{api}/fleet/{FAMILY}",
        f"{api}/models",
        f"{api}/nights",
        f"{api}/nights/{FAMILY}/{night}",
        f"{api}/decisions",
        f"{api}/measurements",
        f"{api}/models/{FAMILY}/{FAMILY}",
    ]
    with TestClient(app, headers={"Authorization": "Bearer ada"}) as client:
        for path in paths:
            answer = client.get(ROOT + path)
            assert answer.status_code in (200, 404, 409), (path, answer.text)
            yield f"{path}: {answer.status_code} {answer.text}"


@pytest.fixture
def protected(world: World) -> World:
    """Both features are sensitive; the source has the planted values from night 12 on."""
    world.configure(features={"sensitive": ["size", "kind"]})
    world.source(f"update items set kind = '{KIND}' where night >= '2026-01-13' and size < 3")
    world.source(f"update items set size = {SIZE} where night >= '2026-01-13' and size = 30")
    return world


def refused(world: World, act: Callable[[], Any]) -> str:
    """What is said where something is refused, its whole chain of causes included."""
    with pytest.raises(NightshiftError) as told:
        act()
    error: BaseException | None = told.value
    said = []
    while error is not None:
        said.append(str(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(said)


def test_a_verdict_tells_how_many_but_not_which_values(
    protected: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    protected.configure(
        expectations=[
            {
                "type": "expect_column_values_to_be_in_set",
                "column": "kind",
                "value_set": ["k0", "k1", "k2"],
                "severity": "warning",
            },
            {
                "type": "expect_column_max_to_be_between",
                "column": "size",
                "max_value": 30,
                "severity": "warning",
            },
            {
                "type": "expect_column_distinct_values_to_be_in_set",
                "column": "kind",
                "value_set": ["k0"],
                "severity": "warning",
            },
            {
                "type": "expect_column_values_to_not_be_null",
                "column": "size",
                "row_condition": f'col("kind") == "{KIND}"',
                "condition_parser": "great_expectations",
                "severity": "warning",
            },
            {"type": "expect_column_values_to_match_regex", "column": "size", "regex": "("},
            {"type": "expect_table_row_count_to_equal", "value": 31, "severity": "warning"},
        ]
    )
    snapshot_id, now = protected.freeze(12), protected.night(12)
    told = refused(protected, lambda: night_steps.validate(protected.site, snapshot_id, now=now))
    [judged] = protected.rows("select checks from nightshift.validations")
    by_name = {check["expectation"]: check for check in judged.checks}
    in_set = by_name["expect_column_values_to_be_in_set"]
    assert in_set["observed"] == "2 of 30 rows unexpected"
    assert in_set["detail"]["unexpected"] == ["withheld (features.sensitive)"]
    assert by_name["expect_column_max_to_be_between"]["observed"] == "withheld (features.sensitive)"
    assert by_name["expect_table_row_count_to_equal"]["observed"] == "observed 30"
    observed = [{**c, "detail": {**c["detail"], "arguments": None}} for c in judged.checks]
    assert not PLANTED.search(json.dumps(observed) + told)
    # What Great Expectations logs is not ours to word; its level is.
    assert not PLANTED.search("\n".join(r.getMessage() for r in caplog.records))


def test_errors_do_not_repeat_what_the_source_the_pipeline_or_a_label_says(
    protected: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    protected.train(9)
    said = []
    features = (protected.folder / "features.sql").read_text()
    protected.write("features.sql", features.replace("size,", "cast(kind as int) as size,"))
    said.append(refused(protected, lambda: protected.freeze(12)))
    assert "SQLSTATE 22P02" in said[-1]
    protected.write("features.sql", features.replace("size,", "sizes as size,"))
    said.append(refused(protected, lambda: protected.freeze(12)))
    assert 'column "sizes" does not exist' in said[-1]  # a mistake in the query is told
    protected.write("features.sql", features)
    build = (protected.folder / "estimator.py").read_text()
    protected.write("estimator.py", build + "learns = False\n" + TALKATIVE)
    protected.configure(estimator={"build": "estimator.talkative"})
    said.append(refused(protected, lambda: protected.train(17)))
    assert "could not be fitted on" in said[-1]
    assert "ValueError (its words are withheld" in said[-1]
    protected.configure(task="binary_classification", performance={"metric": "roc_auc"})
    protected.source(f"update truths set value = {SIZE}")
    said.append(refused(protected, lambda: protected.monitor(12)))
    assert "value does not fit binary_classification" in said[-1]
    assert not PLANTED.search("\n".join(said) + caplog.text)
    told = protected.rows("select row_to_json(e)::text from nightshift.events e")
    assert len(told) > 3
    assert not PLANTED.search(str(told))


TALKATIVE = """
class Talkative(LinearRegression):
    def fit(self, X, y):
        if learns:
            return super().fit(X, y)
        raise ValueError(f"cannot learn from {X.max()}")

    def predict(self, X):
        if X.max() > 1000:
            raise ValueError(f"cannot score {X.max()}")
        return super().predict(X)

def talkative(numeric, categorical, seed):
    made = build(numeric, categorical, seed)
    made.steps[-1] = ("line", Talkative())
    return made
"""


def test_a_model_that_fails_does_not_repeat_the_values(protected: World) -> None:
    build = (protected.folder / "estimator.py").read_text()
    protected.write("estimator.py", build + "learns = True\n" + TALKATIVE)
    protected.configure(estimator={"build": "estimator.talkative"})
    protected.train(9)
    told = refused(protected, lambda: protected.score(12))
    assert "cannot score these rows: ValueError (its words are withheld" in told
    assert not PLANTED.search(told)
    rows = protected.rows("select row_to_json(e)::text from nightshift.events e")
    assert not PLANTED.search(str(rows))


def test_a_refusal_of_posted_rows_repeats_no_value(protected: World) -> None:
    protected.train(9)
    app = served(Door(protected.site, {"ada": (FAMILY,)}, ("ada",)))
    wrong = [
        {"entity_id": "a", "size": KIND, "kind": SIZE},
        {"entity_id": "b", "size": [SIZE], "kind": {"x": KIND}},
        {"entity_id": "c", "size": 1, "kind": "k1", "more": KIND},
    ]
    with TestClient(app, headers={"Authorization": "Bearer ada"}) as client:
        post = f"{ROOT}/api/v1/fleet/{FAMILY}/score"
        for rows in ([one] for one in wrong):
            answer = client.post(post, json={"rows": rows})
            assert answer.status_code == 422
            assert not PLANTED.search(answer.text)
        answer = client.post(
            post,
            content=f'{{"rows": [{{"size": {KIND}}}]}}',
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 400
        assert not PLANTED.search(answer.text)


def test_no_page_and_no_answer_shows_what_training_saw_of_a_sensitive_column(
    protected: World,
) -> None:
    """The manifest has it all the same: rows are flagged by it."""
    protected.source(f"update items set kind = '{KIND}' where size = 1")
    protected.train(9)
    protected.source("update truths set value = value * 2")
    protected.train(19)
    assert protected.score(12)
    protected.monitor(15)
    kept = protected.rows("select manifest from nightshift.versions")
    assert all(KIND in row.manifest["profile"]["categories"]["kind"] for row in kept)
    shown = list(pages_of(protected))
    assert not [page for page in shown if PLANTED.search(page)]
    manifests = [page for page in shown if "/versions/" in page.partition(":")[0]]
    assert len(manifests) == 3
    assert all("withheld (features.sensitive)" in page for page in manifests[:2])


def test_a_column_that_becomes_sensitive_is_hidden_in_old_manifests_too(world: World) -> None:
    world.source(f"update items set kind = '{KIND}' where size = 1")
    world.train(9)
    assert any(PLANTED.search(page) for page in pages_of(world))
    world.configure(features={"sensitive": ["kind"]})
    assert not any(PLANTED.search(page) for page in pages_of(world))


@pytest.fixture
def judged(world: World) -> World:
    """A night whose checks met values of both features, before they became sensitive."""
    world.source(f"update items set kind = '{KIND}' where size = 1")
    world.configure(
        expectations=[
            {
                "type": "expect_column_values_to_be_in_set",
                "column": "kind",
                "value_set": ["k0"],
                "severity": "warning",
            },
            {
                "type": "expect_column_max_to_be_between",
                "column": "size",
                "max_value": 30,
                "severity": "warning",
            },
            {
                "type": "expect_column_pair_values_a_to_be_greater_than_b",
                "column_A": "size",
                "column_B": "size",
                "severity": "warning",
            },
            {"type": "expect_table_row_count_to_equal", "value": 31, "severity": "warning"},
        ]
    )
    world.train(9)
    world.source(f"update items set size = {SIZE} where night >= '2026-01-13' and size = 30")
    assert world.score(12)
    return world


def nights_of(world: World) -> list[str]:
    """The pages, files and answers that show what a night's checks met."""
    shown = [page for page in pages_of(world) if "/nights/" in page.partition(":")[0]]
    assert len(shown) == 3
    assert all("expect_column_values_to_be_in_set" in page for page in shown)
    return shown


def test_a_column_that_becomes_sensitive_is_hidden_in_old_verdicts_too(judged: World) -> None:
    assert [page for page in nights_of(judged) if not PLANTED.search(page)] == []
    judged.configure(features={"sensitive": ["kind", "size"]})
    shown = nights_of(judged)
    assert [PLANTED.findall(page) and page for page in shown if PLANTED.search(page)] == []
    for page in shown:
        assert "withheld (features.sensitive)" in page
        assert "rows unexpected" in page  # how many is told all the same
        assert "observed 30" in page  # a number of rows is no column's value


def test_no_value_is_shown_while_the_folder_cannot_be_read(judged: World) -> None:
    judged.write("model.yaml", "family: [broken")
    shown = nights_of(judged)
    assert [PLANTED.findall(page) and page for page in shown if PLANTED.search(page)] == []
    assert not any("observed 30" in page for page in shown)


def test_names_that_everybody_reads_cannot_be_sensitive(world: World) -> None:
    world.configure(features={"sensitive": ["kind"]}, performance={"slices": ["kind"]})
    with pytest.raises(ConfigError, match=r"performance.slices: 'kind' is listed under features"):
        world.site.family(FAMILY)
    world.configure(features={"sensitive": ["kinds"]}, performance={"slices": []})
    with pytest.raises(ConfigError, match="sensitive: kinds is no feature"):
        world.site.family(FAMILY)


# Pseudonyms ---------------------------------------------------------------------------------------


@pytest.fixture
def hidden(world: World) -> World:
    world.configure(pseudonymise="hmac")
    return world


CLEAR = re.compile(r"2026\d{4}-\d+")


def names(world: World, sql: str) -> set[str]:
    return {row.entity_id for row in world.rows(sql)}


def test_a_whole_cycle_goes_by_pseudonym_and_labels_meet_their_predictions(hidden: World) -> None:
    hidden.train(9)
    for number in range(10, 13):
        assert hidden.score(number)
    hidden.monitor(13)
    measured = hidden.rows(
        "select labels, value from nightshift.measurements where decisive and labels > 0"
    )
    assert {(row.labels, round(row.value, 6)) for row in measured} == {(60, 0)}
    told = names(hidden, "select entity_id from predictions")
    assert told <= names(hidden, "select entity_id from nightshift.labels")
    assert all(re.fullmatch("p-[0-9a-f]{32}", one) for one in told)
    snapshots = hidden.rows("select content_hash from nightshift.snapshots")
    store = Store(hidden.site.store)
    for row in snapshots:
        entities = store.read_table(row.content_hash, ["entity_id"])["entity_id"].to_pylist()
        assert entities == sorted(entities)
        assert not any(map(CLEAR.fullmatch, entities))
    texts = hidden.rows("select row_to_json(e)::text from nightshift.events e")
    assert not CLEAR.search(str(texts))
    rows = hidden.rows("select entity_id, score from predictions")
    scored = {row.entity_id: row.score for row in rows}
    entity = people.pseudonym(hidden.site, FAMILY, "20260113-7")
    assert scored[entity] == pytest.approx(10)


def test_who_has_the_key_is_told_the_pseudonym_and_others_are_not(
    hidden: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(local, "site", lambda: hidden.site)
    hidden.freeze(9)
    said = CliRunner().invoke(cli.app, ["pseudonym", FAMILY, "20260113-7"])
    assert said.output.strip() == people.pseudonym(hidden.site, FAMILY, "20260113-7")
    assert people.pseudonym(hidden.site, FAMILY, said.output.strip()) == said.output.strip()
    elsewhere = replace(hidden.site, keys_at=tmp_path / "empty")
    with pytest.raises(SetupError, match="is missing, and entities are told by pseudonyms"):
        people.pseudonym(elsewhere, FAMILY, "20260113-7")
    Keys(tmp_path / "empty").pseudonym_key(make=True)
    with pytest.raises(SetupError, match="and pseudonyms were made with"):
        night_steps.freeze(elsewhere, FAMILY, hidden.night(10), now=hidden.night(10))


def test_pseudonyms_neither_begin_nor_end_in_mid_life(world: World) -> None:
    world.freeze(9)
    world.configure(pseudonymise="hmac")
    with pytest.raises(ConfigError, match="pseudonymise cannot begin now"):
        world.freeze(10)
    assert not (world.site.keys / "pseudonyms.key").exists()


def test_taking_pseudonymise_out_again_is_refused(hidden: World) -> None:
    hidden.freeze(9)
    hidden.configure(pseudonymise=None)
    with pytest.raises(ConfigError, match="write pseudonymise: hmac again"):
        hidden.freeze(10)


def test_an_erased_entity_is_found_by_its_pseudonym_and_never_learnt_from(hidden: World) -> None:
    hidden.train(9)
    now = hidden.night(9) + timedelta(hours=1)
    known = people.exclude(
        hidden.site, FAMILY, "20260103-7", "erased", reason="GDPR 4711", by="ada", now=now
    )
    assert known == 1
    [kept] = names(hidden, "select entity_id from nightshift.exclusions")
    assert kept == people.pseudonym(hidden.site, FAMILY, "20260103-7")
    before = hidden.rows("select manifest->>'rows' as rows from nightshift.versions")[0].rows
    done = versions_steps.reproduce(hidden.site, 1)
    assert done.rows == int(before) - 1


@pytest.mark.parametrize(("who", "status"), [("ada", 200), ("eve", 404)])
def test_the_api_names_an_entity_only_to_who_may_score_it(
    hidden: World, who: str, status: int
) -> None:
    hidden.train(9)
    assert hidden.score(10)
    _verified_pipeline.cache_clear()
    told = people.pseudonym(hidden.site, FAMILY, "20260111-7")
    app = served(Door(hidden.site, {"ada": (FAMILY,), "eve": (FAMILY,)}, ("ada",)))
    with TestClient(app, headers={"Authorization": f"Bearer {who}"}) as client:
        api = f"{ROOT}/api/v1"
        at = f"{api}/predictions/{FAMILY}/{FAMILY}"
        clear, hashed = client.get(f"{at}/20260111-7"), client.get(f"{at}/{told}")
        row = {"entity_id": "20260111-7", "size": 7, "kind": "k1"}
        scored = client.post(f"{api}/fleet/{FAMILY}/score", json={"rows": [row]})
    assert (clear.status_code, hashed.status_code) == (status, 200)
    assert hashed.json()["entity_id"] == told
    if status == 200:
        assert clear.json() == hashed.json()
        [item] = scored.json()["items"]
        assert (item["entity_id"], item["score"]) == ("20260111-7", pytest.approx(10))
