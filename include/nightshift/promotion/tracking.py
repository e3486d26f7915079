"""Versions and what they were worth, told to MLflow where ``MLFLOW_TRACKING_URI`` is set.

A copy for people who look there. Nothing is read back, artifacts stay in the signed store, and a
server that is down holds nothing up.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import httpx

from nightshift.records import Comparison, Version

TIMEOUT = 10.0
"""Seconds to wait for an answer."""

LONGEST = 500
"""How many characters of a parameter are told."""

EXISTS = "RESOURCE_ALREADY_EXISTS"


def wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether there is anybody to tell."""
    return bool(environment.get("MLFLOW_TRACKING_URI"))


def log(
    version: Version, compared: Comparison, environment: Mapping[str, str] = os.environ
) -> str | None:
    """One run and one model version for a version that was compared; telling twice is once.

    Returns
    -------
    str or None
        Why it could not be told.
    """
    uri = environment["MLFLOW_TRACKING_URI"]
    if not uri.startswith(("http://", "https://")):
        return f"MLFLOW_TRACKING_URI is {uri!r}; only servers are told: write http://host:port"
    try:
        with _client(uri, environment) as http:
            _tell(http, version, compared)
    except (httpx.HTTPError, KeyError, ValueError) as error:
        return f"MLflow at {uri} was not told: {type(error).__name__}: {error}"
    return None


def _client(uri: str, environment: Mapping[str, str]) -> httpx.Client:
    token = environment.get("MLFLOW_TRACKING_TOKEN")
    user = environment.get("MLFLOW_TRACKING_USERNAME")
    return httpx.Client(
        base_url=f"{uri.rstrip('/')}/api/2.0/mlflow",
        headers={"Authorization": f"Bearer {token}"} if token else {},
        auth=(user, environment.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None,
        timeout=TIMEOUT,
    )


def _tell(http: httpx.Client, version: Version, compared: Comparison) -> None:
    experiment = _experiment(http, f"nightshift/{version.model.family}")
    # A run that was told by half, before a server went down, is left running.
    whole = (
        f"tags.`nightshift.version_id` = '{version.version_id}' and attributes.status = 'FINISHED'"
    )
    asked = {"experiment_ids": [experiment], "filter": whole, "max_results": 1}
    if _post(http, "runs/search", asked).get("runs"):
        return
    moment = int(version.trained_at.timestamp() * 1000)
    run = _post(
        http,
        "runs/create",
        {
            "experiment_id": experiment,
            "run_name": f"{version.model.name} {version.number}",
            "start_time": moment,
            "tags": _pairs(_tags(version)),
        },
    )["run"]["info"]["run_id"]
    metrics = [
        {"key": key, "value": value, "timestamp": moment, "step": 0}
        for key, value in _metrics(version, compared).items()
    ]
    batch = {"run_id": run, "params": _pairs(_params(version)), "metrics": metrics}
    _post(http, "runs/log-batch", batch)
    _model_version(http, version, run)
    _post(http, "runs/update", {"run_id": run, "status": "FINISHED", "end_time": moment})


def _experiment(http: httpx.Client, name: str) -> str:
    _post(http, "experiments/create", {"name": name}, may_exist=True)
    answer = http.get("/experiments/get-by-name", params={"experiment_name": name})
    found: str = answer.raise_for_status().json()["experiment"]["experiment_id"]
    return found


def _model_version(http: httpx.Client, version: Version, run: str) -> None:
    of = version.model
    name = of.name if of.name == of.family else f"{of.family}.{of.name}"
    _post(http, "registered-models/create", {"name": name}, may_exist=True)
    _post(
        http,
        "model-versions/create",
        {
            "name": name,
            "source": f"runs:/{run}/{version.artifact_hash}.joblib",
            "run_id": run,
            "tags": _pairs({"nightshift.version": str(version.number)}),
        },
    )


def _tags(version: Version) -> dict[str, str]:
    return {
        "nightshift.version_id": str(version.version_id),
        "nightshift.version": str(version.number),
        "nightshift.model": version.model.name,
        "nightshift.artifact": version.artifact_hash,
        "nightshift.decision_id": str(version.decision_id),
    }


def _params(version: Version) -> dict[str, str]:
    manifest = version.manifest
    first, last = (moment.isoformat() for moment in manifest.training)
    policy = manifest.policy.get("policy", "window")
    made = {"build": manifest.build, "seed": manifest.seed, "threads": manifest.threads}
    learnt = {"policy": policy, "from": first, "to": last, "rows": manifest.rows}
    told = {**manifest.params, **made, **learnt}
    return {key: str(value)[:LONGEST] for key, value in told.items()}


def _metrics(version: Version, compared: Comparison) -> dict[str, float]:
    own = next((c for c in compared.candidates if c.version_id == version.version_id), None)
    told = {
        f"holdout.{compared.metric}": own.value if own else compared.challenger_value,
        "holdout.difference": own.difference if own else None,
        "holdout.low": own.low if own else None,
        "holdout.rows": float(compared.row_count),
    }
    return {key: value for key, value in told.items() if value is not None}


def _pairs(told: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in told.items()]


def _post(
    http: httpx.Client, path: str, body: dict[str, Any], *, may_exist: bool = False
) -> dict[str, Any]:
    answer = http.post(f"/{path}", json=body)
    if may_exist and answer.status_code == httpx.codes.BAD_REQUEST and EXISTS in answer.text:
        return {}
    if answer.is_client_error:
        raise ValueError(f"{path}: {answer.text[:LONGEST]}")
    found: dict[str, Any] = answer.raise_for_status().json()
    return found
