"""A fall of unknown size, told from nights."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from nightshift.documents import Reference
from nightshift.records import Night
from nightshift.stats.falls import alarms_a_night, bets, deviance, fall, limit_of, shapes

START = datetime(2026, 3, 1, tzinfo=UTC)
KNOWN = Reference(value=-5.0, error=0.2, spread=0.0, deviation=4.0)


def nights(*losses: float | None, labels: int = 24) -> list[Night]:
    return [
        Night(START + timedelta(days=day), labels, labels, None if x is None else -x, None)
        for day, x in enumerate(losses)
    ]


def asked(*losses: float | None, labels: int = 24, reference: Reference | None = KNOWN) -> bool:
    given = nights(*losses, labels=labels)
    return fall(given, -5.5, reference, false_alarms=0.05, perfect=0.0).detected


def test_no_night_is_no_evidence() -> None:
    found = fall([], -5.5, KNOWN, false_alarms=0.05, perfect=0.0)
    assert (found.evidence, found.since, found.detected) == (0.0, None, False)


def test_a_doubled_error_is_told_in_two_nights_however_near_the_reference_lies() -> None:
    # max_drop of 1%: the mirror of the reference would lie at 5.1.
    given = nights(*[5.0] * 20, 10.0, 10.0)
    found = fall(given, -5.05, KNOWN, false_alarms=0.05, perfect=0.0, relative=True)
    assert found.detected
    assert found.since == START + timedelta(days=20)


def test_a_doubled_error_is_told_with_one_row_a_night() -> None:
    assert asked(*[5.0] * 20, *[10.0] * 40, labels=1)
    assert not asked(*[5.0] * 60, labels=1)


def test_good_nights_before_a_fall_excuse_nothing() -> None:
    assert asked(*[1.0] * 60, 12.0, 12.0, 12.0)


def test_nights_without_a_value_are_passed_over() -> None:
    with_gaps = fall(
        nights(5.0, None, 10.0, None, 10.0), -5.5, KNOWN, false_alarms=0.05, perfect=0.0
    )
    without = fall(nights(5.0, 10.0, 10.0), -5.5, KNOWN, false_alarms=0.05, perfect=0.0)
    assert with_gaps.evidence == pytest.approx(without.evidence)


def test_without_a_reference_losses_are_bet_on() -> None:
    assert asked(*[5.0] * 30, *[50.0] * 15, labels=1, reference=None)
    assert not asked(*[5.5] * 100, labels=1, reference=None)


def test_counts_weigh_heavier_than_amounts_of_the_same_mean() -> None:
    # 20 expected and 30 seen: 30 log 1.5 - 10 = 2.16 as counts, 10 - 20 log 1.5 = 1.89 as amounts
    assert deviance(1.5, 20.0, counted=True) == pytest.approx(30 * math.log(1.5) - 10)
    assert deviance(1.5, 20.0) == pytest.approx(10 - 20 * math.log(1.5))


@pytest.mark.parametrize("counted", [False, True])
def test_a_measured_bar_proves_less_than_a_known_one(counted: bool) -> None:
    known = deviance(1.5, 20.0, counted=counted)
    assert deviance(1.5, 20.0, 40.0, counted=counted) < known
    assert deviance(1.5, 20.0, 1e9, counted=counted) == pytest.approx(known, rel=1e-4)


def test_the_limit_falls_with_the_room_and_rises_with_the_promise() -> None:
    limits = [limit_of(24.0, room, 0.05 / 365) for room in (1.0, 1.1, 1.3)]
    assert limits == sorted(limits, reverse=True)
    assert limit_of(24.0, 1.1, 0.01 / 365) > limits[1]


def test_at_the_bar_alarms_are_as_often_as_siegmund_and_venkatraman_say() -> None:
    # half of a phi(a) times the integral of x nu(x)^2 from sqrt(2 limit / 120) to a, two-sided
    limit = 8.0
    a = math.sqrt(2 * limit)
    x = np.linspace(a / math.sqrt(120), a, 4000)
    nu = np.exp(-0.583 * x)
    integral = float(np.sum(x * nu**2) * (x[1] - x[0]))
    expected = a * math.exp(-limit) / math.sqrt(2 * math.pi) * integral / 2
    [rate] = alarms_a_night(np.array([limit]), 1e6, 1.0)
    assert rate == pytest.approx(expected, rel=0.15)


def test_few_rows_of_reference_are_trusted_less() -> None:
    few = Reference(-5.0, error=4.0 / math.sqrt(14), deviation=4.0)
    many = Reference(-5.0, error=4.0 / math.sqrt(1400), deviation=4.0)
    one = np.array([1.0])
    assert shapes(one, 5.0, few)[0] < shapes(one, 5.0, many)[0] <= (5 / 4) ** 2


def test_a_bet_never_wins_on_average_at_the_bar() -> None:
    random = np.random.default_rng(7)
    ends = [math.exp(bets(random.exponential(1.0, 30), 1.0).value) / 30 for _ in range(4000)]
    assert np.mean(ends) < 1.15
