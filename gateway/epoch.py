"""Where a worker learns that the configuration changed.

On SQLite the newest `seq` is read on the loop thread, through a raw read-only connection, once per loop turn in which a
request was read: a few microseconds, and the only database call allowed there. Elsewhere a poll every half second does it
in a thread, and a Redis message only makes that poll come at once.
"""

import asyncio
import contextlib
import logging
import sqlite3
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID

import redis.asyncio
from django.conf import settings
from django.db import DatabaseError, connection

from tenants import bus, changes
from tenants.models import ConfigChange

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.5
IDLE_POLL_SECONDS: Final = 0.25
#: More changes than this at once are not picked apart: everything is read anew.
MAX_CHANGES: Final = 1_000
_RECONNECT_SECONDS: Final = 2.0
_LOCK_SECONDS: Final = 0.05
_NEWEST: Final = "SELECT max(seq) FROM tenants_configchange"


@dataclass(frozen=True, slots=True)
class Changed:
    """One line of the change log."""

    seq: int
    kind: str
    object_id: UUID
    tenant_id: UUID | None


#: The epoch went back: another database stands behind the same address, and whatever we know is of the old one.
ANOTHER_DATABASE: Final = Changed(-1, "database", UUID(int=0), None)


def everything_up_to(newest: int) -> Changed:
    """In place of more lines than are picked apart: with it everything is read anew, at once."""
    return Changed(newest, "everything", UUID(int=0), None)


class Listener(Protocol):
    """Who is told: `changed` with every line since the last, oldest first; `looked` whenever a look succeeded."""

    epoch: int

    def changed(self, lines: list[Changed]) -> None: ...

    def looked(self) -> None: ...


class Watch(Protocol):
    """How a worker looks. `look` may be called on every request; it must cost next to nothing."""

    def start(self) -> None: ...

    def look(self) -> None: ...

    async def stop(self) -> None: ...


