"""Numbers for those who watch platforms, by Airflow's own metrics: ``nightshift.*``.

Where they go is Airflow's setting (``[metrics] otel_on``, ``statsd_on``); where it says nowhere,
nothing is asked. No metric is worth a task: what goes wrong here is a warning in the task's log.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic

from airflow.sdk import conf, get_current_context
from airflow.sdk.observability import stats

from nightshift.family import ModelFamily
from nightshift_airflow import runtime

_DESTINATIONS = ("otel_on", "statsd_on", "statsd_datadog_enabled")

log = logging.getLogger(__name__)


def watched() -> bool:
    """Whether Airflow sends metrics anywhere."""
    return any(conf.getboolean("metrics", name, fallback=False) for name in _DESTINATIONS)


@contextmanager
def timed(step: str) -> Iterator[None]:
    """Tell how many seconds a step takes in this try, and how the try ends."""
    started, state = monotonic(), "failed"
    try:
        yield
        state = "success"
    finally:
        if watched():
            with _unimportant():
                family, _, kind = get_current_context()["ti"].dag_id.rpartition(".")
                tags = {"family": family or "all", "kind": kind, "step": step, "state": state}
                stats.gauge("nightshift.seconds", monotonic() - started, tags=tags)


def tell(family: ModelFamily) -> None:
    """Tell the figures of a family as they stand now: nights, labels, breaches, retrains."""
    if not watched():
        return
    with _unimportant():
        from nightshift.data import connect
        from nightshift.reports import figures_of

        database = connect(runtime.site().database_url)
        for name, number in figures_of(database, family.family, now=runtime.now()).items():
            stats.gauge(f"nightshift.{name}", number, tags={"family": family.family})


@contextmanager
def _unimportant() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whoever receives metrics may fail in any way
        with suppress(Exception):
            log.warning("metrics were not told: %s: %s", type(error).__name__, error)
