"""What a worker has in hand of each level and each balance, and what a call took of it. Pure.

Belongs to the loop's thread. Moments are seconds of the monotonic clock.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from tenants.limits import Unit
from usage.levels import Level
from usage.rate_terms import NO_RULES, SECOND, Got, Receipt, rules_of
from usage.wants import Left, Refused, Told, Want
from usage.windows import DAY_US

#: Where a level does not limit, there is always enough in hand.
ENOUGH: Final = float("inf")
NEVER: Final = float("-inf")
#: Requests that a worker takes ahead of its calls, at most.
_MOST_LIKED: Final = 4096
#: Calls that find nothing in hand this soon after one another are reason to take more ahead.
_OFTEN_SECONDS: Final = 0.25
#: Requests or slots left of a level below which nothing is taken ahead or kept.
FEW: Final = 32
#: So many times what a worker has of a balance is plenty.
_PLENTY: Final = 4

Receipts = tuple[Receipt, ...]
#: A whole number, exact; or ENOUGH.
Amount: TypeAlias = int | float


class Spare(NamedTuple):
    """A lease that waits until the one in hand is spent."""

    requests: Amount
    tokens: Amount
    until: float
    receipts: Receipts


class Hand:
    """One level's. `requests` and `tokens` are free until `until`; ENOUGH where nothing limits them."""

    __slots__ = (
        "base",
        "budgets",
        "calls",
        "day",
        "held",
        "holder",
        "info",
        "is_asked",
        "level",
        "like",
        "limit",
        "low",
        "missed_at",
        "name",
        "per_minute",
        "purses",
        "receipts",
        "refused",
        "refused_era",
        "refused_tokens",
        "refused_until",
        "requests",
        "reset_at",
        "rules",
        "said_at",
        "slots",
        "spare",
        "tokens",
        "tokens_base",
        "tokens_reset_at",
        "until",
        "used_at",
    )

    def __init__(self, level: Level, holder: str) -> None:
        self.level = level
        self.name = f"{level.kind}:{level.id.hex}"
        self.holder = holder
        rules = self.rules = rules_of(level.limits)
        limits_requests = bool(rules.windows or rules.daily)
        self.per_minute = rules.tokens
        self.until = NEVER if self.has_rules else ENOUGH
        self.requests: Amount = 0 if limits_requests else ENOUGH
        self.tokens: Amount = 0 if rules.tokens else ENOUGH
        self.slots: Amount = 0 if rules.slots else ENOUGH
        self.receipts: Receipts = ()
        self.spare: Spare | None = None
        #: Slots that the store counts as ours, when that was said last, and calls that are running.
        self.held = 0
        self.said_at = NEVER
        self.calls = 0
        self.used_at = self.missed_at = NEVER
        #: What to take ahead when calls find nothing; below `low` in hand it is fetched before they do.
        self.like = 0
        self.low = -1.0
        self.is_asked = False
        self.refused: Refused | None = None
        self.refused_era = 0
        self.refused_tokens = 0
        self.refused_until = NEVER
        #: What the store said last: requests and tokens left beside those in hand, and when they are as if never used.
        self.info: Got | None = None
        #: Which limit on requests has the least left.
        self.limit = 0
        self.base: Amount = ENOUGH
        self.tokens_base: Amount = ENOUGH
        self.reset_at = self.tokens_reset_at = NEVER
        #: Units, windows and limits of its budgets, and the purses of those windows for calls of one day.
        self.budgets: tuple[tuple[Unit, str, int], ...] = tuple(
            (budget.unit, budget.window, budget.most) for budget in level.limits.budgets
        ) + ((("nano_usd", "prepaid", 0),) if level.is_prepaid else ())
        self.day = -1
        self.purses: tuple[Purse, ...] = ()

    @property
    def has_rules(self) -> bool:
        return self.rules != NO_RULES

    @property
    def requests_left(self) -> Amount:
        """Of the level, as far as is known: in the store, and in hand."""
        spare = self.spare
        return self.base + self.requests + (spare.requests if spare is not None else 0)

    @property
    def tokens_left(self) -> Amount:
        spare = self.spare
        return self.tokens_base + self.tokens + (spare.tokens if spare is not None else 0)

    def has(self, tokens: int, now: float) -> bool:
        """Whether one more call can be served from the hand. A spare lease takes the place of one that cannot."""
        return self.slots >= 1 and self.serves(tokens, now)

    def serves(self, tokens: int, now: float) -> bool:
        """Whether there is a lease for one more call: all but the slot."""
        if self.until > now and self.requests >= 1 and self.tokens >= tokens:
            return True
        spare = self.spare
        return (
            spare is not None
            and spare.until > now
            and spare.requests >= 1
            and spare.tokens >= tokens
        )

    def free_purses(self, want: Want, now: float) -> "list[tuple[Purse, int]] | None":
        """Its purses with what the call would bind of each; None if it does not have them all, or not enough in one."""
        if self.day != want.received_at // DAY_US:
            return None
        found = []
        for purse in self.purses:
            amount = want.bound_tokens if purse.unit == "tokens" else want.bound_nano_usd
            if purse.free < amount or purse.until <= now or purse.is_gone:
                return None
            found.append((purse, amount))
        return found

    def take(self, tokens: int, now: float) -> "tuple[Leftover | None, Receipts]":
        """One call, after `has`. Gives what is left of a lease that made room for the spare one."""
        over = None
        if not (self.until > now and self.requests >= 1 and self.tokens >= tokens):
            over = self.let_go()
        self.requests -= 1
        self.tokens -= tokens
        self.slots -= 1
        self.calls += 1
        self.used_at = now
        return over, self.receipts

    def let_go(self) -> "Leftover | None":
        """Drops the lease in hand; the spare one, if there is one, takes its place."""
        over = Leftover(self, self.receipts, _finite(self.requests), _finite(self.tokens))
        if self.requests < ENOUGH:
            self.requests = 0
        if self.tokens < ENOUGH:
            self.tokens = 0
        spare, self.spare = self.spare, None
        if spare is not None:
            self._hold(spare)
        elif self.requests < ENOUGH or self.tokens < ENOUGH:
            self.until = NEVER
        return over if over.requests or over.tokens else None

    def add(self, lease: Spare) -> None:
        """A further lease. A third one joins the second: with the earlier end, and counted where that one was."""
        if self.spare is not None:
            spare = self.spare
            self.spare = Spare(
                spare.requests + lease.requests,
                spare.tokens + lease.tokens,
                min(spare.until, lease.until),
                spare.receipts,
            )
        elif _finite(self.requests) or _finite(self.tokens):
            self.spare = lease
        else:
            self._hold(lease)

    def _hold(self, lease: Spare) -> None:
        if self.requests < ENOUGH:
            self.requests = lease.requests
        if self.tokens < ENOUGH:
            self.tokens = lease.tokens
        self.until, self.receipts = lease.until, lease.receipts

    @property
    def has_lease(self) -> bool:
        return bool(_finite(self.requests) or _finite(self.tokens) or self.spare is not None)

    @property
    def is_idle(self) -> bool:
        return not (self.calls or self.held or self.has_lease or self.is_asked)

    def hear(self, got: Got, now: float) -> None:
        """What the store said."""
        self.info = got
        if got.limit:
            # Else the store that counts them was not asked: what it said last is the best that is known.
            self.limit, self.base, self.reset_at = got.limit, got.left, now + got.reset / SECOND
        if self.per_minute:
            self.tokens_base = got.tokens_left
            self.tokens_reset_at = now + got.tokens_reset / SECOND

    def miss(self, now: float) -> None:
        """A call found nothing in hand."""
        if now - self.missed_at < _OFTEN_SECONDS:
            self.like = min(_MOST_LIKED, max(1, 2 * self.like))
        else:
            self.like //= 2
        self.missed_at = now

    @property
    def liked(self) -> int:
        """Nothing is taken ahead near the limit: it would be somebody else's last."""
        return self.like if self.info and self.base >= FEW else 0


