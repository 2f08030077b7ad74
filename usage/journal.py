"""The journal of one worker: a record is here before anything happens that it speaks of.

`append` belongs to the event loop's thread, `take` and `flushed` to the flusher's. They share two deques and a few counters
that only one of them writes, so neither ever waits for the other. Every record is in a file before `append` returns (mapped
and not synced: it survives the process, not the power), and in memory until the tables have it.
"""

import logging
import os
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from usage.calls import Item, Life
from usage.records import AttemptStarted, Intent, Record, Refusal, Settlement
from usage.segments import Segment, SegmentFull, file_name, prepare

log = logging.getLogger(__name__)

#: Room for new records in a segment. What was touched of it counts as the worker's memory.
SEGMENT_BYTES: Final = 2 * 1024 * 1024
#: A new segment has room for this many times what it begins with: with many open calls there would be little but copying.
_FRESH: Final = 4
#: Records, and bytes of them, that may wait in memory for a database that is away.
MAX_RECORDS: Final = 200_000
MAX_BYTES: Final = 256 * 1024 * 1024
#: Bytes of one batch: kept contents are large, and a batch is written in one transaction, several times as large in memory.
BATCH_BYTES: Final = 8 * 1024 * 1024


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


@dataclass(frozen=True, slots=True)
class Batch:
    """`items` in the order of their first record, each call once; `upto` and `size` are the journal's own marks."""

    items: list[Item]
    upto: int
    size: int


class _Full(NamedTuple):
    segment: Segment
    #: How many records had been appended when it was full.
    upto: int


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
        self._open: dict[int, Life] = {}
        self._events: deque[tuple[Life | Refusal, int]] = deque()
        self._appended = self._taken = self._flushed = 0
        self._appended_bytes = self._taken_bytes = self._flushed_bytes = 0
        self._full_segments: deque[_Full] = deque()
        self._wake_at = 0
        self._wake: Callable[[], None] = _nothing
        self._is_closed = False
        self._number = 1
        self._segment = self._new_segment(1, segment_bytes)
        _open_journals.add(self)

    # --- the loop's thread ------------------------------------------------------------------------------------------

    def append(self, record: Record, attempt: AttemptStarted | None = None) -> None:
        """Writes `record` down. Raises `JournalUnavailable`, and then the record does not exist, and `OutOfOrder`.

        `attempt`: an intent's first. If the process dies in here, both are there, or neither.

        A settlement alone is never refused: what it tells has happened. If the disk does not take it, it goes to the tables
        from memory, and `unwritten` counts it.
        """
        key = record.request_id.int
        # By exact class here and below: isinstance() takes the slow way for every miss.
        kind = type(record)
        if kind is Intent or kind is Refusal:
            self._admit(key)
        elif key not in self._open:
            raise OutOfOrder(f"{kind.__name__} of a call that is not open")
        try:
            size = self._segment.write(record, attempt)
        except SegmentFull as full:
            size = self._write_elsewhere(record, attempt, full.size)
        self._remember(key, record, size, attempt)

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
        if self._is_closed:
            return
        self._is_closed = True
        _open_journals.discard(self)
        drained = not keep and not self._open and not self.pending
        self._full_segments.append(_Full(self._segment, self._appended))
        while self._full_segments:
            segment = self._full_segments.popleft().segment
            if drained:
                segment.remove()
            else:
                segment.let_go()

    def _admit(self, key: int) -> None:
        if key in self._open:
            raise OutOfOrder("A call that is open already")
        if self._appended - self._flushed >= self._max_records:
            raise JournalUnavailable("Too many records wait for the database.")
        if self._appended_bytes - self._flushed_bytes >= self._max_bytes:
            raise JournalUnavailable("Too many bytes wait for the database.")

    def _remember(
        self, key: int, record: Record, size: int, attempt: AttemptStarted | None
    ) -> None:
        life: Life | Refusal
        if type(record) is Intent:
            life = self._open[key] = Life(record, size, [] if attempt is None else [attempt])
        elif type(record) is Settlement:
            life = self._open.pop(key)
            life.size += size
            life.settlement = record
        elif type(record) is AttemptStarted:
            life = self._open[key]
            life.size += size
            life.attempts.append(record)
        elif type(record) is Refusal:
            life = record
        # The counters first: the flusher must never have taken more than was appended.
        self._appended += 1
        self._appended_bytes += size
        self._events.append((life, size))
        if len(self._events) == self._wake_at:
            self._wake()

    # --- the file ---------------------------------------------------------------------------------------------------

    def _write_elsewhere(self, record: Record, attempt: AttemptStarted | None, size: int) -> int:
        """What the segment did not take; a settlement nowhere but in memory, if need be."""
        try:
            self._make_room(size)
            return self._segment.write(record, attempt)
        except JournalUnavailable:
            if not isinstance(record, Settlement):
                raise
            self.unwritten += 1
            call = self._open[record.request_id.int].intent
            log.exception(
                "A settlement is in memory only: the journal could not be written.",
                extra={"request_id": call.correlation_id},
            )
            return size

    def _make_room(self, size: int) -> None:
        """For `size` bytes: in a new segment, or, if the disk has no room for one, in what the old one kept back for that."""
        if self._is_closed:
            raise JournalUnavailable("The journal is closed.")
        try:
            self._rotate(size)
        except OSError as error:
            if not self._segment.open_reserve(size):
                raise JournalUnavailable(f"No new segment: {error.strerror}.") from error

    def _rotate(self, size: int) -> None:
        """Goes on in a new segment that begins with the calls still open, so that the full one can go when it is flushed."""
        lives = self._open.values()
        carried = sum(life.size for life in lives)
        fresh = max(self._segment_bytes, _FRESH * carried)
        segment = self._new_segment(self._number + 1, carried + size + fresh)
        for life in lives:
            for record in life.records():
                segment.write(record)
        self._segment.finish()
        self._full_segments.append(_Full(self._segment, self._appended))
        self._segment = segment
        self._number += 1

    def _new_segment(self, number: int, room: int) -> Segment:
        path = self.folder / file_name(self.boot, number)
        return Segment(path, room, reserve=self._segment_bytes // 8)

    # --- the flusher's thread ---------------------------------------------------------------------------------------

    def take(self, limit: int, limit_bytes: int = BATCH_BYTES) -> Batch:
        """The next at most `limit` calls and refusals, oldest first. One batch at a time: `flushed` before the next.

        It ends with the call that brings its records to `limit_bytes`, all records of each call counted.
        """
        lives: dict[int, Life | Refusal] = {}
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
        items = [life.hand_on() if isinstance(life, Life) else life for life in lives.values()]
        return Batch(items, self._taken, self._taken_bytes)

    def flushed(self, batch: Batch) -> None:
        """The tables have `batch`. Segments of which they have everything are deleted."""
        self._flushed, self._flushed_bytes = batch.upto, batch.size
        while self._full_segments and self._full_segments[0].upto <= self._flushed:
            self._full_segments.popleft().segment.remove()


def _nothing() -> None: ...


_open_journals: set[Journal] = set()


def _close_in_child() -> None:
    """A child's copies of files and mappings would keep the lock alive after the worker that it stands for."""
    for journal in list(_open_journals):
        journal.close(keep=True)


os.register_at_fork(after_in_child=_close_in_child)
