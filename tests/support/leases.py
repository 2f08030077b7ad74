"""A worker's limits without its threads: stores and balances in memory, by a clock that a test moves."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar
from uuid import UUID, uuid4

from tenants.clock import Clock
from usage.budget_terms import BudgetAsk, Grant, Granted, Lent, Part, Reason, Reply, Short, generous
from usage.keeper import Keeper
from usage.leases import Leases
from usage.rate_terms import Answer, Batch
from usage.stores import MemoryStore
from usage.tiers import Tiers

T = TypeVar("T")
#: For which a slice is lent; and for which an empty one stays after that.
_LIFE: Final = timedelta(seconds=10)
Balance = tuple[UUID, str, str]


class HeldStore(MemoryStore):
    """Goes by the test's clock, and counts its trips."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._held_clock = clock
        self.batches: list[Batch] = []

    def work(self, batch: Batch, now: int | None = None, wall: int | None = None) -> list[Answer]:
        self.batches.append(batch)
        moment = round(self._held_clock.monotonic() * 1_000_000)
        return super().work(batch, moment, self._held_clock.unix_us())


class HeldKeeper(Keeper):
    """Does everything at once; or, held, when the test says so."""

    def __init__(self) -> None:
        self.is_held = False
        self._jobs_held: list[Callable[[], None]] = []

    def start(self) -> None: ...

    def do(self, work: Callable[[], T], done: Callable[[T | None], None]) -> None:
        def job() -> None:
            try:
                result = work()
            except OSError:
                done(None)
            else:
                done(result)

        if self.is_held:
            self._jobs_held.append(job)
        else:
            job()

    def run_one(self) -> None:
        """And holds what comes of it."""
        self._jobs_held.pop(0)()

    def go_on(self) -> None:
        self.is_held = False
        while self._jobs_held:
            self.run_one()

    def stop(self, timeout: float) -> None: ...


@dataclass
class HeldSlice:
    id: int
    deadline: datetime
    amount: int = 0
    lent: int = 0


class HeldBank:
    """Balances by what limits them: (level, unit, window) → limit. Others do not exist."""

    def __init__(self, limits: Mapping[Balance, int] | None = None) -> None:
        self.limits = dict(limits or {})
        self.spent: dict[Balance, int] = {}
        self.slices: dict[tuple[str, Balance], HeldSlice] = {}
        self._ids = itertools.count(1)
        self.trips = 0
        self.is_away = False

    def held(self, key: Balance) -> int:
        return sum(each.amount for (_, balance), each in self.slices.items() if balance == key)

    def left(self, key: Balance) -> int:
        return self.limits[key] - self.spent.get(key, 0) - self.held(key)

    def _arrive(self) -> None:
        self.trips += 1
        if self.is_away:
            raise OSError("away")

    def lease(
        self, boot: str, asks: Sequence[BudgetAsk], now: datetime, returns: Mapping[int, int]
    ) -> list[Reply]:
        self._arrive()
        asked = {(part.id, part.unit, part.window) for ask in asks for part in ask.parts}
        others = {each.id for place, each in self.slices.items() if place[1] not in asked}
        assert not returns.keys() & others, "nobody would take it back"
        self._take_back(returns)
        return [self._answer(boot, ask, now + _LIFE) for ask in asks]

    def _answer(self, boot: str, ask: BudgetAsk, until: datetime) -> Reply:
        for place, part in enumerate(ask.parts):
            if (short := self._short(place, part)) is not None:
                return short
        return Granted(tuple(self._grant(boot, part, until) for part in ask.parts))

    def _short(self, place: int, part: Part) -> Short | None:
        key = (part.id, part.unit, part.window)
        if key not in self.limits or part.need <= self.left(key):
            return None
        limit, spent = self.limits[key], self.spent.get(key, 0)
        reason: Reason = "exhausted" if part.bound > limit - spent else "held"
        return Short(place, reason, limit, spent, self.left(key), None)

    def _grant(self, boot: str, part: Part, until: datetime) -> Grant:
        key = (part.id, part.unit, part.window)
        if key not in self.limits:
            self.slices.pop((boot, key), None)
            return Grant(0, 0)
        if (boot, key) not in self.slices:
            self.slices[boot, key] = HeldSlice(next(self._ids), until)
        mine = self.slices[boot, key]
        mine.deadline = until
        amount = generous(part.need, part.like, self.left(key)) if part.need else 0
        mine.amount += amount
        mine.lent += amount
        return Grant(mine.id, mine.lent, self.left(key))

    def give_back(self, boot: str, amounts: Mapping[int, int]) -> None:
        self._arrive()
        self._take_back(amounts)

    def _take_back(self, amounts: Mapping[int, int]) -> None:
        for each in self.slices.values():
            amount = min(amounts.get(each.id, 0), each.amount)
            each.amount -= amount
            each.lent -= amount

    def renew(self, boot: str, now: datetime) -> dict[int, Lent]:
        """And sweeps: a slice with nothing in it goes some time after its deadline."""
        self._arrive()
        self.slices = {
            place: each
            for place, each in self.slices.items()
            if each.amount or each.deadline + _LIFE > now
        }
        mine = [each for (owner, _), each in self.slices.items() if owner == boot]
        for each in mine:
            each.deadline = now + _LIFE if each.amount else each.deadline
        return {each.id: Lent(each.lent, each.amount) for each in mine}

    def flush(self, key: Balance, cost: int, boot: str = "") -> None:
        """The entry of a call of that worker (or of the only one) has come into the tables."""
        mine = next(
            each
            for (owner, balance), each in self.slices.items()
            if balance == key and owner.startswith(boot)
        )
        mine.amount -= min(cost, mine.amount)
        self.spent[key] = self.spent.get(key, 0) + cost


def held_leases(
    clock: Clock, bank: HeldBank | None = None, store: HeldStore | None = None
) -> Leases:
    return Leases(
        Tiers(database=store or HeldStore(clock), clock=clock),
        bank or HeldBank(),
        uuid4().hex,
        (HeldKeeper(), HeldKeeper()),
        clock,
    )
