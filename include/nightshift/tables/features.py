"""What a table of features must look like, and how it becomes the frame an estimator sees.

Scoring, measuring and training all pass through here, so they cannot differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from nightshift.family import Features
from nightshift.tables.keys import KEY_TYPES, is_key
from nightshift.wording import near


def shape_problems(
    schema: pa.Schema,
    features: Features,
    keys: Sequence[str] = (),
    *,
    exact: bool = True,
    text_numbers: bool = False,
) -> list[str]:
    """Every way in which a table's columns differ from what the family declares.

    ``keys`` are columns that are frozen as text beside the features. With ``text_numbers``, numbers
    may come as text, of which some may be none. With ``exact=False`` further
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
            problems += _type_problem(name, schema.field(name).type, features, text_numbers)
    return problems


def _type_problem(
    name: str, column_type: pa.DataType, features: Features, text_numbers: bool
) -> list[str]:
    if name in features.numeric:
        accepted = (
            pa.types.is_integer(column_type)
            or pa.types.is_floating(column_type)
            or column_type == pa.bool_()
        )
        accepted = accepted or (text_numbers and pa.types.is_string(column_type))
        types, cast_to = "a number or boolean", "double precision"
    else:
        accepted, types, cast_to = is_key(column_type), KEY_TYPES, "text"
    if accepted:
        return []
    return [
        f"column {name!r} is {column_type}, not {types};"
        f" write cast({name} as {cast_to}) as {name} in features.sql"
    ]


def numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A numeric column as float64, as estimators see it: beyond 2^53 integers are rounded."""
    return column.cast(pa.float64(), safe=False)


def frame(
    table: pa.Table, features: Features, missing_text: float | None = math.nan
) -> pd.DataFrame:
    """The estimator's input: numeric columns as float64, categorical ones as str in objects.

    Columns are taken by name, so their order in ``table`` does not matter. Text may come as codes
    into a dictionary: equal values are then one object, which is made once.

    Parameters
    ----------
    missing_text
        What stands for a null of a categorical column: NaN as where pandas reads a file, which
        imputers and encoders know as missing; None for versions of before, which learnt that.
    """
    numeric = {
        name: numbers(table[name]).to_numpy(zero_copy_only=False) for name in features.numeric
    }
    categorical = {
        name: pd.Series(_objects(table[name], missing_text), dtype=object, copy=False)
        for name in features.categorical
    }
    return pd.DataFrame({**numeric, **categorical}, columns=features.names)


def _objects(column: pa.ChunkedArray, missing: float | None) -> np.ndarray:
    if not pa.types.is_dictionary(column.type):
        return _texts(column, missing)
    parts = [_decoded(_with_missing(chunk.dictionary, missing), chunk) for chunk in column.chunks]
    return np.concatenate(parts) if parts else np.empty(0, dtype=object)


def _texts(column: pa.ChunkedArray | pa.Array, missing: float | None) -> np.ndarray:
    values = np.array(column.to_numpy(zero_copy_only=False), dtype=object)
    if missing is not None and column.null_count:
        values[np.asarray(column.is_null().to_numpy(zero_copy_only=False))] = missing
    return values


def _with_missing(values: pa.Array, missing: float | None) -> np.ndarray:
    return np.append(_texts(values, missing), np.array([missing], dtype=object))


def _decoded(values: np.ndarray, chunk: pa.DictionaryArray) -> np.ndarray:
    """The value of each row; that of a null is the last one."""
    codes = chunk.indices.fill_null(len(values) - 1).to_numpy()
    return np.asarray(values[codes])


def _nearest(name: str, columns: set[str]) -> str:
    close = near(name, columns)
    return f" (the query returns {close[0]!r}: renamed?)" if close else ""
