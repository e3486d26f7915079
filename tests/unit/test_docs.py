"""What is committed about the code agrees with the code."""

from __future__ import annotations

import json
from pathlib import Path

from nightshift.family import ModelFamily

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_json_schema_is_that_of_model_yaml() -> None:
    committed = json.loads((DOCS / "model.schema.json").read_text())
    assert committed == ModelFamily.model_json_schema(), (
        "renew it: python -c 'import json; from nightshift.config import ModelFamily;"
        " print(json.dumps(ModelFamily.model_json_schema(), indent=2))' > docs/model.schema.json"
    )


def test_every_key_of_model_yaml_is_described() -> None:
    described = (DOCS / "models.md").read_text()
    missing = [key for key in ModelFamily.model_fields if f"`{key}" not in described]
    assert missing == []
