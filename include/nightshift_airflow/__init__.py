"""The seam between Nightshift and Airflow: the only package that both know.

``wiring`` is what DAG files use while Airflow parses them; it opens no connection and imports
nothing heavy. ``runtime`` is what their tasks use while they run: where things are, and which
moment a run is about.
"""

from nightshift_airflow.runtime import as_of, asked_decision, asked_why, now, site
from nightshift_airflow.wiring import (
    DEFAULTS,
    Pool,
    announce,
    as_of_param,
    families,
    family_dag,
    predictions_asset,
    retrain_params,
    retrain_run,
    runbook,
    step,
)

__all__ = [
    "DEFAULTS",
    "Pool",
    "announce",
    "as_of",
    "as_of_param",
    "asked_decision",
    "asked_why",
    "families",
    "family_dag",
    "now",
    "predictions_asset",
    "retrain_params",
    "retrain_run",
    "runbook",
    "site",
    "step",
]
