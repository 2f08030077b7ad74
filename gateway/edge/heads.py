"""The heads of answers as they go over the wire, and whole answers to what is no request."""

import time
from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import ClassVar, Final
from uuid import uuid4

from providers.dialects import openai
from providers.types import Headers

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"

#: What is said to something that cannot be read as one request, or when something of ours broke. In our words: those of a
#: parser may quote what was sent.
_OWN_SENTENCES: Final = {
    400: "The request is not well-formed HTTP.",
    408: "The request's head did not come in time.",
    414: "The request's address is too long.",
    431: "The request has too many or too long headers.",
    500: "Something went wrong on our side.",
    501: "The request's transfer coding is not understood.",
}
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}
_STATUS_LINES: Final[dict[int, bytes]] = {}
#: How the lines of the few headers that answers have begin.
_BEGINNINGS: Final[dict[bytes, bytes]] = {}
_MOST_BEGINNINGS: Final = 256


_LENGTH: Final = b"\r\ncontent-length: "
_CHUNKED: Final = b"\r\ntransfer-encoding: chunked"
_CLOSES: Final = b"\r\nconnection: close"
#: How a head ends, by whether the body goes in chunks and the connection ends.
_FRAMING: Final = {
    (False, False): b"\r\n\r\n",
    (True, False): _CHUNKED + b"\r\n\r\n",
    (False, True): _CLOSES + b"\r\n\r\n",
    (True, True): _CHUNKED + _CLOSES + b"\r\n\r\n",
}


class _Date:
    """What every answer within one second says of its server."""

    second: ClassVar[int] = 0
    line: ClassVar[bytes] = b""


def _server_lines() -> bytes:
    second = int(time.time())
    if second != _Date.second:
        _Date.second = second
        _Date.line = b"\r\nserver: gatehouse\r\ndate: " + formatdate(second, usegmt=True).encode()
    return _Date.line


def status_line(status: int) -> bytes:
    """Without its end. Providers answer with statuses that have no name."""
    line = _STATUS_LINES.get(status)
    if line is None:
        line = f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}".encode()
        if 100 <= status <= 599:
            _STATUS_LINES[status] = line
    return line


def head(status: int, headers: Headers, *, closes: bool) -> tuple[bytes, bool]:
    """The whole head, empty line included, and whether the body goes in chunks: where the headers give no length. Raises
    ValueError if a header could be read as more than one.
    """
    begins = _BEGINNINGS
    lines = b"".join([(begins.get(name) or _beginning(name)) + value for name, value in headers])
    count = len(headers)
    if lines.count(b"\n") != count or lines.count(b"\r") != count or b"\0" in lines:
        raise ValueError("a header of an answer holds the end of a line")
    is_chunked = _LENGTH not in lines
    framing = _FRAMING[is_chunked, closes]
    return b"%b%b%b%b" % (status_line(status), _server_lines(), lines, framing), is_chunked


def _beginning(name: bytes) -> bytes:
    begin = b"\r\n%b: " % name
    if len(_BEGINNINGS) < _MOST_BEGINNINGS:
        _BEGINNINGS[name] = begin
    return begin


def refusal(status: int, extra: Sequence[tuple[str, str]] = ()) -> bytes:
    """A whole answer, after which the connection ends."""
    sentence = _OWN_SENTENCES.get(status, "The request cannot be served.")
    kind, code = (
        ("api_error", "internal_error")
        if status == HTTPStatus.INTERNAL_SERVER_ERROR
        else ("invalid_request_error", "invalid_request")
    )
    body = openai.error_body(sentence, kind, None, code)
    own = uuid4().hex.encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", own),
        (b"request-id", own),
        *((name.encode("latin-1"), value.encode("latin-1")) for name, value in extra),
    ]
    return head(status, headers, closes=True)[0] + body
