"""Where the counts of shared limits stand: one protocol, and the store of a worker that is alone with its memory."""

import time
from collections import OrderedDict
from typing import Final, Protocol

from usage.buckets import State, work
from usage.rate_terms import Answer, Batch

#: Levels that one batch looks at to forget them, at most. More than it usually adds, so that memory follows use.
_SWEEP: Final = 16


class Store(Protocol):
    """Carries out batches, one at a time, each of them whole or not at all."""

    def work(self, batch: Batch) -> list[Answer]:
        """One answer per ask. Raises what the store's client raises when it is away."""


def monotonic_us() -> int:
    """Shared by all processes of a machine, and set by nobody."""
    return time.monotonic_ns() // 1000


class MemoryStore:
    """In this process. Idle levels are forgotten. `wall_us` is for the days."""

    def __init__(self) -> None:
        self._states: OrderedDict[str, State] = OrderedDict()

    def __len__(self) -> int:
        return len(self._states)

    def work(self, batch: Batch, now: int | None = None, wall: int | None = None) -> list[Answer]:
        now = monotonic_us() if now is None else now
        wall = time.time_ns() // 1000 if wall is None else wall
        states = {}
        for level in batch.levels():
            states[level] = self._states.setdefault(level, State())
            self._states.move_to_end(level)
        answers = work(states, batch, now, wall)
        self._forget_idle(now, wall)
        return answers

    def _forget_idle(self, now: int, wall: int) -> None:
        """Looks at those asked for longest ago; one that is still in use goes to the end."""
        for _ in range(min(_SWEEP, len(self._states))):
            level, state = next(iter(self._states.items()))
            state.advance(now)
            state.forget_days(wall)
            if state.is_idle:
                del self._states[level]
            else:
                self._states.move_to_end(level)
