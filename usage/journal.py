"""The journal of one worker: a record is here before anything happens that it speaks of.

`append` belongs to the event loop's thread, `take` and `flushed` to the flusher's. They share two deques and a few counters
that only one of them writes, so neither ever waits for the other. Every record is in a file before `append` returns (one
write; not synced: it survives the process, not the power), and in memory until the tables have it.
"""

import contextlib
import logging
import os
import uuid
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from usage.calls import Call, Item
from usage.records import AttemptStarted, Intent, Record, Refusal, Settlement
from usage.segments import create, file_name, frame, prepare

log = logging.getLogger(__name__)

SEGMENT_BYTES: Final = 8 * 1024 * 1024
#: Records, and bytes of them, that may wait in memory for a database that is away.
MAX_RECORDS: Final = 200_000
MAX_BYTES: Final = 256 * 1024 * 1024
#: Bytes of one batch: kept contents are large, and a batch is written in one transaction, several times as large in memory.
BATCH_BYTES: Final = 8 * 1024 * 1024

#: A call's life begins with one of these.
_FIRST: Final = (Intent, Refusal)


class JournalError(Exception):
    """
    JournalError
      JournalUnavailable  the record is not written; what it speaks of must not happen
      OutOfOrder          the record does not fit its call's life: a fault in the caller
    """


class JournalUnavailable(JournalError):
    """The record could not be written, or too many wait for the database already."""


class OutOfOrder(JournalError):
    """A second intent, an attempt without an intent, a call settled twice."""


class _Life:
    """A call while it is open. The loop's thread writes the first four, the flusher's thread the last two."""

    __slots__ = ("attempts", "done", "held", "intent", "settlement", "size")

    def __init__(self, intent: Intent, size: int) -> None:
        self.intent = intent
        #: Bytes of all its records.
        self.size = size
        self.attempts: list[AttemptStarted] = []
        self.settlement: Settlement | None = None
        self.held = False
        self.done = False

    def records(self) -> list[Record]:
        """All that a segment must hold of an open call."""
        records: list[Record] = [self.intent]
        records.extend(self.attempts)
        return records

    def hand_on(self) -> Call:
        """What is known now, for the flusher. The settlement is read first: nothing joins the attempts after it."""
        settlement = self.settlement
        call = Call(self.intent, tuple(self.attempts), settlement, self.held)
        if settlement is None:
            self.held = True
        else:
            self.done = True
        return call


@dataclass(frozen=True, slots=True)
class Batch:
    """`items` in the order of their first record, each call once; `upto` and `size` are the journal's own marks."""

    items: list[Item]
    upto: int
    size: int


