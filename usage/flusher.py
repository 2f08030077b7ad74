"""The thread that brings a worker's journal into the tables, and the journals of workers that died.

The database may be away: then records wait in the journal, in memory and on disk, and it asks again with growing pauses. A
call that no table takes for its data is set apart, so that it holds nobody up; it is never dropped.
"""

import contextlib
import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.db import DataError, Error, IntegrityError, close_old_connections, connection

from tenants import patience
from tenants.clock import SYSTEM, Clock
from usage.budgets import release_all, sweep
from usage.calls import Call, Item
from usage.idempotency import forget_open
from usage.journal import BATCH_BYTES, Batch, Journal
from usage.last_used import LastUsed
from usage.ledger import apply, settle_orphans
from usage.orphans import OrphanJournal, boots_in, orphans
from usage.records import Record, Refusal
from usage.segments import append_rejected

log = logging.getLogger(__name__)

#: What says that a batch holds something that no table takes, rather than that the database is away.
_DATA_FAULTS: Final = (IntegrityError, DataError, ValueError, OverflowError, TypeError)
#: Seconds before asking again a database that failed; doubled each time.
_FIRST_BACKOFF: Final = 0.25
_LONGEST_BACKOFF: Final = 2.0
#: Seconds that the database may take for one answer: on PostgreSQL longer than it lets us wait for a lock.
_ANSWER_SECONDS: Final = 7.0


@dataclass(slots=True)
class Counters:
    """Since this worker's start. `lost` must stay 0: records once acknowledged that cannot be read (their file is kept)."""

    calls: int = 0
    batches: int = 0
    failures: int = 0
    rejected: int = 0
    orphans: int = 0
    replayed: int = 0
    torn_bytes: int = 0
    lost: int = 0


