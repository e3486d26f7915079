"""The REST API over a small world: what it answers, to whom, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import hypothesis
import pytest
import schemathesis
import yaml
from fastapi.testclient import TestClient
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import positive_data_acceptance
from tests.families import FACTORY, NEW_KIND
from tests.hosts import Door, served
from tests.world import ESTIMATOR, FEATURES, LABELS, MODEL, SOURCE, World

from nightshift import data, simulation
from nightshift.data import Store
from nightshift.family import load_family
from nightshift.local import Postgres, session
from nightshift.night import table as posted_rows
from nightshift.reports import HEALTHS
from nightshift.site import Site
from nightshift.steps import monitor, retrain
from nightshift.web.schemas import Model

Response = Any  # of httpx or of its successor, whichever the test client finds
ROOT = "/nightshift/api/v1"
HOME = Path(__file__).resolve().parents[3]
DOCS = HOME / "docs" / "api.md"
TREES = """
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

def build(numeric, categorical, seed):
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = ColumnTransformer([("c", codes, categorical), ("n", "passthrough", numeric)])
    trees = HistGradientBoostingRegressor(max_iter=5, min_samples_leaf=3, random_state=seed)
    return Pipeline([("columns", columns), ("trees", trees)])
"""
FAMILIES: dict[str, dict[str, Any]] = {
    "loads": {},
    # Its members have a slash in their names, as anything that comes from data may.
    "members": {
        "performance": {**MODEL["performance"], "threshold": None, "min_labels": 10},
        "models": FACTORY,
        "retrain": {"training": {"window": "P5D", "min_rows": 30}},
        "promotion": {"holdout": "P2D", "min_rows": 10, "refit": False},
    },
    "heavy": {
        "task": "binary_classification",
        "performance": {**MODEL["performance"], "metric": "roc_auc", "threshold": 0.5},
    },
    "untrained": {},
}
WRITTEN = {
    "members": {
        "features.sql": FEATURES.replace("size, kind", "size, 'n/' || kind as kind"),
        "estimator.py": TREES,
    },
    "heavy": {
        "labels.sql": LABELS.replace("value,", "cast(value > 20 as int) as value,"),
        "estimator.py": ESTIMATOR.replace("LinearRegression", "LogisticRegression"),
    },
}

PATHS = [
    "/fleet",
    "/fleet/{family}",
    "/fleet/{family}/score",
    "/models",
    "/models/{family}/{model}",
    "/measurements",
    "/decisions",
    "/decisions/{decision_id}",
    "/nights",
    "/nights/{family}/{as_of}",
    "/predictions/{family}/{model}/{entity_id}",
]


@pytest.fixture(scope="module")
def world(postgres: Postgres, template: str) -> Iterator[World]:
    """Four families, trained after ten nights and scored for three, and monitored once."""
    names = ("api_nightshift", "api_warehouse")
    with (
        tempfile.TemporaryDirectory(prefix="nightshift-api-") as home,
        session(postgres.url("postgres")) as server,
    ):
        for name, of in zip(names, (template, "template1"), strict=True):
            server.exec_driver_sql(f"create database {name} template {of}")
        models = Path(home) / "include" / "models"
        site = Site(
            home=Path(home),
            state=Path(home) / "state",
            models=models,
            database_url=postgres.url(names[0]),
            sources={"warehouse": postgres.url(names[1])},
        )
        world = World(site, models / "loads")
        _write(models)
        world.source(SOURCE)
        _live(world)
        yield world
        data.connect.cache_clear()
        for name in names:
            server.exec_driver_sql(f"drop database {name} with (force)")


def _write(models: Path) -> None:
    usual = {"features.sql": FEATURES, "labels.sql": LABELS, "estimator.py": ESTIMATOR}
    for name, sections in FAMILIES.items():
        folder = models / name
        folder.mkdir(parents=True)
        (folder / "model.yaml").write_text(yaml.safe_dump({**MODEL, "family": name, **sections}))
        for file, text in {**usual, **WRITTEN.get(name, {})}.items():
            (folder / file).write_text(text)


def _live(world: World) -> None:
    site, trained = world.site, ("loads", "members", "heavy")
    for family in trained:
        as_of = world.night(9)
        asked = retrain.request_retrain(site, family, as_of, reason="t", by="t", now=as_of)
        simulation.retrain(site, asked, now=as_of)
    world.source(NEW_KIND)
    for number in (10, 11, 12):
        for family in trained:
            as_of = world.night(number)
            simulation.score_night(site, family, as_of, now=as_of + timedelta(minutes=5))
    for family in trained:
        as_of = world.night(12) + timedelta(hours=4)
        monitor.collect_labels(site, family, as_of, now=as_of)
        monitor.measure(site, family, as_of, now=as_of)
        monitor.decide(site, family, as_of, now=as_of)


@pytest.fixture(scope="module")
def door(world: World) -> Door:
    keys = {"ada": tuple(FAMILIES), "bob": ("loads",), "eve": ()}
    return Door(world.site, keys, scorers=("ada",))


@dataclass(frozen=True)
class Client:
    """Somebody who asks."""

    http: TestClient
    name: str = "ada"

    def get(self, path: str) -> Response:
        return self.ask("GET", ROOT + path)

    def ask(self, method: str, path: str, **more: Any) -> Response:
        headers = {"Authorization": f"Bearer {self.name}"} | more.pop("headers", {})
        response: Response = self.http.request(method, path, headers=headers, **more)
        return response

    def score(self, family: str, rows: Any) -> Response:
        return self.ask("POST", f"{ROOT}/fleet/{family}/score", json={"rows": rows})

    def walk(self, path: str) -> list[dict[str, Any]]:
        """The items of every page."""
        items, following = [], f"{ROOT}{path}"
        while following:
            told = self.ask("GET", following).json()
            items += told["items"]
            following = told["next"]
        return items


@pytest.fixture(scope="module")
def ada(door: Door) -> Client:
    return Client(TestClient(served(door)))


@pytest.fixture
def bob(ada: Client) -> Client:
    return replace(ada, name="bob")


def problem(response: Response, status: int) -> dict[str, Any]:
    """What a refusal says, in the one form that refusals have."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = response.json()
    assert told["status"] == status
    assert told["detail"]
    return told


