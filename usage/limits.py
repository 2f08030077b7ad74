"""Requests per minute and calls at once, in this process's memory: one all-or-nothing take over every level.

Two rules stand for a rate, and both must agree. A bucket (GCRA, written as a meter that drains at `limit` per minute) lets at
most `burst` requests through at once; a sliding window lets at most `limit` through in any 60 s. Together no edge of a window
can be used twice, and the sustained rate is still the whole limit. Belongs to one thread; `now` is monotonic seconds.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

WINDOW: Final = 60.0
#: Share of a limit that may come at once where no burst is given.
_BURST_SHARE: Final = 6
#: Admissions this close together leave the window together, when the last of them may: it bounds what a level remembers.
_GRAIN: Final = 0.25
#: Idle levels that one take forgets, at most. More than it can add, so that memory follows use.
_SWEEP: Final = 8
_SLOT_RETRY: Final = 1
#: The meter adds and drains floats; a bucket that is full but for that must not refuse.
_ROUNDING: Final = 1e-9

Reason = Literal["requests", "concurrency"]


@dataclass(frozen=True, slots=True)
class Level:
    """One limit-bearing thing a call belongs to: (kind, id) names it, None means no limit of that sort.

    `burst`: requests at once, by default a sixth of `rpm`, at least 1.
    """

    kind: str
    id: str
    rpm: int | None = None
    concurrency: int | None = None
    burst: int | None = None

    @property
    def at_once(self) -> int:
        """The burst that counts; 0 without a rate."""
        return 0 if self.rpm is None else self.burst or max(1, self.rpm // _BURST_SHARE)


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was taken. `retry_after`: whole seconds until that level would let a call through, if nobody else came.

    `remaining` is 0: now, there is none. `reset_seconds`: until the level is as if never used.
    """

    level_kind: str
    reason: Reason
    retry_after: int
    limit: int
    remaining: int
    reset_seconds: float


class Lease:
    """What a call took. `limit`, `remaining` and `reset_seconds` are of the level with the least left; None without a rate."""

    __slots__ = ("_held", "limit", "remaining", "reset_seconds")

    def __init__(self, held: list["_Meter"]) -> None:
        self._held = held
        self.limit: int | None = None
        self.remaining: int | None = None
        self.reset_seconds: float | None = None

    def release(self) -> None:
        """Gives the slots back, once; requests stay counted."""
        held, self._held = self._held, []
        for meter in held:
            meter.active -= 1


@dataclass(slots=True)
class _Meter:
    """What a level has seen. `runs`: [first, last, count] of admissions in the window, `used` their sum."""

    active: int = 0
    used: int = 0
    level: float = 0.0
    at: float = 0.0
    runs: deque[list[float]] = field(default_factory=deque)

    def advance(self, now: float, rpm: int | None, burst: int) -> None:
        """Drains the bucket and lets go of what is 60 s old. A bucket made smaller is full, not over-full."""
        drained = max(0.0, now - self.at) * (rpm or 0) / WINDOW
        self.level = max(0.0, min(self.level, burst) - drained)
        self.at = now
        while self.runs and now - self.runs[0][1] >= WINDOW:
            self.used -= int(self.runs.popleft()[2])

    def wait(self, now: float, rpm: int, burst: int) -> float:
        """Seconds until one more request is let through; 0 now. After `advance`."""
        over = self.level + 1 - burst
        bucket = over * WINDOW / rpm if over > _ROUNDING else 0.0
        leaving = 0
        window = 0.0
        for _, last, count in self.runs:
            if self.used - leaving < rpm:
                break
            leaving += int(count)
            window = last + WINDOW - now
        return max(bucket, window)

    def count(self, now: float) -> None:
        self.level += 1
        self.used += 1
        if self.runs and now - self.runs[-1][0] < _GRAIN:
            self.runs[-1][1] = now
            self.runs[-1][2] += 1
        else:
            self.runs.append([now, now, 1])

    def reset(self, now: float) -> float:
        return max(0.0, self.runs[-1][1] + WINDOW - now) if self.runs else 0.0

    def idle(self, now: float) -> bool:
        return self.active == 0 and (not self.runs or now - self.runs[-1][1] >= WINDOW)


class Limits:
    """The meters of all levels in use. A level idle for a minute is forgotten; one in use never is."""

    def __init__(self) -> None:
        self._meters: OrderedDict[tuple[str, str], _Meter] = OrderedDict()

    def __len__(self) -> int:
        return len(self._meters)

    def take(self, levels: Sequence[Level], now: float) -> Lease | Refused:
        """A request and a slot of every level, or nothing of any. The refusal is the one with the longest wait."""
        self._forget_idle(now)
        limited = [level for level in levels if (level.rpm or level.concurrency) is not None]
        taken = [(level, self._meter(level, now)) for level in limited]
        refusals = [
            refused
            for level, meter in taken
            if (refused := _refusal(level, meter, now)) is not None
        ]
        if refusals:
            return max(refusals, key=lambda refused: refused.retry_after)
        lease = Lease([meter for _, meter in taken])
        for level, meter in taken:
            meter.active += 1
            if level.rpm is None:
                continue
            meter.count(now)
            left = level.rpm - meter.used
            if lease.remaining is None or left < lease.remaining:
                lease.limit, lease.remaining = level.rpm, left
                lease.reset_seconds = meter.reset(now)
        return lease

    def _meter(self, level: Level, now: float) -> _Meter:
        name = (level.kind, level.id)
        meter = self._meters.get(name)
        if meter is None:
            meter = self._meters[name] = _Meter(at=now)
        else:
            self._meters.move_to_end(name)
        meter.advance(now, level.rpm, level.at_once)
        return meter

    def _forget_idle(self, now: float) -> None:
        """Looks at the levels asked for longest ago; those with calls still running go to the end of the queue."""
        for _ in range(min(_SWEEP, len(self._meters))):
            name, meter = next(iter(self._meters.items()))
            if meter.idle(now):
                del self._meters[name]
            elif meter.active:
                self._meters.move_to_end(name)
            else:
                return


def _refusal(level: Level, meter: _Meter, now: float) -> Refused | None:
    if level.rpm is not None:
        wait = meter.wait(now, level.rpm, level.at_once)
        if wait > 0:
            retry_after = max(1, math.ceil(wait))
            reset = meter.reset(now)
            return Refused(level.kind, "requests", retry_after, level.rpm, 0, reset)
    if level.concurrency is not None and meter.active >= level.concurrency:
        return Refused(level.kind, "concurrency", _SLOT_RETRY, level.concurrency, 0, _SLOT_RETRY)
    return None
