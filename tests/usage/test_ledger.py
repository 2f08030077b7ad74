import logging
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.db import OperationalError, connection, transaction
from django.db.models import Model as Row
from django.db.models import Sum
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase as HypothesisTestCase

from keys.models import APIKey
from providers.models import Model, Price
from providers.types import Usage
from tenants.clock import from_unix_us
from tenants.models import Tenant
from tests.usage.samples import (
    CALLER,
    MONTH,
    PROVIDER_ID,
    T0,
    attempt,
    call_id,
    intent,
    refusal,
    settled,
    settlement,
)
from usage import flusher as flusher_module
from usage import ledger, segments
from usage.calls import Call, Item
from usage.flusher import Flusher
from usage.journal import Journal, JournalUnavailable
from usage.last_used import LastUsed
from usage.models import (
    NOBODY,
    Attempt,
    Hold,
    LedgerEntry,
    RequestContent,
    RequestLog,
    Rollup,
)
from usage.records import Why, why_text

pytestmark = pytest.mark.django_db

TABLES: tuple[type[Row], ...] = (Hold, LedgerEntry, Attempt, RequestLog, RequestContent, Rollup)
SUMS = ("tokens_in", "tokens_cached", "tokens_out", "tokens_reasoning", "cost_nano_usd")


def rows(model: type[Row]) -> list[dict[str, Any]]:
    columns = [field.attname for field in model._meta.concrete_fields if not field.primary_key]
    found = [dict(row) for row in model._default_manager.values(*columns)]
    for row in found:
        row.update({name: bytes(v) for name, v in row.items() if isinstance(v, memoryview)})
    return sorted(found, key=str)


def everything() -> dict[str, list[dict[str, Any]]]:
    return {model.__name__: rows(model) for model in TABLES}


def assert_rollups_are_the_sums_of_the_entries() -> None:
    total = LedgerEntry.objects.aggregate(**{name: Sum(name, default=0) for name in SUMS})
    assert Rollup.objects.aggregate(**{name: Sum(name, default=0) for name in SUMS}) == total
    flags = Rollup.objects.aggregate(
        requests=Sum("requests", default=0),
        unpriced=Sum("unpriced_requests", default=0),
        estimated=Sum("estimated_requests", default=0),
    )
    assert flags == {
        "requests": LedgerEntry.objects.count(),
        "unpriced": LedgerEntry.objects.filter(cost_nano_usd=None).count(),
        "estimated": LedgerEntry.objects.filter(usage_source="estimated").count(),
    }


# One call


def test_a_settled_call_is_a_log_row_a_money_line_its_attempts_and_its_part_of_the_sums() -> None:
    call = Call(
        intent(1, caller=msgspec.structs.replace(CALLER, project_id=uuid.UUID(int=3), project="P")),
        (attempt(1, 1), attempt(1, 2)),
        settlement(1, attempts=2, content=b"\x00sealed\xff"),
    )
    assert ledger.apply([call]) == (1, 1, 0)
    log = RequestLog.objects.get()
    assert (log.month, log.request_id, log.correlation_id) == (MONTH, call_id(1), "req-00000001")
    assert (log.tenant_id, log.tenant, log.project_id, log.project) == (
        uuid.UUID(int=1),
        "Acme",
        uuid.UUID(int=3),
        "P",
    )
    assert (log.account_id, log.account, log.key_prefix, log.team) == (
        NOBODY,
        "",
        "gwk_1a2b",
        "red",
    )
    assert log.created_at == from_unix_us(T0 + 1)
    assert (log.provider_id, log.provider, log.target) == (PROVIDER_ID, "upstream", "target-2")
    assert (log.status, log.error_code, log.dispatched, log.attempts) == (200, "", "yes", 2)
    assert (log.duration_us, log.ttfb_us, log.overhead_us) == (4_000, 1_500, 90)
    entry = LedgerEntry.objects.get()
    assert (entry.line, entry.cost_nano_usd, entry.usage_source) == (1, 300, "provider")
    assert entry.created_at == from_unix_us(T0 + 5_001)
    for row in (log, entry, Rollup.objects.get()):
        assert [getattr(row, name) for name in SUMS] == [10, 2, 5, 1, 300]
    tries = list(Attempt.objects.order_by("n").values_list("n", "target", "outcome", "duration_us"))
    assert tries == [(1, "target-1", "ok", 3_000), (2, "target-2", "ok", 3_000)]
    content = RequestContent.objects.get()
    assert (bytes(content.sealed), content.tenant_id) == (b"\x00sealed\xff", uuid.UUID(int=1))
    assert not Hold.objects.exists()


