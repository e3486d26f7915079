"""By how much a library may differ."""

from __future__ import annotations

import pytest

from nightshift.artifacts.libraries import Difference
from nightshift.family import MayDiffer


@pytest.mark.parametrize(
    ("then", "now", "refused_by"),
    [
        ("1.9.0", "1.9.1", {"exact"}),
        ("1.8.0", "1.9.1", {"exact", "patch"}),
        ("1.9.1", "2.0.0", {"exact", "patch", "minor"}),
        ("1.9.1", "1.9.0", {"exact"}),
        ("1.9.dev0", "1.9.0", {"exact"}),
        ("1.9", "1.9.0", {"exact"}),
        ("1.9.1", None, {"exact", "patch", "minor"}),
    ],
)
def test_each_level_lets_so_much_differ(then: str, now: str | None, refused_by: set[str]) -> None:
    levels: list[MayDiffer] = ["exact", "patch", "minor", "any"]
    refused = {level for level in levels if Difference("numpy", then, now, level).refused}
    assert refused == refused_by
