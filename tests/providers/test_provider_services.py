"""What can be done to providers: where they may be, whose credential goes where, and what stops them from going."""

import pytest

from providers import credentials
from providers.errors import ProviderInUse
from providers.model_services import create_model
from providers.models import Provider, Target
from providers.services import (
    CONFIG_KIND,
    create_provider,
    delete_provider,
    destination,
    find_provider,
    provider_config,
    remove_provider_config,
    rotate_credential,
    set_provider_config,
    update_provider,
)
from tenants.actor import system_actor
from tenants.errors import Conflict, Invalid, NotFound
from tenants.models import AuditEvent
from tests.support.contents import contents

HERE = system_actor("story")
#: Public addresses, so that nothing is looked up.
HOST, OTHER_HOST = "https://93.184.216.34/v1", "https://93.184.216.35/v1"
AUDIT = ("tenants_auditevent", "tenants_audithead")


@pytest.fixture
def provider(db: None) -> Provider:
    return create_provider(
        actor=HERE,
        name="main",
        kind="openai-compatible",
        base_url=HOST,
        api_key="sk-first-0123456789",
    )


def clear(provider: Provider) -> str | None:
    row = credentials.current(provider)
    if row is None:
        return None
    return credentials.open_sealed(credentials.sealed(row, provider)).reveal().decode()


def change(provider: Provider, **fields: object) -> Provider:
    return update_provider(actor=HERE, provider_id=provider.id, **fields)


# --- the credential and its host --------------------------------------------------------------------------------------


def test_a_blank_credential_stays_and_null_clears_it(provider):
    change(provider, name="renamed")
    assert clear(provider) == "sk-first-0123456789"
    change(provider, api_key="sk-second-0123456789")
    assert clear(provider) == "sk-second-0123456789"
    change(provider, api_key=None)
    assert clear(provider) is None


@pytest.mark.parametrize(
    "elsewhere", [OTHER_HOST, "https://93.184.216.34:8443/v1", "https://example.invalid/v1"]
)
def test_a_stored_credential_does_not_go_to_another_host(provider, elsewhere):
    before = contents(*AUDIT)
    with pytest.raises(Invalid) as refusal:
        change(provider, base_url=elsewhere)
    assert list(refusal.value.fields) == ["api_key"]
    assert contents(*AUDIT) == before
    change(provider, base_url=elsewhere, api_key="sk-entered-again-01")
    assert clear(provider) == "sk-entered-again-01"


def test_another_path_at_the_same_host_keeps_it(provider):
    change(provider, base_url="https://93.184.216.34/other/v2")
    assert clear(provider) == "sk-first-0123456789"


def test_with_null_a_provider_moves_without_a_credential(provider):
    change(provider, base_url=OTHER_HOST, api_key=None)
    assert clear(provider) is None


def test_a_new_credential_for_the_old_host_cannot_be_slipped_in_with_a_wrong_address(provider):
    with pytest.raises(Invalid):
        change(provider, base_url="https://10.0.0.1/v1", api_key="sk-entered-again-01")
    assert clear(provider) == "sk-first-0123456789"


@pytest.mark.parametrize(
    "value", ["", "a b", "a\tb", "a\r\nx: y", "ä", "\x7f", "x" * 4097, 5, [], b"x", True]
)
def test_what_no_header_can_carry_is_no_credential(provider, value):
    for attempt in (
        lambda: change(provider, api_key=value),
        lambda: rotate_credential(actor=HERE, provider_id=provider.id, api_key=value),
    ):
        with pytest.raises(Invalid) as refusal:
            attempt()
        assert list(refusal.value.fields) == ["api_key"]
    assert clear(provider) == "sk-first-0123456789"


def test_a_credential_is_rotated_to_something(provider):
    with pytest.raises(Invalid):
        rotate_credential(actor=HERE, provider_id=provider.id, api_key=None)
    rotate_credential(actor=HERE, provider_id=provider.id, api_key="sk-second-0123456789")
    assert clear(provider) == "sk-second-0123456789"
    row = AuditEvent.objects.get(action="provider.credential_rotated", outcome="ok")
    assert row.details == {}