def test_a_moment_without_a_fraction_is_stored_as_django_stores_it() -> None:
    whole = T0 // 1_000_000 * 1_000_000 - 1
    ledger.apply([Call(intent(1, at=whole), (), settlement(1))])
    moment = datetime.fromtimestamp(T0 // 1_000_000, UTC)
    assert RequestLog.objects.filter(created_at=moment).count() == 1


def test_a_refusal_is_a_log_row_and_nothing_else() -> None:
    assert ledger.apply([refusal(1)]) == (1, 0, 0)
    log = RequestLog.objects.get()
    assert (log.status, log.error_code, log.dispatched) == (429, "rate_limit_exceeded", "no")
    assert (log.stream, log.cost_nano_usd, log.usage_source) == (True, 0, "none")
    assert not any(model._default_manager.exists() for model in TABLES if model is not RequestLog)


def test_a_call_of_which_nothing_was_sent_has_no_money_line() -> None:
    ledger.apply([settled(1, dispatched="no", usage=Usage(), cost=0)])
    assert RequestLog.objects.get().dispatched == "no"
    assert not LedgerEntry.objects.exists()
    assert not Rollup.objects.exists()


def test_an_unknown_price_is_null_and_counted_never_nothing() -> None:
    ledger.apply([settled(1, cost=None), settled(2)])
    assert LedgerEntry.objects.get(request_id=call_id(1)).cost_nano_usd is None
    rollup = Rollup.objects.get()
    assert (rollup.requests, rollup.unpriced_requests, rollup.cost_nano_usd) == (2, 1, 300)


def test_a_call_in_flight_holds_and_its_end_lets_go() -> None:
    assert ledger.apply([Call(intent(1), (attempt(1),))]) == (0, 0, 1)
    hold = Hold.objects.get()
    assert (hold.tokens, hold.nano_usd, hold.model, hold.key_id) == (100, 5_000, "m", CALLER.key_id)
    ledger.apply([settled(1)])
    assert not Hold.objects.exists()


def test_an_intent_that_is_replayed_after_its_end_holds_nothing() -> None:
    ledger.apply([settled(1)])
    assert ledger.apply([Call(intent(1), (attempt(1),))]) == (0, 0, 0)
    assert not Hold.objects.exists()


def test_a_batch_may_hold_the_same_call_open_and_ended_and_twice() -> None:
    ledger.apply([settled(1), Call(intent(1)), settled(1), refusal(2), refusal(2)])
    assert (RequestLog.objects.count(), Rollup.objects.get().requests) == (2, 1)
    assert not Hold.objects.exists()


def test_only_what_is_new_in_a_batch_is_counted() -> None:
    ledger.apply([settled(n) for n in (1, 3)])
    assert ledger.apply([settled(n) for n in range(1, 6)]) == (3, 3, 0)
    assert Rollup.objects.get().requests == 5
    assert_rollups_are_the_sums_of_the_entries()


def test_a_pruned_log_row_does_not_let_its_call_be_charged_again() -> None:
    ledger.apply([settled(1)])
    RequestLog.objects.all().delete()
    ledger.apply([settled(1)])
    assert (LedgerEntry.objects.count(), Rollup.objects.get().requests) == (1, 1)


def test_what_callers_and_upstreams_make_up_fits_the_tables() -> None:
    absurd = Usage(input=2**62, cached=-5, output=-1, reasoning=2**70)
    ledger.apply(
        [
            refusal(1, model="a\0b" + "x" * 10_000),
            Call(intent(2, model="'; --\\ \" é 😀 %s ?"), (), settlement(2, usage=absurd)),
        ]
    )
    names = list(RequestLog.objects.order_by("request_id").values_list("model", flat=True))
    assert names == ["a\N{REPLACEMENT CHARACTER}b" + "x" * 253, "'; --\\ \" é 😀 %s ?"]
    entry = LedgerEntry.objects.get()
    assert (entry.tokens_in, entry.tokens_cached, entry.tokens_out) == (10**9, 0, 0)


def test_sums_that_no_column_can_hold_stay_at_its_end_and_refuse_no_call() -> None:
    most = 2**63 - 1
    for number in range(0, 12, 4):
        calls = [settled(number + i, cost=most) for i in range(4)]
        assert ledger.apply(calls[:1]).entries == 1
        assert ledger.apply(calls[1:]).entries == 3
    rollup = Rollup.objects.get()
    assert (rollup.requests, rollup.cost_nano_usd, rollup.tokens_in) == (12, most, 120)
    ledger.apply([settled(100, cost=0), settled(101, cost=1)])
    assert Rollup.objects.get().cost_nano_usd == most
    assert LedgerEntry.objects.count() == 14


def test_sums_are_exact_up_to_the_end_of_their_column() -> None:
    for number, cost in enumerate((2**53 + 1, 2**62 + 1, 2**63 - 1 - 2**53 - 2**62 - 2)):
        ledger.apply([settled(number, cost=cost)])
    assert Rollup.objects.get().cost_nano_usd == 2**63 - 1
    Rollup.objects.update(cost_nano_usd=2**62 + 1)
    ledger.apply([settled(10, cost=2)])
    assert Rollup.objects.get().cost_nano_usd == 2**62 + 3


def test_more_rows_than_one_statement_takes_are_all_there() -> None:
    assert ledger.apply([settled(n) for n in range(2_500)]) == (2_500, 2_500, 0)
    assert ledger.apply([settled(n) for n in range(2_000, 3_000)]) == (500, 500, 0)
    assert Rollup.objects.get().requests == 3_000


def test_calls_that_are_alike_and_calls_that_are_not_each_keep_their_own() -> None:
    """So many of each caller that some rows go together and some alone; a few fail, and some say nothing of why."""
    callers = [
        msgspec.structs.replace(CALLER, key_id=uuid.UUID(int=100 + n), team=f"team-{n}")
        for n in range(3)
    ]
    calls = []
    for n in range(200):
        begun = intent(n, caller=callers[n * n % 7 % 3])
        why = Why("b\u2028\x85", (f"target\n{n}",)) if n % 3 else None
        end = msgspec.structs.replace(settlement(n, cost=n), status=502 if n % 50 == 7 else 200)
        calls.append(Call(msgspec.structs.replace(begun, why=why), (attempt(n),), end))
    assert ledger.apply([*calls, *map(refusal, range(200, 220))]) == (220, 200, 0)
    assert ledger.apply(calls[50:150]) == (0, 0, 0)
    for call in calls:
        begun, ended = call.intent, call.settlement
        assert ended is not None
        log = RequestLog.objects.get(request_id=begun.request_id)
        assert (log.key_id, log.team) == (begun.caller.key_id, begun.caller.team)
        assert (log.correlation_id, log.status) == (begun.correlation_id, ended.status)
        assert (log.created_at, log.why) == (from_unix_us(begun.received_at), why_text(begun.why))
        entry = LedgerEntry.objects.get(request_id=begun.request_id)
        assert (entry.key_id, entry.cost_nano_usd) == (begun.caller.key_id, ended.cost_nano_usd)
        assert entry.created_at == from_unix_us(ended.settled_at)
    assert Attempt.objects.count() == 200
    assert_rollups_are_the_sums_of_the_entries()
    for caller in callers:
        of_key = LedgerEntry.objects.filter(key_id=caller.key_id)
        sums = Rollup.objects.filter(key_id=caller.key_id).aggregate(
            requests=Sum("requests"), cost=Sum("cost_nano_usd")
        )
        assert sums == {
            "requests": of_key.count(),
            "cost": of_key.aggregate(cost=Sum("cost_nano_usd"))["cost"],
        }


@pytest.mark.django_db(transaction=True)
def test_workers_that_add_to_the_same_sums_at_once_neither_wait_in_a_circle_nor_lose_any() -> None:
    faults: list[Exception] = []

    def work(worker: int) -> None:
        try:
            for batch in range(10):
                numbers = [10_000 * worker + 100 * batch + i for i in range(24)]
                numbers = numbers[:: 1 if worker % 2 else -1]
                ledger.apply(
                    [
                        Call(intent(n, model=f"model-{n % 8}"), (attempt(n),), settlement(n))
                        for n in numbers
                    ]
                )
        except Exception as fault:  # noqa: BLE001 - shown by the assertion
            faults.append(fault)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert faults == []
    assert list(Rollup.objects.values_list("requests", flat=True)) == [120] * 8
    assert_rollups_are_the_sums_of_the_entries()


# Any order, any repetition


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Item], list[list[Item]]]:
    """Calls, and batches that bring them open and ended, again and again; each is ended in the last batches at least."""
    finals: list[Item] = []
    for number in range(draw(st.integers(1, 8))):
        caller = msgspec.structs.replace(
            CALLER, key_id=uuid.UUID(int=draw(st.integers(10, 12))), project_id=None
        )
        if draw(st.booleans()):
            finals.append(refusal(number))
            continue
        end = settlement(
            number,
            cost=draw(st.none() | st.integers(0, 10**9)),
            dispatched=draw(st.sampled_from(["yes", "no", "unknown"])),
            usage=Usage(input=draw(st.integers(0, 9)), output=draw(st.integers(0, 9))),
        )
        first = intent(number, caller=caller, model=draw(st.sampled_from("xy")))
        finals.append(Call(first, (attempt(number),), end))
    opened = [Call(i.intent, i.attempts) for i in finals if isinstance(i, Call)]
    batch = st.lists(st.sampled_from([*finals, *opened]), max_size=6)
    batches = draw(st.lists(batch, max_size=6))
    return finals, [*batches, draw(st.permutations(finals)), *draw(st.lists(batch, max_size=2))]


