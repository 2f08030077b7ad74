"""All the limits of a worker's calls: one all-or-nothing take over rates, tokens, slots and money of every level.

A call that finds everything in hand has its lease at once; else it is parked until the keepers have been at the stores, and
takes nothing unless it gets all of it. Two keepers: whoever waits for a slow table of balances does not hold up the rates.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from tenants.clock import SYSTEM, Clock
from usage.hands import Hand, Lease, Leftover, Purse, bind
from usage.keeper import Keeper
from usage.lease_budgets import Bank, BudgetDesk, Written, unavailable
from usage.lease_rates import RateDesk
from usage.parked import Answered, Parked, Waiter
from usage.tiers import Tiers
from usage.waiting import WaitingRoom
from usage.wants import Refused, Told, Want

#: Calls that may wait for a store at once, and how long one of them does.
_MAX_PARKED: Final = 10_000
PARKED_SECONDS: Final = 2.0
_TICK_SECONDS: Final = 0.05
#: Seconds for one answer of the database. Callers wait.
_RATES_SECONDS: Final = 1.0
_BUDGETS_SECONDS: Final = 1.8
_STOP_SECONDS: Final = 3.0

_NONE: Final[list[tuple[Purse, int]]] = []


def keepers(post: Callable[[Callable[[], None]], object]) -> tuple[Keeper, Keeper]:
    """The one of rates and the one of budgets. `post` hands a function to the loop's thread."""
    rates = Keeper("rates-keeper", post, answer_seconds=_RATES_SECONDS, is_hasty=True)
    return rates, Keeper("budgets-keeper", post, answer_seconds=_BUDGETS_SECONDS)


