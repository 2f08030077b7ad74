"""One request as a caller sends it: its head, and a chunked body. Pure: no socket, no clock.

Parsing is llhttp's (by httptools) in its strict mode. This module adds what it leaves open and what could be read in two ways:
how many headers and how long, exactly one host, no transfer coding but `chunked`, no framing in a trailer. A body with a length
is not parsed at all: it is the next so many bytes.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

import httptools

from providers.types import Headers

#: Bytes of a request line and its headers, and what gunicorn allows behind us: of one header, and how many.
HEAD_CAP: Final = 64 * 1024
LINE_CAP: Final = 4094
_HEADER_CAP: Final = 16_384
_MOST_HEADERS: Final = 100

_HOST: Final = re.compile(rb"[A-Za-z0-9._~%-]*(:[0-9]*)?|\[[0-9A-Fa-f:.]+\](:[0-9]*)?")
_WATCHED: Final = frozenset(
    b"connection content-length content-type expect host transfer-encoding upgrade".split()
)
#: In a trailer these would speak of something that was decided at the head (RFC 9110 section 6.5.1).
_NOT_IN_TRAILERS: Final = frozenset(
    b"authorization content-length host te trailer transfer-encoding".split()
)


def is_good_host(headers: Iterable[tuple[bytes, bytes]], *, is_needed: bool) -> bool:
    """Whether at most one host is named, and it is a name or an address, with a port or without."""
    hosts = [value for name, value in headers if name == b"host"]
    if not hosts:
        return not is_needed
    return len(hosts) == 1 and _HOST.fullmatch(hosts[0]) is not None


class BadRequest(Exception):
    """What came is no request that we read. `status` is the answer's."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class RequestReader:
    """Reads exactly one request. A new one for each, so that nothing of one can reach the next.

    After `feed_head`, which takes it whole, its empty line included, stand: `headers` (names in lower case), `length` of a body
    that is not chunked, and what the head says about the connection.
    """

    __slots__ = (
        "_framing_left",
        "_has_host",
        "_has_type",
        "_in_trailer",
        "_parser",
        "_pieces",
        "_status",
        "closes",
        "expects_continue",
        "has_more",
        "headers",
        "is_chunked",
        "is_whole",
        "length",
        "on_body",
        "wants_upgrade",
    )

    def __init__(self) -> None:
        self.headers: Headers = []
        self.length = 0
        self.is_chunked = False
        self.is_whole = False
        """Of a chunked request: its last chunk and trailer are here."""
        self.has_more = False
        """Something came in one read with the end of a chunked request. Where it begins is not known."""
        self.closes = False
        self.expects_continue = False
        self.wants_upgrade = False
        self._has_host = False
        self._has_type = False
        self._in_trailer = False
        self._framing_left = HEAD_CAP
        self._status = 400
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append  # called by the parser without a Python frame of ours
        self._parser: Any = httptools.HttpRequestParser(self)

    def feed_head(self, data: bytes) -> None:
        """Raises BadRequest."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.wants_upgrade = True
        except httptools.HttpParserError:
            raise BadRequest(self._status) from None
        if len(data) > _HEADER_CAP and any(
            len(name) + len(value) + 4 > _HEADER_CAP for name, value in self.headers
        ):
            raise BadRequest(431)

    def feed_chunks(self, data: bytes) -> bytes:
        """What it brought of the body. Raises BadRequest."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if not self.is_whole:
                raise BadRequest(self._status) from None
            self.has_more = True
        pieces = self._pieces
        if not pieces:
            # Trailers and chunk extensions without an end would else be read for ever.
            self._framing_left -= len(data)
            if self._framing_left < 0:
                raise BadRequest(431)
            return b""
        self._framing_left = HEAD_CAP
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        return body

    def close(self) -> None:
        """Let go of the parser, which would else hold this object in a cycle."""
        self._parser = None

    # What the parser calls. An exception raised here stops it.

    def on_message_begin(self) -> None:
        if self.is_whole:
            raise _Stop

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if self._in_trailer:
            if name in _NOT_IN_TRAILERS:
                self._refuse(400)
            return
        value = value.strip(b" \t")
        if name in _WATCHED:
            self._watch(name, value)
        elif b"_" in name:
            return  # some proxy may have taken it for the name with a hyphen
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._in_trailer = True
        if not self._has_host:
            self._refuse(400)
        if len(self.headers) > _MOST_HEADERS:
            self._refuse(431)

    def on_message_complete(self) -> None:
        self.is_whole = True

    def _watch(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            if self._has_host or _HOST.fullmatch(value) is None:
                self._refuse(400)
            self._has_host = True
        elif name == b"content-type":
            if self._has_type:
                self._refuse(400)
            self._has_type = True
        elif name == b"content-length":
            # The parser is about to judge it: digits, and only once.
            self.length = int(value) if value.isdigit() else 0
        else:
            self._watch_connection(name, value.lower())

    def _watch_connection(self, name: bytes, value: bytes) -> None:
        if name == b"connection":
            self.closes |= b"close" in value
        elif name == b"transfer-encoding":
            if value != b"chunked" or self.is_chunked:
                self._refuse(501)
            self.is_chunked = True
        elif name == b"expect":
            self.expects_continue = value == b"100-continue"

    def _refuse(self, status: int) -> None:
        self._status = status
        raise _Stop


class _Stop(Exception):
    """Ends parsing from inside one of the parser's callbacks."""
