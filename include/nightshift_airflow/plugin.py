"""What Airflow loads by the entry point ``airflow.plugins``: the pages, and their navigation.

Every process of Airflow's loads plugins, each task as well. Only the api-server asks what the
properties below hold, so only there the pages are imported.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from airflow.plugins_manager import AirflowPlugin
from airflow.sdk import conf


class Nightshift(AirflowPlugin):
    name = "nightshift"

    @cached_property
    def fastapi_apps(self) -> list[Any]:
        from nightshift.web import create
        from nightshift_airflow.pages import Airflow

        return [{"app": create(Airflow()), "url_prefix": "/nightshift", "name": "Nightshift"}]

    @cached_property
    def fastapi_root_middlewares(self) -> list[Any]:
        from nightshift_airflow.pages import Mounted

        return [{"middleware": Mounted, "name": "Nightshift"}]

    @cached_property
    def external_views(self) -> list[Any]:
        root = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
        return [
            {
                "name": "Nightshift",
                "href": f"{root}/nightshift/",
                "destination": "nav",
                "url_route": "nightshift",
            }
        ]
