"""What the limits of one row say, as values that everybody upstairs can hold on to. Pure.

A rate is so many requests in any window of so many seconds. A budget is so many tokens, or so many nano-USD, in a window of the
calendar in UTC: a day, a month, or all time (`total`).
"""

import re
from typing import Final, Literal, NamedTuple

Unit = Literal["tokens", "nano_usd"]
Window = Literal["day", "month", "total"]

#: Seconds of the periods that a rate may name.
PERIODS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_RATE: Final = re.compile(r"([1-9][0-9]{0,6})/([smhd])", re.ASCII)


class Rate(NamedTuple):
    """At most `count` requests in any `seconds`."""

    count: int  # type: ignore[assignment]  # hides the method that a tuple has
    seconds: int


class BudgetLimit(NamedTuple):
    """At most `most` of `unit` in a calendar `window`."""

    unit: Unit
    window: Window
    most: int


class LimitSet(NamedTuple):
    """The limits of one row. None and empty: no limit of that sort. `daily`: requests per UTC day; `burst`: requests at once."""

    rates: tuple[Rate, ...] = ()
    daily: int | None = None
    burst: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    budgets: tuple[BudgetLimit, ...] = ()
    clamps: bool = False


NO_LIMITS: Final = LimitSet()


def read_rate(text: str) -> Rate | None:
    """The rate that `count/period` means (`100/m`, `5/d`); None when it means none."""
    match = _RATE.fullmatch(text)
    return None if match is None else Rate(int(match[1]), PERIODS[match[2]])
