"""Standings to decisions, comparisons to verdicts: tables of cases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from nightshift import policy, reports
from nightshift.data import as_json
from nightshift.documents import Inputs, Shift
from nightshift.family import AtLeast, GroupRule, Models, Promotion, Retrain
from nightshift.records import (
    BorderCases,
    Candidate,
    Comparison,
    Decision,
    Measurement,
    NightGain,
    SliceDifference,
    Standing,
    State,
    Vote,
)
from nightshift.wording import Gauge

NOW = datetime(2026, 11, 3, 6, tzinfo=UTC)
DAY = timedelta(days=1)
LETTERS: dict[str, State] = {"B": "breached", "m": "measured", "i": "immature", "u": "undefined"}
LOUD = Shift(9.0, 6.0, NOW - 4 * DAY)
QUIET = Shift(2.0, 6.0, NOW - 4 * DAY)


def rule(when: Any, **changes: Any) -> Retrain:
    training = {"window": "P30D", "min_rows": 100}
    return Retrain.model_validate({"when": when, "cooldown": "P7D", "training": training} | changes)


COUNTED = rule({"breaches": 2, "of_last": 3})
ONCE = rule({"breaches": 1, "of_last": 1})
SHIFT = rule({"shift": {}})


def measurement(state: State, as_of: datetime, value: float | None = None) -> Measurement:
    value = {"breached": -9.0, "measured": -7.0}.get(state) if value is None else value
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


def standing(letters: str, **changes: Any) -> Standing:
    """``mBB``: the latest last, as one reads a calendar."""
    measured = tuple(
        measurement(LETTERS[letter], NOW - age * DAY)
        for age, letter in enumerate(reversed(letters))
    )
    common: dict[str, Any] = {"model_id": 1, "name": "horn", "fresh_labels": 900}
    return Standing(as_of=NOW, measurements=measured, **(common | changes))


def decide(rule: Retrain, standing: Standing) -> Decision:
    [decision] = policy.decide(rule, [standing])
    return decision


@pytest.mark.parametrize(
    ("letters", "days_since_retrain", "kind", "rule"),
    [
        ("m", None, "keep", "measured"),
        ("i", None, "keep", "immature"),
        ("u", None, "keep", "undefined"),
        ("", None, "keep", "unmeasured"),
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
def test_breaches_are_counted(
    letters: str, days_since_retrain: int | None, kind: str, rule: str
) -> None:
    last = None if days_since_retrain is None else NOW - days_since_retrain * DAY
    decision = decide(COUNTED, standing(letters, last_retrain=last))
    assert (decision.kind, decision.rule, decision.as_of) == (kind, rule, NOW)


@pytest.mark.parametrize(
    ("letters", "shift", "kind", "rule"),
    [
        ("m", LOUD, "retrain", "shift"),  # the window as a whole may still look well
        ("B", LOUD, "retrain", "shift"),
        ("B", QUIET, "alert", "too_few_breaches"),
        ("m", QUIET, "keep", "measured"),
        ("m", None, "keep", "measured"),  # no threshold, so nothing to be below
        ("i", LOUD, "keep", "immature"),
        ("u", LOUD, "keep", "undefined"),
    ],
)
def test_the_detector_speaks_only_of_what_can_be_judged(
    letters: str, shift: Shift | None, kind: str, rule: str
) -> None:
    decision = decide(SHIFT, standing(letters, shift=shift))
    assert (decision.kind, decision.rule) == (kind, rule)


@pytest.mark.parametrize(
    ("levels", "kind"),
    [
        (("alert", "ok", "alert"), "retrain"),
        (("ok", "alert", "alert"), "keep"),  # the latest must be among them
        (("alert", "warn", "warn", "alert"), "keep"),  # the fourth is too long ago
        ((), "keep"),
    ],
)
def test_a_signal_retrains_only_where_the_rule_names_it(levels: tuple[str, ...], kind: str) -> None:
    named = rule({"signals": {"drift": {"nights": 2, "of_last": 3}}})
    watched = standing("i", signals={"drift": levels, "unseen": ("alert",) * 3})
    assert decide(named, watched).kind == kind
    assert decide(COUNTED, watched).kind == "keep"


def test_a_family_without_a_rule_only_alerts() -> None:
    decision = decide(rule(None), standing("BBB", shift=LOUD))
    assert (decision.kind, decision.rule) == ("alert", "no_retrain_rule")


@pytest.mark.parametrize(("fresh", "kind"), [(0, "alert"), (None, "alert"), (1, "retrain")])
def test_no_second_retrain_on_the_same_labels(fresh: int | None, kind: str) -> None:
    decision = decide(COUNTED, standing("BB", last_retrain=NOW - 9 * DAY, fresh_labels=fresh))
    assert decision.kind == kind


@pytest.mark.parametrize(
    ("trainable", "kind", "rule"),
    [(99, "keep", "too_few_labels"), (100, "retrain", "first_model")],
)
def test_a_new_model_is_trained_when_it_has_labels_enough(
    trainable: int, kind: str, rule: str
) -> None:
    decision = decide(COUNTED, standing("", has_champion=False, trainable=trainable))
    assert (decision.kind, decision.rule) == (kind, rule)


def test_a_calendar_minds_the_cooldown_and_a_person_is_obeyed() -> None:
    lately = standing("m", last_retrain=NOW - 2 * DAY)
    asked = {
        kind: policy.request(COUNTED, lately, kind, "monthly", "ann").kind
        for kind in (policy.CALENDAR, policy.ON_DEMAND)
    }
    assert asked == {"calendar": "alert", "on_demand": "retrain"}
    same = standing("m", last_retrain=NOW - 9 * DAY, fresh_labels=0)
    assert policy.request(COUNTED, same, policy.CALENDAR, "monthly", "ann").rule == "no_new_labels"
    assert policy.request(COUNTED, standing("m"), policy.CALENDAR, "monthly", "a").kind == "retrain"


def test_the_budget_goes_to_the_worst_and_the_rest_is_deferred() -> None:
    asked = [
        Decision(number, "retrain", "shift", "", NOW, Inputs({}), severity)
        for number, severity in enumerate([1.0, 3.0, 2.0])
    ]
    by_hand = Decision(9, "retrain", "on_demand", "", NOW, Inputs({}))
    given = policy.within_budget([*asked, by_hand], budget=3, spent=1)
    assert [decision.kind for decision in given] == ["defer", "retrain", "retrain", "retrain"]
    assert given[0].reason.endswith(
        "deferred: number 3 of 3 by severity, and 1 of the night's 3 retrains are spent already"
    )
    assert given[0].inputs["asked_by"] == "shift"
    assert {d.kind for d in policy.within_budget(asked, budget=2, spent=5)} == {"defer"}


def test_a_decision_explains_itself_with_figures() -> None:
    assert decide(COUNTED, standing("mBB")).reason == (
        "mean absolute error 9, limit 8: surely above it (8.5 to 9.5 on the nights 2026-10-25 to"
        " 2026-11-01; 900 of 1,000 labels known, 90%); 2 of the last 3 measurements are breaches"
    )
    assert decide(SHIFT, standing("m", shift=LOUD)).reason.endswith(
        "the nights since 2026-10-30 say that it got worse for good: evidence 9, and 6 is enough"
    )


# Groups -------------------------------------------------------------------------------------------

LETTER_OF: dict[Vote, str] = {"fail": "B", "pass": "m", "unknown": "i"}


def oracle(rule: GroupRule, votes: tuple[Vote, ...]) -> str:
    """What the words say, by trying what every unknown vote could turn out to be."""

    def fulfilled(failing: list[bool]) -> bool:
        if rule == "any":
            return any(failing)
        if rule == "all":
            return all(failing)
        assert isinstance(rule, AtLeast)
        return sum(failing) >= rule.at_least

    choices = [{"fail": [True], "pass": [False], "unknown": [True, False]}[vote] for vote in votes]
    outcomes = {fulfilled(list(completed)) for completed in product(*choices)}
    if outcomes == {True}:
        return "retrain"
    return "keep" if outcomes == {False} else "wait"


def every_group(largest: int) -> list[tuple[GroupRule, tuple[Vote, ...]]]:
    cases: list[tuple[GroupRule, tuple[Vote, ...]]] = []
    for size in range(1, largest + 1):
        rules: list[GroupRule] = ["any", "all"]
        rules += [AtLeast(at_least=count) for count in range(1, size + 1)]
        cases += product(rules, product(LETTER_OF, repeat=size))
    return cases


def test_every_combination_of_votes_decides_as_the_words_say() -> None:
    cases = every_group(6)
    assert len(cases) == sum((size + 2) * 3**size for size in range(1, 7))
    for group_rule, votes in cases:
        assert policy.group_verdict(group_rule, votes) == oracle(group_rule, votes), (
            group_rule,
            votes,
        )


def test_the_votes_of_models_reach_the_rule_of_their_group() -> None:
    for group_rule, votes in every_group(3):
        models = Models(
            by="kind",
            group_by="region",
            thresholds={"*": -8.0},
            retrain_if=group_rule,
            retrains="failing",
        )
        standings = [
            standing(LETTER_OF[vote], model_id=number, name=f"m{number}", group="east")
            for number, vote in enumerate(votes)
        ]
        decided = policy.decide(ONCE, standings, models)
        verdict = oracle(group_rule, votes)
        expected = {
            "fail": {"retrain": "retrain", "wait": "wait", "keep": "alert"}[verdict],
            "pass": "keep",
            "unknown": "keep",
        }
        assert [decision.kind for decision in decided] == [expected[vote] for vote in votes]


def test_a_decision_in_a_large_group_is_no_longer_than_in_a_small_one() -> None:
    models = Models(by="kind", group_by="region", thresholds={"*": -8.0}, retrain_if="any")
    standings = [
        standing("B" if number % 2 else "m", model_id=number, name=f"m{number}", group="east")
        for number in range(2000)
    ]
    decided = policy.decide(ONCE, standings, models)
    assert max(len(one.reason) + len(as_json(one.inputs)) for one in decided) < 4000
    assert decided[1].inputs["counted"] == {"fail": 1000, "pass": 1000, "unknown": 0}
    assert "1000 of 2000 fail (m1, m3, m5," in decided[1].reason
    assert "and 980 more" in decided[1].reason


def test_groups_do_not_vote_for_each_other_and_new_models_do_not_vote() -> None:
    models = Models(by="kind", group_by="region", thresholds={"*": -8.0}, retrain_if="all")
    decided = policy.decide(
        ONCE,
        [
            standing("B", model_id=1, group="east"),
            standing("m", model_id=2, group="west"),
            standing("", model_id=3, group="east", has_champion=False, trainable=5),
        ],
        models,
    )
    assert [decision.kind for decision in decided] == ["retrain", "keep", "keep"]
    assert [decision.model_id for decision in decided] == [1, 2, 3]


@pytest.mark.parametrize(
    ("champion", "rows", "difference", "low", "kind", "rule"),
    [
        (None, 0, None, None, "ask", "no_better_than_guess"),
        (1, 499, 2.0, 1.0, "reject", "too_few_rows"),
        (1, 500, None, None, "reject", "undefined"),
        (1, 500, 0.0, 0.0, "reject", "no_proof"),  # an equal challenger
        (1, 500, 2.0, -0.1, "shadow", "unproven"),  # better, but it may be chance
        (1, 500, 2.0, 0.5, "shadow", "unproven"),  # not above the margin
        (1, 500, 0.4, 0.1, "reject", "no_proof"),  # not better by the margin on average
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
    comparison = against(
        champion_version=champion,
        row_count=rows,
        champion_value=value,
        challenger_value=value,
        difference=difference,
        low=low,
    )
    decision = policy.judge(comparison, promotion, NOW, model_id=1)
    assert (decision.kind, decision.rule) == (kind, rule)


def against(**changes: Any) -> Comparison:
    """A challenger that has proved itself against version 1, but for what ``changes`` say."""
    proven = Comparison(
        decision_id=7,
        champion_version=1,
        challenger_version=2,
        metric="neg_mean_absolute_error",
        holdout_start=NOW - 9 * DAY,
        holdout_end=NOW - 2 * DAY,
        row_count=900,
        champion_value=-8.0,
        challenger_value=-6.0,
        difference=2.0,
        low=1.0,
        confidence=0.95,
        perfect=0.0,
    )
    return replace(proven, **changes)


def test_the_evidence_has_every_figure_that_speaks_for_or_against_a_challenger() -> None:
    found = against(
        candidates=(Candidate(2, 5, "trained", -6.0, 2.0, 1.0), Candidate(1, 3, "earlier", None)),
        slices=(SliceDifference("gate=A|B", 90, -0.5, None),),
        border_cases=BorderCases(12, -1.0, -0.75),
    )
    promotion = Promotion.model_validate({"holdout": "P7D", "approval": "human"})
    verdict = policy.judge(found, promotion, NOW, model_id=1)
    assert (
        reports.evidence(found, verdict, Gauge(found.metric, "minutes of error"))
        == f"""\
