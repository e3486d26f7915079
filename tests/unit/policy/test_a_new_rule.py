"""What a new rule of the policy touches, and nothing else: no other code knows a rule by its name.

CONTRIBUTING.md says which files, under "Where things are added"; here they are counted.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parents[3]
INCLUDE = HOME / "include"
RULES = "nightshift/policy/retraining.py"
SECTION = "nightshift/family/rules.py"
TOUCHED = (
    f"include/{SECTION}",
    "include/nightshift/records/models.py",
    f"include/{RULES}",
    "docs/policy.md",
    "tests/unit/policy/test_policy.py",
)
"""The section, the measured fact that a rule looks at, the rule, its docs and its test."""

FACTS = {
    "nightshift/documents.py": {"shift"},  # the detector's figures, as they are stored
    "nightshift/cli/nights.py": {"breaches"},  # how many measurements of a simulation were
    "nightshift/reports/figures.py": {"breaches"},  # how many models are below their thresholds
}
"""Files that use the word for something else than the rule."""

ANSWERS = {
    "nightshift/web/actions.py",
    "nightshift/cli/people.py",  # whether one's answer was the first
    "nightshift/reports/chain.py",  # decisions of before there were columns
    "nightshift/promotion/outcome.py",  # whether the champion could not score
}
"""Files that ask for the rule of a decision that no measurement has led to."""


@cache
def names_of_rules() -> frozenset[str]:
    """What ``_fired`` yields first: the names under which decisions tell that a rule has fired."""
    [fired] = [
        node
        for node in ast.walk(tree(RULES))
        if isinstance(node, ast.FunctionDef) and node.name == "_fired"
    ]
    return frozenset(
        _beginning(node.value.elts[0])
        for node in ast.walk(fired)
        if isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple)
    )


def _beginning(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        node = node.values[0]
    assert isinstance(node, ast.Constant)
    return str(node.value)


@cache
def tree(file: str) -> ast.Module:
    return ast.parse((INCLUDE / file).read_text())


def code() -> Iterator[str]:
    for file in sorted(INCLUDE.glob("nightshift*/**/*.py")):
        yield file.relative_to(INCLUDE).as_posix()


def constants(file: str) -> set[str]:
    """Every text in a file's code that is no docstring."""
    module = tree(file)
    docstrings = {
        id(node.value)
        for node in ast.walk(module)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return {
        node.value
        for node in ast.walk(module)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
    }


def test_contributing_counts_what_a_new_rule_touches() -> None:
    lines = (HOME / "CONTRIBUTING.md").read_text().splitlines()
    [row] = [line for line in lines if line.startswith("| a rule of the policy |")]
    assert f"{len(TOUCHED)} files" in row
    for file in TOUCHED:
        assert (HOME / file).exists()
        assert file.removeprefix("include/nightshift/") in row


def test_the_rules_are_those_of_the_page() -> None:
    page = (HOME / "docs" / "policy.md").read_text()
    told = set(re.findall(r"^\| `(\w+)[:`]", page.partition("## The rules under")[2], re.MULTILINE))
    assert {name.split()[0].rstrip("s") for name in names_of_rules()} <= {
        word.rstrip("s") for word in told
    }
    assert names_of_rules() == {"shift", "whole_window", "breaches", "signal "}


@pytest.mark.parametrize("file", [file for file in code() if file not in (RULES, SECTION)])
def test_nothing_else_knows_a_rule_by_its_name(file: str) -> None:
    known = {name.strip() for name in names_of_rules() for text in constants(file) if text == name}
    assert known <= FACTS.get(file, set())


def test_no_code_asks_which_rule_has_decided() -> None:
    """Alarming, severe, falling: such facts are columns. A rule's name is for people."""
    asking = {
        f"{file}:{node.lineno}"
        for file in code()
        if not file.startswith("nightshift/policy/") and file not in ANSWERS
        for node in ast.walk(tree(file))
        if (isinstance(node, ast.Compare) and any(map(_is_rule, [node.left, *node.comparators])))
        or (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("startswith", "partition", "split", "removeprefix")
            and _is_rule(node.func.value)
        )
    }
    assert asking == set()


def _is_rule(node: ast.expr) -> bool:
    named = isinstance(node, ast.Attribute) and node.attr == "rule"
    keyed = (
        isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Constant)
        and node.slice.value == "rule"
    )
    return named or keyed


@pytest.mark.parametrize("file", sorted((HOME / "sql" / "queries").glob("*.sql")), ids=str)
def test_no_query_asks_for_a_rule_of_measurements(file: Path) -> None:
    """Who asked is another matter: retrains that a person wants are told apart by ``on_demand``."""
    names = "|".join(name.strip() for name in names_of_rules())
    assert not re.findall(rf"\brule\b[^\n]*'({names})", file.read_text())
    assert not re.findall(r"\b(?:subject|reason|rule)\s+(?:not\s+)?(?:i?like|~)", file.read_text())
