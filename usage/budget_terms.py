"""What a worker and the balances say to each other: an ask per call, and what comes of it. Pure.

A worker borrows from a balance what its calls may still use, in slices: what no call has bound is free and serves the next
call without asking. `spent` and what all workers hold together never pass the limit.
"""

from typing import Final, Literal, NamedTuple
from uuid import UUID

from tenants.limits import Unit
from usage.levels import Kind

#: Seconds for which a slice is lent. The worker renews it well before; past it the worker spends nothing of what is free.
SLICE_SECONDS: Final = 10.0
#: A slice takes at most this share of what is left, beyond what the call needs: so slices shrink as the limit comes near.
_SHARE: Final = 16

#: `exhausted`: the call's bound is more than limit − spent, whoever gives back what. `held`: only what is held stands in the way.
Reason = Literal["exhausted", "held"]


class Part(NamedTuple):
    """What a call wants of one balance.

    `window`: `month:2026-11`, `day:2026-11-22` (UTC, of the moment when the call came), `total` or `prepaid`. `bound`: what the
    call can use at most. `need`: what must be lent for it, `bound` less what the worker has free. `like`: what the worker would
    take if there is plenty; at least `need`.
    """

    kind: Kind
    id: UUID
    unit: Unit
    window: str
    bound: int
    need: int
    like: int


class BudgetAsk(NamedTuple):
    """One call's parts: all of them are granted, or nothing."""

    parts: tuple[Part, ...]


class Grant(NamedTuple):
    """What a part was granted.

    `slice_id` names the row in which the worker's slice of this balance stands; a row that ended and began anew has another.
    `lent`: everything ever lent in that row less everything given back, this grant included. What calls cost does not change it.
    So a worker that never heard of a grant (the commit went through, the answer was lost) finds out by the difference.
    Both 0: that limit does not exist any more, and nothing needs to be lent. `left` = limit − spent − held by anybody, this grant
    included.
    """

    slice_id: int
    lent: int
    left: int = 0


class Lent(NamedTuple):
    """A slice as the tables have it: `lent` as in `Grant`, and the `amount` that is left of it."""

    lent: int
    amount: int


class Granted(NamedTuple):
    """One grant for each part of the ask, in its order."""

    grants: tuple[Grant, ...]


class Short(NamedTuple):
    """Nothing was lent, because of one part (`part`: its place in the ask; of several the one that is exhausted, if any is).

    `left` = limit − spent − held by anybody: the asking worker may add what it has free. `reset_at`: when the window ends, in
    microseconds since 1970; None for `total` and `prepaid`.
    """

    part: int
    reason: Reason
    limit: int
    spent: int
    left: int
    reset_at: int | None


Reply = Granted | Short


def generous(need: int, like: int, left: int) -> int:
    """How much to lend where `left` (≥ need) is not yet spent or held: `like` from plenty, `need` alone near the limit."""
    return max(need, min(like, left // _SHARE))


# The functions that usage/budgets.py has for the worker. Each is one transaction, runs in a thread of the worker that keeps its
# budgets, and raises `django.db.Error` when the database is away. `boot` is the uuid of the worker's journal.
#
#     lease(boot: str, asks: Sequence[BudgetAsk], now: datetime, returns: Mapping[int, int]) -> list[Reply]
#         One reply per ask, in order. An ask sees what those before it were granted. Lent until now + SLICE_SECONDS. Before all
#         asks `returns` go back, as with give_back, but only to balances that are asked for.
#     give_back(boot: str, amounts: Mapping[int, int]) -> None
#         slice id → amount, at most what is in the slice. A slice that is not there any more is passed over.
#     renew(boot: str, now: datetime) -> dict[int, Lent]
#         Every slice of the worker with something in it is lent until now + SLICE_SECONDS, also one that was written off. Gives
#         slice id → `Lent` of all that there are: an empty one goes some time after its deadline.
#     release_all(boot: str) -> None
#         The worker ends, and the tables have all its entries: what is left in its slices is nobody's any more.