**approval**: {verdict.reason}

Compared on 900 rows that nobody has learnt from: the nights after 2026-10-25 06:00Z until\
 2026-11-01 06:00Z.

| version | minutes of error | better by | at least |
| --- | --- | --- | --- |
| the champion | 8 | - | - |
| version 5 (trained) | 6 | 2 | 1 |
| version 3 (earlier) | - | - | - |

| slice | rows | better by | at most |
| --- | --- | --- | --- |
| gate=A\\|B | 90 | -0.5 | - |

| border cases | champion | challenger |
| --- | --- | --- |
| 12 | 1 | 0.75 |"""
    )


FIRST = {"champion_version": None, "champion_value": None, "difference": None, "low": None}


@pytest.mark.parametrize(
    ("promotion", "found", "kind", "rule", "said"),
    [
        ({}, {}, "promote", "proof", "25% better: mean absolute error 6 instead of 8 on 900 later"),
        ({}, {"unscorable": "no column x"}, "promote", "unscorable", "no column x"),
        ({}, {"unscorable": "no x", "row_count": 1}, "promote", "unscorable", "version can"),
        (
            {"approval": "human"},
            {"unscorable": "no column x"},
            "ask",
            "unscorable",
            "cannot score",
        ),
        (
            {},
            {
                "unscorable": "x",
                **FIRST,
                "champion_version": 1,
                "challenger_value": -0.001,
                "baseline": -10.0,
            },
            "ask",
            "unscorable",
            "suspicious",
        ),
        (
            {},
            {"border_cases": BorderCases(12, -1.0, -1.5)},
            "reject",
            "border_cases",
            "on 12 border cases it is worse, mean absolute error 1.5 instead of 1",
        ),
        ({}, {"border_cases": BorderCases(12, -1.0, -1.0)}, "promote", "proof", ""),
        (
            {},
            {"border_cases": BorderCases(12, -1.0, None)},
            "reject",
            "border_cases",
            "cannot be told",
        ),
        (
            {"max_slice_drop": 0.5},
            {"slices": (SliceDifference("origin=JFK", 90, -1.0, -0.6),)},
            "reject",
            "slice",
            "on origin=JFK it is worse by 1 in mean absolute error, at least 0.6",
        ),
        (
            {"max_slice_drop": 0.5},
            {"slices": (SliceDifference("origin=JFK", 90, -1.0, -0.4),)},
            "promote",
            "proof",
            "",
        ),
        ({}, {"slices": (SliceDifference("origin=JFK", 90, -1.0, -0.6),)}, "promote", "proof", ""),
        (
            {},
            {"challenger_value": -3.5, "difference": 4.5, "low": 4.1},
            "ask",
            "too_good",
            "wins at least 51% of what the champion falls short of perfection",
        ),
        ({"too_good": None}, {"challenger_value": -3.5, "low": 4.1}, "promote", "proof", ""),
        # Not much better than the champion once was: 2.5 is 42% of what 6 leaves.
        (
            {},
            {"champion_reference": -6.0, "challenger_value": -3.5, "low": 4.1},
            "promote",
            "proof",
            "",
        ),
        (
            {},
            {"champion_reference": -8.5, "challenger_value": -3.5, "low": 4.1},
            "ask",
            "too_good",
            "wins at least 51% of what the champion falls short of perfection",
        ),
        ({}, {"challenger_value": -3.5, "difference": 4.5, "low": 3.9}, "promote", "proof", ""),
        (
            {},
            {"champion_value": -0.03, "challenger_value": -0.02, "low": 0.005, "baseline": -8.0},
            "ask",
            "too_good",
            "99.7% of what guessing the same for all falls short",
        ),
        (
            {},
            {**FIRST, "challenger_value": -0.1, "baseline": -8.0},
            "ask",
            "too_good",
            "0.1 is suspicious: that wins 99%",
        ),
        (
            {},
            {**FIRST, "challenger_value": -1.0, "baseline": -8.0},
            "promote",
            "unopposed",
            "nobody to beat",
        ),
        (
            {},
            {**FIRST, "challenger_value": -8.0, "guess": -7.5},
            "ask",
            "no_better_than_guess",
            "mean absolute error 8 on 900 later rows, and a constant guess comes to 7.5",
        ),
        ({}, {**FIRST, "guess": -12.0}, "promote", "unopposed", "nobody to beat"),
        ({"shadow": "P7D"}, {}, "shadow", "proof", "beside the champion for 7 days"),
        ({"approval": "human"}, {}, "ask", "approval", "a person is asked"),
        ({"approval": "human"}, {"low": 0.0}, "shadow", "unproven", "its evidence carried along"),
        ({"unproven": None}, {"low": 0.0}, "reject", "no_proof", "25% better, which is no proof"),
        ({"approval": "human"}, FIRST, "promote", "unopposed", ""),
    ],
)
def test_what_stands_between_proof_and_promotion(
    promotion: dict[str, Any], found: dict[str, Any], kind: str, rule: str, said: str
) -> None:
    gate = Promotion.model_validate({"holdout": "P7D", "min_rows": 500, **promotion})
    decision = policy.judge(against(**found), gate, NOW, model_id=1)
    assert (decision.kind, decision.rule) == (kind, rule)
    assert said in decision.reason


def test_an_earlier_champion_is_told_as_one() -> None:
    won = against(candidates=(Candidate(2, 4, "earlier", -6.0, 2.0, 1.0),))
    gate = Promotion.model_validate({"holdout": "P7D", "min_rows": 500})
    decision = policy.judge(won, gate, NOW, model_id=1, say_as="minutes of error")
    assert decision.reason == (
        "the earlier champion, version 4, is 25% better: 6 instead of 8 minutes of error on 900"
        " later rows, at least 12% better (with 95% confidence)"
    )


GAINS = tuple(
    NightGain(NOW - (9 - day) * DAY, gain)
    for day, gain in enumerate((2.0, -0.6, 1.6, -0.5, 1.1, -0.9, 1.5))
)
LIKELY = {"difference": 0.6, "low": -0.4, "gains": GAINS, "champion_value": -12.0}


def test_a_champion_below_its_threshold_is_replaced_by_what_is_better_and_surely_not_worse() -> (
    None
):
    rule = Promotion.model_validate({"holdout": "P7D", "min_rows": 500})
    below = policy.judge(against(**LIKELY), rule, NOW, 1, below=True)
    healthy = policy.judge(against(**LIKELY), rule, NOW, 1)
    strict = rule.model_copy(update={"tolerance": 0.01})
    assert (below.kind, below.rule) == ("promote", "not_worse")
    assert "surely not worse by 20% (promotion.tolerance)" in below.reason
    assert (healthy.kind, healthy.rule) == ("shadow", "unproven")
    assert policy.judge(against(**LIKELY), strict, NOW, 1, below=True).kind == "shadow"


def test_rows_that_the_champion_has_learnt_count_as_rows_of_the_holdout() -> None:
    rule = Promotion.model_validate({"holdout": "P7D", "min_rows": 500})
    found = against(row_count=300, holdout_rows=600)
    assert policy.judge(found, rule, NOW, 1).kind == "promote"
    assert policy.judge(replace(found, holdout_rows=499), rule, NOW, 1).rule == "too_few_rows"


def test_members_of_a_night_have_one_verdict_but_for_who_is_surely_worse() -> None:
    rule = Promotion.model_validate({"holdout": "P7D", "min_rows": 8})
    steady = tuple(NightGain(night.as_of, 0.5 + 0.1 * night.gain) for night in GAINS)
    few = against(difference=None, low=None, gains=steady, holdout_rows=1, row_count=1)
    much_worse = against(
        difference=-5.0,
        low=-6.0,
        holdout_rows=1,
        gains=tuple(NightGain(night.as_of, -5.0 + 0.1 * night.gain) for night in GAINS),
    )
    pool = policy.together([few] * 10, rule, below=True)
    assert pool.ruling.kind == "promote"
    assert policy.judge(few, rule, NOW, 1, below=True, pool=pool).rule == "pool"
    worse = policy.judge(much_worse, rule, NOW, 1, below=True, pool=pool)
    assert (worse.kind, worse.rule) == ("reject", "no_proof")
    lost = policy.together([much_worse] * 10, rule, below=True)
    assert policy.judge(few, rule, NOW, 1, below=True, pool=lost).kind == "reject"
    proven = against(holdout_rows=900)
    assert policy.judge(proven, rule, NOW, 1, below=True, pool=lost).rule == "proof"


def test_of_two_challengers_the_one_that_may_serve_is_the_better() -> None:
    rule = Promotion.model_validate({"holdout": "P7D"})
    unproven = against(difference=3.0, low=-1.0)
    assert policy.better([unproven, against()], rule, below=False) == 1
    assert policy.better([against(), against(difference=2.5)], rule, below=False) == 1


@pytest.mark.parametrize(
    ("failures", "days", "kind"),
    [(0, 7, "retrain"), (1, 7, "alert"), (1, 14, "retrain"), (9, 55, "alert"), (9, 56, "retrain")],
)
def test_each_challenger_in_a_row_that_does_not_serve_doubles_the_wait(
    failures: int, days: int, kind: str
) -> None:
    found = standing("BBB", last_retrain=NOW - days * DAY, failures=failures)
    assert decide(COUNTED, found).kind == kind


def test_a_challenger_in_shadow_blocks_others_unless_it_cannot_know_of_the_fall() -> None:
    known = {"last_retrain": NOW - 20 * DAY, "shift": LOUD}
    assert LOUD.since is not None
    knowing = standing("m", shadow_learnt_until=LOUD.since, **known)
    unknowing = standing("m", shadow_learnt_until=LOUD.since - DAY, **known)
    assert (decide(SHIFT, knowing).kind, decide(SHIFT, knowing).rule) == ("alert", "in_shadow")
    assert decide(SHIFT, unknowing).kind == "retrain"


@pytest.mark.parametrize("rule", [SHIFT, COUNTED])
def test_a_whole_window_that_is_surely_below_retrains_whatever_is_configured(rule: Retrain) -> None:
    decision = decide(rule, standing("B", whole_window=True, shift=QUIET))
    assert (decision.kind, decision.rule) == ("retrain", "whole_window")
    assert decision.inputs.below
    assert "not" not in decision.reason
    young = decide(SHIFT, standing("B", shift=QUIET))
    assert young.kind == "alert"
    assert "has not served for a whole performance.window yet" in young.reason
