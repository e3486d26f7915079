"""Arrays in, figures out: metrics with their intervals, and tests that may be looked at nightly.

Nothing here knows a database, a family or the clock.
"""

from nightshift.stats.e_processes import anytime, e_values
from nightshift.stats.falls import HORIZON, fall, fallen
from nightshift.stats.formulas import is_mean
from nightshift.stats.intervals import (
    Estimate,
    Undefined,
    estimate,
    expected,
    paired_difference,
)
from nightshift.stats.metrics import baseline, constant, figure, guessed, metric_problem, value
from nightshift.stats.nights import by_night, gains, nightly_differences, reference, spread_of
from nightshift.stats.outcomes import Outcomes, nights_of, outcomes
from nightshift.stats.ranges import (
    Task,
    drop_problem,
    level_problem,
    perfect,
    range_of,
    task_problem,
)
from nightshift.stats.sequential import shift
