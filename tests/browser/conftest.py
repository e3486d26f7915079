"""An installation with Airflow's four processes, and a browser.

The families learn from a world that has changed since their first champions. The people of most
have a day to answer, those of one a second.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser, Page, sync_playwright
from tests.e2e.airflow import PARSED_ONCE, Airflow, until_listed
from tests.ports import free_port

from nightshift import local, simulation, steps
from nightshift.config import Site
from nightshift.embedded import session

HOME = Path(__file__).resolve().parents[2]
PATIENT, HASTY, WALKED = "patient", "hasty", "walked"
TIMEOUTS = {PATIENT: "P1D", HASTY: "PT1S", WALKED: "P1D"}
BEFORE, CHANGED = datetime(2026, 1, 11, 2, tzinfo=UTC), datetime(2026, 1, 29, 2, tzinfo=UTC)
NIGHT = datetime(2026, 1, 12, 2, tzinfo=UTC)
"""A night of WALKED that was published."""

MODEL: dict[str, Any] = {
    "description": "The load of a machine tomorrow",
    "task": "regression",
    "owner": "tests",
    "source": {"connection": "warehouse", "history": "append_only"},
    "features": {"numeric": ["size"]},
    "schedule": {"score": "0 2 * * *", "monitor": "0 6 * * *"},
    "labels": {"maturity": "P1D", "min_coverage": 0.8},
    "performance": {"metric": "neg_mean_absolute_error", "window": "P2D", "threshold": -1.0},
    "retrain": {"when": None, "training": {"window": "P5D", "min_rows": 20}},
    # A line without noise: who has learnt the new one is perfect, which elsewhere is suspicious.
    "promotion": {"holdout": "P2D", "min_rows": 20, "too_good": None, "approval": "human"},
}
FEATURES = """
select to_char(cast(:as_of as timestamptz), 'YYYYMMDD') || '-' || i as entity_id,
       cast(i as double precision) as size
from generate_series(1, 30) i
"""
# From the 20th on the same size means twice the load.
LABELS = """
select to_char(night, 'YYYYMMDD') || '-' || i as entity_id, night as event_at, known_at,
       cast(i * case when night < '2026-01-20 02:00+00' then 1 else 2 end as float) as value
from generate_series(timestamptz '2026-01-01 02:00+00', '2026-02-09 02:00+00', '1 day') n (night)
cross join generate_series(1, 30) i
cross join lateral (select night + interval '12 hours' as known_at) k
where known_at > cast(:since as timestamptz) and known_at <= cast(:as_of as timestamptz)
"""
ESTIMATOR = """
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline

def build(numeric, categorical, seed):
    return Pipeline([("line", LinearRegression())])
"""


@dataclass(frozen=True)
class Installation:
    """An installation that runs."""

    site: Site
    airflow: Airflow

    @property
    def url(self) -> str:
        return local.ui_url(self.site)

    def logged_in(self, user: str) -> Airflow:
        """Airflow's API as somebody."""
        return Airflow.log_in(self.url, user, local.logins(self.site)[user])

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        with session(self.site.database_url) as connection:
            return [tuple(row) for row in connection.exec_driver_sql(sql, values)]

    def told(self, family: str) -> list[str]:
        """The titles of the alerts that were sent."""
        lines = (self.site.models / family / "told").read_text().splitlines()
        return [json.loads(line)["text"] for line in lines]

    def answers(self, family: str) -> list[tuple[Any, ...]]:
        """What the audit trail says: the answer, who gave it, the decision, who serves since."""
        return self.rows(
            """
            select w.answer, w.said_by, d.kind, d.reason, w.evidence_hash = a.evidence_hash,
                   (select v.number
                    from nightshift.promotions p join nightshift.versions v using (version_id)
                    where p.decision_id = d.decision_id)
            from nightshift.answers w
            join nightshift.approvals a using (approval_id)
            join nightshift.decisions d using (decision_id)
            join nightshift.models m using (model_id)
            where m.family = %(family)s""",
            family=family,
        )

    def asked(self, family: str) -> list[tuple[Any, ...]]:
        """What was asked for on our pages, by whom and why."""
        return self.rows(
            "select detail ->> 'action', detail ->> 'by', detail ->> 'reason'"
            " from nightshift.events where family = %(family)s and code = 'asked'"
            " order by event_id",
            family=family,
        )


