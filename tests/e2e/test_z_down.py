"""The end of the installation, which is why this file's name is the last."""

from __future__ import annotations

import psutil
import pytest

from nightshift import local
from nightshift.local.servers import _processes

from .conftest import Installation

pytestmark = pytest.mark.timeout(600)  # on a busy machine; a quiet one needs a tenth


def health(running: Installation) -> set[str]:
    parts = running.airflow.get("monitor/health")
    return {state["status"] for state in parts.values()}


def listening(processes: list[psutil.Process]) -> set[str]:
    """The addresses that these processes listen on."""
    found = [one.net_connections("tcp") for one in processes]
    return {
        each.laddr[0]
        for connections in found
        for each in connections
        if each.laddr and each.status == psutil.CONN_LISTEN
    }


def test_airflow_listens_on_loopback_is_started_once_and_goes_down(running: Installation) -> None:
    processes = _processes(running.site)
    supervisord = psutil.Process(processes._session())
    local.up(running.site)
    assert health(running) == {"healthy"}
    assert psutil.Process(processes._session()) == supervisord
    everything = [supervisord, *supervisord.children(recursive=True)]
    assert listening(everything) == {"127.0.0.1"}

    local.down(running.site)
    assert not any(one.is_running() for one in everything)
    assert not local.airflow_is_running(running.site)
