"""What workers borrow of balances, what becomes of it, and that nobody's bookkeeping differs."""

import json
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import Sum

from keys.models import APIKey
from keys.services import Issued
from providers.types import Usage
from tenants import clock
from tenants.actor import system_actor
from tenants.clock import from_unix_us
from tenants.errors import Conflict, Invalid, NotFound
from tenants.models import Account, AuditEvent, Tenant
from tests.usage import samples
from tests.usage.samples import MONTH, T0, attempt, call_id, intent, settlement
from usage import balance_services, budgets, day_closing, ledger, windows
from usage import flusher as flusher_module
from usage.budget_terms import SLICE_SECONDS, BudgetAsk, Grant, Granted, Part, Reply, Short
from usage.calls import Call
from usage.corrections import Correction, correct
from usage.flusher import Flusher
from usage.journal import Journal
from usage.models import Balance, HoldSlice, LedgerEntry, RequestLog, Rollup
from usage.reconciling import reconcile

pytestmark = pytest.mark.django_db

NOW = from_unix_us(T0)
ACTOR = system_actor("test")
BOOT, OTHER = (str(uuid.UUID(int=900 + n)) for n in range(2))
WINDOW = f"month:{MONTH}"


@pytest.fixture
def budgeted(key: Issued) -> APIKey:
    """A key that may spend 1,000 nano-USD a month."""
    APIKey.objects.filter(pk=key.key.pk).update(cost_budget_nano=1_000)
    return key.key


def part(key: APIKey, need: int, *, like: int = 0, window: str = WINDOW, bound: int = 0) -> Part:
    return Part("key", key.pk, "nano_usd", window, bound or need, need, max(like, need))


def ask(key: APIKey, need: int, boot: str = BOOT, **details: Any) -> Reply:
    return budgets.lease(boot, [BudgetAsk((part(key, need, **details),))], NOW)[0]


def ended(number: int, key: APIKey, cost: int | None, **details: Any) -> Call:
    caller = msgspec.structs.replace(samples.CALLER, key_id=key.pk, tenant_id=key.tenant_id)
    first = intent(number, caller=caller, **details)
    usage = Usage(output=cost or 0)
    return Call(first, (attempt(number),), settlement(number, usage=usage, cost=cost))


def balance(**of: Any) -> tuple[int, int, int]:
    return Balance.objects.values_list("spent", "held", "ceiling").get(**of)


def assert_books_agree() -> None:
    verdict = reconcile([MONTH])
    assert verdict.differences == []
    assert verdict.balances


# Borrowing


def test_a_balance_begins_with_what_was_spent_before_the_budget_was_set(budgeted: APIKey) -> None:
    ledger.apply([ended(1, budgeted, 300), ended(2, budgeted, 40), ended(3, budgeted, None)])
    day = f"day:{windows.day_of(T0)}"
    APIKey.objects.update(cost_budget_day_nano=1_000, cost_budget_total_nano=1_000)
    for window in (WINDOW, day, "total", "month:2026-12"):
        assert isinstance(ask(budgeted, 10, window=window), Granted)
        assert balance(window=window)[:2] == (0 if window.endswith("12") else 340, 10)
    assert_books_agree()


def test_near_the_limit_a_slice_is_what_the_call_needs_and_no_more(budgeted: APIKey) -> None:
    assert isinstance(ask(budgeted, 10, like=500), Granted)
    assert balance()[1] == 1_000 // 16
    assert isinstance(ask(budgeted, 930, like=5_000), Granted)
    assert balance() == (0, 62 + 930, 1_000)


def test_what_goes_back_with_an_ask_is_there_for_it(budgeted: APIKey) -> None:
    ask(budgeted, 900)
    mine = HoldSlice.objects.get()
    wanted = BudgetAsk((part(budgeted, 1_000),))
    (reply,) = budgets.lease(BOOT, [wanted], NOW, {mine.id: 900})
    assert isinstance(reply, Granted)
    assert reply.grants[0] == (mine.id, 1_000, 0)
    assert balance() == (0, 1_000, 1_000)
    (reply,) = budgets.lease(BOOT, [wanted], NOW, {mine.id: 1})
    assert isinstance(reply, Short)
    assert balance() == (0, 999, 1_000), "it went back all the same"


