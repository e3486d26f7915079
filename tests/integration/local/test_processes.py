"""Background programs: real supervisord, real signals."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.waiting import until

from nightshift.local import Processes

# A parent with a child in a process group of its own, as Airflow's task runners are.
FAMILY = """
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], process_group=0)
print("ready as", os.getpid(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def processes() -> Iterator[Processes]:
    folder = Path(tempfile.mkdtemp(prefix="nightshift-"))
    script = folder / "100% parent.py"
    script.write_text(FAMILY)
    one = Processes(folder / "run", folder / "logs", {"parent": [sys.executable, str(script)]})
    one.folder.mkdir()
    yield one
    one.stop()
    shutil.rmtree(folder)


def running(processes: Processes) -> list[psutil.Process]:
    """The parent and its child, once both are there."""
    members: list[psutil.Process] = []

    def both() -> bool:
        session = processes._session()
        members[:] = [] if session is None else members_of(session)
        return len(members) == 2

    until(both, 30, report=lambda: members)
    return sorted(members, key=lambda one: one.create_time())


def members_of(session: int) -> list[psutil.Process]:
    return [one for one in psutil.process_iter() if is_ours(one, session)]


def is_ours(process: psutil.Process, session: int) -> bool:
    try:
        command = " ".join(process.cmdline())
        return os.getsid(process.pid) == session and command.endswith(("parent.py", "sleep(600)"))
    except (OSError, psutil.Error):
        return False


def test_a_killed_program_comes_back_and_what_it_left_is_gone(processes: Processes) -> None:
    processes.start(os.environ)
    parent, child = running(processes)
    os.kill(parent.pid, signal.SIGKILL)
    until(lambda: parent not in running(processes), 30)
    until(lambda: not child.is_running(), 30)


def test_a_program_starts_with_the_given_environment(processes: Processes) -> None:
    processes.start(os.environ | {"COLOUR": "100% blue"})
    parent, _ = running(processes)
    assert parent.environ()["COLOUR"] == "100% blue"


def test_starting_twice_starts_nothing_more(processes: Processes) -> None:
    processes.start(os.environ)
    before = running(processes)
    processes.start(os.environ)
    assert running(processes) == before


def test_stop_leaves_nothing_running(processes: Processes) -> None:
    processes.start(os.environ)
    before = running(processes)
    processes.stop()
    assert not any(one.is_running() for one in before)
    assert not processes.is_running()
    processes.stop()


def test_stop_ends_what_a_killed_supervisord_left(processes: Processes) -> None:
    processes.start(os.environ)
    before = running(processes)
    session = processes._session()
    assert session is not None
    os.kill(session, signal.SIGKILL)
    until(lambda: not processes.is_running(), 30)
    processes.stop()
    assert not any(one.is_running() for one in before)


def test_a_session_number_that_went_to_somebody_else_is_left_alone(processes: Processes) -> None:
    stranger = psutil.Popen([sys.executable, "-c", "input()"], start_new_session=True, stdin=-1)
    try:
        (processes.folder / "supervisord.pid").write_text(str(stranger.pid))
        processes.stop()
        assert stranger.is_running()
        assert stranger.status() != psutil.STATUS_ZOMBIE
    finally:
        stranger.kill()
        stranger.wait()


def test_what_a_program_says_is_in_its_log(processes: Processes) -> None:
    processes.start(os.environ)
    parent, _ = running(processes)
    until(lambda: f"ready as {parent.pid}" in processes.last_lines("parent"), 30)
