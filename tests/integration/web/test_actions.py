"""What people may do from the pages, at the seam to whoever serves them.

The host here knows two people by a header and keeps what it is asked to do; tests/e2e asks
Airflow itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
from fastapi import HTTPException, Request
from starlette.testclient import TestClient
from tests.world import World

from nightshift.family import ModelFamily
from nightshift.site import Site
from nightshift.web.app import create
from nightshift.web.host import Act, User

NUMBER = "abcdefgh01234567"
FORM = {"reason": "new routes", "number": NUMBER}


@dataclass
class Desk:
    """A host with ada, who may do everything, and bob, who may look."""

    told: Site
    answers: list[Mapping[str, Any] | HTTPException] = field(default_factory=list)
    calls: list[tuple[str, str, Any]] = field(default_factory=list)

    def site(self) -> Site:
        return self.told

    async def user(self, request: Request) -> User:
        name = request.headers.get("x-user")
        if name is None:
            raise HTTPException(401, "Not authenticated")
        return User(name, None)

    def login_url(self, to: str) -> str:
        return f"/login?next={to}"

    def origin(self) -> str | None:
        return "https://airflow.example.org"

    def allowed(self, user: User, families: Iterable[str], act: Act) -> frozenset[str]:
        able = {"ada": ("read", "act", "approve"), "bob": ("read",)}.get(user.name, ())
        return frozenset(families if act in able else ())

    async def call(
        self, request: Request, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        self.calls.append((method, path, body))
        answer = self.answers.pop(0) if self.answers else {}
        if isinstance(answer, HTTPException):
            raise answer
        return answer

    def partition_key(self, family: ModelFamily, as_of: datetime) -> str:
        return f"{as_of:%Y-%m-%d}"

    def run_url(self, dag_id: str, run_id: str | None = None) -> str:
        return f"/dags/{dag_id}/runs/{run_id}"


@pytest.fixture
def desk(world: World) -> Desk:
    return Desk(world.site)


@pytest.fixture
def ada(desk: Desk) -> Iterator[TestClient]:
    headers = {"x-user": "ada", "accept": "text/html", "sec-fetch-site": "same-origin"}
    with TestClient(create(desk), headers=headers, follow_redirects=False) as client:
        yield client


@pytest.fixture
def asking(world: World) -> World:
    """Version 1 serves, and somebody is asked about version 2."""
    world.train(10)
    world.configure(promotion={"approval": "human"})
    world.train(28)
    world.score(29)
    return world


def asked(world: World) -> list[tuple[str, str, str]]:
    rows = world.rows("select detail from nightshift.events where code = 'asked' order by event_id")
    return [(r.detail["action"], r.detail["by"], r.detail["reason"]) for r in rows]


def test_a_retrain_is_one_run_named_by_its_form(desk: Desk, ada: TestClient, world: World) -> None:
    desk.answers = [{}, HTTPException(409, "it is there already")]
    first, second = (ada.post("/actions/loads/retrain", data=FORM) for _ in range(2))
    assert first.status_code == second.status_code == 303
    assert first.headers["location"] == second.headers["location"]
    conf = {"reason": "new routes", "members": None}
    method, path, body = desk.calls[0]
    assert (method, path) == ("POST", "/dags/loads.retrain/dagRuns")
    assert body == {
        "dag_run_id": f"page-{NUMBER}",
        "logical_date": None,
        "conf": conf,
        "note": "new routes",
    }
    assert desk.calls[1] == desk.calls[0]
    assert asked(world) == [("retrain", "ada", "new routes")]


def test_what_the_host_refuses_is_told_and_not_recorded(
    desk: Desk, ada: TestClient, world: World
) -> None:
    desk.answers = [HTTPException(403, "Airflow refuses: Forbidden")]
    refused = ada.post("/actions/loads/retrain", data=FORM)
    assert refused.status_code == 403
    assert "Airflow refuses: Forbidden" in refused.text
    assert asked(world) == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"reason": "  "}, "reason: "),
        ({"number": "short"}, "number: "),
        ({"number": "../../../etc/passwd!"}, "number: "),
    ],
)
def test_a_form_without_a_reason_or_a_number_of_ours_is_refused(
    desk: Desk, ada: TestClient, changed: dict[str, str], told: str
) -> None:
    refused = ada.post("/actions/loads/retrain", data=FORM | changed)
    assert refused.status_code == 422
    assert told in refused.text
    assert desk.calls == []


def test_the_question_says_what_a_rollback_will_do(ada: TestClient, world: World) -> None:
    world.train(10)
    refused = ada.get("/actions/loads/rollback")
    assert refused.status_code == 409  # there is nothing to go back to
    assert "has no champion before version 1" in refused.text
    world.train(28)
    question = ada.get("/actions/loads/rollback")
    assert "Roll loads back to version 1" in question.text
    assert '<input type="hidden" name="version" value="1">' in question.text
    numbers = {ada.get("/actions/loads/hold").text.partition('number" value="')[2][:16]}
    assert numbers != {ada.get("/actions/loads/hold").text.partition('number" value="')[2][:16]}


def test_a_night_is_asked_for_by_its_partition(desk: Desk, ada: TestClient) -> None:
    night = {"as_of": "2026-01-12T02:00:00+00:00"}
    assert ada.get("/actions/loads/score", params=night).status_code == 200
    done = ada.post("/actions/loads/score", data=FORM | night)
    where, _, query = done.headers["location"].partition("?")
    assert where == "/nights/loads/2026-01-12T02:00:00+00:00"
    assert query == f"action=score&run=loads.score%2Fpage-{NUMBER}"
    assert desk.calls[0][2]["partition_key"] == "2026-01-12"
    for other in ("2026-01-12T03:00:00Z", "2926-01-12T02:00:00Z"):
        refused = ada.post("/actions/loads/score", data=FORM | {"as_of": other})
        assert refused.status_code == 409
        assert "has no night at" in refused.text


class TestApproval:
    def test_the_answer_goes_to_the_run_that_waits(
        self, desk: Desk, ada: TestClient, asking: World
    ) -> None:
        waiting = self.waits(asking, "awaiting_input")
        desk.answers = [{"hitl_details": [waiting]}, {}]
        question = ada.get("/actions/loads/approval/1")
        assert "loads: may version 2 serve instead of version 1?" in question.text
        done = ada.post("/actions/loads/approval/1", data=FORM | {"answer": "approved"})
        assert done.headers["location"] == "/models/loads/loads?action=approved"
        assert desk.calls[1] == (
            "PATCH",
            "/dags/loads.retrain/dagRuns/a%2Bb/taskInstances/approve/0/hitlDetails",
            {"chosen_options": ["Approve"], "params_input": {"why": "new routes"}},
        )
        assert asking.rows("select * from nightshift.answers") == []

    @pytest.mark.parametrize("state", [None, "failed"])
    def test_without_a_run_that_waits_it_is_given_here(
        self, desk: Desk, ada: TestClient, asking: World, state: str | None
    ) -> None:
        desk.answers = [{"hitl_details": [self.waits(asking, state)] if state else []}]
        ada.post("/actions/loads/approval/1", data=FORM | {"answer": "declined"})
        [given] = asking.rows("select answer, said_by from nightshift.answers")
        assert tuple(given) == ("declined", "ada")
        again = ada.get("/actions/loads/approval/1")
        assert again.status_code == 409
        assert "has been answered" in again.text

    def test_an_answer_under_way_is_not_given_twice(
        self, desk: Desk, ada: TestClient, asking: World
    ) -> None:
        given = {"response_received": True, "responded_by_user": {"name": "eve"}}
        given["chosen_options"] = ["Reject"]
        desk.answers = [{"hitl_details": [self.waits(asking, "scheduled") | given]}]
        refused = ada.post("/actions/loads/approval/1", data=FORM | {"answer": "approved"})
        assert refused.status_code == 409
        assert "eve has answered in Airflow: Reject" in refused.text
        assert asking.rows("select * from nightshift.answers") == []

    def waits(self, world: World, state: str | None) -> dict[str, Any]:
        [asked] = world.rows("select evidence_hash from nightshift.approvals")
        task = {"task_id": "approve", "dag_run_id": "a+b", "map_index": 0, "state": state}
        return {
            "body": f"Approval 1; SHA-256 of the evidence: `{asked.evidence_hash}`.",
            "response_received": False,
            "task_instance": task,
        }


def test_who_may_not_look_is_told_of_no_family(ada: TestClient) -> None:
    ada.headers["x-user"] = "eve"
    refused = ada.post("/actions/loads/retrain", data=FORM)
    assert refused.status_code == 404
    assert "or you may not see it" in refused.text


ADDRESSES = ("retrain", "rollback", "score?as_of=2026-01-12T02:00:00Z", "approval/1", "hold")


def test_who_may_look_sees_no_buttons_and_is_refused(
    desk: Desk, ada: TestClient, asking: World
) -> None:
    pages = (
        "/",
        "/families/loads",
        "/models/loads/loads",
        "/decisions/4",
        "/nights/loads/2026-01-30T02:00:00Z",
    )
    buttons = {page: ada.get(page).text.count('class="action"') for page in pages}
    assert buttons == dict(zip(pages, (0, 2, 3, 1, 1), strict=True))
    ada.headers["x-user"] = "bob"
    for page in pages:
        shown = ada.get(page)
        assert shown.status_code == 200, page
        assert "/actions/" not in shown.text
    for address in ADDRESSES:
        asked, said = ada.get(f"/actions/loads/{address}"), ada.post(f"/actions/loads/{address}")
        assert (asked.status_code, said.status_code) == (403, 403)
        assert "bob may not" in said.text
    assert desk.calls == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "same-origin"}, 303),
        ({"sec-fetch-site": "same-origin", "origin": "https://proxy.example"}, 303),
        ({"origin": "http://testserver"}, 303),
        ({"origin": "https://airflow.example.org"}, 303),
        ({"authorization": "Bearer token"}, 303),
        ({}, 403),
        ({"authorization": "Basic of-a-proxy"}, 403),
        ({"sec-fetch-site": "same-site", "origin": "http://testserver"}, 403),
        ({"sec-fetch-site": "none"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://testserver.example.org"}, 403),
    ],
)
def test_a_form_is_taken_from_our_own_pages(
    desk: Desk, headers: dict[str, str], status: int
) -> None:
    with TestClient(create(desk), headers={"x-user": "ada"}, follow_redirects=False) as client:
        answer = client.post("/actions/loads/retrain", data=FORM, headers=headers)
    assert answer.status_code == status
    assert len(desk.calls) == (status == 303)


def test_a_held_family_is_shown_as_such_and_can_be_released(ada: TestClient, world: World) -> None:
    world.train(10)
    done = ada.post("/actions/loads/hold", data=FORM)
    assert done.headers["location"] == "/families/loads?action=hold"
    shown = ada.get("/families/loads?action=hold")
    assert "The family is held by ada since" in shown.text
    assert 'href="/actions/loads/release"' in shown.text
    assert "So nothing is promoted by itself" in ada.get("/actions/loads/retrain").text
    ada.post("/actions/loads/release", data=FORM)
    assert 'href="/actions/loads/hold"' in ada.get("/families/loads").text
    assert world.codes()[-2:] == ["hold", "release"]


def test_requests_share_one_pool_of_connections(ada: TestClient, world: World) -> None:
    before = world.rows("select count(*) as number from pg_stat_activity")[0].number
    for _ in range(5):
        assert ada.get("/").status_code == 200
    after = world.rows("select count(*) as number from pg_stat_activity")[0].number
    assert after - before <= 2


def test_a_database_that_does_not_answer_is_said_to_people(desk: Desk, ada: TestClient) -> None:
    nowhere = "postgresql+psycopg2://nobody@127.0.0.1:9/none"
    desk.told = Site(**{**vars(desk.told), "database_url": nowhere})
    for page in ("/actions/loads/retrain", "/actions/loads/rollback"):
        refused = ada.get(page)
        assert refused.status_code == 503
        assert "cannot reach Postgres" in refused.text
        assert int(refused.headers["retry-after"]) > 0


def test_names_are_escaped(ada: TestClient) -> None:
    shown = ada.get("/actions/<script>/retrain")
    assert "<script>/" not in shown.text
