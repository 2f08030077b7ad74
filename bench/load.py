"""The callers: `python -m bench.load` reads what to do from standard input, connects, says `ready`, waits for one more line, and
prints what came of it. Both are one line of JSON.

Calls: so many connections, each sending the next call when the last is answered, for so many seconds. Streams: so many at
once, each to its end. The clock is monotonic and the same for every process of the machine.
"""

import asyncio
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast

import uvloop

READY: Final = "ready"
PATIENCE: Final = 60.0
"""Seconds that the last answers may take after the end of a run."""
BODY: Final = {
    "model": "bench",
    "messages": [
        {"role": "system", "content": "You are a helpful assistant. Answer briefly."},
        {"role": "user", "content": "What is the difference between a gate and a wall? " * 6},
    ],
    "temperature": 0.7,
    "max_tokens": 256,
}
_LENGTH: Final = b"\r\ncontent-length:"
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
_MARK: Final = b'"@'


@dataclass(frozen=True)
class Task:
    """`connections` at once: calls for `seconds`, or, if that is 0, one stream each of `chunks` chunks, begun over `ramp` s."""

    port: int
    headers: dict[str, str]
    connections: int
    seconds: float = 0.0
    chunks: int = 0
    ramp: float = 0.0

    def request(self) -> bytes:
        streamed = {"stream": True, "stream_options": {"include_usage": True}}
        body = json.dumps(BODY if self.seconds else {**BODY, **streamed}).encode()
        head = [
            "POST /v1/chat/completions HTTP/1.1",
            f"host: 127.0.0.1:{self.port}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@dataclass(frozen=True)
class Outcome:
    """Times in µs. For streams the latency is that of the first chunk, and `transit` that of each chunk since it was sent."""

    done: int
    failed: int
    seconds: float
    p50: float
    p99: float
    chunks: int = 0
    transit_p50: float = 0.0
    transit_p99: float = 0.0
    cpu_seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


@dataclass
class Tally:
    """What all connections of a run write into; times in ns. After the deadline no call is begun."""

    latencies: list[int] = field(default_factory=list)
    transits: list[int] = field(default_factory=list)
    done: int = 0
    failed: int = 0
    faults: list[str] = field(default_factory=list)
    deadline: int = 0

    def fail(self, fault: str) -> None:
        self.failed += 1
        if len(self.faults) < 3:
            self.faults.append(fault[:300])

    def outcome(self, seconds: float) -> Outcome:
        return Outcome(
            done=self.done,
            failed=self.failed,
            seconds=seconds,
            p50=_percentile(self.latencies, 0.5),
            p99=_percentile(self.latencies, 0.99),
            chunks=len(self.transits),
            transit_p50=_percentile(self.transits, 0.5),
            transit_p99=_percentile(self.transits, 0.99),
            cpu_seconds=time.process_time(),
            faults=self.faults,
        )


def _percentile(nanoseconds: list[int], share: float) -> float:
    """In µs; 0 of nothing."""
    nanoseconds.sort()
    last = len(nanoseconds) - 1
    return nanoseconds[min(last, int(len(nanoseconds) * share))] / 1000 if nanoseconds else 0.0


class _Connection(asyncio.Protocol):
    """What both kinds share: an end that is told once."""

    def __init__(self, request: bytes, tally: Tally) -> None:
        self._request = request
        self._tally = tally
        self._buffer = b""
        self._sent = 0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"the connection ended within an answer: {self._buffer[:200]!r}")

    def send(self) -> None:
        self._sent = time.monotonic_ns()
        self._transport.write(self._request)

    def _end(self, fault: str = "") -> None:
        if not self.over.done():
            self.over.set_result(None)
            if fault:
                self._tally.fail(fault)
            self._transport.close()


class Caller(_Connection):
    """Calls, one after the other, until the time is over."""

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not _is_whole(self._buffer):
            return
        now = time.monotonic_ns()
        if self._buffer[9:12] != b"200":
            self._end(self._buffer[:300].decode(errors="replace"))
            return
        self._tally.done += 1
        self._tally.latencies.append(now - self._sent)
        self._buffer = b""
        if now < self._tally.deadline:
            self.send()
        else:
            self._end()


def _is_whole(answer: bytes) -> bool:
    head_end = answer.find(b"\r\n\r\n")
    if head_end < 0:
        return False
    head = answer[:head_end].lower()
    at = head.find(_LENGTH)
    if at < 0:
        return answer.endswith(b"0\r\n\r\n")
    return len(answer) >= head_end + 4 + int(head[at + len(_LENGTH) :].split(b"\r", 1)[0])


class Listener(_Connection):
    """One stream, to its end."""

    def __init__(self, request: bytes, tally: Tally, chunks: int) -> None:
        super().__init__(request, tally)
        self._expected = chunks
        self._seen = 0

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self._buffer = self._buffer + data if self._buffer else data
        at = self._read_chunks(now)
        if b"[DONE]" in self._buffer[at:]:
            self._finish()
        elif self._buffer.endswith(_LAST_CHUNK):
            self._end("a stream ended without [DONE]")
        elif not self._seen and self._buffer[9:12] not in {b"200", b""}:
            self._end(self._buffer[:300].decode(errors="replace"))
        else:
            self._buffer = self._buffer[at:] if self._seen else self._buffer

    def _read_chunks(self, now: int) -> int:
        """Note every chunk that is whole in the buffer; returns where the rest begins."""
        at = 0
        while (start := self._buffer.find(_MARK, at)) >= 0:
            end = self._buffer.find(b"@", start + 2)
            if end < 0:
                break
            if not self._seen:
                self._tally.latencies.append(now - self._sent)
            self._tally.transits.append(now - int(self._buffer[start + 2 : end]))
            self._seen += 1
            at = end
        return at

    def _finish(self) -> None:
        if self._seen == self._expected:
            self._tally.done += 1
            self._end()
        else:
            self._end(f"a stream ended after {self._seen} of {self._expected} chunks")


async def run(task: Task, when_connected: Callable[[], None]) -> Outcome:
    """Connect first, then begin: connecting is no part of the figures."""
    tally = Tally()
    connections = await _connected(task, tally)
    when_connected()
    started = time.monotonic_ns()
    tally.deadline = started + int(task.seconds * 1e9)
    for number, connection in enumerate(connections):
        await _until(started + int(task.ramp * 1e9 * number / task.connections))
        connection.send()
    _, late = await asyncio.wait(
        [connection.over for connection in connections], timeout=task.seconds + PATIENCE
    )
    for _ in late:
        tally.fail(f"no whole answer within {PATIENCE:.0f} s")
    return tally.outcome((time.monotonic_ns() - started) / 1e9)


async def _connected(task: Task, tally: Tally) -> list[_Connection]:
    request = task.request()
    loop = asyncio.get_running_loop()

    def protocol() -> _Connection:
        return Caller(request, tally) if task.seconds else Listener(request, tally, task.chunks)

    return [
        (await loop.create_connection(protocol, "127.0.0.1", task.port))[1]
        for _ in range(task.connections)
    ]


async def _until(moment: int) -> None:
    """Sleep to that moment of the monotonic clock, in ns."""
    if (left := moment - time.monotonic_ns()) > 0:
        await asyncio.sleep(left / 1e9)


def _wait_for_go() -> None:
    """Say that all are connected, and hold still until somebody has looked at the clock."""
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    sys.stdin.readline()


if __name__ == "__main__":
    given: dict[str, Any] = json.loads(sys.stdin.readline())
    outcome = uvloop.run(run(Task(**given), _wait_for_go))
    sys.stdout.write(json.dumps(dataclasses.asdict(outcome)) + "\n")
