"""Between Django's task and the call's own: a piece at a time, and whichever ends first, the other hears of it."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.relay import endpoints
from gateway.relay.driver import Message, Receive, Send
from gateway.views import handler
from gateway.views.handler import CallHandler

Script = Callable[[Send], Awaitable[None]]
SCOPE: Message = {
    "type": "http",
    "method": "POST",
    "path": "/v1/chat/completions",
    "query_string": b"\xff",
    "headers": [(b"content-type", b"a/b; x*=no-such-code''%20"), (b"accept", b"text/event-stream")],
    "client": ("127.0.0.1", 4711),
}
HEAD: Message = {"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"b")]}


def piece(body: bytes, more: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


class Server:
    """What the server sees of one call. While `is_open` is not set, it takes nothing more than it has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, script: Script) -> None:
        class Scripted:
            def __init__(self, relay: Any, receive: Receive, send: Send) -> None:
                self._send = send

            async def run(self, *head: Any) -> None:
                await script(self._send)

        monkeypatch.setattr(handler, "Conversation", Scripted)
        self.sent: list[Message] = []
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def _receive(self) -> Message:
        raise AssertionError("the body is the conversation's to read")

    async def _send(self, message: Message) -> None:
        self.sent.append(message)
        await self.is_open.wait()

    async def serve(self) -> None:
        found = endpoints.find("POST", SCOPE["path"])
        assert found is not None
        relay: Any = None
        await CallHandler().serve(relay, found, SCOPE, self._receive, self._send)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_an_answer_is_the_conversations_head_and_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def script(send: Send) -> None:
        await send(HEAD)
        await send(piece(b"a", more=True))
        await send(piece(b"b", more=False))

    server = Server(monkeypatch, script)
    await server.serve()
    assert (server.sent[0]["status"], dict(server.sent[0]["headers"])[b"x-a"]) == (200, b"b")
    assert server.body == b"ab"
    assert [message.get("more_body", False) for message in server.sent[1:]] == [True, True, False]


async def test_a_piece_is_asked_for_when_the_one_before_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offered = []

    async def script(send: Send) -> None:
        await send(HEAD)
        for n in range(5):
            offered.append(n)
            await send(piece(b"x", more=n < 4))

    server = Server(monkeypatch, script)
    server.is_open.clear()
    serving = asyncio.create_task(server.serve())
    await turns()
    assert offered == [0]
    server.is_open.set()
    await serving
    assert server.body == b"xxxxx"


async def test_what_breaks_before_the_head_is_a_500(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(send: Send) -> None:
        raise RuntimeError("secret detail")

    server = Server(monkeypatch, script)
    await server.serve()
    start = server.sent[0]
    error = json.loads(server.body)["error"]
    assert (start["status"], error["code"]) == (500, "internal_error")
    assert len(dict(start["headers"])[b"x-request-id"]) == 32
    assert b"secret" not in server.body


@pytest.mark.parametrize("fault", [RuntimeError, asyncio.CancelledError])
async def test_what_breaks_after_the_head_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, fault: type[BaseException]
) -> None:
    """An answer that is not whole must not look like one, and whoever was given up does not wait for a slow reader."""

    async def script(send: Send) -> None:
        await send(HEAD)
        taken = asyncio.ensure_future(send(piece(b"a", more=True)))
        await turns()
        taken.cancel()
        raise fault

    server = Server(monkeypatch, script)
    server.is_open.clear()
    serving = asyncio.create_task(server.serve())
    await asyncio.wait({serving}, timeout=10)
    assert serving.cancelled()
    assert all(message.get("more_body", True) for message in server.sent)


async def test_a_caller_who_left_before_the_head_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(send: Send) -> None:
        return

    server = Server(monkeypatch, script)
    await server.serve()
    assert (server.sent[0]["status"], server.body) == (499, b"")


@pytest.mark.parametrize("has_begun", [False, True])
async def test_whoever_gives_the_request_up_ends_the_call(
    monkeypatch: pytest.MonkeyPatch, has_begun: bool
) -> None:
    ended = asyncio.Event()

    async def script(send: Send) -> None:
        try:
            if has_begun:
                await send(HEAD)
            await asyncio.Event().wait()
        finally:
            ended.set()

    serving = asyncio.create_task(Server(monkeypatch, script).serve())
    await turns()
    serving.cancel()
    await asyncio.wait_for(ended.wait(), 10)
    await asyncio.wait({serving}, timeout=10)
    assert serving.cancelled()


async def test_the_request_is_over_when_the_call_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a refusal it may still be reading what its caller sends: the connection would be reset under them."""
    go_on = asyncio.Event()

    async def script(send: Send) -> None:
        await send(HEAD)
        await send(piece(b"no", more=False))
        await go_on.wait()

    server = Server(monkeypatch, script)
    serving = asyncio.create_task(server.serve())
    await turns()
    assert server.sent[-1].get("more_body", False) is False
    assert not serving.done()
    go_on.set()
    await asyncio.wait_for(serving, 10)
