"""Names to addresses by the operating system's resolver, which blocks and has no time limit that we could set.

A wait for it can be given up, its thread cannot: one that asks a name server which does not answer is gone for half a
minute. So these threads are our own (an event loop has four to give, for everything), few names can hold many of them, and
names that have not answered before can hold half of them at most: a tenant's dead names stop nobody else's good ones.
"""

import asyncio
import contextlib
import os
import socket
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from time import monotonic
from typing import Final, TypeVar

#: How long anybody waits for a name.
RESOLVE_SECONDS: Final = 2.0
#: A name that had no address has none for so long.
_FAILED_SECONDS: Final = 2.0
_THREADS: Final = 32
#: Names that wait for a thread, that failed just now, and that answered last time.
_MAX_WAITING: Final = 256
_MAX_FAILED: Final = 1024
_MAX_ANSWERING: Final = 4096

V = TypeVar("V")

#: Host and port to literal addresses, for as long as it takes; raises OSError or UnicodeError when there are none.
Ask = Callable[[str, int], Sequence[str]]


class _LookUp:
    __slots__ = ("answer", "asked_at", "host", "is_trusted", "port", "started_at")

    def __init__(self, host: str, port: int, asked_at: float, is_trusted: bool) -> None:
        self.host = host
        self.port = port
        self.asked_at = asked_at
        self.started_at = 0.0
        #: It answered last time, so all threads are open to it.
        self.is_trusted = is_trusted
        self.answer: Future[Sequence[str]] = Future()


def ask_system(host: str, port: int) -> Sequence[str]:
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class SystemResolver:
    """Looks names up in at most `threads` daemon threads, each name in one at a time; no answer is kept.

    Raises OSError within `seconds`: at once for a name whose last look-up failed a moment ago, or still hangs after
    `seconds`, and for one that has not answered before while such names hold their half of the threads.
    """

    def __init__(
        self, ask: Ask = ask_system, *, seconds: float = RESOLVE_SECONDS, threads: int = _THREADS
    ) -> None:
        self._ask = ask
        self._seconds = seconds
        self._threads = threads
        self._begin()

    def _begin(self) -> None:
        """As it was made. In a child of this process too: its parent's threads are not there."""
        self._lock = threading.Lock()
        #: By host alone: the port plays no part in an answer.
        self._open: dict[str, _LookUp] = {}
        self._running: set[_LookUp] = set()
        self._waiting: deque[_LookUp] = deque()
        self._waiting_trusted: deque[_LookUp] = deque()
        self._failed_at: OrderedDict[str, float] = OrderedDict()
        self._answering: OrderedDict[str, None] = OrderedDict()

    async def lookup(self, host: str, port: int) -> Sequence[str]:
        answer = self._answer(host, port)
        loop = asyncio.get_running_loop()
        woken = loop.create_future()
        answer.add_done_callback(lambda _: _wake(loop, woken))
        async with asyncio.timeout(self._seconds):
            await woken
        return answer.result()

    def lookup_sync(self, host: str, port: int) -> Sequence[str]:
        return self._answer(host, port).result(self._seconds)

    # --- under the lock -----------------------------------------------------------------------------------------------

    def _answer(self, host: str, port: int) -> Future[Sequence[str]]:
        now = monotonic()
        with self._lock:
            look_up = self._open.get(host)
            if look_up is None:
                look_up = self._admit(host, port, now)
                self._start_waiting(now)
            elif now - look_up.asked_at >= self._seconds:
                raise TimeoutError("The name is being looked up for too long already.")
            return look_up.answer

    def _admit(self, host: str, port: int, now: float) -> _LookUp:
        if now - self._failed_at.get(host, -_FAILED_SECONDS) < _FAILED_SECONDS:
            raise OSError("The name had no address a moment ago.")
        look_up = _LookUp(host, port, now, host in self._answering)
        waiting = self._waiting_trusted if look_up.is_trusted else self._waiting
        if len(waiting) >= _MAX_WAITING or (not look_up.is_trusted and self._is_stuck(now)):
            raise OSError("Too many names are being looked up.")
        self._open[host] = look_up
        waiting.append(look_up)
        return look_up

    def _is_stuck(self, now: float) -> bool:
        """Whether every thread that a new name may use is held by a look-up that nobody waits for any more."""
        overdue = sum(
            not each.is_trusted and now - each.started_at >= self._seconds for each in self._running
        )
        return overdue >= self._threads // 2

    def _start_waiting(self, now: float) -> None:
        while (look_up := self._next(now)) is not None:
            look_up.started_at = now
            self._running.add(look_up)
            thread = threading.Thread(
                target=self._run, args=(look_up,), name="resolve", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                self._forget(look_up)
                look_up.answer.set_exception(OSError("No thread could be started."))

    def _next(self, now: float) -> _LookUp | None:
        """What may run now; those out of which everybody has gone are passed over."""
        while len(self._running) < self._threads:
            if self._waiting_trusted:
                look_up = self._waiting_trusted.popleft()
            elif self._waiting and self._untrusted_running() < self._threads // 2:
                look_up = self._waiting.popleft()
            else:
                return None
            # Others may have joined until `seconds` after it was asked for, and wait as long again.
            if now - look_up.asked_at < 2 * self._seconds:
                return look_up
            self._forget(look_up)
            look_up.answer.set_exception(TimeoutError("No thread was free in time."))
        return None

    def _untrusted_running(self) -> int:
        return sum(not each.is_trusted for each in self._running)

    def _forget(self, look_up: _LookUp) -> None:
        self._running.discard(look_up)
        del self._open[look_up.host]

    def _ended(self, look_up: _LookUp, has_answered: bool) -> None:
        now = monotonic()
        in_time = now - look_up.started_at < self._seconds
        with self._lock:
            self._forget(look_up)
            self._answering.pop(look_up.host, None)
            self._failed_at.pop(look_up.host, None)
            if not has_answered:
                _note(self._failed_at, look_up.host, now, _MAX_FAILED)
            elif in_time:
                _note(self._answering, look_up.host, None, _MAX_ANSWERING)
            self._start_waiting(now)

    # --- a thread -----------------------------------------------------------------------------------------------------

    def _run(self, look_up: _LookUp) -> None:
        found: Sequence[str] = ()
        fault: Exception | None = None
        try:
            found = self._ask(look_up.host, look_up.port)
        except Exception as error:  # noqa: BLE001 - it is raised to whoever waits
            fault = error
        self._ended(look_up, fault is None)
        if fault is None:
            look_up.answer.set_result(found)
        else:
            look_up.answer.set_exception(fault)


def _note(notes: "OrderedDict[str, V]", host: str, value: V, at_most: int) -> None:
    notes[host] = value
    if len(notes) > at_most:
        notes.popitem(last=False)


def _wake(loop: asyncio.AbstractEventLoop, woken: "asyncio.Future[None]") -> None:
    # The loop may be gone by the time that a hanging look-up ends.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(_set, woken)


def _set(woken: "asyncio.Future[None]") -> None:
    if not woken.done():
        woken.set_result(None)


#: The one of this process: its bounds are the process's.
SYSTEM: Final = SystemResolver()
os.register_at_fork(after_in_child=SYSTEM._begin)
