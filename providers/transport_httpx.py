"""The way to the upstreams by httpx: `GATEHOUSE_TRANSPORT=httpx`. Slower than our own by a task and several layers a call,
and for whoever would rather trust a library that many use.

The promises are those of `transport.py`, by construction: the dialer that connects to judged addresses and makes TLS, the
limits of time (`call.py`), the bounds of pools and the reader of answers (`pipe.py`) are the same objects. Of httpx its
HTTP transport is used and no client, for it is the client that would follow redirects, keep cookies, read the
environment and .netrc, and unpack bodies.

httpx gives no public way to hand its transport a network backend, so its connection pool is replaced (`_pool`, httpx 0.28),
as in `tenants/fetch.py`; `test_a_refused_address_is_never_connected_to` breaks if that ever stops working.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import cast

import httpcore
import httpx

from providers.call import Call
from providers.connection import Exchange
from providers.dialing import Dialer, DialError, Resolve, Timings
from providers.http1 import BadAnswer, disagreement
from providers.pipe import Pipe, PipeBackend, StaleLine, current
from providers.pool import Pool, PoolLimits
from providers.transport_common import PooledTransport
from providers.types import FailureKind, Headers, Origin, PoolKey


class HttpxPool(Pool[Pipe]):
    """httpx's connections to one origin under one key. Which of them serves a call is httpcore's choice."""

    def __init__(
        self,
        key: PoolKey,
        origin: Origin,
        limits: PoolLimits,
        owner: "HttpxTransport",
        tls: ssl.SSLContext,
    ) -> None:
        super().__init__(key, origin, limits, owner)
        self.errands = 0
        self.url = httpx.URL(scheme=origin.scheme, host=origin.host, port=origin.port)
        self.http = httpx.AsyncHTTPTransport(verify=tls, trust_env=False)
        self.http._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=limits.connections_per_pool,
            # Its own count closes idle connections while others are busy; ours (`take_back`) counts the idle ones.
            max_keepalive_connections=limits.connections_per_pool,
            keepalive_expiry=limits.idle,
            network_backend=PipeBackend(partial(owner.open, self)),
        )

    @property
    def is_unused(self) -> bool:
        return not self.errands and super().is_unused

    @property
    def is_empty(self) -> bool:
        return not self.errands and super().is_empty


class _Body(httpx.AsyncByteStream):
    """A request's body until the answer begins: httpx holds a request as long as its answer, and that may be a long stream."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._data

    def forget(self) -> None:
        self._data = b""


class HttpxErrand:
    """One call as a task that httpx runs in; towards its `Call` it is the line that carries it.

    The task is never cancelled, for a connection that httpcore was about to use would stay in its pool for ever: what it
    waits for ends instead.
    """

    def __init__(self, call: Call, pool: HttpxPool, wait: float) -> None:
        self.call = call
        self.heard = False
        self.taken = 0
        self.is_sent = False  # told later
        self.answer: tuple[int, Headers, bytes] | None = None
        """Whole, and nothing of it told before."""
        self._pool = pool
        head, body = call.request()
        self._body = _Body(body)
        self._request = _request(head, self._body, pool, wait)
        self._pipe: Pipe | None = None
        self._answered = False
        self._going = asyncio.Event()
        self._going.set()

    # ---- the task

    async def run(self) -> None:
        """Raises what ended the call, unless that was the end of its answer."""
        current.set(self)
        while not self.call.is_done:
            try:
                await self._ask()
                return
            except StaleLine:
                continue  # each of them is closed, so there is an end to this
            except httpx.PoolTimeout:
                detail = "no connection became free in time"
                raise DialError(FailureKind.OVERLOADED, detail) from None
            except httpx.TransportError:
                raise (self._pipe and self._pipe.fault) or disagreement() from None

    async def _ask(self) -> None:
        response = await self._pool.http.handle_async_request(self._request)
        stream = cast(httpx.AsyncByteStream, response.stream)
        try:
            await self._pass_on()
            async for _ in stream:
                await self._pass_on()
            if self._pipe is not None:
                self._pipe.answer_over()
        except BaseException:
            self.discard()
            raise
        finally:
            await stream.aclose()

    async def _pass_on(self) -> None:
        """Give the caller what was read. It is our own reader's, whose judgement the time limits and the books rely on."""
        pipe = self._pipe
        reader = pipe and pipe.reader
        if pipe is None or not reader:
            return
        data = pipe.take_body()
        if not self._answered:
            self._answered = True
            self._body.forget()
            if reader.complete:
                self.answer = (reader.status, reader.headers, data)
                return
            self.call.head(reader.status, reader.headers)
        if data:
            await self._going.wait()
            self.call.receiver.upstream_bytes(data)

    # ---- for the connection

    def on(self, pipe: Pipe) -> None:
        self.placed()
        self._pipe = pipe
        self._pool.taken(pipe)
        if self.call.is_done:
            pipe.discard()
            raise StaleLine
        self.call.start_on(self)

    def sent(self) -> None:
        self.call.sent()

    def placed(self) -> None:
        """Waits for a place no longer."""
        call = self.call
        since, call.waiting_since = call.waiting_since, None
        if since is not None:
            self._pool.waiting.remove(call)
            call.timings = Timings(pool_wait=monotonic() - since)

    # ---- for the call

    def begin(self, exchange: Exchange, head: bytes, body: bytes) -> bool:
        return True  # httpcore is about to write

    def unsent(self) -> int:
        return self._pipe.unsent() if self._pipe is not None else 0

    def pause(self) -> None:
        self._going.clear()

    def resume(self) -> None:
        self.heard = True  # silence counts from now on
        self._going.set()

    def discard(self) -> None:
        self._going.set()
        if self._pipe is not None:
            self._pipe.discard()


