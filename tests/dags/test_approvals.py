"""What a response on Airflow's page means, and where the page of a run is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nightshift_airflow.approvals import Approval, understood
from nightshift_airflow.runtime import link

ADA = {"id": "7", "name": "ada"}


@pytest.mark.parametrize(
    ("chosen", "user", "why", "meant"),
    [
        (Approval.APPROVE, ADA, "new routes", ("approved", "ada", "new routes")),
        (Approval.REJECT, ADA, None, ("declined", "ada", "")),
        (Approval.REJECT, {"id": "7", "name": ""}, None, ("declined", "7", "")),
        (Approval.REJECT, None, None, ("timed_out", "nobody", "")),
        (Approval.APPROVE, None, None, ("timed_out", "nobody", "")),  # only a person can approve
    ],
)
def test_a_response_that_nobody_gave_is_a_time_out(
    chosen: str, user: Any, why: str | None, meant: tuple[str, str, str]
) -> None:
    response = {"chosen_options": [chosen], "responded_by_user": user, "params_input": {"why": why}}
    assert understood(response) == meant


def test_the_page_of_a_run_is_where_airflow_says_that_its_pages_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = SimpleNamespace(dag_id="flights.retrain", run_id="manual__2026-01-05T02:00:00+00:00")
    context: Any = {"dag_run": run}
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.org/")
    assert link(context) == (
        "https://airflow.example.org/dags/flights.retrain/runs/"
        "manual__2026-01-05T02%3A00%3A00%2B00%3A00"
    )
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "")
    assert link(context) is None
