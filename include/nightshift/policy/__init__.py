"""Pure rules: measurements to decisions, a comparison to a verdict. No database, no clock."""

from nightshift.policy.cutoffs import after_break, counts_as_failure
from nightshift.policy.gate import Ruling, look, select
from nightshift.policy.measure import hardness, shrunk
from nightshift.policy.memory import Recollection, recollect, spaced
from nightshift.policy.promoting import (
    Pool,
    better,
    is_proof,
    judge,
    proven,
    short_of_perfect,
    together,
)
from nightshift.policy.retraining import (
    CALENDAR,
    FIRST_MODEL,
    ON_DEMAND,
    decide,
    group_verdict,
    request,
    while_held,
    within_budget,
)
