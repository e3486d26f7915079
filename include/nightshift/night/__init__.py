"""One night of one family: its rows are frozen, judged, scored, and shown to readers at once."""

from nightshift.night.on_demand import Answer, answer
from nightshift.night.packing import MODEL_COST, Share, cut
from nightshift.night.posted_rows import Record, table
from nightshift.night.publishing import contract, publish, purge, retire
from nightshift.night.serving import Seen, Serving, seen
from nightshift.night.snapshots import freeze, get, lacking
from nightshift.night.validation import expectation_problems, validate
from nightshift.night.writing import begin, score, split, write_part
