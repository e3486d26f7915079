"""Ports that nobody listens on, for servers that tests start."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A port of this machine that is free at this moment."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
