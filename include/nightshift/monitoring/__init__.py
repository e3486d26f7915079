"""When truth arrives: labels in, what they say of each model, and what can be seen before."""

from nightshift.monitoring.arrivals import ARRIVALS, Arrivals, arrivals, foreseen
from nightshift.monitoring.coverage import fewer_labels
from nightshift.monitoring.labels import Collected, collect, complete, first_look, known_labels
from nightshift.monitoring.levels import constant_guess, level_problems
from nightshift.monitoring.measuring import (
    fresh_labels,
    judged,
    measure,
    measured_at,
    nights_judged,
    outcomes,
    published_snapshots,
    recent,
    shift,
    whole_window,
)
from nightshift.monitoring.meeting import repeated_entities, set_aside, silence, strangers
from nightshift.monitoring.power import too_short, unbounded
from nightshift.monitoring.references import references
from nightshift.monitoring.watching import signals, watch
