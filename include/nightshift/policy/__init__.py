"""Pure rules: measurements to decisions, a comparison to a verdict. No database, no clock."""

from nightshift.policy.promoting import compared, judge, proven
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
