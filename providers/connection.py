"""One open connection to an upstream, with at most one call on it at a time. Callbacks only: no task, no future."""

import asyncio
import select
import socket
from time import monotonic
from typing import Final, Protocol, TypeVar, cast

from providers.http1 import AnswerReader, hang_up
from providers.types import FailureKind, Headers

_JOINED_UP_TO: Final = 64 * 1024
"""Up to this size, copying a body behind its head is cheaper than handing over two buffers."""
_PIECE: Final = 256 * 1024
"""Of a large body: so much at most waits in our memory in encrypted form."""
_NOTHING: Final = memoryview(b"")


class Listener(Protocol):
    """Who gets an answer's body."""

    def upstream_bytes(self, data: bytes) -> None: ...


class Exchange(Protocol):
    """The call that a connection is working for."""

    @property
    def receiver(self) -> Listener: ...

    def sent(self) -> None: ...

    def answered(self, status: int, headers: Headers, body: bytes) -> None: ...

    def head(self, status: int, headers: Headers) -> None: ...

    def ended(self) -> None: ...

    def failed(self, kind: FailureKind, detail: str) -> None: ...


Line = TypeVar("Line", contravariant=True)


class Home(Protocol[Line]):
    """The pool that a connection belongs to."""

    def take_back(self, connection: Line, keep_seconds: int | None) -> None: ...

    def lost(self, connection: Line) -> None: ...


