"""A line for each destination: some have one flight a day, which tell no more than a line."""

from __future__ import annotations

from sklearn.compose import ColumnTransformer
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def build(numeric: list[str], categorical: list[str], seed: int, alpha: float) -> Pipeline:
    """An unfitted pipeline; a category it has not seen counts for nothing."""
    columns = ColumnTransformer(
        [
            ("categories", OneHotEncoder(handle_unknown="ignore"), categorical),
            ("numbers", StandardScaler(), numeric),
        ]
    )
    return Pipeline([("columns", columns), ("line", Ridge(alpha=alpha, random_state=seed))])
