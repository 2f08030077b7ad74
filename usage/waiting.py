"""Calls whom only others stand in the way of: they wait for a moment, take nothing meanwhile, and ask again.

What a call has freed is with its worker until that has told the others. So whoever never has more running than they may, or a
budget that would pay for them, would be refused now and then; instead they ask again with each tick. Of each level that refused
calls the first one asks, and the next only when it was served: a crowd costs no more trips than one.
"""

from collections import deque
from collections.abc import Callable
from typing import Final
from uuid import UUID

from usage.parked import Waiter
from usage.wants import Refused, Want

#: Seconds for which a call waits.
PATIENCE: Final = 0.35
#: Such calls at once, for one level and in a worker: each has a seat, and a flood of them must not take everybody's.
MOST_OF_A_LEVEL: Final = 64
MOST: Final = 512
_ONLY_OTHERS: Final = frozenset(("concurrency", "budget_held"))


class WaitingRoom:
    """`ask` makes a waiter's take anew; what comes of it is told by `refused` or `left`, maybe before it returns."""

    def __init__(self, ask: Callable[[Waiter, float], None]) -> None:
        self._ask = ask
        self._queues: dict[UUID, deque[Waiter]] = {}
        #: Who asks just now, by the level.
        self._asking: dict[UUID, Waiter] = {}
        self._count = 0
        self._is_advancing = False

    def __len__(self) -> int:
        return self._count

    def refused(self, waiter: Waiter, refused: Refused, now: float) -> bool:
        """Whether the call waits: from now on, or once more. If not, it is to be told."""
        before, level_id = waiter.level_id, _level_of(waiter.want, refused)
        is_worth_it = refused.reason in _ONLY_OTHERS and now - waiter.at < PATIENCE
        if level_id is not None and level_id == before and is_worth_it:
            self._asking.pop(before, None)
            waiter.refused = refused
            # It stays the first, and asks with the next tick.
            self._queues.setdefault(before, deque()).appendleft(waiter)
            return True
        self.left(waiter, now)
        if level_id is None or not is_worth_it or self._count >= MOST:
            return False
        queue = self._queues.setdefault(level_id, deque())
        if len(queue) >= MOST_OF_A_LEVEL:
            return False
        waiter.refused, waiter.level_id = refused, level_id
        queue.append(waiter)
        self._count += 1
        return True

    def left(self, waiter: Waiter, now: float) -> None:
        """It was served, or is not to ask again. The next of its level asks."""
        level_id, waiter.level_id = waiter.level_id, None
        if level_id is None:
            return
        self._count -= 1
        self._asking.pop(level_id, None)
        if not self._is_advancing:
            self._advance(level_id, now)

    def tick(self, now: float) -> None:
        for waiter in [each for each in self._asking.values() if not each.waits()]:
            # Whoever was asked need not answer somebody who has left.
            self.left(waiter, now)
        for level_id in list(self._queues):
            self._dismiss(self._queues[level_id], now)
            self._advance(level_id, now)

    def _dismiss(self, queue: deque[Waiter], now: float) -> None:
        """Tells those who have waited long enough, and forgets who has left."""
        while queue and (now - queue[0].at >= PATIENCE or not queue[0].waits()):
            waiter = queue.popleft()
            waiter.level_id = None
            self._count -= 1
            if waiter.refused is not None and waiter.waits():
                waiter.answer(waiter.refused)

    def _advance(self, level_id: UUID, now: float) -> None:
        """Asks for the first, and for the next as long as they are served at once."""
        queue = self._queues.get(level_id)
        if queue is None:
            return
        last: Waiter | None = None
        self._is_advancing = True
        try:
            while queue and level_id not in self._asking and queue[0] is not last:
                last = queue.popleft()
                self._asking[level_id] = last
                self._ask(last, now)
        finally:
            self._is_advancing = False
        if not queue and level_id not in self._asking:
            self._queues.pop(level_id, None)


def _level_of(want: Want, refused: Refused) -> UUID | None:
    """The level that refused; None for a provider that is passed over."""
    if refused.level == "provider" and want.passes_over:
        return None
    return next((level.id for level in want.levels if level.kind == refused.level), None)
