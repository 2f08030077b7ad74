"""Sealing: HKDF per purpose, AES-256-GCM, one-column records, and the type that secrets travel in. Pure.

Key hierarchy: KEK → wraps a random 32-byte root secret (one per tenant, one per platform purpose) → HKDF-SHA256 with a label
per purpose → AES-256-GCM. The KEK never encrypts data, a derived key never serves two purposes, and a record names the
version of the one key that opens it: GCM is not key-committing, so no key is ever merely tried.
"""

import hashlib
import hmac
import os
import struct
from dataclasses import dataclass
from typing import Any, Never
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
_RECORD_VERSION = 1
_AES_256_GCM = 1
_RECORD_HEAD = struct.Struct(">BBI")  # record version, algorithm, key version
_WRAP_HEAD = struct.Struct(">B8s")  # record version, KEK id
_NOWHERE = UUID(int=0)


class SealingError(Exception):
    """Something sealed could not be opened, or would have been sealed wrongly.

    SealingError
    ├── Unreadable       wrong key, wrong place, or changed bytes: one type, one text, no detail
    └── UnknownKey       the record names a key (version) that is not here
    """


class Unreadable(SealingError):
    def __init__(self) -> None:
        super().__init__("The sealed record could not be opened.")


class UnknownKey(SealingError):
    pass


class Secret:
    """Bytes that must not be seen. Only `reveal` gives them; every way of showing or storing the object does not."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(hashlib.sha256(self._value).digest())

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __reduce__(self) -> Never:
        raise TypeError("A secret is not pickled.")

    def __getstate__(self) -> Any:
        raise TypeError("A secret is not copied into state.")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands. All of it is authenticated, so a record moved elsewhere does not open there.

    `binding` ties it to what it is for (a credential: provider kind and host). `tenant` may be zero (the platform's own);
    `row` may not: a primary key is made before the insert.
    """

    table: str
    field: str
    tenant: UUID
    row: UUID
    version: int
    binding: str = ""

    def aad(self) -> bytes:
        """Injective: every part is of fixed width or carries its length."""
        if self.row == _NOWHERE:
            raise SealingError("A sealed record needs the id of its row.")
        return b"".join(
            (
                b"gwenc\x01",
                _counted(self.table),
                _counted(self.field),
                self.tenant.bytes,
                self.row.bytes,
                struct.pack(">Q", self.version),
                _counted(self.binding),
            )
        )


def _counted(text: str) -> bytes:
    raw = text.encode()
    return struct.pack(">H", len(raw)) + raw


def derive(root: Secret, salt: bytes, purpose: str) -> Secret:
    """The 32-byte key for one purpose (`"provider-credential"`, `"content-log"` …) under a root secret."""
    info = b"gw/1/" + purpose.encode()
    key = HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=salt, info=info)
    return Secret(key.derive(root.reveal()))


def seal(key: Secret, key_version: int, place: Place, plaintext: bytes) -> bytes:
    """`record version | algorithm | key version | nonce | ciphertext | tag`, as one value for one column."""
    head = _RECORD_HEAD.pack(_RECORD_VERSION, _AES_256_GCM, key_version)
    nonce = os.urandom(NONCE_BYTES)
    return head + nonce + AESGCM(key.reveal()).encrypt(nonce, plaintext, head + place.aad())


def key_version_of(record: bytes) -> int:
    """The version of the key that opens `record`. Raises `Unreadable` when it is no record of ours."""
    if len(record) < _RECORD_HEAD.size + NONCE_BYTES + TAG_BYTES:
        raise Unreadable
    version, algorithm, key_version = _RECORD_HEAD.unpack_from(record)
    if (version, algorithm) != (_RECORD_VERSION, _AES_256_GCM):
        raise Unreadable
    return int(key_version)


def unseal(key: Secret, place: Place, record: bytes) -> Secret:
    """What was sealed at `place`. Raises `Unreadable` for any other key, place or a single changed bit."""
    return Sealed(key, place, record).open()


class Sealed:
    """A record with the key that opens it, for who opens it often: all is prepared, and it stays sealed. Raises `Unreadable`
    for what is no record of ours.
    """

    __slots__ = ("_cipher", "_ciphertext", "_nonce", "_stands_at")

    def __init__(self, key: Secret, place: Place, record: bytes) -> None:
        key_version_of(record)
        head, rest = record[: _RECORD_HEAD.size], record[_RECORD_HEAD.size :]
        self._cipher = AESGCM(key.reveal())
        self._nonce, self._ciphertext = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
        self._stands_at = head + place.aad()

    def open(self) -> Secret:
        """What was sealed. Raises `Unreadable` for any other key, place or a single changed bit."""
        try:
            return Secret(self._cipher.decrypt(self._nonce, self._ciphertext, self._stands_at))
        except InvalidTag:
            raise Unreadable from None


def kek_id(kek: Secret) -> bytes:
    """Eight bytes that name a KEK without telling it."""
    return hashlib.sha256(b"gatehouse kek id\x00" + kek.reveal()).digest()[:8]


def kek_id_of(wrapped: bytes) -> bytes:
    """The id of the KEK that wrapped a root secret. Raises `Unreadable` for what is none."""
    if len(wrapped) < _WRAP_HEAD.size + NONCE_BYTES + TAG_BYTES or wrapped[0] != _RECORD_VERSION:
        raise Unreadable
    _, identity = _WRAP_HEAD.unpack_from(wrapped)
    return bytes(identity)


def wrap(kek: Secret, label: str, root: Secret) -> bytes:
    """A root secret under the KEK: `record version | KEK id | nonce | ciphertext | tag`. `label` is authenticated."""
    head = _WRAP_HEAD.pack(_RECORD_VERSION, kek_id(kek))
    nonce = os.urandom(NONCE_BYTES)
    sealed = AESGCM(kek.reveal()).encrypt(nonce, root.reveal(), head + _counted(label))
    return head + nonce + sealed


def unwrap(keks: dict[bytes, Secret], label: str, wrapped: bytes) -> Secret:
    """The root secret in `wrapped`. Raises `UnknownKey` when its KEK is not among `keks`, else `Unreadable`."""
    kek = keks.get(kek_id_of(wrapped))
    if kek is None:
        raise UnknownKey("No KEK in GATEHOUSE_KEK opens this secret.")
    head, rest = wrapped[: _WRAP_HEAD.size], wrapped[_WRAP_HEAD.size :]
    try:
        root = AESGCM(kek.reveal()).decrypt(
            rest[:NONCE_BYTES], rest[NONCE_BYTES:], head + _counted(label)
        )
    except InvalidTag:
        raise Unreadable from None
    return Secret(root)


def mac(key: Secret, *parts: bytes) -> bytes:
    """HMAC-SHA256 over the parts, each with its length, so that no two different lists give the same input."""
    digest = hmac.new(key.reveal(), digestmod=hashlib.sha256)
    for part in parts:
        digest.update(struct.pack(">Q", len(part)))
        digest.update(part)
    return digest.digest()
