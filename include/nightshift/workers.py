"""Processes that live through nights beside each other on the cores of one machine."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.managers import SyncManager
from threading import Thread
from typing import Any

from threadpoolctl import threadpool_limits


@contextmanager
def workers(processes: int) -> Iterator[tuple[ProcessPoolExecutor, Any, Any]]:
    """A pool of so many processes, a queue that tells of them, and an event that stops them."""
    context = multiprocessing.get_context("spawn")
    manager = SyncManager(ctx=context)
    manager.start(_end_with_parent)
    with manager, ProcessPoolExecutor(processes, context, begin_worker) as pool:
        yield pool, manager.Queue(), manager.Event()


def begin_worker() -> None:
    """Keep this process to one thread, and to the life of the process that began it.

    Nights are small, and the processes share the cores. What is loaded already is told so, and what
    is loaded later reads it from the environment.
    """
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    threadpool_limits(limits=1)
    _end_with_parent()


def _end_with_parent() -> None:
    """A process that was killed cannot stop its workers: they see to it themselves."""
    Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "called in a worker"
    parent.join()
    os._exit(1)
