"""One night of one family: its rows are frozen, judged, scored, and shown to readers at once."""

from nightshift.night.on_demand import Answer, answer
from nightshift.night.parts import PartBook
from nightshift.night.plans import MODEL_COST, Share, cut
from nightshift.night.posted_rows import Record, table
from nightshift.night.publishing import (
    batch_night,
    batch_shown,
    contract,
    nights_scored_by,
    publish,
    purge,
    retire,
    version_numbers,
)
from nightshift.night.scoring import split
from nightshift.night.serving import MemberRows, Serving, members_in
from nightshift.night.snapshots import (
    Origin,
    Taken,
    column_problems,
    features_question,
    freeze,
    frozen_nights,
    missing_nights,
    snapshot,
    take,
)
from nightshift.night.validation import (
    check_sentence,
    checks_of,
    expectation_problems,
    validate,
    validate_each,
)
from nightshift.night.writing import Replay, Roster, begin, replay, score, write_part
