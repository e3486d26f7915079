"""This machine: versions, room on its disks, its keys."""

from __future__ import annotations

import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nightshift import artifacts, project, registry
from nightshift.data import Keys
from nightshift.doctor.findings import GIB, Finding, Patient
from nightshift.errors import NightshiftError
from nightshift.wording import count, listed


def versions(patient: Patient) -> Iterator[Finding]:
    """The project is of the version that is installed, and champions open with what is there."""
    stale = project.outdated(patient.site.home)
    if stale is not None:
        yield Finding(
            "versions",
            "project",
            f"it was made by nightshift {stale.made_by}, and {stale.installed} is installed",
            f"nightshift init --renew {patient.site.home}",
        )
    with patient.database.transaction() as tx:
        rows = tx.rows("doctor.libraries")
    for row in rows:
        folder = patient.site.models / row.family
        manifest = {"libraries": row.libraries, "python": row.python}
        refused = [
            d for d in artifacts.differences(manifest, artifacts.rules_of(folder)) if d.refused
        ]
        if refused:
            yield Finding(
                "versions",
                row.family,
                f"{count(row.models, 'champion')} cannot be opened: trained with"
                f" {listed(map(str, refused))}",
                f"train anew (nightshift train {row.family}), install what it was trained with,"
                " or say in model.yaml how far libraries may differ",
            )


def disk(patient: Patient) -> Iterator[Finding]:
    """Room where we write: the state, the store if it is a folder, and drafts."""
    places = {"state": patient.site.state, "TMPDIR": Path(tempfile.gettempdir())}
    if "://" not in patient.site.store:
        places["store"] = Path(patient.site.store)
    for name, place in places.items():
        there = next(folder for folder in (place, *place.parents) if folder.exists())
        free = shutil.disk_usage(there).free
        if free < patient.limits.free:
            yield Finding(
                "disk",
                name,
                f"{place} has {free / GIB:.1f} GiB left, and {patient.limits.free / GIB:.1f} are"
                " needed",
                "make room there, or move it to a larger disk",
            )


def keys(patient: Patient) -> Iterator[Finding]:
    """Keys that only their owner reads, that open the champions, and that sign the next one."""
    folder = patient.site.keys
    for name in ("signing.pem", "pseudonyms.key"):
        file = folder / name
        if file.exists() and (mode := stat.S_IMODE(file.stat().st_mode)) & 0o077:
            yield Finding(
                "keys",
                name,
                f"{file} has mode {mode:04o}: others than its owner may read it",
                f"chmod 600 {file}; if somebody may have, nightshift keys rotate",
            )
    ring = Keys(folder)
    trusted = ring.trusted()
    with patient.database.transaction() as tx:
        trained = tx.one("doctor.versions").versions
        strangers = {
            row.family: len(registry.unsigned(tx, row.family, folder, patient.now))
            for row in tx.rows("doctor.served")
        }
    if trained and trusted and ring.signs() is None:
        yield Finding(
            "keys",
            "signing.pem",
            f"{folder / 'signing.pem'} is missing, so no training can end",
            "restore it from a backup, or make a new one: nightshift keys rotate",
        )
    for family, number in strangers.items():
        if number:
            yield Finding(
                "keys",
                family,
                f"{count(number, 'champion')} cannot be opened: no key in {folder} has signed them",
                f"restore {folder / 'trusted'} from a backup, or set NIGHTSHIFT_KEYS to the folder"
                f" that has it, or train anew: nightshift train {family}",
            )
    yield from _pseudonyms(patient, ring)


def _pseudonyms(patient: Patient, ring: Keys) -> Iterator[Finding]:
    with patient.database.transaction() as tx:
        keys_used = tx.one("doctor.pseudonyms").keys
    if keys_used:
        try:
            ring.pseudonym_key()
        except NightshiftError as error:
            yield Finding(
                "keys", "pseudonyms.key", str(error), "restore it: it cannot be made again"
            )
