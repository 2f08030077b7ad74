"""Calls whose caller left, where the provider's policy is `drain`: read on until the provider has told what they used.

Such a call keeps its seat and its hold, so what it may cost stays set aside and a worker cannot be filled by callers who leave.
How long, how much and how many at once is bounded; past a bound the call is closed and settled by what was seen, as at once
under `cancel`.
"""

from typing import Final, Protocol

#: Seconds after the departure in which the provider must have ended its answer.
MOST_SECONDS: Final = 60.0
#: Bytes of an answer that are read for its usage alone.
MOST_BYTES: Final = 8 * 1024 * 1024
#: Calls of one worker that are read on at once.
MOST_CALLS: Final = 256


class Waiting(Protocol):
    """A call that is read on."""

    def give_up(self) -> None:
        """Close the upstream and settle."""


class Unheard:
    """The calls of one worker that are read on, each with its deadline on the monotonic clock."""

    __slots__ = ("_calls", "_most")

    def __init__(self, most: int = MOST_CALLS) -> None:
        self._most = most
        self._calls: dict[Waiting, float] = {}

    def admit(self, call: Waiting, now: float) -> bool:
        """False: there are too many already."""
        if len(self._calls) >= self._most:
            return False
        self._calls[call] = now + MOST_SECONDS
        return True

    def forget(self, call: Waiting) -> None:
        self._calls.pop(call, None)

    def sweep(self, now: float) -> None:
        """End those whose time is over."""
        # In the order of their deadlines, since all have the same time.
        for call in [call for call, deadline in self._calls.items() if deadline <= now]:
            self.forget(call)
            call.give_up()
