"""What is left of work: stray and missing files, batches and decisions without an end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from nightshift import promotion
from nightshift.doctor.findings import Finding, Patient
from nightshift.steps.frame import loadable
from nightshift.wording import count, listed, moment

KINDS = ("parquet", "joblib", "code")

NAMED = 3
"""How many things of a kind a sentence names; the others are counted."""


def files(patient: Patient) -> Iterator[Finding]:
    """Every registered file is in the store, and every old file is registered."""
    with patient.database.transaction() as tx:
        known = {(row.kind, row.hash): row for row in tx.rows("doctor.files")}
    there = {
        (kind, name): written
        for kind in KINDS
        for name, written in patient.store.files(kind).items()  # type: ignore[arg-type]
    }
    lost = sorted(
        f"{row.subject} ({name[:12]}….{kind})"
        for (kind, name), row in known.items()
        if row.needed and (kind, name) not in there
    )
    if lost:
        yield Finding(
            "files",
            "store",
            f"{count(len(lost), 'file')} of {patient.site.store} are gone: {listed(lost, NAMED)}",
            "restore them from a backup of the store; a champion without its file scores nothing",
        )
    strays = sorted(
        f"{name[:12]}….{kind}"
        for (kind, name), written in there.items()
        if (kind, name) not in known and written < patient.long_ago
    )
    if strays:
        yield Finding(
            "files",
            "store",
            f"{count(len(strays), 'file')} of {patient.site.store} belong to nothing that is"
            f" registered: {listed(strays, NAMED)}",
            "is this the store of this database? If it is, delete them: nothing reads them",
        )


def batches(patient: Patient) -> Iterator[Finding]:
    """No batch was begun long ago and neither published nor purged."""
    with patient.database.transaction() as tx:
        rows = tx.rows("doctor.batches", before=patient.long_ago)
    for row in rows:
        yield Finding(
            "batches",
            row.family,
            f"batch {row.batch_id} of {moment(row.as_of)} is {row.state} since"
            f" {moment(row.started_at)}, and nobody sees it",
            "let the DAG maintain run, which purges it; score the night again if it is missing",
        )


def decisions(patient: Patient) -> Iterator[Finding]:
    """Every retrain, shadow and question came to an end in its time."""
    with patient.database.transaction() as tx:
        retrains = tx.rows("doctor.retrains", before=patient.long_ago)
        waiting = promotion.pending(tx)
    for row in retrains:
        names = listed(row.models, NAMED)
        yield Finding(
            "decisions",
            row.family,
            f"{count(len(row.ids), 'decision')} to retrain, of {moment(row.first)} on, came to"
            f" nothing: {names}",
            f"look at the runs of {row.family}.retrain, or carry them out: nightshift airflow dags"
            f" trigger {row.family}.retrain --conf '{{\"decision_ids\": {row.ids[:50]}}}'",
        )
    patience = {
        family.family: family.promotion.response_timeout
        for family in loadable(patient.site, {approval.model.family for approval in waiting})
    }
    for approval in waiting:
        allowed = patience.get(approval.model.family, timedelta(0))
        if approval.asked_at + allowed < patient.long_ago:
            yield Finding(
                "decisions",
                f"{approval.model.family}/{approval.model.name}",
                f"approval {approval.approval_id} was asked for at {moment(approval.asked_at)}, and"
                " its time is over",
                f"nightshift approve {approval.approval_id}, or decline it; maintain does so too",
            )