# --- where a provider may be ------------------------------------------------------------------------------------------

INSIDE = [
    "https://127.0.0.1/v1",
    "https://10.0.0.1/v1",
    "https://169.254.169.254/latest",
    "https://[::1]/v1",
    "https://[::ffff:10.0.0.1]/v1",
    "https://[64:ff9b::a00:1]/v1",
    "https://0.0.0.0/v1",
    "http://93.184.216.34/v1",
    "https://user:secret@93.184.216.34/v1",
    "file:///etc/passwd",
    "ftp://93.184.216.34/",
    "nonsense",
    "https://",
    "https://93.184.216.34/v1#x",
]


@pytest.mark.django_db
@pytest.mark.parametrize("url", INSIDE)
def test_nothing_is_pointed_inside(url, tenant, provider):
    before = contents(*AUDIT)
    for attempt in (
        lambda: create_provider(actor=HERE, name="x", kind="openai-compatible", base_url=url),
        lambda: change(provider, base_url=url, api_key=None),
        lambda: set_provider_config(
            actor=HERE, tenant_id=tenant.id, provider="openai-compatible", base_url=url
        ),
    ):
        with pytest.raises(Invalid) as refusal:
            attempt()
        assert list(refusal.value.fields) == ["base_url"]
        assert "secret" not in refusal.value.message
    assert contents(*AUDIT) == before
    assert AuditEvent.objects.filter(outcome="refused").count() == 3
    assert "secret" not in repr(list(AuditEvent.objects.values_list("details", flat=True)))


def test_an_address_inside_that_is_allowed_is_allowed(settings, provider):
    settings.ALLOWED_UPSTREAMS = ["127.0.0.0/8"]
    change(provider, base_url="http://127.0.0.1:11434/v1", api_key=None)
    provider.refresh_from_db()
    where = destination(provider)
    assert (where.scheme, where.host, where.port) == ("http", "127.0.0.1", 11434)


def test_a_provider_whose_address_is_no_longer_allowed_can_be_mended_and_turned_off(settings, db):
    settings.ALLOWED_UPSTREAMS = ["127.0.0.0/8"]
    provider = create_provider(
        actor=HERE,
        name="near",
        kind="openai-compatible",
        base_url="http://127.0.0.1:11434/v1",
        api_key="sk-near-0123456789",
    )
    settings.ALLOWED_UPSTREAMS = []
    change(provider, is_active=False)
    with pytest.raises(Invalid) as refusal:
        change(provider, is_active=True)
    assert list(refusal.value.fields) == ["base_url"]
    with pytest.raises(Invalid) as refusal:
        change(provider, base_url=HOST)  # its credential belongs to the old address
    assert list(refusal.value.fields) == ["api_key"]
    change(provider, base_url=HOST, api_key="sk-far-0123456789", is_active=True)
    assert clear(provider) == "sk-far-0123456789"


def test_a_tenants_own_provider_whose_address_is_no_longer_allowed_can_be_replaced(
    settings, tenant
):
    settings.ALLOWED_UPSTREAMS = ["127.0.0.0/8"]
    set_provider_config(
        actor=HERE,
        tenant_id=tenant.id,
        provider="openai-compatible",
        base_url="http://127.0.0.1:11434/v1",
        api_key="sk-near-0123456789",
    )
    settings.ALLOWED_UPSTREAMS = []
    own = set_provider_config(
        actor=HERE, tenant_id=tenant.id, provider="openai-compatible", base_url=HOST
    )
    assert clear(own) is None


@pytest.mark.django_db
def test_a_kind_that_is_nowhere_needs_an_address():
    with pytest.raises(Invalid) as refusal:
        create_provider(actor=HERE, name="x", kind="openai-compatible")
    assert list(refusal.value.fields) == ["base_url"]
    with pytest.raises(Invalid) as refusal:
        create_provider(actor=HERE, name="x", kind="openai-compatible", is_active=False)
    assert not Provider.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["openay", "", None, 5, "OpenAI", "__class__"])
