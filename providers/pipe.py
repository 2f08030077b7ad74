"""One open connection to an upstream as httpcore drives it: written and read on demand, by at most one call at a time.

Every byte of an answer passes our own reader (`http1.AnswerReader`) before httpcore sees it, so what is no answer that we
accept, too large, or cut off is so by one set of rules whichever transport is chosen; and no more is read from the socket
than `_BUFFERED` until somebody asks for it.
"""

import asyncio
import select
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from time import monotonic
from typing import Any, Final, Protocol, cast

import httpcore

from providers.connection import Home
from providers.dialing import DialError
from providers.http1 import AnswerReader, BadAnswer, disagreement, hang_up

_PIECE: Final = 256 * 1024
"""Of a large body: so much at most waits in our memory in encrypted form."""
_BUFFERED: Final = 64 * 1024
_NOTHING: Final = memoryview(b"")


class Errand(Protocol):
    """The call that a pipe works for."""

    heard: bool
    taken: int

    def on(self, pipe: "Pipe") -> None:
        """The first byte is about to be written on this pipe."""

    def sent(self) -> None:
        """The whole request was handed over."""


current: Final[ContextVar[Errand]] = ContextVar("errand")
"""Whose request httpcore is working on: it does so in that call's own task."""


class StaleLine(Exception):
    """A kept connection had ended before a byte was written on it: another may be tried."""


