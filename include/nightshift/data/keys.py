"""The keys of an installation, each in a file that only its owner reads.

``signing.pem`` signs artifacts. ``trusted/<id>.pem`` are the public halves of all keys that have
signed: what one of them signed is opened. ``pseudonyms.key`` turns entities into pseudonyms.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from nightshift.errors import SetupError
from nightshift.wording import listed


@dataclass(frozen=True)
class Rotation:
    """The ids of the key that signed until now (None where it was lost), and of its successor."""

    before: str | None
    after: str


@dataclass(frozen=True)
class Keys:
    """The keys in a folder. It may be shared by several machines.

    Raises
    ------
    SetupError
        From every method, where a key is missing that cannot be made anew without loss, or a file
        holds something else.
    """

    folder: Path

    def sign(self, data: bytes) -> bytes:
        """A signature by the key that signs now; the first one makes that key."""
        key = self._signing()
        if key is None:
            self._refuse_to_replace()
            write_once(self._signing_file, _private_pem(Ed25519PrivateKey.generate()))
            key = self._signing()
            assert key is not None
        try:
            self._trust(key.public_key())
        except OSError as error:
            # A folder that is mounted for reading only has what its owner put there.
            if error.errno not in (errno.EROFS, errno.EACCES):
                raise
        return key.sign(data)

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether any key that this installation trusts has signed; none is made for it."""
        return any(_signed_by(key, signature, data) for key in self.trusted().values())

    def trusted(self) -> dict[str, Ed25519PublicKey]:
        """The public halves of all keys that have signed here, by id."""
        keys = dict(self._filed_keys())
        signing = self._signing()
        if signing is not None:
            keys[key_id(signing.public_key())] = signing.public_key()
        return keys

    def signs(self) -> str | None:
        """The id of the key that signs now; None before the first signature."""
        key = self._signing()
        return None if key is None else key_id(key.public_key())

    def rotate(self) -> Rotation:
        """Sign with a new key from now on; what older ones have signed still verifies.

        The private half of the key before is gone: nobody can sign with it any more.
        """
        before = self._signing()
        new = Ed25519PrivateKey.generate()
        for key in (before, new):
            if key is not None:
                self._trust(key.public_key())
        _replace(self._signing_file, _private_pem(new))
        return Rotation(
            None if before is None else key_id(before.public_key()), key_id(new.public_key())
        )

    def pseudonym_key(self, *, make: bool = False) -> bytes:
        """The 32 bytes that pseudonyms are made with.

        Parameters
        ----------
        make
            Make them where there are none yet: only right where no pseudonym was told so far.
        """
        file = self.folder / "pseudonyms.key"
        if make:
            write_once(file, secrets.token_hex(32))
        try:
            key = bytes.fromhex(file.read_text())
        except FileNotFoundError:
            raise SetupError(
                f"{file} is missing, and entities are told by pseudonyms made with it; restore it"
                " from a backup, or give the folder that holds it with NIGHTSHIFT_KEYS"
            ) from None
        except ValueError:
            key = b""
        if len(key) != 32:
            raise SetupError(f"{file} does not hold 64 hex digits; restore it from a backup")
        return key

    @property
    def _signing_file(self) -> Path:
        return self.folder / "signing.pem"

    def _signing(self) -> Ed25519PrivateKey | None:
        try:
            key = load_pem_private_key(self._signing_file.read_bytes(), password=None)
        except FileNotFoundError:
            return None
        except ValueError:
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise SetupError(
                f"{self._signing_file} is not an Ed25519 private key; restore it from a backup"
            )
        return key

    def _filed_keys(self) -> Iterator[tuple[str, Ed25519PublicKey]]:
        for file in sorted(self.folder.glob("trusted/*.pem")):
            try:
                key = load_pem_public_key(file.read_bytes())
            except ValueError:
                key = None
            if not isinstance(key, Ed25519PublicKey):
                raise SetupError(
                    f"{file} is not an Ed25519 public key; restore it from a backup, or delete it"
                    " if nothing that it signed is to be opened any more"
                )
            yield key_id(key), key

    def _trust(self, key: Ed25519PublicKey) -> None:
        file = self.folder / "trusted" / f"{key_id(key)}.pem"
        if not file.exists():
            pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            write_once(file, pem.decode())

    def _refuse_to_replace(self) -> None:
        lost = [name for name, _ in self._filed_keys()]
        # Asked again: a faster process may have made the key, and be trusted, since it was missing.
        if lost and self._signing() is None:
            raise SetupError(
                f"{self._signing_file} is missing, although {listed(lost)} has signed here;"
                " restore it from a backup, or make a new key: nightshift keys rotate. What was"
                " signed before still opens"
            )


def key_id(key: Ed25519PublicKey) -> str:
    """How a signing key is told: 16 hex digits."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def write_once(file: Path, text: str) -> None:
    """Write a file of mode 0600 unless another process was faster; never a half of one."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile("w", dir=file.parent) as draft:
        _to_disk(draft, text)
        try:
            # A link, unlike a rename, never replaces what a faster process wrote.
            os.link(draft.name, file)
        except FileExistsError:
            return
        _to_disk_by_name(file)


def _replace(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as draft:
        _to_disk(draft, text)
    Path(draft.name).replace(file)
    _to_disk_by_name(file)


def _to_disk(draft: tempfile._TemporaryFileWrapper[str], text: str) -> None:
    draft.write(text)
    draft.flush()
    os.fsync(draft.fileno())


def _to_disk_by_name(file: Path) -> None:
    descriptor = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _private_pem(key: Ed25519PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _signed_by(key: Ed25519PublicKey, signature: bytes, data: bytes) -> bool:
    try:
        key.verify(signature, data)
    except InvalidSignature:
        return False
    return True
