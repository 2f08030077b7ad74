"""HTTP/1.1 as spoken to upstreams: a request's head out, one answer in. Pure: no socket, no clock.

Parsing is llhttp's (by httptools) in its strict mode; this module adds what a gateway must not let through: a body in
an encoding that could grow on unpacking, a switch of protocols, an endless head, anything behind the answer's end.
"""

import re
from typing import Final

import httptools

from providers.types import FailureKind, Headers, UpstreamRequest

HEAD_CAP: Final = 64 * 1024
"""Bytes of status line and headers, those of interim (1xx) answers included, and of framing between two body bytes."""

_METHODS: Final = {
    method: method + b" " for method in (b"GET", b"POST", b"PUT", b"PATCH", b"DELETE")
}  # as a head begins with them
_BODILESS_METHODS: Final = frozenset((b"GET", b"DELETE"))
_PATH = re.compile(rb"/[\x21-\x7e]*")
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NOT_FOR_CALLERS: Final = frozenset(
    b"connection content-length expect host keep-alive proxy-authorization proxy-connection te trailer "
    b"transfer-encoding upgrade".split()
)
_LINE_BEGINS_CAP: Final = 256
_line_begins: dict[bytes, bytes] = {}
_WATCHED: Final = frozenset(b"content-encoding content-length transfer-encoding keep-alive".split())
_KEEP_ALIVE_TIMEOUT = re.compile(rb"timeout\s*=\s*(\d{1,9})")


def host_header(scheme: str, host: str, port: int) -> bytes:
    """The value of `host`: the port only where it is not the scheme's own, an IPv6 literal in brackets.

    Raises ValueError for what is no lower-case host name or literal address.
    """
    name = f"[{host}]" if ":" in host and not host.startswith("[") else host
    if _HOST.fullmatch(name) is None:
        raise ValueError("not a host name")
    is_default = port == (443 if scheme == "https" else 80)
    return (name if is_default else f"{name}:{port}").encode("ascii")


def encode_head(request: UpstreamRequest, host: bytes) -> bytes:
    """The request's head, empty line included; its body follows as it is. `host` is from `host_header`.

    Raises ValueError if anything in it could be read as more than one request or header (CR, LF, NUL, other controls,
    tabs too, bytes over 126, a name that is no token) or names a header that only the transport may set. The message quotes no
    value.
    """
    method = _METHODS.get(request.method)
    if method is None or _PATH.fullmatch(request.path) is None:
        raise ValueError("not a method and a path")
    headers = request.headers
    values = b"".join([value for _, value in headers])
    if not (values.isascii() and values.decode("ascii").isprintable()):
        raise ValueError("a header's value holds bytes that HTTP does not allow")
    lines = [(_line_begins.get(name) or _line_begin(name)) + value for name, value in headers]
    given = b"".join(lines)
    if b"\r\naccept-encoding: " not in given:
        given += b"\r\naccept-encoding: identity"
    if request.body or request.method not in _BODILESS_METHODS:
        given += b"\r\ncontent-length: %d" % len(request.body)
    return b"%b%b HTTP/1.1\r\nhost: %b%b\r\n\r\n" % (method, request.path, host, given)


def _line_begin(name: bytes) -> bytes:
    """How a header's line begins. The few names that there are get remembered, so that each is judged once."""
    lowered = name.lower()
    if _TOKEN.fullmatch(name) is None or lowered in _NOT_FOR_CALLERS:
        raise ValueError("a header's name is none, or the transport's own")
    begin = b"\r\n%b: " % lowered
    if len(_line_begins) < _LINE_BEGINS_CAP:
        _line_begins[name] = begin
    return begin


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

    After each `feed`: `status` is 0 until the whole head was accepted, then `headers` (names in lower case) stand;
    `take_body` gives the body bytes read since the last time; `complete` says that the answer has ended.
    """

    __slots__ = (
        "_chunked",
        "_interim",
        "_length_given",
        "_overhead_left",
        "_parser",
        "_pieces",
        "_refusal",
        "complete",
        "headers",
        "keep_alive_seconds",
        "on_body",
        "reusable",
        "status",
    )

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self.complete = False
        self.reusable = False
        """After `complete`: the connection may carry another request, and not a byte came behind the answer."""
        self.keep_alive_seconds: int | None = None
        """How long the upstream says that it keeps an idle connection (`keep-alive: timeout=…`)."""
        self._chunked = False
        self._length_given = False
        self._interim = False
        self._refusal: BadAnswer | None = None
        self._overhead_left = HEAD_CAP
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append  # called by the parser without a Python frame of ours
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Take what was read. Raises BadAnswer; body bytes read before the fault can still be taken."""
        if self.status:
            self._parse(data)
            self._limit_framing(len(data))
        else:
            self._feed_head(data)

    def take_body(self) -> bytes:
        """The body bytes read since the last call, without their framing; empty if there are none."""
        pieces = self._pieces
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
        self._parse(data[:left])
        self._overhead_left = left - len(data)
        if self.status:
            self._overhead_left = HEAD_CAP
            if len(data) > left:
                self._parse(data[left:])
        elif len(data) > left:
            raise BadAnswer(FailureKind.TOO_LARGE, "head over 64 KiB")

    def _parse(self, data: bytes) -> None:
        if self.complete:
            self.reusable = self.reusable and not data
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._stopped(error)

    def _stopped(self, error: Exception) -> None:
        if self._refusal is not None:
            raise self._refusal from None
        if not self.complete:
            raise BadAnswer(FailureKind.PROTOCOL, str(error)[:100]) from None
        self.reusable = False  # whatever came behind the end belongs to nobody

    def _limit_framing(self, size: int) -> None:
        """Trailers and chunk extensions without an end would else pass as life for ever."""
        if self._pieces:
            self._overhead_left = HEAD_CAP
            return
        self._overhead_left -= size
        if self._overhead_left < 0 and not self.complete:
            raise BadAnswer(FailureKind.TOO_LARGE, "over 64 KiB of framing without a body byte")

    # What the parser calls. An exception raised here stops it.

    def on_message_begin(self) -> None:
        if self.complete:
            raise _Stop

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.status:
            return  # a trailer
        name = name.lower()
        self.headers.append((name, value))
        if name in _WATCHED:
            self._watch(name, value.strip().lower())

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

    def _watch(self, name: bytes, value: bytes) -> None:
        if name == b"content-length":
            self._length_given = True
        elif name == b"transfer-encoding":
            if value != b"chunked" or self._chunked:
                self._refuse("transfer-encoding other than chunked")
            self._chunked = True
        elif name == b"content-encoding":
            if value not in (b"", b"identity"):
                self._refuse("content-encoding other than identity")
        elif found := _KEEP_ALIVE_TIMEOUT.search(value):
            self.keep_alive_seconds = int(found[1])

    def _refuse(self, detail: str) -> None:
        self._refusal = BadAnswer(FailureKind.PROTOCOL, detail)
        raise _Stop


class _Stop(Exception):
    """Ends parsing from inside one of the parser's callbacks."""
