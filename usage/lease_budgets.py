"""A worker's side of budgets and balances: what its calls find free in its slices, and the trips to the tables for more.

On the loop's thread, but for the trips themselves, which a keeper makes one after the other.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from tenants.clock import Clock
from tenants.limits import Unit
from usage import windows
from usage.budget_terms import SLICE_SECONDS, BudgetAsk, Lent, Part, Reply, Short
from usage.hands import ENOUGH, Amount, Hand, Purse, bind, what_is_left
from usage.keeper import Keeper
from usage.parked import Parked
from usage.wants import Reason, Refused, Want

#: Calls of one trip.
_CALLS: Final = 200
#: Seconds for which a refusal is taken as given, and for which nobody asks tables that are away.
_REMEMBERED: Final = 0.1
_AWAY_SECONDS: Final = 0.25
#: Seconds between renewals of the slices, and after which what nobody needed goes back.
_RENEW_SECONDS: Final = 3.0
#: The same for a worker that knows of no slice: there may be one that it never heard of.
_ASK_ANYWAY_SECONDS: Final = 30.0
_IDLE_SECONDS: Final = 0.5
_FORGET_SECONDS: Final = 10.0
#: The same where little is left: others may want it, and wait for it (usage/waiting.py).
_SHARED_SECONDS: Final = 0.05
#: Of a purse in use goes back what nobody needed only if it is at least this share of what is free: a trip takes the write lock.
_WORTH_A_TRIP: Final = 4
#: Calls that find too little this soon after one another are reason to borrow more; at most for so many calls.
_OFTEN_SECONDS: Final = 0.25
_MOST_LIKED: Final = 1024


class Bank(Protocol):
    """usage/budgets.py. Every function is one transaction and raises `django.db.Error` when the database is away."""

    def lease(
        self, boot: str, asks: Sequence[BudgetAsk], now: datetime, returns: Mapping[int, int]
    ) -> list[Reply]: ...

    def give_back(self, boot: str, amounts: Mapping[int, int]) -> None: ...

    def renew(self, boot: str, now: datetime) -> dict[int, Lent]: ...


class Written(Protocol):
    """The worker's journal: how many records it ever took in, and how many of them, the latest, the tables do not have yet."""

    @property
    def appended(self) -> int: ...

    @property
    def pending(self) -> int: ...


class _Rest(NamedTuple):
    """Purses that no running call had bound anything of at that moment, and how many records the journal had had by then."""

    purses: frozenset[Purse]
    at: float
    appended: int


class _Trip(NamedTuple):
    """`rest`: an earlier moment, up to which the tables had everything when the trip began. `asked_back`: what goes back to
    balances that are asked for, `returns` what goes to others.
    """

    at: float
    returns: Mapping[int, int]
    asked_back: Mapping[int, int]
    renews: bool
    rest: _Rest | None
    calls: list[Parked]
    asks: tuple[BudgetAsk, ...]
    era: int


class _News(NamedTuple):
    slices: Mapping[int, Lent] | None
    replies: list[Reply]


