"""Arrow tables in memory: features as estimators see them, their profile, their streams."""

from nightshift.tables.binary_copy import Encoded, enclosed, encode
from nightshift.tables.expectations import (
    EXAMPLES,
    ROW_BY_ROW,
    Finding,
    Findings,
    columns_of,
    expect,
    expect_each,
    is_of_rows,
    misfit,
    refusals,
)
from nightshift.tables.features import frame, numbers, shape_problems
from nightshift.tables.keys import KEY_TYPES, as_key, is_key, with_keys
from nightshift.tables.profiles import (
    OUT_OF_RANGE,
    UNSEEN_CATEGORY,
    differences,
    distance,
    flag_names,
    flags,
    histogram,
    histogram_distance,
    profile,
)
from nightshift.tables.replays import Sameness, sameness
from nightshift.tables.streams import ahead, chunked, mapped, ordered
