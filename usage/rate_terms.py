"""What a worker and a store of shared limits say to each other: rules, asks, what is granted, what comes back. Pure.

Moments and durations are integer microseconds; moments are of the store's own clock.
"""

from typing import Final, Literal, NamedTuple

import msgspec

from tenants.limits import LimitSet

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
DAY: Final = 86_400 * SECOND
#: The longest life of leased requests and tokens.
MAX_LIFE: Final = 2 * SECOND
#: How long a worker's slots are its own unless it says again that it has them.
SLOT_LIFE: Final = 10 * SECOND
#: Share of a limit per minute that may come at once where no burst is given, and how many may in any case. Other periods: all.
_BURST_SHARE: Final = 6
_LEAST_BURST: Final = 10

Refusing = Literal[-1, 0, 1, 2, 3]
NOTHING: Final = -1
REQUESTS: Final = 0
DAILY: Final = 1
TOKENS: Final = 2
SLOTS: Final = 3


class Window(NamedTuple):
    """At most `most` requests in any `period` (µs), at most `burst` of them at once; 0: as many as the window takes."""

    period: int
    most: int
    burst: int


class Rules(NamedTuple):
    """What one level limits. 0: no limit of that sort. One window per period."""

    windows: tuple[Window, ...] = ()
    daily: int = 0
    tokens: int = 0
    slots: int = 0

    def only(self, *, short: bool) -> "Rules":
        """The rules of up to a minute, or those of more. A day's count lives longer than any process."""
        windows = tuple(w for w in self.windows if (w.period <= MINUTE) is short)
        if short:
            return Rules(windows, 0, self.tokens, self.slots)
        return Rules(windows, self.daily, 0, 0)

    def shared_by(self, number: int) -> "Rules":
        """The share of one of `number` workers that cannot ask anybody; at least 1 of everything."""

        def share(count: int) -> int:
            return max(1, count // number) if count else 0

        windows = tuple(Window(w.period, share(w.most), share(w.burst)) for w in self.windows)
        return Rules(windows, share(self.daily), share(self.tokens), share(self.slots))


NO_RULES: Final = Rules()


def rules_of(limits: LimitSet) -> Rules:
    """The rules that a row's limits mean. Budgets are not among them. Of two rates with one period the smaller counts."""
    least: dict[int, int] = {}
    for rate in limits.rates:
        least[rate.seconds] = min(rate.count, least.get(rate.seconds, rate.count))
    windows = [
        Window(seconds * SECOND, count, min(count, limits.burst or _usual_burst(seconds, count)))
        for seconds, count in sorted(least.items())
    ]
    return Rules(
        tuple(Window(w.period, w.most, w.burst if w.burst < w.most else 0) for w in windows),
        limits.daily or 0,
        limits.tokens_per_minute or 0,
        limits.concurrency or 0,
    )


def _usual_burst(seconds: int, count: int) -> int:
    return max(min(count, _LEAST_BURST), count // _BURST_SHARE) if seconds == 60 else count


# --- what is asked and answered -----------------------------------------------------------------------------------------


class Part(NamedTuple):
    """One level of an ask. `holder` is who asks, and has `held` slots already. `is_stocked`: and requests and tokens for the
    call as well, so that none are to be taken ahead: what lies with one worker is nobody else's.
    """

    level: str
    rules: Rules
    holder: str
    held: int
    is_stocked: bool = False


class Ask(NamedTuple):
    """So many calls, each of which wants one request, one slot and its tokens of every part, or nothing of any.

    `calls`: the tokens of each, first come first. `like`, `like_tokens`: what the worker would take beyond that where there is
    plenty. `life`: µs in which all of it will be spent or not at all.
    """

    parts: tuple[Part, ...]
    calls: tuple[int, ...]
    like: int
    like_tokens: int
    life: int


class Return(NamedTuple):
    """Leased and not spent: `requests` and `tokens` that were counted at `end` and on `day`. Negative tokens: more was used
    than was leased; that is counted whether it fits or not.
    """

    level: str
    end: int
    day: int
    requests: int
    tokens: int


class Having(NamedTuple):
    """This worker has so many slots, whatever anybody thinks."""

    level: str
    holder: str
    slots: int


class Got(msgspec.Struct, array_like=True, frozen=True):
    """Of one part: `requests` and `tokens` leased now, all the `slots` that the worker has now.

    `end` and `day` say where it was counted. The rest is what a caller is told, after this: of the window or day with the
    least left `limit` (0: none), `left` (that could come at once), `reset` (µs until it is as if never used), the same of tokens,
    and free slots.
    """

    requests: int
    tokens: int
    slots: int
    end: int
    day: int
    limit: int
    left: int
    reset: int
    tokens_left: int
    tokens_reset: int
    slots_left: int


class Answer(msgspec.Struct, array_like=True, frozen=True):
    """The first `calls` of the ask were granted. If not all: which part refused the next, for which reason, and µs until it
    would not, if nobody else came; `limit` is the one that was reached, `reset` µs until it is as if never used. `period`: of the
    window that refused; `burst`: how many of it may come at once, where only that stood in the way.
    """

    calls: int
    parts: list[Got]
    part: int = -1
    reason: Refusing = -1
    wait: int = 0
    limit: int = 0
    reset: int = 0
    period: int = 0
    burst: int = 0


class Batch(NamedTuple):
    """One trip to a store: what comes back, what is still held, then the asks in order."""

    returns: tuple[Return, ...]
    havings: tuple[Having, ...]
    asks: tuple[Ask, ...]

    def levels(self) -> list[str]:
        """The names of all levels in it, sorted: whoever locks in one order waits for nobody in a circle."""
        names = {back.level for back in self.returns}
        names.update(having.level for having in self.havings)
        names.update(part.level for ask in self.asks for part in ask.parts)
        return sorted(names)


class Receipt(NamedTuple):
    """Where something was counted: the store's name, and what it calls the place."""

    store: str
    end: int
    day: int
