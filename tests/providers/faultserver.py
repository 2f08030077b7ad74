"""An upstream that misbehaves as told, on a real socket of the loopback."""

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from providers.types import Headers, UpstreamFailure

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Peer:
    """The server's end of one connection. `number` counts the server's connections from 1."""

    def __init__(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        self._reader = reader
        self._writer = writer

    async def request(self) -> tuple[bytes, bytes] | None:
        """Head and body of the next request; None when the client has closed."""
        try:
            head = await self.request_head()
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        return head, await self._reader.readexactly(length)

    async def request_head(self) -> bytes:
        return await self._reader.readuntil(b"\r\n\r\n")

    async def request_slowly(self, *, bytes_a_time: int, every: float) -> None:
        """Take a request with a large body in slow sips."""
        head = await self.request_head()
        left = int(head.lower().partition(b"content-length:")[2].split()[0])
        while left:
            left -= len(await self._reader.read(min(left, bytes_a_time)))
            await asyncio.sleep(every)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def write_without_waiting(self, data: bytes) -> None:
        self._writer.write(data)

    async def until_closed(self) -> None:
        """Returns when the client has closed its end."""
        with suppress(ConnectionError):
            while await self._reader.read(65536):
                pass

    async def close(self) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    def half_close(self) -> None:
        """Send FIN at once, without the loop's help."""
        with socket.socket(fileno=os.dup(self._writer.get_extra_info("socket").fileno())) as same:
            same.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    @property
    def session_reused(self) -> bool:
        return bool(self._writer.get_extra_info("ssl_object").session_reused)


Script = Callable[[Peer], Awaitable[None]]


class FaultServer:
    """Plays `script` on every connection. `connections` counts those it has accepted."""

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.connections = 0
        self.port = port
        self._script = script
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, ssl=self._tls, limit=1 << 20
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            peer = Peer(self.connections, reader, writer)
            await self._script(peer)
            await peer.close()
        except ConnectionError:
            pass  # the client went first, which some scripts are about
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            self._tasks.discard(task)
            writer.transport.abort()


def answering(*answers: bytes) -> Script:
    """A server that gives these answers to the requests of one connection, the last one for ever, and keeps it open."""

    async def script(peer: Peer) -> None:
        count = 0
        while await peer.request() is not None:
            await peer.write(answers[min(count, len(answers) - 1)])
            count += 1

    return script


class Recorder:
    """A receiver that writes everything down."""

    def __init__(self) -> None:
        self.sent = 0
        """How often `upstream_sent` came, and 1 for a `Call.is_sent` (tests/providers/upstreams.py)."""
        self.is_whole = False
        """The answer came in one event. The others are written down as if they had come."""
        self.status = 0
        self.headers: Headers = []
        self._body = bytearray()
        self.pieces = 0
        self.calls: list[str] = []
        self.failure: UpstreamFailure | None = None
        self.answered = asyncio.Event()
        self._over = asyncio.Event()

    def upstream_sent(self) -> None:
        self.sent += 1

    def upstream_answer(self, status: int, headers: Headers, body: bytes) -> None:
        assert not self.calls
        self.is_whole = True
        Recorder.upstream_head(self, status, headers)
        if body:
            Recorder.upstream_bytes(self, body)
        Recorder.upstream_end(self)

    def upstream_head(self, status: int, headers: Headers) -> None:
        self.calls.append("head")
        self.status, self.headers = status, headers
        self.answered.set()

    def upstream_bytes(self, data: bytes) -> None:
        assert data
        self._body += data
        self.pieces += 1

    def upstream_end(self) -> None:
        self.calls.append("end")
        self._over.set()

    def upstream_failed(self, failure: UpstreamFailure) -> None:
        self.calls.append("failed")
        self.failure = failure
        self._over.set()

    @property
    def body(self) -> bytes:
        return bytes(self._body)

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    async def over(self, limit: float = 5.0) -> Self:
        async with asyncio.timeout(limit):
            await self._over.wait()
        return self

    async def head(self, limit: float = 5.0) -> Self:
        async with asyncio.timeout(limit):
            await self.answered.wait()
        return self
