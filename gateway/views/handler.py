"""Django for calls: its request, routes, views and responses, without what only pages and tables need.

Django's own handler spools the body before any limit is asked, runs middleware made for browsers, and gives every request a
thread, which looks after database connections. A call needs none of that: the exchange bounds bodies and seats, nothing on
its way touches a table, and thousands of streams are not to be thousands of threads.
"""

import asyncio
import io
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, cast

from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from gateway.relay.driver import Conversation, Message, Receive, Send
from gateway.relay.endpoints import Endpoint
from gateway.relay.relay import Relay

logger = logging.getLogger(__name__)

_ToView = Callable[[HttpRequest], Awaitable[Any]]

_NOBODY_THERE: Final = 499


class Call:
    """One call between Django's task and its own: a piece of the answer at a time, and the next one only when it is taken.

    Django gives up its task when a caller leaves, wherever that is just then. The conversation has a task of its own, so it
    always comes to its end: it closes the upstream and settles.
    """

    def __init__(
        self, relay: Relay, found: tuple[Endpoint, str], scope: Message, receive: Receive
    ) -> None:
        self._conversation = Conversation(relay, receive, self._hand_over)
        self._found = found
        self._scope = scope
        self._loop = asyncio.get_running_loop()
        self._head: asyncio.Future[Message | None] = self._loop.create_future()
        self._offered: asyncio.Queue[Message] = asyncio.Queue()
        self._taken: asyncio.Future[None] | None = None
        self._is_complete = False
        self._task: asyncio.Task[None] | None = None
        self._django: asyncio.Task[Any] | None = None

    async def answer(self) -> HttpResponseBase:
        """Begin the call, and give its answer as soon as that has a head."""
        self._django = asyncio.current_task()
        self._task = self._loop.create_task(self._conversation.run(*self._found, self._scope))
        self._task.add_done_callback(self._ended)
        head = await self._head
        if head is None:
            return HttpResponse(status=_NOBODY_THERE)
        return StreamingHttpResponse(
            self._pieces(),
            status=head["status"],
            headers={
                name.decode("latin-1"): value.decode("latin-1") for name, value in head["headers"]
            },
        )

    async def _hand_over(self, message: Message) -> None:
        """The conversation's `send`: returns when the server has taken the message."""
        if message["type"] == "http.response.start":
            self._head.set_result(message)
            return
        self._taken = self._loop.create_future()
        self._offered.put_nowait(message)
        await self._taken

    async def _pieces(self) -> AsyncIterator[bytes]:
        while not self._is_complete:
            message = await self._offered.get()
            yield message["body"]
            # Whoever asks for more has passed on what there was.
            self._is_complete = not message["more_body"]
            if self._taken is not None and not self._taken.done():
                self._taken.set_result(None)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        fault = None if task.cancelled() else task.exception()
        if not self._head.done() and not task.cancelled():
            # Broken, or the caller had left before there was anything to say.
            if fault is not None:
                self._head.set_exception(fault)
            else:
                self._head.set_result(None)
        elif not self._is_complete and self._django is not None:
            if fault is not None:
                logger.error("A call broke in the middle of its answer.", exc_info=fault)
            # The rest will not come. An answer that is not whole must not look like one: its connection ends.
            self._django.cancel()

    async def end(self) -> None:
        """The answer is written. Wait for the conversation, which may be reading what the caller goes on to send."""
        if self._task is not None:
            await asyncio.wait({self._task})

    def abandon(self) -> None:
        """Django is done with it, whatever the reason. Does nothing to a conversation that has ended."""
        if self._task is not None:
            self._task.cancel()


class CallRequest(ASGIRequest):
    """A call as Django sees it: its head. The body stays with the server until the exchange asks for it."""

    def __init__(self, scope: Message, call: Call) -> None:
        # Nothing of a call is read from the query: what stands there may be no text at all.
        super().__init__({**scope, "query_string": b""}, io.BytesIO())
        self.call = call

    def _set_content_type_params(self, meta: Mapping[str, Any]) -> None:
        """Judged by the exchange, in its turn."""
        self.content_type, self.content_params = "", {}


class CallHandler(ASGIHandler):
    """Serves the calls that `endpoints.find` knows."""

    def load_middleware(self, is_async: bool = False) -> None:
        self._view_middleware: list[Any] = []
        self._template_response_middleware: list[Any] = []
        self._exception_middleware: list[Any] = []
        # `BaseHandler` has it; its stubs leave out what is not public.
        to_view = self._get_response_async  # type: ignore[attr-defined]
        self._middleware_chain = cast(_ToView, convert_exception_to_response(to_view))

    async def serve(
        self,
        relay: Relay,
        found: tuple[Endpoint, str],
        scope: Message,
        receive: Receive,
        send: Send,
    ) -> None:
        """Answer one call of the table."""
        call = Call(relay, found, scope, receive)
        try:
            response = await self._middleware_chain(CallRequest(scope, call))
            await self.send_response(response, cast(Any, send))
            await call.end()
        finally:
            call.abandon()