def posted(world: World, family: str, number: int) -> list[dict[str, Any]]:
    """The frozen rows of a night, as somebody would post them."""
    [row] = world.rows(
        "select content_hash from nightshift.snapshots"
        f" where family = '{family}' and as_of = '{world.night(number)}'"
    )
    rows: list[dict[str, Any]] = Store(world.site.store).read_table(row.content_hash).to_pylist()
    return rows


def test_the_fleet_is_told_family_by_family(ada: Client) -> None:
    told = {line["family"]: line for line in ada.get("/fleet").json()["items"]}
    assert list(told) == ["heavy", "loads", "members"]
    assert told["loads"]["last_night"]["as_of"] == "2026-01-13T02:00:00Z"
    assert told["loads"]["last_night"]["rows"] == 40
    assert told["members"]["models"] == 5
    assert sum(told["members"]["health"].values()) == 5


def test_a_family_says_what_a_row_to_score_is_made_of(ada: Client) -> None:
    told = ada.get("/fleet/members").json()
    assert told["columns"] == {
        "text": ["entity_id", "kind"],
        "numbers": ["size"],
        "names_the_model": "kind",
    }
    assert ada.get("/fleet/untrained").json()["models"] == 0


def test_models_come_in_pages_that_add_up_and_the_worst_come_first(ada: Client) -> None:
    at_once = ada.get("/models").json()
    assert at_once["next"] is None
    assert ada.walk("/models?limit=2") == at_once["items"]
    assert {line["model"] for line in at_once["items"]} >= {"loads", "n/k0", "n/new"}
    assert at_once["items"][-1]["health"] == "healthy"
    healthy = ada.walk("/models?health=healthy&limit=1")
    assert healthy == [line for line in at_once["items"] if line["health"] == "healthy"]


def test_a_model_with_a_slash_in_its_name_is_found(ada: Client) -> None:
    told = ada.get(f"/models/members/{quote('n/k0', safe='')}").json()
    assert (told["model"], told["version"]) == ("n/k0", 1)
    [first] = told["promotions"]
    assert (first["kind"], first["effective_from"]) == ("promote", "2026-01-10T02:00:00Z")
    problem(ada.get("/models/members/n/k0"), 404)


