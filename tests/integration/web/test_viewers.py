"""Who may only look, on every route with every method: nothing is done, nothing else is seen."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.routing import Mount, Route
from tests.hosts import Door, served
from tests.world import FAMILY, World

from nightshift.web.host import Act, User

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
FORM = {"reason": "r", "number": "0" * 16, "as_of": "2026-01-11T02:00:00Z", "answer": "approved"}


def counts(world: World) -> dict[str, int]:
    """How many rows each table has."""
    tables = (
        "select c.oid::regclass::text as name from pg_class c"
        " where relkind = 'r' and relnamespace = 'nightshift'::regnamespace"
    )
    return {
        name: world.rows(f"select count(*) from {name}")[0][0] for (name,) in world.rows(tables)
    }


@dataclass(frozen=True)
class Looking(Door):
    """A host whose users may look at their families and do nothing."""

    def allowed(self, user: User, families: Iterable[str], act: Act) -> frozenset[str]:
        return super().allowed(user, families, act) if act == "read" else frozenset()


@pytest.fixture
def told(world: World) -> World:
    """Something to look at: a champion, two nights, a measurement."""
    world.train(9)
    world.score(10)
    world.score(11)
    world.monitor(12)
    return world


def routes(app: Any, below: str = "") -> Iterator[tuple[str, str]]:
    """Each path of ours as it is written, with each of the examples filled in."""
    for route in app.routes:
        if isinstance(route, Mount):
            yield from routes(route.app, below + route.path)
        elif isinstance(route, Route):
            written = below + route.path
            for action in ("hold", "release") if "{action}" in written else ("",):
                yield written, re.sub(r"{(\w+)(:\w+)?}", partial(_example, action), written)


def _example(action: str, part: re.Match[str]) -> str:
    examples = {
        "family": FAMILY,
        "model": FAMILY,
        "number": "1",
        "decision_id": "1",
        "approval_id": "1",
        "as_of": "2026-01-11T02:00:00Z",
        "entity_id": "20260111-7",
        "name": "style.css",
        "action": action,
    }
    return examples[part[1]]


def ask(client: TestClient, method: str, path: str) -> Any:
    if "/api/v1" in path:
        rows = {"rows": [{"entity_id": "a", "size": 1, "kind": "k1"}]}
        return client.request(method, path, json=rows if method == "POST" else None)
    return client.request(method, path, data=FORM if method == "POST" else None)


def test_a_viewer_sees_their_family_and_changes_nothing_by_any_route(told: World) -> None:
    app = served(Looking(told.site, {"eve": (FAMILY,)}, ()))
    found = list(routes(app))
    assert len([path for _, path in found if "/actions/" in path]) >= 6
    assert len([path for _, path in found if "/api/v1/" in path]) >= 11
    before = counts(told)
    with TestClient(app, headers={"Authorization": "Bearer eve"}) as client:
        for written, path in found:
            for method in METHODS:
                answer = ask(client, method, path)
                where = (method, path, answer.status_code)
                if method not in ("GET", "HEAD"):
                    assert answer.status_code in (403, 404, 405), where
                elif "/actions/" in written:
                    assert answer.status_code in (403, 405), where
                else:
                    assert answer.status_code in (200, 307, 404, 405), where
    assert counts(told) == before


def test_who_may_see_no_family_learns_nothing_of_one_by_any_route(told: World) -> None:
    app = served(Looking(told.site, {"eve": ()}, ()))
    before = counts(told)
    with TestClient(app, headers={"Authorization": "Bearer eve"}) as client:
        for written, path in routes(app):
            for method in METHODS:
                answer = ask(client, method, path)
                where = (method, path, answer.status_code)
                if "{family}" in written:
                    assert answer.status_code in (403, 404, 405), where
                # What was asked for may be repeated; figures, owners and reasons may not.
                for word in ("ops", "neg_mean_absolute_error", "The load of a machine"):
                    assert word not in answer.text, where
    assert counts(told) == before
