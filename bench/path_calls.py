"""The calls of `python -m bench.path`: `python -m bench.path_calls KEY PORT ROUNDS PROFILE`, in an installation of its own whose
provider is on that port.
"""

import asyncio
import cProfile
import json
import pstats
import socket
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from types import FrameType
from typing import Any, Final

import django
import uvloop

from gateway import compiled

compiled.use()
django.setup()

from bench.load import BODY  # noqa: E402
from gateway.edge.connection import CallerConnection, Edge  # noqa: E402
from gateway.proofs.upstream import ANSWER  # noqa: E402
from gateway.relay.relay import Relay  # noqa: E402

_CALLS: Final = 20
_WARM_UP: Final = 50
_BODY: Final = json.dumps(BODY).encode()
_FUNCTIONS_SHOWN: Final = 50


class Wire:
    """Stands for a transport: keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else None

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, **limits: int) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def abort(self) -> None: ...

    def close(self) -> None: ...


class Line:
    """A caller on one end of a relay, and an upstream on the other that answers when it is told to."""

    def __init__(self, relay: Relay, key: str) -> None:
        self._relay = relay
        self._wire = Wire()
        edge = Edge(relay.loop, set(), 60.0, lambda was_used: asyncio.Protocol())
        self._caller = CallerConnection(edge, relay)
        self._caller.connection_made(self._wire)  # type: ignore[arg-type]
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: */*\r\nuser-agent: bench\r\n"
            f"authorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: {len(_BODY)}\r\n\r\n"
        )
        self._request = head.encode() + _BODY

    async def open(self, port: int) -> None:
        """The first call goes over a real connection, which is kept for the others."""
        with socket.create_server(("127.0.0.1", port)) as listener:
            listener.setblocking(False)
            self._caller.data_received(self._request)
            self._far, _ = await self._relay.loop.sock_accept(listener)
        self._far.setblocking(False)
        while not self._is_sent():  # noqa: ASYNC110 - nobody can tell us
            await asyncio.sleep(0.001)
        await self._relay.loop.sock_sendall(self._far, ANSWER)
        while not self._wire.written:  # noqa: ASYNC110 - nobody can tell us
            await asyncio.sleep(0.001)
        # What arrives on it is handed over by us from now on: the loop would have to be asked to look.
        transport: Any = self._relay.upstreams.transport
        ((self._upstream,),) = (pool._idle for pool in transport._pools.values())

    def call(self) -> bool:
        """One call; False if it could not be sent at once, because the limits had to be asked."""
        self._caller.data_received(self._request)
        if not self._is_sent():
            return False
        self._upstream.data_received(ANSWER)
        return True

    async def end(self) -> None:
        """The end of a call that had to wait."""
        while not self._is_sent():  # noqa: ASYNC110 - nobody can tell us
            await asyncio.sleep(0.001)
        self._upstream.data_received(ANSWER)

    def check(self) -> None:
        """That all answers since the last time were good."""
        for answer in self._wire.written:
            if not answer.startswith(b"HTTP/1.1 200 OK"):
                raise SystemExit(f"an answer was not good: {answer[:500]!r}")
        self._wire.written.clear()

    def _is_sent(self) -> bool:
        try:
            return bool(self._far.recv(65_536))
        except BlockingIOError:
            return False


class Frames:
    """Counts the Python functions that are entered."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        self.count += event == "call"


async def run(key: str, port: int, rounds: int, is_profiled: bool) -> None:
    relay = await Relay.start()
    line = Line(relay, key)
    await line.open(port)
    for _ in range(_WARM_UP):
        await _one(line)
    frames = Frames()
    sys.setprofile(frames)
    line.call()
    sys.setprofile(None)
    profiler = cProfile.Profile() if is_profiled else None
    found = [each for _ in range(rounds) if (each := await _round(line, profiler)) is not None]
    if profiler is not None:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(_FUNCTIONS_SHOWN)
    else:
        low, middle = min(found) * 1e6, median(found) * 1e6
        sys.stdout.write(
            f"µs a call on the loop's thread: lowest {low:.1f}, median {middle:.1f}, of {len(found)} rounds of {_CALLS};"
            f" {frames.count} Python functions\n"
        )
    await relay.stop()


async def _one(line: Line) -> None:
    if not line.call():
        await line.end()
    await asyncio.sleep(0.002)


async def _round(line: Line, profiler: cProfile.Profile | None) -> float | None:
    """Seconds of the thread's own time for a call; None if one of them had to wait. Between rounds others have their turn."""
    watched: AbstractContextManager[object] = profiler or nullcontext()
    waited = False
    began = time.thread_time()
    for _ in range(_CALLS):
        with watched:
            is_sent = line.call()
        if not is_sent:
            waited = True
            await line.end()
    took = (time.thread_time() - began) / _CALLS
    await asyncio.sleep(0.005)
    line.check()
    return None if waited else took


if __name__ == "__main__":
    key, *numbers = sys.argv[1:]
    port, rounds, is_profiled = map(int, numbers)
    uvloop.run(run(key, port, rounds, bool(is_profiled)))