def test_measurements_are_those_of_the_view(ada: Client, world: World) -> None:
    told = ada.walk("/measurements?family=loads&limit=1")
    rows = world.rows("select * from performance where family = 'loads'")
    assert len(rows) > 1
    assert {(one["slice"], one["version"], one["value"], one["labels"]) for one in told} == {
        (row.slice, row.model_version, row.value, row.labels) for row in rows
    }
    assert ada.walk("/measurements?since=2027-01-01T00:00:00Z") == []
    assert {one["family"] for one in ada.walk("/measurements?metric=roc_auc")} == {"heavy"}


def test_decisions_are_told_with_what_they_were_concluded_from(ada: Client, world: World) -> None:
    told = ada.walk("/decisions?limit=3")
    recorded = world.rows("select decision_id, hash from nightshift.decisions order by 1 desc")
    assert [one["decision_id"] for one in told] == [row.decision_id for row in recorded]
    detail = ada.get(f"/decisions/{told[0]['decision_id']}").json()
    assert detail["hash"] == recorded[0].hash
    assert detail["inputs"]
    assert {one["kind"] for one in ada.walk("/decisions?kind=promote&limit=2")} == {"promote"}


def test_nights_are_told_with_their_checks_and_models(ada: Client) -> None:
    told = ada.walk("/nights?state=published&limit=2")
    assert len(told) == 9
    assert told[0]["as_of"] == "2026-01-13T02:00:00Z"
    assert ada.walk("/nights?limit=7") == ada.get("/nights").json()["items"]
    night = ada.get("/nights/members/2026-01-13T02:00:00Z").json()
    assert night["verdict"] == "passed"
    assert all(check["success"] for check in night["checks"])
    by_name = {one["model"]: one for one in night["models"]}
    assert by_name["n/new"] == {"model": "n/new", "version": 1, "fallback": True, "rows": 10}


@pytest.mark.parametrize(
    ("as_of", "night"),
    [
        ("", "2026-01-12"),
        ("?as_of=2026-01-12", "2026-01-12"),
        ("?as_of=2027-01-01", "2026-01-12"),
        ("?as_of=2026-01-12T02:00:00Z", "2026-01-12"),
        ("?as_of=2026-01-12T01:59:59Z", None),
        ("?as_of=2026-01-11", None),
        ("?as_of=2026-01-12T04:00:00%2B02:00", "2026-01-12"),
        ("?as_of=2026-01-13T01:37:00%2B23:37", "2026-01-12"),
    ],
)
def test_a_prediction_is_that_of_the_latest_night_by_a_moment(
    ada: Client, as_of: str, night: str | None
) -> None:
    response = ada.get(f"/predictions/loads/loads/20260112-7{as_of}")
    if night is None:
        assert "20260112-7" in problem(response, 404)["detail"]
    else:
        assert response.json()["as_of"] == f"{night}T02:00:00Z"


def test_a_prediction_is_the_row_that_readers_see(ada: Client, world: World) -> None:
    told = ada.get("/predictions/members/n%2Fnew/20260113-new-4").json()
    [row] = world.rows(
        "select * from predictions where family = 'members' and entity_id = '20260113-new-4'"
    )
    assert told == {
        **row._mapping,
        "as_of": "2026-01-13T02:00:00Z",
        "published_at": "2026-01-13T02:05:00Z",
    }
    assert "fallback" in told["flags"]


@pytest.mark.parametrize("family", ["loads", "members", "heavy"])
def test_posted_rows_get_the_scores_of_the_night_to_the_bit(
    ada: Client, world: World, family: str
) -> None:
    rows = posted(world, family, 12)
    told = ada.score(family, rows[::-1]).json()["items"]
    assert [one["entity_id"] for one in told] == [row["entity_id"] for row in rows[::-1]]
    published = world.rows(
        "select entity_id, model, model_version, score, label, flags from predictions"
        f" where family = '{family}' and as_of = '{world.night(12)}'"
    )
    assert sorted(told, key=lambda one: one["entity_id"]) == [
        dict(row._mapping) for row in sorted(published)
    ]
    assert any(one["flags"] for one in told)


