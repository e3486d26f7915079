"""The production topology, read by a real compose client."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

HOME = Path(__file__).resolve().parents[3]
REQUIRED = re.findall(r"^(\w+)=$", (HOME / ".env.example").read_text(), flags=re.MULTILINE)
SECRET_NAME = re.compile(r"(PASSWORD|SECRET|KEY|REDISCLI_AUTH)$")
PASSWORD_IN_URL = re.compile(r"://[^/@:]*:([^/@]+)@")

pytestmark = pytest.mark.skipif(
    shutil.which("docker-compose") is None, reason="docker-compose is not installed"
)


def compose_config(folder: Path, values: dict[str, str]) -> subprocess.CompletedProcess[str]:
    environment = folder / "environment"
    environment.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    return subprocess.run(
        ["docker-compose", "--env-file", str(environment), "config"],
        cwd=HOME,
        env={"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def sentinels() -> dict[str, str]:
    return {name: f"sentinel{number}" for number, name in enumerate(REQUIRED)}


@pytest.fixture(scope="module")
def topology(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    result = compose_config(tmp_path_factory.mktemp("compose"), sentinels())
    assert result.returncode == 0, result.stderr
    parsed: dict[str, Any] = yaml.safe_load(result.stdout)
    return parsed


def test_every_part_of_the_topology_is_there(topology: dict[str, Any]) -> None:
    assert set(topology["services"]) == {
        "postgres",
        "redis",
        "init",
        "api-server",
        "scheduler",
        "dag-processor",
        "triggerer",
        "worker",
    }


def test_everything_is_published_on_loopback_only(topology: dict[str, Any]) -> None:
    published = [
        port for service in topology["services"].values() for port in service.get("ports", [])
    ]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_whatever_lasts_is_watched_and_comes_back(topology: dict[str, Any]) -> None:
    lasting = {name: one for name, one in topology["services"].items() if name != "init"}
    assert all(one["restart"] == "unless-stopped" for one in lasting.values())
    assert all("test" in one["healthcheck"] for one in lasting.values())


def test_no_secret_is_written_in_the_file(topology: dict[str, Any]) -> None:
    settings = [
        (name, str(value))
        for service in topology["services"].values()
        for name, value in service.get("environment", {}).items()
        if value is not None
    ]
    by_name = [value for name, value in settings if SECRET_NAME.search(name)]
    in_urls = [found for _, value in settings for found in PASSWORD_IN_URL.findall(value)]
    assert len(by_name) > 10
    assert len(in_urls) > 10
    assert [one for one in by_name + in_urls if not one.startswith("sentinel")] == []


def test_every_part_that_runs_tasks_is_told_where_the_store_is(tmp_path: Path) -> None:
    given = {"NIGHTSHIFT_STORE": "s3://bucket/prefix", "AWS_ENDPOINT_URL": "http://minio:9000"}
    found = yaml.safe_load(compose_config(tmp_path, sentinels() | given).stdout)["services"]
    for name in ("init", "scheduler", "dag-processor", "triggerer", "worker", "api-server"):
        assert given.items() <= found[name]["environment"].items()


def test_a_store_that_is_not_given_leaves_no_empty_setting(topology: dict[str, Any]) -> None:
    environment = topology["services"]["worker"]["environment"]
    assert environment["NIGHTSHIFT_STORE"] == ""
    assert not environment.get("AWS_ENDPOINT_URL")


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_value_is_refused_by_name(tmp_path: Path, name: str) -> None:
    result = compose_config(tmp_path, sentinels() | {name: ""})
    assert result.returncode != 0
    assert f"set {name} in .env" in result.stderr
