"""What a table of features must look like, and how it becomes the frame an estimator sees.

Scoring, measuring and training all pass through here, so they cannot differ.
"""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.family import Features

UNSEEN_CATEGORY = 1
OUT_OF_RANGE = 2


def shape_problems(schema: pa.Schema, features: Features, *, exact: bool = True) -> list[str]:
    """Every way in which a table's columns differ from what the family declares.

    With ``exact=False`` further columns are no problem: an old snapshot may hold a feature that
    the family has given up since.
    """
    expected = ["entity_id", *features.names]
    problems = [
        f"column {name!r} is missing{_nearest(name, set(schema.names) - set(expected))}"
        for name in expected
        if name not in schema.names
    ]
    if exact:
        problems += [
            f"column {name!r} is not declared in model.yaml; leave it out or add it to features"
            for name in schema.names
            if name not in expected
        ]
    for name in expected:
        if name in schema.names:
            problems += _type_problem(name, schema.field(name).type, features)
    return problems


def _type_problem(name: str, found: pa.DataType, features: Features) -> list[str]:
    if name in features.numeric:
        accepted = pa.types.is_integer(found) or pa.types.is_floating(found) or found == pa.bool_()
        wanted = "integer, double precision or boolean"
    else:
        accepted, wanted = pa.types.is_string(found) or pa.types.is_large_string(found), "text"
    return (
        [] if accepted else [f"column {name!r} is {found}, not {wanted}; cast it in features.sql"]
    )


def frame(table: pa.Table, features: Features) -> pd.DataFrame:
    """The estimator's input: numeric columns as float64, categorical ones as str, None for null.

    Columns are taken by name, so their order in ``table`` does not matter.
    """
    numeric = {
        name: table[name].cast(pa.float64()).to_numpy(zero_copy_only=False)
        for name in features.numeric
    }
    categorical = {
        name: pd.Series(table[name].to_numpy(zero_copy_only=False), dtype=object)
        for name in features.categorical
    }
    return pd.DataFrame({**numeric, **categorical}, columns=features.names)


def profile(table: pa.Table, features: Features) -> dict[str, Any]:
    """What training saw: ``{"categories": {column: [...]}, "ranges": {column: [low, high]}}``."""
    ranges = {}
    for name in features.numeric:
        extent = pc.min_max(table[name].cast(pa.float64())).as_py()
        ranges[name] = [extent["min"], extent["max"]]
    categories = {
        name: sorted(v for v in pc.unique(table[name]).to_pylist() if v is not None)
        for name in features.categorical
    }
    return {"categories": categories, "ranges": ranges}


def flags(table: pa.Table, seen: dict[str, Any]) -> np.ndarray:
    """For each row, ``UNSEEN_CATEGORY | OUT_OF_RANGE`` as int16, against a :func:`profile`.

    A null is neither: estimators are trained with nulls, and validation watches their share.
    """
    result = np.zeros(table.num_rows, dtype=np.int16)
    for name, known in seen["categories"].items():
        column = table[name]
        unseen = pc.and_(
            pc.is_valid(column), pc.invert(pc.is_in(column, pa.array(known, column.type)))
        )
        result |= _as_numpy(unseen) * np.int16(UNSEEN_CATEGORY)
    for name, (low, high) in seen["ranges"].items():
        if low is None:
            continue
        values = table[name].cast(pa.float64())
        outside = pc.or_(pc.less(values, low), pc.greater(values, high))
        result |= _as_numpy(pc.fill_null(outside, False)) * np.int16(OUT_OF_RANGE)
    return result


def _as_numpy(mask: Any) -> np.ndarray:
    return np.asarray(mask.to_numpy(zero_copy_only=False), dtype=np.int16)


def _nearest(name: str, found: set[str]) -> str:
    close = difflib.get_close_matches(name, sorted(found), n=1)
    return f" (the query returns {close[0]!r}: renamed?)" if close else ""
