"""What an author says: a folder of ``include/models`` as a ModelFamily.

Reading it stays light, for every parse of every DAG does it.
"""

from nightshift.family.family import OVERLAP, ModelFamily
from nightshift.family.folders import family_folders, load_families, load_family, words_of
from nightshift.family.libraries import LIBRARIES_MAY_DIFFER, RECORDED_LIBRARIES, MayDiffer
from nightshift.family.rows import FAULTS, Fault
from nightshift.family.rules import (
    SIGNALS,
    AtLeast,
    GroupRule,
    Models,
    Promotion,
    Retrain,
    ShiftRule,
    Training,
    Watch,
    When,
)
from nightshift.family.sections import (
    Cause,
    Estimator,
    Expectation,
    Fall,
    Features,
    Notifier,
    Search,
)
from nightshift.family.ticks import next_tick, previous_tick, ticks_per_year
from nightshift.family.values import FAMILY_NAME, PATTERNS, Duration, Inline, Section
from nightshift.family.wording import Problem, problems_of, read_yaml
