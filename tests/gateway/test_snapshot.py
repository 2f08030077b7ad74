"""The picture that the relay reads: nothing under way brings back what was revoked, and it never grows past its bounds."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from pytest_django.fixtures import Settings

from gateway import epoch, snapshot
from gateway.epoch import Changed
from gateway.relay.relay import Relay
from gateway.snapshot import UNKNOWN, UNLOOKABLE, Found, Known, Snapshot, Want
from tests.gateway.held import HeldClock, HeldExecutor, Person, World
from tests.gateway.relay import edge


class House:
    """A world, a snapshot of it, and what its look-ups answered."""

    def __init__(self) -> None:
        self.world = World()
        self.clock = HeldClock()
        self.executor = HeldExecutor()
        self.snapshot = Snapshot(self.clock, self.executor)
        self.answers: list[Found] = []

    @property
    def who(self) -> Person:
        return self.world.people[0]

    def load(self, fingerprint: bytes | None = None) -> None:
        self.snapshot.load(fingerprint or self.who.fingerprint, self.answers.append)

    async def finish(self, number: int = -1, fault: Exception | None = None) -> None:
        """Let a look end; one that has not read yet reads first."""
        look = self.executor.looks.pop(number)
        if fault is not None:
            look.future.set_exception(fault)
        else:
            if look.loaded is None:
                self.world.read_epoch(look)
                self.world.read_rows(look)
            assert look.loaded is not None
            look.future.set_result(look.loaded)
        await turns()

    async def finish_all(self) -> None:
        """Let every look end, and those that they lead to."""
        while self.executor.looks:
            await self.finish(0)

    def read(self, number: int = -1) -> None:
        look = self.executor.looks[number]
        self.world.read_epoch(look)
        self.world.read_rows(look)

    def deliver(self) -> None:
        """The watch tells of every change so far."""
        self.snapshot.changed(self.world.lines[self.snapshot.epoch :])
        self.snapshot.looked()

    def find(self) -> Found | None:
        return self.snapshot.find(self.who.fingerprint)


async def turns() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


@pytest.fixture
def house() -> House:
    return House()


async def looked_for(house: House) -> list[Want]:
    """What is looked for until everybody is answered, in order."""
    wanted = []
    while house.executor.looks:
        wanted.append(house.executor.looks[0].want)
        await house.finish(0)
    return wanted


async def known(house: House) -> None:
    house.load()
    await house.finish_all()
    assert isinstance(house.find(), Known)
    house.answers.clear()


# --- a look-up under way ----------------------------------------------------------------------------------------------


async def test_a_lookup_under_way_does_not_bring_a_revoked_key_back(house: House):
    house.load()
    house.read()
    house.world.key_becomes(house.who, None)
    house.deliver()
    await house.finish()
    assert house.answers == [], "what it read is from before the revoke, so it looks again"
    assert house.find() is None
    await house.finish()
    assert house.answers == [UNKNOWN]
    assert house.find() is UNKNOWN


async def test_a_revoke_that_a_lookup_was_faster_than_drops_what_it_brought(house: House):
    house.load()
    house.read()
    house.world.key_becomes(house.who, None)
    await house.finish_all()
    assert isinstance(house.answers[0], Known), "this worker has not seen the revoke yet"
    house.deliver()
    assert house.find() is None


async def test_a_lookup_overtaken_again_and_again_says_that_it_cannot_tell(house: House):
    house.load()
    for _ in range(3):
        house.read()
        house.world.key_becomes(house.who, 2)
        house.deliver()
        await house.finish()
    assert house.answers == [UNLOOKABLE]
    assert house.executor.looks == []


async def test_callers_of_the_same_key_share_one_look(house: House):
    for _ in range(5):
        house.load()
    assert len(house.executor.looks) == 1
    await house.finish_all()
    assert len(house.answers) == 5


async def test_after_a_change_to_what_all_share_one_look_serves_all(house: House):
    everybody = [who.fingerprint for who in house.world.people]
    for fingerprint in everybody:
        house.load(fingerprint)
    await house.finish_all()
    house.world.shared_changes()
    house.deliver()
    house.answers.clear()
    for fingerprint in everybody:
        assert house.snapshot.find(fingerprint) is None
        house.load(fingerprint)
    assert [look.want for look in house.executor.looks] == [snapshot.SHARED], (
        "who they are is known"
    )
    await house.finish()
    wanted = [look.want.tenant_id for look in house.executor.looks]
    assert sorted(wanted, key=str) == sorted(house.world.tenants, key=str), "once for each tenant"
    await house.finish_all()
    assert all(isinstance(found, Known) for found in house.answers)
    assert len(house.answers) == len(everybody)


async def test_shared_routes_dropped_while_the_rest_was_read_are_read_again(house: House):
    house.load()
    await house.finish()
    await house.finish()
    (last,) = house.executor.looks
    assert last.want.tenant_id == house.who.tenant
    house.world.shared_changes()
    house.deliver()
    await house.finish_all()
    assert [type(found) for found in house.answers] == [Known]
    assert isinstance(house.find(), Known)


async def test_a_look_at_the_database_that_was_there_before_is_not_kept(house: House):
    for _ in range(9):
        house.world.key_becomes(house.world.people[1], 3)
    house.load()
    house.read()
    house.snapshot.changed([epoch.ANOTHER_DATABASE, epoch.everything_up_to(2)])
    assert house.snapshot.epoch == 2
    await house.finish()
    assert house.answers == [], "its epoch is the newer one, but of another database"
    await house.finish_all()
    assert [type(found) for found in house.answers] == [Known]


async def test_a_key_that_was_asked_for_before_it_existed_works_at_once(house: House):
    house.who.opens.becomes(None, 0)
    house.load()
    await house.finish()
    assert house.find() is UNKNOWN
    house.world.key_becomes(house.who, 1)
    house.deliver()
    assert house.find() is None
    house.load()
    await house.finish_all()
    assert isinstance(house.find(), Known)


async def test_an_unknown_key_is_looked_up_again_after_a_while(house: House):
    house.who.opens.becomes(None, 0)
    house.load()
    await house.finish()
    house.clock.seconds += snapshot.UNKNOWN_SECONDS
    assert house.find() is None


async def test_while_nobody_has_a_key_of_another_gateway_one_look_says_so_of_all(house: House):
    first, second = (b"i" + bytes([n]) * 32 for n in (1, 2))
    house.load(first)
    look = house.executor.looks[-1]
    house.read()
    assert look.loaded is not None
    look.loaded = replace(look.loaded, none_imported=True)
    await house.finish()
    assert house.snapshot.find(second) is UNKNOWN
    assert house.snapshot.find(b"\x09" * 32) is None, "one of ours may be there nevertheless"
    house.clock.seconds += snapshot.UNKNOWN_SECONDS
    assert house.snapshot.find(second) is None


async def test_an_import_ends_what_was_known_of_keys_of_another_gateway(house: House):
    house.load(b"i" + bytes(32))
    look = house.executor.looks[-1]
    house.read()
    assert look.loaded is not None
    look.loaded = replace(look.loaded, none_imported=True)
    await house.finish()
    house.world._line("tenant", house.who.tenant, house.who.tenant)
    house.deliver()
    assert house.snapshot.find(b"i" + bytes(32)) is None


@pytest.mark.django_db(transaction=True)
def test_nonsense_is_looked_up_once_while_nobody_came_from_another_gateway():
    with CaptureQueriesContext(connection) as asked:
        loaded = snapshot._load(Want(fingerprint=b"i" + bytes(32)))
    assert (loaded.found, loaded.none_imported) == (None, True)
    assert len(asked) <= 4
    assert not snapshot._load(Want(fingerprint=bytes(32))).none_imported


# --- when we cannot look ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [OperationalError("away"), RuntimeError("a fault of ours")])
async def test_a_lookup_that_fails_is_not_unknown(house: House, fault: Exception):
    house.load()
    await house.finish(fault=fault)
    assert house.answers == [UNLOOKABLE]
    assert house.find() is None


async def test_too_many_lookups_at_once_are_turned_away(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(snapshot, "MAX_LOOKUPS", 10)
    for n in range(12):
        house.load(bytes([100 + n]) * 32)
    assert len(house.executor.looks) == 10
    assert house.answers == [UNLOOKABLE] * 2
    await house.finish()
    house.load()
    assert len(house.executor.looks) == 10, "one has ended, so one may begin"


async def test_a_lookup_that_hangs_is_given_up_and_keeps_nobody_else_from_looking(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(snapshot, "LOOKUP_SECONDS", 0.02)
    monkeypatch.setattr(snapshot, "MAX_LOOKUPS", 2)
    house.load()
    await asyncio.sleep(0.05)
    assert house.answers == [UNLOOKABLE]
    house.clock.seconds += 1
    house.load()
    assert len(house.executor.looks) == 2, "nobody joins the one that hangs"
    house.load(house.world.people[1].fingerprint)
    assert house.answers == [UNLOOKABLE] * 2, (
        "its thread counts for as long as it has not come back"
    )
    monkeypatch.setattr(snapshot, "LOOKUP_SECONDS", 3.0)
    await house.finish_all()
    house.load()
    await house.finish_all()
    assert isinstance(house.answers[-1], Known)
    assert isinstance(house.find(), Known)


async def test_nobody_queues_for_a_database_that_is_away(house: House):
    house.load()
    await house.finish(fault=OperationalError("away"))
    house.load()
    assert house.answers == [UNLOOKABLE] * 2, "it has only just failed"
    house.clock.seconds += snapshot.PROBE_SECONDS
    house.load()
    house.load(b"x" * 32)
    assert len(house.executor.looks) == 1, "one finds out for all"
    assert house.answers == [UNLOOKABLE] * 3
    await house.finish_all()
    assert isinstance(house.answers[-1], Known)
    house.load(b"x" * 32)
    house.load(b"y" * 32)
    assert len(house.executor.looks) == 2


async def test_a_worker_that_is_cut_off_trusts_its_picture_only_so_long(
    house: House, settings: Settings
):
    settings.AUTH_STALE_SECONDS = 30.0
    house.deliver()
    await known(house)
    house.clock.seconds += 30.0
    assert isinstance(house.find(), Known)
    house.clock.seconds += 0.1
    assert house.find() is None
    house.load()
    who, own = Want(fingerprint=house.who.fingerprint), Want(tenant_id=house.who.tenant)
    assert await looked_for(house) == [who, snapshot.SHARED, own], "routes of then are as old"
    assert isinstance(house.answers[-1], Known)
    assert house.find() is None
    house.snapshot.looked()
    assert isinstance(house.find(), Known)


# --- dropping ---------------------------------------------------------------------------------------------------------


async def test_a_gap_in_the_changes_drops_everything(house: House):
    resets: list[bool] = []
    house.snapshot.on_reset = lambda: resets.append(True)
    await known(house)
    stranger = b"s" * 32
    house.load(stranger)
    await house.finish()
    house.world.shared_changes()
    house.world.shared_changes()
    house.snapshot.changed(house.world.lines[1:])
    assert resets == [True]
    assert house.snapshot.epoch == 2
    assert house.find() is None
    assert house.snapshot.find(stranger) is None, "it may have been issued meanwhile"
    house.load()
    assert len(await looked_for(house)) == 3, "and every route as well"


async def test_a_shared_provider_that_changed_drops_every_tenants_routes(house: House):
    await known(house)
    house.world.shared_changes()
    house.deliver()
    assert house.find() is None
    house.load()
    await house.finish_all()
    found = house.find()
    assert isinstance(found, Known)
    assert found.shared is house.world.shared.now
    assert found.own is house.world.own[house.who.tenant].now


async def test_no_news_changes_nothing(house: House):
    house.world.key_becomes(house.who, 2)
    house.deliver()
    await known(house)
    house.snapshot.changed([])
    assert house.snapshot.epoch == 1
    assert isinstance(house.find(), Known)


def test_a_look_reads_the_epoch_before_everything_else(monkeypatch: pytest.MonkeyPatch):
    order: list[str] = []

    def read(what: str, value: Any = None) -> Callable[..., Any]:
        def note(*_: Any) -> Any:
            order.append(what)
            return value

        return note

    monkeypatch.setattr("tenants.changes.epoch", read("epoch", 3))
    monkeypatch.setattr("gateway.snapshot.load_identity", read("identity"))
    monkeypatch.setattr("gateway.pictures.shared_catalogue", read("shared"))
    monkeypatch.setattr("gateway.pictures.own_routes", read("own"))
    for want in (Want(fingerprint=b"f" * 32), snapshot.SHARED, Want(tenant_id=uuid4())):
        assert snapshot._load(want).epoch == 3
    assert order == ["epoch", "identity", "epoch", "shared", "epoch", "own"]


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([epoch.ANOTHER_DATABASE], "the epoch went back"),
        ([Changed(n, "x", uuid4(), None) for n in range(1, 1_003)], "more than are picked apart"),
        ([epoch.everything_up_to(5_000)], "one line that stands for more than are picked apart"),
        ([Changed(1, "x", uuid4(), None), Changed(3, "x", uuid4(), None)], "a hole in the middle"),
    ],
)
async def test_what_cannot_be_picked_apart_drops_everything(
    house: House, lines: list[Changed], why: str
):
    await known(house)
    house.snapshot.changed(lines)
    assert house.find() is None, why


async def test_a_change_drops_only_what_it_names(house: House):
    await known(house)
    house.world.key_becomes(house.world.people[1], None)
    house.deliver()
    assert isinstance(house.find(), Known)


async def test_memory_stays_bounded_however_many_unknown_keys_come(house: House):
    sizes = []
    for batch in range(4):
        for n in range(250_000):
            who = Want(fingerprint=(batch * 250_000 + n).to_bytes(32, "big"))
            house.snapshot._keep(who, None)
        sizes.append(sys.getsizeof(house.snapshot._unknown))
    assert len(house.snapshot._unknown) == snapshot.MAX_UNKNOWN
    assert max(sizes) <= 2 * min(sizes)
    assert house.snapshot.find((5).to_bytes(32, "big")) is None, "the oldest are forgotten"
    assert house.snapshot.find((10**6 - 1).to_bytes(32, "big")) is UNKNOWN


# --- any order of things ----------------------------------------------------------------------------------------------


class AnyOrder(RuleBasedStateMachine):
    """Loads begin, read and end, keys are changed and revoked, the watch tells: in any order.

    What is found may be as new as it likes, but never older than what this worker has seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.house = House()
        self.told: list[tuple[Person, Found]] = []

    def teardown(self) -> None:
        self.house.deliver()
        for who in self.house.world.people:
            self._end_all_looks()
            self._ask(who)
            self._end_all_looks()
            found = self.house.snapshot.find(who.fingerprint)
            assert isinstance(found, Known) == (who.opens.now is not None), "all is quiet again"
        self.loop.close()

    def _end_all_looks(self) -> None:
        while self.house.executor.looks:
            self.loop.run_until_complete(self.house.finish(0))

    def _ask(self, who: Person) -> None:
        async def ask() -> None:
            found = self.house.snapshot.find(who.fingerprint)
            if found is None:
                self.house.snapshot.load(who.fingerprint, lambda late: self._judge(who, late))
            else:
                self._judge(who, found)

        self.loop.run_until_complete(ask())

    def _judge(self, who: Person, found: Found) -> None:
        world, seen = self.house.world, self.house.snapshot.epoch
        if isinstance(found, Known):
            assert found.identity.key_limits.daily in who.opens.between(seen, world.epoch)
            assert any(found.shared is each for each in world.shared.between(seen, world.epoch))
            own = world.own[who.tenant].between(seen, world.epoch)
            assert any(found.own is each for each in own)
        elif found is UNKNOWN:
            assert None in who.opens.between(seen, world.epoch)

    @rule(n=st.integers(0, 2))
    def ask(self, n: int) -> None:
        self._ask(self.house.world.people[n])

    @precondition(lambda self: self.house.executor.looks)
    @rule(data=st.data())
    def a_look_goes_on(self, data: st.DataObject) -> None:
        looks = self.house.executor.looks
        number = data.draw(st.integers(0, len(looks) - 1))
        look = looks[number]
        if look.epoch is None:
            self.house.world.read_epoch(look)
        elif look.loaded is None:
            self.house.world.read_rows(look)
        else:
            self.loop.run_until_complete(self.house.finish(number))

    @rule(n=st.integers(0, 2))
    def revoke(self, n: int) -> None:
        who = self.house.world.people[n]
        who.revoked = True
        self.house.world.key_becomes(who, None)

    @rule(n=st.integers(0, 2), limit=st.one_of(st.none(), st.integers(1, 10**6)))
    def change(self, n: int, limit: int | None) -> None:
        who = self.house.world.people[n]
        if not who.revoked:
            self.house.world.key_becomes(who, limit)

    @rule()
    def shared_routes_change(self) -> None:
        self.house.world.shared_changes()

    @rule(n=st.integers(0, 1))
    def own_routes_change(self, n: int) -> None:
        self.house.world.own_changes(self.house.world.tenants[n])

    @rule()
    def the_watch_tells(self) -> None:
        self.house.deliver()

    @rule()
    def the_watch_misses_some(self) -> None:
        self.house.snapshot.changed(self.house.world.lines[self.house.snapshot.epoch + 1 :][-1:])

    @rule(seconds=st.sampled_from([0.1, 4.0, 6.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.house.clock.seconds += seconds

    @invariant()
    def nothing_revoked_is_found(self) -> None:
        for who in self.house.world.people:
            found = self.house.snapshot.find(who.fingerprint)
            if found is not None:
                self._judge(who, found)


AnyOrder.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
test_in_any_order_nothing_found_is_older_than_what_was_seen = AnyOrder.TestCase


# --- calls that are running -------------------------------------------------------------------------------------------


CALL = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


class Running:
    """A call in flight, as the relay sees it."""

    def __init__(self) -> None:
        self.exchange = edge.Edge(found=edge.known()).call(CALL).exchange

    def concerns(self, keys: set[Any], tenants: set[Any]) -> bool:
        return self.exchange.known is not None and self.exchange.known.identity.key_id in keys

    def has_expired(self, now_us: int) -> bool:
        return False

    def is_stuck(self) -> bool:
        return False

    def abandon(self) -> None:
        raise AssertionError("it is not stuck")


@pytest.fixture
def watched() -> tuple[Relay, Running, list[Callable[[Found], None]]]:
    """The part of a relay that watches over running calls, with one call; and the look-ups that it asks for."""
    relay, running = Relay.__new__(Relay), Running()
    asked: list[Callable[[Found], None]] = []
    relay.live = {running}
    relay._read_timeouts = lambda: None  # type: ignore[method-assign]
    relay.leases = edge.Edge().leases
    relay.snapshot = Snapshot(HeldClock(), HeldExecutor())
    relay.snapshot.load = lambda fingerprint, answer: asked.append(answer)  # type: ignore[method-assign]
    return relay, running, asked


async def test_a_running_call_whose_key_could_not_be_looked_up_is_looked_up_again(
    watched: tuple[Relay, Running, list[Callable[[Found], None]]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gateway.relay.relay._AGAIN_SECONDS", 0.01)
    relay, running, asked = watched
    assert running.exchange.known is not None
    relay._on_change({running.exchange.known.identity.key_id}, set())
    asked.pop()(UNLOOKABLE)
    assert not running.exchange.is_over
    await asyncio.sleep(0.05)
    asked.pop()(UNKNOWN)
    assert running.exchange.is_over


async def test_a_running_call_learns_that_its_key_ends_earlier(
    watched: tuple[Relay, Running, list[Callable[[Found], None]]],
):
    relay, running, asked = watched
    relay._on_reset()
    renewed = edge.known(who=edge.identity(ends_at=5))
    asked.pop()(renewed)
    assert running.exchange.known is renewed
    assert not running.exchange.is_over


def test_one_call_that_cannot_be_looked_after_does_not_end_the_watch_over_the_others(
    watched: tuple[Relay, Running, list[Callable[[Found], None]]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    class Broken(Running):
        def has_expired(self, now_us: int) -> bool:
            raise RuntimeError("a fault of ours")

    relay, running, _ = watched
    relay.live = {Broken(), Broken(), running}
    monkeypatch.setattr(running, "has_expired", lambda now_us: True)
    relay._watch_over_all()
    assert running.exchange.is_over
    assert "a fault of ours" in caplog.text