def _request(head: bytes, body: _Body, pool: HttpxPool, wait: float) -> httpx.Request:
    """The very bytes that our own transport would write, in httpx's form. httpx adds nothing to headers given with a stream."""
    first, *lines = head[:-4].split(b"\r\n")
    method, target, _ = first.split(b" ")
    return httpx.Request(
        method.decode(),
        pool.url,
        headers=[(name, value) for name, _, value in (line.partition(b": ") for line in lines)],
        stream=body,
        extensions={"target": target, "timeout": {"pool": wait}},
    )


class HttpxTransport(PooledTransport[Pipe]):
    """The same doors as `transport.Transport`."""

    def __init__(
        self,
        *,
        resolve: Resolve,
        limits: PoolLimits | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(resolve=resolve, limits=limits, tls=tls)
        self._dialer = Dialer(resolve, self._tls, Pipe)
        self._tasks: set[asyncio.Task[None]] = set()

    def _new_pool(self, key: PoolKey, origin: Origin) -> HttpxPool:
        return HttpxPool(key, origin, self._limits, self, self._tls)

    def _end_tasks(self) -> set[asyncio.Task[None]]:
        self._dialer.close()
        return self._tasks

    def _acquire(self, pool: Pool[Pipe], call: Call) -> None:
        pool = cast(HttpxPool, pool)
        if pool.errands >= self._limits.connections_per_pool:
            if len(pool.waiting) >= self._limits.waiting_per_pool:
                self._fail_soon(call, FailureKind.OVERLOADED, "the queue is full")
                return
            call.waiting_since = monotonic()
            pool.waiting.append(call)
        pool.errands += 1
        errand = HttpxErrand(call, pool, self._limits.wait)
        task = self._running_loop().create_task(errand.run())
        self._tasks.add(task)
        task.add_done_callback(partial(self._over, pool, errand))

    def _over(self, pool: HttpxPool, errand: HttpxErrand, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        errand.placed()
        pool.errands -= 1
        call = errand.call
        error = None if task.cancelled() else task.exception()
        if isinstance(error, DialError | BadAnswer):
            call.failed(error.kind, error.detail)
        elif error is not None or task.cancelled():
            call.failed(FailureKind.CLOSED, "interrupted")
            if error is not None:
                raise error  # a fault of ours or of the receiver, which the loop reports
        elif errand.answer is not None:
            call.answered(*errand.answer)
        else:
            call.ended()

    def freed(self, pool: Pool[Pipe], *, closed: bool) -> None:
        if closed:
            self._connections -= 1

    async def open(self, pool: HttpxPool, errand: HttpxErrand) -> Pipe:
        """A new connection for this call. Raises DialError."""
        errand.placed()
        call = errand.call
        if call.is_done or not self._make_room():
            raise DialError(FailureKind.OVERLOADED, "too many connections at once")
        pool.open += 1
        self._connections += 1
        dialing = asyncio.create_task(self._dialer.dial(pool.origin, call.limits))
        call.begun_by(dialing)
        await asyncio.wait((dialing,))
        call.begun_by(None)
        error = None if dialing.cancelled() else dialing.exception()
        if error is not None or dialing.cancelled():
            pool.place_freed()
            raise error or DialError(FailureKind.CONNECT, "interrupted")
        pipe, timings = dialing.result()
        call.timings = replace(timings, pool_wait=call.timings.pool_wait)
        if not pipe.join(pool):
            pool.place_freed()
            raise DialError(FailureKind.CLOSED, "the upstream hung up before the request was sent")
        return pipe
