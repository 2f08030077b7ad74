"""How long PostgreSQL may keep us waiting for one answer.

libpq waits for ever, and TCP's own limits do not end a wait for a peer that acknowledges and says nothing: a server that hangs, a
proxy whose other side is gone. So a connection waits only so long, is then closed, and takes every idle one of its pool with it,
because they most likely lead to the same place. Commands wait for as long as it takes: a migration may need hours.
"""

import logging
import threading
import time
from typing import Final, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

logger = logging.getLogger(__name__)

#: Seconds. A pool is not emptied again before that.
_DRAIN_SECONDS: Final = 5.0

T = TypeVar("T")


class _Limit(threading.local):
    seconds: float | None = None


class _Process:
    seconds: float | None = None
    drained_at = float("-inf")


_limit = _Limit()
_process = _Process()


def bound_process(seconds: float | None) -> None:
    """The limit of every thread that has none of its own; None for no limit."""
    _process.seconds = seconds


def bound_thread(seconds: float) -> None:
    """The limit of this thread, for those that must not be held up for as long as others may."""
    _limit.seconds = seconds


class Connection(psycopg.Connection[TupleRow]):
    """A connection on which no wait for an answer lasts longer than the limit. Raises `psycopg.OperationalError` then."""

    _pool: "ConnectionPool[Connection] | None"

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        limit = _process.seconds if _limit.seconds is None else _limit.seconds
        began = time.monotonic()
        try:
            return super().wait(gen, interval, limit)
        except psycopg.OperationalError:
            if limit is None or time.monotonic() - began < limit:
                raise
            # Whatever it answers later is the answer to a question that nobody asks any more.
            self.close()
            self._distrust_others()
            raise

    def _distrust_others(self) -> None:
        logger.warning("PostgreSQL did not answer in time: the connection is given up.")
        now = time.monotonic()
        if self._pool is not None and now - _process.drained_at >= _DRAIN_SECONDS:
            _process.drained_at = now
            self._pool.drain()
