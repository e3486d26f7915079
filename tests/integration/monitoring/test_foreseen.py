"""How fast labels come, before the first night: by labels.sql, and a list of entities or none."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.world import FAMILY, World
from typer.testing import CliRunner

from nightshift import local
from nightshift.cli import app
from nightshift.monitoring import Arrivals
from nightshift.steps import monitor

DAY = timedelta(days=1)
SLOW = """
update truths set value = case when entity_id ~ '[05]$' then 1 else 0 end;
update truths set known_at = night + interval '40 days' where value = 1;
"""


def arrivals(world: World, number: int, *listed: tuple[str, Any]) -> Arrivals:
    return monitor.label_arrivals(world.site, FAMILY, world.night(number), entities=listed)


def test_a_maturity_is_proposed_before_the_first_night(world: World) -> None:
    found = arrivals(world, 60)
    assert (found.basis, found.ever, found.proposed) == ("labels", None, DAY)
    assert found.sentence == (
        "99% of labels are known 1 day after what they are about: as labels.maturity says"
    )
    assert world.rows("select * from nightshift.labels") == []


def test_a_list_of_entities_tells_who_never_gets_a_label(world: World) -> None:
    listed = [
        (f"202601{night + 1:02}-{who}", world.night(night))
        for night in (3, 4)
        for who in range(1, 41)
    ]
    found = arrivals(world, 60, *listed)
    assert found.basis == "entities"
    assert found.ever == 0.75
    assert "75.0% of the entities get a label" in found.sentence
    earlier = arrivals(world, 60, *[(name, None) for name, _ in listed])
    assert earlier.ever == 0.75


def test_it_looks_as_far_as_labels_reach_and_proposes_by_class(world: World) -> None:
    world.configure(task="binary_classification", performance={"metric": "roc_auc"})
    world.source(SLOW)
    found = arrivals(world, 90)
    assert found.curve[-1].days == 40
    assert found.by_class == {"0": DAY, "1": 40 * DAY}
    assert found.proposed == 40 * DAY
    assert "by class: 1 after 40 days, 0 after 1 day" in found.sentence
    assert found.sentence.endswith("labels.maturity says 1, which is too early: write P40D")


def test_what_was_not_known_on_a_day_is_not_looked_at(world: World) -> None:
    world.source(
        "update truths set known_at = night + interval '35 days' where night > '2026-01-03'"
    )
    assert arrivals(world, 33).proposed == DAY
    assert arrivals(world, 90).proposed == 35 * DAY


def test_nothing_old_enough_gives_a_sentence(world: World) -> None:
    found = arrivals(world, 5)
    assert found.proposed is None
    assert "no maturity can be proposed" in found.sentence


def test_the_command_takes_a_day_and_a_list(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(local, "site", lambda: world.site)
    monkeypatch.setattr("nightshift.cli.console.width", 200)

    def run(*words: str) -> str:
        outcome = CliRunner().invoke(app, words)
        assert outcome.exit_code == 0, outcome.output
        return outcome.output

    file = tmp_path / "who.csv"
    file.write_text("entity_id,as_of\n20260104-1,2026-01-04T02:00Z\nnobody,2026-01-04T02:00Z\n")
    told = run(
        "labels", FAMILY, "--on", "2026-03-01", "--out", str(tmp_path), "--entities", str(file)
    )
    assert "50.0% of the entities get a label" in told
    assert "P1D" in told or "as labels.maturity says" in told
    told = run("labels", FAMILY, "--on", "2026-03-01", "--out", str(tmp_path))
    assert "99% of labels are known 1 day after what they are about" in told