class LocalWatch:
    """SQLite: look on the loop thread, at most once per loop turn, and every quarter second while nobody calls."""

    def __init__(self, listener: Listener, path: str) -> None:
        self._listener = listener
        self._path = Path(path)
        self._loop = asyncio.get_running_loop()
        self._database: sqlite3.Connection | None = None
        #: Which file the connection is open on, and which one was read last.
        self._opened: tuple[int, int] | None = None
        self._read: tuple[int, int] | None = None
        self._fresh = False
        self._away = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._tick()

    def _tick(self) -> None:
        # First of all, so that a fault of ours, which the loop logs, is not the end of the watch.
        self._timer = self._loop.call_later(IDLE_POLL_SECONDS, self._tick)
        if self._opened != self._file_now():
            self._forget_connection()
        self._look_now()

    def look(self) -> None:
        if self._fresh:
            return
        database = self._database
        if database is None or self._read != self._opened:
            self._look_now()
            return
        # The usual look, of which every turn of the loop has one: nothing changed.
        self._fresh = True
        self._loop.call_soon(self._stale)
        try:
            (found,) = database.execute(_NEWEST).fetchone()
        except sqlite3.Error:
            self._look_now()
            return
        if (found or 0) == self._listener.epoch:
            self._listener.looked()
        else:
            self._look_now()

    def _look_now(self) -> None:
        self._fresh = True
        self._loop.call_soon(self._stale)
        was_away = self._away
        try:
            self._look()
            self._away = False
        except sqlite3.Error as fault:
            self._forget_connection()
            self._away = True
            if not was_away:
                logger.warning("The epoch cannot be read: %s", type(fault).__name__)
        if was_away and not self._away:
            self._forget_connection()
            logger.warning("The epoch can be read again.")

    def _file_now(self) -> tuple[int, int] | None:
        """What stands at our path now; a connection stays on the file that it opened, wherever that was moved to."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _stale(self) -> None:
        self._fresh = False

    def _look(self) -> None:
        database = self._connected()
        (found,) = database.execute(_NEWEST).fetchone()
        newest = found or 0
        # A file was put in the place of ours (a backup): it is another database, however its epoch reads.
        is_another = self._read not in {None, self._opened} or newest < self._listener.epoch
        if is_another:
            self._listener.changed([ANOTHER_DATABASE, everything_up_to(newest)])
        elif newest - self._listener.epoch > MAX_CHANGES:
            self._listener.changed([everything_up_to(newest)])
        elif newest > self._listener.epoch:
            self._listener.changed(self._lines(database))
        # Only now: a listener that failed is told again.
        self._read = self._opened
        self._listener.looked()

    def _lines(self, database: sqlite3.Connection) -> list[Changed]:
        rows = database.execute(
            "SELECT seq, kind, object_id, tenant_id FROM tenants_configchange WHERE seq > ?"
            " ORDER BY seq LIMIT ?",
            (self._listener.epoch, MAX_CHANGES),
        )
        return [
            Changed(seq, kind, UUID(object_id), UUID(tenant) if tenant else None)
            for seq, kind, object_id, tenant in rows
        ]

    def _connected(self) -> sqlite3.Connection:
        if self._database is None:
            self._opened = self._file_now()
            # The loop waits for a lock only while locks are rare: while the database is away, each turn asks and goes on.
            self._database = sqlite3.connect(
                f"file:{self._path}?mode=ro",
                uri=True,
                timeout=0.0 if self._away else _LOCK_SECONDS,
                isolation_level=None,
            )
        return self._database

    def _forget_connection(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._forget_connection()


class RemoteWatch:
    """PostgreSQL: a poll in a thread; with Redis a subscription that calls for the poll at once."""

    def __init__(self, listener: Listener, executor: Executor) -> None:
        self._listener = listener
        self._executor = executor
        self._nudge = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks.append(asyncio.create_task(self._poll_for_ever()))
        if settings.REDIS_URL:
            self._tasks.append(asyncio.create_task(self._listen_for_ever()))

    def look(self) -> None:
        """Nothing to do on a request: the poll bounds how old our picture can be."""

    async def _poll_for_ever(self) -> None:
        while True:
            try:
                await self._poll()
            except DatabaseError as fault:
                logger.warning("The epoch could not be read: %s", type(fault).__name__)
            except Exception:
                # Without this task no revoked key would be refused any more.
                logger.exception("The watch on changes had a fault; it goes on.")
            await _first_of(self._nudge, POLL_SECONDS)

    async def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        lines = await loop.run_in_executor(self._executor, read_changes, self._listener.epoch)
        if lines:
            self._listener.changed(lines)
        self._listener.looked()

    async def _listen_for_ever(self) -> None:
        while True:
            try:
                await self._listen()
            except (redis.RedisError, OSError, ValueError) as fault:
                # The poll goes on; only its half second is lost. An address that is none is a ValueError.
                logger.warning("The epoch channel is away: %s", type(fault).__name__)
            except Exception:
                logger.exception("The epoch channel had a fault; it is opened again.")
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen(self) -> None:
        client = redis.asyncio.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1.0)
        try:
            async with client.pubsub() as subscription:
                await subscription.subscribe(bus.channel())
                async for message in subscription.listen():
                    if message["type"] == "message":
                        self._nudge.set()
        finally:
            await client.aclose()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _first_of(nudge: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(nudge.wait(), seconds)
    nudge.clear()


def read_changes(since: int) -> list[Changed]:
    """Lines after `since`, oldest first, or one that stands for all when they are too many. Gives its connection back."""
    try:
        newest = changes.epoch()
        if newest < since:
            return [ANOTHER_DATABASE, everything_up_to(newest)]
        if newest - since > MAX_CHANGES:
            return [everything_up_to(newest)]
        rows = ConfigChange.objects.filter(seq__gt=since).order_by("seq")[:MAX_CHANGES]
        return [Changed(row.seq, row.kind, row.object_id, row.tenant_id) for row in rows]
    finally:
        connection.close()


def watch_for(listener: Listener, executor: Executor) -> Watch:
    """The watch that fits the database."""
    if connection.vendor == "sqlite":
        return LocalWatch(listener, str(connection.settings_dict["NAME"]))
    return RemoteWatch(listener, executor)
