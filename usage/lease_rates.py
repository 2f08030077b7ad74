"""A worker's side of shared rates and slots: what its calls find in hand, and the trips to the stores for what they do not.

On the loop's thread, but for the trips themselves, which a keeper makes one after the other.
"""

from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Final

from usage.hands import ENOUGH, FEW, Hand, Leftover, Spare, what_is_left
from usage.keeper import Keeper
from usage.levels import Level
from usage.parked import Parked
from usage.rate_terms import MAX_LIFE, SECOND, SLOT_LIFE, Ask, Got, Having, Part, Receipt
from usage.tiers import UNASKED, Giving, Outcome, Tiers, Trip
from usage.wants import Left, Reason, Refused

#: The life of a lease (µs) that is taken ahead. What a life is short of, a window is long of.
_LONG_LIFE: Final = SECOND * 3 // 4
#: Asks of one trip, and calls of one ask.
_ASKS: Final = 100
_CALLS: Final = 200
#: Seconds for which a refusal is taken as given, so that a storm of refused calls costs a few trips a second.
_REMEMBERED: Final = 0.1
#: Seconds between saying which slots are ours; and those for which free ones stay in hand.
_SAY_SECONDS: Final = 3.0
_IDLE_SECONDS: Final = 0.5
#: A level that nobody asked for this long is forgotten; how often that is looked at.
_FORGET_SECONDS: Final = 10.0
_REASONS: Final[dict[int, Reason]] = {0: "requests", 1: "daily", 2: "tokens", 3: "concurrency"}

#: Levels that are asked together, and the calls for which they are; none: what is fetched ahead for one level.
_Errand = tuple[tuple[Hand, ...], list[Parked]]