@dataclass(frozen=True, slots=True)
class _Segment:
    path: Path
    fd: int
    #: How many records had been appended when this segment was full.
    upto: int

    def remove(self) -> None:
        """Unlinks first: a segment that is seen without its lock must be an orphan."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        os.close(self.fd)


class Journal:
    """Raises OSError when the folder or the first segment cannot be made. To be opened after the fork."""

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        max_records: int = MAX_RECORDS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        prepare(folder)
        self.folder = folder
        self.boot = str(uuid.uuid4())
        #: Settlements that are in memory only, because the disk did not take them.
        self.unwritten = 0
        self._segment_bytes = segment_bytes
        self._max_records = max_records
        self._max_bytes = max_bytes
        #: By the integer of the request id: a UUID hashes and compares in Python, at a quarter of an append's time.
        self._open: dict[int, _Life] = {}
        self._events: deque[tuple[_Life | Refusal, int]] = deque()
        self._appended = self._taken = self._flushed = 0
        self._appended_bytes = self._taken_bytes = self._flushed_bytes = 0
        self._full_segments: deque[_Segment] = deque()
        self._wake_at = 0
        self._wake: Callable[[], None] = _nothing
        self._number = 1
        self._path = folder / file_name(self.boot, self._number)
        self._fd = create(self._path)
        self._size = 0
        self._rotate_at = segment_bytes
        self._torn = False
        _open_journals.add(self)

    # --- the loop's thread ------------------------------------------------------------------------------------------

    def append(self, record: Record, attempt: AttemptStarted | None = None) -> None:
        """Writes `record` down. Raises `JournalUnavailable`, and then the record does not exist, and `OutOfOrder`.

        `attempt`: an intent's first, in the same write. If the process dies in it, both are there, or the intent, or neither.

        A settlement alone is never refused: what it tells has happened. If the disk does not take it, it goes to the tables
        from memory, and `unwritten` counts it.
        """
        if isinstance(record, _FIRST):
            self._admit(record)
        elif record.request_id.int not in self._open:
            raise OutOfOrder(f"{type(record).__name__} of a call that is not open")
        data = frame(record) if attempt is None else frame(record) + frame(attempt)
        try:
            self._write(data)
        except JournalUnavailable:
            if not isinstance(record, Settlement):
                raise
            self.unwritten += 1
            call = self._open[record.request_id.int].intent
            log.exception(
                "A settlement is in memory only: the journal could not be written.",
                extra={"request_id": call.correlation_id},
            )
        self._remember(record, len(data), attempt)

    @property
    def open_calls(self) -> int:
        """Calls with an intent and no settlement."""
        return len(self._open)

    @property
    def appended(self) -> int:
        """Records ever taken in, counted as `pending` counts them."""
        return self._appended

    @property
    def pending(self) -> int:
        """Records that the tables do not have yet; an intent and the attempt that came with it are one."""
        return self._appended - self._flushed

    @property
    def segments(self) -> int:
        """Files on disk, the one being written included."""
        return len(self._full_segments) + 1

    def notify(self, at: int, wake: Callable[[], None]) -> None:
        """Calls `wake` whenever `at` records have gathered. It must return at once."""
        self._wake_at, self._wake = at, wake

    def close(self, *, keep: bool = False) -> None:
        """Gives the files up: deletes them if the tables have everything, else (or to `keep` them) leaves them to whoever replays
        them.
        """
        if self._fd < 0:
            return
        drained = not keep and not self._open and not self.pending
        self._full_segments.append(_Segment(self._path, self._fd, self._appended))
        self._fd = -1
        while self._full_segments:
            segment = self._full_segments.popleft()
            if drained:
                segment.remove()
            else:
                os.close(segment.fd)

    def _admit(self, record: Intent | Refusal) -> None:
        if record.request_id.int in self._open:
            raise OutOfOrder("A call that is open already")
        if self._appended - self._flushed >= self._max_records:
            raise JournalUnavailable("Too many records wait for the database.")
        if self._appended_bytes - self._flushed_bytes >= self._max_bytes:
            raise JournalUnavailable("Too many bytes wait for the database.")

    def _remember(self, record: Record, size: int, attempt: AttemptStarted | None) -> None:
        life: _Life | Refusal
        # By exact class, the order of a common call: isinstance() takes the slow way for every miss.
        if type(record) is Intent:
            life = self._open[record.request_id.int] = _Life(record, size)
            if attempt is not None:
                life.attempts.append(attempt)
        elif type(record) is AttemptStarted:
            life = self._open[record.request_id.int]
            life.size += size
            life.attempts.append(record)
        elif type(record) is Settlement:
            life = self._open.pop(record.request_id.int)
            life.size += size
            life.settlement = record
        elif type(record) is Refusal:
            life = record
        # The counters first: the flusher must never have taken more than was appended.
        self._appended += 1
        self._appended_bytes += size
        self._events.append((life, size))
        if len(self._events) == self._wake_at:
            self._wake()

    # --- the file ---------------------------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        if self._fd < 0:
            raise JournalUnavailable("The journal is closed.")
        if self._size >= self._rotate_at or self._torn:
            self._rotate()
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            raise JournalUnavailable(f"The journal cannot be written: {error.strerror}.") from error
        if written != len(data):
            self._take_back()
            raise JournalUnavailable("The journal's disk is full.")
        self._size += written

    def _take_back(self) -> None:
        """Cuts half a frame off again: replay stops at one, and would never see what came after."""
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            self._torn = True

    def _rotate(self) -> None:
        """Goes on in a new segment that begins with the calls still open, so that the full one can go when it is flushed.

        Without room for that the old segment grows on, and the next try comes later; a torn one must not grow.
        """
        path = self.folder / file_name(self.boot, self._number + 1)
        try:
            fd, size = self._carry_forward(path)
        except OSError as error:
            if self._torn:
                raise JournalUnavailable(f"No new segment: {error.strerror}.") from error
            self._rotate_at = self._size + self._segment_bytes // 8
            return
        self._full_segments.append(_Segment(self._path, self._fd, self._appended))
        self._path, self._fd, self._size, self._torn = path, fd, size, False
        self._number += 1
        self._rotate_at = size + self._segment_bytes

    def _carry_forward(self, path: Path) -> tuple[int, int]:
        lives = self._open.values()
        data = b"".join(frame(record) for life in lives for record in life.records())
        fd = create(path)
        try:
            if os.write(fd, data) != len(data):
                raise OSError(0, "disk full")
        except OSError:
            _Segment(path, fd, 0).remove()
            raise
        return fd, len(data)

    # --- the flusher's thread ---------------------------------------------------------------------------------------

    def take(self, limit: int, limit_bytes: int = BATCH_BYTES) -> Batch:
        """The next at most `limit` calls and refusals, oldest first. One batch at a time: `flushed` before the next.

        It ends with the call that brings its records to `limit_bytes`, all records of each call counted.
        """
        lives: dict[int, _Life | Refusal] = {}
        weight = 0
        while len(lives) < limit and weight < limit_bytes:
            try:
                life, size = self._events.popleft()
            except IndexError:
                break
            self._taken += 1
            self._taken_bytes += size
            if isinstance(life, Refusal):
                lives[life.request_id.int] = life
                weight += size
            elif not life.done and life.intent.request_id.int not in lives:
                lives[life.intent.request_id.int] = life
                weight += life.size
        items = [life.hand_on() if isinstance(life, _Life) else life for life in lives.values()]
        return Batch(items, self._taken, self._taken_bytes)

    def flushed(self, batch: Batch) -> None:
        """The tables have `batch`. Segments of which they have everything are deleted."""
        self._flushed, self._flushed_bytes = batch.upto, batch.size
        while self._full_segments and self._full_segments[0].upto <= self._flushed:
            self._full_segments.popleft().remove()

    def _let_go_after_fork(self) -> None:
        """In a child: its copies are closed, or the lock would outlive the worker that it stands for."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        for segment in self._full_segments:
            os.close(segment.fd)
        self._full_segments.clear()


def _nothing() -> None: ...


_open_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for journal in _open_journals:
        journal._let_go_after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