class TestReplays(HypothesisTestCase):
    @settings(max_examples=60, deadline=None)
    @given(histories())
    def test_any_order_of_batches_and_repetitions_ends_in_the_same_tables(
        self, history: tuple[list[Item], list[list[Item]]]
    ) -> None:
        finals, batches = history
        for batch in batches:
            ledger.apply(batch)
            assert_rollups_are_the_sums_of_the_entries()
        told = everything()
        for model in TABLES:
            model._default_manager.all().delete()
        ledger.apply(finals)
        assert told == everything()
        assert not told["Hold"]
        assert len(told["RequestLog"]) == len(finals)


# Dead workers


@pytest.fixture
def price() -> Price:
    return Price.objects.create(
        model=Model.objects.create(name="m"),
        effective_from=datetime(2026, 1, 1, tzinfo=UTC),
        input_nano_per_mtok=2_000_000_000,
        output_nano_per_mtok=0,
        per_request_nano=7,
    )


def test_a_call_that_died_before_an_attempt_cost_nothing() -> None:
    (ended,) = ledger.settle_orphans([Call(intent(1))], T0 + 10**9)
    ledger.apply([ended])
    log = RequestLog.objects.get()
    assert (log.status, log.error_code, log.dispatched) == (503, "worker_died", "no")
    assert (log.tokens_in, log.cost_nano_usd, log.attempts) == (0, 0, 0)
    assert not LedgerEntry.objects.exists()


