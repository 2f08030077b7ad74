"""One connection: whole calls in, bytes out, and the moment when the other side leaves."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, Self

from tests.support.oracle.calls import Call

MAX_HEAD = 256 * 1024
MAX_BODY = 64 * 1024 * 1024


class CallerLeft(Exception):
    """The other side closed before the answer was complete."""


class Connection(asyncio.StreamReaderProtocol):
    """A stream that knows at once, and for good, when the other side has closed."""

    def __init__(self, serve: Callable[["Connection"], Any]) -> None:
        self.reader = asyncio.StreamReader(limit=MAX_HEAD)
        self.gone = asyncio.Event()
        self.gone_at = 0.0
        super().__init__(self.reader, lambda reader, writer: serve(self._with(writer)))

    def _with(self, writer: asyncio.StreamWriter) -> Self:
        self.writer = writer
        return self

    def eof_received(self) -> bool | None:
        self._note_gone()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._note_gone()
        super().connection_lost(exc)

    def _note_gone(self) -> None:
        if not self.gone.is_set():
            self.gone_at = time.time()
            self.gone.set()

    async def pause(self, seconds: float) -> None:
        """Sleep. Raises CallerLeft as soon as the other side closes."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.gone.wait(), seconds)
        if self.gone.is_set():
            raise CallerLeft

    async def write(self, data: bytes) -> None:
        """Send. Raises CallerLeft."""
        if self.gone.is_set():
            raise CallerLeft
        self.writer.write(data)
        try:
            await self.writer.drain()
        except ConnectionError as error:
            raise CallerLeft from error


async def read_call(connection: Connection) -> Call | None:
    """The next whole call, not yet numbered, or None when the connection ends or makes no sense before it is whole."""
    reader = connection.reader
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head[:-4].split("\r\n")
        method, path, _ = first.split(" ")
        headers = [
            (name, value.strip()) for name, _, value in (line.partition(":") for line in lines)
        ]
        named = {name.lower(): value for name, value in headers}
        if named.get("transfer-encoding", "").lower() == "chunked":
            body = await _read_chunked(reader)
        else:
            length = int(named.get("content-length", "0"))
            body = await reader.readexactly(length) if length <= MAX_BODY else None
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
        return None
    return None if body is None else Call(0, method, path, headers, body)


async def _read_chunked(reader: asyncio.StreamReader) -> bytes | None:
    body = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
        if len(body) > MAX_BODY:
            return None
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return bytes(body)
