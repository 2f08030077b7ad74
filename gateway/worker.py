"""Our gunicorn worker: its ASGI worker, with a drain that streams survive.

On SIGTERM: not ready at once, but still accepting for a few seconds, so that a balancer can notice; every answer says
`Connection: close`; then the listeners close, idle connections go, and running answers get their time. What is left after
it ends with an error event, and everything is flushed. A connection whose answer promised to keep it is kept for one more:
gunicorn's own flag `alive` would close it under a caller who is already sending, so a drain leaves that flag alone.
Written against gunicorn 27.0.1, which is pinned for it.
"""

import asyncio
import os
import select
import signal
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final
from uuid import uuid4

from django.conf import settings
from gunicorn.arbiter import Arbiter
from gunicorn.asgi.lifespan import LifespanManager
from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.workers.gasgi import ASGIWorker

from gateway import lifecycle
from providers.dialects import openai

_BEAT_SECONDS = 0.1
_NEXT_TRY_SECONDS = 1.0
_FAILED = 1
_LAST_WORDS_SECONDS = 2.0
#: Who connected, or had an answer, just before the listeners closed has so long to begin a request.
_QUIET_SECONDS = 1.0


#: What gunicorn answers by itself, because what came cannot be read as one request or something of ours broke. Said in our
#: words: its own would quote what was sent.
_OWN_SENTENCES: Final = {
    400: "The request is not well-formed HTTP.",
    408: "The request's head did not come in time.",
    414: "The request's address is too long.",
    431: "The request has too many or too long headers.",
    500: "Something went wrong on our side.",
    501: "The request's transfer coding is not understood.",
}


class Connection(ASGIProtocol):  # type: ignore[misc]
    """A client's connection, known to its worker while it is open."""

    _response_buffer: bytes | None
    #: When it was opened, or its last answer had gone, by the loop's clock.
    quiet_since = 0.0
    #: The request being answered, and whether its answer says that the connection ends.
    _announced: tuple[Any, bool] = (None, False)
    #: Runs until the head of a request is complete: from the connection's first moment, or a later request's first byte.
    _head_timer: asyncio.TimerHandle | None = None
    _has_half_a_head = False

    def connection_made(self, transport: Any) -> None:
        self.quiet_since = self.worker.loop.time()
        self.worker.connections.add(self)
        self._limit_head()
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.worker.connections.discard(self)
        self._unlimit_head()
        super().connection_lost(exc)

    def _feed_callback_parser(self, data: bytes) -> bool:
        goes_on: bool = super()._feed_callback_parser(data)
        if goes_on and self._body_receiver is None:
            self._has_half_a_head = True
            self._limit_head()
        return goes_on

    def _on_headers_complete(self) -> bool:
        self._unlimit_head()
        return bool(super()._on_headers_complete())

    def _limit_head(self) -> None:
        """gunicorn's own limit begins after a connection's first answer, and is that of an idle connection."""
        if self._head_timer is None:
            self._head_timer = self.worker.loop.call_later(
                settings.HEAD_SECONDS, self._head_is_late
            )

    def _unlimit_head(self) -> None:
        self._has_half_a_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        # Who has asked for nothing gets no answer: it would be taken for that to the next request.
        if self._has_half_a_head:
            self._send_error_response(HTTPStatus.REQUEST_TIMEOUT, "")
        self._keepalive_timeout()

    def _send_response_start(
        self, status: int, headers: Any, request: Any, close: bool = False
    ) -> None:
        """gunicorn keeps a head back until the first of its body; a stream's may be long in coming."""
        super()._send_response_start(status, headers, request, close)
        self.worker.loop.call_soon(self._send_waiting_head)

    def _send_waiting_head(self) -> None:
        head, self._response_buffer = self._response_buffer, None
        if head:
            self._safe_write(head)

    def _send_error_response(
        self, status: int, message: str, extra_headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        sentence = _OWN_SENTENCES.get(status, "The request cannot be served.")
        kind, code = (
            ("api_error", "internal_error")
            if status == HTTPStatus.INTERNAL_SERVER_ERROR
            else ("invalid_request_error", "invalid_request")
        )
        body = openai.error_body(sentence, kind, None, code)
        own = uuid4().hex
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            f"x-request-id: {own}",
            f"request-id: {own}",
            *(f"{name}: {value}" for name, value in extra_headers),
            "Connection: close",
        ]
        self._safe_write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def _arm_keepalive_timer(self) -> None:
        """Called when an answer has gone and no next request is there yet."""
        self.quiet_since = self.worker.loop.time()
        super()._arm_keepalive_timer()

    def _will_close(self, request: Any, response_requires_close: bool) -> bool:
        """Asked when the head is written, and again at the end of the answer: what was announced then stays true."""
        announced_for, ends = self._announced
        if announced_for is not request:
            ends = lifecycle.draining() or super()._will_close(request, response_requires_close)
            self._announced = (request, ends)
        return ends

    def is_idle(self) -> bool:
        """Nothing of a request has come for a while, and nothing waits to be read."""
        if self._body_receiver is not None or self._has_half_a_head:
            return False
        is_quiet = self.worker.loop.time() - self.quiet_since >= _QUIET_SECONDS
        return is_quiet and not self._has_unread()

    def _has_unread(self) -> bool:
        """A busy loop reads late: what the kernel holds for us was sent in good time."""
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))


