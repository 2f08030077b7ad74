"""Calls that wait for others: each takes once or nothing, whichever store answers first; and a crowd of them costs little."""

import random
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from tenants.limits import BudgetLimit
from tests.support.leases import HeldBank, HeldKeeper
from tests.usage.test_leases import MONTH, Rig, level
from usage.hands import Lease
from usage.levels import Level
from usage.waiting import MOST, MOST_OF_A_LEVEL, PATIENCE
from usage.wants import Refused, Want

T = TypeVar("T")
MILLISECOND = 0.001


class Slow(HeldKeeper):
    """Answers some milliseconds after it was asked."""

    def __init__(self, rig: Rig, milliseconds: int) -> None:
        super().__init__()
        self._rig = rig
        self._seconds = milliseconds * MILLISECOND
        self._due: list[tuple[float, Callable[[], None]]] = []

    def do(self, work: Callable[[], T], done: Callable[[T | None], None]) -> None:
        self._due.append((self._rig.clock.seconds + self._seconds, lambda: done(work())))

    def step(self) -> None:
        while self._due and self._due[0][0] <= self._rig.clock.seconds:
            self._due.pop(0)[1]()


class Street:
    """Two workers with slow stores, and callers who come, stay for a while and go, a millisecond at a time."""

    def __init__(self, seed: int, rates: int, money: int) -> None:
        self.key = level(concurrency=2, budgets=(BudgetLimit("nano_usd", "month", 10**9),))
        self.bank = HeldBank({(self.key.id, "nano_usd", MONTH): 10**9})
        self.rig = Rig(2, self.bank)
        self.dice = random.Random(seed)
        self.keepers: list[Slow] = []
        for worker in self.rig.workers:
            pair = Slow(self.rig, rates), Slow(self.rig, money)
            worker._rates._keeper, worker._budgets._keeper = pair
            self.keepers += pair
        self.running: list[tuple[float, Lease]] = []
        self.served = self.refused = 0

    def comes(self) -> None:
        worker = self.rig.workers[self.dice.randrange(2)]
        now = self.rig.clock.seconds
        want = Want((self.key,), self.rig.clock.micros, 1, 100, 100)
        leaves_at = now + self.dice.choice([0.05, 0.2, 9.0])
        lease = worker.at_hand(want, now)
        if lease is not None:
            self.hears(lease)
        else:
            worker.take(want, now, self.hears, lambda: self.rig.clock.seconds < leaves_at)

    def hears(self, answer: Lease | Refused) -> None:
        if isinstance(answer, Lease):
            self.served += 1
            until = self.rig.clock.seconds + self.dice.randrange(20, 200) * MILLISECOND
            self.running.append((until, answer))
            assert len(self.running) <= 2
        else:
            self.refused += 1

    def step(self, number: int) -> None:
        self.rig.clock.seconds += MILLISECOND
        self.rig.clock.micros += 1000
        for keeper in self.keepers:
            keeper.step()
        for each in [each for each in self.running if each[0] <= self.rig.clock.seconds]:
            self.running.remove(each)
            each[1].settle(0, 0)
            each[1].release()
        if number % 50 == 0:
            for worker in self.rig.workers:
                worker.look(self.rig.clock.seconds)


@pytest.mark.parametrize("money", [1, 20, 60, 300])
@pytest.mark.parametrize("rates", [1, 40, 150])
def test_whichever_store_is_slow_each_takes_once_or_nothing(rates: int, money: int) -> None:
    for seed in range(3):
        street = Street(seed, rates, money)
        for number in range(8_000):
            if number < 5_000 and street.dice.random() < 0.02:
                street.comes()
            street.step(number)
        assert street.served > 10
        assert [worker.taken for worker in street.rig.workers] == [0, 0]
        assert [len(worker._room) for worker in street.rig.workers] == [0, 0]
        for _ in range(4_000):
            street.step(50)
        assert street.bank.held((street.key.id, "nano_usd", MONTH)) == 0


