"""Each fault that is planted into a healthy installation is found, and nothing in a healthy one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from tests.conftest import leave
from tests.world import ESTIMATOR, FAMILY, FEATURES, LABELS, MODEL, SOURCE, World

from nightshift import data
from nightshift.cli import main
from nightshift.data import Store
from nightshift.doctor import CHECKS, Finding, Limits, examine
from nightshift.local import Postgres, session
from nightshift.site import Site

HOME = Path(__file__).resolve().parents[3]
LONG_AGO = timedelta(days=30)


@dataclass
class Patient:
    """A world that has lived, its Airflow's database, and the means to harm it for a while."""

    world: World
    metadata_url: str

    def examined(self, **changes: Any) -> list[Finding]:
        site = replace(self.world.site, **changes.pop("site", {}))
        now = datetime.now(UTC) + changes.pop("late", timedelta(0))
        found = examine(site, self.metadata_url, now=now, limits=Limits(**changes))
        if not any(finding.check == "database" for finding in found.findings):
            assert set(found.examined) == set(CHECKS)
        return list(found.findings)

    def only(self, check: str, **changes: Any) -> Finding:
        """The one finding that there is, which is of a check."""
        [finding] = self.examined(**changes)
        assert finding.check == check, finding
        assert finding.sentence
        assert finding.remedy
        return finding

    @contextmanager
    def harmed(self, harm: str, cure: str, *, airflow: bool = False) -> Iterator[None]:
        """Change a database by one statement, and change it back by another."""
        url = self.metadata_url if airflow else self.world.site.database_url

        def run(statement: str) -> None:
            with session(url) as connection:
                connection.exec_driver_sql(statement)

        run(harm)
        try:
            yield
        finally:
            run(cure)

    @contextmanager
    def moved(self, file: Path) -> Iterator[None]:
        aside = file.with_name(f"{file.name}.aside")
        file.rename(aside)
        try:
            yield
        finally:
            aside.rename(file)

    @contextmanager
    def rewritten(self, file: Path, change: Callable[[str], str]) -> Iterator[None]:
        before = file.read_text()
        file.write_text(change(before))
        try:
            yield
        finally:
            file.write_text(before)


@pytest.fixture(scope="module")
def patient(
    postgres: Postgres, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Patient]:
    """A family with two nights, measured, and an Airflow whose database was just prepared."""
    home = tmp_path_factory.mktemp("doctor")
    folder = home / "include" / "models" / FAMILY
    folder.mkdir(parents=True)
    with session(postgres.url("postgres")) as connection:
        connection.exec_driver_sql(f"create database patient template {template}")
        connection.exec_driver_sql("create database patient_airflow")
    postgres.create_database("doctors_source")
    source_url = postgres.url("doctors_source")
    site = Site(
        home=home,
        state=home / "state",
        models=folder.parent,
        database_url=postgres.url("patient"),
        sources={"warehouse": source_url},
    )
    world = World(site, folder)
    for name, text in (
        ("model.yaml", json.dumps(MODEL)),
        ("features.sql", FEATURES),
        ("labels.sql", LABELS),
        ("estimator.py", ESTIMATOR),
    ):
        world.write(name, text)
    world.source(SOURCE)
    data.migrate(site.database_url)  # a clone has its template's tables, but rights of its own
    world.train(9)
    for number in (10, 11, 12):
        world.score(number)
    world.monitor(12)
    yield Patient(world, prepared_airflow(postgres.url("patient_airflow"), home))
    leave(site.database_url)
    leave(source_url)


def prepared_airflow(url: str, home: Path) -> str:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(HOME / "include"),
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
    }
    pools = HOME / "include" / "nightshift_airflow" / "pools.json"
    for arguments in (["db", "migrate"], ["pools", "import", str(pools)]):
        command = [sys.executable, "-m", "airflow", *arguments]
        subprocess.run(command, env=environment, capture_output=True, timeout=250, check=True)
    return url


def test_nothing_is_found_where_all_is_in_order(patient: Patient) -> None:
    assert patient.examined() == []


def test_a_database_that_is_away_is_one_finding(patient: Patient) -> None:
    away = "postgresql+psycopg2://nobody@127.0.0.1:9/none"
    finding = patient.only("database", site={"database_url": away})
    assert "so clock, schema, rights, sessions, chain, versions, keys, " in finding.sentence


def test_clocks_that_differ(patient: Patient) -> None:
    finding = patient.only("clock", late=timedelta(minutes=2))
    assert "this machine says" in finding.sentence


def test_a_database_of_an_older_release(patient: Patient) -> None:
    older = "update nightshift.schema_version set version_num = '{}'"
    newest = max(file.name[:4] for file in (HOME / "sql/migrations/versions").glob("*.sql"))
    with patient.harmed(older.format("0013"), older.format(newest)):
        finding = patient.only("schema")
    assert "has the schema 0013" in finding.sentence
    assert finding.remedy == "nightshift prepare"


