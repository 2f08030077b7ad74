"""A connection of gunicorn's ASGI protocol: what is no call, and everything where the express edge is switched off.

Written against gunicorn 27.0.1, which is pinned for it.
"""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from math import inf
from typing import Any

from django.conf import settings
from gunicorn.asgi.parser import InvalidHeader
from gunicorn.asgi.protocol import ASGIProtocol

from gateway import lifecycle
from gateway.edge import heads
from gateway.edge.connection import QUIET_SECONDS, has_unread
from gateway.edge.reader import is_good_host
from gateway.relay import endpoints


class GunicornConnection(ASGIProtocol):  # type: ignore[misc]
    """A client's connection, known to its worker while it is open. `deadline` as `Open` has it: gunicorn has its own timers."""

    deadline = inf

    _response_buffer: bytes | None
    #: When it was opened, or its last answer had gone, by the loop's clock.
    quiet_since = 0.0
    #: The request being answered, and whether its answer says that the connection ends.
    _announced: tuple[Any, bool] = (None, False)
    #: Runs until the head of a request is complete: from the connection's first moment, or a later request's first byte.
    _head_timer: asyncio.TimerHandle | None = None
    _has_half_a_head = False

    def __init__(
        self, worker: Any, *, is_handed_over: bool = False, carried_calls: bool = False
    ) -> None:
        super().__init__(worker)
        self._is_handed_over = is_handed_over
        self._carried_calls = carried_calls

    def out_of_time(self) -> None:
        """Never."""

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
        parser = self._callback_parser
        if not is_good_host(parser.headers, is_needed=parser.http_version >= (1, 1)):
            raise InvalidHeader
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
        self._safe_write(heads.refusal(status, extra_headers))

    def _arm_keepalive_timer(self) -> None:
        """Called when an answer has gone and no next request is there yet."""
        self.quiet_since = self.worker.loop.time()
        super()._arm_keepalive_timer()

    def _will_close(self, request: Any, response_requires_close: bool) -> bool:
        """Asked when the head is written, and again at the end of the answer: what was announced then stays true."""
        announced_for, ends = self._announced
        if announced_for is not request:
            ends = (
                lifecycle.draining()
                or self._is_astray(request)
                or super()._will_close(request, response_requires_close)
            )
            self._announced = (request, ends)
        return ends

    def is_idle(self) -> bool:
        """Nothing of a request has come for a while, and nothing waits to be read."""
        if self._body_receiver is not None or self._has_half_a_head:
            return False
        is_quiet = self.worker.loop.time() - self.quiet_since >= QUIET_SECONDS
        return is_quiet and not has_unread(self.transport)

    def _is_astray(self, request: Any) -> bool:
        """Where calls go, other requests end the connection, and a call that was sent behind one as well: a pool that mixes them
        finds its way back to the quicker protocol. One that never carries a call keeps its connections.
        """
        return self._is_handed_over and (
            self._carried_calls or endpoints.find(request.method, request.path) is not None
        )
