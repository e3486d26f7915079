"""People at work in a browser: in Airflow's pages, and in ours inside them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from nightshift import local

from .conftest import REDIS, Installation
from .families import BEFORE, CHANGED, HASTY, NIGHT, PATIENT, TIMEOUTS, WALKED

pytestmark = pytest.mark.timeout(600)  # on a busy machine; a quiet one needs a fifth
expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        installed = shutil.which("chromium")  # else the one of `playwright install chromium`
        # Chromium's sandbox refuses to work for root, who runs tests in containers.
        arguments = ["--no-sandbox", "--no-proxy-server"]
        chromium = playwright.chromium.launch(executable_path=installed, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def asked(running: Installation, request: pytest.FixtureRequest) -> dict[str, str]:
    """A retrain of each family, asked for at once so that they share the machine: their ids."""
    if REDIS:
        request.getfixturevalue("orphaned")
    trigger = running.airflow.trigger
    return {name: trigger(f"{name}.retrain", as_of=CHANGED.isoformat()) for name in TIMEOUTS}


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


def answers(running: Installation, family: str) -> list[tuple[Any, ...]]:
    """What the audit trail says: the answer, who gave it, the decision, who serves since."""
    return running.rows(
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


def asked_for(running: Installation, family: str) -> list[tuple[Any, ...]]:
    """What was asked for on our pages, by whom and why."""
    return running.rows(
        "select detail ->> 'action', detail ->> 'by', detail ->> 'reason'"
        " from nightshift.events where family = %(family)s and code = 'asked'"
        " order by event_id",
        family=family,
    )


def test_a_click_on_approve_promotes_in_the_name_of_who_clicked(
    running: Installation, asked: dict[str, str], browser: Browser, tmp_path: Path
) -> None:
    dag_id, run_id = f"{PATIENT}.retrain", asked[PATIENT]
    running.airflow.until(dag_id, run_id, approve="awaiting_input", alert_asked="success")
    assert answers(running, PATIENT) == []
    before = [f"{PATIENT}: retrain started", f"{PATIENT}: approval wanted"]
    assert running.titles(PATIENT) == before

    page = log_in(running, browser, "admin", "/required_actions?response_received=false")
    page.get_by_role("link", name=f"{PATIENT}: may version 2 serve instead of version 1?").click()
    expect(page.get_by_text("a person is asked")).to_be_visible()
    expect(page.get_by_role("cell", name="version 2 (trained)")).to_be_visible()
    page.locator("#element_why").fill("the new tariff")
    page.screenshot(path=tmp_path / "approval.png", full_page=True)
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("Response received at")).to_be_visible()
    page.close()  # what Airflow's pages draw and ask for while a run goes on takes half a core

    running.airflow.succeed(dag_id, run_id)
    why = "admin approved version 2 instead of version 1: the new tariff"
    assert answers(running, PATIENT) == [("approved", "admin", "promote", why, True, 2)]
    assert running.titles(PATIENT) == [*before, f"{PATIENT}: promoted"]


def test_without_an_answer_in_time_the_challenger_is_rejected_and_the_run_is_green(
    running: Installation, asked: dict[str, str]
) -> None:
    dag_id, run_id = f"{HASTY}.retrain", asked[HASTY]
    running.airflow.succeed(dag_id, run_id)
    assert running.airflow.tasks(dag_id, run_id)["answer"] == ("success", 1)
    [(said, by, kind, why, same_evidence, serving)] = answers(running, HASTY)
    assert (said, by, kind, same_evidence, serving) == ("timed_out", "nobody", "reject", True, None)
    assert why.startswith("nobody answered since ")
    assert running.titles(HASTY)[-1] == f"{HASTY}: rejected"


@pytest.fixture(scope="module")
def admin(running: Installation, browser: Browser) -> Iterator[Page]:
    """Airflow's home, as somebody sees it who may do everything."""
    page = log_in(running, browser, "admin", "/")
    yield page
    page.close()


def answer(page: Page, reason: str, button: str) -> None:
    """Fill in the page that asks, and click; the page that follows says that it is done."""
    page.get_by_label("Why?").fill(reason)
    page.get_by_role("button", name=button).click()
    page.wait_for_url("**action=*")


def run_of(page: Page) -> str:
    """The run that the page which follows an action links to."""
    query = dict(part.split("=") for part in urlsplit(page.url).query.split("&"))
    return query["run"].rpartition("%2F")[2]


