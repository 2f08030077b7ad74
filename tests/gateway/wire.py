"""Bytes as they go over the wire, to the gateway and from an upstream; and the two ways to leave a connection."""

import json
import socket
import time

import msgspec

from tests.gateway.door import PROMPT

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
MIB = 1024 * 1024


def members(body: bytes) -> dict[str, bytes]:
    """The top level of an object: names to the very bytes of their values, in order."""
    return {name: bytes(value) for name, value in _MEMBERS.decode(body).items()}


def is_cut_off_cleanly(stream: bytes) -> bool:
    """Exactly one error event, at the very end, and no `[DONE]`."""
    *_, last, rest = stream.split(b"\n\n")
    error = json.loads(last.removeprefix(b"data: "))["error"]
    return (
        rest == b""
        and error["code"] in {"upstream_error", "upstream_timeout", "scripted"}
        and stream.count(b'"error"') == 1
        and b"[DONE]" not in stream
    )


def request_bytes(
    key: str, model: str, correlation_id: str, *, stream: bool, more: str = ""
) -> bytes:
    """A whole request for a chat completion of `PROMPT`, and of this besides."""
    messages = [*PROMPT, {"role": "user", "content": more}] if more else PROMPT
    body = json.dumps({"model": model, "messages": messages, "stream": stream}).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: gatehouse\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer %s\r\nx-request-id: %s\r\ncontent-length: %d\r\n\r\n%s"
        % (key.encode(), correlation_id.encode(), len(body), body)
    )


def leave(caller: socket.socket, *, rudely: bool) -> float:
    """Close, politely or with a reset; the moment of it in seconds since 1970."""
    if rudely:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    left_at = time.time()
    caller.close()
    return left_at


def stream_head() -> bytes:
    """How an upstream's stream begins."""
    return b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunked(data: bytes) -> bytes:
    """One piece of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"' + b"word " * 40 + b'"}}]}\n\n'