def many(rig: Rig, key: Level, number: int, waits: Callable[[], bool] = lambda: True) -> list[Any]:
    want = Want((key,), rig.clock.micros, 1, 1, 1)
    found: list[Any] = []
    for _ in range(number):
        rig.workers[0].take(want, rig.clock.seconds, found.append, waits)
    return found


def test_a_flood_of_refused_calls_does_not_wait_and_costs_few_trips() -> None:
    rig, narrow = Rig(), level(concurrency=1)
    rig.lease(narrow)
    before = len(rig.store.batches)
    found = many(rig, narrow, 1_000)
    assert len(found) == 1_000 - MOST_OF_A_LEVEL
    for _ in range(10):
        rig.after(0.05)
        found += many(rig, narrow, 20)
    asks = sum(len(batch.asks) for batch in rig.store.batches[before:])
    assert asks <= 2 + 11, "one each tick"
    rig.after(0.5)
    assert all(isinstance(answer, Refused) for answer in found)
    assert len(rig.workers[0]._room) == 0


def test_a_flood_of_one_takes_nobody_elses_patience() -> None:
    rig, flooded, quiet = Rig(workers=2), level(concurrency=1), level("tenant", concurrency=1)
    rig.lease(flooded)
    many(rig, flooded, 1_000)
    lease = rig.lease(quiet, worker=1)
    assert rig.take(quiet) is None, "it waits"
    lease.release()
    for _ in range(4):
        rig.after(0.05)
    assert isinstance(rig.answers[-1], Lease)


def test_floods_of_many_do_not_take_every_seat() -> None:
    rig = Rig()
    for _ in range(40):
        key = level(concurrency=1)
        rig.lease(key)
        many(rig, key, 100)
    assert len(rig.workers[0]._room) == MOST


def test_those_who_leave_while_they_wait_are_forgotten_and_hold_nothing() -> None:
    rig, narrow = Rig(), level(concurrency=1)
    first = rig.lease(narrow)
    here = True
    found = many(rig, narrow, 30, waits=lambda: here)
    assert len(rig.workers[0]._room) == 30
    here = False
    rig.after(0.05)
    assert (found, len(rig.workers[0]._room)) == ([], 0)
    first.release()
    rig.lease(narrow)


def test_who_leaves_while_it_asks_lets_the_next_one_ask() -> None:
    rig, narrow = Rig(), level(concurrency=1)
    first, here = rig.lease(narrow), True
    gone = many(rig, narrow, 1, waits=lambda: here)
    found = many(rig, narrow, 1)
    rig.keepers[0][0].is_held = True
    rig.after(0.05)
    here = False
    first.release()
    rig.keepers[0][0].go_on()
    rig.after(0.05)
    rig.after(0.05)
    assert (gone, [type(answer) for answer in found]) == ([], [Lease])


def test_who_waits_is_served_in_order_and_told_when_it_was_long_enough() -> None:
    rig, narrow = Rig(), level(concurrency=1)
    running = rig.lease(narrow)
    found = many(rig, narrow, 3)
    rig.after(0.05)
    running.release()
    rig.after(0.05)
    (second,) = found
    assert isinstance(second, Lease)
    for _ in range(round(PATIENCE / 0.05)):
        rig.after(0.05)
    assert [type(answer) for answer in found] == [Lease, Refused, Refused]
    assert found[-1].reason == "concurrency"


def test_one_keys_held_money_takes_nothing_from_its_tenant() -> None:
    tenant = level("tenant", concurrency=2)
    key = level(budgets=(BudgetLimit("nano_usd", "month", 100),))
    bank = HeldBank({(key.id, "nano_usd", MONTH): 100})
    rig = Rig(bank=bank)
    rig.lease(key, bound=100)
    for _ in range(20):
        rig.take(key, tenant, bound=100)
        rig.after(0.01)
    both = [rig.lease(tenant), rig.lease(tenant)]
    assert len(both) == 2
