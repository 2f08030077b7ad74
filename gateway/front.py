"""In front of Django: the body of a request, bounded, and a seat before it is worked on. Django's own ASGI handler spools a body
without end to disk before any view or limit of ours is asked, and gives every request a thread, which may hold a connection.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from typing import Any, Final

from django.conf import settings

from gateway import context, lateness
from gateway.api import errors
from gateway.api.errors import Answer
from gateway.console_middleware import bare_headers, is_console
from gateway.console_views import errors as pages
from gateway.metrics import planes
from gateway.metrics.meters import NO_DIALECT, meters
from gateway.relay.errors import OVERLOADED, SLOW_BODY, Problem, body_too_large
from providers.dialects import openai

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

#: Bytes. Above every limit of a view behind it; those give the better sentence.
MAX_BODY: Final = 1024 * 1024
#: Where a larger one may come, one at a time: anybody can send it, and who they are is only asked later.
IMPORT: Final = "/v1/admin/backup/import"
#: Seconds in which the whole of it must come.
BODY_SECONDS: Final = 60.0
#: Seconds that a request waits for a seat.
SEAT_SECONDS: Final = 2.0
#: Requests that wait; one more is refused at once.
MAX_WAITING: Final = 100
#: They hold nothing that others need, and must answer while everything else is busy.
_NEED_NO_SEAT: Final = frozenset(("/livez", "/readyz", "/health", "/metrics"))
_ADMIN: Final = "/v1/admin"
_CONSOLE: Final = "/console"
#: Where a password is hashed, which is slow on purpose.
_SIGN_INS: Final = frozenset(
    (
        f"{_ADMIN}/auth/login",
        f"{_ADMIN}/auth/accept-invitation",
        f"{_CONSOLE}/sign-in/",
        f"{_CONSOLE}/password/",
    )
)


#: What an answer that is late waits by.
pause = asyncio.sleep


class _TooLarge(Exception):
    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit


class Seats:
    """So many at once; who gets none in time goes away. Lives on the loop."""

    def __init__(self, number: int) -> None:
        self._free = asyncio.Semaphore(number)
        self._waiting = 0

    async def take(self) -> bool:
        if self._waiting >= MAX_WAITING:
            return False
        self._waiting += 1
        try:
            async with asyncio.timeout(SEAT_SECONDS):
                await self._free.acquire()
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
        return True

    def leave(self) -> None:
        self._free.release()


class Front:
    """Hands requests on to `application`, so many at once as there are `seats`. One for a worker; lives on its loop.

    Sign-ins get half of them: anybody may ask for one, each costs a slow hash, and an operator must still get through.
    """

    def __init__(self, application: Application, seats: int) -> None:
        self._application = application
        self._large = asyncio.Lock()
        self._seats = Seats(seats)
        self._sign_in_seats = Seats(max(1, seats // 2))

    async def serve(self, scope: Message, receive: Receive, send: Send) -> None:
        """Hand the request on with its body read, or answer 408, 413 or 503.

        The answer to a sign-in is small. It goes when nothing is held any more, and later still if the view asked for it.
        """
        if not _is_sign_in(scope):
            await self._hand_on(scope, receive, send)
            return
        late = lateness.put_into(scope)
        answer: list[Message] = []

        async def keep(message: Message) -> None:
            answer.append(message)

        await self._hand_on(scope, receive, keep)
        await pause(late.seconds)
        for message in answer:
            await send(message)

    async def _hand_on(self, scope: Message, receive: Receive, send: Send) -> None:
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    pending = [await self._read(scope, receive, stack)]
            except TimeoutError:
                await _refuse(scope, send, SLOW_BODY)
                return
            except _TooLarge as refusal:
                await _refuse(scope, send, body_too_large(refusal.limit))
                return

            async def replay() -> Message:
                return pending.pop() if pending else await receive()

            for seats in self._needed(scope):
                if not await seats.take():
                    await _refuse(scope, send, OVERLOADED)
                    return
                stack.callback(seats.leave)
            await self._application(scope, replay, _counting(scope, send))

    async def _read(self, scope: Message, receive: Receive, stack: AsyncExitStack) -> Message:
        """The whole body as one message; a departure as it is. Raises `_TooLarge`. A large one has its place until the end."""
        limit = settings.MAX_IMPORT if scope["path"] == IMPORT else MAX_BODY
        body = bytearray()
        is_large = False
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return message
            body += message.get("body", b"")
            if len(body) > limit:
                raise _TooLarge(limit)
            if len(body) > MAX_BODY and not is_large:
                is_large = True
                await self._large.acquire()
                stack.callback(self._large.release)
            if not message.get("more_body", False):
                # A large one is not copied.
                whole = body if is_large else bytes(body)
                return {"type": "http.request", "body": whole, "more_body": False}

    def _needed(self, scope: Message) -> tuple[Seats, ...]:
        if scope["path"] in _NEED_NO_SEAT:
            return ()
        return (self._sign_in_seats, self._seats) if _is_sign_in(scope) else (self._seats,)


def _is_sign_in(scope: Message) -> bool:
    return scope["path"] in _SIGN_INS and scope["method"] == "POST"


def _counting(scope: Message, send: Send) -> Send:
    plane = planes.plane_of(scope["path"])

    async def counted(message: Message) -> None:
        if message["type"] == "http.response.start":
            meters().answered(plane, NO_DIALECT, message["status"])
        await send(message)

    return counted


async def _refuse(scope: Message, send: Send, problem: Problem) -> None:
    send = _counting(scope, send)
    own = context.request_id_for(None)
    body, described = _refusal(scope["path"], problem, own)
    label = own.encode()
    headers = [
        *described,
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", label),
        (b"request-id", label),
        *problem.headers,
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _refusal(path: str, problem: Problem, own: str) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Body and headers in the shape of the door that was knocked at."""
    if is_console(path):
        return pages.bare(problem.status, own), bare_headers()
    is_admin = path == _ADMIN or path.startswith(f"{_ADMIN}/")
    body = _admin_body(problem, own) if is_admin else problem.body(openai)
    return body, [(b"content-type", b"application/json")]


def _admin_body(problem: Problem, own: str) -> bytes:
    answer = Answer(problem.status, problem.code, problem.message)
    return json.dumps(errors.body(answer, own), ensure_ascii=False).encode()
