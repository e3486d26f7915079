"""A champion and its challengers on the same later rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from nightshift.documents import Worth


@dataclass(frozen=True)
class Candidate:
    """A version that could replace the champion, on the rows of the comparison.

    ``difference`` is candidate minus champion in the metric, greater is better; ``low`` is its
    one-sided lower bound. ``kind`` is ``trained`` or ``earlier`` (a champion of the past).
    ``missing`` says why there is no value, or no difference.
    """

    version_id: int
    number: int
    kind: Literal["trained", "earlier"]
    value: float | None
    difference: float | None = None
    low: float | None = None
    missing: str | None = None


@dataclass(frozen=True)
class SliceDifference:
    """The paired difference on the rows with one value of a column, as ``column=value``.

    ``high`` is its one-sided upper bound; None where it cannot be told.
    """

    slice: str
    rows: int
    difference: float | None
    high: float | None


@dataclass(frozen=True)
class BorderCases:
    """The family's frozen border cases: what champion and challenger are worth on them."""

    rows: int
    champion_value: float | None
    challenger_value: float | None


@dataclass(frozen=True)
class NightGain:
    """Challenger minus champion on one night, in the metric."""

    as_of: datetime
    gain: float


@dataclass(frozen=True)
class Comparison:
    """Champion and challenger on the same later rows that neither was trained on.

    ``difference`` is challenger minus champion in the metric, greater is better; ``low`` is its
    one-sided lower bound at ``confidence``, the family's, shared among the ``candidates`` of which
    the challenger is the best. ``champion_version`` is None for a first model, which is unopposed.
    ``champion_reference`` is the most that a champion of the model was ever worth when promoted,
    ``gains`` the difference by night, ``holdout_rows`` how many labelled rows the holdout has,
    those that the champion has learnt among them. ``unscorable`` says why it could not score the
    rows, ``perfect`` what the metric would be if every prediction were
    the truth, ``baseline`` if all were the same, ``guess`` if all were the best constant of the
    rows that the challenger has learnt from; ``gains`` of a first version are over that.
    ``coverage`` is the share of the holdout's rows that have labels, ``learnt_coverage`` that of
    what the challenger has learnt from. ``reference`` is what the challenger is worth on
    these rows, by metric, with the distribution of its scores.
    """

    decision_id: int
    champion_version: int | None
    challenger_version: int
    metric: str
    holdout_start: datetime
    holdout_end: datetime
    row_count: int
    champion_value: float | None
    challenger_value: float | None
    difference: float | None
    low: float | None
    confidence: float | None = None
    candidates: tuple[Candidate, ...] = ()
    slices: tuple[SliceDifference, ...] = ()
    border_cases: BorderCases | None = None
    champion_reference: float | None = None
    unscorable: str | None = None
    perfect: float | None = None
    baseline: float | None = None
    reference: Worth | None = None
    gains: tuple[NightGain, ...] = ()
    holdout_rows: int | None = None
    guess: float | None = None
    coverage: float | None = None
    learnt_coverage: float | None = None
