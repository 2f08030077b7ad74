"""The way to the upstreams: one request out, one answer back by callbacks, over kept connections.

On the hit path (a connection is at hand) a call makes no task and no future; name look-up, connect and TLS are a task of
their own (`dialing.py`). `transport_httpx.py` is the other way, slower and by a library that others wrote.

What a failure says about the request: `nothing_sent` is true only if no byte of it can have reached the upstream. A
request is repeated here, silently, only on another connection and only if the kernel had taken no byte of it; a kept
connection whose end can already be read is never written to. Every other doubt is the caller's to judge. Redirects are
answers like others.

The end of a body that is announced neither by length nor by chunks cannot be told from a cut (RFC 9112 §8): whoever
needs to know looks for the end mark of the stream's own format.
"""

import asyncio
import ssl
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import cast

from providers.call import Call, Receiver
from providers.connection import Connection
from providers.dialing import Dialer, DialError, Resolve, Timings, UpstreamTls, upstream_tls
from providers.pool import Pool, PoolLimits
from providers.transport_common import Counts, PooledTransport
from providers.types import FailureKind

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

Dialing = asyncio.Task[tuple[Connection, Timings]]


class Transport(PooledTransport[Connection]):
    """Our own: sockets, HTTP and pools without a layer between."""

    def __init__(
        self,
        *,
        resolve: Resolve,
        limits: PoolLimits | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(resolve=resolve, limits=limits, tls=tls)
        self._dialer = Dialer(resolve, self._tls, Connection)
        self._dials: set[Dialing] = set()

    def _end_tasks(self) -> set[asyncio.Task[None]]:
        self._dialer.close()
        return cast("set[asyncio.Task[None]]", self._dials)

    def _acquire(self, pool: Pool[Connection], call: Call) -> None:
        while (connection := pool.take()) is not None:
            if call.start_on(connection):
                return
        self._dial_or_queue(pool, call)

    def _dial_or_queue(self, pool: Pool[Connection], call: Call) -> None:
        if pool.has_room and self._make_room():
            self._start_dialing(pool, call)
        elif len(pool.waiting) < self._limits.waiting_per_pool:
            call.waiting_since = monotonic()
            pool.waiting.append(call)
            self._running_loop().call_later(self._limits.wait, self._give_up, pool, call)
        else:
            self._fail_soon(call, FailureKind.OVERLOADED, "the queue is full")

    def freed(self, pool: Pool[Connection], *, closed: bool) -> None:
        if closed:
            self._connections -= 1
        while pool.waiting and not self._closed and self._can_serve(pool):
            call = pool.waiting.popleft()
            since, call.waiting_since = call.waiting_since, None
            if since is not None and not call.is_done:
                call.timings = Timings(pool_wait=monotonic() - since)
                self._acquire(pool, call)
                call.tell_if_sent()

    def _can_serve(self, pool: Pool[Connection]) -> bool:
        return pool.idle > 0 or (pool.has_room and self._make_room())

    def _give_up(self, pool: Pool[Connection], call: Call) -> None:
        if call.waiting_since is not None:
            call.waiting_since = None
            pool.waiting.remove(call)
            call.failed(FailureKind.OVERLOADED, "no connection became free in time")

    def _start_dialing(self, pool: Pool[Connection], call: Call) -> None:
        pool.open += 1
        self._connections += 1
        dialing = self._running_loop().create_task(self._dialer.dial(pool.origin, call.limits))
        self._dials.add(dialing)
        # A callback, because a task that is cancelled before its first step runs no line of its own.
        dialing.add_done_callback(partial(self._dialed, pool, call))
        call.begun_by(dialing)

    def _dialed(self, pool: Pool[Connection], call: Call, dialing: Dialing) -> None:
        self._dials.discard(dialing)
        call.begun_by(None)
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
        elif call.start_on(connection):
            call.tell_if_sent()
        else:
            call.failed(FailureKind.WRITE, "the upstream hung up before the request was sent")
