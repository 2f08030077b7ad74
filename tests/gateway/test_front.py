"""The front before Django: only so many requests at once are worked on, and health is asked past them."""

import asyncio
import json
from typing import Any

import pytest
from django.http import HttpRequest

from gateway import front, lateness
from gateway.front import Front, Message, Receive, Send


class Django:
    """An application that answers when it is told to."""

    def __init__(self) -> None:
        self.working = self.most = 0
        self.go_on = asyncio.Event()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.working += 1
        self.most = max(self.most, self.working)
        try:
            await self.go_on.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
        finally:
            self.working -= 1


async def ask(door: Front, path: str = "/v1/admin/keys") -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"{}"}

    async def send(message: Message) -> None:
        sent.append(message)

    await door.serve({"type": "http", "method": "POST", "path": path}, receive, send)
    return sent


async def in_pieces(door: Front, path: str, size: int, *, gate: asyncio.Event | None = None) -> Any:
    """The answer's first message to a body of so many bytes, in pieces of 256 KiB; the last comes when the gate is open."""
    sent: list[Message] = []
    left = size

    async def receive() -> Message:
        nonlocal left
        piece = min(left, 256 * 1024)
        left -= piece
        if not left and gate is not None:
            await gate.wait()
        return {"type": "http.request", "body": bytes(piece), "more_body": left > 0}

    async def send(message: Message) -> None:
        sent.append(message)

    await door.serve({"type": "http", "method": "POST", "path": path}, receive, send)
    return sent[0]


class Measuring:
    """An application that tells how much of a body it was given."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        size = 0
        while True:
            message = await receive()
            size += len(message.get("body", b""))
            if not message.get("more_body", False):
                break
        self.sizes.append(size)
        await send({"type": "http.response.start", "status": 200, "headers": []})


async def test_only_a_backup_may_be_large_and_only_up_to_its_limit(settings: Any):
    settings.MAX_IMPORT = 4 * 1024 * 1024
    django = Measuring()
    door = Front(django, seats=2)
    large = 3 * 1024 * 1024
    assert (await in_pieces(door, front.IMPORT, large))["status"] == 200
    assert django.sizes == [large]
    assert (await in_pieces(door, "/v1/admin/keys", large))["status"] == 413
    assert (await in_pieces(door, front.IMPORT, settings.MAX_IMPORT + 1))["status"] == 413
    assert django.sizes == [large]


async def test_a_worker_reads_one_large_body_at_a_time(settings: Any):
    settings.MAX_IMPORT = 4 * 1024 * 1024
    django = Measuring()
    door = Front(django, seats=3)
    gate = asyncio.Event()
    large = 2 * 1024 * 1024
    first = asyncio.create_task(in_pieces(door, front.IMPORT, large, gate=gate))
    await turns()
    second = asyncio.create_task(in_pieces(door, front.IMPORT, large))
    await turns()
    await turns()
    assert django.sizes == []
    assert (await in_pieces(door, front.IMPORT, 1000))["status"] == 200
    assert not second.done()
    gate.set()
    assert [answer["status"] for answer in await asyncio.gather(first, second)] == [200, 200]
    assert django.sizes == [1000, large, large]


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_only_so_many_requests_are_worked_on_at_once():
    django = Django()
    door = Front(django, seats=2)
    asked = [asyncio.create_task(ask(door)) for _ in range(6)]
    await turns()
    assert django.working == 2
    django.go_on.set()
    answers = await asyncio.gather(*asked)
    assert [answer[0]["status"] for answer in answers] == [200] * 6
    assert django.most == 2


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/v1/admin/auth/login", {"error", "request_id"}),
        ("/v1/unknown", {"error"}),
    ],
)
async def test_who_waits_too_long_for_a_seat_is_told_to_come_back(
    path: str, shape: set[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(front, "SEAT_SECONDS", 0.01)
    django = Django()
    door = Front(django, seats=1)
    first = asyncio.create_task(ask(door))
    await turns()
    start, body = await ask(door, path)
    said: dict[str, Any] = json.loads(body["body"])
    assert (start["status"], said["error"]["code"]) == (503, "overloaded")
    assert (b"retry-after", b"1") in start["headers"]
    assert set(said) == shape
    django.go_on.set()
    assert (await first)[0]["status"] == 200
    assert (await ask(door, path))[0]["status"] == 200, "the seat is free again"


async def test_not_even_waiting_goes_on_without_bound(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(front, "MAX_WAITING", 3)
    django = Django()
    door = Front(django, seats=1)
    asked = [asyncio.create_task(ask(door)) for _ in range(4)]
    await turns()
    assert (await ask(door))[0]["status"] == 503
    django.go_on.set()
    assert [answer[0]["status"] for answer in await asyncio.gather(*asked)] == [200] * 4


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health"])
async def test_health_is_answered_while_every_seat_is_taken(path: str):
    django = Django()
    door = Front(django, seats=1)
    asked = [asyncio.create_task(ask(door, each)) for each in ("/v1/admin/keys", path)]
    await turns()
    assert django.working == 2
    django.go_on.set()
    await asyncio.gather(*asked)


async def test_a_flood_of_sign_ins_leaves_seats_for_who_is_signed_in():
    django = Django()
    door = Front(django, seats=4)
    login = "/v1/admin/auth/login"
    flood = [asyncio.create_task(ask(door, login)) for _ in range(front.MAX_WAITING + 10)]
    await turns()
    assert django.working == 2
    others = [asyncio.create_task(ask(door)) for _ in range(3)]
    await turns()
    assert django.working == 4
    django.go_on.set()
    answers = await asyncio.gather(*others)
    assert [answer[0]["status"] for answer in answers] == [200] * 3
    statuses = [answer[0]["status"] for answer in await asyncio.gather(*flood)]
    assert statuses == [200] * (front.MAX_WAITING + 2) + [503] * 8


async def test_a_request_that_is_called_off_gives_its_seat_back():
    django = Django()
    door = Front(django, seats=1)
    for _ in range(3):
        asked = asyncio.create_task(ask(door))
        await turns()
        assert django.working == 1
        asked.cancel()
        await turns()
        assert django.working == 0


async def test_an_answer_that_is_late_on_purpose_holds_no_seat(monkeypatch):
    waited: list[float] = []
    come = asyncio.Event()

    async def wait(seconds: float) -> None:
        waited.append(seconds)
        await come.wait()

    async def guessed_at(scope: Message, receive: Receive, send: Send) -> None:
        request = HttpRequest()
        setattr(request, "scope", scope)  # noqa: B010 - as Django's own for ASGI has it
        lateness.hold_back(request, 2.0)
        lateness.hold_back(request, 0.5)
        await send({"type": "http.response.start", "status": 401, "headers": []})

    door = Front(guessed_at, seats=1)
    monkeypatch.setattr(front, "pause", wait)
    sign_ins = [asyncio.create_task(ask(door, "/v1/admin/auth/login")) for _ in range(20)]
    for _ in range(100):
        await asyncio.sleep(0)
    assert waited == [2.0] * 20
    assert not any(task.done() for task in sign_ins)
    assert (await ask(door))[0]["status"] == 401
    come.set()
    answers = await asyncio.gather(*sign_ins)
    assert [answer[0]["status"] for answer in answers] == [401] * 20
