"""Whether labels and predictions meet: what is told where they do not, in a sentence each."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from nightshift.data import Database
from nightshift.family import ModelFamily
from nightshift.wording import moment

SAMPLE = 1_000
"""How many labels, or entities, are looked up to tell whether any of them meets a prediction."""

MOSTLY = 0.5
"""From which share on a night has the same entities as the one before."""


def silence(database: Database, family: ModelFamily, as_of: datetime) -> str | None:
    """A sentence where labels have stopped arriving; None where they have not.

    They have when no label became known for ``labels.silent_after``, although predictions matured
    in that time and have none.
    """
    quiet_since = as_of - family.labels.silent_after
    start, end = quiet_since - family.labels.maturity, as_of - family.labels.maturity
    window = {"start": start, "end": end, "as_of": as_of}
    with database.transaction() as tx:
        tx.require_rows(family.family, start, end)
        known_at = tx.one("labels.latest", family=family.family, as_of=as_of).known_at
        if known_at is not None and known_at > quiet_since:
            return None
        predictions = tx.one(
            "labels.unlabelled_predictions", family=family.family, **window
        ).predictions
    if not predictions:
        return None
    last = f"since {moment(known_at)}" if known_at else "ever"
    return (
        f"{family.family}: no label has become known {last}; {family.folder / 'labels.sql'} should"
        f" have returned labels for {predictions} predictions that are older than"
        f" labels.maturity and have none. Look at the source {family.source.connection!r}"
    )


def strangers(database: Database, family: ModelFamily, as_of: datetime) -> str | None:
    """A sentence where labels came since the night before, and none answers a prediction.

    It is one only where predictions that have matured are without labels. What is about the time
    before the first night cannot answer any.
    """
    last_night = family.previous_tick(as_of)
    since = family.previous_tick(last_night - timedelta(microseconds=1))
    with database.transaction() as tx:
        matured = as_of - family.labels.maturity
        judged = tx.maybe("labels.last_matured", family=family.family, matured=matured, as_of=as_of)
        if judged is None or not judged.predictions:
            return None
        if 1 - judged.unlabelled / judged.predictions >= family.labels.min_coverage:
            return None
        came = {
            "family": family.family,
            "since": since,
            "as_of": as_of,
            "sample": SAMPLE,
            "first_night": judged.first_night,
        }
        counted = tx.one("labels.answered_labels", **came, oldest=as_of - family.looks_back)
        if not counted.labels or counted.answered:
            return None
        pairs = [] if family.discreet else tx.rows("labels.look_alikes", **came, night=judged.as_of)
    number = f"{counted.labels:,}" if counted.labels < SAMPLE else f"the last {SAMPLE:,}"
    hint = "; ".join(_side_by_side(pair) for pair in pairs) or "examples are withheld"
    return (
        f"{family.family}: {number} labels came since {moment(since)}, none answers a"
        f" prediction ({hint}); {family.folder / 'labels.sql'} must name entities as features.sql"
        " does"
    )


def _side_by_side(pair: Any) -> str:
    texts = f"labels.sql says {pair.label!r}, features.sql {pair.prediction!r}"
    if pair.answers is not None and pair.alike and pair.label == pair.prediction:
        return (
            f"{texts}, but it answers {moment(pair.answers)}, and the night is {moment(pair.night)}"
        )
    return texts


def repeated_entities(
    database: Database, family: ModelFamily, as_of: datetime, *, now: datetime
) -> str | None:
    """A sentence, once for a family, where a night scores mostly who was scored the night before.

    Where a label answers an entity for good, all its nights but the first ones are never judged.
    Who writes ``labels.per`` knows, and is not told.
    """
    if "per" in family.labels.model_fields_set:
        return None
    with database.transaction() as tx:
        before = tx.one("labels.repetition_events", family=family.family, as_of=as_of)
        if before.told_before:
            return None
        counted = tx.one(
            "labels.repeated_entities", family=family.family, as_of=as_of, sample=SAMPLE
        )
        if not counted.entities or counted.again / counted.entities < MOSTLY:
            return None
        sentence = (
            f"{family.family}: {counted.again / counted.entities:.0%} of these entities were scored"
            f" {moment(counted.night_before)}, too, and {family.folder / 'model.yaml'} says"
            " nothing of labels.per: a label answers an entity for good then, and no later night of"
            " it can be judged or learnt from. Write per: entity_and_as_of if labels come night by"
            " night (labels.sql then returns as_of, too), else per: entity"
        )
        if not before.told_now:
            tx.record(
                "repeated_entities", now=now, family=family.family, as_of=as_of, reason=sentence
            )
    return sentence


def set_aside(database: Database, family: ModelFamily, as_of: datetime) -> str | None:
    """A sentence about the labels that a collection has set aside; None where it has not."""
    with database.transaction() as tx:
        rows = tx.rows("labels.set_aside_at", family=family.family, as_of=as_of)
    if not rows:
        return None
    reasons = "; ".join(
        f"{row.labels:,} by {row.reason}" + ("" if family.discreet else f" (such as {row.example})")
        for row in rows
    )
    return (
        f"{reasons}; they are neither measured nor learnt from until {family.folder / 'labels.sql'}"
        " states a later one that is as labels.expectations say"
    )
