"""Every check, one after the other; one that cannot be made is told and hinders no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from nightshift.doctor import airflow, families, machine, server, work
from nightshift.doctor.findings import Finding, Limits, Patient
from nightshift.errors import DatabaseError, NightshiftError
from nightshift.site import Site

Check = Callable[[Patient], Iterator[Finding]]

CHECKS: Mapping[str, Check] = {
    "clock": server.clock,
    "schema": server.schema,
    "rights": server.rights,
    "sessions": server.sessions,
    "chain": server.chain,
    "versions": machine.versions,
    "disk": machine.disk,
    "keys": machine.keys,
    "families": families.folders,
    "connections": families.connections,
    "schedules": families.schedules,
    "files": work.files,
    "batches": work.batches,
    "decisions": work.decisions,
    "airflow": airflow.airflow,
}
"""What is examined, in this order. The clock is first: it is compared with the moment we began."""


@dataclass(frozen=True)
class Examination:
    """What was found, and which checks could be made to their end."""

    at: datetime
    findings: tuple[Finding, ...]
    examined: tuple[str, ...]


def examine(
    site: Site, metadata_url: str, *, now: datetime, limits: Limits | None = None
) -> Examination:
    """Examine an installation; nothing of it is changed.

    Parameters
    ----------
    metadata_url
        Airflow's own database, as a SQLAlchemy URL.
    now
        The clock of this machine, in UTC.
    """
    patient = Patient(site, metadata_url, limits or Limits(), now)
    findings: list[Finding] = []
    examined: list[str] = []
    unasked: list[str] = []
    lost: DatabaseError | None = None
    for name, check in CHECKS.items():
        try:
            findings += check(patient)
        except DatabaseError as error:
            lost = lost or error
            unasked.append(name)
        except NightshiftError as error:
            findings.append(Finding(name, "", str(error), "mend this first, and examine again"))
        else:
            examined.append(name)
    if lost is not None:  # one cause, told once
        findings.insert(0, _unreachable(lost, unasked))
    return Examination(now, tuple(findings), tuple(examined))


def _unreachable(error: DatabaseError, unasked: list[str]) -> Finding:
    return Finding(
        "database",
        "nightshift",
        f"it could not be asked, so {', '.join(unasked)} were not examined: {error}",
        "start it (nightshift up), or correct NIGHTSHIFT_DATABASE_URL, and examine again",
    )
