"""Snapshots and artifacts in S3: a real client over HTTP, against moto's server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.buckets import BUCKET, SECRET
from tests.world import FAMILY, World

from nightshift.cli import main
from nightshift.data import Store
from nightshift.errors import (
    ArtifactRefused,
    SetupError,
    SnapshotError,
    StorageError,
    StorageUnavailable,
)
from nightshift.registry.versions import _verified_pipeline
from nightshift.site import shared_places
from nightshift.steps import people, retrain, upkeep, versions

URL = f"s3://{BUCKET}/of/one/team"
NOBODY = "http://127.0.0.1:9"
TABLE = pa.table({"entity_id": ["a", "b"], "size": [1, 2]})


@pytest.fixture
def elsewhere(s3: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Change the environment for new S3 clients; None takes a variable away."""

    def change(**variables: str | None) -> None:
        for name, value in variables.items():
            monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
        type(s3).clear_instance_cache()

    yield change
    type(s3).clear_instance_cache()


@pytest.fixture
def remote(world: World, s3: Any) -> World:
    """The small world, with its store in S3 and none on disk."""
    world.site = replace(world.site, store_at=f"{URL}/{world.site.state.parent.name}")
    _verified_pipeline.cache_clear()
    return world


def test_a_night_is_frozen_scored_published_and_explained_from_s3(remote: World, s3: Any) -> None:
    remote.train(9)
    assert remote.score(10)
    [night] = remote.rows("select count(*), count(distinct entity_id) as keys from predictions")
    assert tuple(night) == (30, 30)
    remote.train(14)

    [model] = remote.rows("select model_id from nightshift.models")
    assert versions.reproduce(remote.site, model.model_id, 1).same
    stored = s3.find(remote.site.store.removeprefix("s3://"))
    assert {Path(name).suffix for name in stored} == {".parquet", ".joblib", ".code"}
    assert not (remote.site.state / "store").exists()


def test_an_artifact_is_collected_from_s3_and_made_again(remote: World) -> None:
    remote.configure(promotion={"keep_versions": 1})
    remote.source("update truths set value = value + sin(extract(epoch from night) / 1e6)")
    for number in (9, 14, 19):
        now = remote.night(number)
        asked = retrain.request_retrain(remote.site, FAMILY, now, reason="r", by="b", now=now)
        [version_id] = retrain.fit(remote.site, asked, now=now)
        people.promote(remote.site, version_id, reason="r", by="b", now=now)
    later = datetime.now(UTC) + timedelta(days=8)
    upkeep.maintain(remote.site, now=later)
    [first] = remote.rows(
        "select artifact_hash, model_id from nightshift.versions where number = 1"
    )
    store = Store(remote.site.store)
    assert not store.has(first.artifact_hash, "joblib")

    _verified_pipeline.cache_clear()
    assert versions.reproduce(remote.site, first.model_id, 1).same
    assert store.has(first.artifact_hash, "joblib")


def test_the_onnx_export_reads_from_s3(remote: World, tmp_path: Path) -> None:
    remote.train(9)
    [model] = remote.rows("select model_id from nightshift.models")
    found = versions.export_onnx(
        remote.site, model.model_id, tmp_path / "m.onnx", now=remote.night(10)
    )
    assert found.agrees


@pytest.mark.parametrize("damage", [lambda data: b"x" + data[1:], lambda data: data[:-1]])
def test_objects_that_were_altered_are_refused_before_they_are_used(
    s3: Any, damage: Callable[[bytes], bytes]
) -> None:
    store = Store(URL)
    table, artifact = store.write_table(TABLE), store.write_bytes(b"pipeline", "joblib")
    for name, kind in ((table, "parquet"), (artifact, "joblib")):
        key = store.address(name, kind).removeprefix("s3://")  # type: ignore[arg-type]
        s3.pipe_file(key, damage(s3.cat_file(key)))
    with pytest.raises(SnapshotError, match=rf"{URL}/.* was changed after it was written"):
        store.read_table(table)
    with pytest.raises(SnapshotError, match="was changed after it was written"):
        list(store.stream_table(table))
    with pytest.raises(ArtifactRefused, match="was changed after it was written"):
        store.read_bytes(artifact, "joblib")

    assert store.write_table(TABLE) == table  # written again, it is whole again
    assert store.read_table(table).equals(TABLE)


