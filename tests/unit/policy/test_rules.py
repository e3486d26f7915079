"""Gate, measure and memory: pure rules."""

from __future__ import annotations

import numpy as np
import pytest

from nightshift.policy.cutoffs import after_break, counts_as_failure, wait
from nightshift.policy.gate import judge, look, select
from nightshift.policy.measure import hardness, shrunk
from nightshift.policy.memory import recollect, spaced

BETTER = np.array([1.0, 1.2, 0.8, 1.1, 0.9, 1.0, 1.3])
LIKELY = np.array([2.0, -0.6, 1.6, -0.5, 1.1, -0.9, 1.5, -0.2])
WORSE = -BETTER


@pytest.mark.parametrize(
    ("gains", "below", "kind", "rule"),
    [
        (BETTER, False, "promote", "proof"),
        (LIKELY, False, "shadow", "unproven"),
        (LIKELY, True, "promote", "not_worse"),
        (WORSE, True, "reject", "no_better"),
        (np.array([]), True, "reject", "no_better"),
        (np.array([5.0]), False, "shadow", "unproven"),
    ],
)
def test_a_champion_below_its_threshold_has_lost_the_benefit_of_the_doubt(
    gains: np.ndarray, below: bool, kind: str, rule: str
) -> None:
    found = judge(gains, champion=12.0, below=below)
    assert (found.kind, found.rule) == (kind, rule)


def test_evidence_of_the_holdout_goes_along_into_the_shadow() -> None:
    assert look(LIKELY, 10.0, below=False).kind == "shadow"
    assert look(np.concatenate([LIKELY, BETTER, BETTER]), 10.0, below=False).rule == "proof"


def test_the_best_on_average_is_selected_and_of_equals_the_first() -> None:
    assert select([np.array([]), LIKELY, BETTER]) == 2
    assert select([np.zeros(3), np.zeros(3)]) == 0
    assert select([np.array([]), np.array([])]) == 0


def test_a_hard_fortnight_excuses_what_its_rows_lie_farther_apart() -> None:
    guess, labels = np.array([12.0, 12.0, np.nan, 90.0, 12.0]), np.array([24.0, 24, 0, 1, 24])
    assert hardness(guess, labels, 10.0) == pytest.approx(1.2)
    assert hardness(guess * 9, labels, 10.0) == 2.0
    assert hardness(guess[2:], labels[2:], 10.0) == 1.0
    assert hardness(guess, labels, None) == 1.0


def test_the_luck_of_a_few_nights_is_no_excuse() -> None:
    # mean 11, standard error 1.5 of it: 10% is well within two of them
    assert hardness(np.array([8.0, 14.0, 11.0]), np.full(3, 24.0), 10.0) == 1.0


def test_references_of_few_rows_are_drawn_to_their_group() -> None:
    values, errors = np.array([1.0, 2.0, 3.0, np.nan]), np.array([1.0, 1.0, 0.01, np.nan])
    drawn = shrunk(values, errors)
    assert drawn[0] > 1.0
    assert drawn[2] == pytest.approx(3.0, abs=0.01)
    assert drawn[3] == pytest.approx(2.0)


def test_the_kept_champions_are_spaced_geometrically() -> None:
    ages = [3.0, 10.0, 17.0, 24.0, 100.0, 360.0]
    kept = spaced(ages, 3)
    assert sorted(ages[place] for place in kept) == [3.0, 24.0, 360.0]
    assert spaced(ages, 9) == [0, 1, 2, 3, 4, 5]


def recollected(*gains: np.ndarray) -> tuple[int, bool] | None:
    found = recollect(gains, confidence=0.95, nights_per_year=365)
    return None if found is None else (found.place, found.proven)


def test_a_past_champion_returns_on_proof_only() -> None:
    assert recollected() is None
    assert recollected(WORSE, np.array([])) is None
    assert recollected(LIKELY, np.array([])) == (0, False)
    assert recollected(LIKELY, np.tile(BETTER, 3)) == (1, True)


def test_a_season_that_turns_late_is_told_all_the_same() -> None:
    # a hundred nights on which the serving one was better take nothing from the last fortnight
    assert recollected(np.concatenate([np.tile(WORSE, 14), np.tile(BETTER, 2)])) == (0, True)


def test_an_equal_champion_of_the_past_seldom_returns() -> None:
    random = np.random.default_rng(3)
    years = [random.normal(size=365) for _ in range(60)]
    looks = range(3, 366, 3)
    returns = [any((recollected(year[:n]) or (0, False))[1] for n in looks) for year in years]
    assert sum(returns) <= 5


def test_after_a_break_half_of_the_nights_since_are_learnt_from() -> None:
    assert after_break([50] * 10, 200, 14) == (5, 5)
    assert after_break([50] * 40, 200, 14) == (26, 14)
    assert after_break([50] * 8, 200, 14) is None
    assert after_break([], 2, 14) is None


def test_a_challenger_that_could_not_know_of_the_fall_lengthens_no_wait() -> None:
    assert not counts_as_failure(since=10, learnt_until=9)
    assert counts_as_failure(since=10, learnt_until=10)
    assert counts_as_failure(since=None, learnt_until=9)
    assert [wait(7, failures) for failures in (0, 1, 2, 9)] == [7, 14, 28, 56]
