"""The facts that travel between rooms. Every moment is an aware ``datetime`` in UTC."""

from nightshift.records.comparisons import (
    BorderCases,
    Candidate,
    Comparison,
    NightGain,
    SliceDifference,
)
from nightshift.records.decisions import About, AboutKind, Decision, DecisionKind, Hold
from nightshift.records.models import (
    READERS,
    SHADOW,
    WITHHELD_VALUES,
    Batch,
    Check,
    Health,
    Level,
    MadeAs,
    Measurement,
    Model,
    Night,
    Promotion,
    Snapshot,
    Standing,
    State,
    Verdict,
    Version,
    Vote,
)
