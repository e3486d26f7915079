"""Families made for a test, and Airflow as a parsing process sees it: without a database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

HOME = Path(__file__).resolve().parents[2]

# Nothing listens on port 9: whoever connects while parsing fails at once.
UNREACHABLE = "postgresql+psycopg2://nobody@127.0.0.1:9/none"

# Importing Airflow writes into its home, which must not be that of whoever runs the tests.
_AIRFLOW_HOME = tempfile.TemporaryDirectory(prefix="nightshift-airflow-")
os.environ["AIRFLOW_HOME"] = _AIRFLOW_HOME.name
os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = UNREACHABLE
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "false"


def write_family(models: Path, name: str, **changes: Any) -> Path:
    """Write a family's folder below ``models``; ``changes`` replace sections of model.yaml."""
    folder = models / name
    folder.mkdir(parents=True)
    model: dict[str, Any] = {
        "family": name,
        "description": "Minutes in the air",
        "task": "regression",
        "owner": "ops-research",
        "source": {"connection": "warehouse", "history": "append_only"},
        "features": {"numeric": ["distance"], "categorical": ["carrier"]},
        "schedule": {"score": "0 2 * * *", "monitor": "0 6 * * *"},
        "labels": {"maturity": "P2D"},
        "performance": {"metric": "neg_mean_absolute_error", "window": "P7D", "threshold": -11.0},
        "retrain": {"when": {"breaches": 2, "of_last": 3}, "training": {"window": "P60D"}},
        "promotion": {"holdout": "P7D"},
    } | changes
    (folder / "model.yaml").write_text(yaml.safe_dump(model))
    (folder / "features.sql").write_text("select :as_of")
    (folder / "labels.sql").write_text("select :since, :as_of")
    (folder / "estimator.py").write_text("def build(numeric, categorical, seed): ...\n")
    return folder


def parse_dags(models: Path, airflow_home: Path) -> dict[str, Any]:
    """What a fresh process finds in dags/ when it can reach no database."""
    environment: Mapping[str, str] = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(HOME / "include"),
        "AIRFLOW_HOME": str(airflow_home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(HOME / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": UNREACHABLE,
        "AIRFLOW_CONN_NIGHTSHIFT": UNREACHABLE,
        "AIRFLOW_CONN_WAREHOUSE": UNREACHABLE,
        "NIGHTSHIFT_DATABASE_URL": UNREACHABLE,
        "NIGHTSHIFT_MODELS": str(models),
    }
    report = airflow_home / "report.json"
    script = Path(__file__).with_name("parse.py")
    done = subprocess.run(
        [sys.executable, str(script), str(report)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    parsed: dict[str, Any] = json.loads(report.read_text())
    return parsed


@pytest.fixture(name="write_family")
def write_family_fixture(tmp_path: Path) -> Callable[..., Path]:
    """Write a family's folder below the test's own models folder."""
    return partial(write_family, tmp_path / "models")


@pytest.fixture(name="parse_dags")
def parse_dags_fixture(tmp_path: Path) -> Callable[[], dict[str, Any]]:
    """Parse dags/ with the test's own models folder."""
    return partial(parse_dags, tmp_path / "models", tmp_path)


@pytest.fixture(scope="session")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The project's own DAGs."""
    return parse_dags(HOME / "include" / "models", tmp_path_factory.mktemp("airflow"))
