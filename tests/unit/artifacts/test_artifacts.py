"""A pipeline as bytes: nothing of the process that wrote them shows."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import pytest

HASH = """
import hashlib
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
import numpy as np
from nightshift.artifacts import canonical

frame = pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": [3.0, 1.0, 0.0]})
columns = ColumnTransformer(
    [("scaled", StandardScaler(), ["a"]), ("logged", FunctionTransformer(np.log1p), ["b"])]
)
pipeline = Pipeline([("columns", columns), ("last", Ridge())]).fit(frame, [1.0, 0.0, 2.0])
print(hashlib.sha256(canonical.to_bytes(pipeline)).hexdigest())
"""


@cache
def written_after(first: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", first + HASH], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize("library", ["dill", "cloudpickle"])
def test_what_another_library_does_to_pickle_does_not_show(library: str) -> None:
    assert written_after(f"import {library}\n") == written_after("")
