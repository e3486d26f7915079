"""When truth arrives: labels in, what they say of each model, and what can be seen before."""

from nightshift.monitoring.arrivals import ARRIVALS, Arrivals, arrivals, plot
from nightshift.monitoring.labels import (
    Collected,
    collect,
    complete,
    first_look,
    known_labels,
    silence,
)
from nightshift.monitoring.measuring import fresh_labels, measure, outcomes, recent, shift
from nightshift.monitoring.watching import signals, watch
