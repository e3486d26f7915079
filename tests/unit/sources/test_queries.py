"""Which colons of a query are parameters, where a query ends, and what its text says is wrong."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from nightshift.family import Problem
from nightshift.sources import read_query
from nightshift.sources.checking import _problems

AS_OF = datetime(2026, 1, 5, 3, tzinfo=timezone(timedelta(hours=1)))
MOMENT = "('2026-01-05T02:00:00+00:00'::timestamptz)"


@pytest.mark.parametrize(
    ("sql", "bound"),
    [
        ("select 1 where :as_of > now()", f"select 1 where {MOMENT} > now()"),
        ("select cast(:as_of as date)::text;\n", f"select cast({MOMENT} as date)::text"),
        ("select :as_of::date", f"select {MOMENT}::date"),
        ("select f(a => :as_of, b := :as_of)", f"select f(a => {MOMENT}, b := {MOMENT})"),
        ("select :'as_of'::date, a[:'2']", f"select {MOMENT}::date, a[:'2']"),
        ("select x<:as_of", f"select x<{MOMENT}"),
        ("select a[1:2], a[lo:hi], a[:hi] + :as_of", f"select a[1:2], a[lo:hi], a[:hi] + {MOMENT}"),
        ("select größe from ü where :as_of>n", f"select größe from ü where {MOMENT}>n"),
        # What only looks like a parameter.
        ("select 1 -- it's :as_of\nfrom t; -- the end", "select 1 -- it's :as_of\nfrom t"),
        ("select 1 /* a ; /* :x */ :y */ ; /* b */ ;", "select 1"),
        ("select 1 /*+ :x */ + 1", "select 1 /*+ :x */ + 1"),
        ("select ';--', \"a;:x\", 'o''clock:x;'", "select ';--', \"a;:x\", 'o''clock:x;'"),
        ("select $a$ ; :x $$ -- $a$ ;", "select $a$ ; :x $$ -- $a$"),
        (r"select E'it''s \' :x', 'a\'", r"select E'it''s \' :x', 'a\'"),
        ("select p @> '{\"active\":true}'", "select p @> '{\"active\":true}'"),
        ("select p @? '$.a ? (@ > 1)', p ?| k", "select p @? '$.a ? (@ > 1)', p ?| k"),
        ("select U&'d\\0061:x', B'01', X'1F'", "select U&'d\\0061:x', B'01', X'1F'"),
        ("select 'a'\n  ':b', 1::text::date", "select 'a'\n  ':b', 1::text::date"),
        ("select 5 % 2, 'a%b'", "select 5 % 2, 'a%b'"),
    ],
)
def test_moments_are_written_where_sql_means_them_and_what_follows_is_left_out(
    sql: str, bound: str
) -> None:
    query = read_query(sql)
    assert query.faults == ()
    assert query.bound({"as_of": AS_OF, "since": AS_OF}) == bound


@pytest.mark.parametrize(
    ("sql", "line", "message"),
    [
        ("select\n:as_off", 2, ":as_off is no parameter of this query (did you mean 'as_of'?)"),
        ("select :AS_OF", 1, ":AS_OF is no parameter of this query (did you mean 'as_of'?)"),
        ("select :today", 1, ":today is no parameter of this query; there is :as_of and :since"),
        ("select 1;\nselect 2", 1, "holds more than one statement"),
        ("-- nothing\n;", 1, "is empty"),
        ("select 'open", 1, "' is opened and never closed"),
        ("select /* open", 1, "never closed"),
        ("select $$ open", 1, "$$"),
    ],
)
def test_a_text_that_is_no_query_of_ours_is_told_with_its_line(
    sql: str, line: int, message: str
) -> None:
    [fault] = read_query(sql).faults
    assert fault.line == line
    assert message in fault.message


FEATURES = ["entity_id", "size", "kind"]


def problems(folder: Path, sql: str) -> list[Problem]:
    file = folder / "features.sql"
    file.write_text(sql)
    return list(_problems(file, ("as_of",), FEATURES))


@pytest.mark.parametrize(
    ("sql", "key", "message"),
    [
        (
            "select id as entity_ids, size,\nkind from t where n = :as_of",
            "line 1",
            "no column 'entity_id' (did you mean 'entity_ids'?)",
        ),
        (
            "with a as (select :as_of)\nselect size, kind from a",
            "line 2",
            "no column 'entity_id'",
        ),
        (
            "select *,\n cast(size as float8) as size from t where n = :as_of",
            "line 2",
            "'size' twice: as it is in *",
        ),
        ("select t.*, size::float8 from t where n = :as_of", "line 1", "as it is in t.*"),
        ("select entity_id, kind, size, size from t where n = :as_of", "", "'size' 2 times"),
        ("select 1 where :since < :as_of", "line 1", ":since is no parameter"),
        ("\nupdate t set x = :as_of", "line 2", "begins with 'update' and is no query"),
        ("explain select :as_of", "line 1", "begins with 'explain'"),
        ("select entity_id, size, kind from t -- :as_of", "", "where it is no parameter"),
    ],
)
def test_check_says_from_the_text_what_is_wrong(
    tmp_path: Path, sql: str, key: str, message: str
) -> None:
    [problem] = problems(tmp_path, sql)
    assert (problem.file.name, problem.key) == ("features.sql", key)
    assert message in problem.message


@pytest.mark.parametrize(
    "sql",
    [
        "select * from t where n = :as_of",
        'select ENTITY_ID::text, avg(x) as Size, k."kind" from t where n = :as_of group by 1, 3',
        "select (select entity_id from u limit 1), size, kind from t where n = :as_of",
        'select entity_id collate "C", size, kind from t where n = :as_of',
        "(select entity_id, size, kind from t where n = :as_of) union all select 'a', 1, 'b'",
        "select *, cast(size as float8) / 2 as half from t where n = :as_of",
        "select distinct on (a) entity_id, size, kind from t where n < :as_of"
        " window w as (order by b rows between 1 preceding and current row)",
        "values (:as_of)",
    ],
)
def test_what_the_text_alone_cannot_tell_is_left_to_the_source(tmp_path: Path, sql: str) -> None:
    assert problems(tmp_path, sql) == []
