"""The estimators of the benchmarks: one hundred trees, or a line that costs nothing to fit."""

from __future__ import annotations

from typing import Literal

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder


def build(
    numeric: list[str], categorical: list[str], kind: Literal["trees", "line"], seed: int
) -> Pipeline:
    """An unfitted pipeline of 100 trees, or of a line over one-hot columns."""
    if kind == "line":
        encode = OneHotEncoder(handle_unknown="ignore")
        columns = ColumnTransformer([("c", encode, categorical), ("n", "passthrough", numeric)])
        return Pipeline([("columns", columns), ("line", Ridge())])
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    columns = ColumnTransformer([("c", encoder, categorical), ("n", "passthrough", numeric)])
    trees = HistGradientBoostingRegressor(
        categorical_features=list(range(len(categorical))), max_iter=100, random_state=seed
    )
    return Pipeline([("columns", columns), ("trees", trees)])
