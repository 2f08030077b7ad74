"""What every transport has: one pool for each origin and `pool_key`, bounds on all of them together, one look at the time,
and an end. How a call gets its connection is each transport's own.
"""

import asyncio
import ssl
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic

from providers.call import Call, Receiver
from providers.dialing import Resolve, UpstreamTls, upstream_tls
from providers.pool import Line, Pool, PoolLimits
from providers.sweep import Sweep
from providers.types import FailureKind, Letterhead, Origin, PoolKey, UpstreamRequest

__all__ = ["Call", "Counts", "PoolLimits", "PooledTransport", "Receiver", "Resolve", "UpstreamTls"]


@dataclass(frozen=True, slots=True)
class Counts:
    """A transport at one moment, for metrics."""

    pools: int
    connections: int
    idle: int
    calls: int
    waiting: int


class PooledTransport(ABC, Generic[Line]):
    """Belongs to one event loop."""

    def __init__(
        self,
        *,
        resolve: Resolve,
        limits: PoolLimits | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`tls` is for tests and for authorities of one's own (`upstream_tls(cafile)`); by default the system's."""
        self._limits = limits or PoolLimits()
        self._tls = tls or upstream_tls()
        self._pools: dict[PoolKey, Pool[Line]] = {}
        self._connections = 0
        self._live: set[Call] = set()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweep = Sweep(self._live, self)

    def send(self, request: UpstreamRequest, receiver: Receiver) -> Call:
        """Start a call. On a connection at hand its request is on its way when this returns (`Call.is_sent`)."""
        call = Call(request, receiver, self._live)
        if not self._sweep.is_often:
            self._sweep.watch(self._running_loop())
        pool = self._pools.get(request.letterhead.pool) or self._pool_for(request.letterhead, call)
        if pool is not None:
            self._acquire(pool, call)
        return call

    async def close(self) -> None:
        """End all calls as closed and all connections. Takes at most a second."""
        self._closed = True
        for call in tuple(self._live):
            call.failed(FailureKind.CLOSED, "the transport is closing")
        for pool in self._pools.values():
            pool.discard_idle()
        self._pools.clear()
        self._sweep.stop()
        if tasks := self._end_tasks():
            await asyncio.wait(tasks, timeout=1.0)
        await asyncio.sleep(0)  # the aborted sockets are closed in the loop's next turn

    def counts(self) -> Counts:
        pools = self._pools.values()
        return Counts(
            pools=len(pools),
            connections=self._connections,
            idle=sum(pool.idle for pool in pools),
            calls=len(self._live),
            waiting=sum(len(pool.waiting) for pool in pools),
        )

    # ---- what a transport does its own way

    @abstractmethod
    def _acquire(self, pool: Pool[Line], call: Call) -> None:
        """Give the call a connection, or a place in the queue, or a failure soon."""

    @abstractmethod
    def freed(self, pool: Pool[Line], *, closed: bool) -> None:
        """A pool has an idle connection more, or (`closed`) a connection less."""

    @abstractmethod
    def _end_tasks(self) -> set[asyncio.Task[None]]:
        """Cancel what runs and give it, to be waited for."""

    def _new_pool(self, key: PoolKey, origin: Origin) -> Pool[Line]:
        return Pool(key, origin, self._limits, self)

    # ---- places

    def _pool_for(self, letterhead: Letterhead, call: Call) -> Pool[Line] | None:
        """A new pool, or None and a call that fails soon."""
        if self._closed:
            self._fail_soon(call, FailureKind.CLOSED, "the transport is closed")
            return None
        pool = self._add_pool(letterhead.pool, letterhead.origin)
        if pool is None:
            self._fail_soon(call, FailureKind.OVERLOADED, "too many upstreams at once")
        return pool

    def _add_pool(self, key: PoolKey, origin: Origin) -> Pool[Line] | None:
        if len(self._pools) >= self._limits.pools:
            unused = next((pool for pool in self._pools.values() if pool.is_unused), None)
            if unused is None:
                return None
            unused.discard_idle()
            del self._pools[unused.key]
        pool = self._pools[key] = self._new_pool(key, origin)
        return pool

    def _make_room(self) -> bool:
        """Whether one more connection may be opened; an idle one of any pool gives way."""
        if self._connections < self._limits.connections:
            return True
        return any(pool.discard_oldest() for pool in tuple(self._pools.values()))

    def _fail_soon(self, call: Call, kind: FailureKind, detail: str) -> None:
        self._running_loop().call_soon(call.failed, kind, detail)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    # ---- for the sweep

    @property
    def keeps_any(self) -> bool:
        return bool(self._pools)

    def expire(self, now: float) -> None:
        for pool in tuple(self._pools.values()):
            pool.expire(now)
            if pool.is_empty:
                del self._pools[pool.key]