class Leases:
    """Belongs to the loop's thread. `boot` is the uuid of the worker's journal, and `written` what has become of that."""

    def __init__(
        self,
        tiers: Tiers,
        bank: Bank,
        boot: str,
        keepers: tuple[Keeper, Keeper],
        clock: Clock = SYSTEM,
        written: Written | None = None,
    ) -> None:
        self._clock = clock
        self._tiers = tiers
        self._keepers = keepers
        self._rates = RateDesk(tiers, keepers[0], boot, self._went_on, clock.monotonic)
        self._budgets = BudgetDesk(bank, keepers[1], boot, self._went_on, clock, written)
        self._parked: deque[Parked] = deque()
        self._room = WaitingRoom(self._ask_again)
        self._waiting = 0
        self._ticker: asyncio.TimerHandle | None = None

    def start(self) -> None:
        for keeper in self._keepers:
            keeper.start()
        self._tiers.start()
        self._tick()

    def report(self) -> dict[str, object]:
        """For `/health/detail`."""
        return {
            **self._tiers.report(),
            "parked": self._waiting,
            "patient": len(self._room),
            "levels": len(self._rates),
            "balances": len(self._budgets),
        }

    @property
    def taken(self) -> int:
        """0: nobody has taken anything that is not given back or used up."""
        return self._rates.running + self._budgets.bound

    # --- taking ---

    def at_hand(self, want: Want, now: float) -> Lease | None:
        """A lease, if all that it takes is in hand; else nothing is taken, and `take` has to be asked."""
        size = want.tokens
        find = self._rates.found
        hands = []
        purses = []
        for level in want.levels:
            hand = find(level.id.int)
            if (
                hand is None
                or hand.level is not level
                or hand.requests < 1
                or hand.slots < 1
                or hand.until <= now
                or hand.tokens < size
            ):
                return None
            if hand.budgets:
                found = hand.free_purses(want, now)
                if found is None:
                    return None
                purses += found
            hands.append(hand)
        bind(purses, now)
        return Lease(
            hands, purses, self._rates.take_all(hands, size, now), self._rates.put_back, now
        )

    def peek(
        self,
        want: Want,
        now: float,
        tell: Callable[[Sequence[Told] | Refused], None],
        waits: Callable[[], bool],
    ) -> None:
        """What a take would come to: it is made, and goes back before `tell` hears of it."""

        def refused(outcome: Lease | Refused) -> None:
            if isinstance(outcome, Refused):
                tell(outcome)

        self.take(want, now, refused, waits, look=tell)

    def take(
        self,
        want: Want,
        now: float,
        answer: Answered,
        waits: Callable[[], bool],
        look: Callable[[Sequence[Told]], None] | None = None,
    ) -> None:
        """Calls `answer` with a lease or a refusal, maybe before it returns. Whoever does not wait any more takes nothing."""
        self._attempt(want, now, answer, waits, look, None)

    def _ask_again(self, waiter: Waiter, now: float) -> None:
        self._attempt(waiter.want, now, waiter.answer, waiter.waits, None, waiter)

    def _attempt(
        self,
        want: Want,
        now: float,
        answer: Answered,
        waits: Callable[[], bool],
        look: Callable[[Sequence[Told]], None] | None,
        waiter: Waiter | None,
    ) -> None:
        hands = [self._rates.hand(level) for level in want.levels]
        purses = _NONE
        if any(hand.budgets for hand in hands):
            purses = [pair for hand in hands for pair in self._budgets.purses(hand, want)]
        call = Parked(want, hands, purses, answer, waits, now)
        call.look, call.waiter = look, waiter
        has_budgets = call.has_budgets or self._budgets.try_take(call, now)
        has_rates = call.has_rates or self._rates.try_take(call, now)
        if has_budgets and has_rates:
            self._finish(call, self._lease(call, hands, now))
            return
        refused = None if waiter else self._known_refusal(call, now)
        if refused is None and self._waiting >= _MAX_PARKED:
            refused = Refused(want.levels[0].kind, "overloaded", 1.0)
        if refused is not None:
            self._end(call, refused)
            return
        self._parked.append(call)
        self._waiting += 1
        call.is_parked = True
        if not has_rates:
            self._rates.park(call, now)
            self._rates.send(now)
        if not has_budgets:
            self._budgets.park(call, now)
            self._budgets.send(now)

    def _known_refusal(self, call: Parked, now: float) -> Refused | None:
        refused = None if call.has_rates else self._rates.known_refusal(call, now)
        if refused is None and not call.has_budgets:
            refused = self._budgets.known_refusal(call, now)
        return refused

    def _lease(self, call: Parked, hands: Sequence[Hand], now: float) -> Lease:
        tokens = [
            Leftover(taken.hand, taken.receipts, 0, taken.tokens)
            for taken in call.taken
            if taken.hand.per_minute
        ]
        ruled = [hand for hand in hands if hand.has_rules]
        return Lease(ruled, call.purses, tokens, self._rates.put_back, now)

    def _went_on(self, call: Parked) -> None:
        """A desk has an answer for a parked call."""
        if call.is_over:
            # It was refused by the other desk, or has waited too long: what this one took goes back.
            self._undo(call)
        elif call.refused is not None:
            self._end(call, call.refused)
        elif call.has_rates and call.has_budgets:
            if call.waits():
                self._finish(call, self._lease(call, call.ruled, self._clock.monotonic()))
            else:
                self._end(call, None)

    def forget_refusals(self) -> None:
        """Something was changed: what was refused a moment ago may be allowed."""
        self._rates.forget_refusals()
        self._budgets.forget_refusals()

    def _end(self, call: Parked, refused: Refused | None) -> None:
        self._undo(call)
        self._close(call)
        now, waiter = self._clock.monotonic(), call.waiter
        if refused is None or not call.waits():
            if waiter is not None:
                self._room.left(waiter, now)
            return
        if call.look is None:
            waiter = waiter or Waiter(call.want, call.answer, call.waits, call.at)
            if self._room.refused(waiter, refused, now):
                return
        call.answer(refused)

    def _finish(self, call: Parked, lease: Lease) -> None:
        self._close(call)
        if call.look is not None:
            told = lease.told
            self._undo(call)
            call.look(told)
            return
        call.answer(lease)
        if call.waiter is not None:
            self._room.left(call.waiter, self._clock.monotonic())

    def _close(self, call: Parked) -> None:
        self._waiting -= call.is_parked
        call.is_parked = False
        call.is_over = True

    def _undo(self, call: Parked) -> None:
        self._rates.undo(call)
        self._budgets.undo(call)

    # --- now and then ---

    def _tick(self) -> None:
        self._ticker = asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick)
        self.look(self._clock.monotonic())

    def look(self, now: float) -> None:
        """Ends the wait of those who have waited long enough, and gives back what nobody uses."""
        while self._parked and (
            self._parked[0].is_over or now - self._parked[0].at >= PARKED_SECONDS
        ):
            call = self._parked.popleft()
            if not call.is_over:
                late = Refused(call.want.levels[0].kind, "overloaded", 1.0)
                self._end(call, late if call.has_budgets else unavailable(call))
        self._room.tick(now)
        self._rates.tick(now)
        self._budgets.tick(now)

    def give_everything_back(self) -> None:
        """No call runs any more."""
        if self._ticker is not None:
            self._ticker.cancel()
        self._rates.close()
        self._budgets.close()
        self._tiers.stop()

    def stop(self) -> None:
        """Waits for the keepers; not on the loop's thread."""
        for keeper in self._keepers:
            keeper.stop(_STOP_SECONDS)
