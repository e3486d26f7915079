"""When truth arrives: labels in, what they say of each model, and what can be seen before."""

from nightshift.monitoring.arrivals import ARRIVALS, Arrivals, arrivals, foreseen, plot
from nightshift.monitoring.labels import Collected, collect, complete
from nightshift.monitoring.measuring import fresh_labels, measure, outcomes, recent, shift
from nightshift.monitoring.meeting import repeated_entities, set_aside, silence, strangers
from nightshift.monitoring.watching import signals, watch
