"""A thread that waits for stores, so that the loop need not: it does one thing after the other, and tells the loop of each."""

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from django.db import Error, connection

from tenants import patience

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds without work after which the thread's connection is given up.
_IDLE_SECONDS: Final = 2.0


class Keeper:
    """`post` hands a function to the loop's thread. `answer_seconds`: how long the database may take for one answer."""

    def __init__(
        self,
        name: str,
        post: Callable[[Callable[[], None]], object],
        *,
        answer_seconds: float,
        is_hasty: bool = False,
    ) -> None:
        self._post = post
        self._answer_seconds = answer_seconds
        self._is_hasty = is_hasty
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def do(self, work: Callable[[], T], done: Callable[[T | None], None]) -> None:
        """`done` hears in the loop's thread what `work` gave; None when it failed."""

        def job() -> None:
            result = self._result(work)
            self._tell(lambda: done(result))

        self._jobs.put(job)

    def stop(self, timeout: float) -> None:
        """Ends when what was asked for is done, or the time is over."""
        self._jobs.put(None)
        self._thread.join(timeout)

    def _tell(self, news: Callable[[], None]) -> None:
        # A loop that is closed asks for nothing any more.
        with contextlib.suppress(RuntimeError):
            self._post(news)

    def _run(self) -> None:
        patience.bound_thread(self._answer_seconds)
        while True:
            try:
                job = self._jobs.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                connection.close()
                continue
            if job is None:
                connection.close()
                return
            job()

    def _result(self, work: Callable[[], T]) -> T | None:
        try:
            if connection.connection is None:
                # Whether it can be opened is for the work to find out: it may do without.
                with contextlib.suppress(Error, OSError):
                    self._open()
            return work()
        except (Error, OSError) as fault:
            log.warning("%s: the database is away: %s", self._thread.name, fault)
        except Exception:
            # Logged and answered with no: without this thread every call that has a limit would wait for nothing.
            log.exception("%s failed.", self._thread.name)
        connection.close()
        return None

    def _open(self) -> None:
        """SQLite: whoever else writes may keep us only so long; and counts of a moment need not wait for the disk."""
        if connection.vendor != "sqlite":
            return
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout={round(self._answer_seconds * 1000)}")
            if self._is_hasty:
                cursor.execute("PRAGMA synchronous=NORMAL")