class Flusher:
    """Flushes every `interval` seconds and whenever `gather` records wait, at most `at_once` calls per transaction, and no
    more once they are `at_once_bytes` together.

    Every `look_every` seconds it looks for journals that nobody holds. `on_dead` hears, in the flusher's thread, of each call
    that its worker left open when it died, once the tables have its end.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        clock: Clock = SYSTEM,
        interval: float = 0.25,
        gather: int = 1_000,
        at_once: int = 250,
        at_once_bytes: int = BATCH_BYTES,
        look_every: float = 5.0,
        on_dead: Callable[[Call], object] = lambda call: None,
    ) -> None:
        self.counters = Counters()
        self._journal = journal
        self._clock = clock
        self._interval = interval
        self._gather = gather
        self._at_once = at_once
        self._at_once_bytes = at_once_bytes
        self._look_every = look_every
        self._on_dead = on_dead
        self._next_look = clock.monotonic()
        self._last_used = LastUsed()
        #: Taken from the journal, not yet in the tables.
        self._batch: Batch | None = None
        self._backoff = _FIRST_BACKOFF
        self._working = threading.RLock()
        self._wake = threading.Event()
        self._stop_by: float | None = None
        self._released = False
        #: Those who wait until the tables have what the journal had when they asked.
        self._waiting: deque[Callable[[bool], object]] = deque()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins; in the worker, after the fork."""
        self._journal.notify(self._gather, self._wake.set)
        self._thread = threading.Thread(target=self._run, name="ledger-flusher", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Flushes what is left, for at most `timeout` seconds, and ends. True if the tables have everything, and the worker holds
        nothing of any budget any more; it must not borrow beside this. Else its journal must be left to somebody else.
        """
        self._stop_by = self._clock.monotonic() + timeout
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)
        return self._journal.pending == 0 and self._released

    def commit(self, done: Callable[[bool], object]) -> None:
        """Brings what is in the journal now into the tables, together with whoever else waits for that. `done` hears in the
        flusher's thread whether it is there; False also where a call had to be set apart.
        """
        self._waiting.append(done)
        self._wake.set()

    def flush_now(self) -> None:
        """Brings all that is in the journal into the tables. Raises database errors, and then the rest stays."""
        with self._working:
            waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
            rejected, is_done = self.counters.rejected, False
            try:
                self._flush()
                is_done = self.counters.rejected == rejected
            finally:
                if not is_done:
                    # Those who came meanwhile need not wait for as long once more.
                    waiting += [self._waiting.popleft() for _ in range(len(self._waiting))]
                for done in waiting:
                    done(is_done)

    def _flush(self) -> None:
        # What comes meanwhile waits for the next time: who runs after it makes a transaction of every few calls.
        to_come = self._journal.appended
        while True:
            batch = self._batch = self._batch or self._journal.take(
                self._at_once, self._at_once_bytes
            )
            if batch.items:
                self._apply(batch.items, self._journal.boot)
            # An empty batch too may stand for records: those of calls that an earlier batch settled.
            self._journal.flushed(batch)
            self._batch = None
            self._last_used.hear(batch.items)
            if not batch.items or batch.upto >= to_come:
                return

    def replay_orphans(self) -> None:
        """Brings what dead workers left into the tables, and writes off what those hold of whom not even a journal is left.

        Raises database errors, and then their files stay.
        """
        with contextlib.closing(orphans(self._journal.folder, own=self._journal.boot)) as found:
            for orphan in found:
                self._replay(orphan)
        sweep(self._clock.now(), boots_in(self._journal.folder))

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        patience.bound_thread(_ANSWER_SECONDS)
        while True:
            stop_by = self._stop_by
            pause = self._round(stop_by is not None)
            if stop_by is not None:
                left = stop_by - self._clock.monotonic()
                is_over = self._released or self._journal.open_calls > 0
                if left <= 0 or (self._journal.pending == 0 and is_over):
                    return
                pause = min(pause, left)
            self._wake.wait(pause)
            self._wake.clear()

    def _round(self, stopping: bool) -> float:
        """One flush, and a look for orphans if it is time for one. Gives the seconds to wait."""
        batches = self.counters.batches
        try:
            _wait_no_longer(_ANSWER_SECONDS)
            self.flush_now()
            self._last_used.write()
            if stopping:
                self._release()
            elif self._clock.monotonic() >= self._next_look:
                self._next_look = self._clock.monotonic() + self._look_every
                self.replay_orphans()
        except Exception as fault:  # noqa: BLE001 - it is logged, and without this thread no call would be counted any more
            close_old_connections()
            return self._failed(fault)
        if connection.vendor != "sqlite" or self.counters.batches == batches:
            # A file that is written again and again stays open: opening it costs as much as fifty calls.
            close_old_connections()
        self._backoff = _FIRST_BACKOFF
        return self._interval

    def _release(self) -> None:
        """Nothing of ours is open or waits: what the worker has borrowed and not used is everybody's again."""
        if self._journal.pending == 0 and self._journal.open_calls == 0:
            release_all(self._journal.boot)
            forget_open(UUID(self._journal.boot))
            self._released = True

    def _failed(self, fault: Exception) -> float:
        self.counters.failures += 1
        waiting = self._journal.pending
        if isinstance(fault, Error | OSError):
            log.warning("The ledger cannot be written, %d records wait: %s", waiting, fault)
        else:
            log.error("The ledger was not written, %d records wait.", waiting, exc_info=fault)
        # Jitter: workers that lost the same database must not all come back in the same moment.
        pause = self._backoff * random.uniform(0.75, 1.25)  # noqa: S311 - spreads, hides nothing
        self._backoff = min(2 * self._backoff, _LONGEST_BACKOFF)
        return pause

    # --- batches ----------------------------------------------------------------------------------------------------

    def _apply(self, items: Sequence[Item], boot: str) -> None:
        """One transaction; if the data is at fault, halves, down to the one call, which is set apart."""
        try:
            applied = apply(items, boot)
        except _DATA_FAULTS as fault:
            if len(items) == 1:
                self._reject(items[0], fault)
                return
            middle = len(items) // 2
            self._apply(items[:middle], boot)
            self._apply(items[middle:], boot)
            return
        self.counters.batches += 1
        self.counters.calls += applied.logs

    def _reject(self, item: Item, fault: Exception) -> None:
        path = append_rejected(self._journal.folder, self._journal.boot, _records(item))
        self.counters.rejected += 1
        first = item if isinstance(item, Refusal) else item.intent
        log.error(
            "A call fits no table (%s) and is kept in %s.",
            type(fault).__name__,
            path.name,
            extra={"request_id": first.correlation_id},
        )

    def _replay(self, orphan: OrphanJournal) -> None:
        found = orphan.items()
        while chunk := self._chunk(found):
            ended = settle_orphans(chunk, self._clock.unix_us())
            self._apply(ended, orphan.boot)
            self.counters.replayed += len(chunk)
            self._tell_of_the_dead(chunk, ended)
            # The living come first: their callers look at the figures now.
            self.flush_now()
        self.counters.orphans += 1
        self.counters.torn_bytes += orphan.reading.torn
        self.counters.lost += orphan.reading.damaged
        if orphan.reading.damaged:
            log.error(
                "Journal %s is damaged in %d places; it is kept.",
                orphan.boot,
                orphan.reading.damaged,
            )
        else:
            # All that it spent is in the tables. If we die before the files go, the next one finds nothing to give back.
            release_all(orphan.boot)
            forget_open(UUID(orphan.boot))
        orphan.discard()

    def _tell_of_the_dead(self, found: Sequence[Item], ended: Sequence[Item]) -> None:
        for before, after in zip(found, ended, strict=True):
            if isinstance(before, Call) and before.settlement is None and isinstance(after, Call):
                self._on_dead(after)

    def _chunk(self, found: Iterator[Item]) -> list[Item]:
        """The next of an orphan's calls, as many as a batch of a journal may hold."""
        chunk: list[Item] = []
        weight = 0
        while len(chunk) < self._at_once and weight < self._at_once_bytes:
            item = next(found, None)
            if item is None:
                break
            chunk.append(item)
            weight += _weight(item)
        return chunk


def _wait_no_longer(seconds: float) -> None:
    """SQLite: for others who write. Somebody may wait for us in turn."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout={round(1000 * seconds)}")


def _weight(item: Item) -> int:
    """Bytes of a call's kept content; all else is small."""
    content = item.settlement.content if isinstance(item, Call) and item.settlement else None
    return len(content or b"")


def _records(item: Item) -> list[Record]:
    if isinstance(item, Refusal):
        return [item]
    end = [] if item.settlement is None else [item.settlement]
    return [item.intent, *item.attempts, *end]
