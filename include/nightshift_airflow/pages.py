"""Serves the pages with Airflow's own login and permissions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import get_user
from fastapi import Request

from nightshift import config
from nightshift.web.host import Act, User
from nightshift_airflow import runtime


class Airflow:
    """Airflow's api-server, as the pages see it."""

    def site(self) -> config.Site:
        return runtime.site()

    async def user(self, request: Request) -> User:
        credentials = await _bearer(request)
        known = await get_user(request, None, credentials)
        return User(known.get_name(), known)

    def allowed(self, user: User, families: Iterable[str], act: Act) -> frozenset[str]:
        method = "GET" if act == "read" else "POST"
        may = get_auth_manager().is_authorized_dag
        return frozenset(
            family
            for family in families
            if may(
                method=method,
                user=user.token,
                access_entity=DagAccessEntity.RUN,
                details=DagDetails(id=f"{family}.score"),
            )
        )

    async def call(
        self, request: Request, method: str, path: str, body: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        raise NotImplementedError

    def run_url(self, dag_id: str, run_id: str | None = None) -> str:
        return f"/dags/{dag_id}" + (f"/runs/{run_id}" if run_id else "")


async def _bearer(request: Request) -> Any:
    from fastapi.security import HTTPBearer

    return await HTTPBearer(auto_error=False)(request)
