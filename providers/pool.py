"""The connections to one origin under one key, idle ones last in first out, and the calls that wait for a place."""

from collections import deque
from dataclasses import dataclass
from time import monotonic
from typing import Generic, Protocol, TypeVar

from providers.call import Call
from providers.types import Origin, PoolKey


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How much the transport may hold. Times in seconds."""

    connections: int = 16_384
    """Open or being opened, in all pools together."""
    connections_per_pool: int = 4096
    idle_per_pool: int = 512
    pools: int = 1024
    waiting_per_pool: int = 1024
    wait: float = 0.1
    """A call that finds a pool full fails as overloaded after this time."""
    idle: float = 30.0
    """An unused connection is closed after this time, or earlier if the upstream said that it would."""
    age: float = 600.0
    """An older connection takes no new call, so that a name that moved or an address no longer allowed is left."""


class Kept(Protocol):
    """A connection that may outlive a call. Times on the monotonic clock."""

    opened_at: float
    expires_at: float

    def is_stale(self) -> bool:
        """Whether it has ended, or says something that nobody asked for."""

    def discard(self) -> None: ...


Line = TypeVar("Line", bound=Kept)


class Owner(Protocol[Line]):
    """Who is told that a pool can serve one more call."""

    def freed(self, pool: "Pool[Line]", *, closed: bool) -> None: ...


class Pool(Generic[Line]):
    """Holds connections and the queue; opening and serving are the owner's."""

    def __init__(
        self, key: PoolKey, origin: Origin, limits: PoolLimits, owner: Owner[Line]
    ) -> None:
        self.key = key
        self.origin = origin
        self.open = 0
        """Connections that exist or are being opened: idle, at work, dialing."""
        self.waiting: deque[Call] = deque()
        self._idle: dict[Line, None] = {}  # in the order in which they became idle
        self._limits = limits
        self._owner = owner

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def has_room(self) -> bool:
        return self.open < self._limits.connections_per_pool

    @property
    def is_unused(self) -> bool:
        """No call is on it, none waits for it."""
        return self.open == len(self._idle) and not self.waiting

    @property
    def is_empty(self) -> bool:
        """Unused, and nothing is kept."""
        return self.open == 0 and not self.waiting

    def take(self) -> Line | None:
        """The connection that became idle last, of those that are still good."""
        now = monotonic()
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.expires_at > now and not connection.is_stale():
                return connection
            connection.discard()
        return None

    def taken(self, connection: Line) -> None:
        """Somebody else's pool has chosen this one."""
        self._idle.pop(connection, None)

    def take_back(self, connection: Line, keep_seconds: int | None) -> None:
        """Its answer is whole and it may carry another request."""
        now = monotonic()
        keep = self._limits.idle
        if keep_seconds is not None:
            # A second before the upstream's own limit: a request that crosses its close is left in doubt.
            keep = min(keep, keep_seconds - 1.0)
        connection.expires_at = min(now + keep, connection.opened_at + self._limits.age)
        if connection.expires_at <= now or len(self._idle) >= self._limits.idle_per_pool:
            connection.discard()
            return
        self._idle[connection] = None
        if self.waiting:
            self._owner.freed(self, closed=False)

    def lost(self, connection: Line) -> None:
        """It is closed, whatever it was doing."""
        self._idle.pop(connection, None)
        self.place_freed()

    def place_freed(self) -> None:
        """A connection has ended, or was never made."""
        self.open -= 1
        self._owner.freed(self, closed=True)

    def expire(self, now: float) -> None:
        for connection in [each for each in self._idle if each.expires_at <= now]:
            connection.discard()

    def discard_idle(self) -> None:
        for connection in list(self._idle):
            connection.discard()

    def discard_oldest(self) -> bool:
        """Give up the connection that has been idle longest; False if there is none."""
        oldest = next(iter(self._idle), None)
        if oldest is None:
            return False
        oldest.discard()
        return True
