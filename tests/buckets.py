"""A bucket in S3, as a fixture: a real client over HTTP, against moto's server."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest
from moto.server import ThreadedMotoServer

BUCKET = "nightshift-tests"
SECRET = "not-to-be-seen"


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A server that speaks S3, and the environment that leads to it; fsspec's view of it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "somebody")
        environment.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("NO_PROXY", "127.0.0.1")
        files = fsspec.filesystem("s3", use_listings_cache=False)
        files.mkdir(BUCKET)
        yield files
        files.clear_instance_cache()
    server.stop()
