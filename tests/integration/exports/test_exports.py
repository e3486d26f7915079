"""Published nights as files: what readers of a bucket see, and that it is what Postgres shows."""

from __future__ import annotations

import sys
from datetime import UTC, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tests.buckets import BUCKET
from tests.faults.harness import Process
from tests.world import FAMILY, World

from nightshift.cli import main
from nightshift.errors import ConfigError, NightshiftError, SetupError, StorageError
from nightshift.steps import night, people, retrain, rollback

URL = f"s3://{BUCKET}/lake"


def configure(world: World, **lake: Any) -> None:
    file = world.site.home / "include" / "nightshift.yaml"
    file.write_text(yaml.safe_dump({"lake": lake}))


def export(world: World, number: int) -> int:
    as_of = world.night(number)
    return night.export(world.site, FAMILY, as_of, now=as_of + timedelta(minutes=9))


def key(world: World, number: int, below: str = f"{BUCKET}/lake") -> str:
    at = world.night(number).strftime("%Y%m%dT%H%M%SZ")
    return f"{below}/predictions/family={FAMILY}/night={at}/predictions.parquet"


def shown(world: World, number: int) -> list[dict[str, Any]]:
    """What readers of Postgres see of a night."""
    rows = world.rows(
        f"select * from predictions_{FAMILY} where as_of = '{world.night(number).isoformat()}'"
        ' order by entity_id collate "C"'
    )
    return [dict(row._mapping) for row in rows]