def test_scoring_is_recorded_without_the_rows(ada: Client, world: World) -> None:
    row = {"entity_id": "secret-entity", "size": 3, "kind": "k1"}
    assert ada.score("loads", [row]).status_code == 200
    [event] = world.rows(
        "select code, family, detail from nightshift.events order by event_id desc limit 1"
    )
    assert (event.code, event.family) == ("scored_on_demand", "loads")
    assert event.detail == {"by": "ada", "rows": 1, "skipped_rows": 0, "versions": {"loads": 1}}


def test_asking_about_a_new_member_makes_no_model_of_it(ada: Client, world: World) -> None:
    [told] = ada.score("members", [{"entity_id": "a", "size": 3, "kind": "n/never"}]).json()[
        "items"
    ]
    assert (told["model"], told["model_version"]) == ("n/never", 1)
    assert told["flags"] == ["unseen_category", "fallback"]
    assert world.rows("select from nightshift.models where name = 'n/never'") == []


@pytest.mark.parametrize(
    ("rows", "message", "pointer"),
    [
        ([{"entity_id": "a", "size": 1}], "column 'kind' is missing", "#/rows/0/kind"),
        ([{"entity_id": "a", "size": "1", "kind": "k"}], "is text, not a number", "#/rows/0/size"),
        ([{"entity_id": "a", "size": [], "kind": "k"}], "is a list, not a number", "#/rows/0/size"),
        ([{"entity_id": "a", "size": 10**400, "kind": "k"}], "too large", "#/rows/0/size"),
        ([{"entity_id": "a", "size": 2**60 + 1, "kind": "k"}], "too large", "#/rows/0/size"),
        ([{"entity_id": "a", "size": 1, "kind": 3}], "is a number, not text", "#/rows/0/kind"),
        ([{"entity_id": None, "size": 1, "kind": "k"}], "must not be", "#/rows/0/entity_id"),
        (
            [{"entity_id": "a", "size": 1, "kind": "k"}] * 3,
            "repeats that of an earlier row (rows 1 and 2)",
            "#/rows/1/entity_id",
        ),
        (
            [{"entity_id": "a", "size": 1, "kind": "k", "siz/e": 1}],
            "(did you mean 'size'?)",
            "#/rows/0/siz~1e",
        ),
    ],
)
def test_rows_that_cannot_be_scored_are_refused_by_column_and_row(
    ada: Client, world: World, rows: list[Any], message: str, pointer: str
) -> None:
    before = world.codes()
    [fault] = problem(ada.score("loads", rows), 422)["errors"]
    assert message in fault["detail"]
    assert fault["pointer"] == pointer
    assert world.codes() == before


def test_every_problem_of_the_rows_is_told_at_once(ada: Client) -> None:
    rows = [{"entity_id": "a", "size": "1", "kind": 2}, {"entity_id": "a", "colour": None}]
    told = problem(ada.score("loads", rows), 422)
    assert [(one["pointer"], one["rows"]) for one in told["errors"]] == [
        ("#/rows/1/colour", [1]),
        ("#/rows/1/size", [1]),
        ("#/rows/1/kind", [1]),
        ("#/rows/0/size", [0]),
        ("#/rows/0/kind", [0]),
        ("#/rows/1/entity_id", [1]),
    ]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b'{"rows": [{"size": NaN}]}', 400),
        (b"[" * 100_000, 400),
        (b'{"rows": [{"kind": "\\ud800"}]}', 400),
        (b'{"rows": []}', 422),
        (b'{"rows": 3}', 422),
        (b"[]", 422),
        (b'{"rows": [3]}', 422),
        (json.dumps({"rows": [{}] * 10_001}).encode(), 422),
        (b" " * 10_000_001, 413),
    ],
    ids=range(10),
)
def test_a_body_that_is_no_list_of_rows_is_refused(ada: Client, body: bytes, status: int) -> None:
    headers = {"Content-Type": "application/json"}
    path = f"{ROOT}/fleet/loads/score"
    problem(ada.ask("POST", path, content=body, headers=headers), status)


def test_a_form_cannot_post_rows(ada: Client) -> None:
    problem(ada.ask("POST", f"{ROOT}/fleet/loads/score", data={"rows": "1"}), 415)