class RateDesk:
    """`settle` hears of each parked call whose rates were taken or refused."""

    def __init__(
        self,
        tiers: Tiers,
        keeper: Keeper,
        holder: str,
        settle: Callable[[Parked], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._tiers = tiers
        self._keeper = keeper
        self._holder = holder
        self._numbers = count(1)
        self._settle = settle
        self._monotonic = monotonic
        self._hands: dict[int, Hand] = {}
        #: A level's hand by the integer of its id, if that is to be had without thinking: it may be of older limits.
        self.found = self._hands.get
        #: Every rule set by which a level is known; of one that changed the old is there until nothing of it is left.
        self._variants: dict[Level, Hand] = {}
        self._queue: deque[Parked] = deque()
        self._ahead: set[Hand] = set()
        #: Those with slots in the store's books, and those with leases that were taken ahead.
        self._holding: set[Hand] = set()
        self._leased: set[Hand] = set()
        self._givings: dict[tuple[str, tuple[Receipt, ...]], tuple[int, int]] = {}
        self._is_busy = False
        self._looked_at = 0.0
        #: Refusals are remembered within one.
        self._era = 0

    def __len__(self) -> int:
        return len(self._variants)

    @property
    def running(self) -> int:
        """Takes of calls that are running, over all levels."""
        return sum(hand.calls for hand in self._variants.values())

    # --- what calls find ---

    def hand(self, level: Level) -> Hand:
        """A level's hand. Fast if it is the one that this level had last time."""
        hand = self._hands.get(level.id.int)
        if hand is not None and (hand.level is level or hand.level.limits == level.limits):
            hand.level = level
            return hand
        hand = self._variants.get(level)
        if hand is None:
            # What one hand of a level has must not be taken for what another has.
            hand = Hand(level, f"{self._holder}:{next(self._numbers)}")
            self._variants[level] = hand
        hand.level = level
        self._hands[level.id.int] = hand
        return hand

    def take_all(self, hands: list[Hand], size: int, now: float) -> list[Leftover]:
        """One call of hands that are known to have it. Gives the tokens that were taken."""
        tokens = []
        for hand in hands:
            hand.requests -= 1
            hand.slots -= 1
            hand.calls += 1
            hand.used_at = now
            if hand.per_minute:
                hand.tokens -= size
                tokens.append(Leftover(hand, hand.receipts, 0, size))
            if hand.requests < hand.low:
                self.fetch_ahead(hand)
        return tokens

    def try_take(self, call: Parked, now: float) -> bool:
        """Takes from what is in hand, all or nothing."""
        hands, tokens = call.ruled, call.tokens
        for hand in hands:
            if not hand.has(tokens if hand.per_minute else 0, now):
                return False
        for hand in hands:
            amount = tokens if hand.per_minute else 0
            over, receipts = hand.take(amount, now)
            if over is not None:
                self.put_back(over)
            call.taken.append(Leftover(hand, receipts, int(hand.requests < ENOUGH), amount))
            if hand.requests < hand.low:
                self.fetch_ahead(hand)
        call.has_rates = True
        return True

    def fetch_ahead(self, hand: Hand) -> None:
        if not hand.is_asked and hand.spare is None:
            self._ahead.add(hand)

    def known_refusal(self, call: Parked, now: float) -> Refused | None:
        """A refusal of just now that holds for this call too."""
        for hand in call.ruled:
            refused = hand.refused
            if refused is None or hand.refused_until <= now or hand.refused_era != self._era:
                continue
            if refused.reason == "tokens" and call.tokens < hand.refused_tokens:
                continue
            if refused.reason == "concurrency" and hand.slots >= 1:
                continue
            return refused
        return None

    def forget_refusals(self) -> None:
        """Something was changed: what was refused a moment ago may be allowed."""
        self._era += 1

    def undo(self, call: Parked) -> None:
        """A call that does not come about after all took nothing."""
        for taken in call.taken:
            taken.hand.calls -= 1
            taken.hand.slots += 1
            self.put_back(taken)
        call.taken = []
        call.has_rates = False

    def put_back(self, over: Leftover) -> None:
        """Goes back with the next trip. Negative tokens: more was used than taken."""
        if over.receipts and (over.requests or over.tokens):
            place = (over.hand.name, over.receipts)
            requests, tokens = self._givings.get(place, (0, 0))
            self._givings[place] = (requests + over.requests, tokens + over.tokens)

    # --- trips ---

    def park(self, call: Parked, now: float) -> None:
        for hand in call.ruled if call.waiter is None else ():
            if not hand.has(call.tokens if hand.per_minute else 0, now):
                hand.miss(now)
        self._queue.append(call)

    def send(self, now: float) -> None:
        """Makes the next trip, if there is a reason for one and none is under way."""
        if self._is_busy:
            return
        errands: list[_Errand] = [(calls[0].ruled, calls) for calls in self._groups()]
        slotted = {hand for hands, _ in errands for hand in hands if hand.rules.slots}
        for hand in [each for each in self._ahead if each not in slotted][:_ASKS]:
            hand.is_asked = True
            errands.append(((hand,), []))
        self._ahead.clear()
        havings = self._havings(now)
        if not (errands or self._givings or havings):
            return
        asks = tuple(self._ask(calls) if calls else _ahead(hands[0]) for hands, calls in errands)
        trip = Trip(self._take_givings(), havings, asks)
        self._is_busy, era = True, self._era
        self._keeper.do(
            lambda: self._tiers.work(trip),
            lambda outcomes: self._came_back(now, errands, trip, outcomes, era),
        )

    def _take_givings(self) -> tuple[Giving, ...]:
        givings = tuple(
            Giving(level, receipts, requests, tokens)
            for (level, receipts), (requests, tokens) in self._givings.items()
        )
        self._givings = {}
        return givings

    def _groups(self) -> list[list[Parked]]:
        """Calls that wait, those with the same levels together, in the order in which they came."""
        found: dict[tuple[Hand, ...], list[Parked]] = {}
        slotted: set[Hand] = set()
        rest: list[Parked] = []
        while self._queue:
            call = self._queue.popleft()
            if not call.is_waiting:
                continue
            group = found.get(call.ruled)
            if group is None:
                # How many slots we have is said once in a trip: a second ask would not know of what the first was granted.
                its = [hand for hand in call.ruled if hand.rules.slots]
                if len(found) >= _ASKS or not slotted.isdisjoint(its):
                    rest.append(call)
                    continue
                group = found[call.ruled] = []
                slotted.update(its)
            if len(group) >= _CALLS:
                rest.append(call)
            else:
                group.append(call)
        self._queue.extend(rest)
        return list(found.values())

    def _ask(self, calls: list[Parked]) -> Ask:
        hands = calls[0].ruled
        like = min(hand.liked for hand in hands)
        life = min(MAX_LIFE, max(call.life for call in calls))
        if like and all(window.period > SECOND for hand in hands for window in hand.rules.windows):
            life = max(life, _LONG_LIFE)
        tokens = max(call.tokens for call in calls)
        now = self._monotonic()
        parts = tuple(
            _part(hand, hand.serves(tokens if hand.per_minute else 0, now)) for hand in hands
        )
        return Ask(parts, tuple(call.tokens for call in calls), like, like * tokens, life)

    def _havings(self, now: float) -> tuple[Having, ...]:
        """Says again which slots are ours, and lets go of those that nobody uses."""
        found = []
        for hand in list(self._holding):
            is_idle = hand.held > hand.calls and now - hand.used_at > _patience(hand)
            if not is_idle and now - hand.said_at < _SAY_SECONDS:
                continue
            if is_idle:
                hand.held, hand.slots = hand.calls, 0
            elif hand.until < ENOUGH and hand.requests == hand.tokens == ENOUGH:
                hand.until = now + SLOT_LIFE / SECOND
            hand.said_at = now
            found.append(Having(hand.name, hand.holder, hand.held))
            if not hand.held:
                self._holding.discard(hand)
        return tuple(found)

    def _came_back(
        self,
        sent: float,
        errands: list[_Errand],
        trip: Trip,
        outcomes: list[Outcome] | None,
        era: int,
    ) -> None:
        now = self._monotonic()
        try:
            self._hear_and_tell(sent, errands, trip, outcomes, now, era)
        finally:
            # Only now: who was told may ask for more, and what that is depends on all that was heard.
            self._is_busy = False
        if self._queue or self._ahead:
            # What goes back waits for the next tick: under load every call has some, and trips would never end.
            self.send(now)

    def _hear_and_tell(
        self,
        sent: float,
        errands: list[_Errand],
        trip: Trip,
        outcomes: list[Outcome] | None,
        now: float,
        era: int,
    ) -> None:
        for hands, calls in errands:
            if not calls:
                hands[0].is_asked = False
        told: list[Parked] = []
        if outcomes is None:
            for call in [call for _, calls in errands for call in calls]:
                call.refused = Refused(call.want.levels[0].kind, "overloaded", 1.0)
                told.append(call)
        else:
            for errand, ask, outcome in zip(errands, trip.asks, outcomes, strict=True):
                told += self._answered(errand, ask, outcome, sent, now, era)
        # Each has what it was granted before anybody is told: whom that lets go on must not be served with what is another's.
        for call in told:
            self._settle(call)

    def _answered(
        self, errand: _Errand, ask: Ask, outcome: Outcome, sent: float, now: float, era: int
    ) -> list[Parked]:
        """Gives those who are to be told."""
        hands, calls = errand
        granted, until = outcome.answer.calls, sent + ask.life / SECOND
        is_late = now >= until
        needed = sum(ask.calls[:granted])
        for hand, part, got in zip(hands, ask.parts, outcome.answer.parts, strict=True):
            requests, tokens = got.requests, got.tokens
            if not is_late:
                requests, tokens = max(0, requests - granted), max(0, tokens - needed)
            if got is not UNASKED:
                self._hear(hand, part, got, sent, now)
            hand.low = requests / 2 if requests > 1 and not is_late else -1.0
            over = Leftover(hand, outcome.receipts, requests, tokens)
            self._keep(over, 0.0 if is_late else until)
        told = []
        for call in calls[:granted]:
            if is_late:
                call.life = min(MAX_LIFE, 4 * call.life)
                self._queue.append(call)
            elif self._grant(call, outcome, now):
                told.append(call)
        if granted < len(calls):
            self._refuse(calls[granted:], hands, outcome, now, era)
            told += calls[granted:]
        return told

    def _hear(self, hand: Hand, part: Part, got: Got, sent: float, now: float) -> None:
        hand.hear(got, now)
        if hand.rules.slots:
            if hand.requests == hand.tokens == ENOUGH:
                hand.until = sent + SLOT_LIFE / SECOND
            hand.slots += got.slots - part.held
            hand.held = got.slots
            hand.said_at = sent
            if hand.held:
                self._holding.add(hand)

    def _keep(self, ahead: Leftover, until: float) -> None:
        """What was granted beyond the calls stays in hand, or goes back if it came too late."""
        hand = ahead.hand
        if not (ahead.requests or ahead.tokens):
            return
        if not until:
            self.put_back(ahead)
            return
        requests = ahead.requests if hand.requests < ENOUGH else ENOUGH
        tokens = ahead.tokens if hand.per_minute else ENOUGH
        if hand.until <= self._monotonic():
            self._let_go(hand)
        hand.add(Spare(requests, tokens, until, ahead.receipts))
        self._leased.add(hand)

    def _grant(self, call: Parked, outcome: Outcome, now: float) -> bool:
        """False: it does not wait any more, and what was for it goes back."""
        taken = [
            Leftover(
                hand,
                outcome.receipts,
                int(hand.requests < ENOUGH),
                call.tokens if hand.per_minute else 0,
            )
            for hand in call.ruled
        ]
        if not call.is_waiting:
            for each in taken:
                self.put_back(each)
            return False
        for each in taken:
            each.hand.calls += 1
            each.hand.slots -= 1
            each.hand.used_at = now
        call.taken = taken
        call.has_rates = True
        return True

    def _refuse(
        self,
        calls: list[Parked],
        hands: tuple[Hand, ...],
        outcome: Outcome,
        now: float,
        era: int,
    ) -> None:
        """`era`: in which they asked."""
        answer = outcome.answer
        hand, reason = hands[answer.part], _REASONS[answer.reason]
        requests, tokens = what_is_left(hands, now)
        nothing = Left(answer.limit, 0, answer.reset / SECOND)
        if reason in ("requests", "daily"):
            requests = nothing
        elif reason == "tokens" and not answer.period:
            tokens = nothing
        refused = Refused(
            hand.level.kind,
            reason,
            answer.wait / SECOND,
            answer.limit,
            period=answer.period / SECOND,
            burst=answer.burst,
            requests=requests,
            tokens=tokens,
        )
        hand.refused = refused
        hand.refused_tokens, hand.refused_era = calls[0].tokens, era
        hand.refused_until = now + min(_REMEMBERED, answer.wait / SECOND)
        for call in calls:
            call.refused = refused

    # --- what is not used ---

    def tick(self, now: float) -> None:
        """Leases that are over go back, and what nobody asks for any more is forgotten. Now and then, several times a second."""
        for hand in list(self._leased):
            if hand.until <= now or (hand.spare is not None and hand.spare.until <= now):
                self._let_go(hand)
            if not hand.has_lease:
                self._leased.discard(hand)
        if now - self._looked_at > _FORGET_SECONDS:
            self._looked_at = now
            self._forget(now - _FORGET_SECONDS)
        self.send(now)

    def _let_go(self, hand: Hand) -> None:
        over = hand.let_go()
        if over is not None:
            # It was taken ahead for calls that did not come.
            hand.like //= 2
            self.put_back(over)

    def _forget(self, before: float) -> None:
        for level, hand in list(self._variants.items()):
            # Who waits for it now has missed it a moment ago.
            if hand.is_idle and max(hand.used_at, hand.missed_at) < before:
                del self._variants[level]
                if self._hands.get(level.id.int) is hand:
                    del self._hands[level.id.int]

    def close(self) -> None:
        """Everything in hand goes back, with one last trip."""
        now = self._monotonic()
        for hand in list(self._leased):
            self._let_go(hand)
            self._let_go(hand)
        for hand in self._holding:
            hand.used_at = now - _IDLE_SECONDS - 1
            hand.calls = 0
        trip = Trip(self._take_givings(), self._havings(now), ())
        self._keeper.do(lambda: self._tiers.work(trip), lambda _: None)


def _patience(hand: Hand) -> float:
    """Seconds for which a free slot waits for the next call. Near the limit others may be waiting for it."""
    return _IDLE_SECONDS if hand.info and hand.info.slots_left >= FEW else 0.0


def _part(hand: Hand, is_stocked: bool) -> Part:
    return Part(hand.name, hand.rules, hand.holder, hand.held, is_stocked)


def _ahead(hand: Hand) -> Ask:
    like = hand.liked
    return Ask((_part(hand, is_stocked=False),), (), like, 0, _LONG_LIFE)