def test_a_call_that_died_in_an_attempt_is_charged_its_estimated_prompt(price: Price) -> None:
    open_call = Call(intent(1), (attempt(1, 1), attempt(1, 2, price_id=price.id)))
    ledger.apply([open_call])
    ledger.apply(ledger.settle_orphans([open_call, settled(2)], T0 + 10**9))
    log = RequestLog.objects.get(request_id=call_id(1))
    assert (log.status, log.error_code, log.dispatched) == (503, "worker_died", "unknown")
    assert (log.tokens_in, log.tokens_out, log.usage_source) == (40, 0, "estimated")
    entry = LedgerEntry.objects.get(request_id=call_id(1))
    assert (entry.cost_nano_usd, entry.price_id) == (40 * 2_000 + 7, price.id)
    assert set(Attempt.objects.filter(request_id=call_id(1)).values_list("outcome", flat=True)) == {
        "unknown"
    }
    assert Rollup.objects.get().estimated_requests == 1
    assert not Hold.objects.exists()


def test_a_call_that_died_at_a_price_that_is_gone_is_unpriced() -> None:
    open_call = Call(intent(1), (attempt(1, price_id=uuid.uuid4()),))
    ledger.apply(ledger.settle_orphans([open_call], T0))
    assert LedgerEntry.objects.get().cost_nano_usd is None
    assert Rollup.objects.get().unpriced_requests == 1


