"""A full disk, a key that is not synced, a process that must not wait for ever."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.faults.harness import Process, Refused, store_files
from tests.world import FAMILY, World

import nightshift
from nightshift import failpoints, simulation
from nightshift.data import Store
from nightshift.errors import DatabaseError
from nightshift.local import session
from nightshift.local.embedded import _server_user
from nightshift.steps import upkeep


def _on_a_full_disk(work: partial[Any]) -> Any:
    """No file of this process may grow beyond so many bytes: the kernel sees to it."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))
    return work()


def night(world: World, number: int) -> partial[Any]:
    as_of = world.night(number)
    now = as_of + timedelta(minutes=5)
    return partial(simulation.score_night, world.site, FAMILY, as_of, now=now)


def test_a_disk_that_is_full_fails_one_night_and_says_so(served: World) -> None:
    assert served.score(10)
    before = store_files(served.site.store)
    with pytest.raises(Refused, match=r"could not be written.*File too large") as full:
        Process(partial(_on_a_full_disk, night(served, 11))).outcome()
    assert full.value.code == served.codes()[-1] == "storage"
    assert store_files(served.site.store) == before
    assert len(served.rows("select * from predictions")) == 30
    assert served.score(11)


@pytest.fixture
def small_disk(served: World, tmp_path: Path) -> Iterator[World]:
    """The predictions are on a disk of one megabyte."""
    disk = Path(f"/tmp/nightshift-disk-{os.getpid()}")
    disk.mkdir()
    size = ["-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", *size], check=False).returncode:
        disk.rmdir()
        pytest.skip("only root may mount a small disk")
    owner = _server_user()
    assert owner is not None
    os.chown(disk, owner.pw_uid, owner.pw_gid)
    space = f"small_{os.getpid()}"
    try:
        with session(served.site.database_url) as connection:
            connection.exec_driver_sql(f"create tablespace {space} location '{disk}'")
            connection.exec_driver_sql("select nightshift.open_month('2026-01-01')")
            months = (
                "select relid::regclass::text from pg_partition_tree('nightshift.prediction_rows')"
            )
            kept = [row[0] for row in connection.exec_driver_sql(f"{months} where isleaf")]
            for month in kept:
                connection.exec_driver_sql(f"alter table {month} set tablespace {space}")
            yield served
            for month in kept:
                connection.exec_driver_sql(f"alter table {month} set tablespace pg_default")
            connection.exec_driver_sql("checkpoint")
            connection.exec_driver_sql(f"drop tablespace {space}")
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
        disk.rmdir()


def test_a_disk_of_postgres_that_is_full_fails_one_night_and_says_so(small_disk: World) -> None:
    assert small_disk.score(10)
    small_disk.source(
        "insert into items select '2026-01-12 02:00+00', 'more-' || i, 7, 'k1'"
        " from generate_series(1, 100000) i"
    )
    with pytest.raises(DatabaseError, match="No space left on device") as full:
        small_disk.score(11)
    assert not full.value.transient
    assert small_disk.codes()[-1] == "database"
    assert len(small_disk.rows("select * from predictions")) == 30
    small_disk.score(12)
    assert len(small_disk.rows("select * from predictions")) == 60


def test_a_name_is_on_the_disk_before_anybody_is_told_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename that is not synced is gone after a power cut, and with it a registered snapshot."""
    synced: list[tuple[Path, set[str]]] = []
    fsync: Callable[[int], None] = os.fsync

    def watched(descriptor: int) -> None:
        fsync(descriptor)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            folder = Path(f"/proc/self/fd/{descriptor}").readlink()
            synced.append((folder, {entry.name for entry in folder.iterdir()}))

    monkeypatch.setattr(os, "fsync", watched)
    store = Store(tmp_path / "store")
    name = store.write_bytes(b"something", "joblib")
    file = Path(store.address(name, "joblib"))
    assert any(folder == file.parent and file.name in names for folder, names in synced)
    assert any(folder == store.root and file.parent.name in names for folder, names in synced)


def test_a_draft_of_a_process_that_died_is_swept_up_after_a_day(served: World) -> None:
    held = Process(night(served, 10), "storage.written").reached("storage.written")
    held.kill()
    [draft] = [name for name in store_files(served.site.store) if name.startswith(".writing-")]
    whole = store_files(served.site.store) - {draft}
    now = datetime.now(UTC)
    assert upkeep.maintain(served.site, now=now + timedelta(hours=23))["swept_drafts"] == 0
    assert draft in store_files(served.site.store)
    assert upkeep.maintain(served.site, now=now + timedelta(hours=25))["swept_drafts"] == 1
    assert store_files(served.site.store) == whole
    assert served.score(10)


def test_no_failpoint_can_be_switched_on_from_outside() -> None:
    """Nothing in the package sets the hook, or reads anything that could."""
    package = Path(nightshift.__file__).parent
    setting = [file for file in package.rglob("*.py") if "failpoints._hook" in file.read_text()]
    assert setting == []
    source = Path(failpoints.__file__).read_text()
    assert [word for word in ("environ", "open(", "import os") if word in source] == []
    assert failpoints._hook is None
