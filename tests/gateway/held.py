"""A snapshot whose look-ups a test holds in its hand, and a world for them to look at."""

from bisect import bisect_right
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid4

from gateway.epoch import Changed
from gateway.pictures import caller_of, levels_of
from gateway.snapshot import SHARED, Want, _Entry, _Loaded
from providers.routing import Catalogue, OwnRoutes
from tenants.limits import LimitSet
from tests.gateway.relay.edge import identity


class HeldClock:
    """Moves only when told."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def now(self) -> Any:
        raise NotImplementedError

    def unix_us(self) -> int:
        return round(self.seconds * 1_000_000)

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class Look:
    """One look under way: what it is for, and how far its thread has come."""

    future: "Future[_Loaded]"
    want: Want
    epoch: int | None = None
    loaded: _Loaded | None = None


class HeldExecutor(Executor):
    """Runs nothing. A test says when each look reads, what it finds, and when it is done."""

    def __init__(self) -> None:
        self.looks: list[Look] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        self.looks.append(Look(future, *args))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        return


class History:
    """A value and what it was at every epoch."""

    def __init__(self, value: Any) -> None:
        self._since = [0]
        self._values = [value]

    @property
    def now(self) -> Any:
        return self._values[-1]

    def becomes(self, value: Any, epoch: int) -> None:
        self._since.append(epoch)
        self._values.append(value)

    def between(self, first: int, last: int) -> list[Any]:
        """Every value it had at some epoch from `first` to `last`."""
        return self._values[bisect_right(self._since, first) - 1 : bisect_right(self._since, last)]


@dataclass
class Person:
    """A key. Its history: None while it opens nothing, else the limit that stands for its version."""

    fingerprint: bytes
    tenant: UUID
    key: UUID = field(default_factory=uuid4)
    opens: History = field(default_factory=lambda: History(1))
    revoked: bool = False

    def entry(self, epoch: int) -> _Entry:
        limits = LimitSet(daily=self.opens.now)
        who = replace(identity(), tenant_id=self.tenant, key_id=self.key, key_limits=limits)
        return _Entry(epoch, who, caller_of(who), levels_of(who), None)


class World:
    """The database: keys, a tenant's own routes and the shared ones, and the log of changes."""

    def __init__(self, people: int = 3) -> None:
        self.tenants = [uuid4(), uuid4()]
        self.people = [
            Person(bytes([n]) * 32, self.tenants[n % len(self.tenants)]) for n in range(people)
        ]
        self.shared = History(Catalogue())
        self.own = {tenant: History(OwnRoutes(Catalogue(), None)) for tenant in self.tenants}
        self.lines: list[Changed] = []

    @property
    def epoch(self) -> int:
        return len(self.lines)

    def person(self, fingerprint: bytes) -> Person | None:
        return next((each for each in self.people if each.fingerprint == fingerprint), None)

    def _line(self, kind: str, object_id: UUID, tenant: UUID | None) -> int:
        self.lines.append(Changed(self.epoch + 1, kind, object_id, tenant))
        return self.epoch

    def key_becomes(self, who: Person, limit: int | None) -> None:
        who.opens.becomes(limit, self._line("api_key", who.key, who.tenant))

    def shared_changes(self) -> None:
        epoch = self._line("provider", uuid4(), None)
        self.shared.becomes(Catalogue(), epoch)
        for own in self.own.values():
            own.becomes(OwnRoutes(Catalogue(), None), epoch)

    def own_changes(self, tenant: UUID) -> None:
        routes = OwnRoutes(Catalogue(), None)
        self.own[tenant].becomes(routes, self._line("model", uuid4(), tenant))

    # What a look's thread does, in the order in which it does it

    def read_epoch(self, look: Look) -> None:
        look.epoch = self.epoch

    def read_rows(self, look: Look) -> None:
        assert look.epoch is not None
        look.loaded = _Loaded(look.epoch, self._find(look.want, look.epoch))

    def _find(self, want: Want, epoch: int) -> Any:
        if want == SHARED:
            return self.shared.now
        if want.tenant_id is not None:
            return self.own[want.tenant_id].now
        assert want.fingerprint is not None
        who = self.person(want.fingerprint)
        return who.entry(epoch) if who is not None and who.opens.now is not None else None
