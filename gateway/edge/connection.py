"""A caller's connection, as the worker's listeners make it: whole calls in callbacks, everything else to gunicorn and Django.

What a request is shows in its first line. A call of the exact table is read here, one at a time; what comes behind it waits. A
request of any other kind takes its connection along, with every byte so far, to a protocol of gunicorn's, for good. No timer
belongs to a connection: `Edge` looks at the deadlines of all.
"""

import asyncio
import select
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Final, Protocol, cast

from django.conf import settings

from gateway import context
from gateway.edge import heads
from gateway.edge.call import WireCall
from gateway.edge.familiar import Familiar, Read
from gateway.edge.reader import HEAD_CAP, LINE_CAP, BadRequest, RequestReader
from gateway.relay import endpoints
from gateway.relay.asking import asked
from gateway.relay.endpoints import Endpoint
from gateway.relay.relay import Relay

#: Bytes for a caller who reads slowly; past the first the upstream is not read on, until the second.
_HIGH_WATER: Final = 64 * 1024
_LOW_WATER: Final = 16 * 1024
#: Bytes of what comes before it is its turn.
_MOST_HELD: Final = 64 * 1024
#: Seconds in which a caller must take some of the answer.
_WRITE_IDLE: Final = 30.0
#: Seconds for which a body that nobody wants is read after its refusal, and what follows something that is no request.
_LINGER: Final = 5.0
_LAST_LINGER: Final = 1.0
#: Who connected, or had an answer, just before the listeners closed has so long to begin a request.
QUIET_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.25


class Open(Protocol):
    """A connection that is open, whoever serves it. `deadline` is by the loop's clock."""

    transport: Any
    deadline: float

    def out_of_time(self) -> None: ...

    def is_idle(self) -> bool: ...