def test_files_are_listed_deleted_and_missed_as_in_a_folder(s3: Any) -> None:
    store = Store(f"{URL}/listed")
    assert store.files("joblib") == {}
    before = datetime.now(UTC) - timedelta(seconds=2)
    one, two = (store.write_bytes(data, "joblib") for data in (b"one", b"two"))
    store.write_table(TABLE)
    assert set(store.files("joblib")) == {one, two}
    assert min(store.files("joblib").values()) > before
    store.delete(one, "joblib")
    store.delete(one, "joblib")
    assert (store.has(one, "joblib"), store.has(two, "joblib")) == (False, True)
    with pytest.raises(ArtifactRefused, match=f"{URL}/listed/.* registered but not in the store"):
        store.read_bytes(one, "joblib")


def every_call(store: Store) -> list[Callable[[], Any]]:
    return [
        lambda: store.write_bytes(b"one", "joblib"),
        lambda: store.read_bytes("ab" * 32, "joblib"),
        lambda: store.files("joblib"),
    ]


@pytest.mark.parametrize("call", range(3))
def test_a_bucket_that_is_not_there_is_named_and_not_waited_for(s3: Any, call: int) -> None:
    with pytest.raises(StorageError, match="there is no bucket 'nowhere'; make it") as told:
        every_call(Store("s3://nowhere/at/all"))[call]()
    assert not told.value.transient
    assert "s3://nowhere/at/all" in str(told.value)


@pytest.mark.parametrize("call", range(3))
def test_an_endpoint_that_is_down_is_an_outage(elsewhere: Callable[..., None], call: int) -> None:
    elsewhere(AWS_ENDPOINT_URL=NOBODY)
    with pytest.raises(StorageUnavailable) as told:
        every_call(Store(URL))[call]()
    assert told.value.transient
    for said in (URL, NOBODY, "AWS_ENDPOINT_URL", "run the step again"):
        assert said in str(told.value)
    assert SECRET not in str(told.value)


def test_without_a_login_one_is_told_where_it_is_read_from(elsewhere: Callable[..., None]) -> None:
    elsewhere(
        AWS_ACCESS_KEY_ID=None,
        AWS_SECRET_ACCESS_KEY=None,
        AWS_EC2_METADATA_DISABLED="true",
        HOME="/nonexistent",
    )
    with pytest.raises(StorageError, match=r"Unable to locate credentials\. The login is read"):
        Store(URL).files("joblib")


def test_a_command_that_cannot_reach_s3_says_so_in_a_sentence(
    remote: World,
    elsewhere: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("nightshift.local.site", lambda: remote.site)
    elsewhere(AWS_ENDPOINT_URL=NOBODY)
    monkeypatch.setattr("sys.argv", ["nightshift", "score", FAMILY])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code
    said = " ".join(capsys.readouterr().err.split())
    assert f"the store {remote.site.store} cannot be used now" in said
    assert "Traceback" not in said
    assert "storage_unavailable" in remote.codes()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("gopher://bucket", "neither a folder nor in S3; accepted in NIGHTSHIFT_STORE: /a/folder"),
        ("s3://", "neither a folder nor in S3"),
        (f"s3://me:{SECRET}@bucket/x", "the store s3://bucket/x was given with a login"),
    ],
)
def test_what_is_no_store_is_refused(url: str, message: str) -> None:
    with pytest.raises(SetupError, match=message) as told:
        Store(url).files("joblib")
    assert SECRET not in str(told.value)


def test_a_relative_path_would_be_another_folder_for_every_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NIGHTSHIFT_STORE", "here/and/there")
    with pytest.raises(SetupError, match="NIGHTSHIFT_STORE is 'here/and/there'; write a path from"):
        shared_places()
    monkeypatch.setenv("NIGHTSHIFT_STORE", URL)
    monkeypatch.setenv("NIGHTSHIFT_KEYS", "/srv/keys")
    assert shared_places() == {"store_at": URL, "keys_at": Path("/srv/keys")}