def test_the_navigation_leads_to_a_model_its_decision_its_night_and_its_figures(
    running: Installation, admin: Page
) -> None:
    admin.goto("/")
    admin.get_by_role("link", name="Nightshift").click()
    inside = admin.frame_locator("iframe[title=Nightshift]")
    expect(inside.get_by_role("heading", level=1)).to_be_visible()
    inside.get_by_role("searchbox").fill("walk")
    expect(inside.locator("#grid .models a:visible")).to_have_text([re.compile(WALKED)])
    inside.locator("#grid .models a:visible").click()
    expect(inside.get_by_role("heading", level=1)).to_contain_text(WALKED)
    expect(inside.get_by_role("button", name="Retrain now")).to_be_visible()
    with admin.expect_download() as downloading:
        inside.locator("section[aria-labelledby=decisions] a.csv").click()
    assert downloading.value.path().read_text().startswith("as_of,until,kind,rule,sentence")
    inside.get_by_role("link", name=re.compile("^decision")).last.click()
    expect(inside.get_by_text("first", exact=False).first).to_be_visible()
    inside.get_by_role("navigation").get_by_role("link", name=WALKED).first.click()
    inside.get_by_role("link", name="2026-01-12 02:00Z").first.click()
    expect(inside.get_by_text("30 rows were published")).to_be_visible()
    expect(inside.get_by_role("button", name="Run this night again")).to_be_visible()


def test_an_answer_on_our_page_is_given_in_airflow_in_the_name_of_who_gave_it(
    running: Installation, asked: dict[str, str], admin: Page
) -> None:
    dag_id, run_id = f"{WALKED}.retrain", asked[WALKED]
    running.airflow.until(dag_id, run_id, approve="awaiting_input")
    admin.goto(f"/nightshift/models/{WALKED}/{WALKED}")
    admin.get_by_role("button", name="Approve or reject").click()
    heading = f"{WALKED}: may version 2 serve instead of version 1?"
    expect(admin.get_by_role("heading", name=heading)).to_be_visible()
    question = admin.url
    answer(admin, "looks right", "Approve")
    expect(admin.get_by_text("Your approval is recorded")).to_be_visible()
    running.airflow.succeed(dag_id, run_id)
    why = "admin approved version 2 instead of version 1: looks right"
    assert answers(running, WALKED) == [("approved", "admin", "promote", why, True, 2)]
    assert asked_for(running, WALKED) == [("approved", "admin", "looks right")]
    logged = running.airflow.get("eventLogs", event="update_hitl_detail", dag_id=dag_id)
    assert [line["owner"] for line in logged["event_logs"]] == ["admin"]
    admin.goto(question)
    expect(admin.get_by_role("alert")).to_contain_text("has been answered")


def test_a_rollback_starts_one_run_however_often_it_is_sent(
    running: Installation, asked: dict[str, str], admin: Page
) -> None:
    running.airflow.succeed(f"{WALKED}.retrain", asked[WALKED])
    admin.goto(f"/nightshift/models/{WALKED}/{WALKED}")
    admin.get_by_role("button", name="Roll back").click()
    expect(admin.get_by_role("heading", name="back to version 1")).to_be_visible()
    form = admin.locator("input[name=number]").get_attribute("value")
    answer(admin, "wrong labels", "Roll back")
    again = admin.request.post(
        f"/nightshift/actions/{WALKED}/rollback",
        form={"reason": "wrong labels", "version": "1", "number": str(form)},
        headers={"Origin": running.url},
        max_redirects=0,
    )
    assert again.status == 303
    dag_id, run_id = f"{WALKED}.rollback", run_of(admin)
    running.airflow.succeed(dag_id, run_id)
    assert running.airflow.get(f"dags/{dag_id}/dagRuns")["total_entries"] == 1
    [(kind, reason)] = running.rows(
        "select d.kind, d.reason from nightshift.decisions d join nightshift.models m"
        " using (model_id) where m.family = %(family)s and d.rule = 'by_hand'",
        family=WALKED,
    )
    assert (kind, reason) == ("rollback", "admin: from version 2 back to version 1: wrong labels")


def test_a_night_is_run_again_as_that_night(running: Installation, admin: Page) -> None:
    published = "select batch_id, as_of from nightshift.published where family = %(family)s"
    before = running.rows(published, family=WALKED)
    admin.goto(f"/nightshift/nights/{WALKED}/2026-01-12T02:00:00Z")
    admin.get_by_role("button", name="Run this night again").click()
    answer(admin, "was it right?", "Run again")
    dag_id, run_id = f"{WALKED}.score", run_of(admin)
    running.airflow.succeed(dag_id, run_id)
    run = running.airflow.get(f"dags/{dag_id}/dagRuns/{run_id}")
    assert (run["partition_key"], run["triggering_user_name"], run["note"]) == (
        NIGHT.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "admin",
        "was it right?",
    )
    assert running.rows(published, family=WALKED) == before
    refused = admin.goto("/nightshift/actions/walked/score?as_of=2026-01-12T03:00:00Z")
    assert refused is not None
    assert refused.status == 409
    expect(admin.get_by_role("alert")).to_contain_text("walked has no night at 2026-01-12 03:00")


