"""Journal files: their names, their frames, and the lock that says whose they are.

A segment is `<boot uuid>-<number>.wal`: frames one after the other, each a length and a CRC-32 of the payload (u32, little
endian) and the payload, one record. Who writes a segment holds an flock on it for as long as it is open; the kernel drops
the lock however the process ends. A lock survives no reboot and needs no process id, which could be somebody else's by now.
"""

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from usage.records import Record, decode, encode

SUFFIX: Final = ".wal"
#: Name prefix of what could not be applied; nothing here reads such a file again, a person does.
REJECTED: Final = "rejected-"
#: Bytes of one record; more than the two largest bodies that a call may carry, sealed.
MAX_PAYLOAD: Final = 256 * 1024 * 1024

_HEADER: Final = struct.Struct("<II")
_FILE_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700


def frame(record: Record) -> bytes:
    """The bytes of `record` in a segment."""
    payload = encode(record)
    return _HEADER.pack(len(payload), zlib.crc32(payload)) + payload


@dataclass(slots=True)
class Reading:
    """What was found besides records. `torn`: bytes of a last frame that was never finished, so nobody was told that it was
    written. `damaged`: places where an acknowledged record cannot be read any more."""

    torn: int = 0
    damaged: int = 0


def read(data: bytes, reading: Reading) -> Iterator[Record]:
    """The records of one segment, up to the first frame that is torn or whose CRC is wrong.

    A frame with a right CRC that is no record of ours (written by a newer version) is counted as damaged and passed over.
    """
    at = 0
    while at < len(data):
        rest = len(data) - at
        length, crc = _HEADER.unpack_from(data, at) if rest >= _HEADER.size else (0, 0)
        end = at + _HEADER.size + length
        if rest < _HEADER.size or (end > len(data) and length <= MAX_PAYLOAD):
            reading.torn += rest
            return
        payload = data[at + _HEADER.size : end]
        if length == 0 and not any(data[at:]):
            # Zeros to the end are a tail that the file system allocated and never filled.
            reading.torn += rest
            return
        if not payload or length > MAX_PAYLOAD or zlib.crc32(payload) != crc:
            reading.damaged += 1
            return
        at = end
        try:
            record = decode(payload)
        except msgspec.DecodeError:
            reading.damaged += 1
            continue
        yield record


def file_name(boot: str, number: int) -> str:
    return f"{boot}-{number:06d}{SUFFIX}"


def boot_of(name: str) -> str | None:
    """The boot whose segment `name` is; None when it is no segment."""
    stem, dot, suffix = name.rpartition(".")
    boot, dash, number = stem.rpartition("-")
    if not (dot and dash and f".{suffix}" == SUFFIX and number.isascii() and number.isdigit()):
        return None
    try:
        return boot if str(UUID(boot)) == boot else None
    except ValueError:
        return None


def prepare(folder: Path) -> None:
    """Makes the journal folder, for its owner only. Raises OSError."""
    folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o777 != _FOLDER_MODE:
        folder.chmod(_FOLDER_MODE)


def create(path: Path) -> int:
    """A new segment, open for appending and locked. Raises OSError.

    Between the creation and the lock a worker that looks for orphans may find the empty file, lock and delete it: then the
    lock that we got is on a file without a name, and we begin again.
    """
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        fd = os.open(path, flags, _FILE_MODE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if is_named(fd, path):
                return fd
        except OSError:
            os.close(fd)
            raise
        os.close(fd)


def lock(path: Path) -> int | None:
    """`path` open and locked, or None when it is gone or somebody holds it. Raises OSError when it cannot be opened."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except OSError:
        os.close(fd)
        raise
    return fd


def is_named(fd: int, path: Path) -> bool:
    """Whether `path` is still the name of the open file."""
    try:
        named = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(fd))


def append_rejected(folder: Path, boot: str, records: list[Record]) -> Path:
    """Keeps what no table takes in `rejected-<boot>.wal`, synced: it is the only copy. Raises OSError."""
    path = folder / f"{REJECTED}{boot}{SUFFIX}"
    fd = os.open(
        path,
        os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW,
        _FILE_MODE,
    )
    try:
        before = os.fstat(fd).st_size
        data = b"".join(map(frame, records))
        if os.write(fd, data) != len(data):
            os.ftruncate(fd, before)
            raise OSError(f"{path.name} could not be written whole")
        os.fsync(fd)
    finally:
        os.close(fd)
    return path
