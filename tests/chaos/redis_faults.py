"""`make chaos-redis`: two workers share limits in a Redis that is frozen, killed, slow, cut off, emptied, spoiled and full.

    python -m tests.chaos.redis_faults [--phase 75] [--workers 2] [--database sqlite|postgres]

A limit of 60 a minute is never passed in any 60 s, and is used up where nothing failed; nobody hears a 5xx; Redis is asked again
within 10 s; budgets know nothing of it. Prints a table and a closing line, and exits 1 if any line misses its bound.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.proofs.callers import Line as Wire
from tests.chaos.balances import judge_balances
from tests.chaos.kill import machine
from tests.chaos.proxy import Proxy
from tests.chaos.redis_process import RedisProcess
from tests.chaos.stage import Key, Stage, chat
from tests.chaos.verdict_line import Line
from tests.support.oracle import Oracle
from tests.support.server import Server, Yard

LIMIT: Final = 60
#: A call is admitted a moment before the upstream sees it: two of them may come closer together, or further apart, by so much.
WINDOW: Final = 60.0 - 0.1
RECOVERY_SECONDS: Final = 10
#: In which the callers have asked for a minute's worth.
_USED_UP: Final = 30.0
_CONNECTIONS: Final = 6
_PAUSE: Final = 0.08
#: USD; some 25 calls fit.
_LITTLE: Final = "0.0005"

#: By the name of the key: `bursty` may use its minute at once, `steady` a sixth of it; `poor` has a budget, and no rate.
LIMITS: Final[dict[str, dict[str, Any]]] = {
    "bursty": {"rate_limit_rpm": LIMIT, "burst": LIMIT},
    "steady": {"rate_limit_rpm": LIMIT},
    "poor": {"cost_budget_usd": _LITTLE},
}
RATED: Final = ("bursty", "steady")


@dataclass(frozen=True)
class Fault:
    """`begin` and `end` do it to Redis; in between are so many seconds of a phase's `share`."""

    name: str
    begin: Callable[[RedisProcess, Proxy], None]
    end: Callable[[RedisProcess, Proxy], None]
    share: float = 0.25


def _nothing(process: RedisProcess, wire: Proxy) -> None:
    """Nothing is to be undone, or done."""


def _delay(seconds: float) -> Callable[[RedisProcess, Proxy], None]:
    def delay(process: RedisProcess, wire: Proxy) -> None:
        wire.delay = seconds

    return delay


CALM: Final = Fault("calm", _nothing, _nothing, 0.0)
FAULTS: Final = (
    Fault("frozen", lambda process, wire: process.freeze(), lambda process, wire: process.thaw()),
    Fault("killed", lambda process, wire: process.kill(), lambda process, wire: process.start()),
    Fault("slow", _delay(0.2), _delay(0.0)),
    Fault("cut off", lambda process, wire: wire.cut(), lambda process, wire: wire.mend(), 0.05),
    Fault("emptied", lambda process, wire: process.flush(), _nothing, 0.0),
    Fault("spoiled", lambda process, wire: process.spoil(), _nothing, 0.0),
    Fault(
        "full", lambda process, wire: process.fill(True), lambda process, wire: process.fill(False)
    ),
)


@dataclass
class Phase:
    """What callers heard: seconds of each answer, how many of each status, and which keys were refused for their rate.
    `recovered_in`: None if nothing failed.
    """

    name: str
    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    used_up: set[str] = field(default_factory=set)
    lasted: float = 0.0
    recovered_in: float | None = None


