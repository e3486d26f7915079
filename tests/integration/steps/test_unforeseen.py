"""Whatever nobody foresaw is in the audit trail, in one sentence, and never a bare exception."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.world import FAMILY, World

from nightshift import (
    cli,
    fleet,
    local,
    monitoring,
    night,
    policy,
    promotion,
    registry,
    sources,
    training,
)
from nightshift.errors import InternalError
from nightshift.steps import monitor, people, retrain, rollback
from nightshift.steps import night as night_steps

Step = Callable[[World], object]


def freeze(world: World) -> object:
    return world.freeze(24)


def validate(world: World) -> object:
    return night_steps.validate(world.site, world.freeze(24), now=world.night(24))


def score(world: World) -> object:
    return night_steps.score(world.site, latest(world, "snapshot_id"), now=world.night(24))


def share_out(world: World) -> object:
    return night_steps.share_out(world.site, latest(world, "snapshot_id"), now=world.night(24))


def score_rows(world: World) -> object:
    record = {"entity_id": "a", "size": 3.0, "kind": "k1"}
    return night_steps.score_rows(world.site, FAMILY, [record], by="ada", now=world.night(24))


def publish(world: World) -> object:
    return night_steps.publish(world.site, latest(world, "batch_id"), now=world.night(24))


def watch(world: World) -> object:
    return night_steps.watch(world.site, latest(world, "batch_id"), now=world.night(24))


def collect(world: World) -> object:
    return monitor.collect_labels(world.site, FAMILY, world.night(24), now=world.night(24))


def measure(world: World) -> object:
    return monitor.measure(world.site, FAMILY, world.night(24), now=world.night(24))


def decide(world: World) -> object:
    moment = world.night(23) + timedelta(hours=4)
    return monitor.decide(world.site, FAMILY, moment, now=moment)


def judge_trials(world: World) -> object:
    return monitor.judge_trials(world.site, FAMILY, world.night(24), now=world.night(24))


def request(world: World) -> object:
    as_of = world.night(24)
    return retrain.request_retrain(world.site, FAMILY, as_of, reason="r", by="ada", now=as_of)


def fit(world: World) -> object:
    [decision] = world.rows(
        "select max(decision_id) as id from nightshift.decisions"
        " where kind = 'retrain' and rule = 'on_demand'"
    )
    return retrain.fit(world.site, [decision.id], now=world.night(24))


def roll_back(world: World) -> object:
    at = world.night(24)
    return rollback.rollback(world.site, FAMILY, reason="r", by="ada", as_of=at, now=at)


def hold(world: World) -> object:
    return people.hold(world.site, FAMILY, reason="r", by="ada", now=world.night(24))


def latest(world: World, column: str) -> int:
    table = {"snapshot_id": "snapshots", "batch_id": "batches"}[column]
    [row] = world.rows(f"select max({column}) as id from nightshift.{table}")
    number: int = row.id
    return number


PLANTED: list[tuple[Step, Any, str]] = [
    (freeze, sources, "names_of"),
    (freeze, sources, "open_source"),
    (freeze, night, "freeze"),
    (validate, night, "validate"),
    (score, night, "members_in"),
    (score, fleet, "serving"),
    (score, night, "score"),
    (score_rows, registry.Registry, "load"),
    (share_out, night, "cut"),
    (score_rows, night, "split"),
    (score_rows, night, "answer"),
    (publish, night, "publish"),
    (watch, monitoring, "watch"),
    (watch, registry, "champions"),
    (collect, monitoring, "collect"),
    (measure, monitoring, "measure"),
    (measure, fleet, "models"),
    (decide, fleet, "standings"),
    (decide, policy, "decide"),
    (judge_trials, promotion, "judge"),
    (request, training, "plan"),
    (request, policy, "request"),
    (fit, training, "fit"),
    (roll_back, registry, "way_back"),
    (roll_back, promotion, "roll_back"),
    (hold, registry, "hold"),
]


@pytest.mark.parametrize(
    ("step", "room", "name"), PLANTED, ids=[f"{s.__name__}-{name}" for s, _, name in PLANTED]
)
def test_what_a_room_never_foresaw_is_recorded_by_each_step(
    lived: World, monkeypatch: pytest.MonkeyPatch, step: Step, room: Any, name: str
) -> None:
    if step is fit:
        request(lived)

    def fails(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(room, name, fails)
    with pytest.raises(InternalError, match="ZeroDivisionError: planted"):
        step(lived)
    [row] = lived.rows(
        "select code, detail->>'reason' as reason from nightshift.events"
        " order by event_id desc limit 1"
    )
    assert tuple(row) == ("internal", "ZeroDivisionError: planted")


def test_the_words_of_the_unforeseen_are_withheld_where_data_are_protected(
    lived: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived.configure(features={"sensitive": ["kind"]})

    def fails(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("k1 is secret")

    monkeypatch.setattr(monitoring, "measure", fails)
    with pytest.raises(InternalError) as caught:
        measure(lived)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "fails" in caught.value.__notes__[0]
    assert not lived.rows("select from nightshift.events where detail::text like '%secret%'")


def test_the_command_line_ends_in_one_sentence_that_says_where_the_trace_is(
    lived: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(local, "site", lambda: lived.site)
    monkeypatch.setattr(registry, "hold", fails)
    monkeypatch.setattr(sys, "argv", ["nightshift", "hold", FAMILY, "--reason", "r"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    message = capsys.readouterr().err
    assert ended.value.code == 1
    assert "Traceback" not in message
    assert message.startswith("error [internal] ZeroDivisionError: planted. The full trace is in ")
    trace = Path(message.rsplit(" ", 1)[1].strip())
    assert "in fails" in trace.read_text()
    assert trace.stat().st_mode & 0o077 == 0
    trace.unlink()


def test_the_same_holds_outside_of_steps() -> None:
    code = (
        "import sys\nfrom nightshift import cli, local\n"
        "def fails(): raise ZeroDivisionError('planted')\nlocal.site = fails\n"
        "sys.argv = ['nightshift', 'check']\ncli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error [internal] ZeroDivisionError: planted. The full trace")
    Path(done.stderr.rsplit(" ", 1)[1].strip()).unlink()
