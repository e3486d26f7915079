"""Processes that share the cores compute with one thread each."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from nightshift import simulation


def threads() -> int:
    from sklearn.utils._openmp_helpers import _openmp_effective_n_threads

    found: int = _openmp_effective_n_threads()
    return found


def test_what_is_loaded_after_a_process_was_told_keeps_to_one_thread() -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, simulation.one_thread) as pool:
        assert pool.submit(threads).result() == 1