class Pressure:
    """Callers who never stop asking, on connections of their own, so that every worker is asked for every key."""

    def __init__(self, port: int, keys: dict[str, Key]) -> None:
        self.phase = Phase("")
        self._port = port
        self._keys = keys
        self._over = False

    async def run(self) -> None:
        await asyncio.gather(*(self._ask(name) for name in self._keys for _ in range(_CONNECTIONS)))

    def stop(self) -> None:
        self._over = True

    async def _ask(self, name: str) -> None:
        request = _request(self._port, self._keys[name], name)
        loop = asyncio.get_running_loop()
        _, wire = await loop.create_connection(Wire, "127.0.0.1", self._port)
        while not self._over:
            try:
                answer = await wire.ask(request)
            except (ConnectionError, TimeoutError) as fault:
                self.phase.statuses[f"5xx: {type(fault).__name__}"] += 1
                _, wire = await loop.create_connection(Wire, "127.0.0.1", self._port)
                continue
            kind = f"5xx: {answer.status}" if answer.status >= 500 else str(answer.status)
            self.phase.statuses[f"{kind} {answer.code}".strip()] += 1
            self.phase.seconds.append(answer.seconds)
            if answer.status == 429:
                self.phase.used_up.add(name)
            await asyncio.sleep(_PAUSE)
        wire.close()


def _request(port: int, key: Key, name: str) -> bytes:
    body = json.dumps(chat(f"up/{name}~ok", max_tokens=5)).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
        f"authorization: Bearer {key.credential}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@dataclass(frozen=True)
class Outcome:
    lines: list[Line]
    phases: list[Phase]
    exit_code: int
    log: str

    @property
    def missed(self) -> list[Line]:
        return [line for line in self.lines if not line.holds]


@contextmanager
def redis_behind_a_wire(folder: Path) -> Iterator[tuple[RedisProcess, Proxy, dict[str, str]]]:
    """With what a server must be told to find it."""
    with RedisProcess(folder) as process, Proxy("127.0.0.1", process.port) as wire:
        told = {"REDIS_URL": f"redis://127.0.0.1:{wire.port}/0", "GATEHOUSE_REDIS_PREFIX": "chaos:"}
        yield process, wire, told


def run(
    server: Server,
    password: str,
    redis: tuple[RedisProcess, Proxy],
    faults: Sequence[Fault],
    phase_seconds: float,
    say: Callable[[str], object] = lambda line: None,
) -> Outcome:
    """`server` is told of that Redis already; it is started, pressed through a calm phase and one for each fault, and stopped."""
    with Oracle() as oracle:
        server.start()
        stage = Stage(server, password)
        stage.add_oracle(oracle.api)
        keys = {name: stage.key(**limits) for name, limits in LIMITS.items()}
        phases = asyncio.run(_phases(server, keys, redis, [CALM, *faults], phase_seconds, say))
        code = server.stop()
        admitted = {
            name: sorted(call.at for call in oracle.made() if call.model == f"{name}~ok")
            for name in keys
        }
    lines = [*judge(admitted, phases, phases[0].lasted), *judge_balances(server)]
    return Outcome(lines, phases, code, server.log_text())


async def _phases(
    server: Server,
    keys: dict[str, Key],
    redis: tuple[RedisProcess, Proxy],
    faults: Sequence[Fault],
    seconds: float,
    say: Callable[[str], object],
) -> list[Phase]:
    pressure = Pressure(server.port, keys)
    load = asyncio.create_task(pressure.run())
    phases = []
    try:
        for fault in faults:
            pressure.phase = Phase(fault.name)
            phases.append(pressure.phase)
            await _one_phase(fault, pressure.phase, redis, seconds)
            say(f"{fault.name}: {dict(pressure.phase.statuses)}")
    finally:
        pressure.stop()
        await load
    return phases


async def _one_phase(
    fault: Fault, phase: Phase, redis: tuple[RedisProcess, Proxy], seconds: float
) -> None:
    began = time.monotonic()
    await asyncio.to_thread(fault.begin, *redis)
    await asyncio.sleep(fault.share * seconds)
    await asyncio.to_thread(fault.end, *redis)
    if fault is not CALM:
        ended, before = time.monotonic(), await asyncio.to_thread(redis[0].commands_run)
        limit = max(0.0, began + seconds - ended)
        while await asyncio.to_thread(redis[0].commands_run) <= before:
            if time.monotonic() > ended + max(limit, RECOVERY_SECONDS + 1):
                break
            await asyncio.sleep(0.05)
        phase.recovered_in = time.monotonic() - ended
    await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
    # On a busy machine the callers may need longer to ask for all that they may have.
    until = began + _USED_UP
    while fault is CALM and "bursty" not in phase.used_up and time.monotonic() < until:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    phase.lasted = time.monotonic() - began