def test_a_family_without_a_champion_scores_nothing(ada: Client) -> None:
    told = problem(ada.score("untrained", [{"entity_id": "a", "size": 1, "kind": "k"}]), 409)
    assert told["code"] == "no_champion"
    assert "nightshift train untrained" in told["detail"]


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("/models?limit=0", "limit"),
        ("/models?limit=1001", "limit"),
        ("/models?famly=loads", "famly"),
        ("/models?cursor=nonsense", "cursor"),
        ("/models?family=%00", "family"),
        ("/decisions?since=1700000000", "since"),
        ("/decisions?until=2026-11-03T02:00:00", "until"),
        ("/decisions?kind=guess", "kind"),
        ("/models?group=a&group=b", "group"),
        ("/decisions/99999999999", "decision_id"),
        ("/predictions/loads/loads/%00", "entity_id"),
        ("/predictions/loads/loads/%FF", "entity_id"),
        ("/predictions/loads/loads/x?as_of=2026-13-01", "as_of"),
        ("/nights/loads/yesterday", "as_of"),
        ("/nights/loads/9999-12-31T23:59:59-01:00", "as_of"),
    ],
)
def test_a_wrong_parameter_is_named(ada: Client, path: str, parameter: str) -> None:
    assert parameter in [one["parameter"] for one in problem(ada.get(path), 422)["errors"]]


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/models/",
        "/models/lods/x",
        "/models/loads/x",
        "/decisions/999",
        "/nights/loads/2030-01-01T00:00:00Z",
        "/measurements?family=lods",
    ],
)
def test_what_is_not_there_is_a_problem(ada: Client, path: str) -> None:
    problem(ada.get(path), 404)


def test_a_method_that_means_nothing_is_a_problem(ada: Client) -> None:
    response = ada.ask("DELETE", f"{ROOT}/models")
    problem(response, 405)
    assert response.headers["allow"] == "GET"


@pytest.mark.parametrize("path", ["/openapi.json", "/fleet", "/models", "/fleet/loads/score"])
def test_nobody_is_told_anything_without_a_login(ada: Client, path: str) -> None:
    method = "POST" if path.endswith("score") else "GET"
    response = replace(ada, name="mallory").ask(method, ROOT + path)
    problem(response, 401)
    assert response.headers["www-authenticate"] == "Bearer"


def test_a_user_sees_the_families_they_may_see(ada: Client, bob: Client) -> None:
    assert [line["family"] for line in bob.get("/fleet").json()["items"]] == ["loads"]
    for path in ("/models", "/measurements", "/decisions", "/nights"):
        seen = {one["family"] for one in bob.walk(f"{path}?limit=2")}
        assert seen == {"loads"}, path
        assert replace(ada, name="eve").walk(path) == []
    hidden = ada.walk("/decisions?family=heavy")[0]["decision_id"]
    assert "heavy" not in problem(bob.get(f"/decisions/{hidden}"), 404)["detail"]
    for path in ("/models/heavy/heavy", "/nights?family=heavy", "/predictions/heavy/heavy/x"):
        told = problem(bob.get(path), 404)["detail"]
        assert told == "there is no family 'heavy'"


def test_scoring_needs_the_permission_to_act(bob: Client) -> None:
    row = {"entity_id": "a", "size": 1, "kind": "k"}
    assert "trigger loads.score" in problem(bob.score("loads", [row]), 403)["detail"]


def test_an_outage_is_never_an_empty_list(door: Door) -> None:
    nowhere = "postgresql+psycopg2://nobody@127.0.0.1:1/nightshift"
    lost = Client(TestClient(served(replace(door, at=replace(door.at, database_url=nowhere)))))
    for path in ("/fleet", "/models", "/nights", "/predictions/loads/loads/x"):
        response = lost.get(path)
        assert problem(response, 503)["code"] == "database_unavailable"
        assert int(response.headers["retry-after"]) > 0
        assert "127.0.0.1" not in response.text


