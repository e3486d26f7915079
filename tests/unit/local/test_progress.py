"""How far long work has come, told to whoever has no terminal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO

from rich.console import Console

from nightshift.local import Bars

FIRST = datetime(2026, 1, 1, 2, tzinfo=UTC)


def told(nights: int, of: int, **console: bool) -> list[str]:
    out = StringIO()
    with Bars(Console(file=out, width=120, **console), ["air_time", "late_arrival"]) as bars:  # type: ignore[arg-type]
        for number in range(nights):
            bars("air_time", FIRST + timedelta(days=number), of)
        for what in ("in Airflow: score", "in Airflow: score", "ran one whole cycle"):
            bars.say("air_time", what)
    return out.getvalue().splitlines()


def test_without_a_terminal_ten_plain_lines_tell_how_far_it_is_and_what_remains() -> None:
    lines = told(200, 200)
    assert len(lines) == 12
    assert lines[0].startswith("air_time: 20 of 200 nights, about ")
    assert lines[0].endswith(" s left")
    assert lines[9:] == [
        "air_time: 200 of 200 nights",
        "air_time: in Airflow: score",
        "air_time: ran one whole cycle",
    ]


def test_few_nights_are_told_one_by_one() -> None:
    assert [line.partition(",")[0] for line in told(2, 3)[:2]] == [
        "air_time: 1 of 3 nights",
        "air_time: 2 of 3 nights",
    ]


def test_on_a_terminal_each_part_has_a_bar_with_what_remains() -> None:
    text = "\n".join(told(3, 30, force_terminal=True))
    assert "air_time ran one whole cycle" in text
    assert "late_arrival" in text
    assert "3/30" in text
    assert "left" in text
