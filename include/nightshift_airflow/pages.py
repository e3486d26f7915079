"""Serves the pages with Airflow's own login, permissions and API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import httpx
from airflow.api_fastapi.app import API_ROOT_PATH, get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import bearer_scheme, get_user
from airflow.configuration import conf
from airflow.models.dag import DagModel
from fastapi import HTTPException, Request

from nightshift.family import ModelFamily
from nightshift.site import Site
from nightshift.web import Act, User
from nightshift_airflow import runtime, wiring

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_AIRFLOW = "nightshift.airflow"
"""Where a request keeps the application that ours is mounted in."""

_CALL_SECONDS = 60
"""How long a token for one call of Airflow's API is good for, and how long we wait for it."""

_NEEDED: Mapping[Act, tuple[tuple[str, str, DagAccessEntity], ...]] = {
    "read": (("GET", "score", DagAccessEntity.RUN),),
    "act": tuple(("POST", kind, DagAccessEntity.RUN) for kind in ("score", "retrain", "rollback")),
    "approve": (("PUT", "retrain", DagAccessEntity.HITL_DETAIL),),
}
"""What Airflow must allow of which of a family's DAGs."""


class Airflow:
    """Airflow's api-server, as the pages see it."""

    def site(self) -> Site:
        return runtime.site()

    async def user(self, request: Request) -> User:
        airflow_user = await get_user(request, None, await bearer_scheme(request))
        return User(airflow_user.get_name(), airflow_user)

    def login_url(self, to: str) -> str:
        return f"{API_ROOT_PATH}api/v2/auth/login?next={quote(to, safe='/')}"

    def origin(self) -> str | None:
        base = urlsplit(conf.get("api", "base_url", fallback=""))
        return f"{base.scheme}://{base.netloc}" if base.netloc else None

    def allowed(self, user: User, families: Iterable[str], act: Act) -> frozenset[str]:
        names = list(families)
        teams = _teams(f"{family}.{kind}" for family in names for _, kind, _ in _NEEDED[act])

        def may(family: str) -> bool:
            return all(
                get_auth_manager().is_authorized_dag(
                    method=method,
                    access_entity=entity,
                    details=DagDetails(id=dag_id, team_name=teams.get(dag_id)),
                    user=user.token,
                )
                for method, kind, entity in _NEEDED[act]
                for dag_id in (f"{family}.{kind}",)
            )

        return frozenset(filter(may, names))

    async def call(
        self, request: Request, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        user: User = request.state.nightshift_user
        # Not the user's own cookie: Airflow may have renewed it a moment ago, on the way to us.
        token = get_auth_manager().generate_jwt(
            user.token, expiration_time_in_seconds=_CALL_SECONDS
        )
        headers = {"Authorization": f"Bearer {token}", "Referer": str(request.url)}
        inside = httpx.ASGITransport(request.scope[_AIRFLOW], raise_app_exceptions=False)
        base = f"{request.url.scheme}://{request.url.netloc}{API_ROOT_PATH}api/v2"
        async with httpx.AsyncClient(transport=inside, timeout=_CALL_SECONDS) as airflow:
            answer = await airflow.request(method, base + path, json=body, headers=headers)
        if answer.is_error:
            raise HTTPException(answer.status_code, _sentence(answer))
        reply: Mapping[str, Any] = answer.json()
        return reply

    def partition_key(self, family: ModelFamily, as_of: datetime) -> str:
        return wiring.partition_key(family, as_of)

    def run_url(self, dag_id: str, run_id: str | None = None) -> str:
        run = f"/runs/{quote(run_id, safe='')}" if run_id else ""
        return f"{API_ROOT_PATH}dags/{quote(dag_id)}{run}"


class Mounted:
    """Middleware of Airflow's application: tells what is mounted in it where it is mounted."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope[_AIRFLOW] = scope["app"]
        await self._app(scope, receive, send)


def _teams(dag_ids: Iterable[str]) -> Mapping[str, str | None]:
    """The team of each DAG, where Airflow keeps teams apart."""
    if not conf.getboolean("core", "multi_team"):
        return {}
    teams: Mapping[str, str | None] = DagModel.get_dag_id_to_team_name_mapping(list(dag_ids))
    return teams


def _sentence(answer: httpx.Response) -> str:
    """What Airflow says about a request that it refuses."""
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = answer.text
    if isinstance(detail, dict):  # as of a conflict in its database
        detail = detail.get("reason", detail)
    return f"Airflow refuses: {detail}"