def test_only_what_is_lent_anew_gets_a_new_deadline(budgeted: APIKey) -> None:
    ask(budgeted, 100)
    ask(budgeted, 100, OTHER)
    later = NOW + timedelta(seconds=3)
    budgets.lease(BOOT, [BudgetAsk((part(budgeted, 50),))], later)
    ledger.apply([ended(1, budgeted, 7)], BOOT)
    mine = HoldSlice.objects.get(boot=BOOT)
    budgets.give_back(BOOT, {mine.id: 20})
    found = HoldSlice.objects.values_list("boot", "amount", "lent", "deadline")
    lent_for = timedelta(seconds=SLICE_SECONDS)
    assert set(found) == {
        (uuid.UUID(BOOT), 123, 130, later + lent_for),
        (uuid.UUID(OTHER), 100, 100, NOW + lent_for),
    }


def test_as_many_calls_are_admitted_as_the_limit_holds_and_then_it_is_said_why(
    budgeted: APIKey,
) -> None:
    boots = [BOOT, OTHER]
    replies = [ask(budgeted, 90, boots[n % 2]) for n in range(12)]
    assert [isinstance(reply, Granted) for reply in replies] == [True] * 11 + [False]
    end = windows.ends_at(WINDOW)
    assert replies[-1] == Short(0, "held", 1_000, 0, 10, end)
    assert ask(budgeted, 1_001, bound=1_001) == Short(0, "exhausted", 1_000, 0, 10, end)


def test_a_call_gets_all_of_its_levels_or_nothing(budgeted: APIKey) -> None:
    Tenant.objects.filter(pk=budgeted.tenant_id).update(tokens_budget_total=50)
    wanted = (
        part(budgeted, 100),
        Part("tenant", budgeted.tenant_id, "tokens", "total", 60, 60, 60),
    )
    (reply,) = budgets.lease(BOOT, [BudgetAsk(wanted)], NOW)
    assert reply == Short(1, "exhausted", 50, 0, 50, None)
    assert not HoldSlice.objects.exists()
    assert list(Balance.objects.values_list("held", flat=True)) == [0, 0]


def test_a_limit_that_was_lowered_or_taken_away_counts_at_once(budgeted: APIKey) -> None:
    assert isinstance(ask(budgeted, 800), Granted)
    APIKey.objects.update(cost_budget_nano=500)
    assert ask(budgeted, 1) == Short(0, "held", 500, 0, -300, windows.ends_at(WINDOW))
    assert balance() == (0, 800, 1_000)
    APIKey.objects.update(cost_budget_nano=None)
    assert ask(budgeted, 5_000) == Granted((Grant(0, 0),))
    assert not HoldSlice.objects.exists(), "nobody knows of it any more"
    assert balance() == (0, 0, 1_000)
    APIKey.objects.all().delete()
    assert isinstance(ask(budgeted, 1), Short)


