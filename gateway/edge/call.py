"""One call on a caller's connection: no task, no future. What the exchange says is written where it says it."""

from collections.abc import Callable
from typing import Final, Protocol

from gateway import lifecycle
from gateway.edge import heads
from gateway.edge.familiar import Read
from gateway.edge.reader import RequestReader
from gateway.relay.carrier import Carrier
from gateway.relay.relay import Relay
from providers.types import Headers

#: A body must come at this many bytes a second, once it has had this many seconds.
_BODY_RATE: Final = 1024
_BODY_GRACE: Final = 10.0
#: Up to this size, copying a body behind its head is cheaper than handing over two buffers.
_JOINED_UP_TO: Final = 64 * 1024


class Line(Protocol):
    """The connection of one caller, which carries one call at a time."""

    is_blocked: bool
    """The caller takes less than we have for them."""
    write: Callable[[bytes], None]

    def body_wanted(self) -> None:
        """Give the call its body, from now on as it comes."""

    def answered(self) -> None:
        """The answer is written, and the call has left."""

    def fail(self, status: int) -> None:
        """Say that it cannot go on, and end."""

    def abort(self) -> None: ...

    def is_stuck(self) -> bool:
        """Whether the caller has taken nothing of the answer for too long."""


class WireCall(Carrier):
    """The exchange's actions, in callbacks. `left` is what its caller has not sent of the body yet, in bytes; -1: some chunks,
    which `reader` reads. `closes`: the answer says that the connection ends.
    """

    __slots__ = (
        "_began",
        "_body",
        "_head",
        "_is_chunked",
        "_limit",
        "_line",
        "_parts",
        "_size",
        "closes",
        "has_begun",
        "has_left",
        "introduces",
        "is_answered",
        "left",
        "reader",
    )

    def __init__(
        self, relay: Relay, line: Line, closes: bool, left: int, reader: RequestReader | None
    ) -> None:
        super().__init__(relay)
        self._line = line
        self.reader = reader
        self.left = left
        self.closes = closes
        self.introduces: tuple[bytes, Read] | None = None
        """The name of its head, and what that was read as, where it was new."""
        self.has_begun = False
        """Something of the answer is written."""
        self.is_answered = False
        self.has_left = False
        """Answered, and the caller has taken all but what the sockets hold."""
        self._body: bytes | None = None
        self._limit: int | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._began = 0.0
        self._head: bytes | None = None
        self._is_chunked = False

    # --- the body

    @property
    def wants_body(self) -> bool:
        return self._limit is not None

    def came_with(self, body: bytes) -> None:
        """All of it came in one read with the head."""
        self._body, self.left = body, 0

    def read_body(self, limit: int) -> None:
        body, self._body = self._body, None
        if self.left > limit or (body is not None and len(body) > limit):
            self.exchange.too_large()
            return
        if body is not None or not self.left:
            self.exchange.received(body or b"")
            return
        self._limit = limit
        self._began = self._relay.loop.time()
        self._line.body_wanted()

    def take_body(self, data: bytes) -> None:
        """Some more of it; `left` is up to date."""
        self._size += len(data)
        if self._size > (self._limit or 0):
            self._end_body()
            self.exchange.too_large()
        elif self.left:
            self._parts.append(data)
            if self._is_late():
                self.body_is_late()
        else:
            body = b"".join([*self._parts, data]) if self._parts else data
            self._end_body()
            self.exchange.received(body)

    def _is_late(self) -> bool:
        seconds = self._relay.loop.time() - self._began - _BODY_GRACE
        return self._size < seconds * _BODY_RATE

    def body_is_late(self) -> None:
        self._end_body()
        self.exchange.too_late()

    def _end_body(self) -> None:
        self._limit = None
        self._parts = []

    # --- the answer

    def start(self, status: int, headers: Headers) -> None:
        head = self._begin(status, headers)
        if self._is_chunked:
            self._line.write(head)
        else:
            self._head = head  # until its body, which follows at once

    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        head = self._begin(status, headers)
        if len(body) <= _JOINED_UP_TO:
            self._line.write(head + body)
        else:
            self._line.write(head)
            self._line.write(body)
        self.is_answered = True
        if not self._line.is_blocked:
            self._end()

    def _begin(self, status: int, headers: Headers) -> bytes:
        reader = self.reader
        self._body = None  # of a caller who is refused
        if self._limit is not None:
            # Answered before the body was here: what still comes of it is nobody's, and the next request is behind it.
            self._end_body()
        if lifecycle.draining() or (reader is not None and reader.has_more):
            self.closes = True
        head, self._is_chunked = heads.head(status, headers, closes=self.closes)
        self.has_begun = True
        return head

    def relay(self, data: bytes) -> None:
        if not data:
            return
        if self._is_chunked:
            self._line.write(b"%x\r\n%b\r\n" % (len(data), data))
        elif self._head is not None and len(data) <= _JOINED_UP_TO:
            self._line.write(self._head + data)
        else:
            self._line.write(self._head or b"")
            self._line.write(data)
        self._head = None
        if self._line.is_blocked and self._upstream is not None:
            self._upstream.pause()

    def finish(self) -> None:
        if self._is_chunked:
            self._line.write(heads.LAST_CHUNK)
        elif self._head is not None:
            self._line.write(self._head)
            self._head = None
        self.is_answered = True
        if not self._line.is_blocked:
            self._end()

    def flows(self) -> None:
        """The caller takes again what we have."""
        if self.is_answered:
            self._end()
        elif self._upstream is not None:
            self._upstream.resume()

    def _end(self) -> None:
        self.has_left = True
        self._leave()
        self._line.answered()

    # --- ends that nobody asked for

    def gone(self) -> None:
        """The caller has left, or was sent away. Whatever happens, the call is settled and its place free; unless it is read
        on: then that comes later.
        """
        self._end_body()
        try:
            self.exchange.client_gone()
        finally:
            if not self.is_unheard:
                self._leave()

    def cut(self) -> None:
        if self.is_unheard:
            self.is_unheard = False
            self._leave()

    def broke(self) -> None:
        if self.is_unheard:
            self.cut()
        elif not self.is_answered:
            self.is_answered = True
            self.gone()
            if self.has_begun:
                self._line.abort()
            else:
                self._line.fail(500)

    def is_stuck(self) -> bool:
        return not self.is_unheard and self._line.is_stuck()

    def abandon(self) -> None:
        self._line.abort()