def test_a_kind_that_nobody_knows_is_refused(kind):
    with pytest.raises(Invalid) as refusal:
        create_provider(actor=HERE, name="x", kind=kind)
    assert list(refusal.value.fields) == ["kind"]


# --- names ------------------------------------------------------------------------------------------------------------


def test_a_name_is_given_once_among_the_shared_and_once_per_tenant(tenant, outsider, provider):
    for owner in (tenant, outsider):
        create_provider(actor=HERE, tenant_id=owner.id, name="main", kind="demo")
        with pytest.raises(Conflict):
            create_provider(actor=HERE, tenant_id=owner.id, name="main", kind="demo")
    with pytest.raises(Conflict):
        create_provider(actor=HERE, name="main", kind="demo")
    second = create_provider(actor=HERE, name="second", kind="demo")
    with pytest.raises(Conflict):
        change(second, name="main")


def test_a_provider_is_found_among_whose_it_is(tenant, provider):
    own = create_provider(actor=HERE, tenant_id=tenant.id, name="own", kind="demo")
    assert find_provider("main") == find_provider(provider.id) == provider
    assert find_provider("own", tenant) == own
    for reference, whose in (("own", None), ("main", tenant), ("", None), ("\0", None)):
        with pytest.raises(NotFound):
            find_provider(reference, whose)


# --- the end of a provider --------------------------------------------------------------------------------------------


def test_a_provider_in_use_stays_unless_it_is_unlinked(provider):
    for name in ("b", "a"):
        create_model(actor=HERE, id=name, targets=[{"provider": "main", "upstream_model": "x"}])
    with pytest.raises(ProviderInUse) as refusal:
        delete_provider(actor=HERE, provider_id=provider.id)
    assert (refusal.value.code, refusal.value.facts) == ("provider_in_use", {"models": ["a", "b"]})
    assert clear(provider) is not None
    delete_provider(actor=HERE, provider_id=provider.id, unlink=True)
    assert list(Target.objects.values_list("provider", flat=True)) == [None, None]
    with pytest.raises(NotFound):
        delete_provider(actor=HERE, provider_id=provider.id)


def test_a_provider_without_models_just_goes_with_its_credential(provider):
    delete_provider(actor=HERE, provider_id=provider.id)
    assert contents()["providers_credential"] == []


# --- a tenant's own ---------------------------------------------------------------------------------------------------


def test_a_tenants_own_is_one_and_is_replaced_in_place(tenant):
    first = set_provider_config(
        actor=HERE, tenant_id=tenant.id, provider="openai", api_key="sk-own-0123456789"
    )
    again = set_provider_config(actor=HERE, tenant_id=tenant.id, provider="openai")
    assert (again.id, clear(again)) == (first.id, "sk-own-0123456789")
    other = set_provider_config(actor=HERE, tenant_id=tenant.id, provider="groq")
    assert (other.id, other.kind, clear(other)) == (first.id, "groq", None)
    assert provider_config(tenant) == other
    row = AuditEvent.objects.filter(action="provider_config.set").latest("seq")
    assert (row.target_kind, row.target_id) == (CONFIG_KIND, str(tenant.id))
    assert row.details == {"provider": "groq", "base_url": "", "has_api_key": False}


def test_back_on_the_old_kind_the_credential_is_not_back(tenant):
    set_provider_config(
        actor=HERE, tenant_id=tenant.id, provider="openai", api_key="sk-own-0123456789"
    )
    set_provider_config(actor=HERE, tenant_id=tenant.id, provider="groq")
    back = set_provider_config(actor=HERE, tenant_id=tenant.id, provider="openai")
    assert clear(back) is None


def test_a_removed_one_is_gone_and_cannot_be_removed_again(tenant):
    set_provider_config(
        actor=HERE, tenant_id=tenant.id, provider="openai", api_key="sk-own-0123456789"
    )
    remove_provider_config(actor=HERE, tenant_id=tenant.id)
    assert provider_config(tenant) is None
    assert contents()["providers_credential"] == []
    with pytest.raises(NotFound):
        remove_provider_config(actor=HERE, tenant_id=tenant.id)
