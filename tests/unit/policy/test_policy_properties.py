"""What a policy never does, whatever it is asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nightshift import policy
from nightshift.data import as_json
from nightshift.documents import Inputs, Shift
from nightshift.family import Models, Retrain
from nightshift.records import Decision, Level, Measurement, Standing, State

NOW = datetime(2026, 11, 3, 6, tzinfo=UTC)
DAY = timedelta(days=1)
NUMBERS = st.floats(-1e6, 1e6)

RULES = st.builds(
    lambda when, days: Retrain.model_validate(
        {
            "when": when,
            "cooldown": timedelta(days=days),
            "training": {"window": "P30D", "min_rows": 50},
        }
    ),
    st.sampled_from(
        [
            None,
            {"shift": {}},
            {"breaches": 1, "of_last": 1},
            {"shift": {"false_alarms": 0.5}, "breaches": 2, "of_last": 3},
            {"signals": {"drift": {"nights": 1, "of_last": 2}}},
        ]
    ),
    st.integers(0, 20),
)
GROUPS = st.none() | st.builds(
    lambda retrain_if, retrains: Models(
        by="kind",
        group_by="region",
        thresholds={"*": 0.0},
        retrain_if=retrain_if,
        retrains=retrains,
    ),
    st.sampled_from(["any", "all", {"at_least": 2}]),
    st.sampled_from(["all", "failing"]),
)


@st.composite
def measurements(draw: st.DrawFn, age: int) -> Measurement:
    states: list[State] = ["measured", "breached", "immature", "undefined"]
    state = draw(st.sampled_from(states))
    told = state in ("measured", "breached")
    value = draw(NUMBERS) if told else None
    reach = draw(st.floats(0, 100))
    as_of = NOW - age * DAY
    return Measurement(
        model_id=1,
        metric="r2",
        as_of=as_of,
        window_start=as_of - 9 * DAY,
        window_end=as_of - 2 * DAY,
        state=state,
        value=value,
        low=None if value is None else value - reach,
        high=None if value is None else value + reach,
        predictions=draw(st.integers(0, 1000)),
        labels=draw(st.integers(0, 1000)),
        threshold=draw(NUMBERS) if state == "breached" else draw(st.none() | NUMBERS),
    )


@st.composite
def standings(draw: st.DrawFn) -> list[Standing]:
    told: list[Level] = ["ok", "warn", "alert"]
    levels = st.lists(st.sampled_from(told), max_size=3).map(tuple)
    found = []
    for number in range(draw(st.integers(1, 6))):
        since = draw(st.none() | st.integers(1, 40))
        measured = draw(st.integers(0, 4))
        found.append(
            Standing(
                model_id=number,
                name=f"m{number}",
                as_of=NOW,
                group=draw(st.sampled_from([None, "east", "west"])),
                measurements=tuple(draw(measurements(age)) for age in range(measured)),
                shift=draw(
                    st.none()
                    | st.builds(Shift, st.floats(0, 99), st.floats(1, 99), st.just(NOW - 3 * DAY))
                ),
                signals=draw(st.dictionaries(st.sampled_from(["drift", "unseen"]), levels)),
                last_retrain=None if since is None else NOW - since * DAY,
                fresh_labels=draw(st.none() | st.integers(0, 3)),
                has_champion=draw(st.booleans()),
                trainable=draw(st.integers(0, 100)),
            )
        )
    return found


def every_standing_gets_one_decision_that_can_be_stored(
    rule: Retrain, found: list[Standing], models: Models | None
) -> None:
    decided = policy.decide(rule, found, models)
    assert [d.model_id for d in decided] == [s.model_id for s in found]
    for decision in decided:
        assert decision.reason
        assert decision.kind in ("keep", "alert", "wait", "retrain")
        as_json(decision.inputs)


def no_retrain_in_cooldown_or_twice_on_the_same_labels(
    rule: Retrain, found: list[Standing], models: Models | None
) -> None:
    asked = policy.decide(rule, found, models)
    asked += [policy.request(rule, one, policy.CALENDAR, "monthly", "ann") for one in found]
    by_id = {one.model_id: one for one in found}
    for decision in asked:
        one = by_id[decision.model_id]
        if decision.kind == "retrain" and one.last_retrain is not None:
            assert NOW - one.last_retrain >= rule.cooldown
            assert one.fresh_labels


def what_cannot_be_told_never_counts_as_failing(
    rule: Retrain, found: list[Standing], models: Models | None
) -> None:
    """Take every measurement and signal away: then nothing but first models is retrained."""
    silent = [
        Standing(
            s.model_id, s.name, NOW, s.group, has_champion=s.has_champion, trainable=s.trainable
        )
        for s in found
    ]
    kinds = {d.kind for d in policy.decide(rule, silent, models) if d.rule != policy.FIRST_MODEL}
    assert kinds <= {"keep"}


# To draw standings takes ten times as long as to decide on them, so all is held against the same.
@settings(max_examples=300, deadline=None)
@given(RULES, standings(), GROUPS)
def test_whatever_the_standings_are(
    rule: Retrain, found: list[Standing], models: Models | None
) -> None:
    every_standing_gets_one_decision_that_can_be_stored(rule, found, models)
    no_retrain_in_cooldown_or_twice_on_the_same_labels(rule, found, models)
    what_cannot_be_told_never_counts_as_failing(rule, found, models)


DECISIONS = st.lists(
    st.builds(
        lambda kind, rule, severity: Decision(1, kind, rule, "why", NOW, Inputs({}), severity),
        st.sampled_from(["keep", "alert", "retrain", "retrain"]),
        st.sampled_from(["shift", "breaches", "on_demand"]),
        st.floats(0, 10),
    ),
    max_size=12,
)


@settings(max_examples=300, deadline=None)
@given(DECISIONS, st.integers(0, 6), st.integers(0, 6))
def test_the_budget_is_never_exceeded_and_no_milder_model_goes_first(
    asked: list[Decision], budget: int, spent: int
) -> None:
    given_ = policy.within_budget(asked, budget, spent)
    assert len(given_) == len(asked)
    granted = [d for d in given_ if d.kind == "retrain" and d.rule != policy.ON_DEMAND]
    deferred = [d for d in given_ if d.kind == "defer"]
    wanting = [d for d in asked if d.kind == "retrain" and d.rule != policy.ON_DEMAND]
    assert len(granted) == min(len(wanting), max(budget - spent, 0))
    assert len(granted) + len(deferred) == len(wanting)
    if granted and deferred:
        assert min(d.severity for d in granted) >= max(d.severity for d in deferred)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(0, 10))
def test_a_model_that_keeps_failing_is_retrained_once_a_cooldown(
    failing: list[bool], cooldown: int
) -> None:
    rule = Retrain.model_validate(
        {
            "when": {"breaches": 1, "of_last": 1},
            "cooldown": timedelta(days=cooldown),
            "training": {"window": "P30D"},
        }
    )
    last: datetime | None = None
    for number, fails in enumerate(failing):
        now = NOW + number * DAY
        state: Any = "breached" if fails else "measured"
        latest = Measurement(
            1, "r2", now, now - 9 * DAY, now - 2 * DAY, state, -9.0, -9.5, -8.5, 100, 100, -8.0
        )
        one = Standing(1, "horn", now, measurements=(latest,), last_retrain=last, fresh_labels=1)
        [decision] = policy.decide(rule, [one])
        if decision.kind == "retrain":
            assert fails
            assert last is None or now - last >= rule.cooldown
            last = now
        elif fails:
            assert last is not None
            assert now - last < rule.cooldown
