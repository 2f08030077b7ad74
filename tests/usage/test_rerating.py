"""After a price was wrong: what calls cost by the right one, and lines that put it right without rewriting anything."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
import time_machine
from django.db.models import Sum

from providers.model_services import create_model, update_model
from providers.models import Model, Price
from providers.services import create_provider
from providers.types import Usage
from tenants.actor import system_actor
from tenants.errors import Invalid
from tenants.models import AuditEvent
from tenants.services import create_tenant
from tests.usage.samples import CALLER, attempt, call_id, intent, settlement
from usage import corrections, ledger, rerating
from usage.calls import Call
from usage.models import LedgerEntry, RequestLog, Rollup
from usage.records import Caller

HERE = system_actor("story")
SINCE = datetime(2026, 11, 1, tzinfo=UTC)
USED = Usage(input=1000, cached=200, output=100, reasoning=10, cache_write=50)
#: What `USED` costs at 1 USD per million in and out, 2 for what is written to the cache.
RIGHT = 750_000 + 200_000 + 2 * 50_000 + 100_000


@pytest.fixture(autouse=True)
def _later() -> Iterator[None]:
    """A week after the calls of tests/usage/samples.py."""
    with time_machine.travel(datetime(2026, 11, 25, tzinfo=UTC)):
        yield


def price(amount: str, **more: Any) -> dict[str, Any]:
    return {"input_usd_per_mtok": amount, "output_usd_per_mtok": amount, **more}


@pytest.fixture
def model(db: None) -> Model:
    create_provider(actor=HERE, name="main", kind="demo")
    targets = [{"provider": "main", "upstream_model": "m-1"}]
    wrong = price("10", effective_from=SINCE - timedelta(days=30))
    model = create_model(actor=HERE, id="m", targets=targets, prices=[wrong])
    update_model(actor=HERE, model_id=model.id, prices=[price("1", cache_write_usd_per_mtok="2")])
    return model


def called(
    number: int,
    model_id: UUID | None,
    cost: int | None = 10 * 1_100_000,
    *,
    price_id: UUID | None = None,
    caller: Caller = CALLER,
    name: str = "m",
) -> None:
    """A settled call in the tables."""
    begun = msgspec.structs.replace(intent(number, caller=caller, model=name), model_id=model_id)
    ended = settlement(number, usage=USED, cost=cost)
    ended = msgspec.structs.replace(ended, price_id=price_id)
    ledger.apply([Call(begun, (attempt(number),), ended)])


def first_price(model: Model) -> UUID:
    return model.prices.earliest("effective_from").id


def cost_of(number: int) -> int | None:
    lines = LedgerEntry.objects.filter(request_id=call_id(number))
    total: int | None = lines.aggregate(sum=Sum("cost_nano_usd"))["sum"]
    return total


def test_a_preview_says_what_it_would_come_to_and_writes_nothing(model: Model) -> None:
    called(1, model.id, price_id=first_price(model))
    called(2, model.id, RIGHT, price_id=first_price(model))
    called(3, model.id, None)
    called(4, None, price_id=None, name="another")
    sums = rerating.preview(rerating.task(model, SINCE))
    assert (sums.calls, sums.wrong, sums.unpriced) == (3, 2, 1)
    assert (sums.was, sums.now, sums.delta) == (11_000_000, 2 * RIGHT, 2 * RIGHT - 11_000_000)
    assert [(it.was, it.now) for it in sums.first] == [(11_000_000, RIGHT), (None, RIGHT)]
    assert LedgerEntry.objects.count() == 4


def test_corrections_are_lines_beside_and_the_sums_follow(model: Model) -> None:
    called(1, model.id, price_id=first_price(model))
    called(2, model.id, None)
    before = list(LedgerEntry.objects.order_by("request_id").values())
    task = rerating.task(model, SINCE)
    rerating.rerate(actor=HERE, task=task, reason="list price was wrong")
    assert list(LedgerEntry.objects.filter(line=1).order_by("request_id").values()) == before
    assert (cost_of(1), cost_of(2)) == (RIGHT, RIGHT)
    added = LedgerEntry.objects.filter(line=2)
    assert {(it.price_id, it.reason) for it in added} == {(task.price.id, "list price was wrong")}
    assert set(RequestLog.objects.values_list("cost_nano_usd", flat=True)) == {RIGHT}
    sums = Rollup.objects.aggregate(
        cost=Sum("cost_nano_usd"), unpriced=Sum("unpriced_requests"), requests=Sum("requests")
    )
    assert sums == {"cost": 2 * RIGHT, "unpriced": 0, "requests": 2}
    assert AuditEvent.objects.filter(action="ledger.corrected", outcome="ok").exists()
    # Done again it finds nothing; and it can be undone by the price that stood there first.
    again = rerating.rerate(actor=HERE, task=rerating.task(model, SINCE), reason="again")
    assert (again.calls, again.wrong) == (2, 0)
    first = Price.objects.get(pk=first_price(model))
    rerating.rerate(actor=HERE, task=rerating.task(model, SINCE, price=first), reason="back")
    rerating.rerate(actor=HERE, task=rerating.task(model, SINCE), reason="and forth")
    assert (cost_of(1), cost_of(2)) == (RIGHT, RIGHT)
    assert LedgerEntry.objects.filter(request_id=call_id(1)).count() == 4


def test_a_call_that_came_to_nothing_is_not_charged_for_its_request_afterwards(
    model: Model,
) -> None:
    dearer = price("1", per_request_usd="0.5", effective_from=SINCE + timedelta(days=25))
    update_model(actor=HERE, model_id=model.id, prices=[dearer])
    failed = msgspec.structs.replace(
        settlement(1, usage=Usage(), cost=0), usage_source="none", status=502
    )
    ledger.apply(
        [
            Call(
                msgspec.structs.replace(intent(1, model="m"), model_id=model.id),
                (attempt(1),),
                failed,
            )
        ]
    )
    with time_machine.travel(datetime(2026, 11, 27, tzinfo=UTC)):
        assert rerating.preview(rerating.task(model, SINCE)).wrong == 0


def test_of_two_who_rate_the_same_calls_by_two_prices_the_later_changes_nothing_unseen(
    model: Model, monkeypatch: Any
) -> None:
    """The difference that it worked out is from before the other's line; done again, it finds the right one."""
    called(1, model.id, 5)
    by_first = rerating.task(model, SINCE, price=Price.objects.get(pk=first_price(model)))
    write = corrections.correct

    def meanwhile(**of: Any) -> Any:
        monkeypatch.setattr(rerating, "correct", write)
        rerating.rerate(actor=HERE, task=by_first, reason="faster")
        return write(**of)

    monkeypatch.setattr(rerating, "correct", meanwhile)
    rerating.rerate(actor=HERE, task=rerating.task(model, SINCE), reason="slower")
    assert cost_of(1) == 10 * 1_100_000
    rerating.rerate(actor=HERE, task=rerating.task(model, SINCE), reason="again")
    assert cost_of(1) == RIGHT


