"""A night is cut into shares of about the same cost, each row in exactly one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.night import MODEL_COST, Share, cut


def members(count: int, rows: int) -> dict[str | None, int]:
    return {f"m{number:05}": rows for number in range(count)}


def test_what_one_task_can_do_stays_in_one() -> None:
    assert cut(members(86, 10), row_groups=1, max_tasks=64, rows_per_task=1_000_000) == [
        Share(tuple(members(86, 10)))
    ]
    assert cut({None: 900_000}, row_groups=14, max_tasks=64, rows_per_task=1_000_000) == [
        Share((None,))
    ]
    assert cut({}, row_groups=0, max_tasks=64, rows_per_task=1) == [Share(())]


def test_ten_thousand_models_are_packed_into_sixty_four_tasks() -> None:
    # 10,000 models of 100 rows cost 51 million rows: 51 tasks would do, of 10,000 rows 64 have to.
    assert len(cut(members(10_000, 100), row_groups=16, max_tasks=64, rows_per_task=10**6)) == 51
    found = cut(members(10_000, 10_000), row_groups=1526, max_tasks=64, rows_per_task=10**6)
    assert len(found) == 64
    assert {len(share.members) for share in found} == {156, 157}


def test_one_large_model_is_cut_by_row_groups() -> None:
    found = cut({None: 10_000_000}, row_groups=153, max_tasks=64, rows_per_task=1_000_000)
    assert found == [Share((None,), piece, 11) for piece in range(11)]
    assert len(cut({None: 10**9}, row_groups=15_259, max_tasks=64, rows_per_task=10**6)) == 64
    assert len(cut({None: 10**7}, row_groups=3, max_tasks=64, rows_per_task=10**6)) == 3


def test_a_giant_among_members_is_cut_and_the_others_are_packed_beside_it() -> None:
    rows = {"giant": 8_000_000, **members(20, 100_000)}
    found = cut(rows, row_groups=150, max_tasks=10, rows_per_task=1_000_000)
    giant = [share for share in found if share.members == ("giant",)]
    assert [share.piece for share in giant] == list(range(7))
    assert {share.pieces for share in giant} == {7}
    assert len(found) == 10


@given(
    st.dictionaries(st.text(max_size=3), st.integers(0, 10**7), max_size=40),
    st.integers(1, 200),
    st.integers(1, 64),
    st.integers(1, 10**7),
)
def test_every_member_is_in_one_share_or_in_all_pieces_of_it(
    rows: dict[str | None, int], row_groups: int, max_tasks: int, rows_per_task: int
) -> None:
    found = cut(rows, row_groups=row_groups, max_tasks=max_tasks, rows_per_task=rows_per_task)
    assert 1 <= len(found) <= max_tasks
    for member in rows:
        own = [share for share in found if member in share.members]
        assert [share.piece for share in own] == list(range(own[0].pieces))
        assert own[0].pieces <= row_groups
    assert sum(len(share.members) for share in found if share.piece == 0) == len(rows)


@pytest.mark.parametrize("count", [10, 100, 1000])
def test_no_task_costs_much_more_than_another(count: int) -> None:
    rows: dict[str | None, int] = {f"m{n}": 1000 * n % 7919 for n in range(count)}
    found = cut(rows, row_groups=50, max_tasks=8, rows_per_task=1)
    cost = [sum(rows[m] + MODEL_COST for m in share.members) for share in found]
    assert max(cost) <= sum(cost) / len(found) + max(rows.values()) + MODEL_COST