class BudgetDesk:
    """`settle` hears of each parked call whose bounds were taken or refused. `boot` is the uuid of the worker's journal
    (`written`).
    """

    def __init__(
        self,
        bank: Bank,
        keeper: Keeper,
        boot: str,
        settle: Callable[[Parked], None],
        clock: Clock,
        written: Written | None,
    ) -> None:
        self._bank = bank
        self._keeper = keeper
        self._boot = boot
        self._settle = settle
        self._clock = clock
        self._written = written
        self._rest: _Rest | None = None
        self._purses: dict[tuple[int, Unit, str], Purse] = {}
        self._queue: deque[Parked] = deque()
        self._returns: dict[int, int] = {}
        self._scarce: set[Purse] = set()
        self._is_busy = False
        #: A trip failed: it may have been carried out all the same.
        self._is_unsure = False
        self._renewed_at = self._looked_at = clock.monotonic()
        self._away_until = float("-inf")
        #: Refusals are remembered within one.
        self._era = 0

    def __len__(self) -> int:
        return len(self._purses)

    @property
    def bound(self) -> int:
        """What running calls have bound, over all balances."""
        return sum(purse.bound for purse in self._purses.values())

    # --- what calls find ---

    def purses(self, hand: Hand, want: Want) -> list[tuple[Purse, int]]:
        """The level's purses for a call of that day, each with what the call can use of it at most."""
        day = want.received_at // windows.DAY_US
        if hand.day != day or any(purse.is_gone for purse in hand.purses):
            hand.day = day
            hand.purses = tuple(
                self._purse(hand, unit, windows.window_at(window, want.received_at))
                for unit, window, _ in hand.budgets
            )
        for purse, (_, _, most) in zip(hand.purses, hand.budgets, strict=True):
            purse.most = most
        return [
            (purse, want.bound_tokens if purse.unit == "tokens" else want.bound_nano_usd)
            for purse in hand.purses
        ]

    def _purse(self, hand: Hand, unit: Unit, window: str) -> Purse:
        key = (hand.level.id.int, unit, window)
        purse = self._purses.get(key)
        if purse is None:
            purse = self._purses[key] = Purse(hand.level, unit, window)
        return purse

    def try_take(self, call: Parked, now: float) -> bool:
        """Binds from what is free, all or nothing."""
        for purse, amount in call.purses:
            if not purse.has(amount, now):
                return False
        bind(call.purses, now)
        call.bound = call.has_budgets = True
        return True

    def undo(self, call: Parked) -> None:
        if call.bound:
            for purse, amount in call.purses:
                purse.settle(amount, 0)
        call.bound = call.has_budgets = False

    def known_refusal(self, call: Parked, now: float) -> Refused | None:
        """A refusal of just now that holds for this call too."""
        if now < self._away_until:
            return unavailable(call)
        for purse, amount in call.purses:
            refused = purse.refused
            if refused is None or purse.refused_until <= now or purse.refused_era != self._era:
                continue
            if purse.has(amount, now):
                continue
            # What only waits for others at one size may be beyond the limit at a larger one, and then it is final.
            is_known = (
                amount == purse.refused_bound
                if refused.reason == "budget_held"
                else amount >= purse.refused_bound
            )
            if is_known:
                return refused
        return None

    def forget_refusals(self) -> None:
        """Something was changed: what was refused a moment ago may be allowed."""
        self._era += 1

    # --- trips ---

    def park(self, call: Parked, now: float) -> None:
        for purse, amount in call.purses:
            purse.asking += 1
            if call.waiter is None and not purse.has(amount, now):
                if now - purse.missed_at < _OFTEN_SECONDS:
                    purse.like = min(_MOST_LIKED * amount, max(amount, 2 * purse.like))
                else:
                    purse.like //= 2
                purse.missed_at = now
        self._queue.append(call)

    def send(self, now: float) -> None:
        """Makes the next trip, if there is a reason for one and none is under way."""
        if self._is_busy:
            return
        calls = self._next_calls()
        renews = self._is_time_to_renew(now)
        if not (calls or renews or self._returns):
            return
        rest = self._rested(now) if renews else None
        returns, self._returns = self._returns, {}
        asked = {purse.slice_id for call in calls for purse, _ in call.purses}
        # A renewal tells what is lent, so everything has to be back before it.
        back = {} if renews else {key: returns[key] for key in returns.keys() & asked}
        others = {key: amount for key, amount in returns.items() if key not in back}
        trip = _Trip(now, others, back, renews, rest, calls, self._asks(calls), self._era)
        self._is_busy = True
        self._keeper.do(lambda: self._make(trip), lambda news: self._came_back(trip, news))

    def _is_time_to_renew(self, now: float) -> bool:
        since = now - self._renewed_at
        if since > (_AWAY_SECONDS if self._is_unsure else _ASK_ANYWAY_SECONDS):
            return True
        return since > _RENEW_SECONDS and any(purse.slice_id for purse in self._purses.values())

    def _rested(self, now: float) -> _Rest | None:
        """The moment of the renewal before this one, if the tables have everything up to it by now."""
        self._renewed_at = now
        if self._written is None:
            return None
        appended, before = self._written.appended, self._rest
        purses = frozenset(purse for purse in self._purses.values() if not purse.bound)
        self._rest = _Rest(purses, now, appended)
        is_flushed = before and appended - self._written.pending >= before.appended
        return before if is_flushed else None

    def _next_calls(self) -> list[Parked]:
        calls: list[Parked] = []
        while self._queue and len(calls) < _CALLS:
            call = self._queue.popleft()
            if call.is_waiting:
                calls.append(call)
            else:
                _asks_no_more(call)
        return calls

    def _asks(self, calls: Sequence[Parked]) -> tuple[BudgetAsk, ...]:
        """What is free serves the first of them; the others borrow."""
        free: dict[Purse, int] = {}
        asks = []
        for call in calls:
            parts = []
            for purse, amount in call.purses:
                here = free.get(purse)
                if here is None:
                    here = amount if purse.free == ENOUGH else int(purse.free)
                need = max(0, amount - here)
                free[purse] = max(0, here - amount)
                level = (purse.kind, purse.level_id, purse.unit, purse.window)
                parts.append(Part(*level, amount, need, need + purse.like))
            asks.append(BudgetAsk(tuple(parts)))
        return tuple(asks)

    def _make(self, trip: _Trip) -> _News:
        """In the keeper's thread. As few transactions as can be: for each of them others may have to be waited for."""
        if trip.returns:
            self._bank.give_back(self._boot, trip.returns)
        slices = self._bank.renew(self._boot, self._clock.now()) if trip.renews else None
        replies = []
        if trip.asks:
            now = self._clock.now()
            replies = self._bank.lease(self._boot, trip.asks, now, trip.asked_back)
        return _News(slices, replies)

    def _came_back(self, trip: _Trip, news: _News | None) -> None:
        now = self._clock.monotonic()
        if news is None:
            self._is_busy, self._is_unsure = False, True
            self._away_until = now + _AWAY_SECONDS
            for call in trip.calls:
                _asks_no_more(call)
                call.refused = unavailable(call)
                self._settle(call)
            return
        # Everything is heard before anybody is told: who is told may ask for more, and must not be served from what was before.
        self._hear(trip, news)
        self._is_busy = False
        for call, reply in zip(trip.calls, news.replies, strict=True):
            if not isinstance(reply, Short):
                self._serve(call, now)
        for call, reply in zip(trip.calls, news.replies, strict=True):
            if isinstance(reply, Short):
                self._refuse(call, reply, now, trip.era)
        self.send(now)

    def _hear(self, trip: _Trip, news: _News) -> None:
        until = trip.at + SLICE_SECONDS
        if news.slices is not None:
            self._renewed(trip, news.slices, until)
        for call, reply in zip(trip.calls, news.replies, strict=True):
            if isinstance(reply, Short):
                continue
            for (purse, _), grant in zip(call.purses, reply.grants, strict=True):
                # What was put aside for the tables since the trip began is not out of their figure yet.
                pending = self._returns.get(grant.slice_id, 0)
                purse.learn(grant.slice_id, grant.lent - pending, until)
                purse.beside = grant.left + pending
                if purse.is_scarce:
                    self._scarce.add(purse)
        if news.slices is not None:
            self._is_unsure = False
            known = {purse.slice_id for purse in self._purses.values()}
            for slice_id, lent in news.slices.items():
                if slice_id not in known and lent.amount:
                    # Lent to a call that never heard of it.
                    self._returns[slice_id] = max(lent.lent, lent.amount)

    def _renewed(self, trip: _Trip, slices: Mapping[int, Lent], until: float) -> None:
        for purse in self._purses.values():
            if not purse.slice_id:
                continue
            found = slices.get(purse.slice_id)
            if found is None:
                purse.lose()
                continue
            pending = self._returns.get(purse.slice_id, 0)
            purse.learn(purse.slice_id, found.lent - pending, until)
            rest = trip.rest
            if rest and purse in rest.purses and purse.used_at < rest.at:
                # The tables know better: calls from before the budget are charged to it too, and some cost less than it seemed.
                purse.free = found.amount - pending

    def _serve(self, call: Parked, now: float) -> None:
        if call.is_waiting and not self.try_take(call, now):
            # The reply took longer than a slice lives, or a call that cost too much came between.
            self._queue.append(call)
            return
        _asks_no_more(call)
        if call.has_budgets:
            self._settle(call)

    def _refuse(self, call: Parked, short: Short, now: float, era: int) -> None:
        """`era`: in which it asked."""
        purse, amount = call.purses[short.part]
        reason: Reason = "budget_held" if short.reason == "held" else "budget_exhausted"
        if short.reason == "exhausted" and purse.kind == "account" and purse.window == "prepaid":
            reason = "balance_exhausted"
        requests, tokens = what_is_left(call.ruled, now)
        refused = Refused(
            purse.kind,
            reason,
            1.0 if short.reason == "held" else None,
            short.limit,
            max(0, short.left + (int(purse.free) if purse.free < ENOUGH else 0)),
            purse.unit,
            purse.window,
            short.reset_at,
            requests=requests,
            tokens=tokens,
        )
        purse.refused, purse.refused_bound, purse.refused_era = refused, amount, era
        purse.refused_until = now + _REMEMBERED
        _asks_no_more(call)
        call.refused = refused
        self._settle(call)

    # --- what is not used ---

    def tick(self, now: float) -> None:
        """What nobody needed goes back; slices are renewed. Now and then, several times a second."""
        if now - self._looked_at >= _IDLE_SECONDS / 2:
            self._looked_at = now
            for key, purse in list(self._purses.items()):
                self._look_at(purse, now)
                if purse.is_idle and now - max(purse.used_at, purse.missed_at) > _FORGET_SECONDS:
                    purse.is_gone = True
                    del self._purses[key]
        self._share(now)
        self.send(now)

    def _share(self, now: float) -> None:
        for purse in list(self._scarce):
            if not purse.is_scarce:
                self._scarce.discard(purse)
            elif now - purse.used_at >= _SHARED_SECONDS:
                self._return(purse, 0.0)

    def _look_at(self, purse: Purse, now: float) -> None:
        if purse.free == ENOUGH:
            if purse.until <= now:
                # There was no such limit then; whoever comes next finds out whether there is one now.
                purse.free = -purse.bound
            return
        spare: Amount = purse.free
        if now - purse.used_at < _IDLE_SECONDS:
            spare = purse.low // 2
            if spare < purse.free // _WORTH_A_TRIP:
                spare = 0
        self._return(purse, max(0.0, purse.free - spare))
        purse.low = purse.free

    def _return(self, purse: Purse, keep: Amount) -> None:
        amount = purse.give_back(keep)
        if amount:
            purse.beside += amount
            self._returns[purse.slice_id] = self._returns.get(purse.slice_id, 0) + amount

    def close(self) -> None:
        """What is free goes back, with one last trip. What calls have bound stays until the tables have their entries."""
        for purse in self._purses.values():
            self._return(purse, 0.0)
        returns, self._returns = self._returns, {}
        if returns:
            self._keeper.do(lambda: self._bank.give_back(self._boot, returns), lambda _: None)


def _asks_no_more(call: Parked) -> None:
    for purse, _ in call.purses:
        purse.asking -= 1


def unavailable(call: Parked) -> Refused:
    return Refused(call.purses[0][0].kind, "ledger_unavailable", 1.0)
