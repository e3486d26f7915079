"""Arrays in, figures out: metrics with their intervals, and tests that may be looked at nightly.

Nothing here knows a database, a family or the clock.
"""

from nightshift.stats.anytime import anytime, e_values
from nightshift.stats.metrics import (
    Estimate,
    Outcomes,
    baseline,
    by_night,
    estimate,
    expected,
    metric_problem,
    nightly_differences,
    nights_of,
    outcomes,
    paired_difference,
    perfect,
    reference,
    spread_of,
    value,
)
from nightshift.stats.ranges import drop_problem, level_problem, range_of, task_problem
from nightshift.stats.sequential import shift
