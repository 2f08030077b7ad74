"""Workers that borrow, spend, give back, die and come back, against a model that only adds up."""

import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction
from django.db.models import Sum
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from keys.models import APIKey
from providers.types import Usage
from tenants.actor import system_actor
from tenants.clock import to_unix_us
from tenants.limits import Unit
from tenants.models import Account, Tenant
from usage import balance_services, budgets, ledger, windows
from usage.budget_terms import BudgetAsk, Part, Short
from usage.calls import Call
from usage.levels import Kind
from usage.models import Balance, HoldSlice, LedgerEntry
from usage.money import usd_text
from usage.records import AttemptOutcome, AttemptStarted, Caller, Intent, Settlement

Place = tuple[uuid.UUID, Unit, str]


@dataclass
class Slice:
    row: int
    lent: int
    free: int


@dataclass
class Worker:
    """As much of a worker as the balances can tell: what it holds, its calls, and the entries that wait for the tables."""

    boot: str = field(default_factory=lambda: str(uuid.uuid4()))
    slices: dict[Place, Slice] = field(default_factory=dict)
    calls: list[tuple[Intent, dict[Place, int]]] = field(default_factory=list)
    settled: list[Call] = field(default_factory=list)


WORKERS = st.integers(0, 1)
AMOUNTS = st.sampled_from([0, 1, 9, 16])


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.now = datetime(2027, 12, 30, 23, 0, tzinfo=UTC)
        self.tenant = Tenant.objects.create(name="T", slug=f"t-{uuid.uuid4().hex}")
        self.account = Account.objects.create(tenant=self.tenant, username="payer")
        self.keys = [
            APIKey.objects.create(
                tenant=self.tenant, account=self.account, name=str(n),
                created_by_type="t", created_by_id="t", created_by_label="t",
            )
            for n in range(2)
        ]  # fmt: skip
        self.flushed: list[tuple[Call, str]] = []
        self.dead: list[Worker] = []
        self.sold_beyond = False
        self.workers = [Worker(), Worker()]
        self.credited = 0
        self.somebody_pays(50)

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.atomic.__exit__(None, None, None)

    # --- what happens -------------------------------------------------------------------------------------------------

    @rule(key=st.integers(0, 1), most=st.sampled_from([None, 9, 25, 50]))
    def an_operator_limits_a_key(self, key: int, most: int | None) -> None:
        self.sold_beyond = True
        APIKey.objects.filter(pk=self.keys[key].pk).update(cost_budget_nano=most)

    @rule(most=st.sampled_from([None, 9, 25, 50]))
    def an_operator_limits_the_tenant(self, most: int | None) -> None:
        self.sold_beyond = True
        Tenant.objects.filter(pk=self.tenant.pk).update(tokens_budget_day=most)

    @rule(amount=AMOUNTS.filter(bool))
    def somebody_pays(self, amount: int) -> None:
        actor = system_actor("test")
        balance_services.top_up(
            actor=actor, account_id=self.account.pk, amount_usd=usd_text(amount)
        )
        self.credited += amount

    @rule(
        number=WORKERS,
        asks=st.lists(st.tuples(st.integers(0, 1), AMOUNTS), min_size=1),
        share=st.integers(0, 2),
    )
    def calls_come(self, number: int, asks: list[tuple[int, int]], share: int) -> None:
        """`share`: of what is free in the slices that are asked for, so many halves go back with the same trip."""
        worker = self.workers[number]
        intents = [self.intent(key, bound) for key, bound in asks]
        returns: dict[int, int] = {}
        for place in {
            self.place(part) for intent in intents for part in self.parts(worker, intent, 0)
        }:
            if each := worker.slices.get(place):
                returns[each.row] = each.free * share // 2
                each.free -= returns[each.row]
                each.lent -= returns[each.row]
        wanted = [
            self.parts(worker, intent, like=bound * 3)
            for intent, (_, bound) in zip(intents, asks, strict=True)
        ]
        replies = budgets.lease(
            worker.boot, [BudgetAsk(tuple(parts)) for parts in wanted], self.now, returns
        )
        for intent, parts, reply in zip(intents, wanted, replies, strict=True):
            if isinstance(reply, Short):
                self.refused(worker, parts[reply.part], reply)
                continue
            bound: dict[Place, int] = {}
            for part, grant in zip(parts, reply.grants, strict=True):
                if part.need:
                    self.within_its_limit(part)
                if grant.slice_id:
                    self.learn(worker, part, grant.slice_id, grant.lent)
                    bound[self.place(part)] = part.bound
            if any(worker.slices[place].free < amount for place, amount in bound.items()):
                continue  # free slices were promised to an earlier ask of the same batch
            for place, amount in bound.items():
                worker.slices[place].free -= amount
            worker.calls.append((intent, bound))

    @rule(number=WORKERS, asks=st.lists(st.tuples(st.integers(0, 1), AMOUNTS), min_size=1))
    def more_calls_come(self, number: int, asks: list[tuple[int, int]]) -> None:
        self.calls_come(number, asks, share=0)

    @rule(number=WORKERS, at=st.integers(0, 5), cost=AMOUNTS, over=st.booleans())
    def a_call_ends(self, number: int, at: int, cost: int, over: bool) -> None:
        worker = self.workers[number]
        if not worker.calls:
            return
        intent, bound = worker.calls.pop(at % len(worker.calls))
        cost = cost if over else min(cost, intent.hold_nano_usd)
        self.sold_beyond |= cost > intent.hold_nano_usd
        for place, amount in bound.items():
            # An empty slice may be gone.
            if place in worker.slices:
                worker.slices[place].free = max(0, worker.slices[place].free + amount - cost)
        worker.settled.append(self.ended(intent, cost))

    @rule(number=WORKERS, twice=st.booleans())
    def a_flush(self, number: int, twice: bool) -> None:
        worker = self.workers[number]
        for _ in range(1 + twice):
            ledger.apply(worker.settled, worker.boot)
        self.flushed += [(call, worker.boot) for call in worker.settled]
        worker.settled = []

    @rule(number=WORKERS, share=st.integers(1, 4))
    def idle_slices_go_back(self, number: int, share: int) -> None:
        worker = self.workers[number]
        amounts = {each.row: each.free // share for each in worker.slices.values() if each.free}
        budgets.give_back(worker.boot, amounts)
        for each in worker.slices.values():
            each.free -= each.free // share
            each.lent -= amounts.get(each.row, 0)

    @rule(number=WORKERS)
    def a_renewal(self, number: int) -> None:
        worker = self.workers[number]
        lent = budgets.renew(worker.boot, self.now)
        for place, each in list(worker.slices.items()):
            if each.row not in lent:
                del worker.slices[place]
            else:
                assert lent[each.row].lent == each.lent

    @rule(seconds=st.sampled_from([1, 15, 3_600, 86_400, -86_400, 31_622_400]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(number=WORKERS, hidden=st.booleans(), late=st.booleans())
    def the_sweeper_comes(self, number: int, hidden: bool, late: bool) -> None:
        worker = self.workers[number]
        self.now += timedelta(seconds=25 * late)
        boots = {str(boot) for boot in HoldSlice.objects.values_list("boot", flat=True)}
        budgets.sweep(self.now, boots - ({worker.boot} if hidden else set()))

    @rule(number=WORKERS, twice=st.booleans())
    def it_dies_and_its_journal_is_read(self, number: int, twice: bool) -> None:
        worker = self.workers[number]
        ended = [
            *worker.settled,
            *(self.ended(intent, intent.hold_nano_usd // 2) for intent, _ in worker.calls),
        ]
        for _ in range(1 + twice):
            ledger.apply(ended, worker.boot)
            budgets.release_all(worker.boot)
        self.flushed += [(call, worker.boot) for call in ended]
        worker.boot, worker.slices, worker.calls, worker.settled = str(uuid.uuid4()), {}, [], []

    # --- what must be so ----------------------------------------------------------------------------------------------

    @invariant()
    def the_books_add_up(self) -> None:
        spent: dict[Place, int] = defaultdict(int)
        for entry in LedgerEntry.objects.all():
            for level, unit, window in self.places(entry):
                spent[level, unit, window] += entry.cost_nano_usd or 0
        held, written_off = (
            dict(rows.values_list("balance_id").annotate(sum=Sum("amount")))
            for rows in (HoldSlice.objects.filter(written_off_at=None), HoldSlice.objects.exclude(written_off_at=None))
        )  # fmt: skip
        assert LedgerEntry.objects.count() == len(self.flushed)
        for each in Balance.objects.all():
            place: Place = (each.level_id, each.unit, each.window)  # type: ignore[assignment]
            assert each.spent == spent[place] + written_off.get(each.id, 0)
            assert each.held == held.get(each.id, 0)
            assert each.spent + each.held <= each.ceiling
            if each.window == windows.PREPAID:
                assert each.credited == self.credited
            if not self.sold_beyond:
                assert each.spent + each.held <= each.credited

    @invariant()
    def no_worker_has_more_than_it_was_lent(self) -> None:
        if self.sold_beyond:
            return
        for row in HoldSlice.objects.all():
            assert row.amount <= row.lent

    # --- shapes -------------------------------------------------------------------------------------------------------

    def intent(self, key: int, bound: int) -> Intent:
        at = to_unix_us(self.now)
        caller = Caller(
            tenant_id=self.tenant.pk, tenant="T", key_id=self.keys[key].pk, key_prefix="gwk_x",
            account_id=self.account.pk, account="payer",
        )  # fmt: skip
        return Intent(
            month=f"{self.now:%Y-%m}", request_id=uuid.uuid4(), correlation_id="c", received_at=at,
            caller=caller, model="m", dialect_in="openai", stream=False, hold_tokens=bound,
            hold_nano_usd=bound, prompt_estimate=0,
        )  # fmt: skip

    def parts(self, worker: Worker, intent: Intent, like: int) -> list[Part]:
        at, bound = intent.received_at, intent.hold_nano_usd
        wanted: list[tuple[Kind, uuid.UUID, Unit, str]] = [
            ("key", intent.caller.key_id, "nano_usd", windows.window_at("month", at)),
            ("tenant", self.tenant.pk, "tokens", windows.window_at("day", at)),
            ("account", self.account.pk, "nano_usd", windows.PREPAID),
        ]
        parts = []
        for kind, level, unit, window in wanted:
            have = worker.slices.get((level, unit, window))
            need = max(0, bound - (have.free if have else 0))
            parts.append(Part(kind, level, unit, window, bound, need, max(like, need)))
        return parts

    def ended(self, intent: Intent, cost: int) -> Call:
        attempt = AttemptStarted(
            month=intent.month, request_id=intent.request_id, n=1, started_at=intent.received_at,
            provider_id=uuid.UUID(int=7), provider="p", target="t", dialect_out="openai",
        )  # fmt: skip
        end = Settlement(
            month=intent.month, request_id=intent.request_id, settled_at=to_unix_us(self.now), status=200,
            error_code=None, dispatched="yes", usage=Usage(output=cost), usage_source="provider",
            cost_nano_usd=cost, price_id=None, duration_us=1, ttfb_us=1, overhead_us=1,
            attempts=[AttemptOutcome(1, "ok", 1)], overrun=cost > intent.hold_nano_usd,
        )  # fmt: skip
        return Call(intent, (attempt,), end)

    def place(self, part: Part) -> Place:
        return part.id, part.unit, part.window

    def places(self, entry: LedgerEntry) -> list[Place]:
        return [
            (entry.key_id, "nano_usd", f"month:{entry.month}"),
            (entry.tenant_id, "tokens", f"day:{entry.day}"),
            (entry.account_id, "nano_usd", windows.PREPAID),
        ]

    def learn(self, worker: Worker, part: Part, row: int, lent: int) -> None:
        have = worker.slices.get(self.place(part))
        if have is None or have.row != row:
            have = worker.slices[self.place(part)] = Slice(row, 0, 0)
        have.free += lent - have.lent
        have.lent = lent

    def within_its_limit(self, part: Part) -> None:
        """What was just lent is within what the row says."""
        at = Balance.objects.filter(level_id=part.id, window=part.window, unit=part.unit).first()
        if part.kind == "account":
            assert at is not None
            assert at.spent + at.held <= self.credited
            return
        limit = (
            APIKey.objects.get(pk=part.id).cost_budget_nano
            if part.kind == "key"
            else Tenant.objects.get(pk=part.id).tokens_budget_day
        )
        assert limit is None or (at is not None and at.spent + at.held <= limit)

    def refused(self, worker: Worker, part: Part, short: Short) -> None:
        assert short.left < part.need
        assert (short.reason == "exhausted") == (part.bound > short.limit - short.spent)


@pytest.mark.django_db
def test_whatever_workers_do_the_books_add_up_and_no_limit_is_passed() -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=12, stateful_step_count=50, deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )  # fmt: skip
