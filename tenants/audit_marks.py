"""Marks of what was taken off the beginning of a chain: from where on its rows are in the table, and what they follow from.

A mark is signed with a key of its own under the audit log's root, and its signature covers the mark before it. So nobody without
the key can shorten a chain and have it look pruned, nor take a mark away and have the rows before it look lost.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from django.db import OperationalError

from tenants import keyring, sealing
from tenants.clock import to_unix_us
from tenants.models import AuditPrune
from tenants.sealing import Secret

#: What a mark that has none before it is signed over.
_FIRST: Final = bytes(32)
_READ_AT_ONCE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a chain begins now: after row `seq`, which had `row_hash`. `mark` is the newest; null where nothing was pruned."""

    seq: int
    row_hash: bytes
    mark: AuditPrune | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the marks of a chain, at which row it shows."""

    seq: int
    sentence: str


def key(*, certain: bool = False) -> Secret:
    return keyring.platform_key(keyring.AUDIT, "audit-prune", certain=certain)


def sign(key: Secret, mark: AuditPrune, before: AuditPrune | None) -> bytes:
    """Over everything that it says, and over the mark before it."""
    told: list[Any] = [
        mark.id.hex,
        mark.scope,
        mark.from_seq,
        mark.to_seq,
        bytes(mark.head_hash).hex(),
        mark.file,
        bytes(mark.digest).hex(),
        mark.noted_seq,
        to_unix_us(mark.created_at),
        mark.actor_type,
        mark.actor_id,
        mark.actor_label,
    ]
    parts = [str(each).encode() for each in told]
    return sealing.mac(key, b"gwprune1", _FIRST if before is None else bytes(before.mac), *parts)


def newest(scope: str) -> AuditPrune | None:
    return AuditPrune.objects.filter(scope=scope).order_by("-to_seq").first()


def number(scope: str) -> int:
    """How many marks a chain has."""
    return AuditPrune.objects.filter(scope=scope).count()


def cut_of(scope: str, genesis: bytes) -> Cut | Fault:
    """Where the chain begins, if all marks of it are as we made them and none is missing between them."""
    secret, before = key(), None
    try:
        for mark in AuditPrune.objects.filter(scope=scope).order_by("to_seq"):
            at = 1 if before is None else before.to_seq + 1
            if mark.from_seq != at:
                return Fault(at, "The mark of what was pruned here is missing.")
            if sealing.Secret(sign(secret, mark, before)) != sealing.Secret(bytes(mark.mac)):
                return Fault(at, "The mark of what was pruned here is not ours, or was changed.")
            before = mark
    except (ValueError, TypeError, AttributeError, OverflowError, OperationalError) as fault:
        # SQLite says so of a text that is not UTF-8; of a database that is away it is no fault of the marks.
        if isinstance(fault, OperationalError) and "decode" not in str(fault).lower():
            raise
        return Fault(1 if before is None else before.to_seq + 1, "A mark cannot be read.")
    if before is None:
        return Cut(0, genesis)
    return Cut(before.to_seq, bytes(before.head_hash), before)


def wrong_files(folder: Path, scope: str | None = None) -> Iterator[tuple[AuditPrune, str]]:
    """Marks whose file is not in the folder, or is not what it was, each with a sentence."""
    marks = AuditPrune.objects.order_by("scope", "to_seq")
    for mark in marks if scope is None else marks.filter(scope=scope):
        path = folder / Path(mark.file).name
        try:
            found = file_digest(path)
        except OSError:
            yield mark, f"The file {path.name} of what was pruned cannot be read."
            continue
        if found != bytes(mark.digest):
            yield mark, f"The file {path.name} is not what it was when it was written."


def file_digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_READ_AT_ONCE):
            digest.update(part)
    return digest.digest()
