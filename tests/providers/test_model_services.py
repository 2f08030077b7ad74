"""What can be done to models: names, targets that the model may use, and prices that are never rewritten."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine

from gateway import pictures
from providers import routing
from providers.model_services import (
    PENDING,
    create_model,
    delete_model,
    find_model,
    update_model,
)
from providers.models import Model, Price, Provider, Target
from providers.prices import price_tag
from providers.services import create_provider
from tenants.actor import system_actor
from tenants.clock import to_unix_us
from tenants.errors import Conflict, Invalid, NotFound
from tenants.models import AuditEvent, ConfigChange, Tenant
from tenants.services import create_tenant
from tests.support.contents import contents

HERE = system_actor("story")
NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
AUDIT = ("tenants_auditevent", "tenants_audithead")


@pytest.fixture
def provider(db: None) -> Provider:
    return create_provider(actor=HERE, name="main", kind="demo")


@pytest.fixture
def model(provider: Provider) -> Model:
    return create_model(actor=HERE, id="m", targets=[{"provider": "main", "upstream_model": "m-1"}])


@pytest.fixture
def two_tenants(db: None) -> tuple[Tenant, Tenant]:
    a, b = (create_tenant(actor=HERE, name=name) for name in ("Acme", "Brew"))
    return a, b


@pytest.fixture
def _still() -> Any:
    with time_machine.travel(NOW, tick=False):
        yield


def price(amount: str, begins: datetime | None = None, **more: Any) -> dict[str, Any]:
    return {
        "input_usd_per_mtok": amount,
        "output_usd_per_mtok": amount,
        **({"effective_from": begins} if begins else {}),
        **more,
    }


def in_force(model: Model, moment: datetime) -> int | None:
    """The input price as the relay sees it."""
    route = pictures.shared_catalogue().find(model.name)
    assert route is not None
    tag = route.price_at(to_unix_us(moment))
    return None if tag is None else tag.input


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    "name", [None, "", " ", "a b", "a*b", "**", "x" * 129, "a\nb", "\u202em", 5, [], "a\0b"]
)
def test_what_is_no_model_name_is_refused(name):
    with pytest.raises(Invalid) as refusal:
        create_model(actor=HERE, id=name)
    assert list(refusal.value.fields) == ["id"]
    assert not Model.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "name",
    ["m", "a/b", "gpt-*", "*", "long-" * 25, "fireworks/accounts/fireworks/models/gpt-oss-120b"],
)
def test_a_model_has_the_name_it_was_given_in_the_audit_log_too(name):
    create_model(actor=HERE, id=name)
    assert find_model(name).name == name
    row = AuditEvent.objects.get(action="model.created")
    assert row.target_label == name


def test_a_name_is_given_once_among_the_shared_and_once_per_tenant(tenant, outsider, model):
    with pytest.raises(Conflict):
        create_model(actor=HERE, id="m")
    for owner in (tenant, outsider):
        own = create_model(actor=HERE, tenant_id=owner.id, id="m")
        assert find_model("m", owner) == own
        with pytest.raises(Conflict):
            create_model(actor=HERE, tenant_id=owner.id, id="m")
    assert find_model("m") == model
    for name, whose in (("nobody", None), ("\0", None), ("m ", None), ("M", None)):
        with pytest.raises(NotFound):
            find_model(name, whose)


def test_absent_stays_null_clears_and_a_value_sets(model):
    update_model(actor=HERE, model_id=model.id, context_window=4096, max_output_tokens=512)
    update_model(actor=HERE, model_id=model.id, context_window=None, is_active=False)
    model.refresh_from_db()
    assert (model.context_window, model.max_output_tokens, model.is_active) == (None, 512, False)
    assert list(model.targets.values_list("upstream_model", flat=True)) == ["m-1"]
    with pytest.raises(Invalid):
        update_model(actor=HERE, model_id=model.id)
    with pytest.raises(Invalid):
        update_model(actor=HERE, model_id=model.id, id="renamed")


@pytest.mark.parametrize("field", PENDING)
def test_what_nobody_acts_on_yet_cannot_be_set(model, field):
    with pytest.raises(Invalid) as refusal:
        update_model(actor=HERE, model_id=model.id, **{field: "something"})
    assert list(refusal.value.fields) == [field]
    update_model(actor=HERE, model_id=model.id, **{field: PENDING[field]})


def test_every_change_is_seen_by_workers(model, tenant):
    own = create_model(actor=HERE, tenant_id=tenant.id, id="own")
    delete_model(actor=HERE, model_id=model.id)
    lines = list(
        ConfigChange.objects.filter(kind="model")
        .order_by("seq")
        .values_list("object_id", "tenant_id")
    )
    assert lines == [(model.id, None), (own.id, tenant.id), (model.id, None)]
    assert not Target.objects.exists()
    with pytest.raises(NotFound):
        delete_model(actor=HERE, model_id=model.id)


# --- targets ----------------------------------------------------------------------------------------------------------


def test_targets_are_replaced_as_a_list_and_ordered_by_priority(provider, model):
    create_provider(actor=HERE, name="second", kind="demo")
    update_model(
        actor=HERE,
        model_id=model.id,
        targets=[
            {"provider": "second", "upstream_model": "late", "priority": 5},
            {"provider": str(provider.id), "upstream_model": "early", "priority": 0},
            {"provider": "main", "upstream_model": "middle", "priority": 1},
        ],
    )
    route = pictures.shared_catalogue().find("m")
    assert route is not None
    assert [serving.model for serving in route.targets] == ["early", "middle", "late"]
    update_model(actor=HERE, model_id=model.id, targets=[])
    assert not Target.objects.exists()


@pytest.mark.parametrize(
    "targets",
    [
        "main",
        {},
        [5],
        [{}],
        [{"provider": "main"}],
        [{"upstream_model": "x"}],
        [{"provider": "nobody", "upstream_model": "x"}],
        [{"provider": None, "upstream_model": "x"}],
        [{"provider": "\0", "upstream_model": "x"}],
        [{"provider": "main", "upstream_model": ""}],
        [{"provider": "main", "upstream_model": "x\r\n"}, {"provider": "main"}],
        [{"provider": "main", "upstream_model": "x", "priority": -1}],
        [{"provider": "main", "upstream_model": "x", "priority": True}],
        [{"provider": "main", "upstream_model": "x", "weight": 2}],
        [{"provider": "main", "upstream_model": "x", "color": "blue"}],
        [{"provider": "main", "upstream_model": "x"}] * 2,
        [{"provider": "main", "upstream_model": f"x{n}"} for n in range(33)],
    ],
)
def test_what_are_no_targets_changes_nothing(model, targets):
    before = contents(*AUDIT)
    with pytest.raises(Invalid):
        update_model(actor=HERE, model_id=model.id, context_window=1, targets=targets)
    assert contents(*AUDIT) == before


def test_a_model_uses_shared_providers_or_its_tenants_own_and_no_others(tenant, outsider, provider):
    for owner, name in ((tenant, "mine"), (outsider, "theirs")):
        create_provider(actor=HERE, tenant_id=owner.id, name=name, kind="demo")
    create_provider(actor=HERE, tenant_id=tenant.id, name="main", kind="demo")
    theirs = Provider.objects.get(name="theirs")

    def targeting(reference: object, tenant_id: Any) -> Model:
        return create_model(
            actor=HERE,
            tenant_id=tenant_id,
            id="m",
            targets=[{"provider": reference, "upstream_model": "x"}],
        )

    for whose, reference in (
        (tenant.id, "theirs"),
        (tenant.id, theirs.id),
        (None, "mine"),
        (None, theirs.id),
    ):
        with pytest.raises(Invalid):
            targeting(reference, whose)
    own = targeting("main", tenant.id)
    target = own.targets.get()
    assert target.provider is not None
    assert target.provider.tenant_id == tenant.id  # of two of that name the tenant's own
    shared = targeting("main", None).targets.get()
    assert shared.provider == provider


# --- prices -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_still")
def test_a_price_counts_from_its_date_and_leaves_the_one_before(model):
    update_model(actor=HERE, model_id=model.id, prices=[price("1")])
    update_model(actor=HERE, model_id=model.id, prices=[price("2", NOW + DAY)])
    assert in_force(model, NOW - timedelta(microseconds=1)) is None
    assert in_force(model, NOW) == 10**9
    assert in_force(model, NOW + DAY - timedelta(microseconds=1)) == 10**9
    assert in_force(model, NOW + DAY) == 2 * 10**9
    assert in_force(model, NOW + 900 * DAY) == 2 * 10**9


@pytest.mark.usefixtures("_still")
@pytest.mark.parametrize("order", [1, -1])
def test_the_first_prices_may_be_a_history(model, order):
    history = [price("1", NOW - 2 * DAY), price("2", NOW - DAY), price("3", NOW + DAY)][::order]
    update_model(actor=HERE, model_id=model.id, prices=history)
    moments = (NOW - 3 * DAY, NOW - 2 * DAY, NOW, NOW + DAY)
    assert [in_force(model, moment) for moment in moments] == [None, 10**9, 2 * 10**9, 3 * 10**9]


@pytest.mark.usefixtures("_still")
@pytest.mark.parametrize("begins", [NOW - timedelta(microseconds=1), NOW - 900 * DAY])
def test_once_there_is_a_price_the_past_is_not_rewritten(model, begins):
    update_model(actor=HERE, model_id=model.id, prices=[price("1", NOW - DAY)])
    before = contents(*AUDIT)
    for prices in ([price("2", begins)], [price("3", NOW + DAY), price("2", begins)]):
        with pytest.raises(Invalid) as refusal:
            update_model(actor=HERE, model_id=model.id, prices=prices)
        assert list(refusal.value.fields) == ["prices"]
    assert contents(*AUDIT) == before


@pytest.mark.usefixtures("_still")
def test_a_moment_has_one_price(model):
    for prices in ([price("1"), price("2")], [price("1", NOW + DAY), price("2", NOW + DAY)]):
        with pytest.raises(Invalid):
            update_model(actor=HERE, model_id=model.id, prices=prices)
    update_model(actor=HERE, model_id=model.id, prices=[price("1", NOW + DAY)])
    with pytest.raises(Invalid):
        update_model(actor=HERE, model_id=model.id, prices=[price("2", NOW + DAY)])
    assert Price.objects.count() == 1


def test_prices_are_stored_exactly(model):
    update_model(
        actor=HERE,
        model_id=model.id,
        prices=[
            price(
                "0.123456789",
                cached_input_usd_per_mtok="0",
                reasoning_usd_per_mtok="4000",
                per_request_usd="0.000000001",
            )
        ],
    )
    row = Price.objects.get()
    assert (row.input_nano_per_mtok, row.cached_input_nano_per_mtok) == (123_456_789, 0)
    assert (row.reasoning_nano_per_mtok, row.per_request_nano) == (4_000 * 10**9, 1)


@pytest.mark.parametrize(
    "prices",
    [
        "1",
        {},
        [5],
        [{}],
        [{"input_usd_per_mtok": "1"}],
        [{"input_usd_per_mtok": "1", "output_usd_per_mtok": None}],
        [price("-1")],
        [price("1e3")],
        [price("NaN")],
        [price("0.1234567891")],
        [price("")],
        [price("1", cache_write_usd_per_mtok="-1")],
        [price("1", per_image_usd=1)],
        [price("1", per_minute_usd="4001")],
        [price("1", long_context_from_tokens=200_000)],
        [price("1", long_context_input_usd_per_mtok="2")],
        [price("1", long_context_input_usd_per_mtok="2", long_context_from_tokens=0)],
        [price("1", long_context_input_usd_per_mtok="2", long_context_from_tokens="5")],
        [price("1", tenant="nobody")],
        [price("1", color="blue")],
        [price("1") | {"effective_from": "tomorrow"}],
        [price("1") | {"input_usd_per_mtok": 1.5}],
        [price("1") | {"input_usd_per_mtok": True}],
        [price("1", NOW + n * DAY) for n in range(65)],
    ],
)
def test_what_are_no_prices_changes_nothing(model, prices):
    before = contents(*AUDIT)
    with pytest.raises(Invalid) as refusal:
        update_model(actor=HERE, model_id=model.id, context_window=1, prices=prices)
    assert list(refusal.value.fields) == ["prices"]
    assert contents(*AUDIT) == before


@pytest.mark.usefixtures("_still")
def test_a_tenants_own_price_of_a_shared_model_has_a_history_of_its_own(model, two_tenants):
    a, b = two_tenants
    update_model(actor=HERE, model_id=model.id, prices=[price("5", NOW - DAY)])
    # The list's past was charged to this tenant too, so its own price cannot begin there either.
    with pytest.raises(Invalid):
        update_model(actor=HERE, model_id=model.id, prices=[price("1", NOW - DAY, tenant=a.slug)])
    own = [price("1", tenant=a.slug), price("2", NOW + DAY, tenant=str(a.id)), price("9")]
    update_model(actor=HERE, model_id=model.id, prices=own)
    assert sorted(Price.objects.filter(tenant=a).values_list("input_nano_per_mtok", flat=True)) == [
        10**9,
        2 * 10**9,
    ]
    shared, own_a, own_b = pictures.shared_catalogue(), *map(pictures.own_routes, (a.id, b.id))

    def charged(own, moment):
        found = routing.plan(model.name, shared, own)
        assert found is not None
        tag = found.route.price_at(to_unix_us(moment))
        return tag and tag.input // 10**9

    moments = (NOW - 2 * DAY, NOW - DAY, NOW, NOW + DAY)
    assert [charged(own_a, moment) for moment in moments] == [None, 5, 1, 2]
    assert [charged(own_b, moment) for moment in moments] == [None, 5, 9, 9]
    assert ConfigChange.objects.filter(object_id=model.id, tenant_id=a.id).exists()


def test_a_tenants_own_model_has_no_prices_for_others(two_tenants):
    a, b = two_tenants
    with pytest.raises(Invalid):
        create_model(actor=HERE, tenant_id=a.id, id="own", prices=[price("1", tenant=b.slug)])


def test_every_tier_is_stored_and_charged(model):
    update_model(
        actor=HERE,
        model_id=model.id,
        prices=[
            price(
                "1",
                cache_write_usd_per_mtok="1.25",
                per_image_usd="0.04",
                per_minute_usd="0.006",
                long_context_from_tokens=200_000,
                long_context_input_usd_per_mtok="2",
                long_context_cached_input_usd_per_mtok="0.2",
                long_context_cache_write_usd_per_mtok="2.5",
            )
        ],
    )
    tag = price_tag(Price.objects.get())
    assert (tag.cache_write, tag.per_image, tag.per_minute) == (1_250 * 10**6, 4 * 10**7, 6 * 10**6)
    assert (tag.long_from, tag.long_input, tag.long_output) == (200_000, 2 * 10**9, None)
    assert (tag.long_cached_input, tag.long_cache_write) == (2 * 10**8, 2_500 * 10**6)


def test_a_change_of_anything_else_leaves_the_prices(model):
    update_model(actor=HERE, model_id=model.id, prices=[price("1")])
    before = Price.objects.get()
    update_model(actor=HERE, model_id=model.id, prices=[])
    update_model(actor=HERE, model_id=model.id, context_window=5, targets=[])
    assert Price.objects.get() == before
