"""Stores of shared limits: the same sums everywhere, whole batches or none, and what happens when one is away."""

import random
import threading
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
from usage.stores_database import DatabaseStore
from usage.stores_redis import _SCRIPT, RedisStore
from usage.tiers import Giving, Tiers, Trip

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
            Part(level, limits[level], f"h{dice.randrange(2)}", dice.randrange(3))
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
        for _ in range(60):
            gaps = [0, 1000, SECOND - 1, 5 * SECOND, 61 * SECOND, -SECOND, 365 * DAY, -365 * DAY]
            now += dice.choices(gaps, [4, 8, 8, 4, 4, 1, 0.2, 0.2])[0]
            batch = any_batch(dice, limits, given)
            names = batch.levels()
            place = {name: number for number, name in enumerate(names, 1)}
            packed = msgspec.msgpack.encode(_placed(batch, place))
            said = script(keys=[redis_space.prefix + name for name in names], args=[packed, now])
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
    check_shared(*stores)
    with closing(redis.Redis.from_url(redis_space.url)) as client:
        (key,) = client.keys(f"{redis_space.prefix}limit:*")
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


def test_memory_forgets_idle_levels_and_no_others() -> None:
    store = MemoryStore()
    for second in range(2_000):
        now = second * SECOND
        store.work(Batch((), (), (one(rules(9), level=f"key:{second}"),)), now, now)
    assert len(store) < 100
    assert store.work(Batch((), (), (one(rules(9), 9, level="key:1999"),)), now, now)[0].calls == 8


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


class Rig:
    """Both stores, by one clock."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.redis = Flaky(HeldStore(self.clock), redis.TimeoutError())
        self.database = Flaky(HeldStore(self.clock), OperationalError())
        self.tiers = Tiers(
            redis=self.redis,  # type: ignore[arg-type]
            database=self.database,
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
    assert rig.redis.pings == 6, "one that is away is not asked"


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


def test_one_slow_answer_does_not_lose_redis() -> None:
    rig = Rig()
    failures = iter([True, True, False])
    rig.redis.ping = lambda: _raise_if(next(failures, False))  # type: ignore[method-assign]
    assert rig.take(rules(5)).calls == 1
    assert rig.database.pings == 0


def _raise_if(away: bool) -> None:
    if away:
        raise redis.TimeoutError


def test_what_comes_back_goes_where_it_was_counted() -> None:
    rig = Rig()
    (outcome,) = rig.tiers.work(Trip((), (), (one(rules(5, daily=5), 5),)))
    giving = Giving("key:a", outcome.receipts, 2, 0)
    (again,) = rig.tiers.work(Trip((giving,), (), (one(rules(5, daily=5), 5),)))
    assert again.answer.calls == 2