def test_a_statement_that_takes_too_long_is_an_outage(
    ada: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nightshift.web import api

    monkeypatch.setattr(api, "PATIENCE", timedelta(milliseconds=100))
    with session(world.site.database_url) as connection:
        connection.exec_driver_sql("begin; lock table nightshift.models in access exclusive mode")
        problem(ada.get("/models"), 503)
        connection.exec_driver_sql("rollback")


def test_an_artifact_that_was_changed_scores_nothing(
    world: World, door: Door, tmp_path: Path
) -> None:
    from nightshift.registry.versions import _verified_pipeline

    _verified_pipeline.cache_clear()
    robbed = replace(door, at=replace(world.site, state=tmp_path))
    client = Client(TestClient(served(robbed)))
    row = {"entity_id": "a", "size": 1, "kind": "k"}
    assert problem(client.score("loads", [row]), 500)["code"] == "artifact_refused"
    assert world.codes()[-1] == "artifact_refused"


def test_openapi_describes_the_api_and_nothing_else(ada: Client) -> None:
    told = ada.get("/openapi.json").json()
    assert told["servers"] == [{"url": ROOT}]
    assert sorted(told["paths"]) == sorted(PATHS)
    for path in told["paths"].values():
        for operation in path.values():
            assert {"401", "404", "422", "503"} <= set(operation["responses"])
    assert "HTTPValidationError" not in told["components"]["schemas"]


def test_loading_the_api_loads_nothing_heavy() -> None:
    code = "import sys, nightshift.web.api; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"pandas", "sklearn", "pyarrow", "scipy", "sqlalchemy", "great_expectations"}
    assert heavy.isdisjoint(loaded.stdout.split())


EXAMPLES = int(os.environ.get("NIGHTSHIFT_API_EXAMPLES", "10"))
REAL: list[dict[str, Any]] = [
    {},
    {
        "family": "loads",
        "model": "loads",
        "entity_id": "20260112-7",
        "decision_id": 1,
        "as_of": "2026-01-13T02:00:00Z",
    },
    {"family": "members", "model": "n/new", "entity_id": "20260113-new-4"},
]


@pytest.fixture(scope="module")
def described(door: Door) -> BaseSchema:
    load_all_checks()
    return schemathesis.openapi.from_asgi(
        f"{ROOT}/openapi.json", served(door), headers={"Authorization": "Bearer ada"}
    )


@pytest.mark.parametrize("path", PATHS)
def test_schemathesis_finds_no_error_of_ours_and_no_answer_beside_the_schema(
    described: BaseSchema, path: str
) -> None:
    [operation] = described[path].values()
    for mode in GenerationMode:
        for real in REAL:
            named = {name: real[name] for name in real if f"{{{name}}}" in path}
            if named or not real:
                probe(operation.as_strategy(mode, path_parameters=named))


def probe(cases: Any) -> None:
    """Ask what was generated, and hold the answers against the schema."""

    @hypothesis.given(case=cases)
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def asked(case: Any) -> None:
        # What Airflow mounts us with takes a line break in a path for its end, and answers itself.
        hypothesis.assume("%0A" not in case.formatted_path)
        # A cursor that is none of ours, and rows of other columns, agree with the schema and are
        # refused all the same.
        case.call_and_validate(
            headers={"Authorization": "Bearer ada"}, excluded_checks=[positive_data_acceptance]
        )

    asked()


STANDING_FOR = {
    "air_time/air_time/2026-11-03%2FB6725%2FJFK%2F0905": "loads/loads/20260112-7",
    "air_time": "loads",
    "2026-11-03": "2026-01-12",
}
"""What the examples of the documentation are called in the world of these tests."""


def test_the_examples_of_the_documentation_are_answered(ada: Client) -> None:
    block = re.search(r"```sh\n.*?\n\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert block
    calls = [shlex.split(line) for line in block[1].replace("\\\n", " ").splitlines()]
    assert len(calls) == 9
    for call in calls:
        [path] = [word.removeprefix("$API") for word in call if word.startswith("$API")]
        if "-d" not in call:
            for name, ours in STANDING_FOR.items():
                path = path.replace(name, ours)
            assert ada.get(path).status_code == 200, path
            continue
        [family] = re.findall(r"/fleet/(.*)/score", path)
        rows = json.loads(call[call.index("-d") + 1])["rows"]
        table = posted_rows(rows, load_family(HOME / "include" / "models" / family))
        assert table.num_rows == 1


def test_every_state_of_a_model_has_its_place_in_the_api() -> None:
    states = Model.model_json_schema()["properties"]["health"]["enum"]
    assert set(HEALTHS) <= set(states)
