"""Anything in model.yaml, from features.sql or from labels.sql ends in our errors or in order."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from tests.faults.harness import thorough
from tests.world import ESTIMATOR, FAMILY, FEATURES, LABELS, MODEL, World

from nightshift.errors import NightshiftError
from nightshift.family import load_family
from nightshift.steps import monitor, night

PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.dates(),
    st.sampled_from(["P1D", "0 2 * * *", "../x", "size", "x" * 70, "%s", "\x00", "on"]),
)
ANYTHING = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PLAIN, inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every key in a model.yaml, nested ones too, and one that nobody knows."""
    found = [path]
    if isinstance(value, dict):
        for name, inner in [*value.items(), ("unheard_of", None)]:
            found += places(inner, (*path, name))
    return found


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    return {**value, path[0]: changed(value.get(path[0]), path[1:], new)}


def text_of(value: Any) -> str:
    return yaml.safe_dump(value, allow_unicode=True)


FILES = st.one_of(
    st.builds(
        lambda path, new: text_of(changed(MODEL, path, new)),
        st.sampled_from(places(MODEL)),
        ANYTHING,
    ),
    st.text(max_size=60),
    st.integers(0, 400).map(lambda end: text_of(MODEL)[:end]),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The family of the tests, without a database."""
    folder = tmp_path_factory.mktemp("fuzz") / FAMILY
    folder.mkdir()
    for name, text in (
        ("features.sql", FEATURES),
        ("labels.sql", LABELS),
        ("estimator.py", ESTIMATOR),
    ):
        (folder / name).write_text(text)
    return folder


@pytest.mark.timeout(7200)
@thorough(500)
@given(text=FILES)
def test_any_model_yaml_loads_or_names_its_place(folder: Path, text: str) -> None:
    file = folder / "model.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load_family(folder)
    except NightshiftError as error:
        assert error.code == "config"
        assert str(error).startswith(str(folder))


# SQL expressions of every kind, as a source may return them.
VALUES = [
    "1",
    "-1.5",
    "0",
    "1e300",
    "'NaN'::float8",
    "'infinity'::float8",
    "null",
    "null::int",
    "9223372036854775807",
    "1.5::numeric",
    "'NaN'::numeric",
    "1e400::numeric",
    "7::smallint",
    "1.5::real",
    "true",
    "'k1'::text",
    "''::text",
    "'x\"; drop table items; --'::text",
    "'%s {} $1'::text",
    "'名前'::text",
    "repeat('long', 3000)",
    "'c'::\"char\"",
    "'v'::varchar(3)",
    "'n'::name",
    "now()",
    "'infinity'::timestamptz",
    "'-infinity'::timestamptz",
    "'0044-03-15 BC'::timestamptz",
    "'294276-12-31'::timestamptz",
    "timestamp '2026-01-01'",
    "date '2026-01-01'",
    "time '02:00'",
    "interval '1 month'",
    "'{}'::json",
    "'{\"a\": 1}'::jsonb",
    "array[1, 2]",
    "array['a', null]",
    "row(1, 'a')",
    "'\\x00ff'::bytea",
    "'1'::xid",
    "'10.0.0.1'::inet",
    "int4range(1, 5)",
    "gen_random_uuid()",
    "'(1,2)'::point",
    "1::oid",
    "'12.34'::money",
    "b'101'",
]


def query(columns: dict[str, str], rows: int, rest: str = "") -> str:
    """A query of some rows; each column has one expression, the rows differ in ``i``."""
    listed = ", ".join(f"{expression} as {name}" for name, expression in columns.items())
    numbers = f"generate_series(1, {rows}) i"
    source = f"(select i, i::float8 as size, 'k' || i as kind from {numbers}) s"
    return f"select {listed}{rest} from {source} where cast(:as_of as timestamptz) is not null"


def column(good: str) -> st.SearchStrategy[str]:
    """Mostly as it should be: so that what is wrong elsewhere is reached."""
    return st.one_of(st.just(good), st.just(good), st.sampled_from(VALUES))


@st.composite
def tables(draw: st.DrawFn, columns: dict[str, str]) -> str:
    """A query of up to four rows, any of whose columns may be odd, missing or one too many."""
    chosen = {name: draw(column(good)) for name, good in columns.items()}
    dropped = draw(st.sampled_from([None, None, None, None, None, *columns]))
    kept = {name: expression for name, expression in chosen.items() if name != dropped}
    extra = draw(st.sampled_from(["", "", "", "", ", 1 as extra", ", size", ", kind as size"]))
    order = draw(st.sampled_from(["", "", " order by 1 desc"]))
    return query(kept, draw(st.integers(0, 4)), extra) + order


def each_alone(columns: dict[str, str]) -> Callable[[Any], Any]:
    """Try first every value in every column of a query that is good otherwise."""

    def decorate(test: Any) -> Any:
        for name in columns:
            for value in VALUES:
                test = example(sql=query({**columns, name: value}, rows=2))(test)
        return test

    return decorate


GOOD_FEATURES = {
    "entity_id": "'e' || i",
    "size": "i::float8",
    "kind": "'k' || i",
    "known_at": "timestamptz '2026-01-01'",
}
GOOD_LABELS = {
    "entity_id": "'e' || i",
    "value": "i::float8",
    "event_at": "timestamptz '2026-01-01'",
    "known_at": "timestamptz '2026-01-01'",
}


@pytest.mark.timeout(7200)
def test_any_result_of_features_is_published_or_refused(served: World) -> None:
    numbers = count(10)

    @thorough(500)
    @each_alone(GOOD_FEATURES)
    @given(sql=tables(GOOD_FEATURES))
    def try_it(sql: str) -> None:
        served.write("features.sql", sql)
        number = next(numbers)
        as_of = served.night(number)
        shown = f"select count(*) from predictions where as_of = '{as_of.isoformat()}'"
        try:
            now = as_of + timedelta(minutes=5)
            snapshot_id = night.freeze(served.site, FAMILY, as_of, now=now)
            night.validate(served.site, snapshot_id, now=now)
            done = night.publish(
                served.site, night.score(served.site, snapshot_id, now=now), now=now
            )
        except NightshiftError as error:
            assert FAMILY in str(error)
            assert served.codes()[-1] == error.code
            assert served.rows(shown)[0][0] == 0
        else:
            assert served.rows(shown)[0][0] == done["rows"] > 0

    try_it()


@pytest.mark.timeout(7200)
def test_any_labels_are_collected_or_refused(served: World) -> None:
    numbers = count(10)
    stored = "select count(*) from nightshift.labels"

    @thorough(500)
    @each_alone(GOOD_LABELS)
    @given(sql=tables(GOOD_LABELS))
    def try_it(sql: str) -> None:
        served.write("labels.sql", sql)
        as_of, before = served.night(next(numbers)), served.rows(stored)[0][0]
        try:
            monitor.collect_labels(served.site, FAMILY, as_of, now=as_of)
        except NightshiftError as error:
            assert FAMILY in str(error)
            assert served.codes()[-1] == error.code
            assert served.rows(stored)[0][0] == before
            return
        odd = "select from nightshift.labels where not isfinite(known_at) or not isfinite(event_at)"
        assert served.rows(odd) == []

    try_it()
