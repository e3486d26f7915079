"""The pages under uvicorn, to somebody who may read everything: ``URL FOLDER PORT``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request

from nightshift.family import ModelFamily
from nightshift.site import Site, default_home
from nightshift.web.app import create
from nightshift.web.host import Act, User


class Everybody:
    """A host without Airflow: whoever asks may read."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def site(self) -> Site:
        return self._site

    async def user(self, request: Request) -> User:
        return User("everybody", None)

    def login_url(self, to: str) -> str:
        return to

    def origin(self) -> str | None:
        return None

    def allowed(self, user: User, families: Iterable[str], act: Act) -> frozenset[str]:
        return frozenset(families if act == "read" else ())

    async def call(
        self, request: Request, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        raise NotImplementedError

    def partition_key(self, family: ModelFamily, as_of: datetime) -> str:
        return as_of.isoformat()

    def run_url(self, dag_id: str, run_id: str | None = None) -> str:
        return f"/dags/{dag_id}" + (f"/runs/{run_id}" if run_id else "")


def main() -> None:
    database_url, folder, port = sys.argv[1:]
    home = default_home()
    site = Site(home, Path(folder), home / "include" / "models", database_url, {})
    outer = FastAPI()
    outer.mount("/nightshift", create(Everybody(site)))
    uvicorn.run(outer, host="127.0.0.1", port=int(port), log_level="warning")


if __name__ == "__main__":
    main()
