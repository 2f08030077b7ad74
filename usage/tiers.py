"""Which store a worker's shared limits are counted in: Redis while it answers, else the database, else this worker's memory.

Windows of up to a minute, tokens and slots are Redis's if there is one; longer windows and days are always the database's, for
what counts for a day must outlive a cache. When Redis is lost nobody knows what others took there: what was begun there counts
as full until it has passed, and from its return on both stores are asked until what the database counted meanwhile has
passed. A Redis that is there and has forgotten what it had counted is as good as lost; one that nobody has used lately had
nothing to forget. With the database away too a worker goes by its share of each limit, alone.

Calls are the rates keeper's, in its thread; a thread of its own looks now and then whether what was away is back.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from django.db import Error, connection
from msgspec import structs

from tenants import patience
from tenants.clock import SYSTEM, Clock
from usage import stores_database
from usage.rate_terms import (
    MAX_LIFE,
    MINUTE,
    NO_RULES,
    NOTHING,
    REQUESTS,
    SECOND,
    SLOT_LIFE,
    SLOTS,
    TOKENS,
    Answer,
    Ask,
    Batch,
    Got,
    Having,
    Part,
    Receipt,
    Refusing,
    Return,
    Rules,
)
from usage.stores import MemoryStore, Store
from usage.stores_database import DatabaseStore, RedisUse
from usage.stores_redis import AWAY, Forgotten, RedisStore

log = logging.getLogger(__name__)

#: Failures in a row after which Redis is not asked any more, but looked after.
_FAILURES: Final = 5
_LOOK_SECONDS: Final = 1.0
#: Seconds that the database may take for one answer to who looks.
_ANSWER_SECONDS: Final = 1.0
#: µs for which something counts in Redis at most. Between notes that it is in use, and for which such a note says so.
_LONGEST: Final = MINUTE + MAX_LIFE
_NOTE_SECONDS: Final = 30.0
_NOTED_SECONDS: Final = 4 * _NOTE_SECONDS
#: Returns to a store that waits for its next trip, at most; what is dropped counts until its window has passed.
_MAX_OWED: Final = 10_000

#: Which of a level's rules a store counts.
_Choice = Callable[[Rules], Rules]


class Giving(NamedTuple):
    """Leased under `receipts` and not spent (or, tokens below zero, spent beyond it)."""

    level: str
    receipts: tuple[Receipt, ...]
    requests: int
    tokens: int


class Trip(NamedTuple):
    """What a worker has to say to the stores at once."""

    givings: tuple[Giving, ...]
    havings: tuple[Having, ...]
    asks: tuple[Ask, ...]


class Outcome(NamedTuple):
    answer: Answer
    receipts: tuple[Receipt, ...]


@dataclass(slots=True)
class _Case:
    """One ask on its way through the stores. `calls`: how many of its calls are still granted; `like`: whether more is wanted.

    What two stores are asked for must be the same, so then nothing is taken beyond what the calls need.
    """

    ask: Ask
    calls: int
    like: bool
    parts: list[Got]
    receipts: tuple[Receipt, ...] = ()
    #: Of an `Answer`, from `part` on.
    refusal: tuple[int, Refusing, int, int, int, int, int] = (-1, NOTHING, 0, 0, 0, 0, 0)

    @property
    def asks_for_nothing(self) -> bool:
        return self.calls == 0 and not (self.like and (self.ask.like or self.ask.like_tokens))

    def for_store(self, rules: Callable[[Rules], Rules]) -> tuple[Ask, tuple[int, ...]]:
        """What a store that counts only `rules` is asked, and which of the parts that is."""
        parts = [
            (place, part._replace(rules=rules(part.rules)))
            for place, part in enumerate(self.ask.parts)
        ]
        parts = [(place, part) for place, part in parts if part.rules != NO_RULES]
        like = self.ask.like if self.like else 0
        like_tokens = self.ask.like_tokens if self.like else 0
        ask = Ask(
            tuple(part for _, part in parts),
            self.ask.calls[: self.calls],
            like,
            like_tokens,
            self.ask.life,
        )
        return ask, tuple(place for place, _ in parts)

    def refuse(self, place: int, reason: Refusing, wait: int, limit: int) -> None:
        self.calls, self.like = 0, False
        if wait > self.refusal[2]:
            self.refusal = (place, reason, wait, limit, wait, 0, 0)

    def outcome(self) -> Outcome:
        parts = self.parts
        if len(self.receipts) > 1:
            tokens = sum(self.ask.calls[: self.calls])
            parts = [
                got if got is UNASKED else _needed(part, got, self.calls, tokens)
                for part, got in zip(self.ask.parts, parts, strict=True)
            ]
        return Outcome(Answer(self.calls, parts, *self.refusal), self.receipts)


#: Of a part that no store was asked about: what the worker has of it stays as it was.
UNASKED: Final = Got(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def _needed(part: Part, got: Got, calls: int, tokens: int) -> Got:
    """What is left of a lease that a later store cut down."""
    rules = part.rules
    return structs.replace(
        got,
        requests=calls if rules.windows or rules.daily else 0,
        tokens=tokens if rules.tokens else 0,
        slots=part.held + calls if rules.slots else 0,
    )


def _both(one: Got, other: Got) -> Got:
    """What a caller is told of two stores' counts: of each the one with less left."""
    if one is UNASKED:
        return other
    least = min((each for each in (one, other) if each.limit), key=_left, default=one)
    slots = min(one, other, key=lambda each: each.slots_left)
    tokens = max(one, other, key=lambda each: each.tokens_reset)
    return structs.replace(
        tokens,
        limit=least.limit,
        left=least.left,
        reset=least.reset,
        slots_left=slots.slots_left,
    )