@pytest.mark.parametrize(
    ("harm", "cure", "sentence"),
    [
        (
            "revoke insert on nightshift.labels from nightshift_writer",
            "grant insert on nightshift.labels to nightshift_writer",
            "nightshift_writer may not insert",
        ),
        (
            "revoke update (batch_id) on nightshift.published from nightshift_writer",
            "grant update (batch_id) on nightshift.published to nightshift_writer",
            "nightshift_writer may not update(batch_id)",
        ),
        (
            "grant delete on nightshift.decisions to nightshift_writer",
            "revoke delete on nightshift.decisions from nightshift_writer",
            "nightshift_writer may, and should not, delete",
        ),
        (
            "grant select on nightshift.labels to public",
            "revoke select on nightshift.labels from public",
            "public may, and should not, select",
        ),
    ],
)
def test_a_right_that_is_missing_or_too_much(
    patient: Patient, harm: str, cure: str, sentence: str
) -> None:
    with patient.harmed(harm, cure):
        finding = patient.only("rights")
    assert finding.sentence == sentence
    # What to do is a statement that mends it.
    assert (
        finding.remedy.removeprefix("as its owner: ").lower().split()
        == cure.replace("update (batch_id)", "update(batch_id)").split()
    )


def test_a_transaction_that_somebody_forgot(patient: Patient) -> None:
    engine = create_engine(patient.world.site.database_url)
    with engine.connect() as connection:
        pid = connection.exec_driver_sql("select pg_backend_pid()").scalar()
        finding = patient.only("sessions", idle=timedelta(0))
    engine.dispose()
    assert finding.subject == f"pid {pid}"


def test_a_server_without_a_connection_left(patient: Patient) -> None:
    assert "connections are in use" in patient.only("sessions", connections=0.0).sentence


def test_a_disk_that_is_nearly_full(patient: Patient) -> None:
    findings = patient.examined(free=1 << 60)
    assert {finding.check for finding in findings} == {"disk"}
    assert {finding.subject for finding in findings} == {"state", "store", "TMPDIR"}


def test_a_key_that_others_may_read(patient: Patient) -> None:
    key = patient.world.site.keys / "signing.pem"
    key.chmod(0o644)
    finding = patient.only("keys")
    key.chmod(0o600)
    assert "has mode 0644" in finding.sentence


def test_a_signing_key_that_is_lost(patient: Patient) -> None:
    with patient.moved(patient.world.site.keys / "signing.pem"):
        assert patient.only("keys").subject == "signing.pem"


def test_a_folder_of_keys_that_is_another_installation_s(patient: Patient, tmp_path: Path) -> None:
    finding = patient.only("keys", site={"keys_at": tmp_path})
    assert "1 champion cannot be opened" in finding.sentence


def test_a_library_that_champions_do_not_open_with(patient: Patient) -> None:
    change = (
        "update nightshift.versions set manifest ="
        " jsonb_set(manifest, '{{libraries,scikit-learn}}', '\"{}\"')"
    )
    [row] = patient.world.rows("select manifest from nightshift.versions limit 1")
    now = row.manifest["libraries"]["scikit-learn"]
    with patient.harmed(change.format("0.1.0"), change.format(now)):
        findings = patient.examined()
    assert [finding.check for finding in findings] == ["versions", "keys"]  # the manifest is signed
    assert "trained with scikit-learn 0.1.0" in findings[0].sentence


def test_a_family_that_does_not_load(patient: Patient) -> None:
    file = patient.world.folder / "model.yaml"
    with patient.rewritten(file, lambda text: text.replace('"task"', '"taks"')):
        findings = patient.examined()
    assert {finding.check for finding in findings} == {"families"}
    assert all(finding.subject == FAMILY for finding in findings)


def test_a_connection_that_nobody_knows(patient: Patient) -> None:
    file = patient.world.folder / "model.yaml"
    with patient.rewritten(file, lambda text: text.replace('"warehouse"', '"elsewhere"')):
        assert "no connection 'elsewhere'" in patient.only("connections").sentence


def test_a_source_that_is_away(patient: Patient) -> None:
    away = {"warehouse": "postgresql+psycopg2://nobody@127.0.0.1:9/none"}
    assert patient.only("connections", site={"sources": away}).subject == FAMILY


def test_a_column_that_the_source_does_not_have_any_more(patient: Patient) -> None:
    patient.world.source("alter table items rename column size to width")
    try:
        assert '"size" does not exist' in patient.only("connections").sentence
    finally:
        patient.world.source("alter table items rename column width to size")


