"""What the audit of packages allows, and that it never takes silence for good news."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml
from audit.__main__ import HOME, REFUSED, UNKNOWN, Rules, installed, vulnerabilities

RULES = Rules(
    {
        "allowed": {"MIT": ["MIT License"], "Apache-2.0": [], "0BSD": []},
        "ignored": ["DFSG approved"],
        "packages": {"odd": "we asked"},
    }
)


@pytest.mark.parametrize(
    ("licences", "holds"),
    [
        (["MIT"], True),
        (["mit license", "DFSG approved"], True),
        (["MIT OR GPL-3.0-only"], True),
        (["MIT AND GPL-3.0-only"], False),
        (["(MIT OR GPL-3.0-only) AND Apache-2.0"], True),
        (["(MIT OR GPL-3.0-only) AND AGPL-3.0-only"], False),
        (["GPL-3.0-only AND MIT OR MIT"], False),  # in doubt, no
        (["MIT License", "GNU General Public License (GPL)"], False),
        (["DFSG approved"], False),
        ([], False),
    ],
)
def test_a_licence_must_be_allowed_in_all_its_parts(licences: list[str], holds: bool) -> None:
    assert (RULES.judge("some", "1", licences).allowed is not None) == holds


def test_a_package_may_be_allowed_by_name_with_the_reason() -> None:
    assert RULES.judge("odd", "1", ["GPL"]).allowed == "we asked"


def test_every_installed_package_has_a_licence_that_is_allowed() -> None:
    told = yaml.safe_load((HOME / "audit" / "licences.yaml").read_text())
    found = installed(Rules(told))
    assert len(found) > 100
    assert [one for one in found if one.allowed is None] == []


def answering(tmp_path: Path, told: object) -> list[str]:
    answer = told if isinstance(told, str) else json.dumps(told)
    return [sys.executable, "-c", f"import sys; print({answer!r}); sys.exit(1)"]


BUG = {"id": "CVE-1", "fix_versions": ["2"]}


@pytest.mark.parametrize(
    ("told", "code", "said"),
    [
        ({"dependencies": [{"name": "a", "version": "1", "vulns": []}]}, 0, "1 packages, 0 known"),
        (
            {"dependencies": [{"name": "a", "version": "1", "vulns": [BUG]}]},
            REFUSED,
            "a 1: CVE-1, mended in 2",
        ),
        ({"dependencies": [{"name": "a", "skip_reason": "not there"}]}, UNKNOWN, "UNKNOWN of a"),
        ("", UNKNOWN, "the service could not be asked"),
    ],
)
def test_a_service_that_does_not_answer_is_not_taken_for_good_news(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], told: object, code: int, said: str
) -> None:
    assert vulnerabilities(answering(tmp_path, told), tmp_path / "x" / "report.json") == code
    assert said in capsys.readouterr().out