def _left(got: Got) -> int:
    return got.left


def _unknown(part: Part, since: int) -> list[tuple[Refusing, int, int]]:
    """What of a level may have been taken in Redis up to `since` µs ago: reason, µs until that has passed, limit."""
    rules = part.rules
    found: list[tuple[Refusing, int, int]] = [
        (REQUESTS, window.period + MAX_LIFE - since, window.most)
        for window in rules.windows
        if window.period <= MINUTE
    ]
    if rules.tokens:
        found.append((TOKENS, MINUTE + MAX_LIFE - since, rules.tokens))
    if rules.slots:
        found.append((SLOTS, SLOT_LIFE - since, rules.slots))
    return found


class Tiers:
    """`workers`: among how many a limit is shared when nobody can be asked."""

    def __init__(
        self,
        *,
        redis: RedisStore | None = None,
        database: Store | None = None,
        use: RedisUse | None = None,
        workers: int = 1,
        clock: Clock = SYSTEM,
    ) -> None:
        self._redis = redis
        self._database: Store = DatabaseStore() if database is None else database
        self._use = RedisUse() if use is None else use
        self._memory = MemoryStore()
        self._workers = max(1, workers)
        self._clock = clock
        self._owed: dict[str, list[Return]] = {"redis": [], "database": [], "memory": []}
        self._failures = 0
        self._redis_away = False
        #: By the monotonic clock: when Redis was lost, and when it came back.
        self._lost_at = float("-inf")
        self._back_at = float("-inf")
        #: When what Redis had counted was forgotten; when it was last noted that it is in use, and whether it was used since.
        self._forgot_at = float("-inf")
        self._noted_at = float("-inf")
        self._is_used = False
        self._database_away = False
        self._ending = threading.Event()
        self._lookout: threading.Thread | None = None

    # --- watching over the stores ---

    def start(self) -> None:
        self._lookout = threading.Thread(target=self._look_out, name="rates-lookout", daemon=True)
        self._lookout.start()

    def stop(self) -> None:
        self._ending.set()

    def report(self) -> dict[str, object]:
        return {
            "redis": None if self._redis is None else not self._redis_away,
            "database": not self._database_away,
        }

    def _look_out(self) -> None:
        patience.bound_thread(_ANSWER_SECONDS)
        while not self._ending.wait(_LOOK_SECONDS):
            self.look()

    def look(self) -> None:
        """Whether Redis is there, and whether a database that was away is back."""
        if self._redis is not None:
            try:
                self._redis.ping()
            except AWAY as fault:
                self._redis_failed(fault)
            else:
                self._redis_answered()
        if self._is_used and self._clock.monotonic() > self._noted_at + _NOTE_SECONDS:
            self._note_use()
            connection.close()
        if self._database_away:
            try:
                stores_database.ping()
            except (Error, OSError):
                return
            finally:
                connection.close()
            self._database_away = False
            log.warning("Shared limits: the database is back.")

    def _redis_failed(self, fault: Exception) -> None:
        self._failures += 1
        if self._redis_away:
            return
        self._lost_at = self._clock.monotonic()
        if self._failures >= _FAILURES:
            self._redis_away = True
            log.warning("Shared limits: Redis does not answer (%s).", type(fault).__name__)

    def _redis_answered(self) -> None:
        self._failures = 0
        if self._redis_away:
            self._back_at = self._clock.monotonic()
            self._redis_away = False
            log.warning("Shared limits: Redis is back.")

    # --- one trip ---

    def work(self, trip: Trip) -> list[Outcome]:
        """One outcome per ask. Always answers: some store is always there."""
        self._owe(trip.givings)
        cases = [_Case(ask, len(ask.calls), True, [UNASKED] * len(ask.parts)) for ask in trip.asks]
        if self._redis is None:
            self._ask_database("database", cases, trip.havings, _all)
            return [case.outcome() for case in cases]
        is_both = self._clock.monotonic() < self._back_at + _LONGEST / SECOND
        for case in cases:
            case.like = not is_both and all(
                part.rules.only(short=False) == NO_RULES for part in case.ask.parts
            )
        if not self._ask_redis(cases, trip.havings):
            self._refuse_what_is_unknown(cases, self._lost_at)
            self._ask_database("database", cases, trip.havings, _all)
        elif is_both:
            self._ask_database("database", cases, trip.havings, _all)
        else:
            self._ask_database("days", cases, (), _long)
        return [case.outcome() for case in cases]

    def _owe(self, givings: tuple[Giving, ...]) -> None:
        for giving in givings:
            for receipt in giving.receipts:
                tokens = 0 if receipt.store == "days" else giving.tokens
                owed = self._owed["database" if receipt.store == "days" else receipt.store]
                if (giving.requests or tokens) and len(owed) < _MAX_OWED:
                    owed.append(
                        Return(giving.level, receipt.end, receipt.day, giving.requests, tokens)
                    )

    def _take_owed(self, store: str) -> tuple[Return, ...]:
        owed, self._owed[store] = tuple(self._owed[store]), []
        return owed

    def _ask_redis(self, cases: list[_Case], havings: tuple[Having, ...]) -> bool:
        """False: it is away. A trip that fails is made again, until enough have failed to call it that."""
        owed, was_told = self._take_owed("redis"), False
        while self._redis is not None and not self._redis_away:
            has_forgotten = self._clock.monotonic() < self._forgot_at + _LONGEST / SECOND
            if has_forgotten:
                self._refuse_what_is_unknown(cases, self._forgot_at)
            try:
                # Who is refused is named all the same: what is wrong with a level there comes out now, and not when this is over.
                self._carry("redis", self._redis, cases, owed, havings, _short, has_forgotten)
            except AWAY as fault:
                owed = _still_owed(owed)
                self._redis_failed(fault)
            except Forgotten as fault:
                if was_told:
                    self._redis_failed(fault)
                was_told = True
                self._remember(self._redis)
            else:
                self._is_used = True
                self._redis_answered()
                return True
        self._owed["redis"] += owed
        return False

    # --- what Redis knows ---

    def _remember(self, redis: RedisStore) -> None:
        """Finds out since when this Redis knows everything. One that nobody has used lately had nothing to forget."""
        try:
            age = redis.recall()
            if age < _LONGEST:
                if self._was_used():
                    # Somebody else may have found out meanwhile that there was nothing.
                    age = redis.recall()
                else:
                    redis.is_new()
                    age = _LONGEST
        except AWAY as fault:
            self._redis_failed(fault)
            return
        began = self._clock.monotonic() - age / SECOND
        # Its memory began while it was away for us: what was before that was counted before we lost it.
        self._forgot_at = self._lost_at if self._lost_at <= began <= self._back_at else began
        if age < _LONGEST:
            log.warning("Shared limits: Redis has forgotten what it had counted.")
        self._note_use()

    def _was_used(self) -> bool:
        if self._clock.monotonic() < self._noted_at + _NOTED_SECONDS or self._database_away:
            return True
        try:
            return self._use.is_recent()
        except (Error, OSError) as fault:
            self._database_failed(fault)
            return True

    def _note_use(self) -> None:
        if self._database_away:
            return
        self._is_used = False
        try:
            self._use.note(_NOTED_SECONDS)
        except (Error, OSError) as fault:
            self._database_failed(fault)
        else:
            self._noted_at = self._clock.monotonic()

    def _database_failed(self, fault: Exception) -> None:
        self._database_away = True
        connection.close()
        log.warning("Shared limits: the database is away (%s).", type(fault).__name__)

    # --- trips to each store ---

    def _ask_database(
        self, name: str, cases: list[_Case], havings: tuple[Having, ...], rules: _Choice
    ) -> None:
        if not self._database_away:
            owed = self._take_owed("database")
            try:
                self._carry(name, self._database, cases, owed, havings, rules)
            except (Error, OSError) as fault:
                self._owed["database"] = list(_still_owed(owed))
                self._database_failed(fault)
            else:
                return
        owed = self._take_owed("memory")
        self._carry(
            "memory",
            self._memory,
            cases,
            owed,
            havings,
            lambda of: rules(of).shared_by(self._workers),
        )

    def _carry(
        self,
        name: str,
        store: Store,
        cases: list[_Case],
        owed: tuple[Return, ...],
        havings: tuple[Having, ...],
        rules: _Choice,
        names_all: bool = False,
    ) -> None:
        """Asks one store for what those before it granted."""
        asked = [
            (case, *case.for_store(rules))
            for case in cases
            if names_all or not case.asks_for_nothing
        ]
        asked = [each for each in asked if each[2]]
        if not (asked or owed or havings):
            return
        answers = store.work(Batch(owed, havings, tuple(ask for _, ask, _ in asked)))
        for (case, _, places), answer in zip(asked, answers, strict=True):
            self._merge(name, case, places, answer)

    def _merge(self, name: str, case: _Case, places: tuple[int, ...], answer: Answer) -> None:
        cut = case.calls - answer.calls
        if cut and case.receipts:
            tokens = sum(case.ask.calls[answer.calls : case.calls])
            for part in case.ask.parts:
                self._owe((Giving(part.level, case.receipts, cut, tokens),))
        for place, got in zip(places, answer.parts, strict=True):
            case.parts[place] = _both(case.parts[place], got)
        if cut:
            why = (answer.reason, answer.wait, answer.limit, answer.reset)
            case.refusal = (places[answer.part], *why, answer.period, answer.burst)
        case.calls = answer.calls
        case.receipts += (Receipt(name, answer.parts[0].end, answer.parts[0].day),)

    def _refuse_what_is_unknown(self, cases: list[_Case], lost_at: float) -> None:
        """What may have been taken in Redis until then counts as everything, for as long as it would have counted there."""
        since = round(min(self._clock.monotonic() - lost_at, 86_400.0) * SECOND)
        for case in cases:
            for place, part in enumerate(case.ask.parts):
                for reason, wait, limit in _unknown(part, since):
                    if wait > 0:
                        case.refuse(place, reason, wait, limit)


def _still_owed(owed: tuple[Return, ...]) -> tuple[Return, ...]:
    """Of what went with a trip that had no answer, and may have come through all the same: only what was spent beyond a lease.
    What goes back twice would be somebody else's; what does not go back counts until its window has passed.
    """
    return tuple(each._replace(requests=0) for each in owed if each.tokens < 0)


def _all(rules: Rules) -> Rules:
    return rules


def _short(rules: Rules) -> Rules:
    return rules.only(short=True)


def _long(rules: Rules) -> Rules:
    return rules.only(short=False)
