"""The house stays one that its listing shows: small folders, short files, narrow faces."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parents[2]
HOUSE = HOME / "include" / "nightshift"
AIRFLOW = HOME / "include" / "nightshift_airflow"

MOST_FILES, MOST_LINES, MOST_LINES_OF_A_FACE = 12, 500, 39

CODE = sorted(
    file
    for root in (HOUSE, AIRFLOW, HOME / "dags")
    for file in root.rglob("*.py")
    if "template" not in file.parts
)
FACES = [file for file in CODE if file.name == "__init__.py" and file.parent != HOUSE]


def _name(path: Path) -> str:
    return str(path.relative_to(HOME))


def test_no_folder_has_more_files_than_one_sees_at_a_glance() -> None:
    folders = [HOUSE, AIRFLOW, *(path for path in HOUSE.rglob("*") if path.is_dir())]
    crowded = {
        _name(folder): count
        for folder in folders
        if folder.name != "__pycache__"
        and (count := sum(1 for file in folder.iterdir() if file.is_file())) > MOST_FILES
    }
    assert not crowded, f"more than {MOST_FILES} files: cut a room in two, or join two of its files"


@pytest.mark.parametrize("file", CODE, ids=_name)
def test_no_file_is_longer_than_one_reads(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= MOST_LINES, "cut it where its subject changes"


@pytest.mark.parametrize("face", FACES, ids=_name)
def test_a_face_says_what_its_room_is_for_and_hands_on_little(face: Path) -> None:
    text = face.read_text()
    assert ast.get_docstring(ast.parse(text)), "a sentence that says what the room is for"
    lines = len(text.splitlines())
    assert lines <= MOST_LINES_OF_A_FACE, "a room that must show so much holds two rooms"


def test_no_attribute_of_our_own_may_be_missing() -> None:
    """Nor is one guessed: a default for what is not there hides a guard that never closes."""
    guesses = {f"{_name(file)}: {guess}" for file in CODE for guess in _guesses(file)}
    assert guesses == FOREIGN


FOREIGN = {
    "include/nightshift/artifacts/pipelines.py: getattr(part, '__module__', '')",
    "include/nightshift/data/database.py: getattr(compiled, 'positiontup', None)",
    "include/nightshift/data/drivers.py: getattr(error.orig, 'pgcode', None)",
    "include/nightshift/family/wording.py: getattr(yaml, 'CSafeLoader', yaml.SafeLoader)",
    "include/nightshift/training/estimators.py: getattr(estimator, '_predictors', None)",
    "include/nightshift/training/estimators.py: getattr(estimator, 'estimators_', None)",
    "include/nightshift/training/onnx_export.py: getattr(loaded.pipeline, 'classes_', None)",
}
"""Of libraries' objects, which differ from version to version."""


def _guesses(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        call = isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr"
        if isinstance(node, ast.Call) and call and len(node.args) > len(("object", "name")):
            yield ast.unparse(node)
