"""The limits of time of all calls of a transport, by one timer: no call has a timer of its own."""

import asyncio
from collections.abc import Collection
from time import monotonic
from typing import Final, Protocol

_CALLS_SECONDS: Final = 0.1
_IDLE_SECONDS: Final = 1.0


class Timed(Protocol):
    """A call that is running."""

    def check(self, now: float, late: float) -> None: ...


class Keeper(Protocol):
    """Who holds connections between calls."""

    @property
    def keeps_any(self) -> bool: ...

    def expire(self, now: float) -> None:
        """Give up the connections whose time is over; about once a second."""


class Sweep:
    """Looks at the calls ten times a second while there are any, at kept connections once. `stop` ends it."""

    def __init__(self, calls: Collection[Timed], keeper: Keeper) -> None:
        self._calls = calls
        self._keeper = keeper
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.is_often = False
        """Calls are looked at; if not, `watch` is to be told of the next."""
        self._expire_at = 0.0

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """There are calls, and `is_often` does not hold."""
        self._after(_CALLS_SECONDS, loop)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _after(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        self.stop()
        self._timer = loop.call_later(seconds, self._look, loop)
        self._due = monotonic() + seconds
        self.is_often = seconds == _CALLS_SECONDS

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = monotonic()
        late = max(0.0, now - self._due)
        try:
            for call in tuple(self._calls):
                call.check(now, late)
            if now >= self._expire_at:
                self._expire_at = now + _IDLE_SECONDS
                self._keeper.expire(now)
        finally:
            self.is_often = False
            if self._calls:
                self._after(_CALLS_SECONDS, loop)
            elif self._keeper.keeps_any:
                self._after(_IDLE_SECONDS, loop)