def write_family(models: Path, name: str, response_timeout: str) -> None:
    folder = models / name
    folder.mkdir(parents=True)
    arguments = {"file": str(folder / "told"), "text": "{{ alert.title }}"}
    changes = {
        "family": name,
        "promotion": {**MODEL["promotion"], "response_timeout": response_timeout},
        "alerts": [{"notifier": "notifiers.LinesNotifier", "arguments": arguments}],
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(MODEL | changes))
    (folder / "features.sql").write_text(FEATURES)
    (folder / "labels.sql").write_text(LABELS)
    (folder / "estimator.py").write_text(ESTIMATOR)


def train_first(site: Site, family: str) -> None:
    now = datetime.now(UTC)
    asked = steps.request_retrain(site, family, BEFORE, reason="first", by="test", now=now)
    steps.conclude(site, steps.compare(site, steps.fit(site, asked, now=now), now=now), now=now)


def publish(site: Site, family: str, night: datetime) -> None:
    assert simulation.score_night(site, family, night, now=datetime.now(UTC))


@pytest.fixture(scope="module")
def running() -> Iterator[Installation]:
    """Postgres, families with a champion each, and Airflow's four processes."""
    # Not pytest's own temporary folder: its path may be too long for a socket.
    folder = Path(tempfile.mkdtemp(prefix="nightshift-e2e-"))
    for name, response_timeout in TIMEOUTS.items():
        write_family(folder / "models", name, response_timeout)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NIGHTSHIFT_STATE", str(folder / "state"))
        environment.setenv("NIGHTSHIFT_MODELS", str(folder / "models"))
        environment.setenv("PYTHONPATH", str(HOME / "tests" / "dags"))  # the notifier
        for name, value in PARSED_ONCE.items():
            environment.setenv(name, value)
        environment.setenv("NIGHTSHIFT_PG_PORT", str(free_port()))
        environment.setenv("NIGHTSHIFT_UI_PORT", str(free_port()))
        site = local.site()
        try:
            local.up(site, airflow=False)
            for name in TIMEOUTS:
                train_first(site, name)
            publish(site, WALKED, NIGHT)
            local.up(site)
            airflow = Airflow.log_in(local.ui_url(site), "admin", local.logins(site)["admin"])
            until_listed(airflow, {f"{name}.retrain" for name in TIMEOUTS})
            yield Installation(site, airflow)
        finally:
            local.down(site)
            shutil.rmtree(folder)


@pytest.fixture(scope="module")
def asked(running: Installation) -> dict[str, str]:
    """A retrain of each family, asked for at once so that they share the machine: their ids."""
    trigger = running.airflow.trigger
    return {name: trigger(f"{name}.retrain", as_of=CHANGED.isoformat()) for name in TIMEOUTS}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        installed = shutil.which("chromium")  # else the one of `playwright install chromium`
        # Chromium's sandbox refuses to work for root, who runs tests in containers.
        arguments = ["--no-sandbox", "--no-proxy-server"]
        chromium = playwright.chromium.launch(executable_path=installed, args=arguments)
        yield chromium
        chromium.close()


def log_in(running: Installation, browser: Browser, user: str, path: str) -> Page:
    """A page of Airflow's, or of ours, reached through Airflow's login."""
    page = browser.new_page(base_url=running.url)
    page.set_default_timeout(120_000)
    page.goto(path)
    if path.startswith("/nightshift"):
        page.get_by_role("link", name="Log in").click()
    page.get_by_label("Username").fill(user)
    page.locator("input[type=password]").fill(local.logins(running.site)[user])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "/auth/" not in url)
    return page
