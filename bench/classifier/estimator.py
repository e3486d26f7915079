"""The classifiers of the benchmark: one hundred trees, or a line over one-hot columns."""

from __future__ import annotations

from typing import Literal

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler


def build(
    numeric: list[str], categorical: list[str], kind: Literal["trees", "line"], seed: int
) -> Pipeline:
    """An unfitted pipeline of one kind."""
    if kind == "line":
        encode, scale = OneHotEncoder(handle_unknown="ignore"), StandardScaler()
        columns = ColumnTransformer([("c", encode, categorical), ("n", scale, numeric)])
        return Pipeline([("columns", columns), ("line", LogisticRegression(random_state=seed))])
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    columns = ColumnTransformer([("c", encoder, categorical), ("n", "passthrough", numeric)])
    trees = HistGradientBoostingClassifier(
        categorical_features=list(range(len(categorical))), max_iter=100, random_state=seed
    )
    return Pipeline([("columns", columns), ("trees", trees)])
