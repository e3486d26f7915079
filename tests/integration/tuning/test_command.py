"""``nightshift tune`` as it is typed: what it prints, writes, and refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.world import FAMILY, World
from typer.testing import CliRunner

from nightshift import local
from nightshift.cli import app


@pytest.fixture
def run(
    world: World, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """The command in a project that holds the small family."""

    def fresh(site: object, name: str, template: str | None) -> str:
        return new_database("template")

    monkeypatch.setattr(local, "site", lambda: world.site)
    monkeypatch.setattr(local, "fresh_database", fresh)
    monkeypatch.setattr(local, "drop_database", lambda site, name: None)
    return lambda *words: CliRunner().invoke(app, ["tune", *words])


def test_it_prints_a_table_and_lines_and_writes_what_happened_by_night(
    world: World, run: Callable[..., Any], tmp_path: Path
) -> None:
    # The world changes while the first half is lived through, so a choice can be made on it.
    nights = ["--from", "2026-01-12", "--to", "2026-02-08"]
    data = ["--window", "P5D", "--window", "P9D", "--every", "P2D"]
    outcome = run(FAMILY, *nights, *data, "--out", str(tmp_path / "out"))
    assert outcome.exit_code == 0, outcome.output
    told = outcome.output
    for row in ("never", "weekly", "naive", "hindsight: 2026-", "as-configured", "P9D"):
        assert row in told
    assert "versions: " in told  # progress, without a terminal
    assert "over" in told or "as it is: no change won enough" in told
    nights = pd.read_csv(tmp_path / "out" / f"{FAMILY}.csv")
    assert {"as_of", "value", "policy"} <= set(nights)
    assert (tmp_path / "out" / f"{FAMILY}.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--from", "2026-02-08", "--to", "2026-01-08"], "is not before 2026-01-08"),
        (["--from", "P3W3", "--to", "2026-01-08"], "no ISO 8601 duration"),
        (["--from", "2026-01-01", "--to", "2026-01-08", "--every", "weekly"], "--every: 'weekly'"),
        (["--from", "2026-01-12", "--to", "2026-02-08", "--compare", "x.yaml"], "is not there"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
    run: Callable[..., Any], words: list[str], sentence: str
) -> None:
    outcome = run(FAMILY, *words)
    assert outcome.exit_code != 0
    said = " ".join((outcome.output + str(outcome.exception or "")).split())
    assert sentence in said.replace("│ ", "").replace(" │", "")