class Leftover(NamedTuple):
    """Leased and not spent."""

    hand: Hand
    receipts: Receipts
    requests: int
    tokens: int


def _finite(amount: Amount) -> int:
    return 0 if amount == ENOUGH else max(0, int(amount))


class Purse:
    """A slice of one balance. `free` is nobody's yet, `bound` is running calls'. `free` below zero: calls cost more than their
    bounds, and the rest of the slice has to bear it.
    """

    __slots__ = (
        "asking",
        "beside",
        "bound",
        "free",
        "is_gone",
        "kind",
        "lent",
        "level_id",
        "like",
        "low",
        "missed_at",
        "most",
        "name",
        "refused",
        "refused_bound",
        "refused_era",
        "refused_until",
        "slice_id",
        "unit",
        "until",
        "used_at",
        "window",
    )

    def __init__(self, level: Level, unit: Unit, window: str) -> None:
        self.kind = level.kind
        self.level_id = level.id
        self.unit: Unit = unit
        self.window = window
        #: What it is called where it is told of, and the limit (0: what was paid in).
        self.name = f"{unit} {window}"
        self.most = 0
        self.free: Amount = 0
        self.bound = 0
        #: What was left of the balance beside all slices when that was heard last.
        self.beside = 0
        #: Calls that wait for more of it. What they will be granted must find it here.
        self.asking = 0
        self.slice_id = 0
        #: As the tables have it (usage/budget_terms.py `Grant`).
        self.lent = 0
        self.until = self.used_at = self.missed_at = NEVER
        self.like = 0
        #: The least that was free since the last look: nobody needed that.
        self.low: Amount = 0
        #: Forgotten: whoever still knows of it must look for the balance's purse anew.
        self.is_gone = False
        self.refused: Refused | None = None
        self.refused_bound = 0
        self.refused_era = 0
        self.refused_until = NEVER

    def has(self, amount: int, now: float) -> bool:
        return self.free >= amount and (self.until > now or not amount)

    def learn(self, slice_id: int, lent: int, until: float) -> None:
        """What the tables say was lent. The difference to what we knew is a grant, heard of now or lost on its way."""
        self.until = until
        if not slice_id:
            # That limit is no more.
            self.free, self.slice_id, self.lent = ENOUGH, 0, 0
            return
        if self.free == ENOUGH:
            self.free = -self.bound
        known = self.lent if slice_id == self.slice_id else 0
        self.free += lent - known
        self.slice_id, self.lent = slice_id, lent

    def lose(self) -> None:
        """The slice is not ours any more. For what calls have bound of it they will answer in the tables."""
        self.free = -self.bound
        self.slice_id = self.lent = 0
        self.until = NEVER

    def settle(self, amount: int, cost: int) -> None:
        """What a call had bound is free again, but for what it cost."""
        self.bound -= amount
        self.free = max(self.free + amount - cost, -self.bound)

    def give_back(self, keep: Amount) -> int:
        """Takes out what is free beyond `keep`, for the tables."""
        if not self.slice_id or self.free == ENOUGH:
            return 0
        amount = max(0, int(self.free - keep))
        self.free -= amount
        self.lent -= amount
        return amount

    @property
    def is_scarce(self) -> bool:
        """What is left beside all slices is little beside what we have of it."""
        if not self.slice_id or self.free == ENOUGH:
            return False
        return self.beside < _PLENTY * (self.free + self.bound)

    @property
    def is_idle(self) -> bool:
        """What the tables say was lent is a difference to what we know: as long as there is a row, we have to know."""
        return not (self.bound or self.slice_id or self.asking)


