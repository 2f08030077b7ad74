"""Django's SQLite, but whoever waits for the write lock stands in line for it.

SQLite knows no line. Who finds the lock taken asks again at ever longer intervals, up to a tenth of a second; when short
transactions follow one another it is free for moments only, and newcomers find those. So a worker may wait for seconds while the
lock goes round dozens of times, and refuse its calls for a database that is not away at all.

Here one at a time waits at the lock itself, and asks without pause. All others wait until that place is free, and ask for it the
more often the longer they have waited. Who has just written cannot come back before the one at the lock.
"""

import fcntl
import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from django.db.backends.sqlite3 import base

from tenants.clock import SYSTEM

#: Seconds until a newcomer asks again, until somebody does who has waited for long, and how long that is.
_FIRST_PAUSE: Final = 0.016
_LAST_PAUSE: Final = 0.001
_LONG: Final = 0.2
#: Who has waited for so long goes to the lock beside whoever is there: that process may have been stopped.
_PATIENCE: Final = 1.0
#: For so many milliseconds SQLite's own pauses are short enough, and it makes them without Python's lock.
_AT_THE_LOCK_MS: Final = 3


class DatabaseWrapper(base.DatabaseWrapper):
    def _start_transaction_under_autocommit(self) -> None:
        """Waits as long as the connection's `busy_timeout`, and raises OperationalError then. The lock is taken at once: one
        that is wanted later would fail at once, whatever the time limit.
        """
        if self.is_in_memory_db():
            super()._start_transaction_under_autocommit()  # type: ignore[misc]  # not in the stubs
            return
        with self.wrap_database_errors:
            (milliseconds,) = self.connection.execute("PRAGMA busy_timeout").fetchone()
            until = SYSTEM.monotonic() + milliseconds / 1000
            with _first_in_line(f"{self.settings_dict['NAME']}-line", until):
                self.connection.execute(f"PRAGMA busy_timeout = {_AT_THE_LOCK_MS}")
                try:
                    _begin(self.connection, until)
                finally:
                    self.connection.execute(f"PRAGMA busy_timeout = {milliseconds}")


def _begin(connection: sqlite3.Connection, until: float) -> None:
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as fault:
            if fault.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or SYSTEM.monotonic() >= until:
                raise


@contextmanager
def _first_in_line(path: str, until: float) -> Iterator[None]:
    """The place is a lock on a file, so it is free again whatever becomes of who had it."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        # A file of somebody else's, or no room for one: SQLite's lock alone decides then.
        yield
        return
    try:
        _wait_for(file, until)
        yield
    finally:
        os.close(file)


def _wait_for(file: int, until: float) -> None:
    began = SYSTEM.monotonic()
    until = min(until, began + _PATIENCE)
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            now = SYSTEM.monotonic()
        except OSError:
            return  # a file system without such locks, on which SQLite has its own
        if now >= until:
            # SQLite says itself that the database is locked, if it still is.
            return
        time.sleep(min(_pause(now - began), until - now))


def _pause(waited: float) -> float:
    share = max(0.0, 1 - waited / _LONG)
    # Jitter: two that began to wait in the same moment must not ask in the same moments for ever.
    return max(_LAST_PAUSE, share * _FIRST_PAUSE) * random.uniform(0.5, 1.5)  # noqa: S311 - spreads, hides nothing
