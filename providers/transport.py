"""The way to the upstreams: one request out, one answer back by callbacks, over kept connections.

Nothing else in the relay opens a socket to an upstream. On the hit path (a connection is at hand) a call makes no task
and no future; name look-up, connect and TLS are a task of their own (`dialing.py`).

What a failure says about the request: `nothing_sent` is true only if no byte of it can have reached the upstream. A
request is repeated here, silently, only on another connection and only if the kernel had taken no byte of it; a kept
connection whose end can already be read is never written to. Every other doubt is the caller's to judge. Redirects are
answers like others.

The end of a body that is announced neither by length nor by chunks cannot be told from a cut (RFC 9112 §8): whoever
needs to know looks for the end mark of the stream's own format.
"""

import asyncio
import ssl
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import Final

from providers.call import Call, Receiver
from providers.dialing import (
    Dialer,
    DialError,
    Dialing,
    Resolve,
    Timings,
    UpstreamTls,
    upstream_tls,
)
from providers.http1 import encode_head, host_header
from providers.pool import Pool, PoolKey, PoolLimits
from providers.types import FailureKind, Origin, UpstreamRequest

__all__ = [
    "Call",
    "Counts",
    "PoolLimits",
    "Receiver",
    "Resolve",
    "Timings",
    "Transport",
    "UpstreamTls",
    "upstream_tls",
]

_SWEEP_SECONDS: Final = 0.1
_IDLE_SWEEP_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Counts:
    """The transport at one moment, for metrics."""

    pools: int
    connections: int
    idle: int
    calls: int
    waiting: int


