"""A person is asked whether a challenger may serve: every way in which that can end."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from datetime import timedelta

import pytest
from tests.world import FAMILY, Kept, World
from typer.testing import CliRunner

from nightshift import cli, promotion, registry, reports
from nightshift.data import connect
from nightshift.errors import NoChampion, RegistryError
from nightshift.records import About
from nightshift.reports import Alert, Run
from nightshift.steps import monitor, people, upkeep
from nightshift.steps import retrain as retrain_steps
from nightshift.steps.frame import store_of

CHANGED = 28
"""A night after which a challenger knows the world that has changed, and the champion does not."""


@pytest.fixture
def asking(world: World, kept: Kept) -> World:
    """Version 1 serves, and somebody is asked about version 2."""
    return kept.world("asking", world, ask_about_the_second)


def ask_about_the_second(world: World) -> None:
    world.train(10)
    world.configure(promotion={"approval": "human"})
    world.train(CHANGED)


def serving(world: World) -> int:
    sql = """
    select v.number from nightshift.promotions p join nightshift.versions v using (version_id)
    order by seq desc limit 1"""
    [(number,)] = world.rows(sql)
    return int(number)


def answers(world: World) -> list[tuple[int, str, str, str]]:
    """Approval, answer, who gave it, and the kind of the decision that it came to."""
    sql = """
    select a.approval_id, a.answer, a.said_by, d.kind
    from nightshift.answers a join nightshift.decisions d using (decision_id)
    order by a.approval_id"""
    return [tuple(row) for row in world.rows(sql)]


def pending(world: World) -> list[promotion.Approval]:
    with connect(world.site.database_url).transaction() as tx:
        return promotion.pending(tx)


def answer(
    world: World,
    approval_id: int,
    said: promotion.Answer,
    by: str = "ada",
    *,
    on: int = CHANGED + 1,
) -> str:
    """Answer an approval; the reason of the decision that follows."""
    now = world.night(on)
    decision_id = people.answer(world.site, approval_id, said, by, reason="as agreed", now=now)
    with connect(world.site.database_url).transaction() as tx:
        return registry.decision(tx, decision_id).reason


def test_a_question_shows_the_figures_and_where_there_is_more(asking: World) -> None:
    asks = asking.rows("select decision_id from nightshift.decisions where kind = 'ask'")
    [page] = people.open_approvals(
        asking.site, [row.decision_id for row in asks], link="http://here/run"
    )
    assert page["subject"] == f"{FAMILY}: may version 2 serve instead of version 1?"
    told, _, more = page["body"].partition("\n\nMore: ")
    assert re.match(
        r"\*\*approval\*\*: (over )?[\d.]+% better on 2 nights: mean absolute error ", told
    )
    assert "on 60 later rows, at least " in told
    assert "better (with 95% confidence); a person is asked" in told
    assert "| version 2 (trained) |" in told
    assert f"`nightshift why {FAMILY}`, or look at [the run](http://here/run)." in more
    assert serving(asking) == 1


def test_the_hash_is_that_of_the_evidence_that_was_shown(asking: World) -> None:
    asks = asking.rows("select decision_id from nightshift.decisions where kind = 'ask'")
    [page] = people.open_approvals(asking.site, [row.decision_id for row in asks])
    answer(asking, page["approval_id"], "approved")
    sql = "select evidence, a.evidence_hash, w.evidence_hash from nightshift.approvals a"
    [row] = asking.rows(f"{sql} join nightshift.answers w using (approval_id)")
    evidence, asked, seen = map(str, row)
    assert hashlib.sha256(evidence.encode()).hexdigest() == asked == seen
    assert page["body"].startswith(evidence)
    assert seen in page["body"]


def test_what_is_approved_serves_from_then_on(asking: World) -> None:
    asking.score(CHANGED)
    [asked] = pending(asking)
    told = answer(asking, asked.approval_id, "approved")
    assert told == "ada approved version 2 instead of version 1: as agreed"
    assert answers(asking) == [(asked.approval_id, "approved", "ada", "promote")]
    assert pending(asking) == []
    asking.score(CHANGED + 1)
    nights = (
        "select as_of, max(model_version) as version from predictions group by as_of order by 1"
    )
    assert [row.version for row in asking.rows(nights)] == [1, 2]
    [promoted] = asking.rows("select reference from nightshift.promotions where seq = 2")
    assert promoted.reference["rows"] == 60  # what it is held to from now on


@pytest.mark.parametrize(
    ("said", "by", "told"),
    [
        ("declined", "ada", "ada declined version 2 instead of version 1: as agreed"),
        (
            "timed_out",
            "nobody",
            "nobody answered since 2026-01-29 02:00Z, so version 2 instead of"
            " version 1 was not approved: as agreed",
        ),
    ],
)
def test_without_a_yes_the_champion_serves_on(
    asking: World, said: promotion.Answer, by: str, told: str
) -> None:
    [asked] = pending(asking)
    assert answer(asking, asked.approval_id, said, by) == told
    assert answers(asking) == [(asked.approval_id, said, by, "reject")]
    assert serving(asking) == 1


def test_the_first_answer_counts(asking: World) -> None:
    [asked] = pending(asking)
    told = answer(asking, asked.approval_id, "declined", "ada")
    assert answer(asking, asked.approval_id, "approved", "bob") == told
    assert answers(asking) == [(asked.approval_id, "declined", "ada", "reject")]
    assert serving(asking) == 1


def test_of_two_answers_at_once_one_counts(asking: World) -> None:
    [asked] = pending(asking)
    both: list[tuple[promotion.Answer, str]] = [("approved", "ada"), ("declined", "bob")]
    start = threading.Barrier(len(both))
    told = []

    def say(said: promotion.Answer, by: str) -> None:
        start.wait()
        told.append(answer(asking, asked.approval_id, said, by))

    threads = [threading.Thread(target=say, args=one) for one in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 2
    assert len(set(told)) == 1
    [(_, said, by, _)] = answers(asking)
    assert (said, by) in both
    assert serving(asking) == (2 if said == "approved" else 1)


def test_a_newer_challenger_supersedes_the_question_about_an_older_one(asking: World) -> None:
    [older] = pending(asking)
    asking.train(CHANGED + 4)
    [newer] = pending(asking)
    assert newer.number == 3
    assert answers(asking) == [(older.approval_id, "superseded", "nobody", "reject")]
    told = answer(asking, older.approval_id, "approved", on=CHANGED + 5)
    assert told == (
        "the question about version 2 instead of version 1 is superseded: version 3 is asked about"
        " instead"
    )
    assert serving(asking) == 1
    answer(asking, newer.approval_id, "approved", on=CHANGED + 5)
    assert serving(asking) == 3


def test_a_promotion_supersedes_the_question(asking: World) -> None:
    [older] = pending(asking)
    asking.configure(promotion={"approval": "automatic"})
    asking.train(CHANGED + 4)
    assert serving(asking) == 3
    assert answers(asking) == [(older.approval_id, "superseded", "nobody", "reject")]


def test_a_rejected_challenger_leaves_the_question_about_an_older_one(asking: World) -> None:
    asking.configure(promotion={"min_rows": 1000})
    asking.train(CHANGED + 4)
    assert [one.number for one in pending(asking)] == [2]


def test_an_approval_that_another_promotion_has_overtaken_is_a_rejection(asking: World) -> None:
    """As when somebody clicks while a promotion that knows nothing of approvals is under way."""
    [asked] = pending(asking)
    database, now = connect(asking.site.database_url), asking.night(CHANGED)
    versions = registry.Registry(store_of(asking.site), asking.site.keys, asking.site.models)
    told: list[str] = []
    click = threading.Thread(
        target=lambda: told.append(answer(asking, asked.approval_id, "approved"))
    )
    with database.transaction() as tx:
        decided = registry.decision(tx, 1)
        decision_id = registry.decide(
            tx, decided, about=About.version(asked.version_id, "race"), now=now
        )
        click.start()
        versions.promote(
            tx,
            registry.version(tx, asked.version_id),
            instead_of=asked.champion_version,
            decision_id=decision_id,
            effective_from=now,
            now=now,
        )
    click.join()
    assert told == [
        "the question about version 2 instead of version 1 is superseded: ada approved it after"
        " another version was promoted"
    ]
    assert answers(asking) == [(asked.approval_id, "superseded", "ada", "reject")]
    assert len(asking.rows("select from nightshift.promotions")) == 2
    assert "promotion_lost" not in asking.codes()


def test_what_a_shadow_has_proved_is_asked_by_a_run_that_finds_its_work_done(world: World) -> None:
    world.configure(promotion={"shadow": "P8D", "approval": "human"})
    world.train(9)
    world.train(27)
    judged: list[int] = []
    for number in range(28, 37):
        world.score(number)
        world.monitor(number)
        as_of = world.night(number) + timedelta(hours=4)
        judged += monitor.judge_trials(world.site, FAMILY, as_of, now=as_of)
    [retrain] = people.questions(world.site, judged)
    now = world.night(37)
    versions = retrain_steps.fit(world.site, [retrain], now=now)
    concluded = retrain_steps.conclude(
        world.site, retrain_steps.compare(world.site, versions, now=now), now=now
    )
    assert people.open_approvals(world.site, concluded) == people.open_approvals(world.site, judged)
    [page] = people.open_approvals(world.site, concluded)
    assert page["subject"] == f"{FAMILY}: may version 2 serve instead of version 1?"
    answer(world, page["approval_id"], "approved", on=37)
    assert serving(world) == 2
    assert people.questions(world.site, judged) == []


def test_a_leap_that_looks_like_a_leak_is_asked_about_without_approval_in_the_file(
    world: World,
) -> None:
    world.train(10)
    world.configure(promotion={"too_good": 0.5})
    world.train(CHANGED)
    [asked] = pending(world)
    assert asked.headline.startswith("too_good: over 99.9% better on 2 nights")
    assert "look for a leak" in asked.headline
    answer(world, asked.approval_id, "declined")
    assert serving(world) == 1


def test_a_champion_that_cannot_score_the_rows_is_asked_about(world: World) -> None:
    world.train(10)
    world.write(
        "features.sql",
        "select entity_id, kind, size as weight from items"
        " where night = cast(:as_of as timestamptz)",
    )
    world.configure(
        features={"numeric": ["weight"], "categorical": ["kind"]}, promotion={"approval": "human"}
    )
    world.train(CHANGED)
    [asked] = pending(world)
    assert asked.headline.startswith("unscorable: the champion cannot score: ")
    answer(world, asked.approval_id, "approved")
    assert serving(world) == 2


def test_a_first_version_that_somebody_approves_serves_from_its_cutoff(world: World) -> None:
    world.configure(promotion={"too_good": 0.5})
    world.train(10)
    [asked] = pending(world)
    assert asked.subject == f"{FAMILY}: may version 1 serve as the first?"
    answer(world, asked.approval_id, "approved", on=12)
    assert world.score(11)


def test_an_approval_that_waits_in_no_run_is_closed_a_day_after_its_time(asking: World) -> None:
    [asked] = pending(asking)
    late = asking.night(CHANGED + 2)  # response_timeout is a day, and so is the grace
    assert upkeep.maintain(asking.site, now=late)["timed_out_approvals"] == 0
    later = late + timedelta(minutes=1)
    assert upkeep.maintain(asking.site, now=later)["timed_out_approvals"] == 1
    assert answers(asking) == [(asked.approval_id, "timed_out", "nobody", "reject")]


def test_people_are_told_when_they_are_asked_and_when_it_is_answered(asking: World) -> None:
    [retrain] = asking.rows(
        "select decision_id from nightshift.decisions where kind = 'retrain'"
        " order by 1 desc limit 1"
    )

    def told(on: int) -> dict[str, Alert]:
        now = asking.night(on)
        raised = monitor.alerts(
            asking.site,
            FAMILY,
            Run("retrain", asking.night(CHANGED), now, decision_ids=[retrain.decision_id]),
            now=now,
        )
        return {alert.cause: alert for alert in raised}

    [asked] = pending(asking)
    first = told(CHANGED)
    assert set(first) == {"retrain_started", "approval"}
    assert first["approval"].title == f"{FAMILY}: approval wanted"
    assert f"(approval {asked.approval_id}): over 99.9% better" in first["approval"].message
    answer(asking, asked.approval_id, "approved")
    then = told(CHANGED + 1)
    assert set(then) == {"retrain_started", "promoted"}
    assert "version 2: ada approved version 2 instead of version 1" in then["promoted"].message


def test_why_tells_of_the_question_and_of_the_answer(asking: World) -> None:
    database = connect(asking.site.database_url)
    [asked] = pending(asking)
    *_, compared, told = reports.why(database, FAMILY, asking.night(CHANGED)).sentences
    assert compared.startswith("Compared: ask: over 99.9% better on 2 nights")
    assert told == f"Asked: approval {asked.approval_id} waits; `nightshift approvals` shows it."
    answer(asking, asked.approval_id, "approved")
    *_, told = reports.why(database, FAMILY, asking.night(CHANGED + 2)).sentences
    assert told == (
        "Answered: promote: ada approved version 2 instead of version 1: as agreed."
        " It serves from 2026-01-30 02:00Z."
    )
    assert reports.audit(database).faults == ()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, asking: World) -> CliRunner:
    monkeypatch.setattr("nightshift.local.site", lambda: asking.site)
    return CliRunner()


def test_approvals_are_listed_and_answered_at_the_command_line(
    command: CliRunner, asking: World
) -> None:
    [asked] = pending(asking)
    listed = command.invoke(cli.app, ["approvals"]).output
    assert listed.startswith(
        f"{asked.approval_id}  {FAMILY}: may version 2 serve instead of version 1?"
    )
    [as_data] = json.loads(command.invoke(cli.app, ["approvals", "--json"]).output)
    assert as_data["evidence"] == asked.evidence
    number = str(asked.approval_id)
    approved = command.invoke(cli.app, ["approve", number, "--reason", "new routes", "--by", "ada"])
    assert approved.output == ("promote: ada approved version 2 instead of version 1: new routes\n")
    assert command.invoke(cli.app, ["approvals"]).output == "nothing waits for approval\n"
    again = command.invoke(cli.app, ["decline", number, "--reason", "no", "--by", "bob"])
    assert (again.exit_code, again.output) == (1, approved.output)


def test_an_approval_that_there_is_not_is_refused(asking: World) -> None:
    with pytest.raises(RegistryError, match="there is no approval 99; `nightshift approvals`"):
        answer(asking, 99, "approved")


def test_a_first_version_that_waits_for_somebody_is_why_a_night_has_no_champion(
    world: World,
) -> None:
    world.configure(promotion={"too_good": 0.5})
    world.train(9)
    [question] = world.rows("select approval_id from nightshift.approvals")
    with pytest.raises(NoChampion, match=f"nightshift approve {question.approval_id}, or"):
        world.score(10)
    people.answer(
        world.site, question.approval_id, "approved", "ada", reason="r", now=world.night(10)
    )
    assert world.score(10)
