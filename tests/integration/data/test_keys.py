"""The keys of an installation: made once, replaced on purpose, missed when they are gone."""

from __future__ import annotations

import errno
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from tests.world import FAMILY, World
from typer.testing import CliRunner

from nightshift import cli, local
from nightshift.data import Keys
from nightshift.errors import ArtifactRefused, SetupError
from nightshift.registry.versions import _verified_pipeline
from nightshift.steps import people

DATA = b"what is signed"


def sign(folder: Path, _: int) -> tuple[bytes, str | None]:
    keys = Keys(folder)
    return keys.sign(DATA), keys.signs()


def test_processes_that_sign_first_all_at_once_make_one_key(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    with ProcessPoolExecutor(8) as processes:
        signed = list(processes.map(partial(sign, folder), range(16)))
    assert len(set(signed)) == 1
    [name] = Keys(folder).trusted()
    assert name == signed[0][1]
    assert Keys(folder).verifies(signed[0][0], DATA)


def test_a_key_that_another_process_makes_in_between_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse = Keys._refuse_to_replace
    ours, others = Keys(tmp_path / "keys"), Keys(tmp_path / "keys")

    def late(keys: Keys) -> None:
        monkeypatch.undo()
        others.sign(DATA)
        refuse(keys)

    monkeypatch.setattr(Keys, "_refuse_to_replace", late)
    assert others.verifies(ours.sign(DATA), DATA)
    assert len(ours.trusted()) == 1


def rotated_and_signed(folder: Path, _: int) -> bytes:
    keys = Keys(folder)
    keys.rotate()
    return keys.sign(DATA)


def test_whatever_was_signed_while_keys_were_rotated_still_verifies(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    Keys(folder).sign(DATA)
    with ProcessPoolExecutor(8) as processes:
        signed = list(processes.map(partial(rotated_and_signed, folder), range(16)))
    assert all(Keys(folder).verifies(signature, DATA) for signature in signed)


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    keys = Keys(folder)
    keys.sign(DATA)
    keys.rotate()
    keys.pseudonym_key(make=True)
    assert folder.stat().st_mode & 0o777 == 0o700
    files = [file for file in folder.rglob("*") if file.is_file()]
    names = {file.name for file in files}
    assert names == {"signing.pem", "pseudonyms.key", *(f"{name}.pem" for name in keys.trusted())}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_a_new_key_signs_and_the_old_one_is_trusted_but_gone(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    before = keys.sign(DATA)
    done = keys.rotate()
    after = keys.sign(DATA)
    assert (done.before, done.after) == (keys_of(tmp_path, before), keys_of(tmp_path, after))
    assert done.after == keys.signs() != done.before
    assert set(keys.trusted()) == {done.before, done.after}
    assert "PRIVATE" not in "".join(f.read_text() for f in tmp_path.glob("trusted/*.pem"))
    assert not keys.verifies(after, b"something else")


def keys_of(folder: Path, signature: bytes) -> str:
    trusted = Keys(folder).trusted()
    [name] = [
        one
        for one, key in trusted.items()
        if Keys(folder).verifies(signature, DATA) and _by(key, signature)
    ]
    return name


def _by(key: object, signature: bytes) -> bool:
    from nightshift.data.keys import _signed_by

    return _signed_by(key, signature, DATA)  # type: ignore[arg-type]


def test_a_folder_that_can_only_be_read_signs_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a secret that is mounted into a container, which root too may only read."""
    keys = Keys(tmp_path)
    before = keys.sign(DATA)
    for file in tmp_path.glob("trusted/*"):
        file.unlink()

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("nightshift.data.keys.write_once", read_only)
    assert keys.sign(DATA) == before
    assert keys.verifies(before, DATA)


def test_verifying_makes_no_key(tmp_path: Path) -> None:
    assert not Keys(tmp_path / "keys").verifies(b"x" * 64, DATA)
    assert not (tmp_path / "keys").exists()


def test_a_lost_key_is_not_replaced_in_silence(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    before = keys.sign(DATA)
    (tmp_path / "signing.pem").unlink()
    with pytest.raises(SetupError, match=r"is missing, although \w{16} has signed here; restore"):
        keys.sign(DATA)
    assert keys.verifies(before, DATA)
    assert keys.rotate().before is None
    assert keys.verifies(keys.sign(DATA), DATA)
    assert keys.verifies(before, DATA)


@pytest.mark.parametrize("name", ["signing.pem", "trusted/0.pem"])
def test_something_else_in_the_place_of_a_key_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "trusted").mkdir()
    (tmp_path / name).write_text("no key")
    with pytest.raises(SetupError, match="is not an Ed25519"):
        Keys(tmp_path).verifies(b"x", DATA)


def test_versions_from_before_a_rotation_are_opened_and_the_next_one_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.train(9)
    monkeypatch.setattr(local, "site", lambda: world.site)
    said = CliRunner().invoke(cli.app, ["keys", "rotate", "--by", "ada"])
    assert said.exit_code == 0, said.output
    _verified_pipeline.cache_clear()
    assert world.score(10)
    [event] = world.rows("select detail from nightshift.events where code = 'key_rotated'")
    assert event.detail["by"] == "ada"
    assert event.detail["after"] == Keys(world.site.keys).signs() != event.detail["before"]
    listed = CliRunner().invoke(cli.app, ["keys", "list"]).output.splitlines()
    assert sorted(listed) == sorted(
        [f"{event.detail['after']} signs", f"{event.detail['before']} signed before"]
    )
    world.source("update truths set value = value * 2")
    world.train(19)
    _verified_pipeline.cache_clear()
    assert world.score(20)
    assert len(world.rows("select from nightshift.versions")) == 2


def test_without_its_keys_an_installation_opens_nothing_and_says_so(world: World) -> None:
    world.train(9)
    trusted, signing = world.site.keys / "trusted", world.site.keys / "signing.pem"
    trusted.rename(world.site.keys / "elsewhere")
    signing.rename(world.site.keys / "elsewhere.pem")
    _verified_pipeline.cache_clear()
    with pytest.raises(ArtifactRefused, match=r"keys has none: restore it"):
        world.score(10)
    assert world.codes()[-1] == "artifact_refused"
    (world.site.keys / "elsewhere").rename(trusted)  # the public halves are enough to open
    assert world.score(10)


def test_a_distrusted_key_opens_nothing_any_more(world: World) -> None:
    world.train(9)
    done = people.rotate_keys(world.site, by="ada", now=world.night(9))
    (world.site.keys / "trusted" / f"{done.before}.pem").unlink()
    _verified_pipeline.cache_clear()
    with pytest.raises(ArtifactRefused, match=f"is not signed by a key of.*has {done.after}"):
        world.score(10)
    assert FAMILY in str(world.rows("select * from nightshift.events order by event_id")[-1])
