"""A provider that costs next to nothing: `python -m gateway.proofs.upstream PORT CHUNKS INTERVAL_MS [DELAY_MS [TLS PEM KEY]]`.

Each POST is answered with one chat completion (after DELAY_MS), or, if its body asks for a stream, with that many chunks at that
interval, then the usage and `[DONE]`. Each chunk says when it was sent (`"@<nanoseconds of the monotonic clock>@"`). The usage
is always the same. A GET is answered with the number of POSTs so far. It understands just what a proxy sends: bodies with a
Content-Length, one request at a time on a connection. On the port TLS it is the same by TLS, as PEM with KEY.
"""

import asyncio
import json
import resource
import ssl
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

import uvloop

PROMPT_TOKENS: Final = 57
COMPLETION_TOKENS: Final = 42
_LENGTH: Final = b"\r\ncontent-length:"
_STREAM: Final = (b'"stream":true', b'"stream": true')
_USAGE: Final = {
    "prompt_tokens": PROMPT_TOKENS,
    "completion_tokens": COMPLETION_TOKENS,
    "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
}
_TEXT: Final = "This is a reply of a plausible length, a few sentences long. It means nothing. " * 3


def _envelope(kind: str, choices: list[dict[str, object]], **more: object) -> str:
    whole = {"id": "chatcmpl-bench", "object": kind, "created": 1_700_000_000, "model": "bench"}
    return json.dumps({**whole, "choices": choices, **more}, separators=(",", ":"))


def _whole_answer() -> bytes:
    message = {"role": "assistant", "content": _TEXT, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return _framed(_envelope("chat.completion", [choice], usage=_USAGE))


def _framed(text: str) -> bytes:
    head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
    return f"{head}{len(text.encode())}\r\n\r\n{text}".encode()


def _event(data: str) -> bytes:
    """One server-sent event as one HTTP chunk."""
    text = f"data: {data}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(text), text)


def _chunk_around_the_time() -> tuple[str, str]:
    """What comes before and after the time in a chunk's JSON."""
    delta = {"content": "@time@ tok"}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    before, _, after = _envelope("chat.completion.chunk", [choice]).partition("time")
    return before, after


ANSWER: Final = _whole_answer()
_BEFORE, _AFTER = _chunk_around_the_time()
_STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_STOP: Final = [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]
_STREAM_END: Final = (
    _event(_envelope("chat.completion.chunk", _STOP))
    + _event(_envelope("chat.completion.chunk", [], usage=_USAGE))
    + _event("[DONE]")
    + b"0\r\n\r\n"
)


@dataclass
class Book:
    """What all connections do alike, in seconds, and how many calls came."""

    chunks: int
    interval: float
    delay: float
    calls: int = 0


class Provider(asyncio.Protocol):
    """One connection."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._buffer = b""
        self._left = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        if self._buffer.startswith(b"GET "):
            self._buffer = self._buffer[head_end + 4 :]
            self._transport.write(_framed(json.dumps({"calls": self._book.calls})))
            return
        head = self._buffer[:head_end].lower()
        at = head.find(_LENGTH)
        if at < 0:
            self._transport.write(b"HTTP/1.1 411 Length Required\r\ncontent-length: 0\r\n\r\n")
            self._transport.close()
            return
        end = head_end + 4 + int(head[at + len(_LENGTH) :].split(b"\r", 1)[0])
        if len(self._buffer) >= end:
            body, self._buffer = self._buffer[head_end:end], self._buffer[end:]
            self._answer(body)

    def _answer(self, body: bytes) -> None:
        self._book.calls += 1
        if any(mark in body for mark in _STREAM):
            self._transport.write(_STREAM_HEAD)
            self._left = self._book.chunks
            self._due = asyncio.get_running_loop().time()
            self._send_chunk()
        elif self._book.delay:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._book.delay, self._transport.write, ANSWER)
        else:
            self._transport.write(ANSWER)

    def _send_chunk(self) -> None:
        if not self._left:
            self._transport.write(_STREAM_END)
            return
        self._transport.write(_event(f"{_BEFORE}{time.monotonic_ns()}{_AFTER}"))
        self._left -= 1
        self._due += self._book.interval
        self._timer = asyncio.get_running_loop().call_at(self._due, self._send_chunk)


async def serve(book: Book, doors: Mapping[int, ssl.SSLContext | None]) -> None:
    """On each of these ports, plain or by TLS, until the process is stopped."""
    loop = asyncio.get_running_loop()
    for port, tls in doors.items():
        await loop.create_server(lambda: Provider(book), "127.0.0.1", port, backlog=4096, ssl=tls)
    await loop.create_future()


def main(port: str, chunks: str, interval_ms: str, delay_ms: str = "0", *secured: str) -> None:
    # Thousands of streams are thousands of sockets.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    book = Book(int(chunks), float(interval_ms) / 1000, float(delay_ms) / 1000)
    doors: dict[int, ssl.SSLContext | None] = {int(port): None}
    if secured:
        tls_port, certificate, key = secured
        doors[int(tls_port)] = context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
    uvloop.run(serve(book, doors))


if __name__ == "__main__":
    main(*sys.argv[1:])
