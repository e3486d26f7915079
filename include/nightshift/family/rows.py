"""The section ``rows`` of model.yaml: which rows may be left out of a night, and how many."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field

from nightshift.family.values import Section


def _few(value: object) -> object:
    share = isinstance(value, float)
    if isinstance(value, int | float) and (value < 0 or (share and value >= 1)):
        raise ValueError("write a whole number of rows, or a share of them below 1, such as 0.001")
    return value


Few = Annotated[int | float, BeforeValidator(_few)]
Fault = Literal["missing_key", "repeated_key", "missing_member", "not_finite", "not_a_number"]
FAULTS: tuple[Fault, ...] = get_args(Fault)


class Rows(Section):
    """What becomes of rows that cannot be scored, each alone, for what is wrong with it."""

    leave_out: Few = Field(
        default=0,
        description="up to so many rows of a night (a whole number, or a share below 1) are left"
        " out of it and counted by reason; with one more the night is refused",
    )
    refuse: list[Fault] = Field(default=[], description="reasons for which no row is left out")
    alert: Few | None = Field(
        default=None, description="people are told of more rows than this; null tells nobody"
    )

    @property
    def excusable(self) -> list[Fault]:
        """The reasons for which a row may be left out."""
        return [fault for fault in FAULTS if fault not in self.refuse] if self.leave_out else []

    def too_many(self, count: int, of: int) -> bool:
        """Whether so many rows of so many are more than may be left out."""
        return _exceeds(self.leave_out, count, of)

    def alarming(self, count: int, of: int) -> bool:
        """Whether so many rows of so many are told."""
        return self.alert is not None and _exceeds(self.alert, count, of)


def _exceeds(few: int | float, count: int, of: int) -> bool:
    return count > (few if isinstance(few, int) else few * of)
