"""The append-only record of what serves, since when and why: versions, promotions, decisions."""

from nightshift.registry.decisions import (
    FailedAt,
    decide,
    decide_all,
    decision,
    decision_about,
    end_as_failed,
    end_unended,
    failures,
    last_retrains,
    models_decided,
    retrains_called_for,
    retrains_of,
    retrains_spent,
    trial_ends,
)
from nightshift.registry.holds import hold, hold_on, holds_now, release
from nightshift.registry.members import enroll, families, known_model, members, model_of, retire
from nightshift.registry.promotions import (
    Champion,
    best_worth,
    champion,
    champions,
    earlier_champions,
    no_champion,
    promotions,
    unsigned,
    way_back,
)
from nightshift.registry.versions import (
    Registry,
    numbered_version,
    version,
    version_of_decision,
    versions,
)