def judge(admitted: dict[str, list[float]], phases: list[Phase], calm_seconds: float) -> list[Line]:
    """`admitted`: when the upstream saw each call of a key. Nothing failed in the first `calm_seconds`."""
    lines = []
    for name in RATED:
        moments = admitted[name]
        until = moments[0] + min(calm_seconds, WINDOW) if moments else 0.0
        first = bisect_left(moments, until)
        lines += [
            Line(f"{name}: admitted", len(moments)),
            Line(f"{name}: most in any 60 s", most_in_a_window(moments), LIMIT),
            Line(
                f"{name}: in the first {min(calm_seconds, 60):.0f} s, while nothing failed", first
            ),
        ]
    # A sixth at once and one a second: of a short phase nothing more can be said.
    short = [name for name in RATED if name == "bursty" or calm_seconds >= 60]
    missing = sum(LIMIT - _first_minute(admitted[name], calm_seconds) for name in short)
    lines.append(Line(f"short of {LIMIT} where nothing failed", missing, 0))
    failures = [
        f"{n} × {s} while {p.name}" for p in phases for s, n in p.statuses.items() if "5xx" in s
    ]
    lines.append(Line("answers 5xx", len(failures), 0, failures))
    for phase in phases:
        slowest = (
            f"{phase.name}: p99 / slowest answer {_p99(phase):.0f} / {_slowest(phase):.0f} ms, of"
        )
        lines.append(Line(slowest, phase.statuses.total()))
        if phase.recovered_in is not None:
            name = f"{phase.name}: seconds until Redis is asked again (rounded up)"
            lines.append(Line(name, int(phase.recovered_in) + 1, RECOVERY_SECONDS))
    return lines


def _first_minute(moments: list[float], calm_seconds: float) -> int:
    return bisect_left(moments, moments[0] + min(calm_seconds, WINDOW)) if moments else 0


def most_in_a_window(moments: list[float]) -> int:
    """The largest number of moments in any window; they are sorted."""
    most = begin = 0
    for end, moment in enumerate(moments):
        while moment - moments[begin] >= WINDOW:
            begin += 1
        most = max(most, end - begin + 1)
    return most


def _p99(phase: Phase) -> float:
    seconds = sorted(phase.seconds)
    return 1000 * seconds[int(len(seconds) * 0.99)] if seconds else 0.0


def _slowest(phase: Phase) -> float:
    return 1000 * max(phase.seconds, default=0.0)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="chaos-redis")
    parser.add_argument("--phase", type=float, default=75.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    chosen = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gatehouse-chaos-") as folder:
        outcome = _stand_alone(Path(folder), chosen)
    for line in outcome.lines:
        _say(str(line))
    verdict = f"{len(outcome.missed)} lines missed" if outcome.missed else "all held"
    took = time.monotonic() - began
    _say(
        f"===== chaos-redis on {chosen.database}: {len(FAULTS)} faults; {verdict} in {took:.0f}s ====="
    )
    if outcome.missed:
        _say(outcome.log[-4000:])
    return 1 if outcome.missed or outcome.exit_code else 0


def _stand_alone(place: Path, chosen: argparse.Namespace) -> Outcome:
    for name in ("yard", "server", "redis"):
        (place / name).mkdir()
    with (
        Yard(place / "yard").opened() as yard,
        redis_behind_a_wire(place / "redis") as (process, wire, told),
        yard.server(
            place / "server", kind=chosen.database, redis=None, env=told, seed=True
        ) as server,
    ):
        _say(f"machine: {machine(server)}")
        server.workers = chosen.workers
        return run(server, yard.operator_password, (process, wire), FAULTS, chosen.phase, _say)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
