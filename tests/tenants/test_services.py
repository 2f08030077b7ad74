"""What can be done to tenants, and the rules of values that everything shares."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.models import APIKey
from keys.services import issue_key
from providers.models import Provider
from providers.services import set_provider_config
from tenants import validation
from tenants.actor import system_actor
from tenants.errors import Conflict, Invalid, NotFound
from tenants.models import Account, AuditEvent, ConfigChange, RootSecret, Tenant
from tenants.services import (
    create_tenant,
    delete_tenant,
    ensure_tenant,
    find_tenant,
    update_tenant,
)

HERE = system_actor("story")


# --- tenants ----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Acme", "acme"),
        ("  Acme & Söhne GmbH  ", "acme-sohne-gmbh"),
        ("A" * 128, "a" * 64),
        ("x" + "-" * 70 + "y", "x-y"),
        ("№ 1", "no-1"),
    ],
)
def test_without_a_slug_a_tenant_gets_one_from_its_name(name, slug):
    tenant = create_tenant(actor=HERE, name=name)
    assert (tenant.slug, tenant.name) == (slug, name.strip())
    assert RootSecret.objects.filter(tenant=tenant).count() == 1


@pytest.mark.django_db
def test_a_name_that_leaves_no_slug_asks_for_one():
    with pytest.raises(Invalid) as refusal:
        create_tenant(actor=HERE, name="日本")
    assert list(refusal.value.fields) == ["slug"]
    assert create_tenant(actor=HERE, name="日本", slug="nihon").name == "日本"


@pytest.mark.django_db
def test_absent_stays_null_clears_and_a_value_sets(tenant):
    update_tenant(
        actor=HERE,
        tenant_id=tenant.id,
        rate_limit_rpm=7,
        max_concurrency=3,
        allowed_models=["gpt-*"],
        allowed_addresses=["10.0.0.7/8"],
    )
    update_tenant(actor=HERE, tenant_id=tenant.id, rate_limit_rpm=None, allowed_models=None)
    tenant.refresh_from_db()
    assert (tenant.rate_limit_rpm, tenant.max_concurrency) == (None, 3)
    assert (tenant.allowed_models, tenant.allowed_addresses) == (None, ["10.0.0.0/8"])


@pytest.mark.django_db
def test_a_tenant_is_found_by_id_and_slug_and_nothing_else(tenant):
    assert find_tenant(tenant.id) == find_tenant(str(tenant.id)) == find_tenant("acme") == tenant
    for reference in (uuid4(), "", "Acme", "acme ", "\0", "\ud800", "%", "a" * 10_000):
        with pytest.raises(NotFound) as refusal:
            find_tenant(reference)
        assert len(refusal.value.message) < 120


@pytest.mark.django_db
def test_ensuring_makes_once(tenant):
    assert ensure_tenant(actor=HERE, name="Other", slug="acme") == (tenant, False)
    made, is_new = ensure_tenant(actor=HERE, name="Other", slug="other")
    assert (made.name, is_new) == ("Other", True)


@pytest.mark.django_db
def test_a_suspended_and_a_resumed_tenant_have_rows_that_say_so(tenant):
    for status in ("inactive", "active"):
        update_tenant(actor=HERE, tenant_id=tenant.id, status=status)
    actions = AuditEvent.objects.filter(scope=str(tenant.id)).order_by("seq")
    assert list(actions.values_list("action", flat=True)) == [
        "tenant.created",
        "tenant.suspended",
        "tenant.activated",
    ]
    assert ConfigChange.objects.filter(tenant_id=tenant.id, kind="tenant").count() == 3


@pytest.mark.django_db
def test_the_end_of_a_tenant_takes_what_is_its_own_and_nothing_of_another(tenant, outsider):
    payer = Account.objects.create(tenant=tenant, username="payer")
    for owner in (tenant, outsider):
        account = str(payer.id) if owner == tenant else None
        issue_key(actor=HERE, tenant_id=owner.id, name="k", account=account)
        set_provider_config(
            actor=HERE, tenant_id=owner.id, provider="openai", api_key="sk-own-123456"
        )
    written = AuditEvent.objects.filter(scope=str(tenant.id)).count()
    delete_tenant(actor=HERE, tenant_id=tenant.id)
    for model in (APIKey, Provider, RootSecret):
        owners = set(model.objects.exclude(tenant=None).values_list("tenant_id", flat=True))
        assert owners == {outsider.id}
    assert AuditEvent.objects.filter(scope=str(tenant.id)).count() == written + 1
    with pytest.raises(NotFound):
        delete_tenant(actor=HERE, tenant_id=tenant.id)


@pytest.mark.django_db
def test_a_taken_slug_is_a_conflict_also_on_a_change(tenant, outsider):
    with pytest.raises(Conflict):
        update_tenant(actor=HERE, tenant_id=tenant.id, slug="outsider")
    tenant.refresh_from_db()
    assert tenant.slug == "acme"


# --- values -----------------------------------------------------------------------------------------------------------


def fault_of(rule: validation.Rule, value: object) -> str:
    with pytest.raises(Invalid) as refusal:
        rule("field", value)
    assert list(refusal.value.fields) == ["field"]
    return refusal.value.fields["field"]


@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        b"x",
        [],
        "",
        "   ",
        "x" * 129,
        "a\nb",
        "a\0b",
        "\u202eabc",
        "a\u200bb",
        "\ufeff",
        "a\u2028b",
        "\ud800",
        "\U000e0041",
        "a\x7fb",
    ],
)
def test_what_is_no_name_is_refused(value):
    fault_of(validation.name, value)


@given(st.text())
def test_a_name_is_stored_in_one_form_or_refused(text):
    try:
        stored = validation.name("field", text)
    except Invalid:
        return
    assert 1 <= len(stored) <= 128
    assert stored == stored.strip() == validation.name("field", stored)
    assert stored.isprintable() or any(character.isspace() for character in stored)
    stored.encode()


@pytest.mark.parametrize(
    "value", [0, -1, 10**6 + 1, 1.0, 10.0, 0.5, True, False, "5", "", [], {}, float("nan"), 10**30]
)
def test_what_is_no_limit_is_refused_and_never_rounded(value):
    fault_of(validation.limit, value)


@pytest.mark.parametrize("value", [None, 1, 10**6])
def test_limits_at_their_ends(value):
    assert validation.limit("field", value) == value


@pytest.mark.parametrize("value", ["", "A", "a_b", "-a", "a-", "a" * 65, "ä", "a\n", None, 5])
def test_what_is_no_slug_is_refused(value):
    fault_of(validation.slug, value)


@given(st.text())
def test_a_slug_made_from_a_name_is_a_slug(text):
    slug = validation.slug_from(text)
    assert slug == "" or validation.slug("field", slug) == slug


@pytest.mark.parametrize(
    "value",
    [
        "gpt-4",
        [],
        ["*a"],
        ["a*b"],
        ["a**"],
        [""],
        ["a b"],
        ["x" * 129],
        [5],
        [None],
        ["m"] * 65,
        {"a": 1},
        ["a\n"],
        ["a\u00a0b"],
    ],
)
def test_what_are_no_model_names_is_refused(value):
    fault_of(validation.model_patterns, value)


def test_model_names_stay_in_order_and_come_once():
    assert validation.model_patterns("f", ["b", "a*", "b", "*"]) == ["b", "a*", "*"]


@pytest.mark.parametrize(
    "value",
    [
        "10.0.0.0/8",
        [],
        ["here"],
        ["10.0.0.0/33"],
        ["1.2.3"],
        [None],
        ["::1"] * 65,
        ["10.0.0.1 "],
        [167772161],
        [True],
        [["10.0.0.1"]],
    ],
)
def test_what_are_no_networks_is_refused(value):
    fault_of(validation.networks, value)


def test_networks_are_stored_in_one_form():
    assert validation.networks("f", ["10.1.2.3/8", "::1", "2001:DB8::/32"]) == [
        "10.0.0.0/8",
        "::1/128",
        "2001:db8::/32",
    ]


@pytest.mark.parametrize(
    "value",
    [
        "tomorrow",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-13-01T00:00:00Z",
        5,
        "",
        [],
        True,
        "9999-12-31T23:59:59-23:59",
        datetime(2026, 1, 1),  # noqa: DTZ001 - that is the fault
    ],
)
def test_what_is_no_moment_is_refused(value):
    fault_of(validation.moment, value)


def test_a_moment_is_stored_in_utc():
    moment = validation.moment("f", "2026-01-01T02:00:00+02:00")
    assert moment == datetime(2026, 1, 1, tzinfo=UTC)
    assert moment is not None
    assert moment.tzinfo is UTC


def test_all_faults_are_told_together_and_strangers_are_faults():
    with pytest.raises(Invalid) as refusal:
        validation.checked(
            {"name": "", "slug": "-", "nobody": 1, "rpm": 5},
            {"name": validation.name, "slug": validation.slug, "rpm": validation.limit},
        )
    assert set(refusal.value.fields) == {"name", "slug", "nobody"}


@pytest.mark.django_db
def test_the_first_tenant_is_there_from_the_start():
    tenant = Tenant.objects.get(slug="default")
    assert (tenant.status, tenant.rate_limit_rpm, tenant.content_logging) == ("active", 120, False)
