"""What people read in the morning: status, why, history, and whether the audit trail is whole."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.world import FAMILY, World
from typer.testing import CliRunner

from nightshift import local, reports
from nightshift.cli import app
from nightshift.data import connect
from nightshift.errors import RegistryError
from nightshift.local import session
from nightshift.site import Site

LATER = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.fixture
def run(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The command line on the test's site, on a wide terminal."""
    monkeypatch.setattr(local, "site", lambda: world.site)
    monkeypatch.setattr("nightshift.cli.console.width", 200)

    def call(*words: str, code: int = 0) -> str:
        outcome = CliRunner().invoke(app, words)
        assert outcome.exit_code == code, outcome.output
        return outcome.output

    return call


def test_why_tells_the_chain_from_labels_to_what_followed(
    lived: World, run: Callable[..., Any]
) -> None:
    [retrain] = lived.rows(
        "select as_of from nightshift.decisions where kind = 'retrain' and rule = 'breaches'"
        " order by as_of limit 1"
    )
    told = run("why", FAMILY, "--on", retrain.as_of.date().isoformat()).splitlines()
    assert told[0] == f"loads/loads at {retrain.as_of:%Y-%m-%d %H:%M}Z: retrain"
    starts = [line.split(":")[0].removeprefix("- ") for line in told[1:]]
    assert starts == ["Labels", "Nights", "Measured", "Decided", "Trained", "Compared"]
    chain = dict(line.removeprefix("- ").split(": ", 1) for line in told[1:])
    assert chain["Measured"].startswith("mean absolute error ")
    assert ", limit 1: surely above it (" in chain["Measured"]
    assert chain["Decided"].startswith("retrain, by the rule breaches: ")
    assert chain["Trained"].startswith("version 2, at ")


def test_why_on_an_earlier_day_tells_what_was_decided_then(
    lived: World, run: Callable[..., Any]
) -> None:
    early = run("why", FAMILY, "--on", "2026-01-19")
    assert early.startswith("loads/loads at 2026-01-19 06:00Z: keep\n")
    later = json.loads(run("why", FAMILY, "--on", "2026-01-19", "--json"))
    assert later["decision"] == "keep"
    assert later["figures"]["measurements"][0]["state"] == "measured"
    assert [f"- {sentence}" for sentence in later["sentences"]] == early.splitlines()[1:]


def test_status_is_one_sentence_a_family_and_one_line_a_model(
    lived: World, run: Callable[..., Any]
) -> None:
    told = run("status").splitlines()
    assert told[0].startswith("loads: 1 model by mean absolute error: 1 ")
    assert told[0].endswith("; last night published 2026-01-24 02:00Z, 30 rows")
    assert told[1].split()[:5] == ["model", "state", "version", "figure", "limit"]
    assert told[2].startswith("loads ")
    [line] = json.loads(run("status", "--json"))["lines"]
    assert line["version"] == lived.rows("select max(number) as n from nightshift.versions")[0].n
    assert line["threshold"] == -1.0


def test_a_family_s_own_words_are_used_wherever_its_figures_are_told(
    lived: World, run: Callable[..., Any]
) -> None:
    lived.configure(performance={"say_as": "tons of error"})
    told = run("status")
    assert "loads: 1 model by tons of error: 1 " in told
    assert re.search(r"loads .* [\d.]+ tons of error \([\d.]+ to [\d.]+\) +limit 1 ", told)
    assert re.search(r"Measured: [\d.]+ tons of error, limit 1: ", run("why", FAMILY))
    line = json.loads(run("status", "--json"))["lines"][0]
    assert (line["metric"], line["say_as"]) == ("neg_mean_absolute_error", "tons of error")
    assert line["value"] < 0  # programs are given scikit-learn's own


def test_status_says_what_state_is_no_state(lived: World, run: Callable[..., Any]) -> None:
    told = run("status", "--state", "fine", code=2)
    assert "is none of failed, awaiting" in told


