"""What is missing is missing: a frame is as pandas would have read it from a file."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from nightshift import tables
from nightshift.family import Features

FEATURES = Features(numeric=["size"], categorical=["kind"])
KINDS = ["k1", None, "k0", "k1", None]
SIZES = [1.0, None, 3.0, 4.0, 5.0]

TEXTS = {
    "text": pa.chunked_array([pa.array(KINDS, pa.string())]),
    "large_text": pa.chunked_array([pa.array(KINDS, pa.large_string())]),
    "dictionary": pa.chunked_array([pa.array(KINDS, pa.string()).dictionary_encode()]),
    "two_pages": pa.chunked_array(
        [
            pa.array(KINDS[:2], pa.string()).dictionary_encode(),
            pa.array(KINDS[2:], pa.string()).dictionary_encode(),
        ]
    ),
    "an_empty_page": pa.chunked_array(
        [
            pa.array([], pa.string()).dictionary_encode(),
            pa.array(KINDS, pa.string()).dictionary_encode(),
        ]
    ),
    "a_page_of_nulls": pa.chunked_array(
        [
            pa.array(KINDS[:1], pa.string()).dictionary_encode(),
            pa.array([None], pa.string()).dictionary_encode(),
            pa.array(KINDS[2:], pa.string()).dictionary_encode(),
        ]
    ),
    "a_null_in_the_dictionary": pa.chunked_array(
        [
            pa.DictionaryArray.from_arrays(
                pa.array([0, 1, 2, 0, 1]), pa.array(["k1", None, "k0"], pa.string())
            )
        ]
    ),
}


def read_by_pandas() -> pd.DataFrame:
    rows = ["size,kind", *(f"{s or ''},{k or ''}" for s, k in zip(SIZES, KINDS, strict=True))]
    return pd.read_csv(io.StringIO("\n".join(rows)), dtype={"kind": object})


@pytest.mark.parametrize("name", TEXTS)
def test_a_frame_is_as_pandas_reads_it(name: str) -> None:
    table = pa.table({"size": pa.array(SIZES), "kind": TEXTS[name]})
    frame = tables.frame(table, FEATURES)
    assert [value is None for value in frame["kind"]] == [False] * 5
    pd.testing.assert_frame_equal(frame, read_by_pandas())


@pytest.mark.parametrize("name", TEXTS)
def test_missing_text_is_imputed_by_the_commonest(name: str) -> None:
    table = pa.table({"size": pa.array(SIZES), "kind": TEXTS[name]})
    frame = tables.frame(table, FEATURES)
    imputed = SimpleImputer(strategy="most_frequent").fit_transform(frame[["kind"]])
    assert imputed.ravel().tolist() == ["k1", "k1", "k0", "k1", "k1"]
    steps = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())
    assert steps.fit_transform(frame[["kind"]]).shape == (5, 2)
    encoded = OrdinalEncoder().fit_transform(frame[["kind"]]).ravel()
    assert np.isnan(encoded).tolist() == [False, True, False, False, True]


def test_versions_of_before_see_what_they_have_learnt() -> None:
    for column in TEXTS.values():
        table = pa.table({"size": pa.array(SIZES), "kind": column})
        assert tables.frame(table, FEATURES, None)["kind"].tolist() == KINDS


def test_a_column_without_any_text_is_all_missing() -> None:
    nothing = pa.array([None] * 5, pa.string())
    for column in (nothing, nothing.dictionary_encode()):
        table = pa.table({"size": pa.array(SIZES), "kind": column})
        frame = tables.frame(table, FEATURES)
        assert frame["kind"].isna().all()
        constant = SimpleImputer(strategy="constant", fill_value="none", keep_empty_features=True)
        assert set(constant.fit_transform(frame[["kind"]]).ravel()) == {"none"}


@pytest.mark.parametrize(
    "column",
    [
        pa.array([True, None, False, None, True]),
        pa.array([1, None, 0, None, 1]),
        pa.array([1, None, 0, None, 1], pa.int8()),
        pa.array([1.0, None, 0.0, float("nan"), 1.0]),
    ],
    ids=["booleans", "integers", "bytes", "floats"],
)
def test_missing_numbers_are_nan(column: pa.Array) -> None:
    table = pa.table({"size": column, "kind": pa.array(["a"] * 5)})
    found = tables.frame(table, FEATURES)["size"].to_numpy()
    np.testing.assert_array_equal(found, [1.0, np.nan, 0.0, np.nan, 1.0])
