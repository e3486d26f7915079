"""A line over scaled numbers and one column for each category."""

from __future__ import annotations

from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def build(numeric: list[str], categorical: list[str], seed: int) -> Pipeline:
    """An unfitted pipeline; a category it has not seen counts as none."""
    columns = ColumnTransformer(
        [
            ("categories", OneHotEncoder(handle_unknown="ignore"), categorical),
            ("numbers", StandardScaler(), numeric),
        ]
    )
    return Pipeline([("columns", columns), ("line", LogisticRegression(random_state=seed))])