class Edge:
    """What all connections of a worker share. `hand_over` makes the protocol for what is no call; it is told whether the
    connection has carried calls.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connections: "set[Open]",
        keep_alive: float,
        hand_over: Callable[[bool], asyncio.Protocol],
    ) -> None:
        self.loop = loop
        self.connections = connections
        self.keep_alive = keep_alive
        self.hand_over = hand_over
        self.familiar = Familiar()
        self.trusted_proxies: Sequence[str] = settings.TRUSTED_PROXIES
        self._look_soon()

    def serve(self, relay: Relay) -> "Callable[[], CallerConnection]":
        """What a listener makes its protocols with."""
        return lambda: CallerConnection(self, relay)

    def _look_soon(self) -> None:
        self.loop.call_later(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._look_soon()
        now = self.loop.time()
        for connection in [each for each in self.connections if each.deadline <= now]:
            connection.out_of_time()


class CallerConnection(asyncio.Protocol):
    """Reads heads, gives a call its body, writes what it says. `transport` and `deadline` as `Open` has them."""

    __slots__ = (
        "_begun",
        "_call",
        "_edge",
        "_held",
        "_is_over",
        "_is_paused",
        "_peer",
        "_relay",
        "_stuck_at",
        "_stuck_since",
        "_was_used",
        "deadline",
        "is_blocked",
        "quiet_since",
        "transport",
        "write",
    )

    transport: asyncio.Transport
    #: The transport's own: every piece of every stream goes through it.
    write: Callable[[bytes], None]

    def __init__(self, edge: Edge, relay: Relay) -> None:
        self._edge = edge
        self._relay = relay
        self._call: WireCall | None = None
        self._begun = b""  # of a head
        self._held = b""  # what is not its turn yet: a body that nobody asked for, the next request
        self._peer = ""
        self._was_used = False  # for a call that is over
        self._is_over = False
        self._is_paused = False
        self._stuck_at = 0
        self._stuck_since = 0.0
        self.is_blocked = False
        self.deadline = inf
        self.quiet_since = 0.0

    # --- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # By its methods, not its class: uvloop's transports are no subclasses of asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        self.write = self.transport.write
        self._edge.connections.add(self)
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) else ""
        self.quiet_since = self._edge.loop.time()
        self.deadline = self.quiet_since + settings.HEAD_SECONDS
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() == "h2":
            self._hand_over(b"")
            return
        self.transport.set_write_buffer_limits(high=_HIGH_WATER, low=_LOW_WATER)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_over = True
        self._edge.connections.discard(self)
        call, self._call = self._call, None
        if call is not None:
            call.gone()

    def _hand_over(self, data: bytes) -> None:
        """To gunicorn, with every byte that nobody has read, and for good."""
        self._is_over = True
        self._edge.connections.discard(self)
        self._begun = self._held = b""
        other = self._edge.hand_over(self._was_used)
        self.transport.set_protocol(other)
        other.connection_made(self.transport)
        if data:
            other.data_received(data)

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        call = self._call
        if call is None and not self._held:
            self._read_head(self._begun + data if self._begun else data)
            return
        self._held = self._held + data if self._held else data
        if call is not None and call.left:
            self._go_on_with_body(call)
        if len(self._held) > _MOST_HELD and not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()

    def _read_on(self) -> None:
        if self._is_paused and not self.transport.is_closing():
            self._is_paused = False
            self.transport.resume_reading()

    def _close(self) -> None:
        """When all is written, which may take only so long."""
        self._is_over = True
        self.deadline = self._edge.loop.time() + _WRITE_IDLE
        self.transport.close()

    # --- between calls

    def _read_head(self, data: bytes) -> None:
        """The next request's head, from its beginning."""
        end = data.find(b"\r\n\r\n", 0, HEAD_CAP) + 4
        if end < 4:
            self._await_head(data)
            return
        head = data[:end]
        found = self._edge.familiar.find(head)
        if found is not None:
            self._begin(*found, None, data[end:])
        else:
            self._read_new_head(head, data)

    def _read_new_head(self, head: bytes, data: bytes) -> None:
        found = endpoints.on_line(head[: head.find(b"\r\n")])
        if found is None:
            self._hand_over(data)
            return
        reader = RequestReader()
        try:
            reader.feed_head(head)
        except BadRequest as fault:
            self.fail(fault.status)
            return
        if reader.wants_upgrade and reader.is_chunked:
            self._hand_over(data)
            return
        read = self._read(found, reader)
        rest = data[len(head) :]
        if reader.is_chunked:
            self._begin(read, -1, reader, rest)
            return
        reader.close()
        name = None
        if not reader.expects_continue and not reader.wants_upgrade:
            name = self._edge.familiar.name(head, reader.length, read)
        self._begin(read, reader.length, reader, rest, name)

    def _read(self, found: tuple[Endpoint, str], reader: RequestReader) -> Read:
        headers = reader.headers
        return Read(
            asked(self._relay.house.chain, *found, headers),
            reader.closes,
            context.forwarded_for(headers),
        )

    def _await_head(self, data: bytes) -> None:
        if not self._begun and self._was_used:
            self.deadline = self._edge.loop.time() + settings.HEAD_SECONDS
        self._begun = data
        line_end = data.find(b"\r\n")
        if line_end < 0:
            may_be_call = len(data) <= LINE_CAP and endpoints.may_begin(data)
        else:
            may_be_call = endpoints.on_line(data[:line_end]) is not None
        if not may_be_call:
            self._hand_over(data)
        elif len(data) >= HEAD_CAP:
            self.fail(431)
        elif data.count(b"\n") != data.count(b"\r\n"):
            self.fail(400)

    def _begin(
        self,
        read: Read,
        left: int,
        reader: RequestReader | None,
        rest: bytes,
        name: bytes | None = None,
    ) -> None:
        call = self._call = WireCall(self._relay, self, read.closes, left, reader)
        if name is not None:
            call.introduces = (name, read)
        self._begun = b""
        if left == len(rest):
            call.came_with(rest)
            self._held = b""
        else:
            self._held = rest
        self.deadline = inf
        self._relay.live.add(call)
        call.tell(call.exchange.begin, read.asked, self._address(read.forwarded_for))

    def _address(self, forwarded_for: str) -> str:
        if not self._edge.trusted_proxies and ":" not in self._peer:
            return self._peer
        return context.client_address(self._peer, forwarded_for, self._edge.trusted_proxies)

    # --- a call's body

    def body_wanted(self) -> None:
        call = self._call
        if call is None:
            return
        if self._held:
            self._go_on_with_body(call)
        elif call.reader is not None and call.reader.expects_continue:
            self.write(heads.CONTINUE)
        if call.wants_body:
            self.deadline = self._edge.loop.time() + settings.BODY_IDLE_SECONDS
            self._read_on()

    def _go_on_with_body(self, call: WireCall) -> None:
        """Give what is held of it to the call, or, if that is answered, to nobody."""
        if not (call.wants_body or call.has_left):
            return
        try:
            data = self._take_held(call)
        except BadRequest as fault:
            self._refuse_body(call, fault)
            return
        if call.wants_body:
            if data or not call.left:
                self.deadline = (
                    self._edge.loop.time() + settings.BODY_IDLE_SECONDS if call.left else inf
                )
                call.tell(call.take_body, data)
        elif not call.left:
            self._end_call(call)

    def _take_held(self, call: WireCall) -> bytes:
        data, self._held = self._held, b""
        if call.left < 0 and call.reader is not None:
            data = call.reader.feed_chunks(data)
            if call.reader.is_whole:
                call.left = 0
            return data
        if len(data) > call.left:
            data, self._held = data[: call.left], data[call.left :]
        call.left -= len(data)
        return data

    def _refuse_body(self, call: WireCall, fault: BadRequest) -> None:
        self._call = None
        call.gone()
        if call.has_begun:
            self._close()
        else:
            self.fail(fault.status)

    # --- its answer

    def pause_writing(self) -> None:
        self.is_blocked = True
        self._stuck_at = self.transport.get_write_buffer_size()
        self._stuck_since = self._edge.loop.time()

    def resume_writing(self) -> None:
        self.is_blocked = False
        if self._call is not None:
            self._call.tell(self._call.flows)

    def is_stuck(self) -> bool:
        if not self.is_blocked:
            return False
        before, self._stuck_at = self._stuck_at, self.transport.get_write_buffer_size()
        now = self._edge.loop.time()
        if self._stuck_at < before:
            self._stuck_since = now
        return now - self._stuck_since > _WRITE_IDLE

    def answered(self) -> None:
        call = self._call
        if call is None:
            return
        if not call.left:
            self._end_call(call)
            return
        # To close with bytes unread would reset the connection, and a caller who is still sending would lose the answer with it.
        self.deadline = self._edge.loop.time() + _LINGER
        self._read_on()
        if self._held:
            self._go_on_with_body(call)

    def _end_call(self, call: WireCall) -> None:
        self._call = None
        self._was_used = True
        reader = call.reader
        if reader is not None:
            reader.close()
        if call.introduces is not None and call.exchange.known is not None:
            self._edge.familiar.keep(*call.introduces)
        if call.closes or (reader is not None and reader.has_more):
            self._close()
            return
        edge = self._edge
        self.quiet_since = edge.loop.time()
        self.deadline = self.quiet_since + edge.keep_alive
        if self._is_paused:
            self._read_on()
        if self._held:
            edge.loop.call_soon(self._next)

    def _next(self) -> None:
        held, self._held = self._held, b""
        if not self._is_over:
            self._read_head(held)

    # --- ends

    def fail(self, status: int) -> None:
        """Say that this cannot be answered; what still comes is not read as a request."""
        self._is_over = True
        self._call = None
        self._begun = self._held = b""
        self.deadline = self._edge.loop.time() + _LAST_LINGER
        self._read_on()
        self.write(heads.refusal(status))
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def abort(self) -> None:
        self._is_over = True
        self.transport.abort()

    def out_of_time(self) -> None:
        call = self._call
        if self._is_over:
            self.deadline = inf
            self.transport.abort()
        elif call is None and self._begun:
            self.fail(408)
        elif call is None or call.has_left:
            self._close()
        else:
            call.tell(call.body_is_late)

    def is_idle(self) -> bool:
        """Nothing of a request has come for a while, and nothing waits to be read."""
        if self._call is not None or self._begun or self._held:
            return False
        is_quiet = self._edge.loop.time() - self.quiet_since >= QUIET_SECONDS
        return is_quiet and not has_unread(self.transport)


def has_unread(transport: asyncio.BaseTransport) -> bool:
    """A busy loop reads late: what the kernel holds for us was sent in good time."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))
