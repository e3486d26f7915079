"""What a table of features must look like, and how it becomes the frame an estimator sees.

Scoring, measuring and training all pass through here, so they cannot differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from nightshift.family import Features
from nightshift.wording import near


def shape_problems(
    schema: pa.Schema, features: Features, keys: Sequence[str] = (), *, exact: bool = True
) -> list[str]:
    """Every way in which a table's columns differ from what the family declares.

    ``keys`` are columns of text that are frozen beside the features. With ``exact=False`` further
    columns are no problem: an old snapshot may hold a feature that the family has given up since.
    """
    expected = ["entity_id", *keys, *features.names]
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
        if schema.names.count(name) > 1:
            problems.append(f"column {name!r} is returned twice")
        elif name in schema.names:
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


def numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A numeric column as float64, as estimators see it: beyond 2^53 integers are rounded."""
    return column.cast(pa.float64(), safe=False)


def frame(table: pa.Table, features: Features) -> pd.DataFrame:
    """The estimator's input: numeric columns as float64, categorical ones as str, None for null.

    Columns are taken by name, so their order in ``table`` does not matter. Text may come as codes
    into a dictionary: equal values are then one object, which is made once.
    """
    numeric = {
        name: numbers(table[name]).to_numpy(zero_copy_only=False) for name in features.numeric
    }
    categorical = {
        name: pd.Series(_objects(table[name]), dtype=object, copy=False)
        for name in features.categorical
    }
    return pd.DataFrame({**numeric, **categorical}, columns=features.names)


def _objects(column: pa.ChunkedArray) -> np.ndarray:
    if not pa.types.is_dictionary(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    parts = [_decoded(_with_none(chunk.dictionary), chunk) for chunk in column.chunks]
    return np.concatenate(parts) if parts else np.empty(0, dtype=object)


def _with_none(values: pa.Array) -> np.ndarray:
    return np.append(values.to_numpy(zero_copy_only=False).astype(object), [None])


def _decoded(values: np.ndarray, chunk: pa.DictionaryArray) -> np.ndarray:
    """The value of each row; that of a null is the last one."""
    codes = chunk.indices.fill_null(len(values) - 1).to_numpy()
    return np.asarray(values[codes])


def _nearest(name: str, found: set[str]) -> str:
    close = near(name, found)
    return f" (the query returns {close[0]!r}: renamed?)" if close else ""
