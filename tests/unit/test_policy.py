"""Measurements to decisions, comparisons to verdicts: tables of cases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from nightshift import policy
from nightshift.family import Promotion, Retrain
from nightshift.records import Comparison, Measurement, State

NOW = datetime(2026, 11, 3, 6, tzinfo=UTC)
DAY = timedelta(days=1)
RULE = Retrain.model_validate(
    {
        "when": {"breaches": 2, "of_last": 3},
        "cooldown": "P7D",
        "training": {"window": "P30D"},
    }
)
LETTERS: dict[str, State] = {"B": "breached", "m": "measured", "i": "immature", "u": "undefined"}


def measurement(state: State, as_of: datetime) -> Measurement:
    value = {"breached": -9.0, "measured": -7.0}.get(state)
    return Measurement(
        model_id=1,
        metric="neg_mean_absolute_error",
        as_of=as_of,
        window_start=as_of - 9 * DAY,
        window_end=as_of - 2 * DAY,
        state=state,
        value=value,
        low=None if value is None else value - 0.5,
        high=None if value is None else value + 0.5,
        predictions=1000,
        labels=900,
        threshold=-8.0,
    )


def history(letters: str) -> list[Measurement]:
    """``mBB``: the latest last, as one reads a calendar."""
    return [
        measurement(LETTERS[letter], NOW - age * DAY)
        for age, letter in enumerate(reversed(letters))
    ]


@pytest.mark.parametrize(
    ("letters", "days_since_retrain", "kind", "rule"),
    [
        ("m", None, "keep", "measured"),
        ("i", None, "keep", "immature"),
        ("u", None, "keep", "undefined"),
        ("B", None, "alert", "too_few_breaches"),
        ("BB", None, "retrain", "breaches"),
        ("BmB", None, "retrain", "breaches"),
        ("BBm", None, "keep", "measured"),  # the latest must be among them
        ("BBi", None, "keep", "immature"),
        ("BimB", None, "alert", "too_few_breaches"),  # the first B is the fourth from the end
        ("BuB", None, "retrain", "breaches"),  # undefined is no breach, and hides none
        ("BBB", 6, "alert", "cooldown"),
        ("BBB", 7, "retrain", "breaches"),
    ],
)
def test_decisions(letters: str, days_since_retrain: int | None, kind: str, rule: str) -> None:
    last = None if days_since_retrain is None else NOW - days_since_retrain * DAY
    decision = policy.decide(RULE, history(letters), last)
    assert (decision.kind, decision.rule, decision.as_of) == (kind, rule, NOW)


def test_a_family_without_a_rule_only_alerts() -> None:
    silent = RULE.model_copy(update={"when": None})
    assert policy.decide(silent, history("BBB"), None).kind == "alert"


def test_a_decision_explains_itself_with_figures() -> None:
    assert policy.decide(RULE, history("mBB"), None).reason == (
        "neg_mean_absolute_error over 2026-10-25 to 2026-11-01 is -9 (-9.5 to -8.5), below the"
        " threshold -8; 900 of 1000 labels known (90%); 2 of the last 3 measurements are breaches"
    )


@pytest.mark.parametrize(
    ("champion", "rows", "difference", "low", "kind", "rule"),
    [
        (None, 0, None, None, "promote", "unopposed"),
        (1, 499, 2.0, 1.0, "reject", "too_few_rows"),
        (1, 500, None, None, "reject", "undefined"),
        (1, 500, 0.0, 0.0, "reject", "no_proof"),  # an equal challenger
        (1, 500, 2.0, -0.1, "reject", "no_proof"),  # better, but it may be chance
        (1, 500, 2.0, 0.5, "reject", "no_proof"),  # not above the margin
        (1, 500, 2.0, 0.6, "promote", "proof"),
    ],
)
def test_verdicts(
    champion: int | None,
    rows: int,
    difference: float | None,
    low: float | None,
    kind: str,
    rule: str,
) -> None:
    promotion = Promotion.model_validate({"holdout": "P7D", "margin": 0.5, "min_rows": 500})
    value = None if difference is None else -8.0
    comparison = Comparison(
        champion, 2, "r2", NOW - 9 * DAY, NOW - 2 * DAY, rows, value, value, difference, low
    )
    decision = policy.judge(comparison, promotion, NOW, model_id=1)
    assert (decision.kind, decision.rule) == (kind, rule)
