"""The entry that Airflow loads: the pages, and their place in the navigation."""

from __future__ import annotations

from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

from nightshift.web.app import create
from nightshift_airflow.pages import Airflow


class Nightshift(AirflowPlugin):
    name = "nightshift"
    fastapi_apps: ClassVar[list[Any]] = [
        {"app": create(Airflow()), "url_prefix": "/nightshift", "name": "Nightshift"}
    ]
    external_views: ClassVar[list[Any]] = [
        {
            "name": "Nightshift",
            "href": "/nightshift/",
            "destination": "nav",
            "url_route": "nightshift",
        }
    ]
