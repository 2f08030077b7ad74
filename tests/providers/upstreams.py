"""What the transport's tests share: a transport that finds everything on the loopback, and requests to it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import uvloop

from providers.transport import Call, PoolLimits, Resolve, UpstreamTls
from providers.transport_common import PooledTransport
from providers.types import Letterhead, Origin, Timeouts, UpstreamRequest
from providers.upstreams import TRANSPORTS
from tenants.outbound import Address
from tests.providers.faultserver import FaultServer, Recorder

AnyTransport = PooledTransport[Any]


class HttpxLoop(uvloop.Loop):
    """uvloop by another name: a test that runs on it uses the httpx transport."""


LOOPBACK = Address(socket.AF_INET, "127.0.0.1")


async def find_loopback(host: str, port: int) -> list[Address]:
    return [LOOPBACK]


def request_to(
    server: FaultServer, *, scheme: str = "http", timeouts: Timeouts | None = None
) -> UpstreamRequest:
    letterhead = Letterhead(
        origin=Origin(scheme, "upstream.test", server.port),
        method=b"POST",
        path=b"/v1/chat/completions",
        headers=[(b"content-type", b"application/json"), (b"authorization", b"Bearer sk-x")],
        timeouts=timeouts or Timeouts(),
    )
    return UpstreamRequest(letterhead, "0af3-1", b'{"model":"m"}')


@asynccontextmanager
async def opened(
    *,
    resolve: Resolve = find_loopback,
    limits: PoolLimits | None = None,
    tls: UpstreamTls | None = None,
) -> AsyncIterator[AnyTransport]:
    """A transport, of the kind that this run of the test is about, that holds nothing any more when it is left."""
    is_httpx = isinstance(asyncio.get_running_loop(), HttpxLoop)
    kind = TRANSPORTS["httpx" if is_httpx else "native"]
    transport = kind(resolve=resolve, limits=limits, tls=tls)
    try:
        yield transport
    finally:
        await transport.close()
    counts = transport.counts()
    assert (counts.connections, counts.calls) == (0, 0)


def start(transport: AnyTransport, request: UpstreamRequest) -> tuple[Call, Recorder]:
    recorder = Recorder()
    return sent_to(recorder, transport, request), recorder


def sent_to(recorder: Recorder, transport: AnyTransport, request: UpstreamRequest) -> Call:
    call = transport.send(request, recorder)
    assert recorder.sent == 0, "nothing is told from inside `send`"
    recorder.sent += call.is_sent
    return call


async def answer_to(transport: AnyTransport, request: UpstreamRequest) -> Recorder:
    """The recorder of a call that is over."""
    _, recorder = start(transport, request)
    return await recorder.over()


async def answer_from(server: FaultServer, *, timeouts: Timeouts | None = None) -> Recorder:
    """One call with a transport of its own."""
    async with opened() as transport:
        return await answer_to(transport, request_to(server, timeouts=timeouts))


async def until(holds: Callable[[], bool], limit: float = 5.0) -> None:
    """Look again and again until it holds. Raises TimeoutError."""
    async with asyncio.timeout(limit):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


def with_body(request: UpstreamRequest, body: bytes) -> UpstreamRequest:
    return replace(request, body=body)


def with_letterhead(request: UpstreamRequest, **changes: Any) -> UpstreamRequest:
    return replace(request, letterhead=replace(request.letterhead, **changes))
