"""Journal files: their names, their frames, and the lock that says whose they are.

A segment is `<boot uuid>-<number>.wal`: frames one after the other, each a length and a CRC-32 of the payload (u32, little
endian) and the payload, one record; then zeros, room that is not used yet. Who writes a segment holds an flock on it for as
long as it is open; the kernel drops the lock however the process ends. A lock survives no reboot and needs no process id,
which could be somebody else's by now.
"""

import contextlib
import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID
from zlib import crc32

import msgspec

from usage.records import AttemptStarted, Record, decode, encode

SUFFIX: Final = ".wal"
#: Name prefix of what could not be applied; nothing here reads such a file again, a person does.
REJECTED: Final = "rejected-"

_HEADER: Final = struct.Struct("<II")
_HEADER_BYTES: Final = _HEADER.size
_FILE_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700


def frame(record: Record) -> bytes:
    """The bytes of `record` in a segment."""
    payload = encode(record)
    return _HEADER.pack(len(payload), crc32(payload)) + payload


class SegmentFull(Exception):
    """`size` bytes do not fit any more, and nothing was written."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class Segment:
    """A segment that is being written, mapped into memory.

    A store into the mapping outlives the process as a write does, and is no system call: nothing waits for it, and no other
    thread gets the interpreter meanwhile. All room is set apart on the disk first, because a process that stores into a page
    for which the disk has none is killed.
    """

    __slots__ = ("_fd", "_limit", "_map", "_room", "path", "used")

    def __init__(self, path: Path, room: int, reserve: int = 0) -> None:
        """`reserve`: how much of `room` is not given out before `open_reserve`. Raises OSError."""
        self.path = path
        self.used = 0
        self._room = room
        self._limit = room - reserve
        self._fd = create(path)
        try:
            os.posix_fallocate(self._fd, 0, room)
            self._map = mmap.mmap(self._fd, room)
            # Else the first store fills the cache with the zeros of the whole file.
            self._map.madvise(mmap.MADV_RANDOM)
        except OSError:
            self._remove_file()
            raise

    def write(self, record: Record, attempt: AttemptStarted | None = None) -> int:
        """The frame of `record`, and that of `attempt`, both or neither; how many bytes they take. Raises `SegmentFull`."""
        payload = encode(record)
        header = _HEADER.pack(len(payload), crc32(payload))
        if attempt is not None:
            second = encode(attempt)
            payload = b"".join((payload, _HEADER.pack(len(second), crc32(second)), second))
        begin = self.used
        body = begin + _HEADER_BYTES
        end = body + len(payload)
        if end > self._limit:
            raise SegmentFull(end - begin)
        # The first header last, its eight bytes in one store: before it the reader sees zeros, and after it all of the rest.
        self._map[body:end] = payload
        self._map[begin:body] = header
        self.used = end
        return end - begin

    def open_reserve(self, size: int) -> bool:
        """Gives out of what was kept back what `size` bytes need, and a little more; False if they do not fit even so."""
        need = self.used + size
        self._limit = min(self._room, need + self._room // 64)
        return need <= self._limit

    def finish(self) -> None:
        """Nothing more is written. The file stays ours: a mapping would hold the lock as well, but also the memory."""
        self._limit = self._room = 0
        self._map.close()

    def let_go(self) -> None:
        """Leaves the file to whoever replays it."""
        self.finish()
        os.close(self._fd)

    def remove(self) -> None:
        """The tables have all of it."""
        self.finish()
        self._remove_file()

    def _remove_file(self) -> None:
        """Unlinks first: a segment that is seen without its lock must be an orphan."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        os.close(self._fd)


@dataclass(slots=True)
class Reading:
    """What was found besides records. `torn`: bytes of a last append that was never finished, so nobody was told that it was
    written; room that was never used is not counted. `damaged`: places where an acknowledged record cannot be read any more."""

    torn: int = 0
    damaged: int = 0


def read(data: bytes, reading: Reading) -> Iterator[Record]:
    """The records of one segment, up to the first frame that is unfinished or whose CRC is wrong.

    A frame with a right CRC that is no record of ours (written by a newer version) is counted as damaged and passed over.
    """
    at = 0
    while at < len(data):
        header = data[at : at + _HEADER_BYTES]
        if not any(header):
            reading.torn += _unfinished(data[at:])
            return
        length, crc = _HEADER.unpack(header.ljust(_HEADER_BYTES, b"\0"))
        end = at + _HEADER_BYTES + length
        payload = data[at + _HEADER_BYTES : end]
        if len(payload) < length or crc32(payload) != crc:
            reading.damaged += 1
            return
        at = end
        try:
            record = decode(payload)
        except msgspec.DecodeError:
            reading.damaged += 1
            continue
        yield record


def _unfinished(rest: bytes) -> int:
    """Bytes of an append of which the header was not written, as it is last. Zeros are room, and compared quickly."""
    return 0 if rest == bytes(len(rest)) else len(rest.rstrip(b"\0"))


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
    """A new segment, open and locked. Raises OSError.

    Between the creation and the lock a worker that looks for orphans may find the empty file, lock and delete it: then the
    lock that we got is on a file without a name, and we begin again.
    """
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
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