def test_history_tells_every_turn_and_folds_the_quiet_nights(
    lived: World, run: Callable[..., Any]
) -> None:
    told = run("history", FAMILY).splitlines()
    kinds = [line.split()[2] for line in told]
    assert kinds[:3] == ["retrain", "promote", "keep"]
    assert "version 1 serves from 2026-01-16 02:00Z" in told[1]
    assert any("kept " in line and " times; lastly: " in line for line in told)
    found = reports.history(connect(lived.site.database_url), FAMILY)
    decided = [i for event in found.events for i in event.decision_ids]
    assert decided == [
        row.decision_id
        for row in lived.rows(
            "select decision_id from nightshift.decisions order by as_of, decision_id"
        )
    ]


def test_a_model_that_is_not_there_is_told_with_its_neighbours(lived: World) -> None:
    database = connect(lived.site.database_url)
    with pytest.raises(RegistryError, match=r"no model is called 'load' \(did you mean 'loads'"):
        reports.why(database, "load", LATER)
    with pytest.raises(RegistryError, match="nothing was decided about loads/loads by 2025"):
        reports.why(database, "loads/loads", datetime(2025, 1, 1, tzinfo=UTC))
    with pytest.raises(RegistryError, match="no model of a family 'lode' is known"):
        reports.status(database, "lode")


def test_a_name_in_two_families_asks_for_the_family(lived: World) -> None:
    with session(lived.site.database_url) as connection:
        connection.exec_driver_sql(
            "insert into nightshift.models (family, name, created_at)"
            " values ('other', 'loads', now())"
        )
    with pytest.raises(RegistryError, match=r"several models .*: loads/loads and other/loads"):
        reports.why(connect(lived.site.database_url), "loads", LATER)


def test_the_labels_command_tells_the_curve_and_draws_it(
    lived: World, run: Callable[..., Any], tmp_path: Any
) -> None:
    told = run("labels", FAMILY, "--as-of", "2026-01-24T06:00Z", "--out", str(tmp_path))
    assert "the share of predictions whose label is known" in told
    assert "no maturity can be proposed" in told
    assert (tmp_path / "loads.png").stat().st_size > 10_000
    curve = json.loads(
        run("labels", FAMILY, "--as-of", "2026-01-24T06:00Z", "--out", str(tmp_path), "--json")
    )["curve"]
    assert [row["share"] for row in curve[:2]] == [0.0, 1.0]  # the last night is not a day old


# The audit trail ----------------------------------------------------------------------------


@pytest.fixture
def decided(world: World) -> World:
    """A model with six decisions."""
    with session(world.site.database_url) as connection:
        connection.exec_driver_sql(
            """
            insert into nightshift.models (family, name, created_at) values ('f', 'm', now());
            insert into nightshift.decisions
                (model_id, kind, rule, reason, as_of, inputs, about, subject, decided_at)
            select 1, 'keep', 'measured', 'all is well', now(), '{"by": "x"}', 'monitor',
                   'night ' || i, now()
            from generate_series(1, 6) i;
            """
        )
    return world


def test_a_whole_chain_is_told_with_its_head(decided: World, run: Callable[..., Any]) -> None:
    rows = decided.rows("select hash from nightshift.decisions order by seq")
    assert run("audit", "verify") == (
        f"{len(rows)} decisions: the chain is whole; its head is {rows[-1].hash}\n"
    )


MEDDLING = (
    "about = 'approval', about_id = 1",
    "severity = 1e-9",
    "alarming = true",
    "falling_since = '2026-01-01Z'",
    "hash_rule = 1",
)
"""What the columns of a decision may be changed to, each of which its hash must show."""