class Pipe(asyncio.Protocol, httpcore.AsyncNetworkStream):
    """A protocol towards the event loop, a stream towards httpcore. TLS, if any, was made before the first write."""

    _transport: asyncio.Transport

    def __init__(self, sock: socket.socket, is_tls: bool) -> None:
        self._sock = sock
        self._is_tls = is_tls
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._home: Home[Pipe] | None = None
        self._errand: Errand | None = None
        self.reader: AnswerReader | None = None
        """Reads the answer to the present request."""
        self.fault: BadAnswer | None = None
        """What our reader found behind what was good."""
        self._used = False
        self._handed = self._sent = False
        self._pending = _NOTHING
        self._blocked = False
        self._buffer = bytearray()
        self._body = bytearray()
        self._paused = False
        self._ended = self._reset = self._closed = False
        self._woken: asyncio.Future[None] | None = None
        self.opened_at = monotonic()
        self.expires_at = float("inf")

    # ---- for the pool and the call

    def join(self, home: "Home[Pipe]") -> bool:
        """Belong to a pool from now on, which is told of the end. False: it has ended already."""
        self._home = home
        return not self._ended

    def is_stale(self) -> bool:
        """Asks the kernel too, because the loop may not have had its turn yet to tell us."""
        return self._ended or bool(self._buffer) or bool(self._poll.poll(0))

    def unsent(self) -> int:
        """Bytes of the request that still wait in our memory."""
        return len(self._pending) + self._transport.get_write_buffer_size()

    def answer_over(self) -> None:
        """httpcore says that the answer is whole: keep the connection if our reader says so too. Raises BadAnswer."""
        reader = self.reader
        if reader is None or self.fault or not (reader.complete or reader.ends_at_close):
            self.discard()
            raise self.fault or disagreement()
        keep = reader.keep_alive_seconds
        is_clean = self._sent and reader.reusable and not self._buffer and not self._ended
        self._let_go()
        if is_clean and self._home is not None:
            self._home.take_back(self, keep)
        else:
            self.discard()

    def discard(self) -> None:
        """Close at once, without a word to the call on it. Does nothing the second time."""
        if self._closed:
            return
        self._closed = self._ended = True
        self._let_go()
        self._pending = _NOTHING
        self._buffer.clear()
        self._transport.abort()
        self._wake()
        if self._home is not None:
            self._home.lost(self)

    def _let_go(self) -> None:
        self._errand = None
        if self.reader is not None:
            self.reader.close()
            self.reader = None

    # ---- for httpcore

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Hand the bytes over. If the upstream answers before it took them all, the rest waits in the loop's memory."""
        errand = current.get()
        if self._errand is not errand:
            self._begin(errand)
        errand.taken = 1
        self._pending = memoryview(buffer)
        while self._pending:
            if self._ended:
                raise httpcore.WriteError("The upstream hung up.")
            if self._blocked and not self._buffer:
                await self._wait()
                continue
            size = len(self._pending) if self._buffer else _PIECE
            piece, self._pending = self._pending[:size], self._pending[size:]
            self._transport.write(piece)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """Some of the answer, empty at its end. Raises BadAnswer for what must not be relayed."""
        self._handed = not self._pending
        self._tell_sent()
        if self.fault is not None:
            raise self.fault
        while not self._buffer and not self._ended:
            await self._wait()
        reader = self.reader
        if reader is None:
            raise httpcore.ReadError("The connection was closed.")
        if not self._buffer:
            return self._at_end(reader)
        data = bytes(self._buffer[:max_bytes])
        del self._buffer[:max_bytes]
        self._read_on()
        current.get().heard = True
        self._body += reader.feed(data)
        self.fault = reader.fault
        if self.fault is not None and not reader.status:
            raise self.fault  # else after what was good
        return data

    def take_body(self) -> bytes:
        """Body bytes, without their framing, that were read since the last call."""
        body = bytes(self._body)
        self._body.clear()
        return body

    async def aclose(self) -> None:
        self.discard()

    async def start_tls(
        self,
        ssl_context: object,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> "Pipe":
        """The dialer speaks TLS from the start where the origin's scheme says so."""
        if not self._is_tls:
            raise httpcore.ConnectError("This connection was made without TLS.")
        return self

    def get_extra_info(self, info: str) -> Any:
        """`is_readable` decides whether httpcore takes a kept connection for dead."""
        if info == "is_readable":
            return self.is_stale() or self.expires_at <= monotonic()
        if info == "ssl_object":
            return self._transport.get_extra_info("ssl_object")
        return None

    def _begin(self, errand: Errand) -> None:
        if self._ended or (self._used and self.is_stale()):
            was_used = self._used
            self.discard()
            fault = hang_up(was_sent=False, has_answered=False)
            raise StaleLine if was_used else DialError(fault.kind, fault.detail)
        self._used = True
        self._handed = self._sent = False
        self.reader, self.fault = AnswerReader(), None
        self._body.clear()
        self._errand = errand
        errand.on(self)

    def _at_end(self, reader: AnswerReader) -> bytes:
        if reader.ends_at_close and not self._reset:
            return b""
        raise hang_up(was_sent=self._sent, has_answered=bool(reader.status))

    async def _wait(self) -> None:
        self._woken = asyncio.get_running_loop().create_future()
        try:
            await self._woken
        finally:
            self._woken = None

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def _tell_sent(self) -> None:
        if self._handed and not self._sent and not self._blocked and self._errand is not None:
            self._sent = True
            self._errand.sent()

    def _read_on(self) -> None:
        if self._paused and len(self._buffer) <= _BUFFERED // 2 and not self._ended:
            self._paused = False
            self._transport.resume_reading()

    # ---- for the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # By its methods, not its class: uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        # So that `resume_writing` means: all is out. The TLS layer says stop at its limit, a socket above it.
        self._transport.set_write_buffer_limits(high=1 if self._is_tls else 0, low=0)

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self._tell_sent()
        self._wake()

    def data_received(self, data: bytes) -> None:
        if self._errand is None:
            self.discard()  # nobody asked
            return
        self._errand.heard = True
        self._buffer += data
        if len(self._buffer) > _BUFFERED and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._hung_up(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._hung_up(exc)

    def _hung_up(self, exc: Exception | None) -> None:
        if not self._ended:
            self._ended, self._reset = True, exc is not None
        if self._errand is None:
            self.discard()
        self._wake()


class PipeBackend(httpcore.AsyncNetworkBackend):
    """Where httpcore gets its connections from: whoever opens them knows the addresses, httpcore resolves nothing.

    `open_for` gives a new connection for that call. Raises DialError.
    """

    def __init__(self, open_for: Callable[[Any], Awaitable[Pipe]]) -> None:
        self._open_for = open_for

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  (httpcore's signature)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return await self._open_for(current.get())
