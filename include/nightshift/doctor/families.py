"""Families: folders that load, sources that answer, schedules that leave each other room."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta

from nightshift import night, sources
from nightshift.doctor.findings import Finding, Patient
from nightshift.errors import ConfigError, NightshiftError
from nightshift.family import ModelFamily, load_families, next_tick
from nightshift.steps.frame import source_of
from nightshift.wording import moment


def folders(patient: Patient) -> Iterator[Finding]:
    """Every folder of a family loads, its queries can be read, and so do the settings."""
    families, problems = load_families(patient.site.models)
    for family in families:
        problems += sources.query_problems(family)
    for problem in problems:
        name = problem.file.parent.name
        yield Finding("families", name, str(problem), "mend it; nightshift check says more")
    try:
        _ = patient.site.settings
    except ConfigError as error:
        yield Finding("families", "nightshift.yaml", str(error), "mend the file")


def connections(patient: Patient) -> Iterator[Finding]:
    """Every family's source can be entered, and answers with the columns that it should."""
    faults: dict[tuple[str, str], list[str]] = defaultdict(list)
    for family in patient.families:
        tick = family.previous_tick(patient.now)
        try:
            columns = source_of(patient.site, family).columns(night.features_question(family, tick))
            wrong = "; ".join(night.column_problems(family, columns))
        except NightshiftError as error:
            wrong = str(error)
        if wrong:
            faults[family.source.connection, wrong].append(family.family)
    for (connection, wrong), names in faults.items():
        yield Finding(
            "connections",
            ", ".join(names),
            wrong,
            f"mend the connection {connection!r} or features.sql, and try:"
            f" nightshift check --source {' '.join(names)}",
        )


def schedules(patient: Patient) -> Iterator[Finding]:
    """A night ends before the next one begins, before it is measured, and before its deadline."""
    with patient.database.transaction() as tx:
        usual = {row.family: row.lasts for row in tx.rows("doctor.durations")}
    for family in patient.families:
        lasts = usual.get(family.family)
        if lasts is not None:
            for sentence, remedy in overlaps(family, lasts, patient):
                yield Finding("schedules", family.family, sentence, remedy)


def overlaps(family: ModelFamily, lasts: timedelta, patient: Patient) -> Iterator[tuple[str, str]]:
    """Where a family's schedules leave less room than a night usually takes, and what to do."""
    schedule, usually = family.schedule, f"a night takes {_minutes(lasts)}"
    tick = family.previous_tick(patient.now)
    following = next_tick(schedule.score, schedule.timezone, tick)
    # A monitoring at the very moment of a night comes before it as well.
    just_before = tick - timedelta(microseconds=1)
    measured = next_tick(schedule.monitor, schedule.timezone, just_before)
    if following - tick < lasts:
        yield (
            f"{usually}, and the next one begins after {_minutes(following - tick)}",
            "score less often, or let more tasks share a night (scoring.max_tasks)",
        )
    if measured - tick < lasts and measured < following:
        yield (
            f"{usually}, and schedule.monitor measures {_minutes(measured - tick)} after"
            f" {moment(tick)}, when it is not published yet",
            f"let schedule.monitor wait longer than {_minutes(lasts)} after schedule.score",
        )
    if schedule.deadline < lasts:
        yield (
            f"{usually}, and schedule.deadline calls it missed after {_minutes(schedule.deadline)}",
            "write a later schedule.deadline",
        )


def _minutes(time: timedelta) -> str:
    minutes = time / timedelta(minutes=1)
    return f"{minutes:.1f} min" if 0 < minutes < 10 else f"{minutes:.0f} min"
