"""Take one safeguard away at a time: a named test must fail for each. ``make mutants``.

Every mutant is a copy of the project in a temporary folder with one change in it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HOME = Path(__file__).resolve().parents[2]
FAULTS = "tests/faults/"


@dataclass(frozen=True)
class Mutant:
    """A safeguard that is missing, as changes of (file, what is there, what takes its place)."""

    name: str
    changes: tuple[tuple[str, str, str], ...]
    test: str


MUTANTS = (
    Mutant(
        "the fence",
        (
            (
                "sql/queries/scoring.sql",
                "where published.batch_id < excluded.batch_id",
                "where true",
            ),
        ),
        "test_nights.py::test_case_5_of_two_attempts_of_one_night_the_later_begun_stays",
    ),
    Mutant(
        "the unique key of snapshots",
        (
            (
                "sql/migrations/versions/0001_the_loop.sql",
                "    taken_at     timestamptz not null,\n    unique (family, as_of, revision)\n",
                "    taken_at     timestamptz not null\n",
            ),
            ("sql/queries/snapshots.sql", "on conflict (family, as_of, revision) do nothing", ""),
        ),
        "test_nights.py::test_case_6_a_backfill_of_a_night_that_the_schedule_also_runs",
    ),
    Mutant(
        "the unique key of promotions",
        (
            (
                "sql/migrations/versions/0001_the_loop.sql",
                "    promoted_at    timestamptz not null,\n    primary key (model_id, seq)\n",
                "    promoted_at    timestamptz not null\n",
            ),
            ("sql/queries/registry.sql", "on conflict (model_id, seq) do nothing", ""),
        ),
        "test_versions.py::test_case_14_of_promotions_over_one_champion_one_wins",
    ),
    Mutant(
        "the second look for a month",
        (
            (
                "sql/migrations/versions/0004_what_downstream_reads.sql",
                "if not exists (select from pg_class where relname = month and relnamespace ="
                " 'nightshift'::regnamespace) then",
                "if to_regclass('nightshift.' || month) is null then",
            ),
        ),
        "test_nights.py::test_two_first_nights_of_a_month_that_begin_together_open_it_once",
    ),
    Mutant(
        "the compare-and-set",
        (
            (
                "include/nightshift/registry/versions.py",
                "inserted = current == instead_of and tx.run(",
                "inserted = tx.run(",
            ),
        ),
        "test_versions.py::test_case_14_a_rollback_that_a_promotion_overtakes_is_lost",
    ),
    Mutant(
        "the signature check",
        (
            (
                "include/nightshift/registry/versions.py",
                "    if not Keys(keys).verifies(",
                "    if version.manifest is None and Keys(keys).verifies(",
            ),
        ),
        "test_versions.py::test_case_16_a_hostile_artifact_under_its_own_hash_runs_nothing",
    ),
    Mutant(
        "the row-count check",
        (
            (
                "include/nightshift/night/publishing.py",
                " or _accounted_rows(row) != row.snapshot_rows",
                "",
            ),
        ),
        "test_nights.py::test_a_batch_with_other_rows_than_its_snapshot_is_not_published",
    ),
    Mutant(
        "the directory fsync",
        (("include/nightshift/data/store.py", "        _fsync_folder(target.parent)\n", ""),),
        "test_resources.py::test_a_name_is_on_the_disk_before_anybody_is_told_of_it",
    ),
    Mutant(
        "the lock between publishing and purging",
        (
            (
                "sql/queries/scoring.sql",
                "where b.batch_id = :batch_id\nfor update of b;",
                "where b.batch_id = :batch_id;",
            ),
        ),
        "test_nights.py::test_purging_and_publishing_one_batch_at_once_end_as_one_after_the_other",
    ),
)


def survives(mutant: Mutant | None, test: str) -> bool:
    """Whether a test passes on a copy of the project with a mutant in it."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        copy = Path(name)
        for part in ("include", "sql", "tests"):
            shutil.copytree(
                HOME / part, copy / part, ignore=shutil.ignore_patterns("__pycache__", ".*")
            )
        shutil.copy(HOME / "pyproject.toml", copy)
        # As installed: without it the SQL of this checkout would be read, mutated or not.
        (copy / "include" / "nightshift_sql").symlink_to(copy / "sql")
        for file, there, instead in mutant.changes if mutant else ():
            _change(copy / file, there, instead)
        command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", FAULTS + test]
        environment = os.environ | {"PYTHONPATH": str(copy / "include")}
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, check=False
        )
    if done.returncode not in (0, 1):
        raise SystemExit(done.stdout + done.stderr)
    return done.returncode == 0


def _change(file: Path, there: str, instead: str) -> None:
    text = file.read_text()
    if text.count(there) != 1:
        raise SystemExit(f"{file.name}: {there!r} is there {text.count(there)} times, not once")
    file.write_text(text.replace(there, instead))


def main() -> int:
    """Print which mutants were killed; how many were not."""
    alive = 0
    for mutant in MUTANTS:
        if not survives(None, mutant.test):
            raise SystemExit(f"{mutant.test} fails as it is")
        left = survives(mutant, mutant.test)
        alive += left
        print(f"{'ALIVE ' if left else 'killed'} {mutant.name}: {mutant.test}", flush=True)  # noqa: T201
    return alive


if __name__ == "__main__":
    sys.exit(main())
