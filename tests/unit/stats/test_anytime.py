"""The test that may be asked every night: seldom wrong, and soon sure."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from nightshift import stats
from nightshift.stats import Outcomes

TIMES, LOOKS, ROWS = 10_000, 30, 200
DISAGREE = 0.10
CONFIDENCE = 0.95
NEEDED = stats.anytime(np.zeros(0), confidence=CONFIDENCE).needed


def gains(gain: float, seed: int) -> np.ndarray:
    """Nights on which two classifiers disagree about one row in ten, by how much one leads."""
    random = np.random.default_rng(seed)
    ahead = random.binomial(ROWS, (DISAGREE + gain) / 2, (TIMES, LOOKS))
    behind = random.binomial(ROWS - ahead, (DISAGREE - gain) / (2 - DISAGREE - gain))
    drawn: np.ndarray = (ahead - behind) / ROWS
    return drawn


def ever(differences: np.ndarray) -> float:
    """How often there is proof at one of the looks."""
    return float((stats.e_values(differences) >= NEEDED).any(axis=1).mean())


def test_an_equal_challenger_is_seldom_proven_though_every_night_is_looked_at() -> None:
    assert ever(gains(0.0, seed=1)) < 0.035


@pytest.mark.parametrize("tails", ["normal", "student", "uniform"])
def test_the_rate_of_false_proofs_holds_for_differences_of_other_shapes(tails: str) -> None:
    random = np.random.default_rng(2)
    shapes = {
        "normal": random.normal(0, 1e-6, (TIMES, LOOKS)),
        "student": random.standard_t(3, (TIMES, LOOKS)) * 1e6,
        "uniform": random.uniform(-1, 1, (TIMES, LOOKS)),
    }
    assert ever(shapes[tails]) < 0.05


def test_two_points_of_gain_are_proven_within_thirty_nights() -> None:
    assert ever(gains(0.02, seed=3)) > 0.95


def test_no_evidence_comes_of_one_night_of_no_difference_or_of_a_loss() -> None:
    assert stats.anytime(np.array([]), confidence=0.95).value == 0
    assert stats.anytime(np.array([0.3]), confidence=0.95).value == 0
    assert stats.anytime(np.zeros(9), confidence=0.95).value == 0
    assert stats.anytime(np.full(9, -0.3), confidence=0.95).value == 0


def test_the_evidence_is_that_of_the_formula_and_does_not_know_units() -> None:
    nights = np.array([0.2, -0.1, 0.3, 0.25])
    total, squares, n = nights.sum(), (nights**2).sum(), len(nights)
    spread = (n + 1) * squares
    expected = math.sqrt(1 / (n + 1)) * (spread / (spread - total**2)) ** (n / 2)
    found = stats.anytime(nights, confidence=0.95)
    assert found.value == pytest.approx(expected)
    assert found.needed == pytest.approx(10)
    assert stats.anytime(nights * 1e5, confidence=0.95).value == pytest.approx(expected)
    assert stats.anytime(np.full(3000, 7.0), confidence=0.95).proven


@pytest.mark.parametrize(
    ("metric", "task"),
    [
        ("neg_mean_absolute_error", "regression"),
        ("neg_root_mean_squared_error", "regression"),
        ("neg_median_absolute_error", "regression"),
        ("roc_auc", "binary_classification"),
        ("accuracy", "binary_classification"),
        ("balanced_accuracy", "binary_classification"),
    ],
)
def test_nights_differ_by_as_much_as_the_metric_does(metric: str, task: Any) -> None:
    random = np.random.default_rng(5)
    truth = random.integers(0, 2, 4000).astype(float)
    older, newer = (
        Outcomes(truth, np.clip(truth * skill + random.random(4000) * (1 - skill), 0, 1))
        for skill in (0.1, 0.2)
    )
    nights = np.repeat(np.arange(20), 200)
    found = stats.nightly_differences(metric, task, older, newer, nights)
    before, after = (stats.value(metric, task, side) for side in (older, newer))
    assert before is not None
    assert after is not None
    assert len(found) == 20
    assert found.mean() == pytest.approx(after - before, rel=0.05, abs=0.005)
    assert stats.anytime(found, confidence=0.95).proven


def test_a_metric_that_cannot_be_told_has_no_nights() -> None:
    ones = Outcomes(np.ones(8), np.linspace(0, 1, 8))
    nights = np.repeat([0, 1], 4)
    found = stats.nightly_differences("roc_auc", "binary_classification", ones, ones, nights)
    assert len(found) == 0


def test_a_night_on_which_the_metric_is_undefined_is_left_out() -> None:
    truth = np.array([0.0, 1, 0, 1, 1, 1, 1, 1])
    older, newer = (Outcomes(truth, np.abs(truth - shift)) for shift in (0.4, 0.1))
    nights = np.repeat([0, 1], 4)

    def differences(metric: str) -> np.ndarray:
        return stats.nightly_differences(metric, "binary_classification", older, newer, nights)

    assert differences("matthews_corrcoef") == pytest.approx([0.0])
    assert differences("roc_auc") == pytest.approx([0.0])
    # A log loss is a mean of rows: one class is enough for it.
    assert differences("neg_log_loss") == pytest.approx([math.log(0.9 / 0.6)] * 2)
