"""Who may make a call, what a repetition is told, and how the journal closes a claim."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tenants.clock import SYSTEM
from tenants.models import Tenant
from tests.usage.samples import intent, refusal, settlement
from usage import idempotency
from usage.calls import Call
from usage.idempotency import (
    KEPT,
    MAX_ANSWER,
    Answer,
    Fresh,
    Keepsake,
    Outcome,
    Verdict,
    Wish,
    close_claims,
    forget_open,
)
from usage.models import IdempotentCall

BOOT = UUID(int=7)
MakeWish = Callable[..., Wish]


def claim(wish: Wish, boot: UUID = BOOT) -> Outcome:
    return idempotency.claim(wish, boot)


@pytest.fixture
def wish(tenant: Tenant) -> MakeWish:
    first = Wish(tenant.id, uuid4(), "order-17", (b"/v1/x", b"{}"), uuid4())

    def changed(**changes: Any) -> Wish:
        return Wish(**{**{name: getattr(first, name) for name in Wish.__slots__}, **changes})

    return changed


def fresh(outcome: Outcome) -> Fresh:
    assert isinstance(outcome, Fresh)
    return outcome


def ended(claimed: Fresh, **changes: Any) -> Call:
    """The call of that claim, with an end."""
    end = msgspec.structs.replace(settlement(), **changes)
    return Call(msgspec.structs.replace(intent(), idempotency=claimed.id), (), end)


def answered(claimed: Fresh, body: bytes = b"yes") -> Call:
    keepsake = Keepsake(claimed)
    keepsake.add(body)
    return ended(claimed, replay=keepsake.sealed(200, b"application/json"))


@pytest.mark.django_db
def test_the_first_makes_the_call_and_who_repeats_it_gets_its_answer(wish: MakeWish) -> None:
    first = fresh(claim(wish()))
    assert claim(wish(request_id=uuid4())) is Verdict.IN_FLIGHT

    close_claims([answered(first)])
    close_claims([answered(first)])

    assert claim(wish(request_id=uuid4())) == Answer(200, b"application/json", b"yes")


@pytest.mark.django_db
def test_who_waits_for_an_answer_or_gets_it_writes_nothing(wish: MakeWish) -> None:
    first = fresh(claim(wish()))
    for end in (None, answered(first)):
        close_claims([end] if end else [])
        with CaptureQueriesContext(connection) as asked:
            claim(wish(request_id=uuid4()))
        assert {each["sql"].split()[0] for each in asked} == {"SELECT"}


@pytest.mark.django_db
def test_another_body_under_the_same_key_is_a_mismatch_before_and_after_the_answer(
    wish: MakeWish,
) -> None:
    first = fresh(claim(wish()))
    assert claim(wish(body=(b"/v1/x", b"{ }"))) is Verdict.MISMATCH
    close_claims([answered(first)])
    assert claim(wish(body=(b"/v1/y", b"{}"))) is Verdict.MISMATCH
    # Parts count by themselves: what stands before and after the cut is not the same.
    assert claim(wish(body=(b"/v1/", b"x{}"))) is Verdict.MISMATCH


@pytest.mark.django_db
def test_keys_and_names_do_not_know_each_other(wish: MakeWish) -> None:
    fresh(claim(wish()))
    fresh(claim(wish(name="order-18")))
    fresh(claim(wish(key_id=uuid4())))


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"status": 503, "cost_nano_usd": 0}, Fresh),
        ({"status": 429, "cost_nano_usd": 0}, Fresh),
        ({"status": 503, "cost_nano_usd": 0, "dispatched": "unknown"}, Verdict),
        ({"status": 499, "cost_nano_usd": 0}, Verdict),
        ({"status": 502, "cost_nano_usd": 17}, Verdict),
        ({"status": 503, "cost_nano_usd": None}, Verdict),
        ({"status": 200}, Verdict),
    ],
    ids=[
        "failed",
        "refused upstream",
        "killed",
        "left",
        "charged",
        "not yet rated",
        "cut or too large",
    ],
)
def test_only_what_came_to_nothing_may_be_made_again(
    wish: MakeWish, changes: dict[str, Any], expected: type[Outcome]
) -> None:
    close_claims([ended(fresh(claim(wish())), **changes)])
    again = claim(wish(request_id=uuid4()))
    assert isinstance(again, expected)
    assert again is Verdict.NOT_REPLAYABLE or expected is Fresh


@pytest.mark.django_db
def test_a_refusal_gives_the_claim_back(wish: MakeWish) -> None:
    first = fresh(claim(wish()))
    close_claims([msgspec.structs.replace(refusal(), idempotency=first.id)])
    fresh(claim(wish()))


@pytest.mark.django_db
def test_what_a_dead_journal_left_open_is_forgotten_and_nothing_else(wish: MakeWish) -> None:
    fresh(claim(wish()))
    fresh(claim(wish(name="other worker"), uuid4()))
    close_claims([answered(fresh(claim(wish(name="answered"))))])

    forget_open(BOOT)

    fresh(claim(wish()))
    assert claim(wish(name="other worker")) is Verdict.IN_FLIGHT
    assert isinstance(claim(wish(name="answered")), Answer)


@pytest.mark.django_db
def test_a_claim_that_goes_back_is_anybodys_and_an_answer_stays(wish: MakeWish) -> None:
    open_one, closed_one = fresh(claim(wish())), fresh(claim(wish(name="answered")))
    close_claims([answered(closed_one)])
    for each in (open_one, closed_one):
        idempotency.give_back(each.id)
    fresh(claim(wish()))
    assert isinstance(claim(wish(name="answered")), Answer)


@pytest.mark.django_db
def test_an_answer_is_kept_for_a_day_and_leaves_no_row_behind(wish: MakeWish) -> None:
    close_claims([answered(fresh(claim(wish())))])
    with time_machine.travel(SYSTEM.now() + KEPT, tick=True):
        fresh(claim(wish(name="another")))
        assert IdempotentCall.objects.count() == 1
        fresh(claim(wish()))


@pytest.mark.django_db
def test_an_answer_is_sealed_and_one_that_is_too_large_is_not_kept(wish: MakeWish) -> None:
    first = fresh(claim(wish()))
    close_claims([answered(first, b"a secret of the model")])
    row = IdempotentCall.objects.get()
    assert b"secret" not in bytes(row.sealed or b"")
    assert b"order-17" not in bytes(row.name)

    IdempotentCall.objects.update(key_id=uuid4())
    assert isinstance(claim(wish(key_id=IdempotentCall.objects.get().key_id)), Answer)
    IdempotentCall.objects.update(tenant_id=uuid4())
    row.refresh_from_db()
    assert claim(wish(key_id=row.key_id)) is Verdict.NOT_REPLAYABLE

    keepsake = Keepsake(first)
    keepsake.add(bytes(MAX_ANSWER))
    assert keepsake.sealed(200, b"") is not None
    keepsake.add(b"x")
    keepsake.add(b"y")
    assert keepsake.sealed(200, b"") is None


@pytest.mark.django_db(transaction=True)
def test_of_many_at_the_same_moment_one_makes_the_call(wish: MakeWish) -> None:
    barrier = threading.Barrier(8)

    def one(_: int) -> Outcome:
        try:
            barrier.wait(10)
            return claim(wish(request_id=uuid4()))
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(one, range(8)))
    assert sum(isinstance(outcome, Fresh) for outcome in outcomes) == 1
    assert outcomes.count(Verdict.IN_FLIGHT) == 7