# Keys


@pytest.fixture
def key() -> APIKey:
    tenant = Tenant.objects.create(name="Acme", slug="acme")
    return APIKey.objects.create(
        id=CALLER.key_id, tenant=tenant, name="k", created_by_type="t", created_by_id="1"
    )


def _write(last_used: LastUsed, items: Sequence[Item]) -> None:
    last_used.hear(items)
    last_used.write()


def test_a_key_knows_when_it_was_last_used_to_the_minute(key: APIKey) -> None:
    last_used = LastUsed()
    seen = []
    for seconds in (0, 1, 59, 61, 70):
        _write(last_used, [Call(intent(0, at=T0 + seconds * 10**6))])
        key.refresh_from_db()
        assert key.last_used_at is not None
        seen.append(key.last_used_at - from_unix_us(T0))
    assert seen == [timedelta(seconds=s) for s in (0, 0, 0, 61, 61)]


def test_a_replay_does_not_turn_the_clock_back(key: APIKey) -> None:
    _write(LastUsed(), [refusal(5)])
    _write(LastUsed(), [refusal(1)])
    key.refresh_from_db()
    assert key.last_used_at == from_unix_us(T0 + 5)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_key_that_is_being_deleted_is_not_waited_for(key: APIKey) -> None:
    other = CALLER.key_id.int + 1
    APIKey.objects.create(
        id=uuid.UUID(int=other), tenant=key.tenant, name="o", created_by_type="t", created_by_id="1"
    )
    caller = msgspec.structs.replace(CALLER, key_id=uuid.UUID(int=other))
    calls = [Call(intent(1)), Call(intent(2, caller=caller))]
    last_used = LastUsed()

    def write() -> None:
        try:
            _write(last_used, calls)
        finally:
            connection.close()

    with transaction.atomic():
        APIKey.objects.select_for_update().get(id=key.id)
        thread = threading.Thread(target=write)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
    used = dict(APIKey.objects.values_list("id", "last_used_at"))
    assert used == {key.id: None, caller.key_id: from_unix_us(T0 + 2)}
    _write(last_used, calls)
    key.refresh_from_db()
    assert key.last_used_at == from_unix_us(T0 + 1)


# The flusher


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal")
    yield journal
    journal.close()


def whole_call(journal: Journal, number: int) -> None:
    journal.append(intent(number))
    journal.append(attempt(number))
    journal.append(settlement(number))