class Transport:
    """Pools of connections, one for each origin and `pool_key`. Belongs to one event loop."""

    def __init__(
        self,
        *,
        resolve: Resolve,
        limits: PoolLimits | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`tls` is for tests and for authorities of one's own (`upstream_tls(cafile)`); by default the system's."""
        self._limits = limits or PoolLimits()
        self._dialer = Dialer(resolve, tls or upstream_tls())
        self._pools: dict[PoolKey, Pool] = {}
        self._connections = 0
        self._live: set[Call] = set()
        self._dials: set[Dialing] = set()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._sweep_due = 0.0
        self._sweeps_often = False
        self._expire_at = 0.0

    def send(self, request: UpstreamRequest, receiver: Receiver) -> Call:
        """Start a call. Raises ValueError for a request that cannot be written as one HTTP request."""
        origin = request.origin
        key = (origin.scheme, origin.host, origin.port, request.pool_key)
        pool = self._pools.get(key)
        host = pool.host if pool else host_header(origin.scheme, origin.host, origin.port)
        call = Call(request, encode_head(request, host), receiver, self._live)
        self._watch()
        if self._closed:
            self._fail_soon(call, FailureKind.CLOSED, "the transport is closed")
        elif pool := pool or self._add_pool(key, origin):
            self._acquire(pool, call)
        else:
            self._fail_soon(call, FailureKind.OVERLOADED, "too many upstreams at once")
        return call

    async def close(self) -> None:
        """End all calls as closed and all connections. Takes at most a second."""
        self._closed = True
        for call in tuple(self._live):
            call.failed(FailureKind.CLOSED, "the transport is closing")
        for pool in self._pools.values():
            pool.discard_idle()
        self._pools.clear()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        self._dialer.close()
        if self._dials:
            await asyncio.wait(self._dials, timeout=1.0)
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

    # ---- places and connections

    def _add_pool(self, key: PoolKey, origin: Origin) -> Pool | None:
        if len(self._pools) >= self._limits.pools:
            unused = next((pool for pool in self._pools.values() if pool.is_unused), None)
            if unused is None:
                return None
            unused.discard_idle()
            del self._pools[unused.key]
        pool = self._pools[key] = Pool(key, origin, self._limits, self)
        return pool

    def _acquire(self, pool: Pool, call: Call) -> None:
        while (connection := pool.take()) is not None:
            if call.start_on(connection):
                return
        if pool.has_room and self._make_room():
            self._start_dialing(pool, call)
        elif len(pool.waiting) < self._limits.waiting_per_pool:
            call.waiting_since = monotonic()
            pool.waiting.append(call)
            self._running_loop().call_later(self._limits.wait, self._give_up, pool, call)
        else:
            self._fail_soon(call, FailureKind.OVERLOADED, "the queue is full")

    def _make_room(self) -> bool:
        """Whether one more connection may be opened; an idle one of any pool gives way."""
        if self._connections < self._limits.connections:
            return True
        return any(pool.discard_oldest() for pool in tuple(self._pools.values()))

    def freed(self, pool: Pool, *, closed: bool) -> None:
        """A pool has an idle connection more, or (`closed`) a connection less."""
        if closed:
            self._connections -= 1
        while pool.waiting and not self._closed and self._can_serve(pool):
            call = pool.waiting.popleft()
            since, call.waiting_since = call.waiting_since, None
            if since is not None and not call.is_done:
                call.timings = Timings(pool_wait=monotonic() - since)
                self._acquire(pool, call)

    def _can_serve(self, pool: Pool) -> bool:
        return pool.idle > 0 or (pool.has_room and self._make_room())

    def _give_up(self, pool: Pool, call: Call) -> None:
        if call.waiting_since is not None:
            call.waiting_since = None
            pool.waiting.remove(call)
            call.failed(FailureKind.OVERLOADED, "no connection became free in time")

    def _start_dialing(self, pool: Pool, call: Call) -> None:
        pool.open += 1
        self._connections += 1
        dialing = self._running_loop().create_task(self._dialer.dial(pool.origin, call.limits))
        self._dials.add(dialing)
        # A callback, because a task that is cancelled before its first step runs no line of its own.
        dialing.add_done_callback(partial(self._dialed, pool, call))
        call.dialed_by(dialing)

    def _dialed(self, pool: Pool, call: Call, dialing: Dialing) -> None:
        self._dials.discard(dialing)
        call.dialed_by(None)
        error = None if dialing.cancelled() else dialing.exception()
        if dialing.cancelled() or error is not None:
            pool.place_freed()
            if isinstance(error, DialError):
                call.failed(error.kind, error.detail)
                return
            call.failed(FailureKind.CONNECT, "interrupted")  # not heard if the call cancelled it
            if error is not None:
                raise error  # a fault of ours, which the loop reports
            return
        connection, timings = dialing.result()
        call.timings = replace(timings, pool_wait=call.timings.pool_wait)
        if not connection.join(pool):
            pool.place_freed()
            call.failed(FailureKind.CLOSED, "the upstream hung up before the request was sent")
        elif call.is_done:
            connection.discard()
        elif not call.start_on(connection):
            call.failed(FailureKind.WRITE, "the upstream hung up before the request was sent")

    def _fail_soon(self, call: Call, kind: FailureKind, detail: str) -> None:
        self._running_loop().call_soon(call.failed, kind, detail)

    # ---- limits of time

    def _watch(self) -> None:
        """One timer looks after all calls: no call has a timer of its own."""
        if not self._sweeps_often:
            self._sweep_after(_SWEEP_SECONDS)

    def _sweep_after(self, seconds: float) -> None:
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        self._sweep_timer = self._running_loop().call_later(seconds, self._sweep)
        self._sweep_due = monotonic() + seconds
        self._sweeps_often = seconds == _SWEEP_SECONDS

    def _sweep(self) -> None:
        now = monotonic()
        late = max(0.0, now - self._sweep_due)
        try:
            for call in tuple(self._live):
                call.check(now, late)
            if now >= self._expire_at:
                self._expire_at = now + _IDLE_SWEEP_SECONDS
                self._expire(now)
        finally:
            self._sweeps_often = False
            if self._live:
                self._sweep_after(_SWEEP_SECONDS)
            elif self._pools:
                self._sweep_after(_IDLE_SWEEP_SECONDS)

    def _expire(self, now: float) -> None:
        for pool in tuple(self._pools.values()):
            pool.expire(now)
            if pool.open == 0 and not pool.waiting:
                del self._pools[pool.key]

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop
