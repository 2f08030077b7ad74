"""A worker's limits: what is in hand is spent without asking, the rest is asked for, all or nothing, and nothing is kept."""

from collections import deque
from typing import Any
from uuid import uuid4

import pytest

from tenants.limits import BudgetLimit, LimitSet, Rate
from tests.gateway.relay.edge import FakeClock
from tests.support.leases import HeldBank, HeldKeeper, HeldStore
from usage.hands import Lease
from usage.leases import Leases
from usage.levels import Level
from usage.tiers import Tiers
from usage.wants import Refused, Want

MONTH = "month:2025-11"


class Written:
    """A journal of which the tables lack the last record."""

    appended = 5
    pending = 1


class Rig:
    """Workers that share a store and a bank; and the answers of the first."""

    def __init__(self, workers: int = 1, bank: HeldBank | None = None) -> None:
        self.clock = FakeClock()
        self.store = HeldStore(self.clock)
        self.bank = bank or HeldBank()
        self.keepers = [(HeldKeeper(), HeldKeeper()) for _ in range(workers)]
        self.journal = Written()
        self.workers = [
            Leases(
                Tiers(database=self.store, clock=self.clock),
                self.bank,
                f"worker-{number}",
                keepers,
                self.clock,
                self.journal,
            )
            for number, keepers in enumerate(self.keepers)
        ]
        self.answers: list[Lease | Refused] = []
        self.waits = True

    def take(self, *levels: Level, worker: int = 0, **of: Any) -> Lease | Refused | None:
        """The answer, if it came at once."""
        self.answers.clear()
        want = Want(
            levels,
            self.clock.micros,
            of.get("tokens", 1),
            of.get("bound", 1),
            of.get("bound", 1),
        )
        now, leases = self.clock.seconds, self.workers[worker]
        lease = leases.at_hand(want, now)
        if lease is not None:
            return lease
        leases.take(want, now, self.answers.append, lambda: self.waits)
        return self.answers[0] if self.answers else None

    def outcome(self, *levels: Level, **of: Any) -> Lease | Refused:
        """What only others stand in the way of is asked for again for a while."""
        found = self.take(*levels, **of)
        for _ in range(10):
            if found is None:
                self.after(0.05)
                found = next(iter(self.answers), None)
        assert found is not None
        return found

    def lease(self, *levels: Level, **of: Any) -> Lease:
        found = self.take(*levels, **of)
        assert isinstance(found, Lease), found
        return found

    def refused(self, *levels: Level, **of: Any) -> Refused:
        found = self.outcome(*levels, **of)
        assert isinstance(found, Refused), found
        return found

    def after(self, seconds: float) -> "Rig":
        """Time passes, and every worker looks around as often as it does."""
        for _ in range(max(1, round(seconds / 0.25))):
            self.clock.seconds += min(seconds, 0.25)
            self.clock.micros += round(min(seconds, 0.25) * 1_000_000)
            for worker in self.workers:
                worker.look(self.clock.seconds)
        return self


def level(kind: Any = "key", **limits: Any) -> Level:
    return Level(kind, uuid4(), LimitSet(**limits))


def requests_left(lease: Lease) -> int:
    assert lease.requests is not None
    return lease.requests.remaining


def tokens_left(lease: Lease) -> int:
    assert lease.tokens is not None
    return lease.tokens.remaining


def rated(count: int, **more: Any) -> Level:
    return level(rates=(Rate(count, 60),), burst=count, **more)


# --- in hand ------------------------------------------------------------------------------------------------------------


def test_under_load_most_calls_ask_nobody() -> None:
    rig, wide = Rig(), rated(1_000_000, concurrency=1000)
    for number in range(5_000):
        rig.lease(wide).release()
        if number % 4 == 3:
            rig.clock.seconds += 0.001
    assert len(rig.store.batches) < 100


def test_what_is_not_all_in_hand_is_not_taken_at_all() -> None:
    rig, one, other = Rig(), rated(1_000, concurrency=10), rated(1_000, tokens_per_minute=500)
    rig.lease(one, other)
    rig.lease(one, other)
    hands = [rig.workers[0]._rates.hand(level) for level in (one, other)]
    before = [(hand.requests, hand.slots, hand.tokens, hand.calls) for hand in hands]
    want = Want((one, other), rig.clock.micros, 499, 1, 1)
    assert rig.workers[0].at_hand(want, rig.clock.seconds) is None
    assert [(hand.requests, hand.slots, hand.tokens, hand.calls) for hand in hands] == before


def test_every_call_counts_however_it_was_leased() -> None:
    rig, wide = Rig(workers=2), rated(10_000)
    for number in range(3_000):
        rig.lease(wide, worker=number % 2)
    rig.after(2)
    (state,) = rig.store._states.values()
    assert sum(run[1] for run in state.windows[0].runs) == 3_000, "what was not spent came back"


def test_workers_share_the_last_one_exactly() -> None:
    rig, narrow = Rig(workers=3), rated(50)
    answers = [rig.take(narrow, worker=number % 3) for number in range(90)]
    assert sum(isinstance(answer, Lease) for answer in answers) == 50


def test_a_worker_that_was_stopped_wakes_up_poor() -> None:
    rig, wide = Rig(), rated(100_000)
    for _ in range(200):
        rig.lease(wide)
    before = len(rig.store.batches)
    rig.clock.seconds += 30
    rig.lease(wide)
    assert len(rig.store.batches) > before


def test_what_is_left_is_told() -> None:
    rig, key, tenant = Rig(), rated(60), Level("tenant", uuid4(), LimitSet(rates=(Rate(96, 60),)))
    alone = rig.lease(key).requests
    assert alone is not None
    assert alone[:2] == (60, 59)
    assert alone.reset_seconds == pytest.approx(60.1), (
        "what is leased counts from the end of its life"
    )
    lease = rig.lease(key, tenant)
    assert lease.requests is not None
    assert lease.requests[:2] == (96, 15), "sixteen may come at once, and one more each 0.625 s"
    assert lease.tokens is None
    assert lease.told == [
        ("key", "requests", 60, 59, 58),
        ("tenant", "requests", 96, 16, 15),
    ]
    told = rig.lease(level(tokens_per_minute=100), tokens=30)
    assert told.tokens is not None
    assert told.tokens[:2] == (100, 70)


# --- refused ------------------------------------------------------------------------------------------------------------


def test_a_storm_of_refused_calls_asks_seldom() -> None:
    rig, narrow = Rig(), rated(1)
    rig.lease(narrow)
    before = len(rig.store.batches)
    for number in range(10_000):
        refused = rig.refused(narrow)
        if number % 100 == 99:
            rig.clock.seconds += 0.01
    assert len(rig.store.batches) - before <= 12, "in one second"
    assert (refused.level, refused.reason, refused.limit) == ("key", "requests", 1)


def test_slots_come_back_when_calls_end_and_only_once() -> None:
    rig, narrow = Rig(workers=2), level(concurrency=2)
    first, second = rig.lease(narrow), rig.lease(narrow, worker=1)
    assert rig.refused(narrow).reason == "concurrency"
    second.release()
    second.release()
    rig.after(0.25)
    third = rig.lease(narrow)
    rig.after(0.25).refused(narrow, worker=1)
    for lease in (first, third):
        lease.release()
    assert rig.workers[0].taken == 0


def test_whoever_has_no_more_running_than_may_is_never_refused() -> None:
    """One call after the other, each at another worker, which has to hear from the one before."""
    rig, narrow = Rig(workers=2), level(concurrency=1)
    for number in range(20):
        lease = rig.outcome(narrow, worker=number % 2)
        assert isinstance(lease, Lease)
        lease.release()


def test_slots_of_a_long_call_stay_taken_and_those_of_a_dead_worker_do_not() -> None:
    rig, narrow = Rig(workers=2), level(concurrency=1)
    rig.lease(narrow)
    for _ in range(5):
        rig.after(6).refused(narrow, worker=1)
    rig.workers.pop(0)
    assert isinstance(rig.after(11).take(narrow), Lease)


def test_also_where_tokens_run_out_before_requests_most_calls_ask_nobody() -> None:
    """A lease without tokens lies about then, and must not keep the next one from being taken ahead."""
    rig = Rig()
    wide = rated(1_000_000, concurrency=1000, tokens_per_minute=10**9)
    for number in range(3_000):
        lease = rig.lease(wide, tokens=100 + 900 * (number % 3 == 0))
        lease.settle(900, 0)
        lease.release()
        if number % 10 == 9:
            rig.after(0.003)
    assert len(rig.store.batches) < 400


def test_who_fetches_ahead_where_nothing_may_be_keeps_its_slots() -> None:
    """Near a window's limit nothing is taken ahead, and no store hears of an ask for nothing; calls run meanwhile."""
    rig, narrow = Rig(workers=2), rated(203, concurrency=20)
    running: deque[Lease] = deque()
    for _ in range(180):
        running.append(rig.after(0.005).lease(narrow))
        if len(running) > 15:
            running.popleft().release()
    more = 0
    while isinstance(rig.take(narrow, worker=1), Lease):
        more += 1
    assert 0 < more <= 20 - len(running)


def test_where_slots_are_short_no_worker_heaps_up_requests() -> None:
    """Each call has to ask for its slot; what it takes ahead of requests meanwhile is nobody else's."""
    rig, narrow = Rig(workers=2), rated(203, concurrency=20)
    running: deque[Lease] = deque()
    for number in range(150):
        running.append(lease := rig.after(0.005).lease(narrow))
        if len(running) > 15:
            running.popleft().release()
        assert requests_left(lease) == 202 - number
    while running:
        running.popleft().release()
    more = 0
    for _ in range(100):
        taken = rig.after(0.25).take(narrow, worker=1)
        if isinstance(taken, Lease):
            taken.release()
            more += 1
    assert more == 53


def test_tokens_are_settled_to_the_truth() -> None:
    rig, narrow = Rig(), level(tokens_per_minute=100)
    lease = rig.lease(narrow, tokens=90)
    assert rig.refused(narrow, tokens=50).reason == "tokens"
    lease.settle(10, 0)
    rig.after(0.25)
    lease = rig.lease(narrow, tokens=90)
    lease.settle(500, 0)
    rig.after(0.25)
    assert rig.refused(narrow, tokens=1).reason == "tokens"
    assert isinstance(rig.after(63).take(narrow, tokens=5_000), Lease), "more than a minute's"


# --- while stores are asked ----------------------------------------------------------------------------------------------


def test_who_left_while_waiting_takes_nothing() -> None:
    rig, narrow = Rig(), rated(1)
    rig.keepers[0][0].is_held = True
    assert rig.take(narrow) is None
    rig.waits = False
    rig.keepers[0][0].go_on()
    assert rig.answers == []
    rig.waits = True
    rig.after(0.25)
    assert isinstance(rig.take(narrow), Lease)


def test_who_has_waited_long_enough_is_told_so() -> None:
    rig, narrow = Rig(), rated(9)
    rig.keepers[0][0].is_held = True
    rig.take(narrow)
    rig.after(2)
    (refused,) = rig.answers
    assert isinstance(refused, Refused)
    assert refused.reason == "overloaded"
    rig.keepers[0][0].go_on()
    rig.after(1)
    assert rig.workers[0].taken == 0
    assert requests_left(rig.lease(narrow)) == 8, "what came too late went back"


def test_an_answer_that_came_too_late_is_asked_for_again() -> None:
    rig, narrow = Rig(), rated(9)
    rig.keepers[0][0].is_held = True
    rig.take(narrow)
    rig.clock.seconds += 0.5
    rig.keepers[0][0].go_on()
    assert isinstance(rig.answers[0], Lease)
    rig.after(0.25)
    assert requests_left(rig.lease(narrow)) == 7


def test_two_keys_of_a_tenant_that_ask_in_one_trip_share_its_slots() -> None:
    tenant = level("tenant", concurrency=2)
    rig = Rig(workers=2)
    keeper = rig.keepers[0][0]
    keeper.is_held = True
    found: list[Lease | Refused] = []
    for levels in [(tenant,), (tenant, rated(9)), (tenant, rated(9))]:
        want = Want(levels, rig.clock.micros, 1, 1, 1)
        rig.workers[0].take(want, rig.clock.seconds, found.append, lambda: True)
    keeper.go_on()
    rig.after(0.5)
    assert [isinstance(answer, Lease) for answer in found] == [True, True, False]
    rig.refused(tenant, worker=1)


# --- money --------------------------------------------------------------------------------------------------------------


def budgeted(most: int) -> tuple[Level, HeldBank]:
    key = level(budgets=(BudgetLimit("nano_usd", "month", most),))
    return key, HeldBank({(key.id, "nano_usd", MONTH): most})


@pytest.mark.parametrize("workers", [1, 3])
def test_as_many_calls_pass_as_the_budget_pays_for(workers: int) -> None:
    """Each may cost 70 and costs 30; refused ones try again."""
    key, bank = budgeted(1_000)
    rig, passed = Rig(workers, bank), 0
    for number in range(400):
        answer = rig.outcome(key, worker=number % workers, bound=70)
        if isinstance(answer, Lease):
            passed += 1
            answer.settle(0, 30)
            answer.release()
            bank.flush((key.id, "nano_usd", MONTH), 30, f"worker-{number % workers}")
        else:
            rig.after(0.5)
        assert bank.left((key.id, "nano_usd", MONTH)) >= 0
    assert passed == (1_000 - 70) // 30 + 1


def test_who_waits_for_money_and_for_a_slot_takes_each_once() -> None:
    month = BudgetLimit("nano_usd", "month", 1_000)
    key = level(concurrency=1, budgets=(month,))
    bank = HeldBank({(key.id, "nano_usd", MONTH): 1_000})
    rig = Rig(2, bank)
    first = rig.lease(key, bound=800)
    assert rig.take(key, worker=1, bound=800) is None
    rig.after(0.1)
    first.settle(0, 100)
    first.release()
    bank.flush((key.id, "nano_usd", MONTH), 100, "worker-0")
    for _ in range(4):
        rig.after(0.05)
    (second,) = rig.answers
    assert isinstance(second, Lease)
    assert rig.workers[1].taken == 801, "one slot, and one bound"
    second.settle(0, 50)
    second.release()
    assert rig.workers[1].taken == 0


def test_of_a_budget_that_is_nearly_used_up_no_idle_worker_keeps_anybody_out() -> None:
    key, bank = budgeted(2_000)
    rig = Rig(2, bank)
    for number in range(7):
        lease = rig.outcome(key, worker=number % 2, bound=470)
        assert isinstance(lease, Lease), number
        lease.settle(0, 200)
        lease.release()
        bank.flush((key.id, "nano_usd", MONTH), 200, f"worker-{number % 2}")
        rig.after(0.1)


def test_what_was_refused_may_be_allowed_after_a_change() -> None:
    key, bank = budgeted(100)
    of = (key.id, "nano_usd", MONTH)
    rig = Rig(bank=bank)
    assert rig.refused(key, bound=200).reason == "budget_exhausted"
    bank.limits[of] = 1_000
    assert rig.refused(key, bound=200).reason == "budget_exhausted", "that was known"
    rig.workers[0].forget_refusals()
    rig.lease(key, bound=200)
    narrow = rated(1)
    rig.lease(narrow)
    before = len(rig.store.batches)
    for _ in range(3):
        rig.refused(narrow)
    assert len(rig.store.batches) == before + 1
    rig.workers[0].forget_refusals()
    rig.refused(narrow)
    assert len(rig.store.batches) == before + 2


def test_what_is_told_of_a_budget_is_all_that_is_left_of_it_and_not_the_slice() -> None:
    key, bank = budgeted(100_000)
    of = (key.id, "nano_usd", MONTH)
    rig, spent = Rig(bank=bank), 0
    assert rig.lease(key, bound=0).told == [], "what is free takes nothing, and asks nobody"
    for number in range(60):
        lease = rig.lease(key, bound=1000)
        assert lease.told == [
            ("key", f"nano_usd {MONTH}", 100_000, 100_000 - spent, 99_000 - spent)
        ]
        lease.settle(0, 300)
        lease.release()
        bank.flush(of, 300, "worker-0")
        spent += 300
        if number % 7 == 0:
            rig.after(0.75)  # what was free goes back
        elif number % 5 == 0:
            rig.after(4)  # the slice is renewed


def test_what_can_never_fit_is_told_so_right_after_what_only_had_to_wait() -> None:
    key, bank = budgeted(1_000)
    rig = Rig(bank=bank)
    rig.lease(key, bound=800)
    assert rig.refused(key, bound=500).reason == "budget_held"
    assert rig.take(key, bound=500) is None, "that was known, and may be otherwise in a moment"
    told = rig.take(key, bound=5_000)
    assert isinstance(told, Refused)
    assert told.reason == "budget_exhausted"


def test_a_purse_in_use_makes_no_trip_for_next_to_nothing() -> None:
    """For each one the tables' lock has to be waited for, by calls as well."""
    key, bank = budgeted(10**9)
    rig = Rig(bank=bank)
    trips = []
    for _ in range(40):
        for _ in range(50):
            lease = rig.lease(key, bound=1000)
            lease.settle(0, 900)
            lease.release()
            bank.flush((key.id, "nano_usd", MONTH), 900, "worker-0")
        trips.append(bank.trips)
        rig.after(0.25)
    assert trips[-1] - trips[8] < 80, (
        "calls that found nothing, and renewals; with returns a hundred"
    )
    rig.after(2)
    assert bank.held((key.id, "nano_usd", MONTH)) == 0


def test_free_money_goes_back_within_a_second() -> None:
    key, bank = budgeted(10**9)
    rig = Rig(bank=bank)
    leases = [rig.lease(key, bound=1000) for _ in range(50)]
    for lease in leases[1:]:
        lease.settle(0, 0)
    rig.after(1)
    assert bank.held((key.id, "nano_usd", MONTH)) == 1000, "one call is still running"
    rig.after(20)
    leases[0].settle(0, 1000)
    assert bank.held((key.id, "nano_usd", MONTH)) == 1000


def test_what_goes_back_and_what_is_asked_for_are_one_transaction() -> None:
    key, bank = budgeted(1_000)
    poor = level("tenant", budgets=(BudgetLimit("nano_usd", "month", 5),))
    bank.limits[poor.id, "nano_usd", MONTH] = 5
    rig = Rig(bank=bank)
    rig.lease(key, bound=300).settle(0, 0)
    rig.lease(poor, bound=4).settle(0, 0)
    desk, trips = rig.workers[0]._budgets, bank.trips
    for purse in desk._purses.values():
        desk._return(purse, 0.0)
    assert isinstance(rig.lease(key, bound=1_000), Lease)
    assert bank.trips == trips + 2, "the other balance is not asked for"
    assert bank.held((key.id, "nano_usd", MONTH)) == rig.workers[0].taken == 1_000
    rig.after(20)
    assert bank.held((key.id, "nano_usd", MONTH)) == 1_000


def test_money_that_is_free_is_spent_without_the_tables_until_its_time_is_over() -> None:
    key, bank = budgeted(10**9)
    rig = Rig(bank=bank)
    for _ in range(10):
        rig.lease(key, bound=1000).settle(0, 0)
    bank.is_away = True
    rig.lease(key, bound=1000).settle(0, 0)
    rig.clock.seconds += 11
    assert rig.refused(key, bound=1000).reason == "ledger_unavailable"


def test_a_grant_whose_answer_was_lost_is_not_lost() -> None:
    key, bank = budgeted(1_000)
    rig = Rig(bank=bank)
    rig.lease(key, bound=10).settle(0, 0)
    lease = bank.lease

    def lost(*asked: Any) -> Any:
        lease(*asked)
        raise OSError("the answer was lost")

    bank.lease = lost  # type: ignore[assignment, method-assign]
    assert rig.refused(key, bound=600).reason == "ledger_unavailable"
    bank.lease = lease  # type: ignore[method-assign]
    rig.after(8)
    assert bank.held((key.id, "nano_usd", MONTH)) == 0
    rig.lease(key, bound=1000)


def test_what_cost_more_than_its_bound_is_borne_by_what_is_free() -> None:
    key, bank = budgeted(1_000)
    rig = Rig(bank=bank)
    first, second = rig.lease(key, bound=100), rig.lease(key, bound=100)
    first.settle(0, 150)
    bank.flush((key.id, "nano_usd", MONTH), 150)
    second.settle(0, 100)
    bank.flush((key.id, "nano_usd", MONTH), 100)
    rig.after(2)
    assert bank.held((key.id, "nano_usd", MONTH)) == 0
    assert rig.refused(key, bound=800).remaining == 750
    rig.after(1)
    rig.lease(key, bound=750)


@pytest.mark.parametrize("was_asked_before", [True, False])
def test_a_grant_is_for_who_waits_for_it_however_long_that_takes(was_asked_before: bool) -> None:
    """Balances that nobody asked about for a while are forgotten; not while a call waits for one."""
    key, bank = budgeted(1_000)
    place, rig = (key.id, "nano_usd", MONTH), Rig(bank=bank)
    if was_asked_before:
        bank.limits.clear()
        rig.lease(key, bound=1).release()
        bank.limits[place] = 1_000
        rig.after(10)
    rig.keepers[0][1].is_held = True
    assert rig.take(key, bound=900) is None
    rig.after(25)
    rig.keepers[0][1].go_on()
    rig.after(1)
    assert bank.held(place) == 0, "its caller had left, so it went back"
    rig.lease(key, bound=1_000)


def test_what_goes_back_while_a_trip_is_under_way_is_not_learnt_as_lent() -> None:
    """The tables' answer is older than what was put aside for them since."""
    key, bank = budgeted(1_000)
    place, rig = (key.id, "nano_usd", MONTH), Rig(bank=bank)
    running = rig.lease(key, bound=100)
    rig.keepers[0][1].is_held = True
    assert rig.take(key, bound=50) is None
    running.settle(0, 0)
    rig.after(0.75)
    rig.keepers[0][1].run_one()
    assert isinstance(rig.answers[0], Lease)
    rig.take(key, bound=100)
    rig.keepers[0][1].go_on()
    assert rig.workers[0].taken == bank.held(place) == 150


def test_who_asks_on_hearing_a_no_finds_what_others_were_granted_with_it() -> None:
    """One trip refuses a call and grants another; the first one's caller asks again at once, for the other's balance."""
    key, bank = budgeted(1_000)
    place, rig = (key.id, "nano_usd", MONTH), Rig(bank=bank)
    poor = level(budgets=(BudgetLimit("nano_usd", "month", 10),))
    bank.limits[poor.id, "nano_usd", MONTH] = 10
    rig.lease(key, bound=400).settle(0, 0)
    keeper = rig.keepers[0][1]
    keeper.is_held = True

    def take(its: Level, bound: int, answer: Any = rig.answers.append) -> None:
        want = Want((its,), rig.clock.micros, 1, bound, bound)
        rig.workers[0].take(want, rig.clock.seconds, answer, lambda: True)

    take(poor, 1)
    take(poor, 20, lambda _: take(key, 700))
    take(key, 600)
    keeper.run_one()
    rig.after(0.75)
    keeper.run_one()
    keeper.go_on()
    assert rig.workers[0]._budgets.bound - 1 == bank.held(place) >= 600


@pytest.mark.parametrize("how", ["the answer", "the call too"])
def test_a_slice_that_nobody_knows_of_goes_back(how: str) -> None:
    """The first grant of a balance was carried out, and its answer lost: no purse ever heard of the slice."""
    key, bank = budgeted(1_000)
    place, rig = (key.id, "nano_usd", MONTH), Rig(bank=bank)
    lease = bank.lease

    def lost(*asked: Any) -> Any:
        lease(*asked)
        raise OSError("the answer was lost")

    bank.lease = lost  # type: ignore[assignment, method-assign]
    assert rig.refused(key, bound=600).reason == "ledger_unavailable"
    bank.lease = lease  # type: ignore[method-assign]
    if how == "the call too":
        # Not even a failure was noticed.
        rig.workers[0]._budgets._is_unsure = False
        rig.after(35)
    rig.after(1)
    assert bank.held(place) == 0
    rig.lease(key, bound=1_000)


def test_a_slice_is_as_full_as_the_tables_say_once_they_have_everything() -> None:
    """Calls from before the budget are charged to it as well; what calls cost in the end may be less than was thought."""
    key, bank = budgeted(1_000)
    place, rig = (key.id, "nano_usd", MONTH), Rig(bank=bank)
    rig.lease(key, bound=300).settle(0, 10)
    rig.after(8)
    assert bank.held(place) == 10, "its entry may be on its way"
    rig.journal.pending = 0
    rig.after(8)
    assert bank.held(place) == 0, "it never came into the tables"
    rig.lease(key, bound=300).settle(0, 0)
    bank.flush(place, 250)
    rig.after(4)
    assert rig.refused(key, bound=751).remaining == 750
    rig.after(1).lease(key, bound=750)


@pytest.mark.parametrize("happens", ["nobody asks for a while", "the limit is gone for a while"])
def test_what_was_spent_before_is_not_spent_again_after(happens: str) -> None:
    key, bank = budgeted(1_000)
    place, rig = (key.id, "nano_usd", MONTH), Rig(bank=bank)

    def spend() -> int:
        passed = 0
        while passed < 5 and isinstance(lease := rig.take(key, bound=100), Lease):
            passed += 1
            lease.settle(0, 100)
            lease.release()
            bank.flush(place, 100)
        return passed

    assert spend() == 5
    if happens == "the limit is gone for a while":
        del bank.limits[place]
        rig.after(0.25).lease(key, bound=100).release()
        bank.limits[place] = 1_000
    rig.after(11)
    assert spend() == 5
    assert spend() == 0
    assert bank.spent[place] == 1_000


def test_a_provider_that_was_passed_over_is_charged_nothing() -> None:
    """Neither in the tables nor in hand: what it was to get is free again, and goes back."""
    limits = LimitSet(budgets=(BudgetLimit("nano_usd", "total", 100),), tokens_per_minute=50)
    first, second = (Level("provider", uuid4(), limits) for _ in range(2))
    places = [(each.id, "nano_usd", "total") for each in (first, second)]
    bank = HeldBank(dict.fromkeys(places, 100))
    rig = Rig(bank=bank)
    lease = rig.lease(first, bound=60, tokens=20)
    lease.absorb(rig.lease(second, bound=60, tokens=20))
    lease.settle(30, 40, second.id)
    lease.release()
    bank.flush(places[1], 40)
    rig.after(1)
    assert [bank.held(place) for place in places] == [0, 0]
    told = [tokens_left(rig.lease(each, bound=1, tokens=1)) for each in (first, second)]
    assert told == [49, 19]


def test_a_new_month_is_a_new_balance() -> None:
    key, bank = budgeted(100)
    rig = Rig(bank=bank)
    rig.lease(key, bound=100)
    assert rig.refused(key, bound=50).reason == "budget_held"
    bank.limits[key.id, "nano_usd", "month:2025-12"] = 100
    rig.clock.micros = 1_764_547_200_000_000
    rig.lease(key, bound=50)


# --- memory and the end -------------------------------------------------------------------------------------------------


def test_levels_that_nobody_asks_for_are_forgotten() -> None:
    bank = HeldBank()
    rig = Rig(bank=bank)
    for _ in range(500):
        key, its = budgeted(100)
        bank.limits |= its.limits
        rig.lease(key, rated(10), bound=1).release()
    assert rig.workers[0].report()["levels"] == 1000
    rig.after(25)
    assert (rig.workers[0].report()["levels"], rig.workers[0].report()["balances"]) == (0, 0)
    rig.after(60)
    for _ in range(100):
        rig.take(rated(1))
    assert len(rig.store) < 200


def test_at_the_end_everything_goes_back() -> None:
    key, bank = budgeted(10**9)
    rig, both = Rig(bank=bank), rated(100_000, concurrency=900)
    for _ in range(300):
        rig.lease(both, key, bound=10).release()
    rig.workers[0].give_everything_back()
    assert bank.held((key.id, "nano_usd", MONTH)) == 0
    state = rig.store._states[f"key:{both.id.hex}"]
    assert state.holders == []
    assert sum(run[1] for run in state.windows[0].runs) == 300
