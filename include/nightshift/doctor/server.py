"""The database: its schema, who may do what in it, its clock, its sessions."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache

from nightshift.data import SQL
from nightshift.doctor.findings import Finding, Patient
from nightshift.errors import DatabaseError
from nightshift.wording import count, listed, moment

ROLES = ("nightshift_writer", "nightshift_reader")

Rights = dict[tuple[str, str], set[str]]
"""What a role may do with a relation: ``select``, ``insert``, ``update(state)``."""

_GRANT = re.compile(r"^GRANT (.+) ON TABLE (\S+) TO (\w+);$", re.MULTILINE)


def schema(patient: Patient) -> Iterator[Finding]:
    """The database has the schema that this version of the code was written for."""
    wanted = newest_revision()
    try:
        with patient.database.transaction() as tx:
            revision = tx.one("doctor.revision").revision
    except DatabaseError as error:
        if error.sqlstate != "42501":  # nobody may look before the revision that allows it
            raise
        revision = "an earlier one"
    if revision != wanted:
        newer = revision > wanted and revision.isdigit()
        yield Finding(
            "schema",
            "nightshift",
            f"the database has the schema {revision}, and this version of nightshift needs"
            f" {wanted}",
            "install the newer version here too" if newer else "nightshift prepare",
        )


@cache
def newest_revision() -> str:
    """The last migration that is installed."""
    names = [file.name for file in (SQL / "migrations" / "versions").iterdir()]
    return max(name[:4] for name in names if name.endswith(".sql"))


def rights(patient: Patient) -> Iterator[Finding]:
    """Our roles may do what the schema says, and nothing else."""
    with patient.database.transaction() as tx:
        rows = tx.rows("doctor.rights", roles=list(ROLES))
    actual: Rights = defaultdict(set)
    there = {row.relation for row in rows}
    for row in rows:
        if row.role is not None:
            actual[row.relation, row.role].add(row.right)
    wanted = granted()
    for relation, role in sorted(actual.keys() | wanted.keys()):
        if relation not in there:
            continue  # the schema is another one, which is told of its own
        has, needs = actual[relation, role], wanted[relation, role]
        for verb, word, missing in (("GRANT", "TO", needs - has), ("REVOKE", "FROM", has - needs)):
            if missing:
                may = "may not" if verb == "GRANT" else "may, and should not,"
                statement = f"{verb} {', '.join(sorted(missing))} ON {relation} {word} {role}"
                yield Finding(
                    "rights",
                    relation,
                    f"{role} {may} {listed(sorted(missing))}",
                    f"as its owner: {statement}",
                )


@cache
def granted() -> Rights:
    """What the schema of this version grants on tables and views of its own."""
    rights_granted: Rights = defaultdict(set)
    for named, relation, role in _GRANT.findall((SQL / "schema.sql").read_text()):
        rights_granted[relation, role] |= {right.lower() for right in named.split(",")}
    return rights_granted


def clock(patient: Patient) -> Iterator[Finding]:
    """This machine and the database agree about what time it is."""
    with patient.database.transaction() as tx:
        theirs = tx.one("doctor.clock").now
    apart = abs(theirs - patient.now)
    if apart > patient.limits.clock:
        yield Finding(
            "clock",
            "nightshift",
            f"this machine says {moment(patient.now, seconds=True)} and the database"
            f" {moment(theirs, seconds=True)}",
            "let both machines keep time by NTP: an as_of that has not come is refused",
        )


def sessions(patient: Patient) -> Iterator[Finding]:
    """Connections are left, and nobody holds a transaction open for hours."""
    with patient.server.transaction() as tx:
        used = tx.one("doctor.connections")
        idle = tx.rows("doctor.idle", before=patient.now - patient.limits.idle)
    if used.open >= patient.limits.connections * used.allowed:
        yield Finding(
            "sessions",
            "nightshift",
            f"{used.open} of {used.allowed} connections are in use",
            "raise max_connections, or put PgBouncer before the server",
        )
    for row in idle:
        yield Finding(
            "sessions",
            f"pid {row.pid}",
            f"{row.usename or 'somebody'} ({row.application_name or 'no name'}) holds a transaction"
            f" open and does nothing since {moment(row.since)}",
            f"end it where it was begun, or: select pg_terminate_backend({row.pid})",
        )


def chain(patient: Patient) -> Iterator[Finding]:
    """The chain of decisions is whole."""
    from nightshift import reports

    faults = reports.audit(patient.database).faults
    if faults:
        more = f", and {count(len(faults) - 1, 'fault')} more" if len(faults) > 1 else ""
        yield Finding(
            "chain",
            "decisions",
            f"{faults[0]}{more}",
            "nightshift audit verify tells all of it; compare with a backup, and find out who"
            " could write past nightshift_writer",
        )
