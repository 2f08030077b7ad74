"""Credentials of providers: sealed for one place and one host, never shown, replaced whole, and nothing stands in for them."""

import base64
from dataclasses import replace
from uuid import uuid4

import pytest

from gateway import pictures
from providers import credentials
from providers.credentials import binding_of, open_sealed, sealed
from providers.errors import CredentialUnreadable
from providers.models import Credential, Provider
from providers.routing import Upstream
from providers.services import (
    create_provider,
    rotate_credential,
    set_provider_config,
    update_provider,
)
from tenants.actor import system_actor
from tenants.keyring import KEYRING
from tenants.models import AuditEvent, RootSecret
from tests.support.contents import contents

HERE = system_actor("story")
PLANTED = "sk-planted-0123456789-abcdef"
ORIGIN = "https://api.openai.com:443"


@pytest.fixture
def shared(db: None) -> Provider:
    return create_provider(actor=HERE, name="main", kind="openai", api_key=PLANTED)


def current(provider: Provider) -> Credential:
    row = credentials.current(provider)
    assert row is not None
    return row


def clear(provider: Provider) -> str:
    return open_sealed(sealed(current(provider), provider)).reveal().decode()


def test_a_credential_opens_where_it_was_stored_and_is_nowhere_in_clear(shared):
    assert clear(shared) == PLANTED
    written = repr(contents())
    for disguise in (PLANTED, base64.b64encode(PLANTED.encode()).decode(), PLANTED.encode().hex()):
        assert disguise not in written
    row = current(shared)
    assert (row.version, row.binding) == (1, f"openai {ORIGIN}")
    assert PLANTED not in f"{row!r} {row} {sealed(row, shared)!r} {shared!r}"


def test_a_shared_and_a_tenants_own_are_sealed_with_different_keys(tenant, shared):
    own = set_provider_config(actor=HERE, tenant_id=tenant.id, provider="openai", api_key=PLANTED)
    record = sealed(current(own), own)
    assert record.tenant_id == tenant.id
    with pytest.raises(CredentialUnreadable):
        open_sealed(replace(record, tenant_id=None))
    assert clear(own) == clear(shared) == PLANTED


@pytest.mark.parametrize(
    "moved",
    [
        {"id": uuid4()},
        {"version": 2},
        {"binding": f"openai-compatible {ORIGIN}"},
        {"binding": "openai https://api.openai.example:443"},
        {"binding": "openai https://api.openai.com:8443"},
        {"sealed": b""},
        {"sealed": b"\0" * 64},
    ],
    ids=lambda moved: next(iter(moved)),
)
def test_a_credential_that_was_moved_or_changed_does_not_open(shared, moved):
    with pytest.raises(CredentialUnreadable) as refusal:
        open_sealed(replace(sealed(current(shared), shared), **moved))
    assert refusal.value.code == "credential_unreadable"
    assert refusal.value.__cause__ is None


def test_rows_exchanged_in_the_database_open_nothing(shared):
    """Somebody who may write the table lets one provider call with the credential of another."""
    other = create_provider(actor=HERE, name="second", kind="openai", api_key="sk-other-01234567")
    mine, theirs = current(shared), current(other)
    Credential.objects.filter(pk=mine.pk).update(sealed=theirs.sealed)
    with pytest.raises(CredentialUnreadable):
        clear(shared)
    Credential.objects.filter(pk=theirs.pk).update(retired_at="2026-01-01T00:00:00Z")
    Credential.objects.filter(pk=mine.pk).delete()
    Credential.objects.filter(pk=theirs.pk).update(provider=shared, retired_at=None)
    assert (
        clear(shared) == "sk-other-01234567"
    )  # the same kind at the same host: its own binding holds


def test_a_row_pointed_at_another_host_by_hand_opens_nothing(shared):
    Credential.objects.update(binding=binding_of("openai", "https://evil.example:443"))
    with pytest.raises(CredentialUnreadable):
        clear(shared)


def test_without_its_root_a_credential_is_unreadable_and_no_root_is_made(tenant):
    own = set_provider_config(actor=HERE, tenant_id=tenant.id, provider="openai", api_key=PLANTED)
    RootSecret.objects.filter(tenant=tenant).delete()
    KEYRING.forget()
    with pytest.raises(CredentialUnreadable):
        clear(own)
    assert not RootSecret.objects.filter(tenant=tenant).exists()


def test_of_a_replaced_credential_no_ciphertext_is_left(shared):
    first = current(shared)
    rotate_credential(actor=HERE, provider_id=shared.id, api_key="sk-second-0123456789")
    assert clear(shared) == "sk-second-0123456789"
    assert current(shared).version == 2
    first.refresh_from_db()
    assert bytes(first.sealed) == b""
    assert first.retired_at is not None
    update_provider(actor=HERE, provider_id=shared.id, api_key=None)
    assert credentials.current(shared) is None
    assert {bytes(row.sealed) for row in Credential.objects.all()} == {b""}
    rotate_credential(actor=HERE, provider_id=shared.id, api_key="sk-third-0123456789")
    assert current(shared).version == 3


def test_a_credential_is_in_no_row_of_the_audit_log(shared):
    rotate_credential(actor=HERE, provider_id=shared.id, api_key=f"{PLANTED}-2")
    update_provider(actor=HERE, provider_id=shared.id, api_key=f"{PLANTED}-3")
    assert AuditEvent.objects.count() >= 3
    assert PLANTED not in repr(list(AuditEvent.objects.values()))


# --- as the relay carries it ------------------------------------------------------------------------------------------


def upstream_of(provider: Provider) -> Upstream:
    found = pictures._upstreams(Provider.objects.filter(pk=provider.pk))
    return found[provider.id]


def test_an_upstream_carries_its_credential_sealed(shared):
    upstream = upstream_of(shared)
    assert PLANTED not in repr(upstream)
    assert PLANTED.encode() not in upstream.credential.sealed  # type: ignore[union-attr]
    opened = upstream.open_credential()
    assert opened is not None
    assert opened.reveal() == PLANTED.encode()


def test_an_upstream_without_a_credential_opens_none(shared):
    update_provider(actor=HERE, provider_id=shared.id, api_key=None)
    assert upstream_of(shared).open_credential() is None


def test_an_upstream_whose_key_or_record_does_not_fit_is_unreadable(shared):
    upstream = upstream_of(shared)
    assert upstream.credential is not None
    assert upstream.key is not None
    for broken in (
        replace(upstream, key=None),
        replace(upstream, key=(2, upstream.key[1])),
        replace(upstream, credential=replace(upstream.credential, version=9)),
        replace(upstream, credential=replace(upstream.credential, sealed=b"\1" * 50)),
        replace(upstream, credential=replace(upstream.credential, sealed=b"")),
    ):
        with pytest.raises(CredentialUnreadable):
            broken.open_credential()


def test_connections_are_not_shared_across_generations_of_a_credential(shared):
    before = upstream_of(shared).pool_key
    rotate_credential(actor=HERE, provider_id=shared.id, api_key="sk-second-0123456789")
    assert upstream_of(shared).pool_key != before
