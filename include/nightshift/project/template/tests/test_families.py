"""What `nightshift check` finds, as a test: run pytest in this project before you deploy it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightshift import local
from nightshift.steps import upkeep


def test_every_family_is_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTSHIFT_HOME", str(Path(__file__).resolve().parents[1]))
    assert [str(problem) for problem in upkeep.check(local.site())] == []
