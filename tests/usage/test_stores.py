"""Stores of shared limits: the same sums everywhere, whole batches or none, and what happens when one is away."""

import random
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import msgspec
import pytest
import redis
from django.db import OperationalError, connection

from tests.gateway.relay.edge import FakeClock
from tests.support import services
from tests.support.leases import HeldStore
from usage.buckets import State, work
from usage.models import SharedLimit
from usage.rate_terms import (
    DAY,
    MINUTE,
    NO_RULES,
    SECOND,
    TOKENS,
    Answer,
    Ask,
    Batch,
    Having,
    Part,
    Return,
    Rules,
    Window,
)
from usage.stores import MemoryStore, Store
from usage.stores_database import DatabaseStore, RedisUse
from usage.stores_redis import _SCRIPT, Forgotten, RedisStore
from usage.tiers import UNASKED, Giving, Tiers, Trip

LEVELS = ("key:a", "key:b", "tenant:c")
LIFE = SECOND // 10


def rules(most: int, *, slots: int = 0, daily: int = 0, tokens: int = 0) -> Rules:
    return Rules((Window(MINUTE, most, 0),) if most else (), daily, tokens, slots)


def one(limit: Rules, calls: int = 1, level: str = "key:a", like: int = 0) -> Ask:
    return Ask((Part(level, limit, "w", 0),), (1,) * calls, like, 0, LIFE)


# --- Lua and Python -----------------------------------------------------------------------------------------------------