def utc(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    moments = ("as_of", "published_at")
    return [{**row, **{name: row[name].astimezone(UTC) for name in moments}} for row in rows]


@pytest.fixture
def scored(world: World) -> World:
    """Two published nights."""
    world.train(9)
    world.score(10)
    world.score(11)
    return world


def test_a_night_in_the_bucket_is_the_night_in_postgres_and_the_same_when_written_again(
    scored: World, s3: Any
) -> None:
    configure(scored, url=URL)
    assert export(scored, 10) == 30
    data = s3.cat_file(key(scored, 10))
    table = pq.read_table(pa.BufferReader(data))
    assert utc(table.to_pylist()) == utc(shown(scored, 10))
    about = table.schema.metadata
    assert about[b"nightshift.family"] == FAMILY.encode()
    assert about[b"nightshift.as_of"] == b"2026-01-11T02:00:00+00:00"
    [batch] = scored.rows("select batch_id from nightshift.published order by as_of limit 1")
    assert about[b"nightshift.batch_id"] == str(batch.batch_id).encode()

    assert export(scored, 10) == 30
    assert s3.cat_file(key(scored, 10)) == data
    assert s3.find(f"{BUCKET}/lake") == [key(scored, 10)]
    assert scored.codes().count("exported") == 2


def test_a_night_that_is_published_anew_replaces_its_file(scored: World, tmp_path: Path) -> None:
    configure(scored, url=str(tmp_path / "lake"))
    at = scored.night(12)
    asked = retrain.request_retrain(scored.site, FAMILY, at, reason="r", by="b", now=at)
    [version_id] = retrain.fit(scored.site, asked, now=at)
    people.promote(scored.site, version_id, reason="r", by="b", now=at)
    scored.score(13)
    export(scored, 13)
    now = scored.night(14)
    undo = rollback.Undo(None, None, rescore=True)
    decision = rollback.rollback(
        scored.site, FAMILY, undo=undo, reason="r", by="b", as_of=now, now=now
    )
    [again] = rollback.rescore(scored.site, decision, now=now)
    assert again == scored.night(13)
    export(scored, 13)
    table = pq.read_table(key(scored, 13, str(tmp_path / "lake")), partitioning=None)
    assert utc(table.to_pylist()) == utc(shown(scored, 13))
    assert set(table["model_version"].to_pylist()) == {1}


def test_who_reads_while_a_night_is_written_sees_the_one_before(
    scored: World, tmp_path: Path
) -> None:
    configure(scored, url=str(tmp_path / "lake"))
    export(scored, 10)
    before = Path(key(scored, 10, str(tmp_path / "lake"))).read_bytes()
    writing = Process(partial(export, scored, 10), "storage.written").reached("storage.written")
    assert Path(key(scored, 10, str(tmp_path / "lake"))).read_bytes() == before
    writing.kill()
    assert Path(key(scored, 10, str(tmp_path / "lake"))).read_bytes() == before
    assert export(scored, 10) == 30


def test_a_night_that_is_published_anew_while_it_is_written_is_written_again(
    scored: World, tmp_path: Path
) -> None:
    configure(scored, url=str(tmp_path / "lake"))
    writing = Process(partial(export, scored, 10), "exports.written").reached("exports.written")
    [batch_id] = [
        row.batch_id
        for row in scored.rows(
            "insert into nightshift.batches (family, as_of, snapshot_id, version_ids, state,"
            " started_at, row_count, skipped_rows, failed_rows, written_at)"
            " select family, as_of, snapshot_id, version_ids, state, started_at, 0, 30, 0,"
            " written_at from nightshift.batches where as_of = '2026-01-11 02:00+00'"
            " returning batch_id"
        )
    ]
    scored.rows(
        f"update nightshift.published set batch_id = {batch_id}"
        " where as_of = '2026-01-11 02:00+00' returning 1"
    )
    writing.go()
    assert writing.outcome() == 0
    assert pq.read_table(key(scored, 10, str(tmp_path / "lake")), partitioning=None).num_rows == 0


def test_only_families_that_are_named_are_written(scored: World, tmp_path: Path) -> None:
    configure(scored, url=str(tmp_path / "lake"), families=["others"])
    with pytest.raises(ConfigError, match=r"nightshift\.yaml names no lake for this family"):
        export(scored, 10)
    assert not (tmp_path / "lake").exists()


def test_what_was_not_published_is_not_written(scored: World, tmp_path: Path) -> None:
    configure(scored, url=str(tmp_path / "lake"))
    with pytest.raises(NightshiftError, match="nothing is published of 2026-01-13 02:00Z"):
        export(scored, 12)
    assert not (tmp_path / "lake").exists()


def test_a_bucket_that_is_not_there_is_named_by_its_setting(scored: World, s3: Any) -> None:
    configure(scored, url="s3://nowhere/lake")
    with pytest.raises(StorageError, match=r"the lake s3://nowhere.* or correct lake\.url in"):
        export(scored, 10)


def test_past_nights_are_written_by_hand(
    scored: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(scored, url=str(tmp_path / "lake"))
    monkeypatch.setattr("nightshift.local.site", lambda: scored.site)
    monkeypatch.setattr(sys, "argv", ["nightshift", "lake", FAMILY, "--since", "2026-01-01"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert "2 nights with 60 rows written" in capsys.readouterr().out
    for number in (10, 11):
        assert Path(key(scored, number, str(tmp_path / "lake"))).exists()


def test_an_iceberg_table_has_each_night_once_and_changes_it_in_one_commit(
    scored: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyiceberg.catalog import load_catalog

    monkeypatch.setenv("PYICEBERG_CATALOG__TEAM__TYPE", "sql")
    monkeypatch.setenv("PYICEBERG_CATALOG__TEAM__URI", f"sqlite:///{tmp_path / 'catalog.db'}")
    monkeypatch.setenv("PYICEBERG_CATALOG__TEAM__WAREHOUSE", f"file://{tmp_path / 'warehouse'}")
    settings = {
        "type": "sql",
        "uri": f"sqlite:///{tmp_path / 'catalog.db'}",
        "warehouse": f"file://{tmp_path / 'warehouse'}",
    }
    configure(scored, url=str(tmp_path / "lake"), iceberg="team")
    monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG.config", {"catalog": {"team": settings}})
    for number in (10, 11, 10):
        export(scored, number)
    table = load_catalog("team").load_table(f"nightshift.predictions_{FAMILY}")
    rows = table.scan().to_arrow().sort_by([("as_of", "ascending"), ("entity_id", "ascending")])
    assert utc(rows.to_pylist()) == utc(shown(scored, 10)) + utc(shown(scored, 11))
    # Whoever reads between commits sees whole nights.
    counts = [
        table.scan(snapshot_id=snapshot.snapshot_id).to_arrow().num_rows
        for snapshot in table.snapshots()
        if snapshot.snapshot_id in {entry.snapshot_id for entry in table.history()}
    ]
    assert set(counts) <= {30, 60, 30 + 30}
    last = table.snapshots()[-1].summary
    assert last is not None
    assert last["nightshift.family"] == FAMILY


def test_a_catalog_that_is_not_there_is_named_and_nothing_is_written(
    scored: World, tmp_path: Path
) -> None:
    configure(scored, url=str(tmp_path / "lake"), iceberg="elsewhere")
    with pytest.raises(SetupError, match=r"PYICEBERG_CATALOG__ELSEWHERE__URI"):
        export(scored, 10)
    assert not list((tmp_path / "lake").rglob("*.parquet"))
