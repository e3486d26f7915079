"""What is committed about the code agrees with the code."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

from nightshift.family import ModelFamily

HOME = Path(__file__).resolve().parents[2]
DOCS = HOME / "docs"


def test_the_json_schema_is_that_of_model_yaml() -> None:
    committed = json.loads((DOCS / "model.schema.json").read_text())
    assert committed == ModelFamily.model_json_schema(), (
        "renew it: python -c 'import json; from nightshift.family import ModelFamily;"
        " print(json.dumps(ModelFamily.model_json_schema(), indent=2))' > docs/model.schema.json"
    )


def test_every_key_of_model_yaml_is_described() -> None:
    described = (DOCS / "models.md").read_text()
    missing = [key for key in ModelFamily.model_fields if f"`{key}" not in described]
    assert missing == []


def test_every_threat_has_a_control_and_a_test_that_exists() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in (DOCS / "security.md").read_text().splitlines()
        if line.startswith("| ") and not line.startswith("| threat")
    ]
    assert len(rows) > 25
    for threat, control, shown in rows:
        tests = re.findall(r"`([^`]+)`", shown)
        assert control, threat
        assert tests, threat
        for name in tests:
            file, _, function = name.partition("::")
            assert function in _functions(HOME / file), f"{threat}: there is no test {name}"


def _functions(file: Path) -> set[str]:
    parsed = ast.parse(file.read_text())
    return {node.name for node in parsed.body if isinstance(node, ast.FunctionDef)}
