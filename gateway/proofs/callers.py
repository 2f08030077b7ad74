"""Callers who share a key with a budget. All begin at once; who meets only holds tries again, until the answer is final.

A caller has one connection and one call at a time. Its HTTP is read by httptools; nothing of the product that is proved here
stands on the callers' side.
"""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, cast

import httptools

#: 402: nothing will change until the window ends. 429 with this code: only holds block, so trying again is right.
FINAL_STATUS: Final = 402
HELD: Final = (429, "budget_held")
#: Seconds until a held call is tried again: at first, and at most. It doubles, by chance a little more or less.
_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.5
ANSWER_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Answer:
    """`code` is the error's, empty on success; `seconds` from the request's last byte to the answer's last."""

    status: int
    code: str
    seconds: float


@dataclass
class Tally:
    """What a round's callers heard. `unexpected` counts what is neither an answer, nor held, nor final.

    A budget that lets through more than `most` holds nothing at all: then they stop. `waiting`: callers in the middle of a call.
    """

    most: int
    waiting: int = 0
    admitted: int = 0
    held: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    """Of admitted calls."""
    refusal_seconds: list[float] = field(default_factory=list)


class Line(asyncio.Protocol):
    """One connection, one call at a time."""

    def __init__(self) -> None:
        self._waiter: asyncio.Future[Answer] | None = None
        self._lost = False
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    async def ask(self, request: bytes) -> Answer:
        """Raises ConnectionError, TimeoutError."""
        if self._lost:
            raise ConnectionError("closed")
        self._waiter = asyncio.get_running_loop().create_future()
        self._sent = time.monotonic()
        self._transport.write(request)
        async with asyncio.timeout(ANSWER_SECONDS):
            return await self._waiter

    def close(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        code = "" if status == 200 else _code_of(self._body)
        answer = Answer(status, code, time.monotonic() - self._sent)
        self._begin()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionError("closed"))


def _code_of(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return "not of our form"


class Crowd:
    """So many callers with a connection each, kept over the rounds."""

    def __init__(self, port: int, size: int) -> None:
        self._port = port
        self._size = size
        self._chance = random.Random()  # noqa: S311 - spreads, hides nothing
        self._lines: list[Line] = []

    async def connect(self) -> None:
        """Raises OSError."""
        self._lines = [await self._line() for _ in range(self._size)]

    async def _line(self) -> Line:
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(Line, "127.0.0.1", self._port))[1]

    def close(self) -> None:
        for line in self._lines:
            line.close()

    async def round(self, requests: Sequence[bytes], tally: Tally, seconds: float) -> None:
        """All callers begin at once, each with one of `requests`, and go on until they hear a final no. Raises TimeoutError."""
        barrier = asyncio.Barrier(self._size)
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            for number in range(self._size):
                request = requests[number % len(requests)]
                group.create_task(self._call(number, request, barrier, tally))

    async def _call(
        self, number: int, request: bytes, barrier: asyncio.Barrier, tally: Tally
    ) -> None:
        await barrier.wait()
        pause = _FIRST_PAUSE
        while tally.admitted <= tally.most:
            tally.waiting += 1
            try:
                answer = await self._lines[number].ask(request)
            except (ConnectionError, TimeoutError) as fault:
                tally.unexpected[type(fault).__name__] += 1
                self._lines[number].close()
                self._lines[number] = await self._line()
                continue
            finally:
                tally.waiting -= 1
            if answer.status == 200:
                tally.admitted += 1
                tally.seconds.append(answer.seconds)
                pause = _FIRST_PAUSE
                continue
            tally.refusal_seconds.append(answer.seconds)
            if answer.status == FINAL_STATUS:
                tally.refused[answer.code] += 1
                return
            if (answer.status, answer.code) == HELD:
                tally.held += 1
            else:
                tally.unexpected[f"{answer.status} {answer.code}"] += 1
            await asyncio.sleep(pause * self._chance.uniform(0.5, 1.5))
            pause = min(2 * pause, _LONGEST_PAUSE)
