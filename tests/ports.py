"""Ports that nobody listens on, for servers that tests start."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

BELOW_THOSE_OF_CLIENTS = range(20_000, 32_000)
"""Systems give outgoing connections ports from 32768 on: one of these stays free until a server
that starts later listens on it."""


def free_port() -> int:
    """A port of this machine that is free at this moment."""
    chance = random.SystemRandom()  # processes that test side by side shall not meet
    while True:
        port = chance.choice(BELOW_THOSE_OF_CLIENTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
