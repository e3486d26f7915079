"""The pages that people open in the morning, and the REST API beside them.

Nothing here imports Airflow: whoever mounts the application hands in a `Host`, which knows who is
asking, what they may do, and how to have a run started.
"""

from fastapi import FastAPI

from nightshift.web.host import Act, Host, User


def create(host: Host) -> FastAPI:
    """The pages and the API, for a host that mounts them under ``/nightshift``."""
    from nightshift.web import app  # what the pages need is loaded by the process that shows them

    return app.create(host)