def test_a_monitoring_before_its_night_is_published(patient: Patient) -> None:
    file = patient.world.folder / "model.yaml"
    slow = "update nightshift.published set published_at = published_at {} interval '20 minutes'"
    with (
        patient.harmed(slow.format("+"), slow.format("-")),
        patient.rewritten(file, lambda text: text.replace("0 6 * * *", "10 2 * * *")),
    ):
        finding = patient.only("schedules")
    assert "a night takes 20 min, and schedule.monitor measures 10 min after" in finding.sentence


def test_a_file_that_is_gone(patient: Patient) -> None:
    store = Store(patient.world.site.store)
    [row] = patient.world.rows("select content_hash from nightshift.snapshots limit 1")
    with patient.moved(Path(store.address(row.content_hash, "parquet"))):
        finding = patient.only("files")
    assert f"{row.content_hash[:12]}….parquet" in finding.sentence
    assert "1 file of" in finding.sentence


def test_a_file_that_belongs_to_nothing(patient: Patient) -> None:
    store = Store(patient.world.site.store)
    name = store.write_bytes(b"left behind", "joblib")
    assert patient.examined() == []  # somebody may be about to register it
    file = Path(store.address(name, "joblib"))
    then = (datetime.now(UTC) - LONG_AGO).timestamp()
    os.utime(file, (then, then))
    assert "belong to nothing" in patient.only("files").sentence
    file.unlink()


def test_a_batch_that_was_begun_and_never_shown(patient: Patient) -> None:
    begin = (
        "insert into nightshift.batches"
        " (family, as_of, snapshot_id, version_ids, state, started_at)"
        " select family, as_of, snapshot_id, version_ids, 'writing', started_at"
        " from nightshift.batches limit 1"
    )
    with patient.harmed(begin, "delete from nightshift.batches where state = 'writing'"):
        assert "is writing since" in patient.only("batches").sentence


def test_a_retrain_that_came_to_nothing(patient: Patient) -> None:
    ask = (
        "insert into nightshift.decisions (model_id, kind, rule, reason, as_of, inputs, about,"
        " subject, decided_at) select model_id, 'retrain', 'on_demand', 'r', as_of, '{}',"
        " 'request', 'planted', decided_at from nightshift.decisions limit 1"
    )
    forget = "delete from nightshift.decisions where subject = 'planted'"
    with patient.harmed(ask, forget):
        finding = patient.only("decisions")
    assert "1 decision to retrain" in finding.sentence
    assert f"trigger {FAMILY}.retrain" in finding.remedy


def test_a_decision_that_was_changed_afterwards(patient: Patient) -> None:
    change = "update nightshift.decisions set reason = {} where seq = 2"
    with patient.harmed(change.format("reason || '!'"), change.format("rtrim(reason, '!')")):
        assert patient.only("chain").subject == "decisions"


def test_a_pool_that_is_missing_or_empty(patient: Patient) -> None:
    rename = "update slot_pool set pool = '{}' where pool = '{}'"
    ours, other = "nightshift_training", "somebodys"
    with patient.harmed(rename.format(other, ours), rename.format(ours, other), airflow=True):
        finding = patient.only("pools")
    assert (finding.subject, finding.sentence.partition(",")[0]) == (ours, "the pool is missing")


def test_a_dag_that_does_not_load(patient: Patient) -> None:
    plant = (
        "insert into import_error (timestamp, filename, stacktrace, bundle_name)"
        " values (now(), 'score.py', E'Traceback\\nModuleNotFoundError: No module', 'dags')"
    )
    with patient.harmed(plant, "delete from import_error", airflow=True):
        finding = patient.only("dags")
    assert finding.sentence == "it does not load: ModuleNotFoundError: No module"


def test_a_scheduler_that_has_gone_silent(patient: Patient) -> None:
    plant = (
        "insert into job (job_type, state, latest_heartbeat, hostname)"
        " values ('SchedulerJob', 'running', now() - interval '1 hour', 'here')"
    )
    with patient.harmed(plant, "delete from job", airflow=True):
        assert patient.only("airflow").subject == "Scheduler"


def test_the_command_tells_programs_and_people(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*arguments: str) -> tuple[object, str]:
        monkeypatch.setattr("nightshift.local.site", lambda: patient.world.site)
        monkeypatch.setattr("nightshift.local.metadata_url", lambda site: patient.metadata_url)
        monkeypatch.setattr(sys, "argv", ["nightshift", "doctor", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().out

    code, said = told()
    assert not code
    assert said.startswith("nothing to mend; examined: clock, schema")
    with patient.moved(patient.world.site.keys / "signing.pem"):
        code, said = told("--json")
        assert code == 1
        [finding] = json.loads(said)["findings"]
        assert (finding["check"], finding["subject"]) == ("keys", "signing.pem")
        code, said = told()
        assert code == 1
        assert "-> restore it from a backup" in said
        assert "1 thing to mend" in said
