"""Airflow as an operator meets it: its REST API, and what it comes to in time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx
from tests.waiting import until


@dataclass(frozen=True)
class Airflow:
    """Airflow's REST API."""

    http: httpx.Client

    @classmethod
    def log_in(cls, url: str, user: str, password: str) -> Airflow:
        # Loopback needs no proxy, whatever the environment says.
        http = httpx.Client(base_url=url, timeout=120, trust_env=False)
        reply = http.post("/auth/token", json={"username": user, "password": password})
        http.headers["Authorization"] = f"Bearer {reply.raise_for_status().json()['access_token']}"
        http.base_url = httpx.URL(f"{url}/api/v2/")
        return cls(http)

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.http.get(path, params=query).raise_for_status().json()
        return answer

    def trigger(self, dag_id: str, partition_key: str | None = None, **conf: Any) -> str:
        """Ask for a run; its id."""
        body = {"logical_date": None, "partition_key": partition_key, "conf": conf}
        run = self.http.post(f"dags/{dag_id}/dagRuns", json=body).raise_for_status().json()
        run_id: str = run["dag_run_id"]
        return run_id

    def unpause(self, dag_id: str) -> None:
        self.http.patch(f"dags/{dag_id}", json={"is_paused": False}).raise_for_status()

    def outcome(self, dag_id: str, run_id: str) -> str:
        """Wait until a run ends; its state."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/wait"
        with self.http.stream("GET", path, params={"interval": 1}, timeout=150) as answer:
            answer.raise_for_status()
            state: str = [json.loads(line)["state"] for line in answer.iter_lines()][-1]
        return state

    def succeed(self, dag_id: str, run_id: str) -> None:
        """Wait until a run ends, which it must do well."""
        assert self.outcome(dag_id, run_id) == "success", self.complaints(dag_id, run_id)

    def until(self, dag_id: str, run_id: str, seconds: float = 200, **tasks: str) -> None:
        """Wait until tasks of a run are in these states."""

        def all_in_state() -> bool:
            states = self.tasks(dag_id, run_id)
            return all(states[name][0] == state for name, state in tasks.items())

        until(all_in_state, seconds, report=lambda: self.tasks(dag_id, run_id))

    def complaints(self, dag_id: str, run_id: str) -> dict[str, str]:
        """The end of the log of each task that failed; listeners write after it."""
        return {
            task: str(self.log(dag_id, run_id, task)[-12:])
            for task, (state, _) in self.tasks(dag_id, run_id).items()
            if state == "failed"
        }

    def log(self, dag_id: str, run_id: str, task: str) -> list[dict[str, Any]]:
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task}/logs/1"
        lines: list[dict[str, Any]] = self.get(path)["content"]
        return lines

    def tasks(self, dag_id: str, run_id: str) -> dict[str, tuple[str, int]]:
        """State and number of tries of each task."""
        states = self.get(f"dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return {task["task_id"]: (task["state"], task["try_number"]) for task in states}


def until_listed(airflow: Airflow, dag_ids: set[str]) -> set[str]:
    """Wait until the dag-processor has stored these DAGs; the same ids."""

    def listed() -> bool:
        return dag_ids <= {dag["dag_id"] for dag in airflow.get("dags")["dags"]}

    until(listed, report=lambda: airflow.get("importErrors"))
    return dag_ids


def until_started(airflow: Airflow, dag_id: str) -> str:
    """Wait until a DAG has a run; the id of its first."""
    path = f"dags/{dag_id}/dagRuns"
    runs = until(
        lambda: airflow.get(path, order_by="run_after")["dag_runs"],
        report=lambda: f"nothing has started {dag_id}",
    )
    run_id: str = runs[0]["dag_run_id"]
    return run_id
