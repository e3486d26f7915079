"""MLflow is told of versions once, and a server that is down holds nothing up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from tests.world import FAMILY, World

from nightshift.steps import retrain

EXISTS = (400, {"error_code": "RESOURCE_ALREADY_EXISTS", "message": "it does"})


class Server(ThreadingHTTPServer):
    """Answers as MLflow 3.17 does, and remembers runs, metrics and models."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.runs: list[dict[str, Any]] = []
        self.told: dict[str, dict[str, Any]] = {}
        self.models: list[dict[str, Any]] = []
        self.names: set[str] = set()
        self.broken = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return (500, {}) if path == self.broken else self._answer(path, body)

    def _answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        match path:
            case "experiments/create" | "registered-models/create":
                if body["name"] in self.names:
                    return EXISTS
                self.names.add(body["name"])
                return 200, {}
            case "experiments/get-by-name":
                return 200, {"experiment": {"experiment_id": "1"}}
            case "runs/create":
                self.runs.append(body)
                return 200, {"run": {"info": {"run_id": f"r{len(self.runs)}"}}}
            case "runs/search":
                finished = [run for run in self.runs if run.get("status") == "FINISHED"]
                value = body["filter"].split("'")[1]
                found = [run for run in finished if run["tags"][0]["value"] == value]
                return 200, {"runs": found} if found else {}
            case "runs/update":
                self.runs[int(body["run_id"][1:]) - 1]["status"] = body["status"]
            case "runs/log-batch":
                self.told[body["run_id"]] = body
            case "model-versions/create":
                self.models.append(body)
        return 200, {}


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self._answer(json.loads(self.rfile.read(length)))

    def _answer(self, body: dict[str, Any]) -> None:
        path = self.path.removeprefix("/api/2.0/mlflow/").partition("?")[0]
        code, answer = self.server.answer(path, body)
        data = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it has there
        return


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{server.url}/")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_version_is_told_with_its_parameters_and_figures_once(
    world: World, mlflow: Server
) -> None:
    world.configure(estimator={"seed": 3})
    world.train(9)
    world.train(25)
    assert [run["run_name"] for run in mlflow.runs] == ["loads 1", "loads 2"]
    assert {run["status"] for run in mlflow.runs} == {"FINISHED"}
    assert [model["name"] for model in mlflow.models] == [FAMILY, FAMILY]
    told = mlflow.told["r2"]
    metrics = {one["key"]: one["value"] for one in told["metrics"]}
    assert metrics["holdout.neg_mean_absolute_error"] == pytest.approx(-3.1)
    assert metrics["holdout.difference"] > 1
    params = {one["key"]: one["value"] for one in told["params"]}
    assert params["seed"] == "3"
    assert params["rows"] == "150"
    [second] = world.rows("select version_id from nightshift.versions where number = 2")
    retrain.compare(world.site, [second.version_id], now=world.night(26))
    assert len(mlflow.runs) == 2


def test_a_server_that_fails_holds_nothing_up_and_is_told_anew(
    world: World, mlflow: Server
) -> None:
    mlflow.broken = "model-versions/create"
    world.train(9)
    assert [row.model_version for row in world.rows("select model_version from champions")] == [1]
    [event] = world.rows("select detail from nightshift.events where code = 'tracking'")
    assert f"MLflow at {mlflow.url}/ was not told: HTTPStatusError" in event.detail["reason"]
    mlflow.broken = ""
    [only] = world.rows("select version_id from nightshift.versions")
    retrain.compare(world.site, [only.version_id], now=world.night(10))
    assert len(mlflow.models) == 1
    assert [run.get("status") for run in mlflow.runs] == [None, "FINISHED"]


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("http://127.0.0.1:1", "was not told: ConnectError"),
        ("sqlite:///runs.db", "only servers are told: write http://host:port"),
    ],
)
def test_what_cannot_be_told_is_in_the_audit_trail(
    world: World, monkeypatch: pytest.MonkeyPatch, uri: str, said: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    world.train(9)
    [event] = world.rows("select detail from nightshift.events where code = 'tracking'")
    assert said in event.detail["reason"]
