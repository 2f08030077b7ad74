"""Drives one exchange for an edge: carries out what it asks for, with the relay's means, towards a caller who is two functions.

An edge shows its caller as ASGI does: `receive` gives the body piece by piece and then the departure, `send` takes the head of
the answer and its pieces, and returns when the caller has taken them. What happens in between is the same for every edge.

One task per call reads the body and writes the answer; everything else happens in callbacks. Settlement never waits for that
task: the exchange settles in the callback that ends it, and whoever cancels the task only makes it settle sooner.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, Final, cast

from django.conf import settings

from gateway import context
from gateway.relay.asking import asked
from gateway.relay.carrier import Carrier
from gateway.relay.endpoints import Endpoint
from gateway.relay.relay import Relay
from providers.types import Headers

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: Bytes for a caller who reads slowly; past the first the upstream is not read on, until the second.
_HIGH_WATER: Final = 64 * 1024
_LOW_WATER: Final = 16 * 1024
#: Bytes of an answer handed to the server at once: it takes what it is given, so more would be memory that nobody bounds.
_PIECE: Final = 64 * 1024
#: Seconds in which a caller must take some of the answer.
_WRITE_IDLE: Final = 30.0
#: A body must come at this many bytes a second, once it has had this many seconds.
_BODY_RATE: Final = 1024
_BODY_GRACE: Final = 10.0
#: Seconds for which a body that nobody wants is read after its refusal.
_LINGER: Final = 5.0


class Conversation(Carrier):
    """One call towards a caller who is two functions."""

    __slots__ = (
        "_body_limit",
        "_body_read",
        "_buffered",
        "_busy_since",
        "_finished",
        "_loop",
        "_out",
        "_paused",
        "_receive",
        "_send",
        "_task",
        "_wake",
    )

    def __init__(self, relay: Relay, receive: Receive, send: Send) -> None:
        super().__init__(relay)
        self._receive = receive
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._out: list[Message] = []
        self._buffered = 0
        self._paused = False
        self._finished = False
        self._body_limit: int | None = None
        self._body_read = False
        self._wake: asyncio.Future[None] | None = None
        self._busy_since: float | None = None

    # --- the task -----------------------------------------------------------------------------------------------------

    async def run(self, endpoint: Endpoint, item: str, scope: Message) -> None:
        self._relay.live.add(self)
        self._task = cast("asyncio.Task[None]", asyncio.current_task())
        watcher: asyncio.Task[None] | None = None
        try:
            headers: Headers = scope["headers"]
            chain = self._relay.house.chain
            self.exchange.begin(asked(chain, endpoint, item, headers), _address(scope, headers))
            while True:
                if self._body_limit is not None:
                    limit, self._body_limit = self._body_limit, None
                    await self._read_body(limit, headers)
                    if not self._finished and watcher is None:
                        watcher = self._loop.create_task(self._watch_for_departure())
                if self._out:
                    await self._write()
                elif self._finished:
                    if not self._body_read:
                        await self._let_finish_sending()
                    return
                elif self._body_limit is None:
                    await self._wait()
        except Exception:
            # Whoever called us logs it. Not earlier: connections that this task opens would carry the id to other calls.
            context.request_id.set(self.exchange.name)
            raise
        finally:
            if watcher is not None:
                watcher.cancel()
            self._depart()

    def _depart(self) -> None:
        """Cancelled by the server, or broken: whatever the reason, the call is settled before the task is gone; unless it is
        read on.
        """
        try:
            self.exchange.client_gone()
        finally:
            if not self.is_unheard:
                self._leave()

    async def _read_body(self, limit: int, headers: Headers) -> None:
        if _announced(headers) > limit:
            self.exchange.too_large()
            return
        parts: list[bytes] = []
        size = 0
        began = self._loop.time()
        while True:
            try:
                async with asyncio.timeout(settings.BODY_IDLE_SECONDS):
                    message = await self._receive()
            except TimeoutError:
                self.exchange.too_late()
                return
            if size < (self._loop.time() - began - _BODY_GRACE) * _BODY_RATE:
                self.exchange.too_late()
                return
            if message["type"] != "http.request":
                self._body_read = True
                self.exchange.client_gone()
                return
            part = message.get("body", b"")
            size += len(part)
            if size > limit:
                self.exchange.too_large()
                return
            parts.append(part)
            if not message.get("more_body", False):
                self._body_read = True
                self.exchange.received(parts[0] if len(parts) == 1 else b"".join(parts))
                return

    async def _let_finish_sending(self) -> None:
        """Read on after a refusal that came before the body: to close with bytes unread would reset the connection, and the
        caller who is still sending would lose the answer with it.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER):
                while not self._body_read:
                    message = await self._receive()
                    self._body_read = not message.get("more_body", False)

    async def _watch_for_departure(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.exchange.client_gone()
                return

    async def _write(self) -> None:
        out, self._out = self._out, []
        for message in out:
            for piece in _pieces(message):
                self._busy_since = self._loop.time()
                if not piece.get("more_body", True):
                    # Before the last of it: who has the whole answer may ask again at once, and finds the place free.
                    self.exchange.leave()
                await self._send(piece)
            self._buffered -= len(message.get("body", b""))
        self._busy_since = None
        if self._paused and self._buffered <= _LOW_WATER and self._upstream is not None:
            self._paused = False
            self._upstream.resume()

    async def _wait(self) -> None:
        self._wake = self._loop.create_future()
        try:
            await self._wake
        finally:
            self._wake = None

    def _awaken(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # --- what the exchange asks for -----------------------------------------------------------------------------------

    def read_body(self, limit: int) -> None:
        self._body_limit = limit
        self._awaken()

    def start(self, status: int, headers: Headers) -> None:
        self._put({"type": "http.response.start", "status": status, "headers": headers})

    def relay(self, data: bytes) -> None:
        self._buffered += len(data)
        self._put({"type": "http.response.body", "body": data, "more_body": True})
        if self._buffered > _HIGH_WATER and not self._paused and self._upstream is not None:
            self._paused = True
            self._upstream.pause()

    def finish(self) -> None:
        self._finished = True
        last = self._out[-1] if self._out else None
        if last is not None and last["type"] == "http.response.body":
            last["more_body"] = False
            self._awaken()
        else:
            self._put({"type": "http.response.body", "body": b"", "more_body": False})

    def cut(self) -> None:
        self._finished = True
        self._out.clear()
        self._awaken()
        if self.is_unheard:
            self.is_unheard = False
            if self._task.done():
                self._leave()

    def read_on(self) -> None:
        self._finished = True
        self._out.clear()
        self._busy_since = None
        self._paused = False
        super().read_on()
        self._awaken()

    def _put(self, message: Message) -> None:
        self._out.append(message)
        self._awaken()

    # --- what happens to the worker -----------------------------------------------------------------------------------

    def broke(self) -> None:
        self._task.cancel()
        if self.is_unheard:
            self.cut()

    def is_stuck(self) -> bool:
        """Whether the caller has taken nothing of the answer for too long."""
        busy_since = self._busy_since
        return busy_since is not None and self._loop.time() - busy_since > _WRITE_IDLE

    def abandon(self) -> None:
        """End the task of a caller who does not read; that settles the call and closes the connection."""
        self._task.cancel()


def _pieces(message: Message) -> Iterator[Message]:
    """The message, or its body in parts that a slow caller can be waited for between."""
    body = message.get("body", b"")
    if len(body) <= _PIECE:
        yield message
        return
    for start in range(0, len(body), _PIECE):
        last = start + _PIECE >= len(body)
        part = body[start : start + _PIECE]
        yield {**message, "body": part, "more_body": not last or message["more_body"]}


def _announced(headers: Headers) -> int:
    """The length that the caller announces; 0 for none. The server has checked that it is a number."""
    for name, value in headers:
        if name == b"content-length":
            return int(value)
    return 0


def _address(scope: Message, headers: Headers) -> str:
    client = scope.get("client")
    peer = client[0] if client else ""
    if not settings.TRUSTED_PROXIES and ":" not in peer:
        return peer
    forwarded = context.forwarded_for(headers)
    return context.client_address(peer, forwarded, settings.TRUSTED_PROXIES)
