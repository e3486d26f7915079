"""What people are told, when, and how often: computed from a real database, sent by Airflow."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.hosts import LINES, MONITORING, Airflow
from tests.world import FAMILY, World

from nightshift import policy, reports, simulation
from nightshift.data import connect
from nightshift.documents import Shift
from nightshift.family import Models, Retrain, ShiftRule, Training, When
from nightshift.records import Measurement, Standing
from nightshift.reports import Alert, Run
from nightshift.steps import monitor, retrain

HOME = Path(__file__).resolve().parents[3]
RUN = timedelta(minutes=10)  # how long after its tick a run of these tests ends
BROKEN = "notifiers.BrokenNotifier"

MANY = """
insert into items
select n.night, to_char(n.night, 'YYYYMMDD') || '-' || kind || '-' || i, i::double precision, kind
from generate_series(timestamptz '2026-01-01 02:00+00', '2026-01-20 02:00+00', '1 day') n (night),
     unnest(array[{kinds}]) kind, generate_series(1, 10) i;
insert into truths
select entity_id, night, night + interval '12 hours',
       (case when night < '2026-01-11 02:00+00' then 1 else {after} end) * size + 3
from items where starts_with(kind, 'many');
"""


def raised(
    world: World,
    kind: reports.RunKind,
    as_of: datetime,
    *,
    now: datetime | None = None,
    **run: Any,
) -> list[Alert]:
    """What the run of a moment raises, ten minutes after it."""
    told = Run(kind, as_of, since=as_of, **run)
    database = connect(world.site.database_url)
    return reports.raise_alerts(database, world.site.family(FAMILY), told, now=now or as_of + RUN)


def causes(alerts: list[Alert]) -> dict[str, str]:
    """Messages by cause, each once."""
    found: dict[str, str] = {alert.cause: alert.message for alert in alerts}
    assert len(found) == len(alerts)
    return found


def breach(world: World) -> datetime:
    """A champion of an old world, nights of a new one; when they are measured."""
    world.source("update truths set value = value + 9 where night > '2026-01-12'")
    world.train(9)
    for number in range(10, 15):
        world.score(number)
    world.monitor(14)
    return world.night(14) + MONITORING


def test_a_quiet_night_tells_nothing(world: World) -> None:
    world.train(9)
    world.score(10)
    world.score(11)
    world.score(12)
    world.monitor(12)
    assert raised(world, "score", world.night(12)) == []
    assert raised(world, "monitor", world.night(12) + MONITORING) == []


def test_a_breach_is_told_with_what_follows_from_it(world: World) -> None:
    as_of = breach(world)
    told = raised(world, "monitor", as_of)
    messages = causes(told)
    assert set(messages) == {"breach", "retrain_started"}
    assert messages["breach"].startswith("loads: breached: mean absolute error 9")
    assert ", limit 1: surely above it (" in messages["breach"]
    assert "on the nights 2026-01-12 to 2026-01-14; " in messages["breach"]
    assert messages["breach"].endswith("(as of 2026-01-15 06:00Z)")
    assert [alert.title for alert in told] == ["loads: breached", "loads: retrain started"]
    assert {alert.as_of for alert in told} == {as_of}


def test_thirty_breached_models_are_one_message_that_names_the_ten_worst(world: World) -> None:
    world.configure(
        performance={"threshold": None, "min_labels": 10},
        models={"by": "kind", "thresholds": {"*": -1.0}, "retrains": "failing"},
        retrain={"training": {"window": "P5D", "min_rows": 30}},
        promotion={"holdout": "P2D", "min_rows": 10},
    )
    (world.site.home / "include" / "nightshift.yaml").write_text("retrains_per_night: 20\n")
    kinds = ", ".join(f"'many{n:02}'" for n in range(30))
    world.source(MANY.format(kinds=kinds, after="(2 + right(kind, 2)::int / 10.0)"))
    asked = retrain.request_retrain(
        world.site, FAMILY, world.night(9), reason="t", by="t", now=world.night(9)
    )
    simulation.retrain(world.site, asked, now=world.night(9))
    for number in range(10, 15):
        world.score(number)
    assert len(world.monitor(14)) == 20

    messages = causes(raised(world, "monitor", world.night(14) + MONITORING))

    assert set(messages) == {"breach", "retrain_started"}
    told = messages["breach"]
    assert told.startswith(f"{FAMILY}: 30 of 33 models breached: many")
    assert "and 20 more; decided: retrain 20 and defer 10" in told
    assert told.count(", limit 1") == 10
    assert messages["retrain_started"].startswith(f"{FAMILY}: retrain of 20 of 33 models started: ")


def test_a_rejected_snapshot_is_told_until_its_night_is_published(world: World) -> None:
    world.train(9)
    world.configure(
        expectations=[{"type": "expect_table_row_count_to_be_between", "min_value": 999}]
    )
    as_of = world.night(10)
    assert not world.score(10)
    [told] = raised(world, "score", as_of, failed=["validate"])
    assert (told.cause, told.title) == ("rejected_snapshot", f"{FAMILY}: snapshot rejected")
    assert "expect_table_row_count_to_be_between" in told.message

    world.configure(expectations=[])
    world.score(10)
    assert raised(world, "score", as_of) == []


def test_nights_that_are_late_are_one_message_until_another_one_is(world: World) -> None:
    world.train(9)
    world.score(10)
    as_of = world.night(13) + MONITORING  # the deadline is four hours, too
    [told] = raised(world, "monitor", as_of)
    assert told.cause == "missed_night"
    assert told.message == (
        "loads: 3 nights are missing: 2026-01-14 02:00Z, 2026-01-13 02:00Z and"
        " 2026-01-12 02:00Z not published within 4 hours"
    )
    assert told.as_of == world.night(13)
    [again] = raised(world, "monitor", as_of + timedelta(hours=1))
    assert again == told
    [earlier] = raised(world, "monitor", as_of - timedelta(seconds=1))
    assert earlier.as_of == world.night(12)

    month = timedelta(days=30)
    assert raised(world, "monitor", as_of, now=as_of + month) == []
    for number in (11, 12, 13):
        world.score(number)
    assert raised(world, "monitor", as_of) == []


def test_a_night_before_the_first_published_one_is_not_missed(world: World) -> None:
    assert raised(world, "monitor", world.night(20)) == []


def test_silence_of_the_source_is_told_in_its_own_words(world: World) -> None:
    [told] = raised(world, "monitor", world.night(3), silence="no label for 3 days")
    assert (told.cause, told.title) == ("missing_labels", "loads: labels are missing")
    assert "no label for 3 days" in told.message


def test_signals_at_alert_are_told_and_warnings_are_not(world: World) -> None:
    world.train(9)
    world.score(10)
    [shown] = world.rows(
        "select batch_id, version_ids[1] as version_id from nightshift.published"
        " join nightshift.batches using (batch_id)"
    )
    world.rows("delete from nightshift.signals returning 1")
    for name, feature, value, level in (
        ("missing", "size", 0.31, "alert"),
        ("score_drift", "", 0.5, "alert"),
        ("drift", "kind", 0.2, "warn"),
    ):
        world.rows(
            f"insert into nightshift.signals select {shown.batch_id}, model_id, {shown.version_id},"
            f" '{name}', '{feature}', {value}, '{level}', 30, now()"
            " from nightshift.models returning 1"
        )
    [told] = raised(world, "score", world.night(10))
    assert told.cause == "drift"
    assert told.message == (
        "loads: drift: score_drift 0.5 and missing of size 0.31 (as of 2026-01-11 02:00Z)"
    )


def test_a_retrain_tells_what_became_of_its_decisions(world: World) -> None:
    as_of = breach(world)
    decisions = monitor.decide(world.site, FAMILY, as_of, now=as_of)
    simulation.retrain(world.site, decisions, now=as_of)
    [told] = raised(world, "retrain", as_of, decision_ids=decisions)
    assert told.cause in ("promoted", "rejected")
    assert told.title == f"{FAMILY}: {told.cause}"
    assert "version 2: 20% better on 2 nights" in told.message
    assert told.as_of == as_of


def test_a_retrain_by_hand_tells_that_it_started_and_how_it_ended(world: World) -> None:
    world.train(9)
    [decision_id] = world.rows("select decision_id from decisions where kind = 'retrain'")[0]
    told = causes(raised(world, "retrain", world.night(9), decision_ids=[decision_id]))
    assert set(told) == {"retrain_started", "promoted"}
    assert "version 1: the first version of this model has nobody to beat" in told["promoted"]


def test_a_model_that_cannot_be_trained_is_a_failure_of_its_retrain(world: World) -> None:
    as_of = world.night(9)
    [decision_id] = retrain.request_retrain(
        world.site, FAMILY, as_of, reason="t", by="t", now=as_of
    )
    world.configure(retrain={"training": {"window": "P5D", "min_rows": 9999}})
    with pytest.raises(Exception, match="9999 are needed"):
        retrain.fit(world.site, [decision_id], now=as_of)
    told = causes(raised(world, "retrain", as_of, decision_ids=[decision_id], failed=["fit"]))
    assert set(told) == {"retrain_started", "failed"}
    assert told["failed"].startswith("loads: retrain failed in fit: loads: ")
    assert "9999 are needed" in told["failed"]


def test_a_failed_step_is_told_with_its_refusal_or_as_unforeseen(world: World) -> None:
    world.write("features.sql", "select nonsense, :as_of")
    with pytest.raises(Exception, match="nonsense"):
        world.freeze(10)
    [told] = raised(world, "score", world.night(10), failed=["freeze"])
    assert (told.cause, told.title) == ("failed", "loads: score failed in freeze")
    assert "nonsense" in told.message
    [unforeseen] = raised(world, "monitor", world.night(11), failed=["measure"])
    assert "the error was not foreseen; the task's log in Airflow has it" in unforeseen.message


def test_what_was_delivered_is_remembered_and_what_was_not_is_carried_over(world: World) -> None:
    as_of = world.night(10)
    [told] = raised(world, "monitor", as_of, failed=["measure"])
    database = connect(world.site.database_url)
    for _ in range(2):
        reports.delivered(database, told.alert_id, "mail", now=as_of)
    [again] = raised(world, "monitor", as_of, failed=["measure"])
    assert (again.alert_id, again.delivered_by) == (told.alert_id, frozenset({"mail"}))

    later = world.night(11) - RUN
    assert raised(world, "score", later, now=as_of + RUN) == []  # its own run may still try
    assert [alert.alert_id for alert in raised(world, "score", later)] == [told.alert_id]
    assert raised(world, "score", world.night(12)) == []  # nobody wants yesterday's news


AS_OF = datetime(2026, 1, 15, 6, tzinfo=UTC)
WHEN = When(shift=ShiftRule(), breaches=2, of_last=3)


def measured(state: Any, value: float | None) -> Measurement:
    low, high = (None, None) if value is None else (value - 0.5, value + 0.5)
    return Measurement(
        1, "neg_mean_absolute_error", AS_OF, AS_OF, AS_OF, state, value, low, high, 30, 30, -1.0
    )


GOOD, BAD = measured("measured", -0.5), measured("breached", -3.0)
FALLING = Shift(evidence=50.0, limit=20.0, since=AS_OF)
LATELY = {"last_retrain": AS_OF - timedelta(days=1), "fresh_labels": 0}


@pytest.mark.parametrize(
    ("kind", "rule", "breach", "facts"),
    [
        ("keep", "measured", False, {"measurements": (GOOD,)}),
        ("keep", "immature", False, {"measurements": (measured("immature", None),)}),
        ("alert", "too_few_breaches", True, {"measurements": (BAD, GOOD)}),
        ("retrain", "breaches", True, {"measurements": (BAD, BAD)}),
        ("retrain", "shift", True, {"measurements": (GOOD,), "shift": FALLING}),
        ("alert", "cooldown", True, {"measurements": (BAD, BAD), **LATELY}),
        ("alert", "cooldown", True, {"measurements": (GOOD,), "shift": FALLING, **LATELY}),
        ("retrain", "first_model", False, {"has_champion": False, "trainable": 50}),
    ],
)
def test_a_breach_is_a_model_below_its_threshold_or_a_rule_that_fired(
    kind: str, rule: str, breach: bool, facts: dict[str, Any]
) -> None:
    training = Training(window=timedelta(days=5), min_rows=30)
    section = Retrain(when=WHEN, cooldown=timedelta(days=3), training=training)
    [decision] = policy.decide(section, [Standing(1, "k1", AS_OF, **facts)])
    assert (decision.kind, decision.rule) == (kind, rule)
    assert decision.alarming == breach


def test_of_a_group_those_that_fail_are_breached_whatever_the_group_does() -> None:
    section = Retrain(when=WHEN, training=Training(window=timedelta(days=5)))
    by_rule: tuple[tuple[Any, str, str], ...] = (
        ("any", "retrain", "retrain"),
        ("all", "keep", "alert"),
    )
    for rule, of_good, of_bad in by_rule:
        decisions = policy.decide(
            section,
            [
                Standing(1, "good", AS_OF, "pair", (GOOD,)),
                Standing(2, "bad", AS_OF, "pair", (BAD, BAD)),
            ],
            Models(by="kind", thresholds={"*": -1.0}, retrain_if=rule),
        )
        assert [decision.kind for decision in decisions] == [of_good, of_bad]
        assert [decision.alarming for decision in decisions] == [False, True]


@pytest.fixture
def airflow(world: World, runner: tuple[Any, Path], tmp_path: Path) -> Airflow:
    return Airflow(*runner, world, tmp_path)


def test_a_red_task_leaves_the_run_red_and_people_are_told_once(airflow: Airflow) -> None:
    world = airflow.world
    world.train(9)
    few = {"type": "expect_table_row_count_to_be_between", "min_value": 999}
    world.configure(expectations=[few], alerts=[airflow.lines()])

    first = airflow.run("score", 10)
    assert first["state"] == "failed"
    assert (first["tasks"]["validate"], first["tasks"]["publish"]) == ("failed", "upstream_failed")
    assert first["tasks"]["alert"] == "success"
    assert airflow.titles() == [f"{FAMILY}: snapshot rejected"]
    assert json.loads(airflow.messages.read_text())["run"] == f"{FAMILY}.score"

    airflow.run("score", 10)
    assert len(airflow.titles()) == 1

    world.configure(expectations=[])
    mended = airflow.run("score", 10)
    assert (mended["state"], len(airflow.titles())) == ("success", 1)


def test_a_notifier_that_fails_harms_no_other_and_sends_when_it_can(airflow: Airflow) -> None:
    world = airflow.world
    world.write("features.sql", "select nonsense, :as_of")
    down = airflow.home / "down"
    down.touch()
    arguments = airflow.lines()["arguments"] | {"while_there": str(down)}
    world.configure(alerts=[{"notifier": BROKEN, "arguments": arguments}, airflow.lines()])

    first = airflow.run("score", 10)
    assert (first["tasks"]["freeze"], first["tasks"]["alert"]) == ("failed", "failed")
    assert "could not deliver notifiers.BrokenNotifier on 'loads: score failed" in first["log"]
    assert airflow.titles() == ["loads: score failed in freeze"]

    down.unlink()
    again = airflow.run("score", 10)
    assert (again["tasks"]["alert"], len(airflow.titles())) == ("success", 2)
    airflow.run("score", 10)
    assert len(airflow.titles()) == 2
    told = world.rows("select notifier from nightshift.alert_deliveries order by 1")
    assert [row.notifier for row in told] == [BROKEN, LINES]


def test_an_alert_that_fails_is_red_and_leaves_the_run_to_the_real_tasks(airflow: Airflow) -> None:
    airflow.world.train(9)
    airflow.world.configure(alerts=[{"notifier": "notifiers.Missing"}])
    run = airflow.run("score", 10)
    assert (run["state"], run["tasks"]["watch"], run["tasks"]["alert"]) == (
        "success",
        "success",
        "failed",
    )
    assert "alerts.0.notifier: 'notifiers.Missing' cannot be imported" in run["log"]


def test_an_unforeseen_error_is_told(airflow: Airflow) -> None:
    airflow.world.configure(alerts=[airflow.lines(on=["failed"])])
    airflow.world.train(9)
    key = airflow.world.site.keys / "signing.pem"
    key.unlink()
    key.mkdir()
    assert airflow.run("score", 10)["state"] == "failed"
    assert airflow.titles() == ["loads: score failed in score"]
    assert "IsADirectoryError" in airflow.messages.read_text()


def test_an_outage_of_our_own_database_is_told_all_the_same(airflow: Airflow) -> None:
    airflow.world.configure(alerts=[airflow.lines()])
    run = airflow.run("score", 10, "postgresql+psycopg2://nobody@127.0.0.1:9/none")
    assert (run["tasks"]["freeze"], run["tasks"]["alert"]) == ("failed", "failed")
    assert airflow.titles() == ["loads: score failed"]
    assert "cannot reach Postgres" in airflow.messages.read_text()


def test_a_breach_is_told_and_its_retrain_started_and_concluded(airflow: Airflow) -> None:
    breach(airflow.world)
    airflow.world.configure(alerts=[airflow.lines()])
    assert airflow.run("monitor", 14)["state"] == "success"
    assert airflow.titles() == [f"{FAMILY}: breached", f"{FAMILY}: retrain started"]

    [(decision_id,)] = airflow.world.rows(
        "select decision_id from decisions where kind = 'retrain' and rule = 'breaches'"
    )
    run = airflow.run("retrain", 14, decision_ids=[decision_id])
    assert run["state"] == "success"
    assert airflow.titles()[2:] in ([f"{FAMILY}: promoted"], [f"{FAMILY}: rejected"])
    assert (run["tasks"]["approve"], run["tasks"]["answer"]) == ("skipped", "skipped")


def test_what_trials_decide_is_told_by_the_monitoring_that_decides_it(world: World) -> None:
    world.configure(promotion={"shadow": "P8D"}, retrain={"when": None})
    world.train(9)
    world.train(27)
    for number in range(28, 33):
        world.score(number)
        world.monitor(number)
    promoted = causes(raised(world, "monitor", world.night(32) + MONITORING))["promoted"]
    assert promoted.startswith(
        f"{FAMILY}: promoted: version 2, in shadow: better by 15.5 in mean absolute error"
    )

    world.source(
        "update truths set value = size + 3 from items"
        " where items.entity_id = truths.entity_id and items.night > '2026-02-02'"
    )
    for number in range(33, 39):
        world.score(number)
        world.monitor(number)
    messages = [
        causes(raised(world, "monitor", world.night(number) + MONITORING))
        for number in range(33, 39)
    ]
    [rolled_back] = [found["rolled_back"] for found in messages if "rolled_back" in found]
    assert rolled_back.startswith(f"{FAMILY}: rolled back: version 2, on probation: worse by 15.5")


def test_a_rollback_by_the_form_is_carried_out_and_told(airflow: Airflow) -> None:
    world = airflow.world
    world.configure(alerts=[airflow.lines()])
    world.train(9)
    world.train(27)
    world.score(28)
    refused = airflow.run("rollback", 28, reason="to try", version=7)
    assert (refused["tasks"]["rollback"], refused["tasks"]["rescore"]) == (
        "failed",
        "upstream_failed",
    )
    assert "has had no champion with the version number 7" in airflow.messages.read_text()
    assert world.rows("select from decisions where kind = 'rollback'") == []
    run = airflow.run("rollback", 28, reason="its labels were wrong", rescore=True)
    assert run["tasks"] == {"rollback": "success", "rescore": "success", "alert": "success"}
    assert airflow.titles()[-1] == f"{FAMILY}: rolled back"
    [shown] = world.rows(
        "select distinct model_version from predictions where as_of > '2026-01-28'"
    )
    assert shown.model_version == 1
    [said] = world.rows("select reason from decisions where kind = 'rollback'")
    assert said.reason == "dag_test: from version 2 back to version 1: its labels were wrong"