def test_what_is_in_the_journal_gets_into_the_tables(journal: Journal) -> None:
    flusher = Flusher(journal, at_once=3)
    for number in range(10):
        whole_call(journal, number)
    journal.append(intent(11))
    journal.append(attempt(11))
    flusher.flush_now()
    assert (RequestLog.objects.count(), Hold.objects.count(), journal.pending) == (10, 1, 0)
    journal.append(settlement(11))
    flusher.flush_now()
    assert (RequestLog.objects.count(), Hold.objects.count(), journal.pending) == (11, 0, 0)
    assert (flusher.counters.calls, flusher.counters.lost) == (11, 0)


def test_what_comes_during_a_flush_waits_for_the_next(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a busy worker makes a transaction of every few calls."""
    flusher = Flusher(journal)
    batches: list[int] = []
    real = ledger.apply

    def slow(items: list[Item], boot: str) -> ledger.Applied:
        batches.append(len(items))
        whole_call(journal, 10 + len(batches))
        return real(items, boot)

    monkeypatch.setattr(flusher_module, "apply", slow)
    for number in range(5):
        whole_call(journal, number)
    flusher.flush_now()
    assert (batches, RequestLog.objects.count(), journal.pending) == ([5], 5, 3)
    flusher.flush_now()
    assert (batches, RequestLog.objects.count()) == ([5, 1], 6)


def test_a_call_that_ended_at_once_never_had_a_hold_row(journal: Journal) -> None:
    whole_call(journal, 1)
    Flusher(journal).flush_now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM usage_hold")
        assert cursor.fetchone() == (0,)


def test_a_database_that_is_away_loses_nothing(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    flusher = Flusher(journal)
    whole_call(journal, 1)

    def away(items: list[Item], boot: str) -> None:
        raise OperationalError("away")

    with monkeypatch.context() as patch:
        patch.setattr(flusher_module, "apply", away)
        for _ in range(3):
            with pytest.raises(OperationalError):
                flusher.flush_now()
        whole_call(journal, 2)
    assert journal.pending == 6
    flusher.flush_now()
    assert (RequestLog.objects.count(), Rollup.objects.get().requests) == (2, 2)


def test_a_commit_that_went_unanswered_is_not_counted_twice(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    flusher = Flusher(journal)
    whole_call(journal, 1)
    journal.append(intent(2))
    journal.append(attempt(2))

    def unanswered(items: list[Item], boot: str) -> None:
        ledger.apply(items, boot)
        raise OperationalError("connection lost")

    with monkeypatch.context() as patch:
        patch.setattr(flusher_module, "apply", unanswered)
        with pytest.raises(OperationalError):
            flusher.flush_now()
    journal.append(settlement(2))
    flusher.flush_now()
    assert Rollup.objects.get().requests == 2
    assert not Hold.objects.exists()


def test_a_call_that_fits_no_table_is_set_apart_and_holds_nobody_up(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    flusher = Flusher(journal)
    for number in range(20):
        cost = -1 if number == 7 else 2**63 if number == 13 else 5
        journal.append(intent(number))
        journal.append(attempt(number))
        journal.append(settlement(number, cost=cost))
    with caplog.at_level(logging.ERROR):
        flusher.flush_now()
    assert RequestLog.objects.count() == 18
    assert (flusher.counters.rejected, flusher.counters.lost, journal.pending) == (2, 0, 0)
    named = [getattr(record, "request_id", "") for record in caplog.records]
    assert named == ["req-00000007", "req-00000013"]
    (kept,) = journal.folder.glob("rejected-*")
    records = list(segments.read(kept.read_bytes(), segments.Reading()))
    assert records[:3] == [intent(7), attempt(7), settlement(7, cost=-1)]


def test_when_a_key_was_used_is_no_reason_to_say_that_a_call_is_not_there(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(last_used: LastUsed) -> None:
        raise OperationalError("locked")

    monkeypatch.setattr(LastUsed, "write", fails)
    monkeypatch.setattr(flusher_module, "close_old_connections", lambda: None)
    flusher, heard = Flusher(journal), list[bool]()
    whole_call(journal, 1)
    flusher.commit(heard.append)
    flusher._round(stopping=False)
    assert heard == [True]


def test_what_dead_workers_left_is_replayed_once(journal: Journal, price: Price) -> None:
    for number in range(3):
        dead = Journal(journal.folder, segment_bytes=1_000)
        for i in range(10):
            whole_call(dead, 100 * number + i)
        dead.append(intent(100 * number + 50))
        dead.append(attempt(100 * number + 50, price_id=price.id))
        dead.append(intent(100 * number + 60))
        Flusher(dead, at_once=4).flush_now() if number == 1 else None
        dead.close(keep=True)
    flusher = Flusher(journal, at_once=4)
    flusher.replay_orphans()
    flusher.replay_orphans()
    assert RequestLog.objects.count() == 36
    assert RequestLog.objects.filter(dispatched="unknown").count() == 3
    assert RequestLog.objects.filter(error_code="worker_died").count() == 6
    assert (flusher.counters.orphans, flusher.counters.lost) == (3, 0)
    assert not Hold.objects.exists()
    assert_rollups_are_the_sums_of_the_entries()
    assert len(list(journal.folder.iterdir())) == 1


def test_large_contents_are_written_a_few_at_a_time(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    together: list[int] = []

    def weigh(items: list[Item], boot: str) -> ledger.Applied:
        together.append(len(items))
        return ledger.apply(items, boot)

    monkeypatch.setattr(flusher_module, "apply", weigh)
    dead = Journal(journal.folder)
    for number, owner in enumerate([journal] * 9 + [dead] * 9):
        owner.append(intent(number))
        owner.append(settlement(number, content=bytes(100_000)))
    dead.close(keep=True)
    flusher = Flusher(journal, at_once_bytes=250_000)
    flusher.flush_now()
    flusher.replay_orphans()
    assert together == [3] * 6
    assert RequestContent.objects.count() == 18


def test_a_replay_that_fails_leaves_the_journal_for_the_next_look(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = Journal(journal.folder)
    whole_call(dead, 1)
    dead.close(keep=True)
    flusher = Flusher(journal)
    with monkeypatch.context() as patch:
        patch.setattr(
            flusher_module, "apply", lambda _items, _boot: (_ for _ in ()).throw(OperationalError)
        )
        with pytest.raises(OperationalError):
            flusher.replay_orphans()
    assert len(list(journal.folder.iterdir())) == 2
    flusher.replay_orphans()
    assert RequestLog.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_thread_flushes_by_itself_and_empties_the_journal_when_it_stops(
    journal: Journal,
) -> None:
    dead = Journal(journal.folder)
    whole_call(dead, 1000)
    dead.close(keep=True)
    flusher = Flusher(journal, interval=0.01, look_every=0.01)
    flusher.start()
    for number in range(500):
        whole_call(journal, number)
    give_up = time.monotonic() + 30
    while not flusher.counters.orphans and time.monotonic() < give_up:
        time.sleep(0.01)
    whole_call(journal, 500)
    assert flusher.stop(30)
    assert RequestLog.objects.count() == 502
    assert Rollup.objects.get().requests == 502
    journal.close()
    assert list(journal.folder.iterdir()) == []


@pytest.mark.django_db(transaction=True)
def test_the_thread_outlives_a_database_that_is_away(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = [OperationalError("away"), RuntimeError("a fault of ours")]

    def sometimes(items: list[Item], boot: str) -> ledger.Applied:
        if faults:
            raise faults.pop()
        return ledger.apply(items, boot)

    monkeypatch.setattr(flusher_module, "apply", sometimes)
    flusher = Flusher(journal, interval=0.01)
    whole_call(journal, 1)
    flusher.start()
    assert flusher.stop(10)
    assert RequestLog.objects.count() == 1
    assert flusher.counters.failures == 2


def test_a_database_that_stays_away_ends_new_calls_and_frees_them_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", max_records=30)
    for number in range(10):
        whole_call(journal, number)
    with pytest.raises(JournalUnavailable):
        whole_call(journal, 100)
    Flusher(journal).flush_now()
    whole_call(journal, 200)
    journal.close()
