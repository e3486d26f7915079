"""Whatever SQL an author writes, the source reads it as Postgres does with the moment pasted in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError
from tests.faults.harness import thorough

from nightshift.data import connect
from nightshift.errors import SourceError
from nightshift.sources import Question, open_source, read_query

AS_OF = datetime(2026, 11, 3, 2, tzinfo=UTC)
PASTED = "(timestamptz '2026-11-03 02:00:00+00')"
PARAMETER = "\N{REPLACEMENT CHARACTER}"
"""Where a fragment has the moment: ``:as_of`` for us, its value for the other reader."""

# Everything but what Postgres cannot hold, with what makes SQL odd more often than by chance.
LETTERS = st.characters(exclude_characters="\x00" + PARAMETER, exclude_categories=["Cs"])
WORDS = st.lists(
    st.one_of(
        LETTERS,
        st.sampled_from([":as_of", ":x", "::", ":", "'", '"', "$$", "$a$", "--", "/*", "*/"]),
        st.sampled_from(["\\", ";", "E'", "%"]),
    ),
    max_size=6,
).map("".join)


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def escaped(text: str) -> str:
    return "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def in_dollars(text: str) -> str:
    tag = next(tag for tag in ("$$", "$a$", "$größe$", "$z9_$") if tag not in text + "$")
    return f"{tag}{text}{tag}"


def dollars(text: str) -> str:
    """In dollars where no tag can be closed by the text itself."""
    return in_dollars(text) if "$" not in text else quoted(text)


def comment(text: str) -> str:
    return f"/* {text.replace('*/', '').replace('/*', '')} /* :x */ */"


def line(text: str) -> str:
    return "-- " + text.replace("\n", " ").replace("\r", " ") + "\n"


LITERALS = st.one_of(WORDS.map(quoted), WORDS.map(escaped), WORDS.map(dollars))
GAPS = st.one_of(st.sampled_from([" ", "\n", "\t", "  "]), WORDS.map(comment), WORDS.map(line)).map(
    lambda gap: f" {gap} "
)
EXPRESSIONS = st.one_of(
    LITERALS,
    st.sampled_from(
        [
            "{p}",
            "{p}::date",
            "cast({p} as timestamptz)",
            "{p} - interval '7 days'",
            "date_trunc('day', {p})",
            "extract(dow from {p})",
            "{p} at time zone 'Europe/Berlin'",
            "to_char({p}, 'HH24:MI:SS')",
            "{p}<now()",
            "now()>{p}",
            "(array[1,2,3])[1:2]",
            "(array[1,2,3])[:extract(dow from {p})::int]",
            "(array[{p}::date])[1]",
            "case when {p} > '2026-01-01' then 'a:b' else $$ :x $$ end",
            "timestamptz {p}",
            "'{{\"a\":true}}'::jsonb @> '{{\"a\":true}}'",
            "'{{\"a\":1}}'::jsonb @? '$.a ? (@ > 0)'",
            "U&'d\\0061t:x'",
            "B'101'",
            "1::int::text",
            "'12:30'::time",
            "date {p}",
            "{p} between '2026-01-01' and 'infinity'",
            "-({p}::date - date '2026-01-01')",
            "coalesce(null, {p})::timestamp",
            "row({p}, ':x')",
            "array[{p}, {p}]",
            "5 % 2",
            "(select max(n) from generate_series({p}, {p} + '1 day', '1 hour') n)",
        ]
    ).map(lambda fragment: fragment.format(p=PARAMETER)),
)


@st.composite
def queries(draw: st.DrawFn) -> str:
    """A select of some expressions as text, with comments and odd names between them."""
    gaps = [draw(GAPS) for _ in range(4)]
    columns = [
        f"cast({draw(EXPRESSIONS)}{draw(GAPS)}as text) as {name}"
        for name in draw(st.sampled_from([["a"], ["a", '"b:as_of"'], ["größe", '"x""--y"', "c"]]))
    ]
    begin, end = draw(
        st.sampled_from(
            [
                ("", ""),
                ("", ";"),
                ("", ";; -- :x"),
                ("with w as (", ") select * from w"),
                ("(", ")"),
                ("", " order by 1 /* ; */ ;"),
                ("select * from (", ") t"),
            ]
        )
    )
    where = draw(st.sampled_from(["", f"where {PARAMETER} > '2026-01-01'", "where 1=1"]))
    if not begin and end == ";; -- :x":
        end += draw(WORDS).replace("\n", "").replace("\r", "")
    listed = f"{gaps[0]},{gaps[1]}".join(columns)
    return f"{gaps[3]}{begin}select{gaps[2]}{listed} {where}{end}"


@pytest.mark.timeout(7200)
def test_a_query_says_to_a_source_what_it_says_with_the_moment_pasted_in(
    warehouse_url: str,
) -> None:
    source, plain = open_source("warehouse", warehouse_url), connect(warehouse_url, role=None)
    answered: list[bool] = []

    @thorough(500)
    @given(sql=queries())
    @example(sql=f"select cast({PARAMETER} as text) as a -- it's :x\n; /* ' */")
    @example(sql=f"select E'\\\\' || cast({PARAMETER} as text) as a")
    def try_it(sql: str) -> None:
        with plain.administration() as connection:
            connection.exec_driver_sql("set local timezone = 'UTC'")
            try:
                expected = connection.exec_driver_sql(sql.replace(PARAMETER, PASTED)).all()
            except DBAPIError:
                connection.rollback()
                expected = None
        answered.append(expected is not None)
        written = Question(sql.replace(PARAMETER, ":as_of"), {"as_of": AS_OF}, "loads")
        if expected is None:
            with pytest.raises(SourceError, match=r"^loads"):
                source.ask(written)
        else:
            rows = source.ask(written).to_pylist()
            assert [tuple(row.values()) for row in rows] == [tuple(row) for row in expected]

    try_it()
    assert sum(answered) > len(answered) / 2


@pytest.mark.timeout(7200)
@thorough(500)
@given(sql=st.one_of(WORDS, st.text(max_size=60), st.lists(WORDS).map(" ".join)))
def test_any_text_is_read_or_refused_with_a_line_of_it(sql: str) -> None:
    query = read_query(sql)
    moments: dict[str, Any] = {"as_of": AS_OF, "since": AS_OF}
    assert sql[: query.end].startswith(query.bound(moments)) or query.parameters
    for fault in query.faults:
        assert 1 <= fault.line <= sql.count("\n") + sql.count("\r") + 1
        assert "\n" not in fault.message