def bind(purses: list[tuple[Purse, int]], now: float) -> None:
    """A call begins, and takes of each purse what it can use at most."""
    for purse, amount in purses:
        free = purse.free = purse.free - amount
        purse.bound += amount
        if free < purse.low:
            purse.low = free
        purse.used_at = now


def what_is_left(hands: Sequence[Hand], at: float) -> tuple[Left | None, Left | None]:
    """Of requests, and of tokens a minute: each of the level with the fewest. None where none limits them, or nothing was said of
    it yet.
    """
    requests = tokens = None
    fewest_requests = fewest_tokens = ENOUGH
    for hand in hands:
        if hand.requests_left < fewest_requests:
            requests, fewest_requests = hand, hand.requests_left
        if hand.tokens_left < fewest_tokens:
            tokens, fewest_tokens = hand, hand.tokens_left
    return (
        _left(requests.limit, fewest_requests, requests.reset_at - at) if requests else None,
        _left(tokens.per_minute, fewest_tokens, tokens.tokens_reset_at - at) if tokens else None,
    )


def _left(limit: int, remaining: Amount, reset_seconds: float) -> Left:
    return Left(limit, max(0, int(remaining)), max(0.0, reset_seconds))


class Lease:
    """What a call took. Settled once, released once, in any order; unsettled at its release it has cost nothing.

    `requests` and `tokens`: what is left after it; None where no level limits them.
    """

    __slots__ = (
        "_at",
        "_correct",
        "_hands",
        "_purses",
        "_tokens",
        "requests",
        "tokens",
    )

    def __init__(
        self,
        hands: list[Hand],
        purses: list[tuple[Purse, int]],
        tokens: list[Leftover],
        correct: Callable[[Leftover], None],
        at: float,
    ) -> None:
        self._hands = hands
        self._purses = purses
        self._tokens = tokens
        self._correct = correct
        self.requests, self.tokens = what_is_left(hands, at)

    def settle(self, tokens: int, nano_usd: int, provider_id: UUID | None = None) -> None:
        """What the call came to: tokens in and out, and money. The rest of what it had bound is free at once.

        `provider_id`: who served it, and is charged. Another provider that was tried before has had nothing of it.
        """
        for purse, amount in self._purses:
            used = tokens if purse.unit == "tokens" else nano_usd
            if purse.kind == "provider" and provider_id not in {None, purse.level_id}:
                used = 0
            purse.settle(amount, used)
        self._purses = []
        for taken in self._tokens:
            hand, used = taken.hand, tokens
            if hand.level.kind == "provider" and provider_id not in {None, hand.level.id}:
                used = 0
            if used != taken.tokens:
                self._correct(Leftover(hand, taken.receipts, 0, taken.tokens - used))
        self._tokens = []

    def release(self) -> None:
        """Gives the slots back; requests stay counted."""
        if self._purses or self._tokens:
            self.settle(0, 0)
        hands, self._hands = self._hands, []
        for hand in hands:
            hand.calls -= 1
            hand.slots += 1

    def absorb(self, other: "Lease") -> None:
        """A call that goes on to another provider takes that one's levels as well; both end together."""
        self._hands += other._hands
        self._purses += other._purses
        self._tokens += other._tokens
        other._hands, other._purses, other._tokens = [], [], []

    @property
    def told(self) -> list[Told]:
        """For a why-card, as things stand now: ask right after the take, before anybody else takes."""
        found: list[Told] = []
        for hand in self._hands:
            kind, info = hand.level.kind, hand.info
            if info is None:
                continue
            if hand.base < ENOUGH:
                left = int(hand.requests_left)
                found.append((kind, "requests", hand.limit, left + 1, left))
            if hand.slots < ENOUGH:
                left = info.slots_left + int(hand.slots)
                found.append((kind, "slots", hand.rules.slots, left + 1, left))
        for taken in self._tokens:
            hand = taken.hand
            left = int(hand.tokens_left)
            found.append((hand.level.kind, "tokens", hand.per_minute, left + taken.tokens, left))
        for purse, amount in self._purses:
            # Of what costs nothing, or has no limit any more, nobody was asked what is left.
            if amount and purse.free < ENOUGH:
                left = purse.beside + int(purse.free)
                found.append((purse.kind, purse.name, purse.most, left + amount, left))
        return found
