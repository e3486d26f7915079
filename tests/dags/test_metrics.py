"""Metrics cost nothing where nobody watches, and never a task where they cannot be told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.dags.conftest import UNREACHABLE

from nightshift.family import load_family
from nightshift_airflow import metrics


def test_where_nobody_watches_nothing_is_asked(
    write_family: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT", UNREACHABLE)
    with caplog.at_level(logging.WARNING):
        metrics.tell(load_family(write_family("flights")))
        with metrics.timed("freeze"):
            pass
    assert caplog.records == []


def test_what_cannot_be_told_is_a_warning(
    write_family: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("AIRFLOW__METRICS__OTEL_ON", "True")
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT", UNREACHABLE)
    with caplog.at_level(logging.WARNING, logger=metrics.__name__):
        metrics.tell(load_family(write_family("flights")))
        with metrics.timed("freeze"):  # outside of a task there is no context to tell it by
            pass
    assert [record.getMessage().partition(": ")[0] for record in caplog.records] == [
        "metrics were not told"
    ] * 2


def test_an_error_of_a_step_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__METRICS__OTEL_ON", "True")
    with pytest.raises(ZeroDivisionError), metrics.timed("freeze"):
        1 / 0  # noqa: B018
