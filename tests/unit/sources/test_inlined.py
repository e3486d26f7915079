"""A source's query as a part of another statement, which is how its rows can be streamed."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from nightshift.data import inlined

AS_OF = datetime(2026, 1, 5, 3, tzinfo=timezone(timedelta(hours=1)))
TOLD = "'2026-01-05T02:00:00+00:00'"


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("select 1 where :as_of > now()", f"select 1 where {TOLD} > now()"),
        ("select cast(:as_of as date)::text;\n", f"select cast({TOLD} as date)::text"),
        ("select 1 -- it's :as_of\nfrom t; -- the end", f"select 1 -- it's {TOLD}\nfrom t"),
        ("select 1 /* a ; */ ; /* b */ ;", "select 1"),
        ("select ';--', \"a;--\", 'o''clock;'", "select ';--', \"a;--\", 'o''clock;'"),
        ("select $a$ ; -- $a$ ;", "select $a$ ; -- $a$"),
        ("select 5 % 2, 'a%b'", "select 5 % 2, 'a%b'"),
    ],
)
def test_moments_are_written_out_and_what_follows_is_left_out(sql: str, told: str) -> None:
    assert inlined(sql, {"as_of": AS_OF}) == told
