"""What people are told: the state of the fleet, why, what happened before, and alerts."""

from nightshift.reports.alerting import Alert, Run, RunKind, delivered, raise_alerts, refusals
from nightshift.reports.chain import audit
from nightshift.reports.evidence import evidence
from nightshift.reports.explanation import Why, why, why_in
from nightshift.reports.figures import figures_of
from nightshift.reports.health import (
    HEALTHS,
    LastNight,
    Line,
    Status,
    as_data,
    find_model,
    status,
    status_in,
    urgency,
)
from nightshift.reports.outdated import outdated, outdated_champion
from nightshift.reports.plots import plot_arrivals, plot_policies, plot_tuning
from nightshift.reports.provenance import Frozen, Shown, frozen, shown
from nightshift.reports.timeline import Event, events_in, history