@pytest.mark.parametrize(
    ("meddling", "said"),
    [
        (
            "update nightshift.decisions set reason = overlay(reason placing 'X' from 3 for 1)"
            " where seq = 4",
            "number 4 in the chain): its content does not give its hash",
        ),
        (
            'update nightshift.decisions set inputs = inputs || \'{"by": "nobody"}\' where seq = 4',
            "number 4 in the chain): its content does not give its hash",
        ),
        (
            "update nightshift.decisions set as_of = as_of + interval '1 microsecond'"
            " where seq = 4",
            "number 4 in the chain): its content does not give its hash",
        ),
        *(
            (
                f"update nightshift.decisions set {change} where seq = 4",
                "number 4 in the chain): its content does not give its hash",
            )
            for change in MEDDLING
        ),
        (
            "delete from nightshift.decisions where seq = 4",
            "number 5 in the chain): 1 decision missing before it",
        ),
        (
            "update nightshift.decisions d set reason = 'smoothed over' where seq = 4;"
            " update nightshift.decisions d set hash = nightshift.decision_hash(d) where seq = 4",
            "number 5 in the chain): it does not follow the decision before it",
        ),
        (
            "alter table nightshift.decisions disable trigger chain;"
            " insert into nightshift.decisions (model_id, kind, rule, reason, as_of, inputs,"
            " about, subject, decided_at, seq, prev_hash, hash) select model_id, 'keep', 'forged',"
            " '', now(), '{}', 'monitor', 'forged', now(), seq + 1, hash, repeat('0', 64)"
            " from nightshift.decisions order by seq desc limit 1",
            "its content does not give its hash",
        ),
    ],
    ids=[
        "a byte",
        "an input",
        "a microsecond",
        *MEDDLING,
        "a row",
        "a hash renewed",
        "a trigger disabled",
    ],
)
def test_meddling_is_found_and_named(
    decided: World, run: Callable[..., Any], meddling: str, said: str
) -> None:
    with session(decided.site.database_url) as connection:
        connection.exec_driver_sql("set session_replication_role = replica")
        connection.exec_driver_sql(meddling)
    told = run("audit", "verify", code=1)
    assert said in told
    assert "the chain is broken" in told


def test_decisions_cut_off_the_end_are_found_by_whoever_kept_the_head(
    decided: World, run: Callable[..., Any]
) -> None:
    head = json.loads(run("audit", "verify", "--json"))["head"]
    run("audit", "verify", "--head", head)
    with session(decided.site.database_url) as connection:
        connection.exec_driver_sql("set session_replication_role = replica")
        connection.exec_driver_sql(
            "delete from nightshift.decisions"
            " where seq = (select max(seq) from nightshift.decisions)"
        )
    assert "decisions are missing at the end" in run("audit", "verify", "--head", head, code=1)
    run("audit", "verify")


def test_any_text_hashes_here_as_in_postgres(world: World) -> None:
    world.train(12)
    strange = 'quotes " and \\ back, tab\t, bell\x07, del\x7f, umlaut ü, emoji \U0001f600, \u2028'
    with connect(world.site.database_url).transaction() as tx:
        tx.run(
            "registry.append_decision",
            model_id=1,
            kind="keep",
            rule="test",
            reason=strange,
            as_of=LATER,
            inputs=json.dumps({"a": [1e-300, 1.5, -0.0, None, True], strange[:-1]: strange}),
            severity=1e-300,
            alarming=True,
            falling_since=LATER,
            about="shadow",
            about_id=2**40,
            subject=strange,
            decided_at=LATER,
        )
    assert reports.audit(connect(world.site.database_url)).faults == ()


def test_a_thousand_models_are_told_within_a_second(site: Site) -> None:
    with session(site.database_url) as connection:
        connection.exec_driver_sql(
            """
            insert into nightshift.models (family, name, created_at)
            select 'factory', 'm' || i, now() from generate_series(1, 1000) i;
            insert into nightshift.memberships (model_id, as_of, state, group_name)
            select model_id, '2026-01-01Z', 'active', 'g' from nightshift.models;
            insert into nightshift.decisions
                (model_id, kind, rule, reason, as_of, inputs, about, subject, decided_at)
            select model_id, 'keep', 'measured', 'fine', d, '{}', 'monitor', 'monitor ' || d, d
            from nightshift.models,
                 generate_series(timestamptz '2026-01-01Z', '2026-01-15Z', '1 day') d;
            insert into nightshift.measurements
                (model_id, metric, as_of, window_start, window_end, state, value, low, high,
                 predictions, labels, threshold, measured_at)
            select model_id, 'r2', d, d, d, 'measured', 0.5, 0.4, 0.6, 100, 100, 0.1, d
            from nightshift.models,
                 generate_series(timestamptz '2026-01-01Z', '2026-04-10Z', '1 day') d;
            analyze;
            """
        )
    database = connect(site.database_url)
    reports.status(database, "factory")
    started = time.perf_counter()
    found = reports.status(database)
    assert time.perf_counter() - started < 1
    assert len(found.lines) == 1000
    assert found.sentences == (
        "factory: 1,000 models by R²: 1,000 untrained; no night published yet",
    )
