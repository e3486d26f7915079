"""Gradient-boosted trees on the timetable."""

from __future__ import annotations

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder


def build(numeric: list[str], categorical: list[str], seed: int, max_iter: int) -> Pipeline:
    """An unfitted pipeline; a category it has not seen counts as missing."""
    encoder = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan
    )
    columns = ColumnTransformer(
        [("categories", encoder, categorical), ("numbers", "passthrough", numeric)]
    )
    trees = HistGradientBoostingRegressor(
        categorical_features=list(range(len(categorical))),
        max_iter=max_iter,
        early_stopping=False,
        random_state=seed,
    )
    return Pipeline([("columns", columns), ("trees", trees)])