class Connection(asyncio.Protocol):
    """Writes a request, reads its answer, and knows whether it may be used again.

    Plain sockets are written to directly: the kernel says at once how many bytes it took, which is what decides
    whether a call may be repeated. With TLS a byte handed to the TLS layer counts as taken.
    """

    __slots__ = (
        "_answered",
        "_closed",
        "_exchange",
        "_home",
        "_is_tls",
        "_paused",
        "_pending",
        "_poll",
        "_reader",
        "_sock",
        "_transport",
        "_write_blocked",
        "expires_at",
        "heard",
        "is_sent",
        "opened_at",
        "taken",
    )

    _transport: asyncio.Transport

    def __init__(self, sock: socket.socket, is_tls: bool) -> None:
        self._sock = sock
        self._home: Home[Connection] | None = None
        self._is_tls = is_tls
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._exchange: Exchange | None = None
        self._reader: AnswerReader | None = None
        self._answered = False  # the answer's head was passed on
        self.is_sent = False
        """The whole of the present request was handed over."""
        self._closed = False
        self._paused = False
        self._pending = _NOTHING
        self._write_blocked = False
        self.heard = False
        """Something was read since the owner last set this to False."""
        self.taken = 0
        """Not 0 as soon as a byte of the present request may have left."""
        self.opened_at = monotonic()
        self.expires_at = 0.0

    # ---- for the pool and the call

    def join(self, home: "Home[Connection]") -> bool:
        """Belong to a pool from now on, which is told of the end. False: it has ended already."""
        self._home = home
        return not self._closed

    def is_stale(self) -> bool:
        """An idle connection on which something can be read is of no use: its end, or bytes that nobody asked for.

        Asks the kernel, because the loop may not have had its turn yet to tell us.
        """
        return self._closed or bool(self._poll.poll(0))

    def begin(self, exchange: Exchange, head: bytes, body: bytes) -> bool:
        """Send a request. False: the connection is dead and not one byte was taken, so that another may be tried."""
        self.taken = 0
        if self._closed or self._transport.is_closing():
            self.discard()
            return False
        if not self._is_tls:
            try:
                if len(body) <= _JOINED_UP_TO:
                    self.taken = self._sock.send(head + body)
                else:
                    self.taken = self._sock.sendmsg((head, body))
            except BlockingIOError:
                pass
            except OSError:  # it has ended, and the kernel knows before the loop does
                self.discard()
                return False
        self._answered = self.heard = False
        self.is_sent = self.taken == len(head) + len(body)
        if not self.is_sent:
            self._send_rest(head, body)
        # While the upstream has something to do. And only now, so that nothing is told from inside.
        self._exchange, self._reader = exchange, AnswerReader()
        return True

    def unsent(self) -> int:
        """Bytes of the request that still wait in our memory."""
        return len(self._pending) + self._transport.get_write_buffer_size()

    def pause(self) -> None:
        """Read no more until `resume`; the kernel's window then holds the upstream back. What was read is delivered."""
        if not self._closed and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if not self._closed and self._paused:
            self._paused = False
            self.heard = True  # silence counts from now on
            self._transport.resume_reading()

    def discard(self) -> None:
        """Close at once, without a word to the call on it. Does nothing the second time."""
        if self._closed:
            return
        self._closed = True
        self._exchange = None
        self._pending = _NOTHING
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._transport.abort()
        if self._home is not None:
            self._home.lost(self)

    # ---- writing

    def _send_rest(self, head: bytes, body: bytes) -> None:
        left = len(head) + len(body) - self.taken
        if len(body) <= _JOINED_UP_TO:
            self._transport.write((head + body)[-left:])
        elif left > len(body):
            self._transport.write(head[self.taken :])
            self._pending = memoryview(body)
        else:
            self._pending = memoryview(body)[-left:]
        self.taken = max(self.taken, 1)
        if self._pending:
            self._pump()
        else:
            self.is_sent = not self._write_blocked

    def _pump(self) -> bool:
        """Hand over pieces until the transport says stop; `resume_writing` goes on. Whether all is handed over."""
        while self._pending and not self._write_blocked and not self._closed:
            piece, self._pending = self._pending[:_PIECE], self._pending[_PIECE:]
            self._transport.write(piece)
        self.is_sent = not self._pending and not self._write_blocked and not self._closed
        return self.is_sent

    def pause_writing(self) -> None:
        self._write_blocked = True

    def resume_writing(self) -> None:
        self._write_blocked = False
        exchange = self._exchange
        if exchange is not None and not self.is_sent and self._pump():
            exchange.sent()

    # ---- reading

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # By its methods, not its class: uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        # So that `resume_writing` means: all is out. The TLS layer says stop at its limit, a socket above it.
        self._transport.set_write_buffer_limits(high=1 if self._is_tls else 0, low=0)

    def data_received(self, data: bytes) -> None:
        exchange, reader = self._exchange, self._reader
        if exchange is None or reader is None:
            self.discard()  # nobody asked
            return
        self.heard = True
        body = reader.feed(data)
        if not self._answered:
            if reader.complete:
                self._give_back(reader)
                exchange.answered(reader.status, reader.headers, body)
                return
            if reader.status:
                self._answered = True
                exchange.head(reader.status, reader.headers)
        # The call may give up within each of its own.
        if body and self._exchange is exchange:
            exchange.receiver.upstream_bytes(body)
        if reader.complete or reader.fault is not None:
            self._finish(exchange, reader)

    def _finish(self, exchange: Exchange, reader: AnswerReader) -> None:
        """What comes after the last byte that was good."""
        if self._exchange is not exchange:
            return
        if reader.fault is not None:
            exchange.failed(reader.fault.kind, reader.fault.detail)
        else:
            self._give_back(reader)
            exchange.ended()

    def _give_back(self, reader: AnswerReader) -> None:
        """The answer is whole. An answer that came before the request was sent leaves a connection of no more use."""
        reader.close()
        self._exchange = self._reader = None
        if self.is_sent and reader.reusable and self._home is not None:
            if self._paused:
                self.resume()
            self._home.take_back(self, reader.keep_alive_seconds)
        else:
            self.discard()

    def eof_received(self) -> None:
        self._hung_up(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._hung_up(exc)

    def _hung_up(self, exc: Exception | None) -> None:
        exchange, reader = self._exchange, self._reader
        if exchange is None or reader is None:
            self.discard()
        elif exc is None and reader.ends_at_close:
            self._give_back(reader)
            exchange.ended()
        else:
            fault = hang_up(was_sent=self.is_sent, has_answered=self._answered)
            exchange.failed(fault.kind, fault.detail)
