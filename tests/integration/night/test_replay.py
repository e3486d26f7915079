"""A night of the past, scored again: the same bits, or what differs and why."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.families import MEMBERS, train_all
from tests.world import FAMILY, Kept, World, live_through_the_change

from nightshift.artifacts import libraries
from nightshift.cli import main
from nightshift.data import Store
from nightshift.errors import ScoringError, SnapshotError
from nightshift.registry.versions import _verified_pipeline
from nightshift.steps import night


def replay(world: World, number: int) -> Any:
    _verified_pipeline.cache_clear()
    return night.replay(world.site, FAMILY, world.night(number))


def test_every_night_of_a_past_with_a_retrain_has_the_same_bits(world: World, kept: Kept) -> None:
    world = kept.world("changed", world, live_through_the_change)
    champions = world.rows("select distinct version_id from nightshift.promotions")
    assert len(champions) > 1
    for number in range(16, 24):
        report = replay(world, number)
        assert report.same, report.sentence
        assert report.sameness.rows == 30
    assert report.sentence == (
        "loads 2026-01-24 02:00Z: 30 rows scored again, every bit as published"
    )
    assert len(world.rows("select from nightshift.batches")) == 8  # nothing is written


def test_a_factory_s_night_in_parts_has_the_same_bits(world: World) -> None:
    world.configure(**MEMBERS, scoring={"rows_per_task": 1_000})
    train_all(world, 12)
    world.score(13)
    assert replay(world, 13).same


def test_rows_that_were_changed_after_they_were_published_are_found(
    world: World, kept: Kept
) -> None:
    world = kept.world("changed", world, live_through_the_change)
    world.rows(
        "update nightshift.prediction_rows set score = score + 0.25"
        " where entity_id = '20260117-1' returning 1"
    )
    report = replay(world, 16)
    assert (report.same, report.sameness.moved, report.sameness.largest) == (False, 1, 0.25)
    assert report.sentence.startswith(
        "loads 2026-01-17 02:00Z: of 30 rows, 1 with another score (by at most 0.25)."
    )
    assert "rows were changed after they were published" in report.sentence


def test_a_library_that_is_another_one_is_named_as_the_cause(
    world: World, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = kept.world("changed", world, live_through_the_change)
    installed = libraries._installed
    newer = {"scikit-learn": "99.0.0"}
    monkeypatch.setattr(libraries, "_installed", lambda name: newer.get(name, installed(name)))
    refused = replay(world, 16)
    assert not refused.same
    assert refused.sameness.missing == 30
    assert "and 99.0.0 is installed" in refused.sentence
    world.configure(libraries={"scikit-learn": "any"})
    allowed = replay(world, 16)
    assert allowed.same
    [cause] = allowed.causes
    assert cause.startswith("version 1 of loads was trained with scikit-learn ")


def test_a_snapshot_that_was_changed_is_never_taken_for_the_night(world: World, kept: Kept) -> None:
    world = kept.world("changed", world, live_through_the_change)
    [row] = world.rows(
        "select content_hash from nightshift.snapshots where as_of = '2026-01-17 02:00+00'"
    )
    file = Store(world.site.store).address(row.content_hash, "parquet")
    with Path(file).open("ab") as changed:
        changed.write(b"!")
    with pytest.raises(SnapshotError, match="was changed after it was written"):
        replay(world, 16)


def test_a_night_that_nobody_published_is_told(world: World) -> None:
    with pytest.raises(ScoringError, match="nothing was published of 2026-01-06 02:00Z"):
        replay(world, 5)


def test_the_command_ends_with_1_where_a_bit_differs(
    world: World, kept: Kept, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = kept.world("changed", world, live_through_the_change)
    world.rows(
        "update nightshift.prediction_rows set score = score + 0.25"
        " where entity_id = '20260117-1' returning 1"
    )

    def told(number: int) -> tuple[object, dict[str, Any]]:
        as_of = world.night(number).isoformat()
        monkeypatch.setattr("nightshift.local.site", lambda: world.site)
        arguments = ["nightshift", "replay", FAMILY, "--as-of", as_of, "--json"]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, json.loads(capsys.readouterr().out)

    code, report = told(17)
    assert (code, report["same"]) in (((0, True)), ((None, True)))
    code, report = told(16)
    assert (code, report["same"], report["sameness"]["moved"]) == (1, False, 1)
