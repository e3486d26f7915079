"""The estimator of the benchmark: one hundred trees on encoded categories and plain numbers."""

from __future__ import annotations

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder


def build(numeric: list[str], categorical: list[str], seed: int) -> Pipeline:
    """An unfitted pipeline of 100 trees."""
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    columns = ColumnTransformer([("c", encoder, categorical), ("n", "passthrough", numeric)])
    trees = HistGradientBoostingRegressor(
        categorical_features=list(range(len(categorical))), max_iter=100, random_state=seed
    )
    return Pipeline([("columns", columns), ("trees", trees)])