def any_rules(dice: random.Random) -> Rules:
    windows = []
    for period in (SECOND, MINUTE, 60 * MINUTE):
        if dice.random() < 0.5:
            most = dice.choice([1, 3, 7, 60, 1000])
            burst = dice.choice([0, 1, 2, most // 6])
            windows.append(Window(period, most, burst))
    return Rules(
        tuple(windows),
        dice.choice([0, 50, 1000]),
        dice.choice([0, 100, 5000]),
        dice.choice([0, 1, 5, 100]),
    )


def any_batch(dice: random.Random, limits: dict[str, Rules], given: list[Return]) -> Batch:
    asks = []
    for _ in range(dice.randrange(1, 4)):
        chosen = sorted(dice.sample(LEVELS, dice.randint(1, 3)))
        parts = tuple(
            Part(
                level,
                limits[level],
                f"h{dice.randrange(2)}",
                dice.randrange(3),
                dice.random() < 0.3,
            )
            for level in chosen
        )
        calls = tuple(dice.randrange(60) for _ in range(dice.randrange(5)))
        likes = dice.choice([0, 10]), dice.choice([0, 100])
        asks.append(Ask(parts, calls, *likes, dice.choice([LIFE, SECOND, 2 * SECOND])))
    returns = tuple(dice.choice(given) for _ in range(dice.randrange(2))) if given else ()
    havings = tuple(
        Having(dice.choice(LEVELS), "h0", dice.randrange(3)) for _ in range(dice.randrange(2))
    )
    return Batch(returns, havings, tuple(asks))


@pytest.mark.parametrize("seed", range(12))
def test_redis_does_the_same_sums_as_python(seed: int, redis_space: services.RedisSpace) -> None:
    dice = random.Random(seed)
    limits = {level: any_rules(dice) for level in LEVELS}
    states = {level: State() for level in LEVELS}
    given: list[Return] = []
    now = 20_000 * DAY + dice.randrange(DAY)
    with closing(redis.Redis.from_url(redis_space.url)) as client:
        script = client.register_script(_SCRIPT)
        client.set(f"{redis_space.prefix}mark", "m")
        for _ in range(60):
            gaps = [0, 1000, SECOND - 1, 5 * SECOND, 61 * SECOND, -SECOND, 365 * DAY, -365 * DAY]
            now += dice.choices(gaps, [4, 8, 8, 4, 4, 1, 0.2, 0.2])[0]
            batch = any_batch(dice, limits, given)
            names = batch.levels()
            place = {name: number for number, name in enumerate(names, 1)}
            packed = msgspec.msgpack.encode(_placed(batch, place))
            keys = [redis_space.prefix + name for name in [*names, "mark"]]
            said = script(keys=keys, args=[packed, "m", now])
            answers = work({name: states[name] for name in names}, batch, now, now)
            assert msgspec.msgpack.decode(said, type=list[Answer]) == answers
            for ask, answer in zip(batch.asks, answers, strict=True):
                for part, got in zip(ask.parts, answer.parts, strict=True):
                    requests, tokens = dice.randint(0, got.requests), dice.randint(-5, got.tokens)
                    given.append(Return(part.level, got.end, got.day, requests, tokens))


def _placed(batch: Batch, place: dict[str, int]) -> object:
    return (
        [(place[back.level], *back[1:]) for back in batch.returns],
        [(place[having.level], *having[1:]) for having in batch.havings],
        [([(place[part.level], *part[1:]) for part in ask.parts], *ask[1:]) for ask in batch.asks],
    )


# --- every store --------------------------------------------------------------------------------------------------------


def check_shared(first: Store, second: Store) -> None:
    """Two users of one store."""
    limit = rules(10, slots=9)
    (got,) = first.work(Batch((), (), (one(limit, 6),)))
    assert (got.calls, got.parts[0].left, got.parts[0].slots) == (6, 4, 6)
    other = Ask((Part("key:a", limit, "v", 0),), (0,) * 6, 0, 0, LIFE)
    (rest,) = second.work(Batch((), (), (other,)))
    assert (rest.calls, rest.reason) == (3, 3)
    back = Return("key:a", got.parts[0].end, got.parts[0].day, 6, 0)
    (more,) = first.work(Batch((back,), (Having("key:a", "w", 0),), (one(limit, 6),)))
    assert (more.calls, more.parts[0].left) == (6, 1)


@pytest.mark.django_db(transaction=True)
def test_the_database_is_shared() -> None:
    check_shared(DatabaseStore(), DatabaseStore())
    assert SharedLimit.objects.get().name == "key:a"


def test_redis_is_shared_and_what_is_idle_expires(redis_space: services.RedisSpace) -> None:
    stores = [RedisStore(redis_space.url, redis_space.prefix) for _ in range(2)]
    for store in stores:
        store.recall()
    check_shared(*stores)
    with closing(redis.Redis.from_url(redis_space.url)) as client:
        (key,) = client.keys(f"{redis_space.prefix}limit:key:*")
        assert 0 < client.pttl(key) <= 62_000
    for store in stores:
        store.close()


@pytest.mark.django_db(transaction=True)
def test_many_at_once_take_no_more_than_there_is() -> None:
    granted: list[int] = []

    def take() -> None:
        try:
            for number in range(6):
                asks = tuple(
                    Ask(tuple(Part(name, rules(20), "w", 0) for name in levels), (1,), 0, 0, LIFE)
                    for levels in (LEVELS[: 1 + number % 3], LEVELS[:1])
                )
                granted.extend(a.calls for a in DatabaseStore().work(Batch((), (), asks)))
        finally:
            connection.close()

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 48, "no deadlock, nobody failed"
    assert sum(granted) == 20


@pytest.mark.django_db
def test_rows_in_which_nothing_counts_are_swept() -> None:
    clock = FakeClock()
    store = DatabaseStore(clock)
    store.work(Batch((), (), (one(rules(5)),)))
    clock.micros += 30 * SECOND
    store.sweep()
    assert SharedLimit.objects.exists()
    clock.micros += 60 * SECOND
    store.sweep()
    assert not SharedLimit.objects.exists()


@pytest.mark.django_db
def test_that_redis_is_in_use_is_known_for_a_while_and_then_swept() -> None:
    clock = FakeClock()
    use = RedisUse(clock)
    assert not use.is_recent()
    for _ in range(2):
        use.note(60.0)
        clock.micros += 59 * SECOND
        assert use.is_recent()
    clock.micros += 2 * SECOND
    assert not use.is_recent()
    DatabaseStore(clock).sweep()
    assert not SharedLimit.objects.exists()


def test_memory_forgets_idle_levels_and_no_others() -> None:
    store = MemoryStore()
    for second in range(2_000):
        now = second * SECOND
        store.work(Batch((), (), (one(rules(9), level=f"key:{second}"),)), now, now)
    assert len(store) < 100
    assert store.work(Batch((), (), (one(rules(9), 9, level="key:1999"),)), now, now)[0].calls == 8


def _restarted(store: RedisStore, space: services.RedisSpace, client: "redis.Redis") -> None:
    """It comes back with what it had written to its disk long ago."""
    client.set(f"{space.prefix}limit:mark", "an earlier process:1")


def _swapped(store: RedisStore, space: services.RedisSpace, client: "redis.Redis") -> None:
    """Another one stands in its place, and has for long."""
    store._mark = b"that other process:1"


def _emptied(store: RedisStore, space: services.RedisSpace, client: "redis.Redis") -> None:
    client.delete(*client.keys(f"{space.prefix}*"))


def _spoiled(store: RedisStore, space: services.RedisSpace, client: "redis.Redis") -> None:
    client.delete(f"{space.prefix}limit:key:a")
    client.rpush(f"{space.prefix}limit:key:a", "spoiled")


def _scribbled(store: RedisStore, space: services.RedisSpace, client: "redis.Redis") -> None:
    client.set(f"{space.prefix}limit:key:a", "spoiled")


def _unmarked(store: RedisStore, space: services.RedisSpace, client: "redis.Redis") -> None:
    client.delete(f"{space.prefix}limit:mark")
    client.rpush(f"{space.prefix}limit:mark", "spoiled")


@pytest.mark.parametrize("how", [_restarted, _swapped, _emptied, _unmarked])
def test_a_redis_that_has_forgotten_counts_nothing_until_its_worker_knows(
    how: Callable[[RedisStore, services.RedisSpace, "redis.Redis"], None],
    redis_space: services.RedisSpace,
) -> None:
    limit = rules(5)
    with (
        closing(RedisStore(redis_space.url, redis_space.prefix)) as store,
        closing(redis.Redis.from_url(redis_space.url)) as client,
    ):
        store.recall()
        store.is_new()
        assert store.recall() > DAY, "there never was anything to forget"
        assert store.work(Batch((), (), (one(limit, 3),)))[0].calls == 3
        how(store, redis_space, client)
        for _ in range(2):
            with pytest.raises(Forgotten):
                store.work(Batch((), (), (one(limit, 3),)))
        store.ping()
        assert store.recall() < SECOND
        assert store.work(Batch((), (), (one(limit),)))[0].calls == 1


@pytest.mark.parametrize("how", [_spoiled, _scribbled])
def test_a_level_in_whose_key_somebody_else_wrote_is_full_until_it_would_have_passed(
    how: Callable[[RedisStore, services.RedisSpace, "redis.Redis"], None],
    redis_space: services.RedisSpace,
) -> None:
    limit = rules(5, slots=4)
    with (
        closing(RedisStore(redis_space.url, redis_space.prefix)) as store,
        closing(redis.Redis.from_url(redis_space.url)) as client,
    ):
        store.recall()
        (got,) = store.work(Batch((), (), (one(limit, 3),)))
        how(store, redis_space, client)
        back = Return("key:a", got.parts[0].end, got.parts[0].day, 3, 0)
        both = Ask(
            tuple(Part(level, limit, "w", 1) for level in ("tenant:c", "key:a")), (1,), 0, 0, LIFE
        )
        for _ in range(2):
            asks = (one(limit), both, one(limit, level="tenant:c"))
            first, second, third = store.work(Batch((back,), (Having("key:a", "w", 1),), asks))
            assert [each.calls for each in (first, second, third)] == [0, 0, 1]
            assert (first.part, second.part, first.reason, first.limit) == (0, 1, 0, 5)
            assert 61 * SECOND < second.wait <= 62 * SECOND
            assert [part.slots for part in second.parts] == [1, 1], "as many as before"
        client.pexpire(f"{redis_space.prefix}limit:key:a", 1)
        time.sleep(0.01)
        assert store.work(Batch((), (), (one(limit),)))[0].calls == 1


# --- which store --------------------------------------------------------------------------------------------------------


@dataclass
class Flaky:
    """A store that is there or not."""

    store: HeldStore
    fault: Exception
    is_away: bool = False
    pings: int = 0

    def work(self, batch: Batch) -> list[Answer]:
        self.ping()
        return self.store.work(batch)

    def ping(self) -> None:
        self.pings += 1
        if self.is_away:
            raise self.fault


@dataclass
class Memory(Flaky):
    """A Redis that may forget: its mark is `since`, and `known` is what its only worker goes by."""

    since: float = 0
    known: float = -1

    def work(self, batch: Batch) -> list[Answer]:
        self.ping()
        if self.known != self.since:
            raise Forgotten
        return self.store.work(batch)

    def recall(self) -> int:
        self.known = self.since
        return round((self.store._held_clock.monotonic() - self.since) * SECOND)

    def is_new(self) -> None:
        self.since = self.known = float("-inf")

    def forget(self) -> None:
        self.since = self.store._held_clock.monotonic()
        self.store._states.clear()


class Use:
    """When Redis was noted to be in use, and until when."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.until = float("-inf")
        self.notes = 0

    def is_recent(self) -> bool:
        return self.clock.seconds < self.until

    def note(self, seconds: float) -> None:
        self.notes += 1
        self.until = self.clock.seconds + seconds


class Rig:
    """Both stores, by one clock."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.redis = Memory(HeldStore(self.clock), redis.TimeoutError())
        self.database = Flaky(HeldStore(self.clock), OperationalError())
        self.use = Use(self.clock)
        self.tiers = self.worker()

    def worker(self) -> Tiers:
        return Tiers(
            redis=self.redis,  # type: ignore[arg-type]
            database=self.database,
            use=self.use,  # type: ignore[arg-type]
            workers=4,
            clock=self.clock,
        )

    def take(self, limit: Rules, calls: int = 1) -> Answer:
        return self.tiers.work(Trip((), (), (one(limit, calls),)))[0].answer

    def after(self, seconds: float) -> "Rig":
        self.clock.seconds += seconds
        return self


def test_minutes_are_counted_in_redis_and_days_in_the_database() -> None:
    rig = Rig()
    assert rig.take(rules(5), 9).calls == 5
    assert rig.database.pings == 0
    assert rig.take(rules(9, daily=3), 9).calls == 3
    (batch,) = rig.database.store.batches
    assert batch.asks[0].parts[0].rules == Rules(daily=3)


def test_what_a_later_store_refuses_goes_back_to_the_earlier() -> None:
    rig = Rig()
    assert rig.take(rules(5, daily=2), 4).calls == 2
    assert rig.take(rules(5), 5).calls == 3


def test_a_window_begun_in_redis_counts_as_full_until_it_has_passed() -> None:
    rig = Rig()
    assert rig.take(rules(5), 2).calls == 2
    rig.redis.is_away = True
    refused = rig.take(rules(5))
    assert (refused.calls, refused.reason) == (0, 0)
    assert rig.after(30).take(rules(5)).calls == 0
    assert rig.take(rules(0, daily=2)).calls == 1, "nobody but the database counts days"
    assert rig.after(32.1).take(rules(5), 9).calls == 5
    assert rig.redis.pings == 7, "one that is away is not asked"


def test_after_its_return_both_are_asked_until_the_window_has_passed() -> None:
    rig = Rig()
    rig.redis.is_away = True
    rig.take(rules(5))
    assert rig.after(63).take(rules(5), 3).calls == 3
    rig.redis.is_away = False
    rig.tiers.look()
    assert rig.after(1).take(rules(5), 9).calls == 2
    assert rig.after(30).take(rules(5)).calls == 0
    assert rig.after(61).take(rules(5), 9).calls == 5


def test_with_nobody_to_ask_each_worker_goes_by_its_share() -> None:
    rig = Rig()
    rig.redis.is_away = rig.database.is_away = True
    rig.take(rules(8))
    assert rig.after(63).take(rules(8), 8).calls == 2
    assert rig.take(rules(2), 2).calls == 0
    assert Rules((Window(MINUTE, 2, 1),), 3, 0, 1).shared_by(4) == Rules(
        (Window(MINUTE, 1, 1),), 1, 0, 1
    )
    assert NO_RULES.shared_by(4) == NO_RULES


def test_what_redis_has_forgotten_counts_as_full_until_it_would_have_passed() -> None:
    rig = Rig()
    assert rig.take(rules(5), 2).calls == 2
    rig.redis.forget()
    refused = rig.take(rules(5))
    assert (refused.calls, refused.reason) == (0, 0)
    assert rig.redis.store.batches[-1].levels() == ["key:a"], "what is wrong there comes out now"
    assert 61 * SECOND < refused.wait <= 62 * SECOND
    assert rig.take(rules(0, daily=2)).calls == 1, "nobody but the database counts days"
    assert rig.after(11).take(rules(0, slots=1)).calls == 1, "who runs has said so since"
    assert rig.after(30).take(rules(5)).calls == 0
    assert rig.after(21.1).take(rules(5), 9).calls == 5


def test_a_redis_that_nobody_has_used_lately_begins_at_once() -> None:
    rig = Rig()
    rig.redis.forget()
    assert rig.take(rules(5), 2).calls == 2
    assert rig.use.notes == 1
    rig.redis.forget()
    rig.tiers = rig.worker()
    assert rig.take(rules(5)).calls == 0, "a new worker asks the database who used it"
    rig.after(300).redis.forget()
    assert rig.take(rules(5)).calls == 1
    rig.redis.forget()
    rig.use.until = 0.0
    assert rig.take(rules(5)).calls == 0, "it was this worker"


def test_it_is_noted_now_and_then_that_redis_is_in_use() -> None:
    rig = Rig()
    rig.redis.forget()
    for _ in range(60):
        rig.take(rules(1000))
        rig.after(1).tiers.look()
    assert rig.use.notes == 2
    for _ in range(60):
        rig.after(1).tiers.look()
    assert rig.use.notes == 3, "and not when it is not"


def test_what_was_forgotten_while_redis_was_away_was_counted_before() -> None:
    """Then the database has counted since, and goes on."""
    rig = Rig()
    rig.take(rules(5))
    rig.redis.is_away = True
    rig.take(rules(5))
    assert rig.after(63).take(rules(5), 3).calls == 3
    rig.redis.forget()
    rig.redis.is_away = False
    rig.after(0.5).tiers.look()
    assert rig.take(rules(5), 9).calls == 2
    assert rig.after(62.5).take(rules(5), 9).calls == 5


def test_one_slow_answer_does_not_lose_redis() -> None:
    rig = Rig()
    failures = iter([True, True, False])
    rig.redis.ping = lambda: _raise_if(next(failures, False))  # type: ignore[method-assign]
    assert rig.take(rules(5)).calls == 1
    assert rig.database.pings == 0


@dataclass
class Late(Memory):
    """Carries out what it is asked, and then its answer may be late."""

    is_late: bool = False

    def work(self, batch: Batch) -> list[Answer]:
        answers = super().work(batch)
        if self.is_late:
            self.is_late = False
            raise redis.TimeoutError
        return answers


def test_what_went_back_with_a_late_answer_does_not_go_back_again() -> None:
    rig = Rig()
    late = rig.redis = Late(HeldStore(rig.clock), redis.TimeoutError())
    tiers = rig.worker()
    (outcome,) = tiers.work(Trip((), (), (one(rules(10), 10),)))
    late.is_late = True
    tiers.work(Trip((Giving("key:a", outcome.receipts, 4, 0),), (), ()))
    (again,) = tiers.work(Trip((), (), (one(rules(10), 10),)))
    assert again.answer.calls == 4


def test_what_was_spent_beyond_a_lease_is_told_until_it_is_heard() -> None:
    rig, limit = Rig(), Rules(tokens=100)
    late = rig.redis = Late(HeldStore(rig.clock), redis.TimeoutError())
    tiers, ask = rig.worker(), one(limit, 0)._replace(calls=(10,))
    (outcome,) = tiers.work(Trip((), (), (ask,)))
    rig.redis.is_away = True
    tiers.work(Trip((Giving("key:a", outcome.receipts, 1, -90),), (), ()))
    late.is_away = False
    rig.after(0.5)
    tiers.look()
    (again,) = tiers.work(Trip((), (), (ask,)))
    assert (again.answer.calls, again.answer.reason) == (0, TOKENS)


def test_a_part_that_no_store_was_asked_about_says_nothing_of_slots() -> None:
    rig, limit = Rig(), Rules(slots=5)
    having = one(limit)._replace(parts=(Part("key:a", limit, "w", 3),), calls=())
    (outcome,) = rig.tiers.work(Trip((), (), (having,)))
    assert outcome.answer.parts == [UNASKED]
    assert outcome.answer.parts[0] is UNASKED
    asked = having._replace(calls=(0,))
    (outcome,) = rig.tiers.work(Trip((), (), (asked,)))
    assert outcome.answer.parts[0].slots == 4


def _raise_if(away: bool) -> None:
    if away:
        raise redis.TimeoutError


def test_what_comes_back_goes_where_it_was_counted() -> None:
    rig = Rig()
    (outcome,) = rig.tiers.work(Trip((), (), (one(rules(5, daily=5), 5),)))
    giving = Giving("key:a", outcome.receipts, 2, 0)
    (again,) = rig.tiers.work(Trip((giving,), (), (one(rules(5, daily=5), 5),)))
    assert again.answer.calls == 2
