"""A factory that costs nothing to train, so that what is measured is everything around it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

_ESTIMATOR = '''
"""A line through four numbers."""
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder


def build(numeric, categorical, seed):
    columns = ColumnTransformer(
        [("c", OneHotEncoder(handle_unknown="ignore"), categorical), ("n", "passthrough", numeric)]
    )
    return Pipeline([("columns", columns), ("line", Ridge())])
'''


def source(models: int, rows: int) -> str:
    """The source's one table: so many rows for each of so many models."""
    return f"""
select setseed(0.5);
create table rows as
select number, random() as a, random() as b, random() as c, random() as d,
       'k' || mod(number, 8) as kind, 'p' || mod(number, 100) as place,
       'm' || mod(number, {models}) as machine
from generate_series(1, {models * rows}) number;
grant select on rows to public;
"""


def write(folder: Path, *, performance: dict[str, Any] | None = None) -> None:
    """The family of the benchmarks in a new folder, as a factory with labels for every row."""
    shutil.copytree(Path(__file__).parent / "family", folder)
    for name in ("features.sql", "labels.sql"):
        text = (folder / name).read_text()
        text = text.replace("kind, place\n", "kind, place, machine\n")
        (folder / name).write_text(text.replace("number <= 2000", "true"))
    (folder / "estimator.py").write_text(_ESTIMATOR)
    model = yaml.safe_load((folder / "model.yaml").read_text())
    model["family"] = folder.name
    model["models"] = {"by": "machine", "thresholds": {"*": -100.0}}
    model["performance"] |= {"threshold": None, "min_labels": 20, **(performance or {})}
    model["retrain"] |= {"when": {"breaches": 2, "of_last": 3}}
    model["retrain"]["training"]["min_rows"] = 20
    model["promotion"] |= {"min_rows": 20, "too_good": None}
    (folder / "model.yaml").write_text(yaml.safe_dump(model))