def test_the_database_itself_refuses_what_would_pass_the_ceiling(budgeted: APIKey) -> None:
    ask(budgeted, 900)
    for wrong in ({"held": 1_001}, {"spent": 101}, {"held": -1}, {"spent": -1}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Balance.objects.update(**wrong)


# Windows


@pytest.mark.parametrize(
    ("moment", "day", "month", "turns"),
    [
        ("2028-02-29T23:59:59.999999", "day:2028-02-29", "month:2028-02", "2028-03-01"),
        ("2027-12-31T23:59:59.999999", "day:2027-12-31", "month:2027-12", "2028-01-01"),
        ("2026-11-30T00:00:00", "day:2026-11-30", "month:2026-11", "2026-12-01"),
        ("1970-01-01T00:00:00", "day:1970-01-01", "month:1970-01", "1970-01-02"),
    ],
)
def test_windows_are_days_and_months_of_the_calendar(
    moment: str, day: str, month: str, turns: str
) -> None:
    at = clock.to_unix_us(datetime.fromisoformat(moment).replace(tzinfo=UTC))
    assert (windows.window_at("day", at), windows.window_at("month", at)) == (day, month)
    ends = windows.ends_at(day)
    assert ends is not None
    assert from_unix_us(ends).isoformat() == f"{turns}T00:00:00+00:00"
    assert windows.window_at("total", at) == "total"
    assert windows.ends_at("total") is None


def test_ten_years_of_days_follow_one_another_without_a_gap() -> None:
    end = clock.to_unix_us(datetime(2027, 1, 1, tzinfo=UTC))
    for _ in range(3_653):
        day, month = windows.window_at("day", end), windows.window_at("month", end)
        assert windows.window_at("day", end - 1) != day
        following = windows.ends_at(day)
        assert following == end + windows.DAY_US
        assert (windows.ends_at(month) or 0) >= following
        end = following


def test_a_clock_that_jumps_back_finds_the_window_in_which_it_was(budgeted: APIKey) -> None:
    for year, spent in ((0, 300), (366, 200), (0, 300), (-365, 100), (0, 300)):
        at = T0 + year * windows.DAY_US
        month = clock.month_of(at)
        number = 10_000 + year
        call = ended(number, budgeted, spent, at=at)
        call = msgspec.structs.replace(
            call, intent=msgspec.structs.replace(call.intent, month=month)
        )
        ledger.apply([call])
        ask(budgeted, 1, window=f"month:{month}")
        assert balance(window=f"month:{month}")[0] == spent


# From the journal into the balances


def test_what_a_call_cost_moves_from_the_slice_into_spent_once(budgeted: APIKey) -> None:
    ask(budgeted, 500)
    for _ in range(2):
        ledger.apply([ended(1, budgeted, 120), ended(2, budgeted, 30)], BOOT)
        assert balance() == (150, 350, 1_000)
    assert HoldSlice.objects.values_list("amount", "lent").get() == (350, 500)
    budgets.give_back(BOOT, {HoldSlice.objects.get().id: 350})
    assert balance() == (150, 0, 1_000)
    assert_books_agree()


def test_more_than_was_held_is_believed_and_moves_the_ceiling(budgeted: APIKey) -> None:
    ask(budgeted, 990)
    call = ended(1, budgeted, 1_200)
    assert call.settlement is not None
    end = msgspec.structs.replace(call.settlement, overrun=True)
    ledger.apply([msgspec.structs.replace(call, settlement=end)], BOOT)
    assert balance() == (1_200, 0, 1_200)
    assert LedgerEntry.objects.get().overrun
    assert isinstance(ask(budgeted, 1), Short)
    assert_books_agree()


@pytest.mark.parametrize("cost", [0, 700])
def test_a_worker_that_was_written_off_and_is_heard_of_is_charged_once(
    budgeted: APIKey, cost: int
) -> None:
    ask(budgeted, 800)
    late = NOW + timedelta(seconds=25)
    assert budgets.sweep(late, {BOOT}) == 0
    assert budgets.sweep(NOW + timedelta(seconds=15), ()) == 0
    assert budgets.sweep(late, ()) == 1
    assert balance() == (800, 0, 1_000)
    assert_books_agree()
    ledger.apply([ended(1, budgeted, cost)], BOOT)
    assert balance() == (800, 0, 1_000)
    assert_books_agree()
    if cost:
        (lent,) = budgets.renew(BOOT, late).values()
        assert (*lent, *balance()) == (800, 800 - cost, cost, 800 - cost, 1_000)
        assert budgets.sweep(late, ()) == 0
    budgets.release_all(BOOT)
    assert balance() == (cost, 0, 1_000)
    assert_books_agree()


def test_a_deadline_that_no_clock_can_have_set_becomes_one(budgeted: APIKey) -> None:
    budgets.lease(BOOT, [BudgetAsk((part(budgeted, 10),))], NOW + timedelta(days=366))
    budgets.sweep(NOW, ())
    assert budgets.sweep(NOW + timedelta(seconds=25), ()) == 1


def test_a_dead_workers_journal_frees_its_slices_wherever_the_replay_is_interrupted(
    budgeted: APIKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = Journal(tmp_path)
    ask(budgeted, 400, dead.boot)
    for number in range(4):
        call = ended(number, budgeted, 20)
        assert call.settlement is not None
        dead.append(call.intent)
        dead.append(call.attempts[0])
        dead.append(call.settlement)
    open_call = ended(9, budgeted, 0)
    dead.append(open_call.intent)
    dead.append(open_call.attempts[0])
    dead.close(keep=True)
    living = Journal(tmp_path)
    flusher = Flusher(living, at_once=2)

    def stops(step: Callable[..., object], *, after: bool) -> Callable[..., object]:
        def work(*args: object) -> object:
            if after:
                step(*args)
            raise OperationalError("away")

        return work

    for name, step in (("apply", ledger.apply), ("release_all", budgets.release_all)):
        for after in (False, True):
            with monkeypatch.context() as patch:
                patch.setattr(flusher_module, name, stops(step, after=after))
                with pytest.raises(OperationalError):
                    flusher.replay_orphans()
            assert balance()[0] + balance()[1] <= 1_000
            assert_books_agree()
    assert not HoldSlice.objects.exists()
    flusher.replay_orphans()
    assert balance() == (80, 0, 1_000)
    assert LedgerEntry.objects.filter(dispatched="unknown").count() == 1
    assert_books_agree()
    living.close()


def test_a_refused_write_leaves_nothing_half_done(
    budgeted: APIKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk and a locked file look like this from here: the statement fails, and so does the transaction."""
    ask(budgeted, 500)

    def refused(*args: object) -> None:
        raise OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("usage.budget_books.write_rows", refused)
        for work in (
            lambda: ask(budgeted, 10),
            lambda: budgets.give_back(BOOT, {HoldSlice.objects.get().id: 5}),
            lambda: budgets.release_all(BOOT),
            lambda: ledger.apply([ended(1, budgeted, 7)], BOOT),
        ):
            with pytest.raises(OperationalError):
                work()
    assert balance() == (0, 500, 1_000)
    assert not LedgerEntry.objects.exists()
    ledger.apply([ended(1, budgeted, 7)], BOOT)
    assert_books_agree()


@pytest.mark.django_db(transaction=True)
def test_workers_that_race_for_one_budget_get_exactly_what_it_holds(budgeted: APIKey) -> None:
    """Two connections borrow and two flush, while the balance is being made: no circle of locks, no nano-USD too many."""
    APIKey.objects.update(cost_budget_day_nano=2_000)
    day = f"day:{windows.day_of(T0)}"
    faults: list[Exception] = []
    admitted: dict[str, int] = {BOOT: 0, OTHER: 0}

    def borrow(boot: str) -> None:
        for _ in range(40):
            wanted = (part(budgeted, 11), part(budgeted, 11, window=day))
            (reply,) = budgets.lease(boot, [BudgetAsk(wanted)], NOW)
            admitted[boot] += isinstance(reply, Granted)

    def flush(boot: str) -> None:
        first = 1_000 * (boot == OTHER)
        for number in range(first, first + 20, 4):
            ledger.apply([ended(n, budgeted, 5) for n in range(number, number + 4)], boot)

    def run(work: Callable[[str], None], boot: str) -> None:
        try:
            work(boot)
        except Exception as fault:  # noqa: BLE001 - shown by the assertion
            faults.append(fault)
        finally:
            connection.close()

    threads = [
        threading.Thread(target=run, args=(work, boot))
        for work in (borrow, flush)
        for boot in (BOOT, OTHER)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert faults == []
    spent, held, ceiling = balance(window=WINDOW)
    assert (spent, ceiling) == (200, 1_000)
    assert spent + held <= 1_000
    assert sum(admitted.values()) >= (1_000 - 200) // 11
    assert_books_agree()


# Prepaid accounts


@pytest.fixture
def account(tenant: Tenant) -> Account:
    return Account.objects.create(tenant=tenant, username="payer")


def prepaid(account: Account, need: int) -> Reply:
    wanted = Part("account", account.pk, "nano_usd", "prepaid", need, need, need)
    return budgets.lease(BOOT, [BudgetAsk((wanted,))], NOW)[0]


def test_an_account_spends_what_was_paid_in_and_not_more(account: Account) -> None:
    assert prepaid(account, 1) == Short(0, "exhausted", 0, 0, 0, None)
    for amount in ("0.000000300", "0.000000200"):
        balance_services.top_up(
            actor=ACTOR, account_id=account.pk, amount_usd=amount, note="thanks"
        )
    assert isinstance(prepaid(account, 500), Granted)
    assert prepaid(account, 1) == Short(0, "held", 500, 0, 0, None)
    nobody = uuid.uuid4()
    standings = balance_services.balance_of([account.pk, nobody])
    assert standings[account.pk] == balance_services.Standing(500, 0, 500)
    assert standings[nobody].balance == 0
    rows = AuditEvent.objects.filter(action="account.topped_up", outcome="ok")
    assert [row.details["amount_usd"] for row in rows.order_by("seq")] == ["0.0000003", "0.0000002"]
    assert_books_agree()


@pytest.mark.parametrize(
    "amount", ["0", "-1", "1e3", "NaN", 1.5, True, None, "", "10000000000", 0, "0.0000000001", []]
)
def test_what_is_no_amount_is_refused(account: Account, amount: object) -> None:
    for service in (balance_services.top_up, balance_services.take_back):
        with pytest.raises(Invalid):
            service(actor=ACTOR, account_id=account.pk, amount_usd=amount, note="x")


def test_only_what_is_neither_used_nor_set_aside_can_be_taken_back(account: Account) -> None:
    balance_services.top_up(actor=ACTOR, account_id=account.pk, amount_usd="0.000001")
    prepaid(account, 400)
    with pytest.raises(Conflict):
        balance_services.take_back(
            actor=ACTOR, account_id=account.pk, amount_usd="0.000000601", note="refund"
        )
    with pytest.raises(Invalid):
        balance_services.take_back(
            actor=ACTOR, account_id=account.pk, amount_usd="0.0000006", note=""
        )
    standing = balance_services.take_back(
        actor=ACTOR, account_id=account.pk, amount_usd="0.0000006", note="refund"
    )
    assert (standing.credited, standing.balance) == (400, 400)
    for _ in range(1):
        balance_services.top_up(actor=ACTOR, account_id=account.pk, amount_usd="999999999")
    with pytest.raises(Conflict):
        balance_services.top_up(actor=ACTOR, account_id=account.pk, amount_usd="2")
    account.deleted_at = NOW
    account.save()
    with pytest.raises(NotFound):
        balance_services.top_up(actor=ACTOR, account_id=account.pk, amount_usd="1")


def test_the_command_pays_in_and_shows(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    named = ["--tenant", account.tenant.slug, "--json", "--account"]
    call_command("balance", "top-up", *named, "PAYER", "--amount-usd", "2.50", "--note", "cash")
    call_command("balance", "show", *named, str(account.pk))
    paid, shown = map(json.loads, capsys.readouterr().out.splitlines())
    assert paid == shown
    assert (shown["balance_usd"], shown["held_usd"]) == ("2.5", "0")
    for wrong in (["top-up", *named, "payer", "--amount-usd", "-3"], ["show", *named, "nobody"]):
        with pytest.raises(CommandError):
            call_command("balance", *wrong)


# Corrections, reconciliation, closed days


def correction(number: int, cost: int, **details: Any) -> Correction:
    return Correction(MONTH, call_id(number), cost, **details)


def test_a_correction_moves_every_sum_of_the_time_when_the_call_was_made(budgeted: APIKey) -> None:
    ledger.apply([ended(1, budgeted, 300), ended(2, budgeted, None)])
    ask(budgeted, 10)
    again = uuid.uuid4()
    for times, line in enumerate((2, 3)):
        reason = uuid.uuid4() if times else again
        for _ in range(2):
            correct(
                actor=ACTOR,
                corrections=[correction(1, -100), correction(2, 50, tokens_out=7)],
                reason="The price was wrong.",
                correction_id=reason,
            )
        assert balance()[0] == 350 - 50 * line
        assert LedgerEntry.objects.filter(line=line).count() == 2
        assert_books_agree()
    logs = RequestLog.objects.order_by("request_id").values_list("cost_nano_usd", "tokens_out")
    assert list(logs) == [(100, 300), (100, 14)]
    sums = Rollup.objects.aggregate(cost=Sum("cost_nano_usd"), unpriced=Sum("unpriced_requests"))
    assert sums == {"cost": 200, "unpriced": 0}
    assert AuditEvent.objects.filter(action="ledger.corrected", outcome="ok").count() == 4
    last = LedgerEntry.objects.get(request_id=call_id(1), line=3)
    assert (last.reason, last.corrected_by) == ("The price was wrong.", ACTOR.label)


def test_a_correction_of_nothing_of_a_stranger_or_below_nothing_is_refused(
    budgeted: APIKey,
) -> None:
    ledger.apply([ended(1, budgeted, 300)])
    wrong: list[list[Correction]] = [
        [],
        [correction(1, 1), correction(1, 2)],
        [correction(77, 1)],
        [correction(1, -301)],
        [correction(1, 0, tokens_out=-301)],
    ]
    for corrections in wrong:
        with pytest.raises(Invalid):
            correct(actor=ACTOR, corrections=corrections, reason="r", correction_id=uuid.uuid4())
    assert LedgerEntry.objects.count() == 1


def test_reconciling_names_every_sum_that_does_not_agree(
    budgeted: APIKey, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.apply([ended(1, budgeted, 300)])
    ask(budgeted, 10)
    assert reconcile([MONTH]).count == 0
    Rollup.objects.update(tokens_out=1)
    RequestLog.objects.update(cost_nano_usd=None)
    Balance.objects.update(spent=299, held=9)
    with pytest.raises(SystemExit) as ended_with:
        call_command("usage", "reconcile", "--month", MONTH, "--json")
    assert ended_with.value.code == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["difference_count"]) == (False, 4)
    assert {(it["expected"], it["found"]) for it in told["differences"]} == {
        (300, 1), (300, -1), (300, 299), (10, 9),
    }  # fmt: skip


def test_a_closed_day_shows_when_a_line_of_it_is_changed(
    budgeted: APIKey, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Later(clock.SystemClock):
        def now(self) -> datetime:
            return NOW + timedelta(days=1)

    ledger.apply([ended(1, budgeted, 300)])
    monkeypatch.setattr(day_closing, "SYSTEM", Later())
    run = ("usage", "reconcile", "--month", MONTH, "--json")
    call_command(*run)
    call_command(*run)
    ledger.apply([ended(2, budgeted, 20)])
    call_command(*run)
    closed = [json.loads(line)["closed_days"] for line in capsys.readouterr().out.splitlines()]
    assert closed == [[windows.day_of(T0)], [], [windows.day_of(T0)]]
    LedgerEntry.objects.filter(request_id=call_id(1)).update(cost_nano_usd=299)
    Rollup.objects.update(cost_nano_usd=319)
    RequestLog.objects.filter(request_id=call_id(1)).update(cost_nano_usd=299)
    with pytest.raises(SystemExit):
        call_command(*run)
    assert json.loads(capsys.readouterr().out)["altered_days"] == [windows.day_of(T0)]


def test_the_money_lines_of_a_month_can_be_taken_out(
    budgeted: APIKey, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.apply([ended(number, budgeted, number) for number in range(1, 4)])
    call_command("usage", "export", "--month", MONTH)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["cost_nano_usd"] for line in lines] == [1, 2, 3]
    assert lines[0]["key_id"] == str(budgeted.pk)
    with pytest.raises(CommandError):
        call_command("usage", "export", "--month", "2026-13")
