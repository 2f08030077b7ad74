"""What a call asks of the limits of all its levels, and how it is told no. Pure."""

from typing import Literal, NamedTuple

import msgspec

from tenants.limits import Unit
from usage.levels import Kind, Level

Reason = Literal[
    "requests",
    "daily",
    "tokens",
    "concurrency",
    "budget_exhausted",
    "balance_exhausted",
    "budget_held",
    "overloaded",
    "ledger_unavailable",
]


class Want(msgspec.Struct, frozen=True, gc=False):
    """What a call asks of all its levels: one request, one slot, `tokens` by estimate; and of their budgets its bounds.

    `levels`: those that limit anything or are prepaid. `received_at`: µs since 1970; it says to which day and month the call
    belongs. `passes_over`: a provider where all is taken is not waited for, since there are others.
    """

    levels: tuple[Level, ...]
    received_at: int
    tokens: int
    bound_tokens: int
    bound_nano_usd: int
    passes_over: bool = False


class Left(NamedTuple):
    """What a caller is told of requests, or of tokens a minute: of the level with the least left. `reset_seconds`: until it is as
    if never used.
    """

    limit: int
    remaining: int
    reset_seconds: float


class Refused(NamedTuple):
    """Nothing was taken. `retry_after`: seconds until that level would let a call through, if nobody else came; None: not in
    this period. `limit` is the one that was reached, of a rate in `period` seconds. Period 0: a store has forgotten what was used
    of it. With a `burst` it is not reached yet, but so many may come of it at once. `requests` and `tokens`: what is left of all
    the call's levels; None where nothing is limited, or nobody was asked.

    Of a budget, `remaining` is what the call may count on, `reset_at` when its window ends (µs since 1970; None: never).
    """

    level: Kind
    reason: Reason
    retry_after: float | None = None
    limit: int = 0
    remaining: int = 0
    unit: Unit = "tokens"
    window: str = ""
    reset_at: int | None = None
    period: float = 0.0
    burst: int = 0
    requests: Left | None = None
    tokens: Left | None = None


#: One limit that a call took from, for whoever asks why: kind of the level, what it limits, the limit, what was left before the
#: call, and after. What is limited is `requests`, `tokens`, `slots`, or of a budget `tokens month:2026-11`, `nano_usd prepaid` …;
#: the limit of a balance that was paid in is 0. A bare tuple: every call has half a dozen of them.
Told = tuple[Kind, str, int, int, int]
