"""The direction of imports is a test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[2]


def test_imports_run_one_way() -> None:
    checked = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")],
        cwd=HOME,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_only_the_registry_opens_artifacts() -> None:
    opening = [
        file.name
        for file in (HOME / "include").rglob("*.py")
        if "joblib.load" in file.read_text() or "pickle.load" in file.read_text()
    ]
    assert opening == ["versions.py"]


def test_a_task_that_predicts_nothing_imports_no_scikit_learn() -> None:
    """Every task is a process of its own: what its imports cost is paid thousands of times."""
    heavy = ("sklearn", "scipy.stats", "scipy.optimize", "great_expectations", "matplotlib")
    steps = "import nightshift.steps." + ", nightshift.steps.".join(("night", "monitor", "retrain"))
    asked = f"{steps}, sys; print([m for m in {heavy} if m in sys.modules])"
    told = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True, cwd=HOME
    )
    assert told.stdout.strip() == "[]"
