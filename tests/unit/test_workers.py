"""Processes that share the cores compute with one thread each, and end with who began them."""

from __future__ import annotations

import subprocess
import sys

import psutil

from nightshift.workers import workers


def threads() -> int:
    from sklearn.utils._openmp_helpers import _openmp_effective_n_threads

    count: int = _openmp_effective_n_threads()
    return count


def test_what_is_loaded_after_a_process_was_told_keeps_to_one_thread() -> None:
    with workers(1) as (pool, _, _):
        assert pool.submit(threads).result() == 1


BUSY = """
import os, signal
from nightshift.workers import workers

if __name__ == "__main__":
    with workers(1) as (pool, _, _):
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(signal.pause).result()
"""


def test_workers_end_with_a_process_that_was_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, text=True) as busy:
        assert busy.stdout is not None
        assert busy.stdout.readline().strip().isdigit()
        begun = psutil.Process(busy.pid).children(recursive=True)
        assert len(begun) >= 2  # the worker, and the one that keeps the queue
        busy.kill()
    _, alive = psutil.wait_procs(begun, timeout=30)
    assert not alive
