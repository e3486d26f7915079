"""The append-only record: models, versions, promotions, decisions, holds.

Which bytes serve, since when, who signed them, and why. The only room that opens artifacts.
"""

from nightshift.registry.canonical import to_bytes
from nightshift.registry.code import PREFIX, Code, LegacyCode, code_changes
from nightshift.registry.decisions import (
    FailedAt,
    decide,
    decide_all,
    decision,
    decision_about,
    end_as_failed,
    failures,
    last_retrains,
    models_decided,
    retrains_called_for,
    retrains_of,
    retrains_spent,
    trial_ends,
)
from nightshift.registry.holds import hold, hold_on, holds_now, release
from nightshift.registry.libraries import differences, rules_of
from nightshift.registry.members import (
    enroll,
    families,
    known_model,
    members,
    model,
    model_of,
    retire,
)
from nightshift.registry.pipelines import LoadedVersion, Predictions, missing_text
from nightshift.registry.predicting import predict
from nightshift.registry.promotions import (
    Champion,
    best_worth,
    champion,
    champions,
    earlier_champions,
    no_champion,
    promotions,
    way_back,
)
from nightshift.registry.versions import (
    Registry,
    numbered_version,
    version,
    version_of_decision,
    versions,
)
