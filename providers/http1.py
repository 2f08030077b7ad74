"""One answer in HTTP/1.1, read. Pure: no socket, no clock.

Parsing is llhttp's (by httptools) in its strict mode; this module adds what a gateway must not let through: a body in
an encoding that could grow on unpacking, a switch of protocols, an endless head, anything behind the answer's end.
"""

import re
from typing import Final, NoReturn

import httptools

from providers.types import FailureKind, Headers

HEAD_CAP: Final = 64 * 1024
"""Bytes of status line and headers, those of interim (1xx) answers included, and of framing between two body bytes."""

_TELLING: Final = frozenset(
    b"content-encoding content-length content-type keep-alive retry-after transfer-encoding x-request-id".split()
)
"""What anybody asks an answer for."""
_DULL_NAMES: Final = 1024
_DULL_LENGTH: Final = 64
_dull: Final[set[bytes]] = set()
"""Other names of headers, as upstreams spell them: they send two dozen, and each is judged once."""
_STOPS: Final = (httptools.HttpParserError, httptools.HttpParserUpgrade)
_KEEP_ALIVE_TIMEOUT: Final = re.compile(rb"timeout\s*=\s*(\d{1,9})")


class BadAnswer(Exception):
    """The upstream's bytes are no answer that we accept."""

    def __init__(self, kind: FailureKind, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


def disagreement() -> BadAnswer:
    """Another parser reads the answer otherwise than we do: then nobody can say where it ends."""
    return BadAnswer(FailureKind.PROTOCOL, "two parsers read the answer differently")


def hang_up(*, was_sent: bool, has_answered: bool) -> BadAnswer:
    """What it comes to that the upstream closed before its answer was whole."""
    if not (was_sent or has_answered):
        return BadAnswer(FailureKind.WRITE, "the upstream hung up before the request was sent")
    where = "in the middle of its answer" if has_answered else "without an answer"
    return BadAnswer(FailureKind.CLOSED, f"the upstream hung up {where}")


class AnswerReader:
    """Reads exactly one answer. A new one for each request, so that nothing of one answer can reach the next.

    After each `feed`: `status` is 0 until the whole head was accepted, and `complete` says that the answer has ended; `fault`
    says what was wrong behind the bytes that were good. Nothing is to be fed after a fault.
    """

    __slots__ = (
        "_chunked",
        "_interim",
        "_length_given",
        "_overhead_left",
        "_parser",
        "_pieces",
        "complete",
        "fault",
        "headers",
        "keep_alive_seconds",
        "on_body",
        "reusable",
        "status",
    )
    #: For compiled code, where an attribute cannot be deleted unless it is named here.
    __deletable__ = ("_parser",)

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = []
        """With `status`: those that anybody asks for, names in lower case, in the upstream's order, repeated ones repeated."""
        self.complete = False
        self.fault: BadAnswer | None = None
        self.reusable = False
        """After `complete`: the connection may carry another request, and not a byte came behind the answer."""
        self.keep_alive_seconds: int | None = None
        """How long the upstream says that it keeps an idle connection (`keep-alive: timeout=…`)."""
        self._chunked = False
        self._length_given = False
        self._interim = False
        self._overhead_left = HEAD_CAP
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append  # called by the parser without a Python frame of ours
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> bytes:
        """Take what was read; gives the body bytes in it, without their framing."""
        pieces = self._pieces
        if not self.status:
            self._feed_head(data)
        elif self.complete:
            self.reusable = self.reusable and not data
        else:
            try:
                self._parser.feed_data(data)
            except _STOPS as error:
                self._stopped(error)
            if pieces:
                self._overhead_left = HEAD_CAP
            else:
                self._limit_framing(len(data))
        if not pieces:
            return b""
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        return body

    @property
    def ends_at_close(self) -> bool:
        """Neither length nor chunks were announced: the connection's end is the body's end (RFC 9112 §6.3)."""
        return bool(self.status) and not (self.complete or self._chunked or self._length_given)

    def close(self) -> None:
        """Let go of the parser, which would else hold this object in a cycle."""
        del self._parser

    def _feed_head(self, data: bytes) -> None:
        """A head that needs more than the cap is cut off at the cap, whatever the size of one read."""
        left = self._overhead_left
        try:
            self._parser.feed_data(data[:left])
            if self.status and len(data) > left:
                self._parser.feed_data(data[left:])
        except _STOPS as error:
            self._stopped(error)
        self._overhead_left = HEAD_CAP if self.status else left - len(data)
        if self._overhead_left < 0 and self.fault is None:
            self.fault = BadAnswer(FailureKind.TOO_LARGE, "head over 64 KiB")

    def _stopped(self, error: Exception) -> None:
        if self.complete:
            self.reusable = False  # whatever came behind the end belongs to nobody
        elif self.fault is None:
            self.fault = BadAnswer(FailureKind.PROTOCOL, str(error)[:100])

    def _limit_framing(self, size: int) -> None:
        """Trailers and chunk extensions without an end would else pass as life for ever."""
        self._overhead_left -= size
        if self._overhead_left < 0 and not self.complete and self.fault is None:
            detail = "over 64 KiB of framing without a body byte"
            self.fault = BadAnswer(FailureKind.TOO_LARGE, detail)

    # What the parser calls. An exception raised here stops it.

    def on_message_begin(self) -> None:
        if self.complete:
            raise _Stop

    def on_header(self, name: bytes, value: bytes) -> None:
        if name not in _dull and not self.status:  # else it is a trailer
            self._note(name, value)

    def _note(self, name: bytes, value: bytes) -> None:
        lowered = name.lower()
        if lowered in _TELLING:
            self.headers.append((lowered, value))
            self._obey(lowered, value)
        elif len(_dull) < _DULL_NAMES and len(name) <= _DULL_LENGTH:
            _dull.add(name)

    def _obey(self, name: bytes, value: bytes) -> None:
        if name == b"content-length":
            self._length_given = True
        elif name == b"transfer-encoding":
            if value.strip().lower() != b"chunked" or self._chunked:
                self._refuse("transfer-encoding other than chunked")
            self._chunked = True
        elif name == b"content-encoding":
            if value.strip().lower() not in (b"", b"identity"):
                self._refuse("content-encoding other than identity")
        elif name == b"keep-alive" and (found := _KEEP_ALIVE_TIMEOUT.search(value.lower())):
            self.keep_alive_seconds = int(found[1])

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status == 101:
            self._refuse("switch of protocols")
        if not 100 <= status <= 599:
            self._refuse("status out of range")
        if self._parser.get_http_version() not in ("1.1", "1.0"):
            self._refuse("not HTTP/1.1")
        if status < 200:
            self._interim = True
            self.headers.clear()
            self._chunked = self._length_given = False
        else:
            self.status = status

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
            return
        self.complete = True
        self.reusable = self._parser.should_keep_alive()

    def _refuse(self, detail: str) -> NoReturn:
        self.fault = BadAnswer(FailureKind.PROTOCOL, detail)
        raise _Stop


class _Stop(Exception):
    """Ends parsing from inside one of the parser's callbacks."""
