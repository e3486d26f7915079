"""What is committed about the code agrees with the code."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from docs import reference, surfaces
from pydantic import BaseModel, Field

from nightshift.family import ModelFamily
from nightshift.site import Settings

HOME = Path(__file__).resolve().parents[2]
DOCS = HOME / "docs"


RENEW = "a key of model.yaml changed; run: make reference"


def test_the_tables_of_models_md_say_what_the_keys_say() -> None:
    page = (DOCS / "models.md").read_text()
    assert page == reference.render(page), RENEW


def test_the_json_schema_is_that_of_model_yaml() -> None:
    assert (DOCS / "model.schema.json").read_text() == reference.schema(), RENEW


def test_the_pages_of_commands_and_of_rest_say_what_the_code_says() -> None:
    assert (DOCS / "cli.md").read_text() == surfaces.cli(), "run: make reference"
    assert (DOCS / "rest.md").read_text() == surfaces.rest(), "run: make reference"


def test_every_key_is_explained_by_itself_or_by_the_keys_inside_it() -> None:
    for section in _sections(ModelFamily) | _sections(Settings):
        for name, field in section.model_fields.items():
            explained = field.description or _sections(field.annotation)
            assert explained, f"{section.__name__}.{name} needs Field(description=...)"


def test_a_new_key_is_asked_into_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    class Grown(ModelFamily):
        encore: str = Field(description="what is played when they clap")

    monkeypatch.setitem(reference.FILES, "model.yaml", Grown)
    with pytest.raises(LookupError, match=r"no table of docs/models\.md names 'encore'"):
        reference.render((DOCS / "models.md").read_text())


def test_a_row_says_what_may_be_written_and_what_holds_without_it() -> None:
    rows = {row.key: row for row in reference.rows_of(ModelFamily)}
    assert rows["promotion.approval"].values == "`automatic`, `human`"
    assert rows["watch.missing"][1:3] == ("`{warn, alert}` or null", "`{warn: 0.05, alert: 0.2}`")
    assert rows["retrain.when"].default == "`{shift: {false_alarms: 0.05}}`"
    assert rows["labels.silence"][1:3] == ("duration or null", "null")
    assert rows["models.groups.<name>.thresholds"].values == "name to number"
    assert rows["expectations"].values == "list of the keys below"
    assert rows["alerts[].on"].default == "all"
    assert rows["expectations[].severity"].default == "`critical`"
    assert rows["scoring.max_tasks"].values == "whole number from 1 to 1024"


def test_every_row_of_a_table_is_one_line_of_four_cells() -> None:
    for row in [*reference.rows_of(ModelFamily), *reference.rows_of(Settings)]:
        assert not set("\n|") & set("".join(row)), row


def _sections(annotation: Any) -> set[type[BaseModel]]:
    """The sections that a key may hold, with those inside them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields.values()
        return {annotation}.union(*(_sections(field.annotation) for field in fields))
    return {section for part in get_args(annotation) for section in _sections(part)}


def test_the_drawing_of_the_rooms_is_that_of_the_layers() -> None:
    contracts = tomllib.loads((HOME / "pyproject.toml").read_text())["tool"]["importlinter"]
    [layers] = [c["layers"] for c in contracts["contracts"] if c["type"] == "layers"]
    drawing = (DOCS / "architecture.md").read_text().split("## The rooms")[1].split("```")[1]
    drawn = [re.split(r"\s{2,}", line)[0] for line in drawing.strip().splitlines()]
    assert drawn == layers


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
