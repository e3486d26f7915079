"""What the pages need of whoever serves them: a login, permissions, and runs that are started."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol, cast

from fastapi import Depends, Request

from nightshift.family import ModelFamily
from nightshift.site import Site

Act = Literal["read", "act", "approve"]
"""To see the nights of a family; to start runs of it, or hold it; to answer for its challengers."""


@dataclass(frozen=True)
class User:
    """Who is asking, as the host knows them; ``token`` is what the host made of it."""

    name: str
    token: Any


class Host(Protocol):
    """Airflow, behind the pages."""

    def site(self) -> Site:
        """This installation."""

    async def user(self, request: Request) -> User:
        """Who is asking; an HTTPException 401 or 403 where nobody may say so."""

    def login_url(self, to: str) -> str:
        """Where people log in, to come back to the path ``to``."""

    def origin(self) -> str | None:
        """What people's browsers call the host: ``https://airflow.example.org``; None if untold."""

    def allowed(self, user: User, families: Iterable[str], act: Act) -> frozenset[str]:
        """Those of the families whose nights a user may see, or act upon."""

    async def call(
        self, request: Request, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """Ask the host's own API, as the user who asks us; an HTTPException where it refuses.

        Parameters
        ----------
        path
            Below the API's root, with a query if need be: ``/dags/air_time.score/dagRuns``.
        """

    def partition_key(self, family: ModelFamily, as_of: datetime) -> str:
        """How the host names a night of a family among the runs of its schedule."""

    def run_url(self, dag_id: str, run_id: str | None = None) -> str:
        """The host's page of a DAG, or of one of its runs."""


def host_of(request: Request) -> Host:
    """The host that the application was made for."""
    return cast("Host", request.app.state.host)


async def user_of(request: Request) -> User:
    """Who is asking, known once for each request."""
    if not hasattr(request.state, "nightshift_user"):
        request.state.nightshift_user = await host_of(request).user(request)
    return cast("User", request.state.nightshift_user)


HostDep = Annotated[Host, Depends(host_of)]
UserDep = Annotated[User, Depends(user_of)]