def test_only_the_window_is_corrected(model: Model) -> None:
    called(1, model.id, price_id=first_price(model))
    settled_at = LedgerEntry.objects.get().created_at
    instant = timedelta(microseconds=1)
    for since, until, found in (
        (settled_at, settled_at + instant, 1),
        (settled_at + instant, None, 0),
        (SINCE, settled_at, 0),
    ):
        assert rerating.preview(rerating.task(model, since, until)).calls == found


def test_whose_calls_they_are_is_told_by_id_else_by_price_or_by_name(model: Model) -> None:
    tenant = create_tenant(actor=HERE, name="Brew")
    brew = msgspec.structs.replace(CALLER, tenant_id=tenant.id, tenant="Brew")
    own = create_model(actor=HERE, tenant_id=tenant.id, id="m", prices=[price("3")])
    called(1, model.id)
    called(2, None, price_id=first_price(model))  # from before models were named by id
    called(3, None, None)
    called(4, None, None, caller=brew)  # Brew's own model has the name
    called(5, own.id, caller=brew)
    shared = rerating.preview(rerating.task(model, SINCE))
    assert {it.request_id for it in shared.first} == {call_id(1), call_id(2), call_id(3)}
    owned = rerating.preview(rerating.task_named("m", tenant, SINCE, None))
    assert {it.request_id for it in owned.first} == {call_id(4), call_id(5)}


def test_a_tenants_own_price_is_for_its_calls_and_everybodys_leaves_them(model: Model) -> None:
    tenant = create_tenant(actor=HERE, name="Brew")
    brew = msgspec.structs.replace(CALLER, tenant_id=tenant.id, tenant="Brew")
    update_model(actor=HERE, model_id=model.id, prices=[price("2", tenant=tenant.slug)])
    own = model.prices.get(tenant=tenant)
    called(1, model.id, price_id=first_price(model))
    called(2, model.id, price_id=own.id, caller=brew)
    assert [it.request_id for it in rerating.preview(rerating.task(model, SINCE)).first] == [
        call_id(1)
    ]
    task = rerating.task_named("m", tenant, SINCE, None)
    assert task.price == own
    assert [it.request_id for it in rerating.preview(task).first] == [call_id(2)]


def test_many_calls_are_corrected_page_by_page(model: Model, monkeypatch: Any) -> None:
    monkeypatch.setattr(rerating, "_CHUNK", 3)
    for number in range(1, 9):
        called(number, model.id, price_id=first_price(model))
    rerating.rerate(actor=HERE, task=rerating.task(model, SINCE), reason="wrong")
    assert [cost_of(number) for number in range(1, 9)] == [RIGHT] * 8
    assert AuditEvent.objects.filter(action="ledger.corrected").count() == 3


def test_a_task_that_cannot_be_is_refused(model: Model) -> None:
    now = datetime.now(UTC)
    bare = create_model(actor=HERE, id="bare")
    for options in (
        (bare, SINCE),
        (model, now + timedelta(hours=1)),
        (model, SINCE, SINCE),
        (model, SINCE, now + timedelta(hours=1)),
        (bare, SINCE, None, model.prices.first()),
    ):
        with pytest.raises(Invalid):
            rerating.task(*options)