def test_a_retrain_by_hand_arrives_with_the_name_and_the_reason(
    running: Installation, admin: Page
) -> None:
    admin.goto(f"/nightshift/families/{HASTY}")
    admin.get_by_role("button", name="Retrain now").click()
    answer(admin, "new routes", "Retrain now")
    run_id = run_of(admin)
    run = running.airflow.get(f"dags/{HASTY}.retrain/dagRuns/{run_id}")
    assert (run["conf"], run["triggering_user_name"], run["triggered_by"]) == (
        {"reason": "new routes", "members": None},
        "admin",
        "ui",
    )
    running.airflow.http.patch(
        f"dags/{HASTY}.retrain/dagRuns/{run_id}", json={"state": "failed"}
    ).raise_for_status()


def test_a_family_is_held_and_released(running: Installation, admin: Page) -> None:
    admin.goto(f"/nightshift/families/{PATIENT}")
    admin.get_by_role("button", name="Hold").click()
    answer(admin, "the source is being moved", "Hold")
    held = "select held, said_by, reason from nightshift.holds order by hold_id"
    assert running.rows(held) == [(True, "admin", "the source is being moved")]
    expect(admin.get_by_text("The family is held by admin since")).to_be_visible()
    admin.get_by_role("button", name="Release").click()
    expect(admin.get_by_text("patient is held by admin since")).to_be_visible()
    answer(admin, "it is done", "Release")
    assert running.rows(held)[1:] == [(False, "admin", "it is done")]


BUTTONS = re.compile("Retrain|Roll|Run|Hold|Approve")


def test_a_viewer_sees_no_buttons(running: Installation, browser: Browser) -> None:
    page = log_in(running, browser, "viewer", "/nightshift/")
    expect(page.get_by_role("searchbox")).to_be_visible()
    night = NIGHT.strftime("%Y-%m-%dT%H:%M:%SZ")
    for path in (f"families/{WALKED}", f"models/{WALKED}/{WALKED}", f"nights/{WALKED}/{night}"):
        page.goto(f"/nightshift/{path}")
        expect(page.get_by_role("heading", level=1)).to_contain_text(WALKED)
        expect(page.get_by_role("button", name=re.compile("Retrain|Roll|Run|Hold"))).to_have_count(
            0
        )


ACTIONS = ("retrain", "rollback", "score", "approval/1", "hold", "release")


@pytest.mark.parametrize("action", ACTIONS)
def test_a_viewer_may_do_nothing(running: Installation, action: str) -> None:
    viewer = running.logged_in("viewer").http
    address = f"{running.url}/nightshift/actions/{WALKED}/{action}"
    form = {"reason": "r", "number": "0" * 16, "as_of": BEFORE.isoformat(), "answer": "approved"}
    asked = viewer.get(address, params={"as_of": BEFORE.isoformat()})
    said = viewer.post(address, data=form)
    assert (asked.status_code, said.status_code) == (403, 403)
    assert said.json()["detail"].startswith("viewer may not ")


@pytest.mark.parametrize(
    "sent", [{}, {"Origin": "https://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_what_another_site_sends_with_our_cookie_is_refused(
    running: Installation, sent: dict[str, str]
) -> None:
    token = running.airflow.http.headers["Authorization"].removeprefix("Bearer ")
    address = f"{running.url}/nightshift/actions/{WALKED}/hold"
    form = {"reason": "r", "number": "0" * 16}
    with httpx.Client(cookies={"_token": token}, headers=sent, trust_env=False) as browser:
        refused = browser.post(address, data=form)
        assert browser.get(address).status_code == 200
    assert refused.status_code == 403
    assert "not asked for on a page of ours" in refused.json()["detail"]
    held = "select * from nightshift.holds where family = %(family)s"
    assert running.rows(held, family=WALKED) == []


def test_airflow_refuses_in_its_own_words(running: Installation) -> None:
    form = {"reason": "r", "number": "0" * 16}
    asked = running.airflow.http.post(
        f"{running.url}/nightshift/actions/nobodys/retrain", data=form
    )
    assert asked.status_code == 404
    assert asked.json()["detail"] == "Airflow refuses: Dag with dag_id: 'nobodys.retrain' not found"
