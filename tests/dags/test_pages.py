"""The pages inside Airflow's own application, asked by nobody in particular."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from airflow.configuration import conf
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from .conftest import HOME

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
WHY_REFUSED = {"detail", "status", "title", "type"}
UNROUTED = ("/", "/nothing", "/static/", "/static/../app.py", "/api/v1/", "/actions/f/no", "//")
EXAMPLES = {"as_of": "2026-01-01T02:00:00Z", "decision_id": "1", "approval_id": "1"}


@pytest.fixture(scope="module")
def airflow() -> Iterator[Any]:
    """Airflow's api-server with the plugin, as it starts; it needs no database to say no."""
    from airflow import plugins_manager, settings
    from airflow.api_fastapi.app import create_app, purge_cached_app

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "PLUGINS_FOLDER", str(HOME / "plugins"))
        patch.setenv("AIRFLOW__API__SECRET_KEY", "0" * 32)
        patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "0" * 64)
        plugins_manager._get_plugins.cache_clear()
        yield create_app()
    purge_cached_app()
    plugins_manager._get_plugins.cache_clear()


def ours(airflow: Any) -> Any:
    return next(r.app for r in airflow.routes if getattr(r, "path", "") == "/nightshift")


def paths(airflow: Any) -> list[str]:
    """An address for each route that there is, and some that there are not."""
    routed = _routed(ours(airflow).routes)
    return [f"/nightshift{path}" for path in (*map(_filled, routed), *UNROUTED)]


def _routed(routes: Iterable[Any], below: str = "") -> Iterator[str]:
    for route in routes:
        if isinstance(route, Mount):
            yield from _routed(route.routes, below + route.path)
        elif isinstance(route, Route):
            yield below + route.path


def _filled(path: str) -> str:
    return re.sub(r"{(\w+)(:\w+)?}", lambda part: EXAMPLES.get(part[1], "x"), path)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x"}, {"Cookie": "_token=x"}])
def test_without_a_login_nobody_gets_anything(airflow: Any, headers: dict[str, str]) -> None:
    asked = paths(airflow)
    assert len(asked) > 25
    with TestClient(airflow) as client:
        for path in asked:
            for method in METHODS:
                answer = client.request(method, path, headers=headers, follow_redirects=False)
                assert answer.status_code in (401, 403), (method, path, answer.status_code)
                assert set(answer.json() if answer.content else ()) <= WHY_REFUSED


def test_a_browser_without_a_login_is_shown_the_way_to_it(airflow: Any) -> None:
    with TestClient(airflow) as client:
        shown = client.get("/nightshift/models/a/b?x=1", headers={"Accept": "text/html"})
    assert shown.status_code == 401
    assert 'href="/api/v2/auth/login?next=/nightshift/models/a/b%3Fx%3D1"' in shown.text


def test_the_navigation_has_an_entry(airflow: Any) -> None:
    from airflow import plugins_manager

    views, _ = plugins_manager._get_ui_plugins()
    assert [(v["name"], v["href"], v["destination"]) for v in views] == [
        ("Nightshift", "/nightshift/", "nav")
    ]
    assert conf.get("api", "base_url", fallback="") == ""