class Worker(ASGIWorker):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connections: set[Connection] = set()

    def init_signals(self) -> None:
        """Until the loop runs it would lose a signal, so until then plain handlers take them."""
        super().init_signals()
        self.listen_early()

    def listen_early(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self.handle_exit_signal())
        for quick in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(quick, lambda *_: self.handle_quit_signal())

    def handle_exit_signal(self) -> None:
        lifecycle.set_draining()

    def handle_quit_signal(self) -> None:
        lifecycle.set_draining()
        super().handle_quit_signal()

    async def _serve(self) -> None:
        super().init_signals()
        self.lifespan = LifespanManager(self.asgi, self.log, self.state)
        try:
            await self.lifespan.startup()
        except Exception as fault:
            self.log.exception("The worker could not start.")
            self.lifespan = None
            raise SystemExit(await self._exit_code_of_failure()) from fault
        for sock in self.sockets if self._goes_on() else ():
            self.servers.append(
                await self.loop.create_server(
                    lambda: Connection(self), sock=sock.sock, ssl=self._get_ssl_context()
                )
            )
        while self._goes_on() and self.ppid == os.getppid():
            await self._beat(1.0)
        await self._shutdown()

    def _goes_on(self) -> bool:
        return self.alive and not lifecycle.draining()

    async def _exit_code_of_failure(self) -> int:
        """One of the first workers ends the server, so that whoever starts it hears of it. A replacement (the database may be
        away just now) must not take along the others, who go on with what they know: it is replaced in its turn.
        """
        if self.age <= self.cfg.workers:
            return int(Arbiter.WORKER_BOOT_ERROR)
        await self._beat(_NEXT_TRY_SECONDS)
        return _FAILED

    async def _beat(self, seconds: float) -> None:
        """Wait a little; tell the arbiter that we live."""
        self.notify()
        await asyncio.sleep(seconds)

    async def _shutdown(self) -> None:
        lifecycle.set_draining()
        if not self._quick_shutdown:
            await self._until(settings.PRE_DRAIN_SECONDS, lambda: False)
        for server in self.servers:
            server.close()
        if not self._quick_shutdown:
            await self._until(settings.DRAIN_SECONDS, self._all_gone)
        relay = self.asgi.relay
        if relay is not None:
            relay.drain()
        await self._until(_LAST_WORDS_SECONDS, self._all_gone)
        if self.lifespan is not None:
            await self._end_lifespan(self.lifespan)

    async def _end_lifespan(self, lifespan: LifespanManager) -> None:
        """What is settled still goes into the tables; meanwhile the arbiter must not take us for dead."""
        ending = asyncio.ensure_future(lifespan.shutdown())
        while not ending.done():
            self.notify()
            await asyncio.wait({ending}, timeout=_BEAT_SECONDS)
        await ending

    def _all_gone(self) -> bool:
        """Close the connections that are idle by now; True when none is left."""
        for connection in [each for each in self.connections if each.is_idle()]:
            connection.transport.close()
        return not self.connections

    async def _until(self, seconds: float, done: Any) -> None:
        deadline = self.loop.time() + seconds
        while (
            self.loop.time() < deadline
            and not done()
            and not (self._quick_shutdown and seconds > _LAST_WORDS_SECONDS)
        ):
            await self._beat(_BEAT_SECONDS)


def after_fork(arbiter: Arbiter, worker: Worker) -> None:
    """The child still has the master's handlers, which would only note the signal for a master that is not there."""
    worker.listen_early()
