"""The DAGs ``check`` and ``maintain``: what is wrong with the folders, and what may be cleared."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from nightshift import monitoring, night, promotion, registry, reports, sources, training
from nightshift.data import Database, connect
from nightshift.errors import NightshiftError
from nightshift.family import ModelFamily, Problem, load_families
from nightshift.site import Site
from nightshift.steps.frame import UNSEEN_GRACE, loadable, registry_of, store_of
from nightshift.steps.people import answer
from nightshift.wording import listed

ARTIFACT_GRACE = timedelta(days=7)
"""How long an artifact is kept after it was written, or last of use."""

RETIRE_GRACE = timedelta(days=7)
"""How long predictions are kept beyond their time: a late monitoring still finds its window."""

DRAFT_GRACE = timedelta(days=1)
"""How long unfinished files of the store are left alone: longer than any task may write one."""

TRAINING_GRACE = timedelta(days=2)
"""How long a retrain may take, its tries and its place in the pool included."""

FORGOTTEN = timedelta(days=60)
"""How old a decision may be for anybody to mind that nothing came of it."""

KILLED = (
    "nothing was told, as where a process is killed since memory is short, is stopped by hand, or"
    " takes longer than it may: the task's log in Airflow has the rest"
)
"""Why a task has failed that could not say why."""

NOBODY_CAME = (
    f"for {TRAINING_GRACE.days} days nobody has carried it out, as where `nightshift train` was"
    " killed or the DAG retrain is paused"
)
"""Why a decision to retrain is ended that no run has ended."""

ANSWER_GRACE = timedelta(days=1)
"""How long after its time an approval is left to the run that waits for it."""


def check(site: Site) -> list[Problem]:
    """Every problem of every family, found without touching a database."""
    families, problems = load_families(site.models)
    buildable = []
    for family in families:
        problems += sources.query_problems(family)
        wrong = list(training.estimator_problems(family))
        problems += wrong
        if not any(problem.key.startswith("estimator") for problem in wrong):
            buildable.append(family)
        problems += monitoring.level_problems(family)
        problems += promotion.border_problems(family)
        problems += night.expectation_problems(family)
    problems += training.rehearse(buildable)
    return problems


def waiting(site: Site) -> list[str]:
    """What was changed since the champions were trained, a sentence for each family.

    Nothing where no database answers: what waits is no problem of a folder.
    """
    try:
        with connect(site.database_url).transaction() as tx:
            changed = reports.outdated(tx, site.models)
    except NightshiftError:
        return []
    return [
        f"{family}: {sentence}" for family, sentences in changed.items() for sentence in sentences
    ]


def blind_spots(site: Site, *, now: datetime) -> list[str]:
    """What the rules of families cannot find, a sentence each.

    That a metric cannot be judged by the detector is seen in the folder; which falls are too small
    for the rows of a window, from what champions were worth and how many labels their nights have.
    """
    families, _ = load_families(site.models)
    sentences = [monitoring.unbounded(family) for family in families]
    # Where no database answers, nobody serves here.
    with suppress(NightshiftError), connect(site.database_url).transaction() as tx:
        for family in families:
            champions = registry.champions(tx, family.family, now)
            nights = monitoring.nights_judged(tx, family, champions, now)
            sentences.append(monitoring.too_short(family, champions, nights))
    return [sentence for sentence in sentences if sentence is not None]


def settle(
    site: Site,
    family_name: str,
    decision_ids: Sequence[int],
    failed: Sequence[str],
    *,
    since: datetime,
    now: datetime,
) -> list[int]:
    """End the retrains of a run whose tasks have died, as of a kill, without a word; their ids.

    What a task refuses ends its decision by itself; a process that is killed cannot.

    Parameters
    ----------
    failed
        The names of the run's tasks that failed; without one nothing is ended.
    since
        When the run began: an outage that was told since then is the reason.
    """
    if not failed or not decision_ids:
        return []
    with connect(site.database_url).transaction() as tx:
        moments = [registry.decision(tx, decision_id).as_of for decision_id in decision_ids]
        refusals = reports.refusals(tx, family_name, moments, since)
        tasks = f"task {failed[0]}" if len(failed) == 1 else f"tasks {listed(failed)}"
        why = f"the {tasks} failed; {refusals[0] if refusals else KILLED}"
        return registry.end_unended(tx, why, now=now, decision_ids=list(decision_ids))


def maintain(site: Site, *, now: datetime) -> dict[str, int]:
    """Nightly housekeeping: delete rows that no reader will ever see and artifacts that nothing
    needs, sweep up files that were left unfinished, reject what nobody approved, end retrains that
    nobody carries out, drop months of predictions that nobody keeps.

    Returns counts by name.
    """
    database = connect(site.database_url)
    families, problems = load_families(site.models)
    # The champion before the one that serves stays in any case: a probation may need it.
    keep = {family.family: max(family.promotion.keep_versions, 2) for family in families}
    return {
        "purged_rows": night.purge(database, before=now - UNSEEN_GRACE, now=now),
        "collected_artifacts": registry_of(site).collect(
            database, keep, before=now - ARTIFACT_GRACE, now=now
        ),
        "swept_drafts": store_of(site).sweep(before=now - DRAFT_GRACE),
        "timed_out_approvals": len(_time_out(site, database, now)),
        "ended_retrains": len(_end_forgotten(database, now)),
        "retired_months": 0
        if problems  # nobody knows what a family needs that does not load
        else len(_retire(site, database, families, now)),
    }


def _end_forgotten(database: Database, now: datetime) -> list[int]:
    """End the retrains that nobody carries out any more, whatever had started them; their ids."""
    before = now - TRAINING_GRACE
    with database.transaction() as tx:
        return registry.end_unended(
            tx, NOBODY_CAME, now=now, since=before - FORGOTTEN, before=before
        )


def _retire(
    site: Site, database: Database, families: Sequence[ModelFamily], now: datetime
) -> list[str]:
    """Drop the months of predictions that neither keep_predictions nor any family needs."""
    keep = site.settings.keep_predictions
    if keep is None:
        return []
    longest = max([keep, monitoring.ARRIVALS, *(family.looks_back for family in families)])
    return night.retire(database, before=now - longest - RETIRE_GRACE, now=now)


def _time_out(site: Site, database: Database, now: datetime) -> list[int]:
    """The decisions on approvals that wait in no run, as where no Airflow asks for them."""
    with database.transaction() as tx:
        waiting = promotion.pending(tx)
    names = {approval.model.family for approval in waiting}
    patience = {
        family.family: family.promotion.response_timeout + ANSWER_GRACE
        for family in loadable(site, names)
    }
    return [
        answer(site, approval.approval_id, "timed_out", promotion.NOBODY, now=now)
        for approval in waiting
        if approval.model.family in patience
        and approval.asked_at + patience[approval.model.family] < now
    ]
