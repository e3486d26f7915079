"""Tables that are larger than memory: cut, put in order, and worked on while others are read.

Nothing here holds more than a few pieces at once, however long the stream is.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

BLOCK = 8_192
"""Rows that are read at once of each run while runs are merged."""

FAN_IN = 64
"""How many runs are merged at once: with :data:`BLOCK` this bounds what a merge holds."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def chunked(batches: Iterable[pa.RecordBatch | pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of ``rows`` each, the last one with what is left; none is empty."""
    waiting: deque[pa.Table] = deque()
    held = 0
    for batch in batches:
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
        waiting.append(table)
        held += table.num_rows
        while held >= rows:
            yield _first_rows(waiting, rows)
            held -= rows
    if held:
        yield _first_rows(waiting, held)


def _first_rows(waiting: deque[pa.Table], rows: int) -> pa.Table:
    """The first rows of what waits, in one piece of memory."""
    parts = []
    while rows:
        first = waiting.popleft()
        part = first.slice(0, rows)
        if part.num_rows < first.num_rows:
            waiting.appendleft(first.slice(rows))
        rows -= part.num_rows
        parts.append(part)
    return pa.concat_tables(parts).combine_chunks()


def ordered(
    batches: Iterable[pa.RecordBatch | pa.Table], key: str, *, rows: int, folder: Path
) -> Iterator[pa.Table]:
    """The same rows ordered by a column of text, as one stable sort of them all would.

    Bytes are compared, not letters of some language; nulls come last. What does not fit into
    ``rows`` is sorted piece by piece into files in ``folder``, which are then merged.
    """
    pieces = (piece.sort_by(key) for piece in chunked(batches, rows))
    first = list(itertools.islice(pieces, 2))
    if len(first) < 2:
        yield from first
        return
    names = (folder / f"run-{number}.arrow" for number in itertools.count())
    runs = [_spill([first.pop(0)], next(names)), _spill([first.pop(0)], next(names))]
    runs += [_spill([piece], next(names)) for piece in pieces]
    while len(runs) > FAN_IN:
        groups = [runs[start : start + FAN_IN] for start in range(0, len(runs), FAN_IN)]
        runs = [_spill(_merged(group, key), next(names)) for group in groups]
    yield from _merged(runs, key)


def _spill(tables: Iterable[pa.Table], file: Path) -> Path:
    tables = iter(tables)
    first = next(tables)
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, first.schema) as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(table, max_chunksize=BLOCK)
    return file


def _blocks(run: Path) -> Iterator[pa.Table]:
    # Read, not mapped: pages of a mapped file count as memory of this process.
    with pa.OSFile(str(run), "rb") as source:
        for batch in pa.ipc.open_stream(source):
            yield pa.Table.from_batches([batch])
    run.unlink()


def _merged(runs: Sequence[Path], key: str) -> Iterator[pa.Table]:
    """Runs that are sorted each, as one; of equal rows those of an earlier run come first."""
    waiting = [_blocks(run) for run in runs]
    heads = [next(run) for run in waiting]
    while heads:
        bounds = [head[key][-1].as_py() for head in heads]
        least = min(range(len(heads)), key=lambda n: (bounds[n] is None, bounds[n] or "", n))
        ready = [
            _until(head[key], bounds[least], including=number <= least)
            for number, head in enumerate(heads)
        ]
        parts = [head.slice(0, count) for head, count in zip(heads, ready, strict=True)]
        yield pa.concat_tables(parts).combine_chunks().sort_by(key)
        heads = [head.slice(count) for head, count in zip(heads, ready, strict=True)]
        following = next(waiting[least], None)
        if following is None:
            del heads[least], waiting[least]
        else:
            heads[least] = following


def _until(keys: pa.ChunkedArray, bound: str | None, *, including: bool) -> int:
    """How many of some sorted keys come before a bound, or are equal to it."""
    if bound is None:
        return len(keys) if including else len(keys) - keys.null_count
    before = pc.less_equal(keys, bound) if including else pc.less(keys, bound)
    return pc.sum(before).as_py() or 0


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items; the next one is made in a thread while this one is worked on."""
    coming = iter(items)
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, coming, None)
        while (item := following.result()) is not None:
            following = thread.submit(next, coming, None)
            yield item


def mapped(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int
) -> Iterator[Result]:
    """``work`` done on each item by threads, in the order of the items.

    As many items are under way as there are workers, and one more. An error is raised where its
    item would have come.
    """
    pending: deque[Future[Result]] = deque()
    threads = ThreadPoolExecutor(workers)
    try:
        for item in items:
            pending.append(threads.submit(work, item))
            if len(pending) > workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)
